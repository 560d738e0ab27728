//! The queue pair over AF_XDP, and the memory that the pairs of one worker share.
//!
//! The management thread holds a [`UmemSet`] per worker and makes [`BoundQueue`]s ([`crate::open()`]); these are `Send`. The
//! worker holds [`Pools`] and turns them into [`XskQueuePair`]s, which stay on its thread with their frames.

use std::num::NonZeroU16;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;
use xsk::{BindError, CopyMode, Pool, Queue, Region, RegionError, Socket, Unfinished, Whole, WholeSocket};

use crate::assembly::Assembly;
use crate::merge::{CHECKSUM_AT, Run, unfinished_tcp};
use crate::packet::{Burst, FRAME_BYTES, Frame, MAX_FRAMES, Packet};
use crate::{Large, Offloads, QueueCounters, QueuePair};

/// Fewest segments that one system call of their own is worth: fewer cost no more on the ring, which wakes the kernel
/// once for all that a burst brings.
const RUN_MIN: usize = 3;

/// One worker's packet memory: a region for devices that write into it themselves and one for those that the kernel
/// copies for, because sockets that share memory share its mode. Each is made when the first queue needs it.
#[derive(Debug)]
pub struct UmemSet {
    chunks: u32,
    zero_copy: Option<Arc<Region>>,
    copy: Option<Arc<Region>>,
}

impl UmemSet {
    /// `chunks` of 4,096 B for each mode that is used. Half of them stand ready to receive, in equal shares of the
    /// worker's queues; the others are on their way.
    pub fn new(chunks: u32) -> Self {
        Self { chunks, zero_copy: None, copy: None }
    }

    /// Why the memory of a mode is not in hugepages; `None` where it is, or where there is none.
    pub fn small_pages(&self, mode: CopyMode) -> Option<&str> {
        self.slot(mode).as_ref().and_then(|region| region.small_pages())
    }

    pub(crate) fn bind(&mut self, interface: u32, queue: u32, mode: CopyMode) -> Result<Socket, UmemError> {
        let chunks = self.chunks;
        let slot = match mode {
            CopyMode::ZeroCopy => &mut self.zero_copy,
            CopyMode::Copy => &mut self.copy,
        };
        let region = match slot {
            Some(region) => region,
            None => slot.insert(Region::new(chunks)?),
        };
        let bound = Socket::bind(region, interface, queue, mode);
        // Memory that no socket uses is only a probe's trace.
        if bound.is_err() && Arc::strong_count(region) == 1 {
            *slot = None;
        }
        Ok(bound?)
    }

