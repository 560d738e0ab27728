//! Probing for bandwidth (section 5.3.3): down to let others in, a cruise below what the path was seen to hold, a refill,
//! and up to see whether it holds more.

use super::model::{BETA, least};
use super::signals::{LEVEL, NONE, share};
use super::{Bbr, Feedback, State};
use crate::Instant;
use crate::tcp::congestion::algorithm::{Acked, MAX_WINDOW, Window};
use crate::tcp::congestion::rate::RateSample;
use crate::tcp::rtt::elapsed_nanos;

/// 1 - BBR.Headroom, in hundredths.
const HEADROOM_LEFT: u64 = 85;
/// Between probes for bandwidth: two to three seconds, or as many rounds as Reno needs to fill the same pipe again, but
/// no more than 63 (section 5.3.3.5.3).
const PROBE_WAIT_NANOS: u64 = 2_000_000_000;
const PROBE_WAIT_SPREAD_NANOS: u64 = 1_000_000_000;
const MAX_RENO_ROUNDS: u64 = 63;
/// Rounds in which a probe doubles its steps (section 5.3.3.5.1).
const MAX_UP_ROUNDS: u32 = 30;

impl Bbr {
    pub(super) fn probes_bandwidth(&self) -> bool {
        matches!(self.state, State::Down | State::Cruise | State::Refill | State::Up)
    }

    pub(super) fn begin_down(&mut self, now: Instant) {
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

    pub(super) fn update_probe(&mut self, window: &Window, acked: &Acked, sample: &RateSample) {
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
    pub(super) fn with_headroom(&self, window: &Window) -> u64 {
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
}
