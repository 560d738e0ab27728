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

    /// The `index`th chunk, to rewrite in place.
    fn chunk_mut(&mut self, index: usize) -> &mut [u8];

    /// Makes `bytes` of room before the first chunk's first byte (a VLAN tag goes on). False when there is none.
    fn grow_front(&mut self, bytes: usize) -> bool;

    /// Takes `bytes` off the front of the first chunk (a VLAN tag comes off).
    fn shrink_front(&mut self, bytes: usize);

    /// Cuts the packet to `len` bytes (Ethernet padding goes).
    fn truncate(&mut self, len: usize);
}