    fn slot(&self, mode: CopyMode) -> &Option<Arc<Region>> {
        match mode {
            CopyMode::ZeroCopy => &self.zero_copy,
            CopyMode::Copy => &self.copy,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum UmemError {
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// A queue that is bound and ready to go to its worker. `Send`.
#[derive(Debug)]
pub struct BoundQueue {
    pub(crate) socket: Socket,
    pub(crate) worker: usize,
    pub(crate) offloads: Offloads,
    /// For runs of TCP segments, where the device takes them in one piece.
    pub(crate) whole: Option<WholeSocket>,
}

impl BoundQueue {
    /// The worker that it was assigned to.
    pub fn worker(&self) -> usize {
        self.worker
    }

    pub fn queue(&self) -> u32 {
        self.socket.queue()
    }
}

/// The memory that the pairs of this thread use, one pool per region.
#[derive(Debug, Default)]
pub struct Pools(Vec<Pool>);

/// Why a bound queue did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("queue {queue} was opened with the packet memory of another worker, which still uses it")]
    OwnedElsewhere { queue: u32 },
}

impl Pools {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a queue over to this thread; from here on it can receive and transmit.
    pub fn start(&mut self, bound: BoundQueue) -> Result<XskQueuePair, StartError> {
        let BoundQueue { socket, offloads, whole, .. } = bound;
        let queue = socket.queue();
        let pool = self.pool(socket.region()).ok_or(StartError::OwnedElsewhere { queue })?;
        let queue = pool.start(socket).expect("the pool was looked up by the socket's own region");
        Ok(XskQueuePair::new(queue, offloads, whole))
    }

    /// Chunks that are neither with the kernel nor in a packet, over all pools.
    pub fn free_frames(&self) -> usize {
        self.0.iter().map(Pool::free_chunks).sum()
    }

    /// Chunks that were still being sent when their queue closed, and are out of use.
    pub fn stranded_frames(&self) -> u64 {
        self.0.iter().map(|pool| u64::from(pool.stranded_chunks())).sum()
    }

    fn pool(&mut self, region: &Arc<Region>) -> Option<&Pool> {
        let known = self.0.iter().position(|pool| Arc::ptr_eq(pool.region(), region));
        let at = match known {
            Some(at) => at,
            None => {
                self.0.push(region.claim()?);
                self.0.len() - 1
            }
        };
        self.0.get(at)
    }
}

/// One queue of an interface. Not `Send`: its frames belong to the thread's pools.
#[derive(Debug)]
pub struct XskQueuePair {
    queue: Queue,
    offloads: Offloads,
    whole: Option<WholeSocket>,
    takes_runs: bool,
    assembly: Assembly,
    counters: QueueCounters,
}

/// What became of something given to the packet socket.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Sent {
    Gone,
    /// The device takes no more now.
    Full,
    /// The kernel had no memory for it.
    Lost,
    /// The device does not take such a packet.
    Never,
}

impl XskQueuePair {
    fn new(queue: Queue, offloads: Offloads, whole: Option<WholeSocket>) -> Self {
        Self {
            queue,
            offloads,
            takes_runs: whole.is_some(),
            whole,
            assembly: Assembly::default(),
            counters: QueueCounters::default(),
        }
    }

    /// Everything leaves by the ring from here on, as on a device that is no veth: for who measures that.
    #[must_use]
    pub fn by_ring_alone(self) -> Self {
        let finishes_tcp_above = finishes_tcp_above(self.queue.socket(), false);
        let offloads = Offloads { finishes_tcp_above, cuts_tcp: false, ..self.offloads };
        Self { whole: None, takes_runs: false, offloads, ..self }
    }

    /// Puts the packet on the ring. `Err` gives it back when it does not fit now.
    #[inline]
    fn put(&mut self, packet: Packet) -> Result<(), Packet> {
        let bytes = packet.len();
        if bytes > self.offloads.max_packet_bytes || bytes == 0 {
            self.counters.nic_tx_invalid += 1;
            return Ok(());
        }
        match self.send_chain(&packet) {
            Some(Sent::Full) => return Err(packet),
            Some(_) => return Ok(()),
            None => {}
        }
        let ours = self.is_ours(&packet);
        let frames = if ours { packet.frames() } else { bytes.div_ceil(FRAME_BYTES) };
        if !self.queue.has_room(frames) {
            return Err(packet);
        }
        let packet = if ours { Some(packet) } else { self.copy(&packet) };
        let Some(packet) = packet else {
            self.counters.nic_tx_no_frame += 1;
            return Ok(());
        };
        let mut unfinished = self.unfinished(&packet);
        let mut frames = packet.into_frames().filter(|frame| !frame.is_empty()).peekable();
        while let Some(frame) = frames.next() {
            let (chunk, start, len) =
                frame.into_chunk().expect("the packet lies in this pool, or was copied there");
            let continued = frames.peek().is_some();
            let sent = match unfinished.take() {
                None => self.queue.transmit(chunk, start, len, continued),
                Some(checksum) => self.queue.transmit_unfinished(chunk, start, len, continued, checksum),
            };
            debug_assert!(sent, "there was room for the whole packet, and before it");
        }
        self.counters.transmitted_packets += 1;
        self.counters.transmitted_bytes += bytes as u64;
        Ok(())
    }

    /// The TCP checksum of a packet that the kernel is to finish.
    fn unfinished(&self, packet: &Packet) -> Option<Unfinished> {
        if !self.queue.socket().finishes_checksums() {
            return None;
        }
        let whole = unfinished_tcp(packet.frame(0)?.bytes(), packet.len())?;
        Some(Unfinished { start: whole.transport, offset: CHECKSUM_AT as u16 })
    }

    /// Sends the segments at the front of the burst in one piece, if they are of one stream and enough of them. `None`:
    /// they are not, and the first goes by itself.
    fn send_run(&mut self, burst: &mut Burst) -> Option<Sent> {
        if !self.takes_runs {
            return None;
        }
        let run = Run::at_front_of(burst).filter(|run| run.packets >= RUN_MIN)?;
        let sent = self.send_whole(run.whole(), run.headers(burst).bytes(), run.texts(burst));
        match sent {
            Sent::Full => return Some(sent),
            // Then they go one by one, now and later.
            Sent::Never => {
                self.takes_runs = false;
                return None;
            }
            Sent::Gone | Sent::Lost => {}
        }
        for packet in std::iter::from_fn(|| burst.pop()).take(run.packets) {
            self.count(sent, packet.len());
        }
        Some(sent)
    }

    /// A chain whose checksum the kernel is to finish. `None`: it is none.
    fn send_chain(&mut self, packet: &Packet) -> Option<Sent> {
        if packet.frames() == 1 || self.whole.is_none() {
            return None;
        }
        let head = packet.frame(0)?.bytes();
        let whole = unfinished_tcp(head, packet.len())?;
        let sent = self.send_whole(whole, head, packet.iter().skip(1).map(Frame::bytes));
        self.count(sent, packet.len());
        Some(sent)
    }

    fn send_whole<'a>(&mut self, whole: Whole, headers: &[u8], text: impl Iterator<Item = &'a [u8]>) -> Sent {
        let Some(socket) = &self.whole else { return Sent::Never };
        // What came before goes before.
        self.queue.finish_transmit();
        if self.queue.is_sending() {
            return Sent::Full;
        }
        self.counters.wakeups += 1;
        match socket.send(whole, headers, text) {
            Ok(()) => Sent::Gone,
            Err(Errno::AGAIN) => Sent::Full,
            Err(Errno::NOBUFS) => Sent::Lost,
            Err(_) => Sent::Never,
        }
    }

    fn count(&mut self, sent: Sent, bytes: usize) {
        match sent {
            Sent::Gone => {
                self.counters.transmitted_packets += 1;
                self.counters.transmitted_bytes += bytes as u64;
                self.counters.merged_packets += 1;
            }
            Sent::Full => {}
            Sent::Lost => self.counters.nic_tx_no_frame += 1,
            Sent::Never => self.counters.nic_tx_invalid += 1,
        }
    }

    /// Whether the ring takes the packet as it lies.
    fn is_ours(&self, packet: &Packet) -> bool {
        let chains = self.offloads.max_packet_bytes > FRAME_BYTES;
        (chains || packet.frames() == 1) && packet.iter().all(|frame| frame.lies_in(self.queue.pool()))
    }

    /// The packet once more, in this queue's own memory and in as few frames as possible. `None`: too few were free.
    fn copy(&mut self, packet: &Packet) -> Option<Packet> {
        let pool = self.queue.pool();
        let mut copy = Packet::new(Frame::umem(pool)?);
        for frame in packet.iter() {
            let mut left = frame.bytes();
            loop {
                left = &left[copy.last_mut().append(left)..];
                if left.is_empty() {
                    break;
                }
                copy.push(Frame::umem(pool)?).ok()?;
            }
        }
        self.counters.copied_packets += 1;
        Some(copy)
    }
}

impl QueuePair for XskQueuePair {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.queue.reclaim();
        let before = burst.len();
        while !burst.is_full() {
            let Some(received) = self.queue.receive() else { break };
            let Some(packet) = self.assembly.add(received) else { continue };
            self.counters.received_packets += 1;
            self.counters.received_bytes += packet.len() as u64;
            burst.push(packet).expect("the burst was not full");
        }
        self.queue.finish_receive();
        burst.len() - before
    }

