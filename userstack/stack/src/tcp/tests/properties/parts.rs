//! Sequence numbers, options, cookies, the round trip, the flow table, the slab, TIME-WAIT's list and the pool, each
//! against a model that is slow and plain.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::Instant;
use crate::tcp::TcpOptions;
use crate::tcp::connection::{Connection, State};
use crate::tcp::cookie;
use crate::tcp::flows::{FlowTable, Target};
use crate::tcp::header::{Header, MIN_HEADER, Options, Timestamps};
use crate::tcp::memory::{Pool, Ring};
use crate::tcp::rtt::Rtt;
use crate::tcp::sequence::Seq;
use crate::tcp::slab::Slab;
use crate::tcp::timewait::{REST, TimeWait, TimeWaits};
use crate::tcp::tuple::{Secrets, Tuple};

fn tuple(port: u16) -> Tuple {
    Tuple::new(([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], port).into())
}

fn at_millis(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// Options by RFC 9293, section 3.2, read byte by byte.
fn options_by_the_book(bytes: &[u8]) -> Options {
    let mut options = Options::default();
    let mut at = 0;
    while at < bytes.len() && bytes[at] != 0 {
        if bytes[at] == 1 {
            at += 1;
            continue;
        }
        let Some(&len) = bytes.get(at + 1) else { break };
        let len = usize::from(len);
        if len < 2 || at + len > bytes.len() {
            break;
        }
        let number = |from: usize, octets: usize| {
            bytes[at + from..at + from + octets].iter().fold(0u32, |sum, octet| sum << 8 | u32::from(*octet))
        };
        match (bytes[at], len) {
            (2, 4) => options.mss = Some(number(2, 2) as u16),
            (3, 3) => options.window_scale = Some(number(2, 1).min(14) as u8),
            (4, 2) => options.sack_permitted = true,
            (5, 10 | 18 | 26 | 34) => {
                for block in 0..(len - 2) / 8 {
                    options.sack.push(Seq(number(2 + 8 * block, 4)), Seq(number(6 + 8 * block, 4)));
                }
            }
            (8, 10) => options.timestamps = Some(Timestamps { value: number(2, 4), echo: number(6, 4) }),
            _ => {}
        }
        at += len;
    }
    options
}

/// Well-formed options, options of any length, and rubbish, as much as fits a header.
fn option_bytes() -> impl Strategy<Value = Vec<u8>> {
    let kinds = prop_oneof![Just(2u8), Just(3), Just(4), Just(5), Just(8), any::<u8>()];
    let option = prop_oneof![
        any::<[u8; 2]>().prop_map(|[high, low]| vec![2, 4, high, low]),
        any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        Just(vec![4, 2]),
        Just(vec![1]),
        any::<[u8; 8]>().prop_map(|value| [&[8, 10], &value[..]].concat()),
        any::<[u8; 8]>().prop_map(|value| [&[5, 10], &value[..]].concat()),
        (kinds, any::<u8>(), prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(kind, len, body)| [
            &[kind, len % 40],
            &body[..]
        ]
        .concat()),
    ];
    prop::collection::vec(option, 0..8).prop_map(|options| {
        let mut bytes = options.concat();
        bytes.truncate(40);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    })
}

proptest! {
    /// Numbers less than 2^30 from a place compare as integers do.
    #[test]
    fn sequence_numbers_compare_as_integers_around_any_place(
        place: u32, one in -(1i64 << 30)..1 << 30, other in -(1i64 << 30)..1 << 30,
    ) {
        let seq = |distance: i64| Seq(place.wrapping_add(distance as u32));
        let (a, b) = (seq(one), seq(other));
        prop_assert_eq!(a.before(b), one < other);
        prop_assert_eq!(a.at_or_before(b), one <= other);
        prop_assert_eq!(a.after(b), one > other);
        prop_assert_eq!(a.at_or_after(b), one >= other);
        prop_assert_eq!(a.max(b), seq(one.max(other)));
        prop_assert_eq!(a.min(b), seq(one.min(other)));
        prop_assert_eq!(i64::from(a.saturating_since(b)), (one - other).max(0));
    }

    #[test]
    fn options_are_read_as_the_book_reads_them(bytes in option_bytes()) {
        let mut header = vec![0; MIN_HEADER];
        header[12] = ((MIN_HEADER + bytes.len()) as u8 / 4) << 4;
        header.extend(&bytes);
        prop_assert_eq!(Header::parse(&header).unwrap().0.options, options_by_the_book(&bytes));
    }

    #[test]
    fn a_cookie_that_was_guessed_or_is_old_opens_nothing(
        irs: u32, mss in 216u16.., at_seconds in 0u64..1 << 32, age_seconds in prop_oneof![128u64..4096, 128u64..1 << 32],
        guesses in prop::collection::vec(any::<u32>(), 10),
    ) {
        let secrets = Secrets::new(&[3; 32]);
        let made_at = Instant::ZERO + Duration::from_secs(at_seconds);
        let made = cookie::make(&secrets, &tuple(1), Seq(irs), mss, made_at);
        let late = made_at + Duration::from_secs(age_seconds);
        prop_assert_eq!(cookie::check(&secrets, &tuple(1), Seq(irs), made, late), None);
        for guess in guesses.into_iter().filter(|guess| Seq(*guess) != made) {
            prop_assert_eq!(cookie::check(&secrets, &tuple(1), Seq(irs), Seq(guess), made_at), None);
        }
        let others = Secrets::new(&[4; 32]);
        prop_assert_eq!(cookie::check(&others, &tuple(1), Seq(irs), made, made_at), None);
    }

    /// RFC 6298, section 2, in floating point.
    #[test]
    fn the_round_trip_is_smoothed_as_real_numbers_are(samples in prop::collection::vec(1_000u64..2_000_000_000, 1..60)) {
        let mut rtt = Rtt::default();
        let (mut smoothed, mut variance) = (0f64, 0f64);
        for (index, sample) in samples.iter().enumerate() {
            rtt.sample(*sample, Instant::ZERO);
            let sample = *sample as f64;
            if index == 0 {
                (smoothed, variance) = (sample, sample / 2.0);
            } else {
                variance = 0.75 * variance + 0.25 * (smoothed - sample).abs();
                smoothed = 0.875 * smoothed + 0.125 * sample;
            }
            // Units of 16 ns are lost to rounding, a few a sample.
            let slack = 1024.0;
            prop_assert!((rtt.smoothed_nanos() as f64 - smoothed).abs() < slack);
            let timeout = (smoothed + (4.0 * variance).max(200e6)).min(60e9);
            prop_assert!((rtt.timeout_nanos() as f64 - timeout).abs() < 8.0 * slack);
        }
        prop_assert_eq!(rtt.min_nanos() / 16, *samples.iter().min().unwrap() / 16);
    }

    /// Few hashes, so that most entries collide.
    #[test]
    fn the_flow_table_is_a_map(steps in prop::collection::vec((0u32..40, any::<bool>(), any::<bool>()), 1..200)) {
        let (mut table, mut model) = (FlowTable::default(), HashMap::new());
        let hash = |flow: u32| flow % 5 * 0x0101_0101;
        for (flow, add, resting) in steps {
            let target = if resting { Target::TimeWait(flow) } else { Target::Connection(flow) };
            if add && !model.contains_key(&flow) {
                table.insert(hash(flow), target);
                model.insert(flow, target);
            } else if !add {
                let known = model.get(&flow) == Some(&target);
                prop_assert_eq!(table.remove(hash(flow), target), known);
                if known { model.remove(&flow); }
            }
            for flow in 0..40 {
                let named = [Target::Connection(flow), Target::TimeWait(flow)];
                let found = table.find(hash(flow), |target| named.contains(&target));
                prop_assert_eq!(found, model.get(&flow).copied());
            }
        }
    }

    /// A key finds what it was given for, and nothing once that is gone.
    #[test]
    fn the_slab_is_a_map_whose_keys_never_come_back(steps in prop::collection::vec((any::<bool>(), 0usize..64), 1..200)) {
        let (mut slab, mut model, mut gone) = (Slab::new(), Vec::new(), Vec::new());
        for (number, (add, which)) in steps.into_iter().enumerate() {
            if add {
                model.push((slab.insert(number), number));
            } else if !model.is_empty() {
                let ((slot, life), value) = model.swap_remove(which % model.len());
                prop_assert_eq!(slab.remove(slot), Some(value));
                gone.push((slot, life));
            }
            prop_assert_eq!(slab.len(), model.len());
            prop_assert!(model.iter().all(|((slot, life), value)| slab.get(*slot, *life) == Some(value)));
            prop_assert!(gone.iter().all(|(slot, life)| slab.get(*slot, *life).is_none()));
        }
    }

    /// In order of age, whatever is restarted or taken out of the middle.
    #[test]
    fn time_wait_entries_expire_in_order_and_on_time(
        steps in prop::collection::vec((0u8..4, 0usize..64, 0u64..20_000), 1..100),
    ) {
        let (mut waits, mut model) = (TimeWaits::new(), Vec::<(u32, u64)>::new());
        // Across the wrap of the 32 bits in which entries keep their time.
        let mut now = (1 << 32) - 200_000u64;
        for (kind, which, pause) in steps {
            now += pause;
            let rest = REST.as_millis() as u64;
            while let Some(slot) = waits.expired(at_millis(now)) {
                let (oldest, expires) = model.remove(0);
                prop_assert_eq!(oldest, slot);
                prop_assert!(expires <= now, "never early");
                waits.remove(slot);
            }
            prop_assert!(model.first().is_none_or(|(_, expires)| *expires > now), "never late");
            match kind {
                0 | 1 => {
                    let options = TcpOptions::default();
                    let state = State::FinWait2;
                    let connection = Connection::new(tuple(1), Seq(1), state, &options, at_millis(now));
                    model.push((waits.insert(TimeWait::new(&connection, at_millis(now))), now + rest));
                }
                2 if !model.is_empty() => {
                    let (slot, _) = model.remove(which % model.len());
                    waits.restart(slot, at_millis(now));
                    model.push((slot, now + rest));
                }
                3 if !model.is_empty() => {
                    let (slot, _) = model.remove(which % model.len());
                    prop_assert!(waits.remove(slot).is_some());
                }
                _ => {}
            }
            prop_assert_eq!(waits.len(), model.len());
            prop_assert_eq!(waits.oldest(), model.first().map(|(slot, _)| *slot));
            let promised = waits.next_timeout(now).map(|at| at.as_millis());
            prop_assert_eq!(promised, model.first().map(|(_, expires)| *expires));
        }
    }

    /// What is lent is the sum of what rings hold, and never more than the budget; bytes survive every growth.
    #[test]
    fn the_pools_account_is_the_sum_of_its_rings(
        steps in prop::collection::vec((0usize..8, 0u8..3, 1usize..20_000), 1..100),
    ) {
        const BUDGET: usize = 256 << 10;
        let mut pool = Pool::new(BUDGET);
        let mut rings: Vec<(Ring, Vec<u8>)> = (0..8).map(|_| Default::default()).collect();
        for (which, kind, amount) in steps {
            let (ring, model) = &mut rings[which];
            match kind {
                0 => if ring.reserve(&mut pool, ring.len() + amount) {
                    let text: Vec<u8> = (0..amount).map(|place| (place + model.len()) as u8).collect();
                    ring.write_at(ring.len(), &text);
                    ring.extend(amount);
                    model.extend(text);
                },
                1 => {
                    let mut read = Vec::new();
                    let taken = ring.read_with(amount, |bytes| read.extend_from_slice(bytes));
                    prop_assert_eq!(read, model.drain(..taken).collect::<Vec<_>>());
                }
                _ => {
                    ring.release(&mut pool);
                    model.clear();
                }
            }
            let held: usize = rings.iter().map(|(ring, _)| ring.capacity()).sum();
            prop_assert_eq!(pool.lent_bytes(), held);
            prop_assert!(held <= BUDGET);
        }
    }
}
