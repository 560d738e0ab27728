//! Frames, packets and bursts: who owns received memory, and for how long.
//!
//! A [`Frame`] is a move-only handle to memory in a pool; dropping it returns the memory. A [`Packet`] is a chain of
//! one or more frames. A [`Burst`] is a bounded queue of packets. None of them is ever shared between cores.

use std::collections::VecDeque;

use xsk::{CHUNK_BYTES, Chunk, Pool};

/// Longest chain: 65,535 B in 4,096 B chunks with headroom, and one to spare (the kernel allows MAX_SKB_FRAGS + 1).
pub const MAX_FRAMES: usize = 18;

/// Packets a queue pair moves in one call (DESIGN: 64 frames a queue pair and turn).
pub const BURST_PACKETS: usize = 64;

/// Bytes kept free before a packet's first byte, so that a tag or tunnel header can go on in place
/// (XDP_PACKET_HEADROOM).
pub const HEADROOM_BYTES: usize = xsk::HEADROOM_BYTES;

/// Packet bytes of a frame that the kernel filled, or that is filled behind its headroom.
pub const FRAME_BYTES: usize = CHUNK_BYTES - HEADROOM_BYTES;

/// Memory in a pool and the part of it that holds packet bytes.
#[derive(Debug)]
pub struct Frame {
    memory: Memory,
    start: usize,
    len: usize,
}

/// Closed, so that the common path is a match and not a virtual call.
#[derive(Debug)]
enum Memory {
    Heap(Box<[u8]>),
    /// A chunk of a worker's UMEM; dropping it makes it free.
    Umem(Chunk),
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Umem(chunk) => chunk.bytes(),
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Heap(bytes) => bytes,
            Self::Umem(chunk) => chunk.bytes_mut(),
        }
    }
}

impl Frame {
    /// An empty frame in heap memory: `capacity` bytes behind the headroom.
    pub fn heap(capacity: usize) -> Self {
        Self {
            memory: Memory::Heap(vec![0; HEADROOM_BYTES + capacity].into_boxed_slice()),
            start: HEADROOM_BYTES,
            len: 0,
        }
    }

    /// An empty frame in a free chunk. `None`: all are in use.
    pub(crate) fn umem(pool: &Pool) -> Option<Self> {
        pool.chunk().map(|chunk| Self { memory: Memory::Umem(chunk), start: HEADROOM_BYTES, len: 0 })
    }

    /// What the kernel received into a chunk. `None` when the bytes are not in it.
    pub(crate) fn received(chunk: Chunk, start: usize, len: usize) -> Option<Self> {
        (start + len <= CHUNK_BYTES).then_some(Self { memory: Memory::Umem(chunk), start, len })
    }

    /// Whether a ring of `pool` takes this frame without a copy.
    pub(crate) fn lies_in(&self, pool: &Pool) -> bool {
        matches!(&self.memory, Memory::Umem(chunk) if chunk.belongs_to(pool))
    }

    /// The chunk with the bytes' place in it, for a ring. Gives the frame back when its memory is no chunk.
    pub(crate) fn into_chunk(self) -> Result<(Chunk, usize, usize), Self> {
        let Self { memory, start, len } = self;
        match memory {
            Memory::Umem(chunk) => Ok((chunk, start, len)),
            memory @ Memory::Heap(_) => Err(Self { memory, start, len }),
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[self.start..self.start + self.len]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.memory.bytes_mut()[self.start..self.start + self.len]
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that [`Frame::append`] still takes.
    pub fn room(&self) -> usize {
        self.memory.bytes().len() - self.start - self.len
    }

    /// Appends as much of `bytes` as fits and says how much that was.
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        let end = self.start + self.len;
        self.memory.bytes_mut()[end..end + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
        taken
    }

    /// Moves the first byte `bytes` forwards into the headroom. False, and nothing changed, when there is too little.
    pub fn grow_front(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.start;
        if fits {
            self.start -= bytes;
            self.len += bytes;
        }
        fits
    }

    /// Takes up to `bytes` off the front.
    pub fn shrink_front(&mut self, bytes: usize) {
        let bytes = bytes.min(self.len);
        self.start += bytes;
        self.len -= bytes;
    }

    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }
}

/// One packet: a chain of frames, the headers in the first.
#[derive(Debug)]
pub struct Packet {
    first: Frame,
    /// Empty for all but jumbo packets; an empty `Vec` allocates nothing.
    rest: Vec<Frame>,
}

impl Packet {
    pub fn new(first: Frame) -> Self {
        Self { first, rest: Vec::new() }
    }

