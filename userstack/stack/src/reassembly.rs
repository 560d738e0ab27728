//! Fragments put together again: RFC 791 section 3.2 and RFC 8200 section 4.5, bounded in packets, bytes and time,
//! overlaps refused for both versions (RFC 5722; for IPv4 by RFC 8900's reasons).
//!
//! Where room is wanting, the oldest packet gives way: fragments that belong together arrive together, and what has
//! waited longest is what nobody completes. A table that refused the newest instead would be closed for half a minute by
//! as many single fragments as it has places. A sender has a part of the table only, and loses its own oldest beyond it.

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
/// Of these, packets of one sender.
const MAX_OF_ONE_SOURCE: usize = 64;
/// Fragments of one packet: 65,535 bytes in pieces of 512, which is less than any link's MTU leaves.
const MAX_PARTS: usize = 128;
/// How long fragments wait (Linux: ipfrag_time; RFC 8200 and RFC 1122 allow 60 s, at our memory's cost).
const LIFETIME: Duration = Duration::from_secs(30);
/// Congestion experienced (RFC 3168, section 5).
const CE: u8 = 0b11;
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
    /// What is held, the books' own bytes included.
    bytes: usize,
    max_bytes: usize,
    /// Packets begun so far, which tells the older of two.
    begun: u64,
    /// Fragments of packets that gave way, and that nobody has been told of.
    evicted: usize,
}

