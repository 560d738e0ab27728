//! The whole table against a list: packets of several senders and both versions, more of them than there are places, in
//! less memory than they want, over minutes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::prelude::*;

use super::super::partial::{MAX_PARTS, PART_BYTES};
use super::super::{Added, LIFETIME, MAX_OF_ONE_SOURCE, MAX_PARTIALS, Reassembly, WAITING_BYTES};
use super::fragment;
use crate::chain::Contiguous;
use crate::hash::Key;
use crate::{Discard, Instant, ipv4, ipv6};

/// Room for the headers of every packet there may be, and for less than all of their text.
const MAX_BYTES: usize = 96 << 10;
/// Waits are odd, so that no fragment's time is over just when a timer is rounded.
const ODD: Duration = Duration::from_millis(1);
const V6_HEADERS: usize = 48;

#[derive(Clone, Debug)]
enum Step {
    /// Eight-byte units: from, length; and whether more follow.
    Fragment {
        of: Packet,
        start: usize,
        len: usize,
        more: bool,
    },
    /// First fragments of so many packets of a sender.
    Flood {
        of: Packet,
        packets: u16,
    },
    Wait(u64),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Packet {
    source: u8,
    identification: u16,
    v6: bool,
}

fn packet() -> impl Strategy<Value = Packet> {
    (0u8..6, 0u16..4, any::<bool>()).prop_map(|(source, identification, v6)| Packet {
        source,
        identification,
        v6,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        30 => (packet(), 0usize..10, 1usize..6, prop::bool::weighted(0.8))
            .prop_map(|(of, start, len, more)| Step::Fragment { of, start, len, more }),
        // What a packet's memory is spent by.
        4 => (packet(), 10usize..200, 40usize..160).prop_map(|(of, start, len)| Step::Fragment { of, start, len, more: true }),
        2 => (packet(), 1u16..80).prop_map(|(of, packets)| Step::Flood { of, packets }),
        2 => (1u64..40).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..120)
}

/// A packet as a list of what came of it.
#[derive(Debug)]
struct Known {
    packet: Packet,
    begun_at: Instant,
    /// First byte, end, and whether more follow.
    parts: Vec<(usize, usize, bool)>,
    refused: bool,
}

impl Known {
    fn bytes(&self) -> usize {
        let headers = match (self.parts.iter().any(|part| part.0 == 0), self.packet.v6) {
            (false, _) => 0,
            (true, false) => 20,
            (true, true) => 40,
        };
        WAITING_BYTES
            + headers
            + self.parts.iter().map(|(start, end, _)| PART_BYTES + end - start).sum::<usize>()
    }

    fn end(&self) -> Option<usize> {
        self.parts.iter().find(|part| !part.2).map(|part| part.1)
    }

    fn is_whole(&self) -> bool {
        self.end() == Some(self.parts.iter().map(|(start, end, _)| end - start).sum())
    }

    /// What is wrong with a fragment, in the order in which it is asked.
    fn refusal(&self, (start, end, more): (usize, usize, bool)) -> Option<Discard> {
        if self.refused {
            return Some(Discard::FragmentOfRefused);
        }
        if self.parts.iter().any(|part| (part.0, part.1) == (start, end)) {
            return Some(Discard::FragmentDuplicate);
        }
        let overlaps = self.parts.iter().any(|part| part.0 < end && start < part.1);
        let beyond = self.end().is_some_and(|last| end > last || !more && end != last)
            || !more && self.parts.iter().any(|part| part.1 > end);
        if overlaps || beyond {
            return Some(Discard::FragmentOverlap);
        }
        (self.parts.len() == MAX_PARTS).then_some(Discard::FragmentsTooMany)
    }
}

/// Oldest first.
#[derive(Debug, Default)]
struct Model {
    known: Vec<Known>,
    evicted: usize,
}

/// As [`Added`], with the whole's length.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Kept,
    Whole(usize),
    Refused(Discard, usize),
}

impl Model {
    fn bytes(&self) -> usize {
        self.known.iter().map(Known::bytes).sum()
    }

    fn place(&self, packet: Packet) -> Option<usize> {
        self.known.iter().position(|known| known.packet == packet)
    }

    fn evict(&mut self, which: impl Fn(&Known) -> bool) -> bool {
        let oldest = self.known.iter().position(which);
        if let Some(oldest) = oldest {
            self.evicted += self.known.remove(oldest).parts.len();
        }
        oldest.is_some()
    }

    fn begin(&mut self, packet: Packet, now: Instant) {
        let of_source = |known: &Known| (known.packet.source, known.packet.v6) == (packet.source, packet.v6);
        if self.known.iter().filter(|known| of_source(known)).count() >= MAX_OF_ONE_SOURCE {
            self.evict(of_source);
        } else if self.known.len() >= MAX_PARTIALS {
            self.evict(|_| true);
        }
        self.known.push(Known { packet, begun_at: now, parts: Vec::new(), refused: false });
    }

