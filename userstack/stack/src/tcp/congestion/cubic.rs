//! CUBIC (RFC 9438). Times in milliseconds, windows in bytes.

use super::algorithm::{Acked, Algorithm, Before, MAX_WINDOW, Window, percent};
use super::hystart::HyStart;
use crate::Instant;

/// beta_cubic = 0.7 and (1 + beta_cubic) / 2 = 0.85, in hundredths (RFC 9438, sections 4.6 and 4.7).
const BETA_PERCENT: u64 = 70;
const FAST_CONVERGENCE_PERCENT: u64 = 85;
/// alpha_cubic = 3 * (1 - 0.7) / (1 + 0.7) = 0.53, in hundredths (section 4.3).
const RENO_FRIENDLY_PERCENT: u64 = 53;
/// C = 0.4 segments per s^3; its inverse in ms^3 per segment (section 5.1).
const INVERSE_C_MS3: u64 = 2_500_000_000;
/// Beyond it the cubic term is above any window, and its cube still fits 64 bits.
const MAX_DISTANCE_MS: i64 = 1_000_000;
/// The division by 1/C in two steps, so that cube times segment fits 64 bits and a short distance is not rounded away.
const INVERSE_C_STEPS: [i64; 2] = [250_000, 10_000];

/// Most connections never leave their initial slow start: what comes after it lies apart.
#[derive(Clone, Debug)]
pub(crate) enum Cubic {
    /// Section 4.10: the initial slow start is HyStart++'s.
    Initial(HyStart),
    Later(Box<Later>),
}

/// After the initial slow start.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Later {
    curve: Curve,
    /// Section 4.9: what a reduction replaced, should it turn out to have had no reason.
    before: Before,
    curve_before: Curve,
    /// cwnd_prior
    prior_window: u32,
    /// Acknowledged bytes that have not yet grown a window.
    credit: u32,
    reno_credit: u32,
    /// Since when the window is not used: such time is none of the curve's (section 4.2).
    unused_since: Option<Instant>,
}

/// What one avoidance stage grows along.
#[derive(Copy, Clone, Debug, Default)]
struct Curve {
    /// W_max
    max_window: u32,
    /// W_est
    reno_window: u32,
    /// K
    inflection_ms: u32,
    /// t_epoch: when the present avoidance stage began.
    epoch: Option<Instant>,
}

impl Default for Cubic {
    fn default() -> Self {
        Self::Initial(HyStart::default())
    }
}

impl Algorithm for Cubic {
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        match self {
            Self::Initial(hystart) if window.in_slow_start() => {
                let bytes = hystart.on_ack(window, acked);
                let rest = window.slow_start(bytes);
                if rest > 0 {
                    self.later().avoid(window, acked, rest);
                }
            }
            _ => self.later().on_ack(window, acked),
        }
    }

    fn on_loss(&mut self, window: &mut Window, flight: u32, _now: Instant) {
        self.later().on_loss(window, flight);
    }

    /// Section 4.8: the stage after a timeout begins at its own maximum, whatever was before.
    fn on_timeout(&mut self, window: &mut Window, flight: u32, now: Instant) {
        self.on_loss(window, flight, now);
        self.later().curve.max_window = 0;
    }

    /// A mark is never taken back: there is no telling that it had no reason.
    fn on_mark(&mut self, window: &mut Window, flight: u32, now: Instant) {
        self.on_loss(window, flight, now);
        let later = self.later();
        (later.before, later.curve_before) = (Before::default(), later.curve);
    }

    /// Section 4.9.
    fn on_spurious(&mut self, window: &mut Window) {
        if let Self::Later(later) = self {
            window.restore(later.before);
            later.curve = later.curve_before;
        }
    }

    /// Time in the initial slow start is none of the curve's either.
    fn on_unused(&mut self, now: Instant) {
        if let Self::Later(later) = self {
            later.unused_since.get_or_insert(now);
        }
    }
}

impl Cubic {
    /// The initial slow start is over.
    fn later(&mut self) -> &mut Later {
        if let Self::Initial(_) = self {
            *self = Self::Later(Box::default());
        }
        match self {
            Self::Later(later) => later,
            Self::Initial(_) => unreachable!("the initial slow start has just been ended"),
        }
    }
}

