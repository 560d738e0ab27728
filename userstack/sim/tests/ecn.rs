//! Congestion that is said and not shown (RFC 3168), from end to end: a queue marks what finds it long, the receiver echoes
//! the mark, and the sender slows down before anything is lost.

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use common::listen;
use sim::{Address, Fate, HostPair, LinkConfig, LinkFaults};
use socket::{Congestion, Ecn, TcpOptions, TcpStream, sleep, spawn};

const PORT: u16 = 7;
/// 10 Mb/s and 40 ms there and back: 50 KB fill the pipe, four times as many the queue.
const BITS_PER_SECOND: u64 = 10_000_000;
const ONE_WAY: Duration = Duration::from_millis(10);
const ROUND_TRIP: Duration = Duration::from_millis(40);
const QUEUE_BYTES: usize = 200_000;
/// Half of a pipe.
const MARKED_FROM_BYTES: u32 = 25_000;
/// What of a full Ethernet frame is text.
const TEXT_SHARE: f64 = 1448.0 / 1514.0;
const TIME: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What one bulk connection did.
#[derive(Debug)]
struct Seen {
    /// Of the link's bandwidth.
    share: f64,
    sent_again: u32,
    marked: u64,
    overflowed: u64,
    /// Falls of the congestion window: when, and from what to what.
    falls: Vec<(Duration, u32, u32)>,
    /// The longest round trip, smoothed, after the first second.
    longest: Duration,
}

#[derive(Clone, Default)]
struct Notes {
    received: Rc<Cell<u64>>,
    sent_again: Rc<Cell<u32>>,
    falls: Rc<RefCell<Vec<(Duration, u32, u32)>>>,
    longest: Rc<Cell<Duration>>,
}

fn bulk(family: Address, congestion: Congestion, ecn: Ecn) -> Seen {
    let faults = LinkFaults { mark_above_bytes: MARKED_FROM_BYTES, ..LinkFaults::NONE };
    let link = LinkConfig {
        bits_per_second: BITS_PER_SECOND,
        delay: ONE_WAY,
        queue_bytes: QUEUE_BYTES,
        faults,
        ..LinkConfig::default()
    };
    let mut pair = HostPair::new(1, link);
    let notes = Notes::default();
    let received = Rc::clone(&notes.received);
    pair.server.borrow_mut().spawn(async move {
        let stream = listen(family, PORT).accept().await.expect("the listener lives");
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(len @ 1..) = stream.read(&mut buffer).await {
            received.set(received.get() + len as u64);
        }
    });
    let (remote, seen) = (pair.server_socket(family, PORT), notes.clone());
    let options = TcpOptions { congestion, ecn, ..TcpOptions::default() };
    pair.client.borrow_mut().spawn(async move {
        let stream = TcpStream::connect(remote, None, options).await.expect("the server listens");
        let stream = Rc::new(stream);
        spawn(watch(Rc::clone(&stream), seen));
        let text = vec![7; 64 * 1024];
        while stream.write_all(&text).await.is_ok() {}
    });
    pair.network.run_for(TIME);
    let trace = pair.network.trace();
    Seen {
        share: notes.received.get() as f64 * 8.0 / (BITS_PER_SECOND as f64 * TEXT_SHARE * TIME.as_secs_f64()),
        sent_again: notes.sent_again.get(),
        marked: trace.count(Fate::MarkedByQueue),
        overflowed: trace.count(Fate::QueueFull),
        falls: notes.falls.take(),
        longest: notes.longest.get(),
    }
}

/// Looks at the sender each millisecond.
async fn watch(stream: Rc<TcpStream>, notes: Notes) {
    let (mut at, mut before) = (Duration::ZERO, 0);
    while let Some(info) = stream.info() {
        let window = info.congestion_window_bytes;
        if window < before {
            notes.falls.borrow_mut().push((at, before, window));
        }
        before = window;
        notes.sent_again.set(info.retransmitted_segments);
        if at > Duration::from_secs(1) {
            notes.longest.set(notes.longest.get().max(info.smoothed_rtt.unwrap_or_default()));
        }
        sleep(LOOK_EVERY).await;
        at += LOOK_EVERY;
    }
}

#[test]
fn a_queue_that_marks_loses_nothing_and_its_link_is_used() {
    for family in Address::BOTH {
        for control in Congestion::ALL {
            let seen = bulk(family, control, Ecn::Active);
            assert!(seen.marked > 0, "{family:?}, {control:?}: nothing was marked");
            assert_eq!((seen.overflowed, seen.sent_again), (0, 0), "{family:?}, {control:?}");
            assert!(seen.share > 0.85, "{family:?}, {control:?}: {}", seen.share);
        }
    }
}

/// Control: of who does not listen nothing is marked, and those who go by loss fill the queue until it overflows.
#[test]
fn without_ecn_the_same_queue_overflows() {
    for control in [Congestion::Cubic, Congestion::NewReno] {
        let seen = bulk(Address::V4, control, Ecn::Off);
        assert_eq!(seen.marked, 0, "{control:?}");
        assert!(seen.overflowed > 0 && seen.sent_again > 0, "{control:?}: {seen:?}");
    }
}

/// RFC 3168, section 6.1.2; RFC 5681, equation 4; RFC 9438, section 4.6.
#[test]
fn echoes_lower_the_window_once_a_round_trip_by_the_share_of_the_control() {
    for (control, percent) in [(Congestion::NewReno, 50), (Congestion::Cubic, 70)] {
        let seen = bulk(Address::V4, control, Ecn::Active);
        let falls = &seen.falls;
        assert!(falls.len() >= 5, "{control:?}: {falls:?}");
        assert!(seen.marked > 3 * falls.len() as u64, "{control:?}: {} marks, {falls:?}", seen.marked);
        for pair in falls.windows(2) {
            assert!(pair[1].0 - pair[0].0 >= ROUND_TRIP - LOOK_EVERY, "{control:?}: {pair:?}");
        }
        // Of the flight, which is up to a segment less than the window.
        for (at, from, to) in falls {
            let share = u64::from(*to) * 100 / u64::from(*from);
            assert!((percent - 5..=percent).contains(&share), "{control:?}: {from} to {to} at {at:?}");
        }
    }
}

/// BBR has no use for a full queue; what it sends with marks stays at the queue's threshold.
#[test]
fn bbr_keeps_the_queue_about_where_it_is_marked() {
    let seen = bulk(Address::V4, Congestion::Bbr, Ecn::Active);
    let queue = Duration::from_secs_f64(f64::from(2 * MARKED_FROM_BYTES) * 8.0 / BITS_PER_SECOND as f64);
    assert!(seen.longest < ROUND_TRIP + queue, "{:?}", seen.longest);
}
