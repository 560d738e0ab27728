//! The seam between loss recovery and congestion control: the window, what an acknowledgement says, and the trait.

use super::rate::{RateSample, RateSampler};
use crate::Instant;
use crate::tcp::rtt::elapsed_nanos;
use crate::tcp::sequence::Seq;

/// RFC 6928, section 2.
const INITIAL_WINDOW_SEGMENTS: u32 = 10;
const INITIAL_WINDOW_BYTES: u32 = 14_600;
/// A window above the largest send buffer means nothing.
pub(super) const MAX_WINDOW: u32 = 1 << 30;
/// Of the present window, what an idle or unused one keeps as its threshold (Linux's tcp_current_ssthresh; RFC 7661,
/// section 4.3, remembers as much of it).
const REMEMBERED_PERCENT: u64 = 75;
/// How much faster than a window a round trip a loss-based algorithm may send: in slow start it doubles within a round
/// trip, afterwards it must not be the pace that holds the window back (Linux's tcp_pacing_ss_ratio and
/// tcp_pacing_ca_ratio).
const SLOW_START_PACE_PERCENT: u64 = 200;
const AVOIDANCE_PACE_PERCENT: u64 = 120;

/// The window that loss recovery reads.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Window {
    /// cwnd
    pub congestion: u32,
    /// ssthresh
    pub threshold: u32,
    /// SMSS
    pub mss: u32,
    /// The most that was in flight since the window was all used, and when that was.
    pub(super) used: u32,
    pub(super) used_at: Instant,
}

impl Window {
    pub(crate) fn new(mss: u32) -> Self {
        let congestion = initial_window(mss);
        Self { congestion, threshold: u32::MAX, mss, used: 0, used_at: Instant::ZERO }
    }

    pub(crate) fn in_slow_start(&self) -> bool {
        self.congestion < self.threshold
    }

    /// RFC 5681, section 4.1, as Linux has it: half the window for each timeout that passed without sending, not below
    /// the restart window; the threshold remembers where it was (RFC 7661, section 4.3).
    pub(crate) fn restart_after_idle(&mut self, idle_nanos: u64, timeout_nanos: u64) {
        self.remember();
        let restart = self.congestion.min(initial_window(self.mss));
        let halvings = (idle_nanos / timeout_nanos.max(1)).min(31) as u32;
        self.congestion = (self.congestion >> halvings).max(restart);
    }

    /// When for a whole timeout less was in flight than the window allows, and no text waited: what was not tried is
    /// not known to be there, and the window goes half way to what was (RFC 7661, section 4.4; Linux's
    /// tcp_cwnd_application_limited).
    pub(crate) fn note_use(&mut self, used: bool, flight: u32, timeout_nanos: u64, now: Instant) {
        if used {
            (self.used, self.used_at) = (0, now);
            return;
        }
        self.used = self.used.max(flight);
        if elapsed_nanos(now, self.used_at) < timeout_nanos {
            return;
        }
        let most = self.used.max(initial_window(self.mss));
        (self.used, self.used_at) = (0, now);
        if most < self.congestion {
            self.remember();
            self.congestion = u32::midpoint(self.congestion, most);
        }
    }

    fn remember(&mut self) {
        if !self.in_slow_start() || self.threshold < u32::MAX {
            self.threshold = self.threshold.max(percent(self.congestion, REMEMBERED_PERCENT));
        }
    }

    pub(super) fn widen(&mut self, bytes: u32) {
        self.congestion = self.congestion.saturating_add(bytes).min(MAX_WINDOW);
    }

    /// Grows by what was acknowledged up to the threshold; the bytes beyond it are left. Stretch acknowledgements count
    /// whole: RFC 3465's and RFC 9406's limits an acknowledgement bound the burst that it lets go, which `output` cuts
    /// for every connection, and a peer that merges segments before it acknowledges would never let a window open.
    pub(super) fn slow_start(&mut self, bytes: u32) -> u32 {
        if !self.in_slow_start() {
            return bytes;
        }
        let grown = bytes.min(self.threshold - self.congestion);
        self.widen(grown);
        bytes - grown
    }

    /// What was saved before a reduction that had no reason: as wide as then, or as now where that is wider.
    pub(super) fn restore(&mut self, before: Before) {
        self.congestion = self.congestion.max(before.congestion);
        self.threshold = self.threshold.max(before.threshold);
    }
}

/// RFC 6928: min(10 * MSS, max(2 * MSS, 14600)).
pub(crate) fn initial_window(mss: u32) -> u32 {
    (INITIAL_WINDOW_SEGMENTS * mss).min(INITIAL_WINDOW_BYTES.max(2 * mss))
}

/// A window before it came down.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Before {
    congestion: u32,
    threshold: u32,
}

impl Before {
    pub(super) fn of(window: &Window) -> Self {
        Self { congestion: window.congestion, threshold: window.threshold }
    }
}

