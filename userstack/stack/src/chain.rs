//! How the stack sees a received packet: bytes in one or more chunks, owned by the caller.

/// One packet as it lies in memory. Headers are in the first chunk, payload may go on in the others
/// (AF_XDP multi-buffer, DPDK segments).
pub trait Chain {
    /// Bytes in all chunks.
    fn total_len(&self) -> usize;

    /// Number of chunks, at least one.
    fn chunks(&self) -> usize;

    /// The `index`th chunk; empty beyond the last.
    fn chunk(&self, index: usize) -> &[u8];

    /// All of the packet, if it is one chunk.
    fn in_one(&self) -> Option<&[u8]> {
        (self.chunks() == 1).then(|| self.chunk(0))
    }

    /// The `index`th chunk, to rewrite in place.
    fn chunk_mut(&mut self, index: usize) -> &mut [u8];

    /// Makes `bytes` of room before the first chunk's first byte (a VLAN tag goes on). False when there is none.
    fn grow_front(&mut self, bytes: usize) -> bool;

    /// Takes `bytes` off the front of the first chunk (a VLAN tag comes off).
    fn shrink_front(&mut self, bytes: usize);

    /// Cuts the packet to `len` bytes (Ethernet padding goes).
    fn truncate(&mut self, len: usize);
}

/// A packet in one piece of heap memory: what reassembly makes, and what tests feed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contiguous {
    bytes: Vec<u8>,
    start: usize,
}

/// Room before a contiguous packet's first byte: a VLAN tag or an IPv6 header may go on.
const HEADROOM_BYTES: usize = 64;

impl Contiguous {
    pub fn new(packet: &[u8]) -> Self {
        Self::joined(&[packet])
    }

    /// A packet of several pieces.
    pub fn joined(pieces: &[&[u8]]) -> Self {
        let mut bytes = vec![0; HEADROOM_BYTES];
        for piece in pieces {
            bytes.extend_from_slice(piece);
        }
        Self { bytes, start: HEADROOM_BYTES }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

impl Chain for Contiguous {
    fn total_len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn chunks(&self) -> usize {
        1
    }

    fn chunk(&self, index: usize) -> &[u8] {
        if index == 0 { self.bytes() } else { &[] }
    }

    fn in_one(&self) -> Option<&[u8]> {
        Some(self.bytes())
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        if index == 0 { self.bytes_mut() } else { &mut [] }
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.start;
        if fits {
            self.start -= bytes;
        }
        fits
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.start += bytes.min(self.total_len());
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len.min(self.total_len()));
    }
}

/// Visits the bytes `from..until` of a packet, chunk by chunk.
pub(crate) fn for_each_slice(packet: &dyn Chain, from: usize, until: usize, mut visit: impl FnMut(&[u8])) {
    let mut start = 0;
    for index in 0..packet.chunks() {
        let chunk = packet.chunk(index);
        let first = from.saturating_sub(start).min(chunk.len());
        let last = until.saturating_sub(start).min(chunk.len());
        if first < last {
            visit(&chunk[first..last]);
        }
        start += chunk.len();
        if start >= until {
            break;
        }
    }
}
