//! A queue pair that copies what passes into pcapng blocks, because tcpdump cannot see what bypasses the kernel.
//!
//! The decorator is always there and costs a branch a burst while no capture runs. The worker never waits for whoever
//! reads: what a full writer does not take is counted as missed.

use std::io::{self, ErrorKind, Write};
use std::num::NonZeroU16;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::capture_filter::CaptureFilter;
use crate::packet::{Burst, Frame, Packet};
use crate::pcapng::{self, Direction, PacketHead};
use crate::{Large, Offloads, QueueCounters, QueuePair};

/// What a capture may take before it ends by itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CaptureLimits {
    pub packets: u64,
    /// Bytes written, blocks' heads included.
    pub bytes: u64,
    /// Bytes kept of each packet.
    pub snap_bytes: u32,
}

impl Default for CaptureLimits {
    /// 10,000 packets, 16 MiB, whole packets.
    fn default() -> Self {
        Self { packets: 10_000, bytes: 16 << 20, snap_bytes: 65_535 + 18 }
    }
}

/// Where blocks go and which interface they name.
pub struct CaptureTarget {
    /// Takes a block whole, or answers `WouldBlock` and takes nothing. It must not wait.
    pub writer: Box<dyn Write>,
    /// The interface's place among the descriptions of the file.
    pub interface: u32,
    /// With a name this capture is a file of its own: section header and interface description come first. Without,
    /// whoever joins several captures writes them.
    pub own_file: Option<String>,
}

impl std::fmt::Debug for CaptureTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CaptureTarget").field("interface", &self.interface).finish_non_exhaustive()
    }
}

/// Why a capture ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum CaptureEnd {
    /// It was stopped.
    Stopped,
    PacketLimit,
    ByteLimit,
    /// Nobody reads any more, or the writer failed.
    WriterFailed,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureStatus {
    pub packets: u64,
    pub bytes: u64,
    /// Packets that the writer had no room for.
    pub missed: u64,
    /// `None` while it runs or when none was started.
    pub end: Option<CaptureEnd>,
}

/// A pair whose packets can be watched.
#[derive(Debug)]
pub struct Capture<Q> {
    pair: Q,
    nanos: u64,
    session: Option<Session>,
    status: CaptureStatus,
}

impl<Q: QueuePair> Capture<Q> {
    pub fn new(pair: Q) -> Self {
        Self { pair, nanos: 0, session: None, status: CaptureStatus::default() }
    }

    /// The time that packets are stamped with from here on: nanoseconds since 1970, once a turn.
    pub fn set_time(&mut self, nanos: u64) {
        self.nanos = nanos;
    }

    /// Starts a capture; one that runs is stopped.
    pub fn start(&mut self, filter: CaptureFilter, limits: CaptureLimits, target: CaptureTarget) {
        self.stop();
        self.status = CaptureStatus::default();
        let CaptureTarget { writer, interface, own_file } = target;
        let mut session = Session { filter, limits, writer, interface };
        if let Some(name) = own_file {
            let mut head = Vec::new();
            pcapng::push_section_header(&mut head);
            pcapng::push_interface(&mut head, &name, limits.snap_bytes);
            self.status.bytes = head.len() as u64;
            if session.write(&head) != Ok(true) {
                self.status.end = Some(CaptureEnd::WriterFailed);
                return;
            }
        }
        self.session = Some(session);
    }

    pub fn stop(&mut self) -> CaptureStatus {
        if self.session.take().is_some() {
            self.status.end = Some(CaptureEnd::Stopped);
        }
        self.status
    }

    pub fn status(&self) -> CaptureStatus {
        self.status
    }

    pub fn pair(&self) -> &Q {
        &self.pair
    }

    pub fn pair_mut(&mut self) -> &mut Q {
        &mut self.pair
    }

    fn record(&mut self, block: &[u8]) {
        let Some(session) = &mut self.session else { return };
        let end = if self.status.packets >= session.limits.packets {
            CaptureEnd::PacketLimit
        } else if self.status.bytes + block.len() as u64 > session.limits.bytes {
            CaptureEnd::ByteLimit
        } else {
            match session.write(block) {
                Ok(true) => {
                    self.status.packets += 1;
                    self.status.bytes += block.len() as u64;
                    return;
                }
                Ok(false) => {
                    self.status.missed += 1;
                    return;
                }
                Err(WriterFailed) => CaptureEnd::WriterFailed,
            }
        };
        self.status.end = Some(end);
        self.session = None;
    }
}

impl<Q: QueuePair> QueuePair for Capture<Q> {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        let received = self.pair.receive(burst);
        if let Some(session) = &self.session {
            let blocks: Vec<_> = burst
                .iter()
                .skip(before)
                .filter_map(|packet| session.block(packet, Direction::Received, self.nanos))
                .collect();
            blocks.iter().for_each(|block| self.record(block));
        }
        received
    }

    fn transmit(&mut self, burst: &mut Burst) {
        let Some(session) = &self.session else { return self.pair.transmit(burst) };
        let blocks: Vec<_> =
            burst.iter().map(|packet| session.block(packet, Direction::Transmitted, self.nanos)).collect();
        self.pair.transmit(burst);
        // What stayed behind comes again.
        let taken = blocks.len().saturating_sub(burst.len());
        blocks.iter().take(taken).flatten().for_each(|block| self.record(block));
    }

    /// While a capture runs, everything goes in frames, where it is seen.
    fn transmit_large(
        &mut self,
        before: &mut Burst,
        headers: &[u8],
        text: [&[u8]; 2],
        segment_bytes: Option<NonZeroU16>,
    ) -> Large {
        match self.session {
            Some(_) => Large::Refused,
            None => self.pair.transmit_large(before, headers, text, segment_bytes),
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        self.pair.frame()
    }

    fn offloads(&self) -> Offloads {
        self.pair.offloads()
    }

    fn counters(&mut self) -> QueueCounters {
        self.pair.counters()
    }

    fn is_sending(&self) -> bool {
        self.pair.is_sending()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pair.descriptor()
    }
}

