//! Congestion control: one small trait, NewReno (RFC 5681, RFC 6582) and CUBIC (RFC 9438) behind it.
//!
//! Loss recovery decides when; an algorithm only decides how wide the window is.

use super::Congestion;
use crate::Instant;

/// RFC 6928, section 2.
const INITIAL_WINDOW_SEGMENTS: u32 = 10;
const INITIAL_WINDOW_BYTES: u32 = 14_600;
/// A window above the largest send buffer means nothing.
const MAX_WINDOW: u32 = 1 << 30;

/// The window that loss recovery reads.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Window {
    /// cwnd
    pub congestion: u32,
    /// ssthresh
    pub threshold: u32,
    /// SMSS
    pub mss: u32,
}

impl Window {
    pub(crate) fn new(mss: u32) -> Self {
        Self { congestion: initial_window(mss), threshold: u32::MAX, mss }
    }

    pub(crate) fn in_slow_start(&self) -> bool {
        self.congestion < self.threshold
    }

    /// RFC 5681, section 4.1: after an idle time of more than one timeout.
    pub(crate) fn restart_after_idle(&mut self) {
        self.congestion = self.congestion.min(initial_window(self.mss));
    }

    fn widen(&mut self, bytes: u32) {
        self.congestion = self.congestion.saturating_add(bytes).min(MAX_WINDOW);
    }
}

/// RFC 6928: min(10 * MSS, max(2 * MSS, 14600)).
pub(crate) fn initial_window(mss: u32) -> u32 {
    (INITIAL_WINDOW_SEGMENTS * mss).min(INITIAL_WINDOW_BYTES.max(2 * mss))
}

/// What an acknowledgement of new data says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Acked {
    pub bytes: u32,
    pub smoothed_rtt_nanos: u64,
    pub now: Instant,
}

/// How wide the window is.
pub(crate) trait Algorithm {
    /// New data was acknowledged outside of recovery while the window was in use.
    fn on_ack(&mut self, window: &mut Window, acked: Acked);

    /// A loss was found: lowers the threshold. `flight` is what was out.
    fn on_loss(&mut self, window: &mut Window, flight: u32, now: Instant);

    /// The retransmission timer fired for the first time since new data was acknowledged.
    fn on_timeout(&mut self, window: &mut Window, flight: u32, now: Instant) {
        self.on_loss(window, flight, now);
    }

    /// The last loss or timeout that was told of was none: the window is what it was before (RFC 4015, section 3.2;
    /// RFC 9438, section 4.9).
    fn on_spurious(&mut self, window: &mut Window);
}

/// The algorithm of one connection.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Control {
    NewReno(NewReno),
    Cubic(Cubic),
}

impl Control {
    pub(crate) fn new(choice: Congestion) -> Self {
        match choice {
            Congestion::NewReno => Self::NewReno(NewReno::default()),
            Congestion::Cubic => Self::Cubic(Cubic::default()),
        }
    }

    pub(crate) fn algorithm(&mut self) -> &mut dyn Algorithm {
        match self {
            Self::NewReno(newreno) => newreno,
            Self::Cubic(cubic) => cubic,
        }
    }
}

/// RFC 5681, section 3.1, with appropriate byte counting (RFC 3465, L = 2).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct NewReno {
    acked_bytes: u32,
    before: (u32, u32),
}

impl Algorithm for NewReno {
    fn on_ack(&mut self, window: &mut Window, acked: Acked) {
        let rest = slow_start(window, acked.bytes);
        self.acked_bytes = self.acked_bytes.saturating_add(rest);
        if self.acked_bytes >= window.congestion {
            self.acked_bytes -= window.congestion;
            window.widen(window.mss);
        }
    }

    fn on_loss(&mut self, window: &mut Window, flight: u32, _now: Instant) {
        self.before = (window.congestion, window.threshold);
        window.threshold = (flight / 2).max(2 * window.mss);
        self.acked_bytes = 0;
    }

    fn on_spurious(&mut self, window: &mut Window) {
        window.congestion = window.congestion.max(self.before.0);
        window.threshold = window.threshold.max(self.before.1);
    }
}

/// Grows by what was acknowledged up to the threshold; the bytes beyond it are left. Stretch acknowledgements count
/// whole (RFC 9438, section 4.10 needs no L).
fn slow_start(window: &mut Window, bytes: u32) -> u32 {
    if !window.in_slow_start() {
        return bytes;
    }
    let grown = bytes.min(window.threshold - window.congestion);
    window.widen(grown);
    bytes - grown
}

