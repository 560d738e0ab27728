//! The model on a path that is arithmetic: a bandwidth, a round trip, a queue.

use std::collections::VecDeque;

use super::signals::NONE;
use super::*;
use crate::tcp::congestion::rate::Stamp;
use crate::tcp::sequence::Seq;

const MSS: u32 = 1000;
const MS: u64 = 1_000_000;

/// A path that delivers a segment every `step_nanos`; what is in flight beyond it waits, or is lost.
struct Path {
    bbr: Bbr,
    window: Window,
    now: u64,
    step_nanos: u64,
    round_trip: u64,
    /// Segments in flight: when each arrives and was sent, and its stamp.
    flight: VecDeque<(u64, u64, Stamp)>,
    next_send: u64,
    free_at: u64,
    queue_segments: u64,
    lose_every: u64,
    /// Acknowledgements come in heaps, once in so long.
    heap_nanos: u64,
    sent: u64,
    delivered: u64,
}

impl Path {
    fn new(step_nanos: u64, round_trip: u64) -> Self {
        Self {
            bbr: Bbr::default(),
            window: Window::new(MSS),
            now: 0,
            step_nanos,
            round_trip,
            flight: VecDeque::new(),
            next_send: 0,
            free_at: 0,
            queue_segments: 1_000,
            lose_every: u64::MAX,
            heap_nanos: 1,
            sent: 0,
            delivered: 0,
        }
    }

    fn rate(&self) -> u64 {
        u64::from(MSS) * 1_000_000_000 / self.step_nanos
    }

    /// Sends what pace and window allow and delivers in the order of time, until `until`. Gives the goodput.
    fn run(&mut self, until: u64) -> u64 {
        let (start, before) = (self.now, self.delivered);
        while self.now < until {
            let room = (self.flight.len() as u32 + 1) * MSS <= self.window.congestion;
            let arrival = self.flight.front().map(|(arrives, ..)| *arrives);
            match arrival {
                Some(arrives) if !room || arrives <= self.next_send => self.deliver(arrives),
                _ => self.send(),
            }
        }
        (self.delivered - before) * u64::from(MSS) * 1_000_000_000 / (self.now - start).max(1)
    }

    fn send(&mut self) {
        self.now = self.now.max(self.next_send);
        let pace = self.bbr.pace(&self.window, 0, self.round_trip).max(1);
        self.next_send = self.now + u64::from(MSS) * 1_000_000_000 / pace;
        let pipe = self.flight.len() as u32 * MSS;
        let stamp = self.bbr.sampler.on_sent(MSS, pipe, Instant::from_nanos(self.now));
        self.sent += 1;
        let waiting = self.free_at.saturating_sub(self.now) / self.step_nanos;
        if waiting > self.queue_segments || self.sent.is_multiple_of(self.lose_every) {
            self.bbr.sampler.on_lost(MSS);
            return;
        }
        self.free_at = self.free_at.max(self.now) + self.step_nanos;
        let arrives = (self.free_at + self.round_trip).next_multiple_of(self.heap_nanos);
        self.flight.push_back((arrives, self.now, stamp));
    }

    fn deliver(&mut self, arrives: u64) {
        let Some((_, sent_at, stamp)) = self.flight.pop_front() else { return };
        self.now = self.now.max(arrives);
        self.delivered += 1;
        let now = Instant::from_nanos(self.now);
        let newest = Some((stamp, Instant::from_nanos(sent_at)));
        let sample = self.bbr.sampler.on_delivered(MSS, newest, self.round_trip, now);
        let acked = Acked {
            bytes: MSS,
            unacked: Seq(0),
            next: Seq(0),
            pipe: self.flight.len() as u32 * MSS,
            rtt_nanos: Some(self.now - sent_at),
            smoothed_rtt_nanos: self.round_trip,
            limited: true,
            sample,
            now,
        };
        self.bbr.on_ack(&mut self.window, &acked);
    }
}

#[test]
fn startup_finds_the_bandwidth_and_the_queue_is_drained() {
    // 8 Mb/s, 50 ms.
    let mut path = Path::new(MS, 50 * MS);
    path.run(2_000 * MS);
    assert!(path.bbr.full.reached);
    assert!(path.bbr.probes_bandwidth(), "{:?}", path.bbr.state);
    let found = path.bbr.bandwidth.max();
    assert!((path.rate() * 9 / 10..path.rate() * 11 / 10).contains(&found), "{found} of {}", path.rate());
}

#[test]
fn the_path_is_used_and_the_queue_stays_short() {
    let mut path = Path::new(MS, 50 * MS);
    path.run(3_000 * MS);
    let goodput = path.run(20_000 * MS);
    assert!(goodput > path.rate() * 90 / 100, "{goodput} of {}", path.rate());
    assert!(path.window.congestion < 3 * 50 * MSS, "{}", path.window.congestion);
}

#[test]
fn a_twentieth_lost_at_random_leaves_the_path_used() {
    let mut path = Path::new(MS, 50 * MS);
    path.lose_every = 20;
    path.run(3_000 * MS);
    let goodput = path.run(20_000 * MS);
    assert!(goodput > path.rate() * 85 / 100, "{goodput} of {}", path.rate());
}

/// 4 ms and 66 Mb/s between hosts that look each millisecond and a half: a segment of 64 is one of two rounds.
#[test]
fn a_short_path_whose_acknowledgements_come_in_heaps_is_used_when_it_loses_at_random() {
    let mut path = Path::new(120_000, 4 * MS);
    (path.heap_nanos, path.lose_every) = (3 * MS / 2, 64);
    path.run(3_000 * MS);
    let goodput = path.run(20_000 * MS);
    assert!(goodput > path.rate() * 90 / 100, "{goodput} of {}", path.rate());
}

#[test]
fn a_round_trip_that_grew_is_believed_after_the_flight_was_made_small() {
    let mut path = Path::new(MS, 50 * MS);
    path.run(4_000 * MS);
    path.round_trip = 80 * MS;
    let (mut at, mut narrowest) = (4_000, u32::MAX);
    while at < 20_000 {
        at += 1;
        path.run(at * MS);
        if path.bbr.state == State::ProbeRtt {
            narrowest = narrowest.min(path.window.congestion);
        }
    }
    assert!(narrowest <= 50 * MSS, "half a pipe while it looks: {narrowest}");
    assert!((80 * MS..85 * MS).contains(&path.bbr.round_trip.min), "{}", path.bbr.round_trip.min);
}

#[test]
fn a_mark_while_probing_ends_the_probe_and_bounds_the_flight() {
    let mut path = Path::new(MS, 50 * MS);
    path.run(2_000 * MS);
    let mut at = 2_000;
    while path.bbr.state != State::Up {
        at += 1;
        path.run(at * MS);
        assert!(at < 20_000, "it probes");
    }
    assert_eq!(path.bbr.bounds.long_term, NONE);
    path.bbr.on_mark(&mut path.window, 0, Instant::from_nanos(path.now));
    path.run((at + 2) * MS);
    assert_ne!(path.bbr.state, State::Up);
    assert!(path.bbr.bounds.long_term < 200 * u64::from(MSS));
}

#[test]
fn an_idle_sender_begins_at_the_pace_of_the_model() {
    let mut path = Path::new(MS, 50 * MS);
    path.run(3_000 * MS);
    path.bbr.on_restart(Instant::from_nanos(60_000 * MS));
    let rate = path.rate();
    assert!((rate * 8 / 10..rate * 11 / 10).contains(&path.bbr.pace), "{} of {rate}", path.bbr.pace);
}
