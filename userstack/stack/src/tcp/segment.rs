//! A segment that arrived: its header, and its text where it lies.

use super::header::{Flags, Header};
use super::memory::Ring;
use super::sequence::Seq;
use crate::Chain;

#[derive(Copy, Clone)]
pub(crate) struct Segment<'a> {
    pub header: Header,
    pub text: Text<'a>,
    /// The network marked it: its queue fills (RFC 3168, section 5).
    pub ce: bool,
}

impl Segment<'_> {
    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.header.flags.has(flags)
    }

    /// SEG.LEN: text, SYN and FIN.
    pub(crate) fn len(&self) -> u32 {
        self.text.len() + u32::from(self.has(Flags::SYN)) + u32::from(self.has(Flags::FIN))
    }

    /// SEG.SEQ + SEG.LEN.
    pub(crate) fn end(&self) -> Seq {
        self.header.seq + self.len()
    }
}

/// The payload, in the chunks of its packet.
#[derive(Copy, Clone)]
pub(crate) struct Text<'a> {
    packet: &'a dyn Chain,
    offset: usize,
    len: usize,
    /// What of it lies in the first chunk, and mostly that is all.
    head: &'a [u8],
}

impl<'a> Text<'a> {
    /// What lies in `packet` from `offset` on, of which `head` is in the first chunk.
    pub(crate) fn new(packet: &'a dyn Chain, offset: usize, head: &'a [u8]) -> Self {
        Self { packet, offset, len: packet.total_len().saturating_sub(offset), head }
    }

    /// All of it, where it lies in one chunk.
    #[inline]
    pub(crate) fn in_one(&self) -> Option<&'a [u8]> {
        self.head.get(..self.len)
    }

    pub(crate) fn len(&self) -> u32 {
        self.len as u32
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `len` bytes from `skip` on.
    pub(crate) fn part(&self, skip: u32, len: u32) -> Self {
        debug_assert!(skip + len <= self.len());
        let (skip, len) = (skip as usize, len as usize);
        let head = self.head.get(skip..).unwrap_or_default();
        Self { packet: self.packet, offset: self.offset + skip, len, head }
    }

    /// Copies all of it to `at` of the ring.
    pub(crate) fn copy_to(&self, ring: &mut Ring, at: usize) {
        if let Some(all) = self.in_one() {
            return ring.write_at(at, all);
        }
        let (mut at, mut skip, mut left) = (at, self.offset, self.len);
        for index in 0..self.packet.chunks() {
            let chunk = self.packet.chunk(index);
            let Some(bytes) = chunk.get(skip..) else {
                skip -= chunk.len();
                continue;
            };
            let bytes = &bytes[..left.min(bytes.len())];
            ring.write_at(at, bytes);
            (at, left, skip) = (at + bytes.len(), left - bytes.len(), 0);
            if left == 0 {
                return;
            }
        }
    }
}
