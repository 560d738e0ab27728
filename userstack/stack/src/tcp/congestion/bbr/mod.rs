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

mod signals;
#[cfg(test)]
mod tests;

use signals::{Aggregation, Bandwidth, Bounds, FullPipe, NONE, RoundTrip, Rounds, bytes_in, share};

use super::algorithm::{Acked, Algorithm, MAX_WINDOW, Window, initial_window};
use super::rate::{RateSample, RateSampler};
use crate::Instant;
use crate::tcp::rtt::{elapsed_nanos, later};

/// BBR.StartupPacingGain, 4 ln 2, and the gains of the other states (sections 2.4 and 5.1.1), in hundredths.
const STARTUP_PACE: u64 = 277;
const DRAIN_PACE: u64 = 50;
const DOWN_PACE: u64 = 90;
const UP_PACE: u64 = 125;
const LEVEL: u64 = 100;
/// BBR.DefaultCwndGain, that of Up, and BBR.ProbeRTTCwndGain.
const WINDOW_GAIN: u64 = 200;
const UP_WINDOW_GAIN: u64 = 225;
const PROBE_RTT_WINDOW_GAIN: u64 = 50;
/// 100 - BBR.PacingMarginPercent: a little below what was measured, so that on the average no queue builds.
const PACE_SHARE: u64 = 99;
/// BBR.Beta and 1 - BBR.Headroom, in hundredths.
const BETA: u64 = 70;
const HEADROOM_LEFT: u64 = 85;
/// BBR.LossThresh, in hundredths: the share of a round that is lost when a queue is full.
const LOSS_THRESHOLD: u64 = 2;
/// The same where there is no queue to be seen, and the segments that are more than chance.
const CALM_LOSS_THRESHOLD: u64 = 10;
const CALM_LOST_SEGMENTS: u64 = 3;
/// A round trip of so many hundredths of the least one shows a queue. It is more than the headroom that is left below a
/// bound, so that a bound found with such a queue still fills the pipe.
const QUEUED: u64 = 120;
/// BBR.MinPipeCwnd
const MIN_WINDOW_SEGMENTS: u64 = 4;
/// BBR.ProbeRTTDuration
const PROBE_RTT_NANOS: u64 = 200_000_000;
/// Between probes for bandwidth: two to three seconds, or as many rounds as Reno needs to fill the same pipe again, but
/// no more than 63 (section 5.3.3.5.3).
const PROBE_WAIT_NANOS: u64 = 2_000_000_000;
const PROBE_WAIT_SPREAD_NANOS: u64 = 1_000_000_000;
const MAX_RENO_ROUNDS: u64 = 63;
/// A round trip until one is measured, for the first pace (section 5.6.2).
const NOMINAL_RTT_NANOS: u64 = 1_000_000;
/// C.send_quantum is what the pace carries in a millisecond, two segments at least and 64 KB at most; a window has room
/// for three (sections 5.6.3 and 5.6.4.2).
const QUANTUM_NANOS: u64 = 1_000_000;
const MAX_QUANTUM_BYTES: u64 = 65_536;
const QUANTA_IN_FLIGHT: u64 = 3;
/// Rounds in which a probe doubles its steps (section 5.3.3.5.1).
const MAX_UP_ROUNDS: u32 = 30;

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
        if self.probes_bandwidth() {
            self.pace = share(self.rate(), PACE_SHARE);
        }
    }

    fn sampler(&mut self) -> Option<&mut RateSampler> {
        Some(&mut self.sampler)
    }

    fn pace(&self, window: &Window, _flight: u32, smoothed_rtt_nanos: u64) -> u64 {
        if self.pace == 0 { first_pace(window, smoothed_rtt_nanos) } else { self.pace }
    }
}

/// Section 5.6.2: from the initial window and the handshake's round trip.
fn first_pace(window: &Window, smoothed_rtt_nanos: u64) -> u64 {
    let round_trip = if smoothed_rtt_nanos == 0 { NOMINAL_RTT_NANOS } else { smoothed_rtt_nanos };
    let window = u128::from(initial_window(window.mss));
    (window * u128::from(STARTUP_PACE) * 10_000_000 / u128::from(round_trip)) as u64
}

impl Bbr {
    // ---- the model, section 5.5 ----

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
        if self.state == State::Drain && u64::from(acked.pipe) <= self.target(window, LEVEL) {
            self.begin_down(now);
        }
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

