//! Streams whose packets came lately, each by the bytes that all of its packets share: link header, addresses and ports.
//! Who is found here needs no look at interfaces, addresses and the flow table. `ordinary` asks and tells.

use crate::InterfaceId;
use crate::tcp::FlowKey;
use crate::wire::ETHERNET_BYTES;

/// Streams remembered: those of a busy moment. One more takes another's place. 6 KiB, a part of the smallest first-level
/// cache there is.
const PLACES: usize = 64;
/// Words of two addresses and two ports of IPv6; IPv4's are two.
const MOST_WORDS: usize = 5;

#[derive(Debug)]
pub(crate) struct Recent {
    places: Box<[Option<Stream>; PLACES]>,
}

/// What was found out when a stream was looked up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub flow: FlowKey,
    /// Its neighbour may leave checksums to a device.
    pub unfinished_allowed: bool,
}

#[derive(Copy, Clone, Debug)]
struct Stream {
    known: Known,
    way: Way,
    link: [u64; 2],
    ends: [u64; MOST_WORDS],
}

/// Where a packet came in, under which state of interfaces and routes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub interface: InterfaceId,
    pub generation: u32,
}

/// What all packets of a stream share; `WORDS` tells the two versions of IP apart, as the link header does.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Shared<const WORDS: usize> {
    way: Way,
    link: [u64; 2],
    ends: [u64; WORDS],
    place: usize,
}

impl<const WORDS: usize> Shared<WORDS> {
    /// `ends` are the words of addresses and ports, as they lie, the ports last.
    #[inline(always)]
    pub fn new(way: Way, link: &[u8; ETHERNET_BYTES], ends: [u64; WORDS]) -> Self {
        let first = link.first_chunk().expect("a link header has eight bytes");
        let last = link.last_chunk().expect("a link header has eight bytes");
        let link = [u64::from_ne_bytes(*first), u64::from_ne_bytes(*last)];
        // Of each port the low byte: one of the two is the same for all peers of a service.
        let ports = u32::from_be(ends[WORDS - 1] as u32);
        Self { way, link, ends, place: (ports ^ (ports >> 16)) as usize % PLACES }
    }
}

impl<const WORDS: usize> Shared<WORDS> {
    pub fn way(&self) -> Way {
        self.way
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self { places: Box::new([None; PLACES]) }
    }
}

impl Recent {
    #[inline(always)]
    pub fn find<const WORDS: usize>(&self, shared: &Shared<WORDS>) -> Option<Known> {
        let Some(stream) = &self.places[shared.place] else { return None };
        let differ = (stream.link[0] ^ shared.link[0]) | (stream.link[1] ^ shared.link[1]);
        let differ = (0..WORDS).fold(differ, |differ, word| differ | (stream.ends[word] ^ shared.ends[word]));
        if differ != 0 || stream.way != shared.way {
            return None;
        }
        Some(stream.known)
    }

    pub fn remember<const WORDS: usize>(&mut self, shared: &Shared<WORDS>, known: Known) {
        let mut ends = [0; MOST_WORDS];
        ends[..WORDS].copy_from_slice(&shared.ends);
        self.places[shared.place] = Some(Stream { known, way: shared.way, link: shared.link, ends });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way { interface: InterfaceId(3), generation: 7 };
    const FLOW: FlowKey = FlowKey { slot: 5, life: 2 };

    #[test]
    fn a_stream_is_found_by_all_that_its_packets_share_and_by_nothing_less() {
        let link = [7; ETHERNET_BYTES];
        let mut recent = Recent::default();
        recent.remember(&Shared::new(WAY, &link, [1, 2]), Known { flow: FLOW, unfinished_allowed: true });
        let found = |way, link: &[u8; ETHERNET_BYTES], ends: [u64; 2]| {
            recent.find(&Shared::new(way, link, ends)).map(|known| known.flow)
        };
        assert_eq!(found(WAY, &link, [1, 2]), Some(FLOW));
        assert_eq!(found(WAY, &link, [9, 2]), None);
        assert_eq!(found(WAY, &link, [1, 2 | 1 << 16]), None);
        assert_eq!(found(Way { generation: 8, ..WAY }, &link, [1, 2]), None);
        assert_eq!(found(Way { interface: InterfaceId(4), ..WAY }, &link, [1, 2]), None);
        for at in 0..ETHERNET_BYTES {
            let mut other = link;
            other[at] ^= 1;
            assert_eq!(found(WAY, &other, [1, 2]), None, "byte {at}");
        }
    }
}
