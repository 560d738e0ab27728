//! What the path carries, as the filters have it (section 5.5), and when a loss shows a full queue.

use super::signals::{NONE, bytes_in, share};
use super::{Bbr, State};
use crate::tcp::congestion::algorithm::{Acked, Window, initial_window};
use crate::tcp::congestion::rate::RateSample;

/// BBR.Beta, in hundredths.
pub(super) const BETA: u64 = 70;
/// BBR.LossThresh, in hundredths: the share of a round that is lost when a queue is full.
const LOSS_THRESHOLD: u64 = 2;
/// The same where there is no queue to be seen, and the segments that are more than chance.
const CALM_LOSS_THRESHOLD: u64 = 10;
const CALM_LOST_SEGMENTS: u64 = 3;
/// A round trip of so many hundredths of the least one shows a queue. It is more than the headroom that is left below a
/// bound, so that a bound found with such a queue still fills the pipe.
const QUEUED: u64 = 120;
/// And so much more at least: what pace and hosts add to a short round trip by sending and looking in bursts of a
/// millisecond is no queue (RFC 9406's MIN_RTT_THRESH, for the same reason).
const QUEUED_LEAST_NANOS: u64 = 4_000_000;
/// BBR.MinPipeCwnd
const MIN_WINDOW_SEGMENTS: u64 = 4;
/// C.send_quantum is what the pace carries in a millisecond, two segments at least and 64 KB at most; a window has room
/// for three (sections 5.6.3 and 5.6.4.2).
const QUANTUM_NANOS: u64 = 1_000_000;
const MAX_QUANTUM_BYTES: u64 = 65_536;
const QUANTA_IN_FLIGHT: u64 = 3;

impl Bbr {
    /// Section 5.5.10.3: after a round with too much loss, what it delivered, or 70% of before.
    pub(super) fn update_short_term(&mut self, window: &Window, sample: &RateSample) {
        let probing = matches!(self.state, State::Startup | State::Refill | State::Up);
        if !self.rounds.loss_start || probing || !self.was_round_too_lossy(window, sample) {
            return;
        }
        let rate = self.rate();
        let flight = self.bounds.short_term.min(window.congestion.into());
        self.bounds.rate = share(rate, BETA).max(self.bandwidth.latest);
        self.bounds.short_term = share(flight, BETA).max(self.bandwidth.latest_delivered);
    }

    pub(super) fn was_round_too_lossy(&self, window: &Window, sample: &RateSample) -> bool {
        let (lost, of) = self.rounds.losses(sample);
        self.is_too_much(lost, of, window)
    }

    /// IsInflightTooHigh (section 5.5.10.2).
    pub(super) fn is_flight_too_high(&self, window: &Window, sample: &RateSample) -> bool {
        self.is_too_much(sample.lost, sample.pipe_when_sent, window)
    }

    fn is_too_much(&self, lost: u64, of: u64, window: &Window) -> bool {
        let calm = CALM_LOST_SEGMENTS * u64::from(window.mss);
        let (threshold, least) = if self.queued { (LOSS_THRESHOLD, 0) } else { (CALM_LOSS_THRESHOLD, calm) };
        self.marked || (lost > least && lost > share(of, threshold))
    }

    pub(super) fn is_queued(&self, acked: &Acked) -> bool {
        let least = self.round_trip.min;
        let queued = |rtt: u64| {
            least != NONE && rtt > share(least, QUEUED).max(least.saturating_add(QUEUED_LEAST_NANOS))
        };
        acked.rtt_nanos.map_or(self.queued, queued)
    }

    /// BBR.bw
    pub(super) fn rate(&self) -> u64 {
        self.bandwidth.max().min(self.bounds.rate)
    }

    /// BBRBDPMultiple: what fills the pipe, times a gain.
    pub(super) fn fill(&self, window: &Window, gain: u64) -> u64 {
        if self.round_trip.min == NONE || self.bandwidth.max() == 0 {
            return initial_window(window.mss).into();
        }
        share(bytes_in(self.rate(), self.round_trip.min), gain)
    }

    /// BBRInflight: the same, with room for what is sent and acknowledged at once (section 5.6.4.2).
    pub(super) fn target(&self, window: &Window, gain: u64) -> u64 {
        self.with_quanta(window, self.fill(window, gain))
    }

    pub(super) fn with_quanta(&self, window: &Window, flight: u64) -> u64 {
        let mss = u64::from(window.mss);
        let quantum = bytes_in(self.pace, QUANTUM_NANOS).min(MAX_QUANTUM_BYTES).max(2 * mss);
        let flight = flight.max(QUANTA_IN_FLIGHT * quantum).max(least(window));
        if self.state == State::Up { flight + 2 * mss } else { flight }
    }
}

/// BBR.MinPipeCwnd in bytes.
pub(super) fn least(window: &Window) -> u64 {
    MIN_WINDOW_SEGMENTS * u64::from(window.mss)
}
