//! A thousand requests for connections at once, and a datagram behind them.

use stack::Discard;

use super::{Bench, Way, bench, datagram, place_of_two, port_owned_by};
use crate::Place;
use crate::newcomers::{NEWCOMERS, NEWCOMERS_PER_TURN};

/// From a client's port. Nobody listens, and its checksum is not right: it dies when it is handled.
fn syn(port: u16) -> Vec<u8> {
    const PROTOCOL_AT: usize = 14 + 9;
    const FLAGS_AT: usize = 14 + 20 + 13;
    let mut frame = datagram(port);
    frame.resize(14 + 20 + 20, 0);
    frame[PROTOCOL_AT] = 6;
    frame[FLAGS_AT] = 0x02;
    frame
}

fn handled(bench: &Bench) -> u64 {
    bench.worker.counters().packets_discarded - bench.worker.discards().of(Discard::NewcomersFull)
}

#[test]
fn a_datagram_behind_a_thousand_requests_for_connections_leaves_in_the_same_turn() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    let requests = NEWCOMERS - NEWCOMERS / 16;
    (0..requests).for_each(|number| bench.send(&syn(number as u16)));
    bench.send(&datagram(5000));
    bench.turn();
    assert_eq!(bench.arrived_at_backend(), 1);
    assert_eq!(handled(&bench), NEWCOMERS_PER_TURN as u64, "the requests' share of a turn");
    assert!(!bench.worker.is_idle(), "the others wait");
    for _ in 0..requests.div_ceil(NEWCOMERS_PER_TURN) {
        bench.turn();
    }
    assert_eq!(handled(&bench), requests as u64, "none is forgotten");
    assert!(bench.worker.is_idle());
}

#[test]
fn more_requests_than_may_wait_are_newcomers_full() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    for number in 0..NEWCOMERS + NEWCOMERS / 2 {
        bench.send(&syn(number as u16));
    }
    bench.turn();
    bench.turn();
    let died = bench.worker.discards().of(Discard::NewcomersFull);
    assert!(died > 0 && died <= (NEWCOMERS / 2) as u64, "{died}");
    assert_eq!(Discard::NewcomersFull.name(), "newcomers_full");
}

#[test]
fn a_request_with_data_does_not_wait() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    for number in 0..2 * NEWCOMERS_PER_TURN {
        let mut request = syn(number as u16);
        request.resize(600, 0);
        bench.send(&request);
    }
    bench.turn();
    assert_eq!(handled(&bench), 2 * NEWCOMERS_PER_TURN as u64);
}

#[test]
fn requests_that_another_worker_gave_us_wait_too() {
    let (place, ring_of_other) = place_of_two();
    let mut one = bench(place, Way::OwnPort);
    let ours = Place { number: 1, to: vec![None, None], from: vec![ring_of_other] };
    let mut other = bench(ours, Way::OwnPort);
    let theirs = syn(port_owned_by(1));
    (0..3 * NEWCOMERS_PER_TURN).for_each(|_| one.send(&theirs));
    for _ in 0..=3 {
        one.turn();
    }
    other.turn();
    assert_eq!(handled(&other), NEWCOMERS_PER_TURN as u64);
    assert_eq!(other.worker.counters().packets_from_rings, 3 * NEWCOMERS_PER_TURN as u64);
}