impl Later {
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        self.end_pause(acked.now);
        let rest = if window.in_slow_start() { window.slow_start(acked.bytes) } else { acked.bytes };
        if rest > 0 {
            self.avoid(window, acked, rest);
        }
    }

    /// Congestion avoidance, by `rest` acknowledged bytes.
    fn avoid(&mut self, window: &mut Window, acked: &Acked, rest: u32) {
        let epoch = match self.curve.epoch {
            Some(epoch) => epoch,
            None => self.begin_epoch(window, acked.now),
        };
        let elapsed_ms = acked.now.since(epoch).as_millis() as u64;
        self.grow_reno(window, rest);
        // Section 4.3: where Reno would be wider, CUBIC is as wide.
        if self.curve.width(window.mss, elapsed_ms) < i64::from(self.curve.reno_window) {
            window.congestion = window.congestion.max(self.curve.reno_window).min(MAX_WINDOW);
            return;
        }
        // Sections 4.4 and 4.5: (target - cwnd) / cwnd segments for each segment acknowledged.
        let round_trip_ms = acked.smoothed_rtt_nanos / 1_000_000;
        let target = self.target(window, elapsed_ms.saturating_add(round_trip_ms));
        let gain =
            u64::from(rest) * u64::from(target.saturating_sub(window.congestion)) + u64::from(self.credit);
        window.widen((gain / u64::from(window.congestion)) as u32);
        self.credit = (gain % u64::from(window.congestion)) as u32;
    }

    fn on_loss(&mut self, window: &mut Window, flight: u32) {
        (self.before, self.curve_before) = (Before::of(window), self.curve);
        let width = window.congestion;
        // Section 4.7: a flow that lost below its last maximum makes room for others.
        let max = self.curve.max_window;
        self.curve.max_window = if width < max { percent(width, FAST_CONVERGENCE_PERCENT) } else { width };
        self.prior_window = width;
        // Section 4.6: of the flight, so that an unused window is no excuse.
        window.threshold = percent(flight.min(width), BETA_PERCENT).max(2 * window.mss);
        self.curve.epoch = None;
    }

    /// Section 4.2: t does not count time in which the sender was not held back by the window.
    fn end_pause(&mut self, now: Instant) {
        if let Some(since) = self.unused_since.take()
            && let Some(epoch) = &mut self.curve.epoch
        {
            *epoch = *epoch + now.since(since);
        }
    }

    fn begin_epoch(&mut self, window: &Window, now: Instant) -> Instant {
        let curve = &mut self.curve;
        // Without a loss before (sections 4.8 and 4.10), K is 0 and W_max is where the stage begins.
        curve.max_window = curve.max_window.max(window.congestion);
        let deficit = u64::from(curve.max_window - window.congestion);
        curve.inflection_ms = cube_root(deficit * INVERSE_C_MS3 / u64::from(window.mss)) as u32;
        curve.reno_window = window.congestion;
        curve.epoch = Some(now);
        (self.credit, self.reno_credit) = (0, 0);
        now
    }

    /// W_cubic(t + RTT), held between cwnd and 1.5 cwnd (section 4.2).
    fn target(&self, window: &Window, elapsed_ms: u64) -> u32 {
        let (low, high) = (window.congestion, window.congestion + window.congestion / 2);
        self.curve.width(window.mss, elapsed_ms).clamp(i64::from(low), i64::from(high)) as u32
    }

    /// Section 4.3: the window that Reno would have.
    fn grow_reno(&mut self, window: &Window, bytes: u32) {
        let reno = self.curve.reno_window;
        let alpha = if reno < self.prior_window { RENO_FRIENDLY_PERCENT } else { 100 };
        let gain = alpha * u64::from(bytes) * u64::from(window.mss) / 100 + u64::from(self.reno_credit);
        self.curve.reno_window = reno.saturating_add((gain / u64::from(window.congestion)) as u32);
        self.reno_credit = (gain % u64::from(window.congestion)) as u32;
    }
}

impl Curve {
    /// W_cubic(t) = C * (t - K)^3 + W_max (section 4.2, figure 1).
    fn width(&self, mss: u32, elapsed_ms: u64) -> i64 {
        let elapsed_ms = elapsed_ms.min(2 * MAX_DISTANCE_MS as u64) as i64;
        let distance = (elapsed_ms - i64::from(self.inflection_ms)).clamp(-MAX_DISTANCE_MS, MAX_DISTANCE_MS);
        let [first, second] = INVERSE_C_STEPS;
        i64::from(self.max_window) + distance.pow(3) / first * i64::from(mss) / second
    }
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
    use super::super::algorithm::tests::{MSS, acked, round_trip};
    use super::*;

    /// After a loss at `segments`, at the beginning of avoidance.
    fn after_loss(segments: u32) -> (Cubic, Window) {
        let mut cubic = Cubic::default();
        let mut window = Window { congestion: segments * MSS, ..Window::new(MSS) };
        cubic.on_loss(&mut window, segments * MSS, Instant::ZERO);
        window.congestion = window.threshold;
        (cubic, window)
    }