    /// Adds a frame at the end. Gives it back when the chain is [`MAX_FRAMES`] long.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.frames() == MAX_FRAMES {
            return Err(frame);
        }
        self.rest.push(frame);
        Ok(())
    }

    pub fn frames(&self) -> usize {
        1 + self.rest.len()
    }

    pub fn len(&self) -> usize {
        self.first.len() + self.rest.iter().map(Frame::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn frame(&self, index: usize) -> Option<&Frame> {
        if index == 0 { Some(&self.first) } else { self.rest.get(index - 1) }
    }

    pub fn frame_mut(&mut self, index: usize) -> Option<&mut Frame> {
        if index == 0 { Some(&mut self.first) } else { self.rest.get_mut(index - 1) }
    }

    /// The frame that the next byte is appended to.
    pub fn last_mut(&mut self) -> &mut Frame {
        self.rest.last_mut().unwrap_or(&mut self.first)
    }

    /// Cuts the packet to `len` bytes; frames that become empty go back to their pool, the first stays.
    pub fn truncate(&mut self, len: usize) {
        let mut left = len.saturating_sub(self.first.len());
        self.first.truncate(len);
        self.rest.retain_mut(|frame| {
            frame.truncate(left);
            left -= frame.len();
            !frame.is_empty()
        });
    }

    /// The same bytes in heap memory of their own.
    pub fn to_heap(&self) -> Self {
        let mut copy = Frame::heap(self.len());
        for frame in self.iter() {
            let taken = copy.append(frame.bytes());
            debug_assert_eq!(taken, frame.len(), "the frame was made for the whole packet");
        }
        Self::new(copy)
    }

    /// Every frame in order, to look at.
    pub fn iter(&self) -> impl Iterator<Item = &Frame> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    /// The frames in order, for a ring that takes them one by one.
    pub fn into_frames(self) -> impl Iterator<Item = Frame> {
        std::iter::once(self.first).chain(self.rest)
    }
}

/// A bounded queue of packets, oldest first.
#[derive(Debug, Default)]
pub struct Burst {
    packets: VecDeque<Packet>,
}

impl Burst {
    pub fn new() -> Self {
        Self { packets: VecDeque::with_capacity(BURST_PACKETS) }
    }

    /// Adds a packet at the end. Gives it back when the burst holds [`BURST_PACKETS`].
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.is_full() {
            return Err(packet);
        }
        self.packets.push_back(packet);
        Ok(())
    }

    /// Puts back what a ring did not take.
    pub fn push_front(&mut self, packet: Packet) {
        self.packets.push_front(packet);
    }

    pub fn pop(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }

    pub fn front(&self) -> Option<&Packet> {
        self.packets.front()
    }

    /// The `index`th packet, from the oldest.
    pub fn get(&self, index: usize) -> Option<&Packet> {
        self.packets.get(index)
    }

    /// Every packet, oldest first, to look at.
    pub fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.packets.iter()
    }

    pub fn is_full(&self) -> bool {
        self.packets.len() >= BURST_PACKETS
    }

    pub fn len(&self) -> usize {
        self.packets.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub fn room(&self) -> usize {
        BURST_PACKETS.saturating_sub(self.packets.len())
    }
}
