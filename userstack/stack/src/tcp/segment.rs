//! A segment that arrived: its header, and its text where it lies.

use super::header::{Flags, Header};
use super::memory::Ring;
use super::sequence::Seq;
use crate::Chain;
use crate::run::{Pieces, Run};

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

/// The payload, in the chunks of its packet or of several.
#[derive(Copy, Clone)]
pub(crate) struct Text<'a> {
    body: Body<'a>,
    offset: usize,
    len: usize,
    /// What of it lies in the first chunk, and mostly that is all.
    head: &'a [u8],
}

/// Where the chunks are that a text lies in.
#[derive(Copy, Clone)]
enum Body<'a> {
    Packet(&'a dyn Chain),
    /// The first packet whole, of each other the text alone.
    Run(&'a Run, &'a dyn Pieces),
}

impl<'a> Body<'a> {
    fn chunks(&self) -> usize {
        match self {
            Self::Packet(packet) => packet.chunks(),
            Self::Run(run, _) => run.packets(),
        }
    }

    fn chunk(&self, index: usize) -> &'a [u8] {
        match self {
            Self::Packet(packet) => packet.chunk(index),
            Self::Run(_, pieces) if index == 0 => pieces.piece(0),
            Self::Run(run, pieces) => &pieces.piece(index)[run.text_at()..],
        }
    }
}

impl<'a> Text<'a> {
    /// What lies in `packet` from `offset` on, of which `head` is in the first chunk.
    pub(crate) fn new(packet: &'a dyn Chain, offset: usize, head: &'a [u8]) -> Self {
        Self { body: Body::Packet(packet), offset, len: packet.total_len().saturating_sub(offset), head }
    }

    /// That of all segments of a run.
    pub(crate) fn of_run(run: &'a Run, pieces: &'a dyn Pieces) -> Self {
        let head = &pieces.piece(0)[run.text_at()..];
        Self { body: Body::Run(run, pieces), offset: run.text_at(), len: run.text_bytes(), head }
    }

    /// The longest that the peer sent of it in one segment, as far as that is known: of a neighbour's super-packet it is
    /// not.
    pub(crate) fn segment_bytes(&self) -> u32 {
        match self.body {
            Body::Packet(_) => self.len(),
            Body::Run(run, _) => run.segment_bytes() as u32,
        }
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
        Self { body: self.body, offset: self.offset + skip, len, head }
    }

    /// Copies all of it to `at` of the ring.
    pub(crate) fn copy_to(&self, ring: &mut Ring, at: usize) {
        if let Some(all) = self.head.get(..self.len) {
            return ring.write_at(at, all);
        }
        let (mut at, mut skip, mut left) = (at, self.offset, self.len);
        for index in 0..self.body.chunks() {
            let chunk = self.body.chunk(index);
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