    fn grow_until(cubic: &mut Cubic, window: &mut Window, at_ms: &mut u64, until_ms: u64) {
        while *at_ms < until_ms {
            round_trip(cubic, window, *at_ms);
            *at_ms += 100;
        }
    }

    #[test]
    fn cubic_comes_back_to_its_maximum_at_k_and_goes_beyond() {
        let (mut cubic, mut window) = after_loss(1000);
        assert_eq!(window.threshold, 700 * MSS);
        // K = cbrt(1000 * 0.3 / 0.4) = 9.08 s (section 4.2).
        let mut at_ms = 1;
        grow_until(&mut cubic, &mut window, &mut at_ms, 9_000);
        assert!((980 * MSS..1010 * MSS).contains(&window.congestion), "{}", window.congestion);
        grow_until(&mut cubic, &mut window, &mut at_ms, 14_000);
        assert!(window.congestion > 1030 * MSS, "{}", window.congestion);
    }

    #[test]
    fn cubic_is_no_slower_than_reno_on_a_short_path() {
        let (mut cubic, mut window) = after_loss(20);
        for round in 0..20 {
            round_trip(&mut cubic, &mut window, 1 + round);
        }
        assert!(window.congestion >= 22 * MSS, "{}", window.congestion);
    }

    #[test]
    fn a_second_loss_below_the_maximum_gives_way() {
        let (mut cubic, mut window) = after_loss(1000);
        cubic.on_loss(&mut window, 700 * MSS, Instant::ZERO);
        assert_eq!(cubic.later().curve.max_window, 595 * MSS, "85% of 700 (section 4.7)");
    }

    #[test]
    fn the_stage_after_a_timeout_begins_at_its_own_maximum() {
        let mut cubic = Cubic::default();
        let mut window = Window { congestion: 1000 * MSS, ..Window::new(MSS) };
        cubic.on_timeout(&mut window, 1000 * MSS, Instant::ZERO);
        window.congestion = window.threshold;
        cubic.on_ack(&mut window, &acked(MSS, 1));
        let curve = cubic.later().curve;
        assert_eq!((curve.max_window, curve.inflection_ms), (700 * MSS, 0));
    }

    #[test]
    fn a_loss_that_was_none_leaves_window_and_curve_as_they_were() {
        let (mut cubic, mut window) = after_loss(1000);
        round_trip(&mut cubic, &mut window, 1);
        let (curve, before) = (cubic.later().curve, window);
        cubic.on_loss(&mut window, 500 * MSS, Instant::ZERO);
        window.congestion = window.threshold;
        cubic.on_spurious(&mut window);
        assert_eq!((window.congestion, window.threshold), (before.congestion, before.threshold));
        assert_eq!(cubic.later().curve.max_window, curve.max_window);
        assert_eq!(cubic.later().curve.epoch, curve.epoch);
    }

    #[test]
    fn time_without_use_is_no_time_of_the_curve() {
        let (mut cubic, mut window) = after_loss(1000);
        let (mut rested, mut window_rested) = (cubic.clone(), window);
        let mut at_ms = 1;
        grow_until(&mut cubic, &mut window, &mut at_ms, 3_000);
        let mut at_ms = 1;
        grow_until(&mut rested, &mut window_rested, &mut at_ms, 1_500);
        rested.on_unused(Instant::ZERO + std::time::Duration::from_millis(at_ms));
        at_ms += 60_000;
        grow_until(&mut rested, &mut window_rested, &mut at_ms, 61_500 + 1_500);
        let difference = window.congestion.abs_diff(window_rested.congestion);
        assert!(difference < 10 * MSS, "{} beside {}", window.congestion, window_rested.congestion);
    }

    #[test]
    fn the_curve_is_level_around_its_inflection_and_never_overflows() {
        let curve = Curve { max_window: 1 << 30, inflection_ms: 10_000, ..Curve::default() };
        assert_eq!(curve.width(1460, 10_000), 1 << 30);
        assert!(curve.width(65_535, u64::MAX) > 1 << 30);
        let early = Curve { inflection_ms: u32::MAX, ..curve };
        assert!(early.width(65_535, 0) < 0);
        // C * 1 s^3 = 0.4 segments.
        assert_eq!(curve.width(1000, 11_000) - (1 << 30), 400);
    }

    #[test]
    fn cube_roots_are_rounded_down() {
        assert_eq!([0, 1, 7, 8, 26, 27, 1_000_000_000].map(cube_root), [0, 1, 1, 2, 2, 3, 1000]);
    }
}
