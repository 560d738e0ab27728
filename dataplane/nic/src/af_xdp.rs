//! The queue pair over AF_XDP, and the memory that the pairs of one worker share.
//!
//! The management thread holds a [`UmemSet`] per worker and makes [`BoundQueue`]s ([`crate::open()`]); these are `Send`. The
//! worker holds [`Pools`] and turns them into [`XskQueuePair`]s, which stay on its thread with their frames.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use xsk::{BindError, CopyMode, Pool, Queue, Region, RegionError, Socket};

use crate::assembly::Assembly;
use crate::packet::{Burst, FRAME_BYTES, Frame, MAX_FRAMES, Packet};
use crate::{Offloads, QueueCounters, QueuePair};

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
        let BoundQueue { socket, offloads, .. } = bound;
        let queue = socket.queue();
        let pool = self.pool(socket.region()).ok_or(StartError::OwnedElsewhere { queue })?;
        let queue = pool.start(socket).expect("the pool was looked up by the socket's own region");
        Ok(XskQueuePair::new(queue, offloads))
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
    assembly: Assembly,
    counters: QueueCounters,
}

impl XskQueuePair {
    fn new(queue: Queue, offloads: Offloads) -> Self {
        Self { queue, offloads, assembly: Assembly::default(), counters: QueueCounters::default() }
    }

    /// Puts the packet on the ring. `Err` gives it back when it does not fit now.
    #[inline]
    fn put(&mut self, packet: Packet) -> Result<(), Packet> {
        let bytes = packet.len();
        if bytes > self.offloads.max_packet_bytes || bytes == 0 {
            self.counters.nic_tx_invalid += 1;
            return Ok(());
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
        let mut frames = packet.into_frames().filter(|frame| !frame.is_empty()).peekable();
        while let Some(frame) = frames.next() {
            let (chunk, start, len) =
                frame.into_chunk().expect("the packet lies in this pool, or was copied there");
            let sent = self.queue.transmit(chunk, start, len, frames.peek().is_some());
            debug_assert!(sent, "there was room for the whole packet");
        }
        self.counters.transmitted_packets += 1;
        self.counters.transmitted_bytes += bytes as u64;
        Ok(())
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
        while let Some(packet) = burst.pop() {
            if let Err(packet) = self.put(packet) {
                burst.push_front(packet);
                break;
            }
        }
        self.queue.finish_transmit();
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
pub(crate) fn offloads(socket: &Socket, is_veth: bool) -> Offloads {
    Offloads {
        unfinished_receive_checksum: is_veth,
        transmit_checksum: false,
        max_packet_bytes: if socket.multi_buffer() { MAX_FRAMES * FRAME_BYTES } else { FRAME_BYTES },
    }
}
