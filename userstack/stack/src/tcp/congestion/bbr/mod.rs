//! BBR version 3 (draft-ietf-ccwg-bbr-02): window and pace follow a model of the path, made of the most that was
//! delivered and the least that a round trip took. Loss and marks bound it only where they show a full queue.
//!
//! ```text
//!   Startup --pipe full--> Drain --queue gone--> Down --> Cruise --2..3 s--> Refill --1 round--> Up --+
//!                                                 ^                                                   |
//!                                                 +------------- queue, loss or mark -----------------+
//!   any --5 s without a smallest round trip--> ProbeRtt --200 ms and a round--> Cruise, or Startup
//! ```
//!
//! Three things differ from the draft, each for a reason:
//! - A round's loss counts from 2% on (BBR.LossThresh) where its round trip shows a queue, and from 10% and three
//!   segments where it shows none: paths that lose 5% at random are to be used, as Linux's BBR, which is version 1, uses
//!   them, and still who shares a queue is left his part.
//! - The short-term bounds follow rounds with such loss, not rounds with any.
//! - There is no packet conservation in the first round of recovery: the pace, which loss does not raise, bounds it.
//!
//! A mark (RFC 3168) counts as a round with too much loss.
//!
//! `signals` are the filters and `model` what they come to; `startup`, `probe_bandwidth` and `probe_round_trip` move from
//! state to state; `control` sets pace and window.

mod control;
mod model;
mod probe_bandwidth;
mod probe_round_trip;
mod signals;
mod startup;
#[cfg(test)]
mod tests;

use signals::{Aggregation, Bandwidth, Bounds, FullPipe, RoundTrip, Rounds};

use super::algorithm::{Acked, Algorithm, Window};
use super::rate::{RateSample, RateSampler};
use crate::Instant;

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Startup,
    Drain,
    Down,
    Cruise,
    Refill,
    Up,
    ProbeRtt,
}

/// Of what the acknowledgements are that arrive (BBR.ack_phase).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Feedback {
    #[default]
    None,
    /// Up has begun, what is acknowledged was sent before.
    Starting,
    Arriving,
    /// Up has ended, what is acknowledged was still sent in it.
    Stopping,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Bbr {
    sampler: RateSampler,
    state: State,
    /// Bytes a second; zero: nothing was measured yet.
    pace: u64,
    rounds: Rounds,
    full: FullPipe,
    bandwidth: Bandwidth,
    bounds: Bounds,
    round_trip: RoundTrip,
    aggregation: Aggregation,
    probe: Probe,
    /// When ProbeRtt may end, once the flight has become small, and whether a round has passed since.
    probe_rtt_ends_at: Option<Instant>,
    probe_rtt_round: bool,
    /// cwnd before the retransmission timer or ProbeRtt lowered it.
    prior_window: u32,
    /// The newest round trip shows a queue.
    queued: bool,
    /// A mark was echoed in this round.
    marked: bool,
    /// Nothing was in flight before what is sent now (BBR.idle_restart).
    restarted: bool,
    random: u32,
}

/// Probing for bandwidth (section 5.3.3).
#[derive(Copy, Clone, Debug, Default)]
struct Probe {
    began_at: Instant,
    wait_nanos: u64,
    /// BBR.rounds_since_bw_probe
    rounds: u64,
    feedback: Feedback,
    /// BBR.bw_probe_samples: losses are of this probe.
    samples: bool,
    /// BBR.probe_up_cnt, BBR.probe_up_acks and BBR.probe_up_rounds: how the long-term bound rises.
    step_bytes: u64,
    acked: u64,
    up_rounds: u32,
}

impl Algorithm for Bbr {
    /// Section 5.2.3: the model first, then what follows from it.
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        let Some(sample) = acked.sample else { return };
        self.update_model(window, acked, &sample);
        self.set_pace(window, acked.smoothed_rtt_nanos);
        self.set_window(window, acked, &sample);
    }

    /// Losses are counted by rounds, from the samples.
    fn on_loss(&mut self, window: &mut Window, _flight: u32, _now: Instant) {
        self.prior_window = window.congestion;
    }

    /// Section 5.6.4.4: the timer's window is one segment; what is delivered opens it again, up to the model.
    fn on_timeout(&mut self, window: &mut Window, _flight: u32, _now: Instant) {
        self.prior_window = window.congestion;
        self.bounds.forget_short_term();
    }

    fn on_spurious(&mut self, window: &mut Window) {
        window.congestion = window.congestion.max(self.prior_window);
    }

    fn on_mark(&mut self, _window: &mut Window, _flight: u32, _now: Instant) {
        self.marked = true;
    }

    /// Section 5.4.1: at the pace of the model, not in a burst.
    fn on_restart(&mut self, now: Instant) {
        self.restarted = true;
        self.aggregation.restart(now);
        self.restart_pace();
    }

    fn sampler(&mut self) -> Option<&mut RateSampler> {
        Some(&mut self.sampler)
    }

    fn pace(&self, window: &Window, _flight: u32, smoothed_rtt_nanos: u64) -> u64 {
        self.pace_now(window, smoothed_rtt_nanos)
    }
}

impl Bbr {
    /// Each filter of the path, then the states, in the order of section 5.2.3.
    fn update_model(&mut self, window: &mut Window, acked: &Acked, sample: &RateSample) {
        let now = acked.now;
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(now.as_nanos() as u32 | 1);
        self.rounds.update(sample);
        self.probe.rounds += u64::from(self.rounds.start);
        self.bandwidth.update(sample);
        self.queued = self.is_queued(acked);
        self.update_short_term(window, sample);
        self.aggregation.update(acked.bytes, self.rate(), window.congestion.into(), &self.rounds, now);
        self.full.update(sample, self.rounds.start);
        self.check_startup_done(window, sample);
        self.check_drain_done(window, acked);
        self.update_probe(window, acked, sample);
        self.round_trip.update(acked.rtt_nanos, now);
        self.check_probe_rtt(window, acked, sample);
        if self.rounds.loss_start {
            self.bandwidth.end_round(sample);
            self.rounds.end_losses(sample);
            self.marked = false;
        }
        self.restarted = false;
    }
}
