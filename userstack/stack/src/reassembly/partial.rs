//! The fragments of one packet: where each lies, whether they overlap, and the packet that they make.

use std::net::IpAddr;

use crate::chain::{Contiguous, for_each_slice};
use crate::header::{Fragment, Header};
use crate::wire::{IPV6_BYTES, set_word};
use crate::{Chain, Discard, ipv4, ipv6};

/// Fragments of one packet: 65,535 bytes in pieces of 512, which is less than any link's MTU leaves.
pub(super) const MAX_PARTS: usize = 128;
/// Congestion experienced (RFC 3168, section 5).
pub(super) const CE: u8 = 0b11;
/// Longest packet.
const MAX_PACKET_BYTES: usize = 65_535;

#[derive(Debug, Default)]
pub(super) struct Partial {
    /// IP header up to the fragment header, of the first fragment once it is here.
    header: Vec<u8>,
    /// IPv6: the protocol behind the first fragment's header, and where in `header` it is named.
    protocol: (u8, usize),
    /// Disjoint, in order.
    parts: Vec<Part>,
    /// Known once the last fragment is here.
    len: Option<usize>,
    /// It was given up, and so is what still comes of it.
    refused: bool,
    /// A part was marked: so is the whole (RFC 3168, section 5.3).
    ce: bool,
}

/// Bytes of a packet, from `start` on. No more memory than they arrived with.
#[derive(Debug)]
struct Part {
    start: usize,
    bytes: Vec<u8>,
}

/// What each part costs beside its bytes.
pub(super) const PART_BYTES: usize = size_of::<Part>();

/// Which bytes of the whole a fragment has. All but the last come in units of eight.
pub(super) fn check_range(header: &Header, fragment: &Fragment) -> Result<(usize, usize), Discard> {
    let len = header.transport_len();
    if len == 0 || fragment.more && !len.is_multiple_of(8) {
        return Err(Discard::FragmentLength);
    }
    let end = fragment.offset + len;
    let header_len = match header.source {
        IpAddr::V4(_) => header.transport - header.network,
        // What lies before the fragment header counts as payload of the whole, the fixed header does not.
        IpAddr::V6(_) => header.transport - header.network - ipv6::FRAGMENT_HEADER_BYTES - IPV6_BYTES,
    };
    if header_len + end > MAX_PACKET_BYTES {
        return Err(Discard::FragmentTooLong);
    }
    Ok((fragment.offset, end))
}

impl Partial {
    /// Bytes that its fragments cost while they wait.
    pub(super) fn held(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| PART_BYTES + part.bytes.len()).sum();
        self.header.len() + parts
    }

    /// Fragments that are here.
    pub(super) fn parts(&self) -> usize {
        self.parts.len()
    }

    /// Lets go of what is here, and refuses what still comes. So many fragments were here.
    pub(super) fn give_up(&mut self) -> usize {
        let kept = self.parts();
        (self.parts, self.header, self.refused) = (Vec::new(), Vec::new(), true);
        kept
    }

    /// Puts a fragment's bytes in their place; true when all are here.
    pub(super) fn add(
        &mut self,
        (start, end): (usize, usize),
        fragment: &Fragment,
        header: &Header,
        packet: &dyn Chain,
    ) -> Result<bool, Discard> {
        if self.refused {
            return Err(Discard::FragmentOfRefused);
        }
        let at = self.parts.partition_point(|part| part.start < start);
        if self.parts.get(at).is_some_and(|part| (part.start, part.end()) == (start, end)) {
            // Networks duplicate; RFC 8200 section 4.5 lets an exact duplicate go.
            return Err(Discard::FragmentDuplicate);
        }
        let overlaps = at > 0 && self.parts[at - 1].end() > start
            || self.parts.get(at).is_some_and(|part| part.start < end);
        let beyond = match self.len {
            Some(len) => end > len || !fragment.more && end != len,
            None => !fragment.more && self.parts.last().is_some_and(|last| last.end() > end),
        };
        if overlaps || beyond {
            return Err(Discard::FragmentOverlap);
        }
        if self.parts.len() == MAX_PARTS {
            return Err(Discard::FragmentsTooMany);
        }
        if !fragment.more {
            self.len = Some(end);
        }
        self.ce |= header.ecn == CE;
        if start == 0 {
            self.keep_header(fragment, header, packet.chunk(0));
        }
        let mut bytes = Vec::with_capacity(end - start);
        for_each_slice(packet, header.transport, header.end, |slice| bytes.extend_from_slice(slice));
        self.parts.insert(at, Part { start, bytes });
        let here = self.parts.iter().map(|part| part.bytes.len()).sum::<usize>();
        Ok(self.len == Some(here))
    }

    fn keep_header(&mut self, fragment: &Fragment, header: &Header, chunk: &[u8]) {
        let end = match header.source {
            IpAddr::V4(_) => header.transport,
            IpAddr::V6(_) => header.transport - ipv6::FRAGMENT_HEADER_BYTES,
        };
        self.header = chunk[header.network..end].to_vec();
        self.protocol = (header.protocol, fragment.named_at.saturating_sub(header.network));
    }

    pub(super) fn join(mut self, header: &Header, packet: &dyn Chain) -> Contiguous {
        let payload: usize = self.parts.iter().map(|part| part.bytes.len()).sum();
        self.mark();
        if header.source.is_ipv4() {
            ipv4::set_whole(&mut self.header, payload);
        } else {
            self.header[self.protocol.1] = self.protocol.0;
            let len = self.header.len() - IPV6_BYTES + payload;
            set_word(&mut self.header, 4, len as u16);
        }
        let mut pieces: [&[u8]; MAX_PARTS + 2] = [&[]; MAX_PARTS + 2];
        pieces[0] = &packet.chunk(0)[..header.network];
        pieces[1] = &self.header;
        let parts = self.parts.iter().map(|part| &part.bytes[..]);
        pieces[2..].iter_mut().zip(parts).for_each(|(piece, part)| *piece = part);
        Contiguous::joined(&pieces)
    }

    /// Before the header's checksum is made. What the sender did not offer to have marked is not.
    fn mark(&mut self) {
        let shift = if self.header[0] >> 4 == 4 { 0 } else { 4 };
        if self.ce && self.header[1] >> shift & CE != 0 {
            self.header[1] |= CE << shift;
        }
    }
}

impl Part {
    fn end(&self) -> usize {
        self.start + self.bytes.len()
    }
}