    fn transmit(&mut self, burst: &mut Burst) {
        self.queue.reclaim();
        loop {
            match self.send_run(burst) {
                Some(Sent::Full) => break,
                Some(_) => continue,
                None => {}
            }
            let Some(packet) = burst.pop() else { break };
            if let Err(packet) = self.put(packet) {
                burst.push_front(packet);
                break;
            }
        }
        self.queue.finish_transmit();
    }

    fn transmit_large(
        &mut self,
        before: &mut Burst,
        headers: &[u8],
        text: [&[u8]; 2],
        segment_bytes: Option<NonZeroU16>,
    ) -> Large {
        let len = headers.len() + text[0].len() + text[1].len();
        // What fits a frame goes by the ring, with others of its burst.
        let is_large = len > FRAME_BYTES;
        let taken = self.whole.is_some() && if segment_bytes.is_some() { self.takes_runs } else { is_large };
        let Some(whole) = unfinished_tcp(headers, len).filter(|_| taken) else { return Large::Refused };
        self.transmit(before);
        if !before.is_empty() {
            return Large::Full;
        }
        let sent = self.send_whole(Whole { segment_bytes, ..whole }, headers, text.into_iter());
        let Some(segment_bytes) = segment_bytes else {
            self.count(sent, len);
            return if sent == Sent::Full { Large::Full } else { Large::Taken };
        };
        match sent {
            Sent::Full => return Large::Full,
            // Then they go one by one, now and later.
            Sent::Never => {
                self.takes_runs = false;
                return Large::Refused;
            }
            Sent::Gone | Sent::Lost => {}
        }
        let mut left = text[0].len() + text[1].len();
        while left > 0 {
            let bytes = left.min(segment_bytes.get().into());
            self.count(sent, headers.len() + bytes);
            left -= bytes;
        }
        Large::Taken
    }