/// RFC 9438. Times in milliseconds, windows in bytes.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Cubic {
    /// W_max
    max_window: u32,
    /// cwnd_prior
    prior_window: u32,
    /// W_est
    reno_window: u32,
    /// K
    inflection_ms: u32,
    /// t_epoch: when the present avoidance stage began.
    epoch: Option<Instant>,
    /// Acknowledged bytes that have not yet grown a window.
    credit: u32,
    reno_credit: u32,
    before: (u32, u32),
}

/// beta_cubic = 0.7 and (1 + beta_cubic) / 2 = 0.85, in hundredths (RFC 9438, sections 4.6 and 4.7).
const BETA_PERCENT: u64 = 70;
const FAST_CONVERGENCE_PERCENT: u64 = 85;
/// alpha_cubic = 3 * (1 - 0.7) / (1 + 0.7) = 0.53, in hundredths (section 4.3).
const RENO_FRIENDLY_PERCENT: u64 = 53;
/// C = 0.4 segments per s^3; its inverse in ms^3 per segment (section 5.1).
const INVERSE_C_MS3: u64 = 2_500_000_000;
/// Beyond it the cubic term is above any window, and its cube still fits 64 bits.
const MAX_DISTANCE_MS: i64 = 1_000_000;

impl Algorithm for Cubic {
    fn on_ack(&mut self, window: &mut Window, acked: Acked) {
        let rest = slow_start(window, acked.bytes);
        if rest == 0 {
            return;
        }
        let epoch = *self.epoch.get_or_insert(acked.now);
        if epoch == acked.now {
            self.begin_epoch(window);
        }
        let elapsed_ms =
            (acked.now.since(epoch).as_millis() as u64).saturating_add(acked.smoothed_rtt_nanos / 1_000_000);
        self.grow_reno(window, rest);
        let target = self.target(window, elapsed_ms);
        if self.reno_window > target {
            window.congestion = window.congestion.max(self.reno_window).min(MAX_WINDOW);
            return;
        }
        // Section 4.4: (target - cwnd) / cwnd segments for each segment acknowledged.
        let gain =
            u64::from(rest) * u64::from(target.saturating_sub(window.congestion)) + u64::from(self.credit);
        window.widen((gain / u64::from(window.congestion)) as u32);
        self.credit = (gain % u64::from(window.congestion)) as u32;
    }

    fn on_loss(&mut self, window: &mut Window, flight: u32, _now: Instant) {
        let before = window.congestion;
        self.before = (before, window.threshold);
        // Section 4.7: a flow that lost below its last maximum makes room for others.
        self.max_window =
            if before < self.max_window { percent(before, FAST_CONVERGENCE_PERCENT) } else { before };
        self.prior_window = before;
        // Section 4.6: of the flight, so that an unused window is no excuse.
        window.threshold = percent(flight.min(before), BETA_PERCENT).max(2 * window.mss);
        self.epoch = None;
    }

    fn on_spurious(&mut self, window: &mut Window) {
        window.congestion = window.congestion.max(self.before.0);
        window.threshold = window.threshold.max(self.before.1);
    }
}

impl Cubic {
    fn begin_epoch(&mut self, window: &Window) {
        self.max_window = self.max_window.max(window.congestion);
        let deficit = u64::from(self.max_window - window.congestion);
        self.inflection_ms = cube_root(deficit * INVERSE_C_MS3 / u64::from(window.mss)) as u32;
        self.reno_window = window.congestion;
        (self.credit, self.reno_credit) = (0, 0);
    }

    /// W_cubic(t + RTT), held between cwnd and 1.5 cwnd (section 4.2).
    fn target(&self, window: &Window, elapsed_ms: u64) -> u32 {
        let distance =
            (elapsed_ms as i64 - i64::from(self.inflection_ms)).clamp(-MAX_DISTANCE_MS, MAX_DISTANCE_MS);
        let cube = i128::from(distance).pow(3) * i128::from(window.mss) / i128::from(INVERSE_C_MS3);
        let cubic = i128::from(self.max_window) + cube;
        let (low, high) = (window.congestion, window.congestion + window.congestion / 2);
        cubic.clamp(i128::from(low), i128::from(high)) as u32
    }