/// What an acknowledgement says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Acked {
    /// Newly delivered, by the acknowledgement number or selectively.
    pub bytes: u32,
    /// SND.UNA and SND.NXT.
    pub unacked: Seq,
    pub next: Seq,
    /// Bytes that are thought to be in the network now.
    pub pipe: u32,
    /// Of the newest segment that was sent once only.
    pub rtt_nanos: Option<u64>,
    pub smoothed_rtt_nanos: u64,
    /// The window is what held the sender back.
    pub limited: bool,
    /// For who asks for it by [`Algorithm::sampler`].
    pub sample: Option<RateSample>,
    pub now: Instant,
}

/// How wide the window is.
pub(crate) trait Algorithm {
    /// New data was acknowledged outside of recovery while the window was in use. Who has a
    /// [`sampler`](Self::sampler) hears of every delivery, always.
    fn on_ack(&mut self, window: &mut Window, acked: &Acked);

    /// A loss was found: lowers the threshold. `flight` is what was out.
    fn on_loss(&mut self, window: &mut Window, flight: u32, now: Instant);

    /// The retransmission timer fired for the first time since new data was acknowledged.
    fn on_timeout(&mut self, window: &mut Window, flight: u32, now: Instant) {
        self.on_loss(window, flight, now);
    }

    /// The last loss or timeout that was told of was none: the window is what it was before (RFC 4015, section 3.2;
    /// RFC 9438, section 4.9).
    fn on_spurious(&mut self, window: &mut Window);

    /// A mark was echoed (RFC 3168, section 6.1.2: as a loss, of which nothing is sent again).
    fn on_mark(&mut self, window: &mut Window, flight: u32, now: Instant) {
        self.on_loss(window, flight, now);
    }

    /// New data was acknowledged while the window was wider than what was asked of it.
    fn on_unused(&mut self, _now: Instant) {}

    /// Sending begins again after nothing was in flight.
    fn on_restart(&mut self, _now: Instant) {}

    /// Where deliveries are measured for it. Such an algorithm owns its window in recovery too.
    fn sampler(&mut self) -> Option<&mut RateSampler> {
        None
    }

    /// Bytes a second; zero: as fast as the window lets go.
    fn pace(&self, window: &Window, flight: u32, smoothed_rtt_nanos: u64) -> u64 {
        if smoothed_rtt_nanos == 0 {
            return 0;
        }
        let slow_start = window.congestion < window.threshold / 2;
        let share = if slow_start { SLOW_START_PACE_PERCENT } else { AVOIDANCE_PACE_PERCENT };
        let window = u128::from(window.congestion.max(flight)) * u128::from(share) * 10_000_000;
        (window / u128::from(smoothed_rtt_nanos)) as u64
    }
}

pub(super) fn percent(bytes: u32, percent: u64) -> u32 {
    (u64::from(bytes) * percent / 100) as u32
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    pub(in super::super) const MSS: u32 = 1000;

    pub(in super::super) fn acked(bytes: u32, at_ms: u64) -> Acked {
        Acked {
            bytes,
            unacked: Seq(0),
            next: Seq(0),
            pipe: 0,
            rtt_nanos: None,
            smoothed_rtt_nanos: 100_000_000,
            limited: true,
            sample: None,
            now: Instant::ZERO + Duration::from_millis(at_ms),
        }
    }

    /// One round trip's worth of acknowledgements.
    pub(in super::super) fn round_trip(algorithm: &mut dyn Algorithm, window: &mut Window, at_ms: u64) {
        for _ in 0..window.congestion / MSS {
            algorithm.on_ack(window, &acked(MSS, at_ms));
        }
    }

    #[test]
    fn the_initial_window_is_ten_segments_or_two_of_the_large() {
        assert_eq!(Window::new(1460).congestion, 14_600);
        assert_eq!(Window::new(536).congestion, 5_360);
        assert_eq!(Window::new(65_495).congestion, 2 * 65_495);
    }

    #[test]
    fn an_idle_window_is_halved_each_timeout_down_to_the_initial_one_and_remembers() {
        let mut window = Window { congestion: 100 * MSS, threshold: 50 * MSS, ..Window::new(MSS) };
        window.restart_after_idle(2_500, 1_000);
        assert_eq!((window.congestion, window.threshold), (25 * MSS, 75 * MSS));
        window.restart_after_idle(1_000_000, 1_000);
        assert_eq!((window.congestion, window.threshold), (10 * MSS, 75 * MSS));
    }

    #[test]
    fn a_window_that_was_not_used_goes_half_way_to_what_was() {
        let mut window = Window { congestion: 100 * MSS, threshold: 50 * MSS, ..Window::new(MSS) };
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        window.note_use(true, 100 * MSS, 200_000_000, at(1_000));
        window.note_use(false, 20 * MSS, 200_000_000, at(1_100));
        assert_eq!(window.congestion, 100 * MSS, "not for a whole timeout");
        window.note_use(false, 10 * MSS, 200_000_000, at(1_201));
        assert_eq!((window.congestion, window.threshold), (60 * MSS, 75 * MSS));
        window.note_use(false, 90 * MSS, 200_000_000, at(1_500));
        assert_eq!(window.congestion, 60 * MSS, "more was used than it is wide");
    }
}