    /// Section 5.5.10.3: after a round with too much loss, what it delivered, or 70% of before.
    fn update_short_term(&mut self, window: &Window, sample: &RateSample) {
        let probing = matches!(self.state, State::Startup | State::Refill | State::Up);
        if !self.rounds.loss_start || probing || !self.was_round_too_lossy(window, sample) {
            return;
        }
        let rate = self.rate();
        let flight = self.bounds.short_term.min(window.congestion.into());
        self.bounds.rate = share(rate, BETA).max(self.bandwidth.latest);
        self.bounds.short_term = share(flight, BETA).max(self.bandwidth.latest_delivered);
    }

    fn was_round_too_lossy(&self, window: &Window, sample: &RateSample) -> bool {
        let (lost, of) = self.rounds.losses(sample);
        self.is_too_much(lost, of, window)
    }

    /// IsInflightTooHigh (section 5.5.10.2).
    fn is_flight_too_high(&self, window: &Window, sample: &RateSample) -> bool {
        self.is_too_much(sample.lost, sample.pipe_when_sent, window)
    }

    fn is_too_much(&self, lost: u64, of: u64, window: &Window) -> bool {
        let calm = CALM_LOST_SEGMENTS * u64::from(window.mss);
        let (threshold, least) = if self.queued { (LOSS_THRESHOLD, 0) } else { (CALM_LOSS_THRESHOLD, calm) };
        self.marked || (lost > least && lost > share(of, threshold))
    }

    fn is_queued(&self, acked: &Acked) -> bool {
        let least = self.round_trip.min;
        acked.rtt_nanos.map_or(self.queued, |rtt| least != NONE && rtt > share(least, QUEUED))
    }

    /// BBR.bw
    fn rate(&self) -> u64 {
        self.bandwidth.max().min(self.bounds.rate)
    }

    /// BBRBDPMultiple: what fills the pipe, times a gain.
    fn fill(&self, window: &Window, gain: u64) -> u64 {
        if self.round_trip.min == NONE || self.bandwidth.max() == 0 {
            return initial_window(window.mss).into();
        }
        share(bytes_in(self.rate(), self.round_trip.min), gain)
    }

    /// BBRInflight: the same, with room for what is sent and acknowledged at once (section 5.6.4.2).
    fn target(&self, window: &Window, gain: u64) -> u64 {
        self.with_quanta(window, self.fill(window, gain))
    }

    fn with_quanta(&self, window: &Window, flight: u64) -> u64 {
        let mss = u64::from(window.mss);
        let quantum = bytes_in(self.pace, QUANTUM_NANOS).min(MAX_QUANTUM_BYTES).max(2 * mss);
        let flight = flight.max(QUANTA_IN_FLIGHT * quantum).max(least(window));
        if self.state == State::Up { flight + 2 * mss } else { flight }
    }

    // ---- Startup, section 5.3.1 ----

    fn check_startup_done(&mut self, window: &Window, sample: &RateSample) {
        if self.state != State::Startup {
            return;
        }
        if !self.full.reached && self.rounds.loss_start && self.was_round_too_lossy(window, sample) {
            self.full.reached = true;
            self.bounds.long_term = self.fill(window, LEVEL).max(self.bandwidth.latest_delivered);
        }
        if self.full.reached {
            self.state = State::Drain;
            self.rounds.restart(sample);
        }
    }

    // ---- probing for bandwidth, section 5.3.3 ----

    fn probes_bandwidth(&self) -> bool {
        matches!(self.state, State::Down | State::Cruise | State::Refill | State::Up)
    }

    fn begin_down(&mut self, now: Instant) {
        self.state = State::Down;
        (self.bandwidth.latest, self.bandwidth.latest_delivered) = (0, 0);
        self.probe.feedback = Feedback::Stopping;
        self.probe.began_at = now;
        self.probe.rounds = u64::from(self.random >> 16 & 1);
        self.probe.wait_nanos = PROBE_WAIT_NANOS + u64::from(self.random) % PROBE_WAIT_SPREAD_NANOS;
    }

    fn begin_refill(&mut self, sample: &RateSample) {
        self.state = State::Refill;
        self.bounds.forget_short_term();
        self.probe.feedback = Feedback::None;
        (self.probe.up_rounds, self.probe.acked) = (0, 0);
        self.rounds.restart(sample);
    }