    /// Section 4.3: the window that Reno would have.
    fn grow_reno(&mut self, window: &Window, bytes: u32) {
        let alpha = if self.reno_window < self.prior_window { RENO_FRIENDLY_PERCENT } else { 100 };
        let gain = alpha * u64::from(bytes) * u64::from(window.mss) / 100 + u64::from(self.reno_credit);
        self.reno_window += (gain / u64::from(window.congestion)) as u32;
        self.reno_credit = (gain % u64::from(window.congestion)) as u32;
    }
}

fn percent(bytes: u32, percent: u64) -> u32 {
    (u64::from(bytes) * percent / 100) as u32
}

/// Rounded down, bit by bit, so that every machine has the same.
fn cube_root(value: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..21).rev() {
        let candidate = root | 1 << bit;
        if candidate * candidate * candidate <= value {
            root = candidate;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const MSS: u32 = 1000;

    fn acked(bytes: u32, at_ms: u64) -> Acked {
        let now = Instant::ZERO + Duration::from_millis(at_ms);
        Acked { bytes, smoothed_rtt_nanos: 100_000_000, now }
    }

    /// One round trip's worth of acknowledgements.
    fn round_trip(algorithm: &mut dyn Algorithm, window: &mut Window, at_ms: u64) {
        for _ in 0..window.congestion / MSS {
            algorithm.on_ack(window, acked(MSS, at_ms));
        }
    }

    #[test]
    fn the_initial_window_is_ten_segments_or_two_of_the_large() {
        assert_eq!(Window::new(1460).congestion, 14_600);
        assert_eq!(Window::new(536).congestion, 5_360);
        assert_eq!(Window::new(65_495).congestion, 2 * 65_495);
    }

    #[test]
    fn slow_start_doubles_each_round_trip_up_to_the_threshold() {
        let (mut reno, mut window) = (NewReno::default(), Window::new(MSS));
        round_trip(&mut reno, &mut window, 0);
        assert_eq!(window.congestion, 20 * MSS);
        window.threshold = 25 * MSS;
        round_trip(&mut reno, &mut window, 100);
        assert_eq!(window.congestion, 25 * MSS);
    }

    #[test]
    fn newreno_grows_one_segment_a_round_trip_and_halves() {
        let (mut reno, mut window) = (NewReno::default(), Window { threshold: 1, ..Window::new(MSS) });
        round_trip(&mut reno, &mut window, 0);
        assert_eq!(window.congestion, 11 * MSS);
        reno.on_loss(&mut window, 11 * MSS, Instant::ZERO);
        assert_eq!(window.threshold, 5_500);
    }

    #[test]
    fn cubic_comes_back_to_its_maximum_at_k_and_goes_beyond() {
        let mut cubic = Cubic::default();
        let mut window = Window { congestion: 1000 * MSS, ..Window::new(MSS) };
        cubic.on_loss(&mut window, 1000 * MSS, Instant::ZERO);
        assert_eq!(window.threshold, 700 * MSS);
        window.congestion = window.threshold;
        // K = cbrt(1000 * 0.3 / 0.4) = 9.08 s (section 4.2).
        let mut at_ms = 1;
        while at_ms < 9_000 {
            round_trip(&mut cubic, &mut window, at_ms);
            at_ms += 100;
        }
        assert!((980 * MSS..1010 * MSS).contains(&window.congestion), "{}", window.congestion);
        while at_ms < 14_000 {
            round_trip(&mut cubic, &mut window, at_ms);
            at_ms += 100;
        }
        assert!(window.congestion > 1030 * MSS, "{}", window.congestion);
    }

    #[test]
    fn cubic_is_no_slower_than_reno_on_a_short_path() {
        let mut cubic = Cubic::default();
        let mut window = Window { congestion: 20 * MSS, ..Window::new(MSS) };
        cubic.on_loss(&mut window, 20 * MSS, Instant::ZERO);
        window.congestion = window.threshold;
        for round in 0..20 {
            round_trip(&mut cubic, &mut window, 1 + round);
        }
        assert!(window.congestion >= 22 * MSS, "{}", window.congestion);
    }

    #[test]
    fn cube_roots_are_rounded_down() {
        assert_eq!([0, 1, 7, 8, 26, 27, 1_000_000_000].map(cube_root), [0, 1, 1, 2, 2, 3, 1000]);
    }
}