    fn frame(&mut self) -> Option<Frame> {
        if let Some(frame) = Frame::umem(self.queue.pool()) {
            return Some(frame);
        }
        self.queue.reclaim();
        Frame::umem(self.queue.pool())
    }

    fn offloads(&self) -> Offloads {
        self.offloads
    }

    fn counters(&mut self) -> QueueCounters {
        let kernel = self.queue.statistics();
        QueueCounters {
            nic_rx_dropped: kernel.rx_dropped,
            nic_rx_ring_full: kernel.rx_ring_full,
            nic_fill_ring_empty: kernel.rx_fill_ring_empty_descs,
            nic_chain_broken: self.assembly.broken + self.queue.strays(),
            nic_tx_invalid: self.counters.nic_tx_invalid + kernel.tx_invalid_descs,
            wakeups: self.queue.wakeups(),
            ..self.counters
        }
    }

    fn is_sending(&self) -> bool {
        self.queue.is_sending()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.queue.descriptor())
    }
}

/// What a socket promises, from what it got and what kind of device it is bound to.
pub(crate) fn offloads(socket: &Socket, is_veth: bool, takes_wholes: bool) -> Offloads {
    Offloads {
        unfinished_receive_checksum: is_veth,
        finishes_tcp_above: finishes_tcp_above(socket, takes_wholes),
        cuts_tcp: takes_wholes,
        max_packet_bytes: if socket.multi_buffer() { MAX_FRAMES * FRAME_BYTES } else { FRAME_BYTES },
    }
}

/// All that the kernel copies may ask it for a checksum; a packet socket takes what is no single frame.
fn finishes_tcp_above(socket: &Socket, takes_wholes: bool) -> Option<usize> {
    if socket.finishes_checksums() { Some(0) } else { takes_wholes.then_some(FRAME_BYTES) }
}