    fn begin_up(&mut self, window: &Window, sample: &RateSample) {
        self.state = State::Up;
        self.probe.samples = true;
        self.probe.feedback = Feedback::Starting;
        self.rounds.restart(sample);
        self.full.ask_again(sample.rate);
        self.raise_slope(window);
    }

    fn update_probe(&mut self, window: &Window, acked: &Acked, sample: &RateSample) {
        if !self.full.reached {
            return;
        }
        self.update_long_term(window, acked, sample);
        match self.state {
            State::Down | State::Cruise if self.is_time_to_probe(window, acked.now) => {
                self.begin_refill(sample)
            }
            State::Down if self.is_time_to_cruise(window, acked) => self.state = State::Cruise,
            State::Refill if self.rounds.start => self.begin_up(window, sample),
            State::Up => {
                if acked.limited && u64::from(window.congestion) >= self.bounds.long_term {
                    // The long-term bound, not the path, keeps the rate from growing.
                    self.full.ask_again(sample.rate);
                }
                if self.full.now {
                    self.begin_down(acked.now);
                }
            }
            _ => {}
        }
    }

    fn is_time_to_probe(&self, window: &Window, now: Instant) -> bool {
        let segments = self.usual_flight(window) / u64::from(window.mss.max(1));
        let waited = elapsed_nanos(now, self.probe.began_at) > self.probe.wait_nanos;
        waited || self.probe.rounds >= segments.clamp(1, MAX_RENO_ROUNDS)
    }

    /// BBRTargetInflight
    fn usual_flight(&self, window: &Window) -> u64 {
        self.fill(window, LEVEL).min(window.congestion.into())
    }

    fn is_time_to_cruise(&self, window: &Window, acked: &Acked) -> bool {
        u64::from(acked.pipe) <= self.with_headroom(window).min(self.target(window, LEVEL))
    }

    /// BBRInflightWithHeadroom: room for others below what the path was seen to hold.
    fn with_headroom(&self, window: &Window) -> u64 {
        match self.bounds.long_term {
            NONE => NONE,
            bound => {
                share(bound, HEADROOM_LEFT).min(bound.saturating_sub(window.mss.into())).max(least(window))
            }
        }
    }

    /// BBRAdaptLongTermModel (section 5.5.10.2).
    fn update_long_term(&mut self, window: &Window, acked: &Acked, sample: &RateSample) {
        match self.probe.feedback {
            Feedback::Starting if self.rounds.start => self.probe.feedback = Feedback::Arriving,
            Feedback::Stopping if self.rounds.start => {
                self.probe.feedback = Feedback::None;
                self.probe.samples = false;
                if self.probes_bandwidth() && !sample.unused {
                    self.bandwidth.end_cycle();
                }
            }
            _ => {}
        }
        if self.is_flight_too_high(window, sample) {
            if self.probe.samples {
                self.on_flight_too_high(window, acked, sample);
            }
        } else if self.bounds.long_term != NONE {
            self.bounds.long_term = self.bounds.long_term.max(sample.pipe_when_sent);
            if self.state == State::Up {
                self.raise_long_term(window, acked);
            }
        }
    }

    /// BBRHandleInflightTooHigh: once a probe.
    fn on_flight_too_high(&mut self, window: &Window, acked: &Acked, sample: &RateSample) {
        self.probe.samples = false;
        if !sample.unused {
            let least = share(self.usual_flight(window), BETA);
            self.bounds.long_term = sample.pipe_when_sent.max(least);
        }
        if self.state == State::Up {
            self.begin_down(acked.now);
        }
    }

    /// BBRRaiseInflightLongtermSlope: each round twice the steps of the one before.
    fn raise_slope(&mut self, window: &Window) {
        self.probe.step_bytes = (u64::from(window.congestion) >> self.probe.up_rounds).max(1);
        self.probe.up_rounds = (self.probe.up_rounds + 1).min(MAX_UP_ROUNDS);
    }

    /// BBRProbeInflightLongtermUpward: a segment for each step's bytes that were acknowledged.
    fn raise_long_term(&mut self, window: &Window, acked: &Acked) {
        if !acked.limited || u64::from(window.congestion) < self.bounds.long_term {
            return;
        }
        self.probe.acked += u64::from(acked.bytes);
        let step = self.probe.step_bytes.max(1);
        let segments = self.probe.acked / step;
        self.probe.acked %= step;
        let bound = self.bounds.long_term.saturating_add(segments * u64::from(window.mss));
        self.bounds.long_term = bound.min(MAX_WINDOW.into());
        if self.rounds.start {
            self.raise_slope(window);
        }
    }

