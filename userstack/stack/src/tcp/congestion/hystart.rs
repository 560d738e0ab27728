//! HyStart++ (RFC 9406): slow start that ends when round trips grow, before the queue overflows.
//!
//! ```text
//!   slow start --round trips grew--> conservative slow start --5 rounds--> congestion avoidance
//!        ^                                    |
//!        +-------- they came down again ------+
//! ```

use super::algorithm::{Acked, Window};
use crate::tcp::sequence::Seq;

/// MIN_RTT_THRESH, MAX_RTT_THRESH and MIN_RTT_DIVISOR (section 4.3), in microseconds.
const MIN_RTT_THRESHOLD_MICROS: u32 = 4_000;
const MAX_RTT_THRESHOLD_MICROS: u32 = 16_000;
const RTT_DIVISOR: u32 = 8;
/// N_RTT_SAMPLE
const RTT_SAMPLES: u8 = 8;
/// CSS_GROWTH_DIVISOR
const CONSERVATIVE_GROWTH_DIVISOR: u32 = 4;
/// CSS_ROUNDS
const CONSERVATIVE_ROUNDS: u8 = 5;
/// No round trip was measured.
const UNKNOWN: u32 = u32::MAX;

#[derive(Copy, Clone, Debug)]
pub(crate) struct HyStart {
    /// windowEnd
    round_end: Seq,
    /// lastRoundMinRTT, currentRoundMinRTT and cssBaselineMinRtt, in microseconds.
    last_min: u32,
    current_min: u32,
    baseline_min: u32,
    /// rttSampleCount
    samples: u8,
    /// Rounds of conservative slow start that are left; zero: standard slow start.
    conservative_rounds: u8,
    started: bool,
}

impl Default for HyStart {
    fn default() -> Self {
        Self {
            round_end: Seq(0),
            last_min: UNKNOWN,
            current_min: UNKNOWN,
            baseline_min: UNKNOWN,
            samples: 0,
            conservative_rounds: 0,
            started: false,
        }
    }
}

impl HyStart {
    /// Section 4.2, for each acknowledgement in the initial slow start: how many of its bytes grow the window. When the
    /// time has come, the threshold comes down to the window.
    pub(super) fn on_ack(&mut self, window: &mut Window, acked: &Acked) -> u32 {
        if !self.started {
            (self.started, self.round_end) = (true, acked.next);
        }
        if let Some(rtt) = acked.rtt_nanos {
            self.current_min = self.current_min.min((rtt / 1000) as u32);
            self.samples = self.samples.saturating_add(1);
        }
        if self.conservative_rounds == 0 {
            self.look_for_growth();
        } else if self.samples >= RTT_SAMPLES && self.current_min < self.baseline_min {
            // The growth was none: back to the standard slow start.
            (self.conservative_rounds, self.baseline_min) = (0, UNKNOWN);
        }
        let conservative = self.conservative_rounds > 0;
        if acked.unacked.at_or_after(self.round_end) {
            self.end_round(window, acked.next);
        }
        if conservative { acked.bytes / CONSERVATIVE_GROWTH_DIVISOR } else { acked.bytes }
    }

    fn look_for_growth(&mut self) {
        if self.samples < RTT_SAMPLES || self.current_min == UNKNOWN || self.last_min == UNKNOWN {
            return;
        }
        let threshold =
            (self.last_min / RTT_DIVISOR).clamp(MIN_RTT_THRESHOLD_MICROS, MAX_RTT_THRESHOLD_MICROS);
        if self.current_min >= self.last_min.saturating_add(threshold) {
            self.baseline_min = self.current_min;
            self.conservative_rounds = CONSERVATIVE_ROUNDS;
        }
    }

    fn end_round(&mut self, window: &mut Window, next: Seq) {
        self.round_end = next;
        (self.last_min, self.current_min, self.samples) = (self.current_min, UNKNOWN, 0);
        if self.conservative_rounds > 0 {
            self.conservative_rounds -= 1;
            if self.conservative_rounds == 0 {
                window.threshold = window.congestion;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::tests::{MSS, acked};
    use super::*;

    /// A round of ten acknowledgements with one round-trip time; what it grew by.
    fn round(hystart: &mut HyStart, window: &mut Window, number: u32, rtt_ms: u64) -> u32 {
        let before = window.congestion;
        for step in 1..=10 {
            let now = Acked {
                unacked: Seq(number * 10 + step),
                next: Seq((number + 1) * 10 + step),
                rtt_nanos: Some(rtt_ms * 1_000_000),
                ..acked(MSS, 0)
            };
            let bytes = hystart.on_ack(window, &now);
            window.slow_start(bytes);
        }
        window.congestion - before
    }

    #[test]
    fn steady_round_trips_leave_slow_start_alone() {
        let (mut hystart, mut window) = (HyStart::default(), Window::new(MSS));
        for number in 0..6 {
            assert_eq!(round(&mut hystart, &mut window, number, 50), 10 * MSS);
        }
        assert!(window.in_slow_start());
    }

    #[test]
    fn growing_round_trips_slow_the_growth_to_a_quarter_and_end_it_after_five_rounds() {
        let (mut hystart, mut window) = (HyStart::default(), Window::new(MSS));
        round(&mut hystart, &mut window, 0, 50);
        round(&mut hystart, &mut window, 1, 50);
        round(&mut hystart, &mut window, 2, 57);
        for number in 3..7 {
            let grown = round(&mut hystart, &mut window, number, 57);
            assert!((2 * MSS..3 * MSS).contains(&grown), "round {number}: {grown}");
            assert!(window.in_slow_start(), "round {number}");
        }
        round(&mut hystart, &mut window, 7, 57);
        assert_eq!(window.threshold, window.congestion, "congestion avoidance from here");
    }

    #[test]
    fn less_than_the_threshold_is_noise() {
        let (mut hystart, mut window) = (HyStart::default(), Window::new(MSS));
        for (number, rtt_ms) in [10, 13, 16, 19].into_iter().enumerate() {
            assert_eq!(round(&mut hystart, &mut window, number as u32, rtt_ms), 10 * MSS, "3 ms are below 4");
        }
    }

    #[test]
    fn a_path_that_calms_down_goes_back_to_the_standard_slow_start() {
        let (mut hystart, mut window) = (HyStart::default(), Window::new(MSS));
        round(&mut hystart, &mut window, 0, 50);
        round(&mut hystart, &mut window, 1, 50);
        round(&mut hystart, &mut window, 2, 70);
        round(&mut hystart, &mut window, 3, 50);
        assert_eq!(round(&mut hystart, &mut window, 4, 50), 10 * MSS);
        assert!(window.in_slow_start());
    }
}
