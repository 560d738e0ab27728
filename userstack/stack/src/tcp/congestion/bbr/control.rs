//! Pace and window (section 5.6): what follows from the model, by the state's gains and within its bounds.

use super::model::least;
use super::probe_round_trip::PROBE_RTT_WINDOW_GAIN;
use super::signals::{LEVEL, NONE, share};
use super::{Bbr, State};
use crate::tcp::congestion::algorithm::{Acked, MAX_WINDOW, Window, initial_window};
use crate::tcp::congestion::rate::RateSample;

/// BBR.StartupPacingGain, 4 ln 2, and the gains of the other states (sections 2.4 and 5.1.1), in hundredths.
const STARTUP_PACE: u64 = 277;
const DRAIN_PACE: u64 = 50;
const DOWN_PACE: u64 = 90;
const UP_PACE: u64 = 125;
/// BBR.DefaultCwndGain, and that of Up.
const WINDOW_GAIN: u64 = 200;
const UP_WINDOW_GAIN: u64 = 225;
/// 100 - BBR.PacingMarginPercent: a little below what was measured, so that on the average no queue builds.
const PACE_SHARE: u64 = 99;
/// A round trip until one is measured, for the first pace (section 5.6.2).
const NOMINAL_RTT_NANOS: u64 = 1_000_000;

impl Bbr {
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
    pub(super) fn set_pace(&mut self, window: &Window, smoothed_rtt_nanos: u64) {
        if self.pace == 0 {
            self.pace = first_pace(window, smoothed_rtt_nanos);
        }
        let rate = share(share(self.rate(), self.gains().0), PACE_SHARE);
        if rate > self.pace || (self.full.reached && rate > 0) {
            self.pace = rate;
        }
    }

    /// The model's pace; before there is one, what the first window would be sent at.
    pub(super) fn pace_now(&self, window: &Window, smoothed_rtt_nanos: u64) -> u64 {
        if self.pace == 0 { first_pace(window, smoothed_rtt_nanos) } else { self.pace }
    }

    /// Section 5.4.1.
    pub(super) fn restart_pace(&mut self) {
        if self.probes_bandwidth() {
            self.pace = share(self.rate(), PACE_SHARE);
        }
    }

    /// Section 5.6.4.6.
    pub(super) fn set_window(&self, window: &mut Window, acked: &Acked, sample: &RateSample) {
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

/// Section 5.6.2: from the initial window and the handshake's round trip.
fn first_pace(window: &Window, smoothed_rtt_nanos: u64) -> u64 {
    let round_trip = if smoothed_rtt_nanos == 0 { NOMINAL_RTT_NANOS } else { smoothed_rtt_nanos };
    let window = u128::from(initial_window(window.mss));
    (window * u128::from(STARTUP_PACE) * 10_000_000 / u128::from(round_trip)) as u64
}
