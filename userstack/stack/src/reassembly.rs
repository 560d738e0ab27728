//! Fragments put together again: RFC 791 section 3.2 and RFC 8200 section 4.5, bounded in datagrams, bytes and time,
//! overlaps refused for both versions (RFC 5722; for IPv4 by RFC 8900's reasons).

use std::net::IpAddr;
use std::time::Duration;

use crate::chain::{Contiguous, for_each_slice};
use crate::hash::{Key, Map, bits};
use crate::header::{Fragment, Header};
use crate::wheel::{TimerId, Wheel};
use crate::wire::{IPV6_BYTES, set_word};
use crate::{Chain, Discard, Instant, ipv4, ipv6};

/// Packets that wait for fragments at most (what 4 MiB hold at a full 16 KiB each).
const MAX_PARTIALS: usize = 256;
/// Fragments of one packet: 65,535 bytes in pieces of 512, which is less than any link's MTU leaves.
const MAX_PARTS: usize = 128;
/// How long fragments wait (Linux: ipfrag_time; RFC 8200 and RFC 1122 allow 60 s, at our memory's cost).
const LIFETIME: Duration = Duration::from_secs(30);
/// Longest packet.
const MAX_PACKET_BYTES: usize = 65_535;

/// Which packet a fragment belongs to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Whole {
    source: u128,
    destination: u128,
    identification: u32,
    /// IPv4's only: RFC 791 has it, RFC 8200 has not.
    protocol: u8,
}

