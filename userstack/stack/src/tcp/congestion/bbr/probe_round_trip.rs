//! Probing for the round trip (section 5.3.4): a flight so small that no queue stands, for a while.

use super::model::least;
use super::{Bbr, Feedback, State};
use crate::tcp::congestion::algorithm::{Acked, Window};
use crate::tcp::congestion::rate::RateSample;
use crate::tcp::rtt::later;

/// BBR.ProbeRTTCwndGain, in hundredths.
pub(super) const PROBE_RTT_WINDOW_GAIN: u64 = 50;
/// BBR.ProbeRTTDuration
const PROBE_RTT_NANOS: u64 = 200_000_000;

impl Bbr {
    pub(super) fn check_probe_rtt(&mut self, window: &mut Window, acked: &Acked, sample: &RateSample) {
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

    pub(super) fn probe_rtt_window(&self, window: &Window) -> u64 {
        self.fill(window, PROBE_RTT_WINDOW_GAIN).max(least(window))
    }
}
