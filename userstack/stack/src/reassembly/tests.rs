//! Fragments in any order, doubled, overlapping, too many and never ending.

mod model;

use proptest::prelude::*;

use super::partial::{CE, MAX_PARTS};
use super::*;
use crate::ipv4;
use crate::wire::set_word;

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
    assert_eq!(refusal(add(&mut table(), &fragment(1, 8, false, &[]))), Some((Discard::FragmentLength, 0)));
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