    fn add(&mut self, packet: Packet, part: (usize, usize, bool), now: Instant) -> Expected {
        if self.place(packet).is_none() {
            self.begin(packet, now);
        }
        let headers = if packet.v6 { V6_HEADERS } else { 20 };
        while self.bytes() + part.1 - part.0 + PART_BYTES + headers > MAX_BYTES {
            if !self.evict(|known| known.packet != packet) {
                return Expected::Refused(Discard::ReassemblyFull, self.remove(packet));
            }
        }
        let at = self.place(packet).expect("it was just put in");
        let known = &mut self.known[at];
        match known.refusal(part) {
            Some(reason @ (Discard::FragmentDuplicate | Discard::FragmentOfRefused)) => {
                Expected::Refused(reason, 0)
            }
            // RFC 8200, section 4.5: what still comes of it is refused as well.
            Some(Discard::FragmentOverlap) if packet.v6 => {
                known.refused = true;
                Expected::Refused(Discard::FragmentOverlap, std::mem::take(&mut known.parts).len())
            }
            Some(reason) => Expected::Refused(reason, self.remove(packet)),
            None => {
                known.parts.push(part);
                match known.end().filter(|_| known.is_whole()) {
                    Some(end) => {
                        self.remove(packet);
                        Expected::Whole(end)
                    }
                    None => Expected::Kept,
                }
            }
        }
    }

    fn remove(&mut self, packet: Packet) -> usize {
        self.place(packet).map_or(0, |at| self.known.remove(at).parts.len())
    }

    /// Fragments of each packet whose time is over, oldest first.
    fn expire(&mut self, now: Instant) -> Vec<usize> {
        let (over, left) = self.known.drain(..).partition(|known| known.begun_at + LIFETIME <= now);
        self.known = left;
        over.into_iter().map(|known: Known| known.parts.len()).collect()
    }
}

/// The byte of a packet at a place.
fn text(packet: Packet, at: usize) -> u8 {
    (at as u8).wrapping_mul(7) ^ packet.source ^ (packet.identification as u8) << 3
}

fn frame(packet: Packet, (start, end, more): (usize, usize, bool)) -> Contiguous {
    let payload: Vec<u8> = (start..end).map(|at| text(packet, at)).collect();
    if !packet.v6 {
        let mut frame = fragment(packet.identification, start, more, &payload);
        let header = &mut crate::Chain::chunk_mut(&mut frame, 0)[14..34];
        header[12..16].copy_from_slice(&Ipv4Addr::new(10, 0, 1, packet.source).octets());
        header[10..12].fill(0);
        let sum = crate::checksum::Sum::of(header).checksum();
        crate::wire::set_word(header, 10, sum);
        return frame;
    }
    let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).octets();
    let field = start as u16 | u16::from(more);
    let fixed = [0x60, 0, 0, 0, 0, 0, 44, 64];
    let mut header = [&fixed[..], &address(0x100 + u16::from(packet.source)), &address(1)].concat();
    crate::wire::set_word(&mut header, 4, 8 + payload.len() as u16);
    header.extend_from_slice(&[17, 0]);
    header.extend_from_slice(&field.to_be_bytes());
    header.extend_from_slice(&u32::from(packet.identification).to_be_bytes());
    Contiguous::joined(&[&[0; 14], &header, &payload])
}

fn add(table: &mut Reassembly, packet: Packet, part: (usize, usize, bool), now: Instant) -> Added {
    let frame = frame(packet, part);
    let parse = if packet.v6 { ipv6::parse } else { ipv4::parse };
    let header = parse(frame.bytes(), 14, crate::Chain::total_len(&frame)).unwrap();
    assert!(matches!(header.source, IpAddr::V6(_)) == packet.v6);
    table.add(&header, &header.fragment.unwrap(), &frame, now)
}

/// What the table made is the packet: of its length, without a fragment header, and with its own text.
fn check_whole(packet: Packet, whole: &Contiguous, len: usize) -> Result<(), TestCaseError> {
    let parse = if packet.v6 { ipv6::parse } else { ipv4::parse };
    let header = parse(whole.bytes(), 14, crate::Chain::total_len(whole)).unwrap();
    prop_assert_eq!((header.fragment, header.protocol, header.transport_len()), (None, 17, len));
    let own =
        whole.bytes()[header.transport..].iter().enumerate().all(|(at, byte)| *byte == text(packet, at));
    prop_assert!(own, "another packet's text");
    Ok(())
}

proptest! {
    #[test]
    fn a_table_of_many_packets_is_a_list_of_them(steps in steps()) {
        let mut table = Reassembly::new(Key::new(&[0; 32], 0), MAX_BYTES, Instant::ZERO);
        let (mut model, mut now) = (Model::default(), Instant::ZERO + ODD);
        for step in steps {
            let pieces: Vec<_> = match step {
                // That would be no fragment.
                Step::Fragment { start: 0, more: false, .. } => vec![],
                Step::Fragment { of, start, len, more } => vec![(of, (8 * start, 8 * (start + len), more))],
                Step::Flood { of, packets } => (0..packets)
                    .map(|number| (Packet { identification: 100 + number, ..of }, (0, 8, true)))
                    .collect(),
                Step::Wait(seconds) => {
                    now = now + Duration::from_secs(seconds) + ODD;
                    let mut work = usize::MAX;
                    let expired: Vec<_> = std::iter::from_fn(|| table.poll_expired(now, &mut work)).collect();
                    prop_assert_eq!(expired, model.expire(now));
                    vec![]
                }
            };
            for (packet, part) in pieces {
                let expected = model.add(packet, part, now);
                let added = match add(&mut table, packet, part, now) {
                    Added::Kept => Expected::Kept,
                    Added::Refused(reason, kept) => Expected::Refused(reason, kept),
                    Added::Whole(whole) => {
                        let Expected::Whole(len) = expected else { panic!("{packet:?} is not whole") };
                        check_whole(packet, &whole, len)?;
                        Expected::Whole(len)
                    }
                };
                prop_assert_eq!(added, expected);
                prop_assert_eq!(table.take_evicted(), std::mem::take(&mut model.evicted));
            }
            prop_assert_eq!((table.bytes, table.partials.len()), (model.bytes(), model.known.len()));
        }
    }
}