    // ---- probing for the round trip, section 5.3.4 ----

    fn check_probe_rtt(&mut self, window: &mut Window, acked: &Acked, sample: &RateSample) {
        if self.state != State::ProbeRtt && self.round_trip.expired && !self.restarted {
            self.state = State::ProbeRtt;
            self.prior_window = window.congestion;
            (self.probe_rtt_ends_at, self.probe_rtt_round) = (None, false);
            self.probe.feedback = Feedback::Stopping;
            self.rounds.restart(sample);
        }
        if self.state == State::ProbeRtt {
            self.await_round_trip(window, acked, sample);
        }
    }

    /// BBRHandleProbeRTT: a small flight for 200 ms and a round; its rates are no measure.
    fn await_round_trip(&mut self, window: &mut Window, acked: &Acked, sample: &RateSample) {
        self.sampler.on_unused(acked.pipe);
        let Some(ends_at) = self.probe_rtt_ends_at else {
            if u64::from(acked.pipe) <= self.probe_rtt_window(window) {
                self.probe_rtt_ends_at = Some(later(acked.now, PROBE_RTT_NANOS));
                self.rounds.restart(sample);
            }
            return;
        };
        self.probe_rtt_round |= self.rounds.start;
        if !self.probe_rtt_round || acked.now < ends_at {
            return;
        }
        self.round_trip.probe_min_at = acked.now;
        window.congestion = window.congestion.max(self.prior_window);
        self.bounds.forget_short_term();
        if self.full.reached {
            self.begin_down(acked.now);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }

    fn probe_rtt_window(&self, window: &Window) -> u64 {
        self.fill(window, PROBE_RTT_WINDOW_GAIN).max(least(window))
    }

    // ---- what follows from it, section 5.6 ----

    fn gains(&self) -> (u64, u64) {
        match self.state {
            State::Startup => (STARTUP_PACE, WINDOW_GAIN),
            State::Drain => (DRAIN_PACE, WINDOW_GAIN),
            State::Down => (DOWN_PACE, WINDOW_GAIN),
            State::Cruise | State::Refill => (LEVEL, WINDOW_GAIN),
            State::Up => (UP_PACE, UP_WINDOW_GAIN),
            State::ProbeRtt => (LEVEL, PROBE_RTT_WINDOW_GAIN),
        }
    }

    /// Section 5.6.2. Until the pipe was full once, the pace never falls.
    fn set_pace(&mut self, window: &Window, smoothed_rtt_nanos: u64) {
        if self.pace == 0 {
            self.pace = first_pace(window, smoothed_rtt_nanos);
        }
        let rate = share(share(self.rate(), self.gains().0), PACE_SHARE);
        if rate > self.pace || (self.full.reached && rate > 0) {
            self.pace = rate;
        }
    }

    /// Section 5.6.4.6.
    fn set_window(&self, window: &mut Window, acked: &Acked, sample: &RateSample) {
        let most = self.fill(window, self.gains().1) + self.aggregation.extra();
        let most = self.with_quanta(window, most);
        let (width, bytes) = (u64::from(window.congestion), u64::from(acked.bytes));
        let width = if self.full.reached {
            (width + bytes).min(most)
        } else if width < most || sample.total_delivered < u64::from(initial_window(window.mss)) {
            width + bytes
        } else {
            width
        };
        let bounded = width.max(least(window)).min(self.bound(window));
        window.congestion = bounded.min(MAX_WINDOW.into()) as u32;
    }

    /// BBRBoundCwndForModel and BBRBoundCwndForProbeRTT (section 5.6.4.7).
    fn bound(&self, window: &Window) -> u64 {
        let long_term = match self.state {
            State::Down | State::Refill | State::Up => self.bounds.long_term,
            State::Cruise => self.with_headroom(window),
            State::ProbeRtt => self.with_headroom(window).min(self.probe_rtt_window(window)),
            State::Startup | State::Drain => NONE,
        };
        long_term.min(self.bounds.short_term).max(least(window))
    }
}

fn least(window: &Window) -> u64 {
    MIN_WINDOW_SEGMENTS * u64::from(window.mss)
}