#[derive(Debug)]
struct Partial {
    timer: TimerId,
    number: u64,
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

/// What a packet that waits costs beside its bytes: its entry here and its timer; and what each part does.
const PARTIAL_BYTES: usize = size_of::<(Whole, Partial)>() + 64;
const PART_BYTES: usize = size_of::<Part>();

/// The packet of the least number so far.
#[derive(Copy, Clone, Debug, Default)]
struct Oldest(Option<(u64, Whole)>);

impl Oldest {
    #[inline]
    fn consider(&mut self, key: &Whole, number: u64) {
        if self.0.is_none_or(|(least, _)| number < least) {
            self.0 = Some((number, *key));
        }
    }
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
        let partials = Map::with_hasher(key);
        Self { partials, timers: Wheel::new(now), bytes: 0, max_bytes, begun: 0, evicted: 0 }
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
            self.make_place(key.source);
            self.begin(key, now);
        }
        if !self.make_room(key, range.1 - range.0 + PART_BYTES + header.transport - header.network) {
            return self.refuse(key, Discard::ReassemblyFull);
        }
        let Some(partial) = self.partials.get_mut(&key) else {
            unreachable!("a partial was just found or made, and does not give way to itself");
        };
        let before = partial.held();
        let result = partial.add(range, fragment, header, packet);
        self.bytes = self.bytes + partial.held() - before;
        match result {
            Err(reason @ (Discard::FragmentDuplicate | Discard::FragmentOfRefused)) => {
                Added::Refused(reason, 0)
            }
            Err(reason) => self.refuse(key, reason),
            Ok(false) => Added::Kept,
            Ok(true) => match self.remove(key) {
                Some(partial) => Added::Whole(partial.join(header, packet)),
                None => unreachable!("the partial that was completed is in the table"),
            },
        }
    }

    fn begin(&mut self, key: Whole, now: Instant) {
        self.begun += 1;
        let partial = Partial {
            timer: self.timers.insert(now + LIFETIME, key),
            number: self.begun,
            header: Vec::new(),
            protocol: (0, 0),
            parts: Vec::new(),
            len: None,
            refused: false,
            ce: false,
        };
        self.bytes += partial.held();
        self.partials.insert(key, partial);
    }

    /// A place for one more packet of `source`. The table is looked through once, and only when it is well filled.
    fn make_place(&mut self, source: u128) {
        if self.partials.len() < MAX_OF_ONE_SOURCE {
            return;
        }
        let (mut own, mut oldest, mut oldest_own) = (0, Oldest::default(), Oldest::default());
        for (key, partial) in &self.partials {
            oldest.consider(key, partial.number);
            if key.source == source {
                own += 1;
                oldest_own.consider(key, partial.number);
            }
        }
        if own >= MAX_OF_ONE_SOURCE {
            self.evict(oldest_own);
        } else if self.partials.len() >= MAX_PARTIALS {
            self.evict(oldest);
        }
    }

    /// Room for `bytes` more of the packet `key`; false when all others together would not make it.
    fn make_room(&mut self, key: Whole, bytes: usize) -> bool {
        while self.bytes + bytes > self.max_bytes {
            let mut oldest = Oldest::default();
            let others = self.partials.iter().filter(|(other, _)| **other != key);
            others.for_each(|(other, partial)| oldest.consider(other, partial.number));
            if oldest.0.is_none() {
                return false;
            }
            self.evict(oldest);
        }
        true
    }

    fn evict(&mut self, oldest: Oldest) {
        let gone = oldest.0.and_then(|(_, key)| self.remove(key));
        self.evicted += gone.map_or(0, |partial| partial.parts.len());
    }

    /// Fragments of packets that gave way since this was asked last.
    pub fn take_evicted(&mut self) -> usize {
        std::mem::take(&mut self.evicted)
    }

    /// Gives a packet up. RFC 8200, section 4.5 wants the rest of it refused too, whenever it comes; IPv4's identification
    /// is too short for that, since another packet has the same soon.
    fn refuse(&mut self, key: Whole, reason: Discard) -> Added {
        let is_v6 = key.protocol == 0;
        if reason != Discard::FragmentOverlap || !is_v6 {
            let kept = self.remove(key).map_or(0, |partial| partial.parts.len());
            return Added::Refused(reason, kept);
        }
        let Some(partial) = self.partials.get_mut(&key) else { return Added::Refused(reason, 0) };
        let (before, kept) = (partial.held(), partial.parts.len());
        (partial.parts, partial.header, partial.refused) = (Vec::new(), Vec::new(), true);
        self.bytes = self.bytes + partial.held() - before;
        Added::Refused(reason, kept)
    }

    fn remove(&mut self, key: Whole) -> Option<Partial> {
        let partial = self.partials.remove(&key)?;
        self.bytes -= partial.held();
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
    /// Bytes that it costs while it waits.
    fn held(&self) -> usize {
        let parts: usize = self.parts.iter().map(|part| PART_BYTES + part.bytes.len()).sum();
        PARTIAL_BYTES + self.header.len() + parts
    }

    /// Puts a fragment's bytes in their place; true when all are here.
    fn add(
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

    fn join(mut self, header: &Header, packet: &dyn Chain) -> Contiguous {
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

    #[test]
    fn a_mark_on_one_part_is_a_mark_on_the_whole_where_the_sender_offered_it() {
        for (offered, expected) in [(0b10, CE), (0, 0)] {
            let mut table = table();
            let mark = |offset, more, ecn: u8| {
                let mut packet = fragment(1, offset, more, &[0; 16]);
                let header = &mut packet.chunk_mut(0)[14..34];
                header[1] = ecn;
                header[10..12].fill(0);
                let sum = crate::checksum::Sum::of(header).checksum();
                set_word(header, 10, sum);
                packet
            };
            add(&mut table, &mark(0, true, offered));
            let Added::Whole(whole) = add(&mut table, &mark(16, false, CE)) else { panic!() };
            assert_eq!(ipv4::parse(whole.bytes(), 14, whole.total_len()).unwrap().ecn, expected);
        }
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
    fn a_packet_of_more_bytes_than_may_wait_is_reassembly_full() {
        let mut table = Reassembly::new(Key::new(&[0; 32], 0), 1500, Instant::ZERO);
        add(&mut table, &fragment(1, 0, true, &[1; 800]));
        let refused = refusal(add(&mut table, &fragment(1, 800, true, &[1; 800])));
        assert_eq!(refused, Some((Discard::ReassemblyFull, 1)));
        assert_eq!((table.bytes, table.partials.len()), (0, 0));
    }

    #[test]
    fn a_senders_oldest_packet_gives_way_to_its_newest() {
        let mut table = table();
        for identification in 0..=MAX_OF_ONE_SOURCE as u16 {
            assert!(matches!(add(&mut table, &fragment(identification, 0, true, &[1; 8])), Added::Kept));
        }
        assert_eq!((table.take_evicted(), table.take_evicted()), (1, 0));
        assert_eq!(table.partials.len(), MAX_OF_ONE_SOURCE);
        assert!(
            matches!(add(&mut table, &fragment(0, 8, false, &[1; 8])), Added::Kept),
            "of number 0 nothing is left"
        );
        let newest = fragment(MAX_OF_ONE_SOURCE as u16, 8, false, &[1; 8]);
        assert!(matches!(add(&mut table, &newest), Added::Whole(_)));
    }

    #[test]
    fn a_far_offset_holds_no_more_than_its_bytes() {
        let mut table = table();
        add(&mut table, &fragment(1, 65_000, true, &[1; 8]));
        assert!(table.bytes < 512, "{} bytes", table.bytes);
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