#[derive(Debug)]
pub(crate) struct Reassembly {
    partials: Map<Whole, Partial>,
    timers: Wheel<Whole>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Partial {
    timer: TimerId,
    /// IP header up to the fragment header, of the first fragment once it is here.
    header: Vec<u8>,
    /// IPv6: the protocol behind the first fragment's header, and where in `header` it is named.
    protocol: (u8, usize),
    payload: Vec<u8>,
    /// Which bytes of `payload` are here: disjoint, in order.
    parts: Vec<(usize, usize)>,
    /// Known once the last fragment is here.
    len: Option<usize>,
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Added {
    Kept,
    Whole(Contiguous),
    /// The fragment is refused, and with it all that was kept of its packet: so many fragments.
    Refused(Discard, usize),
}

impl Reassembly {
    pub fn new(key: Key, max_bytes: usize, now: Instant) -> Self {
        Self { partials: Map::with_hasher(key), timers: Wheel::new(now), bytes: 0, max_bytes }
    }

    /// Takes a fragment. A packet that it completes comes back with the link header that the fragment has.
    pub fn add(&mut self, header: &Header, fragment: &Fragment, packet: &dyn Chain, now: Instant) -> Added {
        let range = match check_range(header, fragment) {
            Ok(range) => range,
            Err(reason) => return Added::Refused(reason, 0),
        };
        let key = Whole {
            source: bits(header.source),
            destination: bits(header.destination),
            identification: fragment.identification,
            protocol: if header.source.is_ipv4() { header.protocol } else { 0 },
        };
        if !self.partials.contains_key(&key) {
            if self.partials.len() >= MAX_PARTIALS {
                return Added::Refused(Discard::ReassemblyFull, 0);
            }
            self.begin(key, now);
        }
        let Some(partial) = self.partials.get_mut(&key) else {
            unreachable!("a partial was just found or made");
        };
        let growth = range.1.saturating_sub(partial.payload.len());
        if self.bytes + growth > self.max_bytes {
            return self.refuse(key, Discard::ReassemblyFull);
        }
        let before = partial.payload.len();
        let result = partial.add(range, fragment, header, packet);
        self.bytes += partial.payload.len() - before;
        match result {
            Err(Discard::FragmentDuplicate) => Added::Refused(Discard::FragmentDuplicate, 0),
            Err(reason) => self.refuse(key, reason),
            Ok(false) => Added::Kept,
            Ok(true) => match self.remove(key) {
                Some(partial) => Added::Whole(partial.join(header, packet)),
                None => unreachable!("the partial that was completed is in the table"),
            },
        }
    }

    fn begin(&mut self, key: Whole, now: Instant) {
        let partial = Partial {
            timer: self.timers.insert(now + LIFETIME, key),
            header: Vec::new(),
            protocol: (0, 0),
            payload: Vec::new(),
            parts: Vec::new(),
            len: None,
        };
        self.partials.insert(key, partial);
    }

    fn refuse(&mut self, key: Whole, reason: Discard) -> Added {
        let kept = self.remove(key).map_or(0, |partial| partial.parts.len());
        Added::Refused(reason, kept)
    }

    fn remove(&mut self, key: Whole) -> Option<Partial> {
        let partial = self.partials.remove(&key)?;
        self.bytes -= partial.payload.len();
        self.timers.cancel(partial.timer);
        Some(partial)
    }

    /// Gives up the next packet whose time is over, and says how many fragments were kept of it.
    pub fn poll_expired(&mut self, now: Instant, work: &mut usize) -> Option<usize> {
        let key = self.timers.poll(now, work)?;
        self.remove(key).map(|partial| partial.parts.len())
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }
}

/// Which bytes of the whole a fragment has. All but the last come in units of eight.
fn check_range(header: &Header, fragment: &Fragment) -> Result<(usize, usize), Discard> {
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
    /// Puts a fragment's bytes in their place; true when all are here.
    fn add(
        &mut self,
        (start, end): (usize, usize),
        fragment: &Fragment,
        header: &Header,
        packet: &dyn Chain,
    ) -> Result<bool, Discard> {
        let at = self.parts.partition_point(|part| part.0 < start);
        if self.parts.get(at) == Some(&(start, end)) {
            // Networks duplicate; RFC 8200 section 4.5 lets an exact duplicate go.
            return Err(Discard::FragmentDuplicate);
        }
        let overlaps =
            at > 0 && self.parts[at - 1].1 > start || self.parts.get(at).is_some_and(|part| part.0 < end);
        let beyond = match self.len {
            Some(len) => end > len || !fragment.more && end != len,
            None => !fragment.more && self.parts.last().is_some_and(|last| last.1 > end),
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
        if start == 0 {
            self.keep_header(fragment, header, packet.chunk(0));
        }
        if self.payload.len() < end {
            self.payload.resize(end, 0);
        }
        let mut at_byte = start;
        for_each_slice(packet, header.transport, header.end, |slice| {
            self.payload[at_byte..at_byte + slice.len()].copy_from_slice(slice);
            at_byte += slice.len();
        });
        self.parts.insert(at, (start, end));
        let here = self.parts.iter().map(|(start, end)| end - start).sum::<usize>();
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

    fn join(mut self, header: &Header, packet: &dyn Chain) -> Contiguous {
        if header.source.is_ipv4() {
            ipv4::set_whole(&mut self.header, self.payload.len());
        } else {
            self.header[self.protocol.1] = self.protocol.0;
            let len = self.header.len() - IPV6_BYTES + self.payload.len();
            set_word(&mut self.header, 4, len as u16);
        }
        Contiguous::joined(&[&packet.chunk(0)[..header.network], &self.header, &self.payload])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: usize = 1 << 20;

    fn table() -> Reassembly {
        Reassembly::new(Key::new(&[0; 32], 0), LIMIT, Instant::ZERO)
    }

    /// An IPv4 fragment in an Ethernet frame.
    fn fragment(identification: u16, offset: usize, more: bool, payload: &[u8]) -> Contiguous {
        let mut header = [0; 20];
        let fields = ipv4::Fields {
            source: [10, 0, 0, 2].into(),
            destination: [10, 0, 0, 1].into(),
            protocol: 17,
            hops: 64,
            ecn: 0,
            identification,
            dont_fragment: false,
            payload_len: payload.len(),
        };
        ipv4::write(&mut header, fields);
        ipv4::set_fragment(&mut header, offset, more, payload.len());
        Contiguous::joined(&[&[0; 14], &header, payload])
    }

    fn add(table: &mut Reassembly, packet: &Contiguous) -> Added {
        let header = ipv4::parse(packet.bytes(), 14, packet.total_len()).unwrap();
        table.add(&header, &header.fragment.unwrap(), packet, Instant::ZERO)
    }

    fn refusal(added: Added) -> Option<(Discard, usize)> {
        match added {
            Added::Refused(reason, kept) => Some((reason, kept)),
            _ => None,
        }
    }

    #[test]
    fn fragments_in_any_order_make_the_packet() {
        let mut table = table();
        let payload: Vec<u8> = (0..40).collect();
        assert!(matches!(add(&mut table, &fragment(1, 32, false, &payload[32..])), Added::Kept));
        assert!(matches!(add(&mut table, &fragment(1, 0, true, &payload[..16])), Added::Kept));
        let Added::Whole(whole) = add(&mut table, &fragment(1, 16, true, &payload[16..32])) else { panic!() };
        let header = ipv4::parse(whole.bytes(), 14, whole.total_len()).unwrap();
        assert_eq!((header.fragment, &whole.bytes()[header.transport..]), (None, &payload[..]));
        assert_eq!((table.bytes, table.partials.len()), (0, 0));
    }

    #[test]
    fn an_overlap_is_fragment_overlap_and_drops_the_packet() {
        let mut table = table();
        add(&mut table, &fragment(1, 0, true, &[1; 16]));
        add(&mut table, &fragment(1, 32, true, &[1; 16]));
        let refused = refusal(add(&mut table, &fragment(1, 8, true, &[2; 16])));
        assert_eq!(refused, Some((Discard::FragmentOverlap, 2)));
        assert_eq!((table.bytes, table.partials.len()), (0, 0));
    }

    #[test]
    fn bytes_beyond_the_last_fragment_are_fragment_overlap() {
        let mut table = table();
        add(&mut table, &fragment(1, 8, false, &[1; 8]));
        assert_eq!(
            refusal(add(&mut table, &fragment(1, 16, true, &[1; 8]))),
            Some((Discard::FragmentOverlap, 1))
        );
        add(&mut table, &fragment(2, 24, true, &[1; 8]));
        assert_eq!(
            refusal(add(&mut table, &fragment(2, 8, false, &[1; 8]))),
            Some((Discard::FragmentOverlap, 1))
        );
    }

    #[test]
    fn the_same_fragment_again_is_fragment_duplicate_and_harmless() {
        let mut table = table();
        add(&mut table, &fragment(1, 0, true, &[1; 8]));
        assert_eq!(
            refusal(add(&mut table, &fragment(1, 0, true, &[1; 8]))),
            Some((Discard::FragmentDuplicate, 0))
        );
        assert!(matches!(add(&mut table, &fragment(1, 8, false, &[1; 8])), Added::Whole(_)));
    }

    #[test]
    fn a_part_that_is_not_in_eights_is_fragment_length() {
        assert_eq!(
            refusal(add(&mut table(), &fragment(1, 0, true, &[1; 9]))),
            Some((Discard::FragmentLength, 0))
        );
        assert_eq!(
            refusal(add(&mut table(), &fragment(1, 8, false, &[]))),
            Some((Discard::FragmentLength, 0))
        );
    }

    #[test]
    fn a_packet_over_65535_bytes_is_fragment_too_long() {
        let refused = refusal(add(&mut table(), &fragment(1, 65_512, false, &[1; 8])));
        assert_eq!(refused, Some((Discard::FragmentTooLong, 0)));
    }

    #[test]
    fn crumbs_are_fragments_too_many() {
        let mut table = table();
        for index in 0..MAX_PARTS {
            assert!(matches!(add(&mut table, &fragment(1, index * 8, true, &[1; 8])), Added::Kept));
        }
        let refused = refusal(add(&mut table, &fragment(1, MAX_PARTS * 8, true, &[1; 8])));
        assert_eq!(refused, Some((Discard::FragmentsTooMany, MAX_PARTS)));
    }

    #[test]
    fn more_packets_or_bytes_than_fit_are_reassembly_full() {
        let mut table = table();
        for identification in 0..MAX_PARTIALS as u16 {
            add(&mut table, &fragment(identification, 0, true, &[1; 8]));
        }
        assert_eq!(
            refusal(add(&mut table, &fragment(9999, 0, true, &[1; 8]))),
            Some((Discard::ReassemblyFull, 0))
        );

        let mut table = Reassembly::new(Key::new(&[0; 32], 0), 1000, Instant::ZERO);
        let refused = refusal(add(&mut table, &fragment(1, 1000, true, &[1; 8])));
        assert_eq!(refused, Some((Discard::ReassemblyFull, 0)));
        assert_eq!(table.partials.len(), 0);
    }

    #[test]
    fn fragments_wait_half_a_minute() {
        let mut table = table();
        add(&mut table, &fragment(1, 0, true, &[1; 8]));
        assert_eq!(table.poll_expired(Instant::ZERO + LIFETIME / 2, &mut 64), None);
        assert_eq!(table.poll_expired(Instant::ZERO + LIFETIME * 2, &mut 64), Some(1));
        assert_eq!((table.bytes, table.partials.len()), (0, 0));
    }

    proptest! {
        /// Cut anywhere, sent in any order: the packet comes out once, and as it was.
        #[test]
        fn whatever_was_cut_is_joined(
            payload in proptest::collection::vec(any::<u8>(), 9..2000),
            cuts in proptest::collection::btree_set(1usize..250, 1..12),
            seed in any::<u64>(),
        ) {
            let mut edges: Vec<usize> = cuts.into_iter().map(|cut| cut * 8).filter(|cut| *cut < payload.len()).collect();
            if edges.is_empty() {
                // Not rejected: of the nightly run's cases too many would be.
                edges.push(8);
            }
            edges.insert(0, 0);
            edges.push(payload.len());
            let mut parts: Vec<_> = edges.windows(2).map(|edge| (edge[0], edge[1])).collect();
            let last = parts.len() - 1;
            parts.sort_by_key(|(start, _)| (*start as u64 + 1).wrapping_mul(seed | 1) >> 7);
            let mut table = table();
            for (index, (start, end)) in parts.iter().enumerate() {
                let piece = fragment(7, *start, *end < payload.len(), &payload[*start..*end]);
                match add(&mut table, &piece) {
                    Added::Whole(whole) => {
                        prop_assert_eq!(index, last);
                        prop_assert_eq!(&whole.bytes()[34..], &payload[..]);
                    }
                    Added::Kept => prop_assert!(index < last),
                    Added::Refused(reason, _) => prop_assert!(false, "{:?}", reason),
                }
            }
            prop_assert_eq!(table.bytes, 0);
        }

        /// Against a model that remembers every byte: no byte is ever taken twice, and memory adds up.
        #[test]
        fn random_fragments_agree_with_a_model(
            pieces in proptest::collection::vec((0usize..12, 1usize..5, any::<bool>()), 1..40),
        ) {
            let mut table = table();
            let mut model: Option<std::collections::BTreeMap<usize, (usize, bool)>> = None;
            for (start, len, more) in pieces {
                if start == 0 && !more {
                    continue;
                }
                let (start, end) = (start * 8, (start + len) * 8);
                let parts = model.get_or_insert_default();
                let duplicate = parts.get(&start).is_some_and(|part| part.0 == end);
                let last = parts.values().find(|part| !part.1).map(|part| part.0);
                let overlap = parts.iter().any(|(from, part)| *from < end && start < part.0)
                    || last.is_some_and(|last| end > last || !more)
                    || !more && parts.values().any(|part| part.0 > end);
                let added = add(&mut table, &fragment(3, start, more, &vec![9; end - start]));
                match added {
                    Added::Refused(Discard::FragmentDuplicate, 0) => prop_assert!(duplicate),
                    Added::Refused(Discard::FragmentOverlap, kept) => {
                        prop_assert!(overlap && !duplicate);
                        prop_assert_eq!(kept, parts.len());
                        model = None;
                    }
                    Added::Kept | Added::Whole(_) => {
                        prop_assert!(!overlap && !duplicate);
                        parts.insert(start, (end, more));
                        let covered: usize = parts.iter().map(|(from, part)| part.0 - from).sum();
                        let last = parts.values().find(|part| !part.1).map(|part| part.0);
                        let whole = matches!(added, Added::Whole(_));
                        prop_assert_eq!(whole, last == Some(covered));
                        if whole {
                            model = None;
                        }
                    }
                    Added::Refused(reason, _) => prop_assert!(false, "{:?}", reason),
                }
                prop_assert_eq!(table.partials.len(), usize::from(model.is_some()));
            }
        }
    }
}
