//! NewReno (RFC 5681, RFC 6582).

use super::algorithm::{Acked, Algorithm, Before, Window};
use crate::Instant;

/// RFC 5681, section 3.1, counting bytes (RFC 3465).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct NewReno {
    /// Acknowledged in congestion avoidance since the window grew.
    acked_bytes: u32,
    before: Before,
}

impl Algorithm for NewReno {
    /// Section 3.1: slow start, and a segment for each window of acknowledged bytes afterwards.
    fn on_ack(&mut self, window: &mut Window, acked: &Acked) {
        let rest = window.slow_start(acked.bytes);
        self.acked_bytes = self.acked_bytes.saturating_add(rest);
        if self.acked_bytes >= window.congestion {
            self.acked_bytes -= window.congestion;
            window.widen(window.mss);
        }
    }

    /// Section 3.1, equation (4): half of the flight, two segments at least.
    fn on_loss(&mut self, window: &mut Window, flight: u32, _now: Instant) {
        self.before = Before::of(window);
        window.threshold = (flight / 2).max(2 * window.mss);
        self.acked_bytes = 0;
    }

    /// A mark is never taken back: there is no telling that it had no reason.
    fn on_mark(&mut self, window: &mut Window, flight: u32, now: Instant) {
        self.on_loss(window, flight, now);
        self.before = Before::default();
    }

    fn on_spurious(&mut self, window: &mut Window) {
        window.restore(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::super::algorithm::tests::{MSS, round_trip};
    use super::*;

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
    fn newreno_takes_a_reduction_back_that_had_no_reason() {
        let (mut reno, mut window) = (NewReno::default(), Window { threshold: 8 * MSS, ..Window::new(MSS) });
        reno.on_loss(&mut window, 10 * MSS, Instant::ZERO);
        window.congestion = MSS;
        reno.on_spurious(&mut window);
        assert_eq!((window.congestion, window.threshold), (10 * MSS, 8 * MSS));
    }

    #[test]
    fn the_pace_is_twice_the_window_in_slow_start_and_a_fifth_above_it_later() {
        let newreno = NewReno::default();
        let mut window = Window { congestion: 10 * MSS, ..Window::new(MSS) };
        assert_eq!(newreno.pace(&window, 0, 100_000_000), 200 * u64::from(MSS));
        window.threshold = 10 * MSS;
        assert_eq!(newreno.pace(&window, 0, 100_000_000), 120 * u64::from(MSS));
        assert_eq!(newreno.pace(&window, 0, 0), 0, "nothing was measured yet");
    }
}