struct Session {
    filter: CaptureFilter,
    limits: CaptureLimits,
    writer: Box<dyn Write>,
    interface: u32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct WriterFailed;

impl Session {
    fn block(&self, packet: &Packet, direction: Direction, nanos: u64) -> Option<Vec<u8>> {
        let head =
            PacketHead { interface: self.interface, nanos, direction, snap_bytes: self.limits.snap_bytes };
        self.filter.matches(packet).then(|| {
            let mut block = Vec::new();
            pcapng::push_packet(&mut block, head, packet);
            block
        })
    }

    /// False when there is no room now. A block that was taken in part is the end: the file would not be one.
    fn write(&mut self, block: &[u8]) -> Result<bool, WriterFailed> {
        match self.writer.write(block) {
            Ok(taken) if taken == block.len() => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Ok(_) | Err(_) => Err(WriterFailed),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("filter", &self.filter)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// A writer for workers and a reader for another thread, with room for `blocks` blocks between them.
pub fn capture_channel(blocks: usize) -> (CaptureWriter, CaptureReader) {
    let (sender, receiver) = sync_channel(blocks);
    (CaptureWriter(sender), CaptureReader(receiver))
}

/// Takes whole blocks and never waits. Its clones write to the same reader, from any thread.
#[derive(Clone, Debug)]
pub struct CaptureWriter(SyncSender<Vec<u8>>);

impl Write for CaptureWriter {
    fn write(&mut self, block: &[u8]) -> io::Result<usize> {
        match self.0.try_send(block.to_vec()) {
            Ok(()) => Ok(block.len()),
            Err(TrySendError::Full(_)) => Err(ErrorKind::WouldBlock.into()),
            Err(TrySendError::Disconnected(_)) => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives the blocks in the order in which they were written, and ends when the last of the captures did.
#[derive(Debug)]
pub struct CaptureReader(Receiver<Vec<u8>>);

impl CaptureReader {
    /// The next block if one waits.
    pub fn poll(&self) -> Option<Vec<u8>> {
        self.0.try_recv().ok()
    }
}

/// Waits for each block.
impl Iterator for CaptureReader {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.0.recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryLink, MemoryQueuePair};

    fn burst(packets: usize) -> Burst {
        let mut burst = Burst::new();
        for number in 0..packets {
            let mut frame = Frame::heap(60);
            frame.append(&[number as u8; 60]);
            burst.push(Packet::new(frame)).unwrap();
        }
        burst
    }

    fn captured(
        link: MemoryLink,
        limits: CaptureLimits,
        blocks: usize,
    ) -> (Capture<MemoryQueuePair>, MemoryQueuePair, CaptureReader) {
        let (near, far) = MemoryQueuePair::pair(link);
        let mut near = Capture::new(near);
        let (writer, reader) = capture_channel(blocks);
        near.set_time(42);
        let target = CaptureTarget { writer: Box::new(writer), interface: 0, own_file: None };
        near.start(CaptureFilter::default(), limits, target);
        (near, far, reader)
    }

    #[test]
    fn both_directions_are_written_and_traffic_is_not_changed() {
        let (mut near, mut far, reader) = captured(MemoryLink::default(), CaptureLimits::default(), 8);
        near.transmit(&mut burst(2));
        let mut received = Burst::new();
        assert_eq!(far.receive(&mut received), 2);
        far.transmit(&mut received);
        assert_eq!(near.receive(&mut received), 2);
        assert_eq!(near.stop().packets, 4);
        drop(near);
        assert_eq!(reader.count(), 4);
    }

    #[test]
    fn what_stays_behind_is_written_once() {
        let link = MemoryLink { capacity_packets: 1, ..MemoryLink::default() };
        let (mut near, mut far, _reader) = captured(link, CaptureLimits::default(), 8);
        let mut out = burst(2);
        near.transmit(&mut out);
        near.transmit(&mut out);
        assert_eq!((out.len(), near.status().packets), (1, 1));
        far.receive(&mut Burst::new());
        near.transmit(&mut out);
        assert_eq!(near.status().packets, 2);
    }

    #[test]
    fn a_capture_ends_at_its_packet_limit() {
        let limits = CaptureLimits { packets: 1, ..CaptureLimits::default() };
        let (mut near, _far, reader) = captured(MemoryLink::default(), limits, 8);
        near.transmit(&mut burst(3));
        assert_eq!((near.status().packets, near.status().end), (1, Some(CaptureEnd::PacketLimit)));
        assert_eq!(reader.count(), 1);
    }

    #[test]
    fn a_capture_ends_at_its_byte_limit() {
        let limits = CaptureLimits { bytes: 150, ..CaptureLimits::default() };
        let (mut near, _far, _reader) = captured(MemoryLink::default(), limits, 8);
        near.transmit(&mut burst(3));
        assert_eq!((near.status().packets, near.status().end), (1, Some(CaptureEnd::ByteLimit)));
    }

    #[test]
    fn a_slow_reader_misses_packets_and_no_reader_ends_the_capture() {
        let (mut near, far, reader) = captured(MemoryLink::default(), CaptureLimits::default(), 1);
        near.transmit(&mut burst(3));
        assert_eq!((near.status().missed, far.waiting()), (2, 3));
        drop(reader);
        near.transmit(&mut burst(1));
        assert_eq!(near.status().end, Some(CaptureEnd::WriterFailed));
    }
}
