//! Pacing: text leaves at a rate and not as soon as the window lets it. It goes in bursts of about a millisecond, which
//! the timer wheel lets go, so that a fast path costs no timer a segment; and where a burst is the whole window, as it is
//! within a rack, nothing is held at all.

use super::rtt::{elapsed_nanos, later};
use crate::Instant;

/// What leaves at once: a millisecond's worth (Linux's sk_pacing_shift of 10 says the same), but a quarter of a round
/// trip at most, so that a short path is paced too where that is asked for; not less than the wheel can tell apart.
const BURST_NANOS: u64 = 1_000_000;
const BURSTS_A_ROUND_TRIP: u64 = 4;
const LEAST_BURST_NANOS: u64 = 131_072;
/// Fixed point of nanoseconds a byte.
const SHIFT: u32 = 20;

/// Nothing, where the connection does not pace: most do not.
#[derive(Debug, Default)]
pub(crate) struct Pacer(Option<Box<Pace>>);

#[derive(Debug, Default)]
struct Pace {
    /// Nanoseconds a byte, times 2^20; zero: nothing is held.
    nanos_a_byte: u64,
    burst_nanos: u64,
    /// When what has been sent is paid for.
    next_at: Instant,
    /// Until there the present burst may go ahead of its time.
    burst_end: Instant,
}

impl Pacer {
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(Box::default))
    }

    /// The connection paces at all.
    pub(crate) fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// `rate` in bytes a second; zero: as fast as the window lets go. `mss` is what a burst carries at least twice.
    pub(crate) fn set_rate(&mut self, rate: u64, mss: u32, smoothed_rtt_nanos: u64) {
        if let Some(pace) = &mut self.0 {
            pace.set_rate(rate, mss, smoothed_rtt_nanos);
        }
    }

    /// The connection has its turn: a new burst begins when the last one is paid for. What was not sent in time is not
    /// made up for beyond one burst.
    #[inline]
    pub(crate) fn begin(&mut self, now: Instant) {
        if let Some(pace) = &mut self.0 {
            pace.begin(now);
        }
    }

    /// The burst is spent: text waits until [`next_at`](Self::next_at).
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.0.as_ref().is_some_and(|pace| pace.holds())
    }

    /// Text goes as fast as the window lets it.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.0.as_ref().is_none_or(|pace| pace.nanos_a_byte == 0)
    }

    /// Bytes that the present burst has left.
    pub(crate) fn room(&self) -> u32 {
        self.0.as_ref().map_or(u32::MAX, |pace| pace.room())
    }

    pub(crate) fn next_at(&self) -> Instant {
        self.0.as_ref().map_or(Instant::ZERO, |pace| pace.next_at)
    }

    #[inline]
    pub(crate) fn on_sent(&mut self, bytes: u32) {
        if let Some(pace) = &mut self.0 {
            pace.on_sent(bytes);
        }
    }
}

impl Pace {
    fn set_rate(&mut self, rate: u64, mss: u32, smoothed_rtt_nanos: u64) {
        if rate == 0 {
            self.nanos_a_byte = 0;
            return;
        }
        self.nanos_a_byte = (1_000_000_000 << SHIFT) / rate;
        let burst = (smoothed_rtt_nanos / BURSTS_A_ROUND_TRIP).clamp(LEAST_BURST_NANOS, BURST_NANOS);
        self.burst_nanos = burst.max(self.nanos_of(mss) + 1);
    }

    fn begin(&mut self, now: Instant) {
        if self.nanos_a_byte == 0 || self.next_at > now {
            return;
        }
        let late = elapsed_nanos(now, self.next_at).min(self.burst_nanos);
        self.next_at = Instant::from_nanos(now.as_nanos() - late.min(now.as_nanos()));
        self.burst_end = later(now, self.burst_nanos);
    }

    fn holds(&self) -> bool {
        self.nanos_a_byte != 0 && self.next_at >= self.burst_end
    }

    fn room(&self) -> u32 {
        if self.nanos_a_byte == 0 {
            return u32::MAX;
        }
        let left = self.burst_end.since(self.next_at).as_nanos() << SHIFT;
        u32::try_from(left / u128::from(self.nanos_a_byte)).unwrap_or(u32::MAX)
    }

    fn on_sent(&mut self, bytes: u32) {
        if self.nanos_a_byte != 0 {
            self.next_at = later(self.next_at, self.nanos_of(bytes));
        }
    }

    fn nanos_of(&self, bytes: u32) -> u64 {
        u64::try_from((u128::from(bytes) * u128::from(self.nanos_a_byte)) >> SHIFT).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;
    const MS: u64 = 1_000_000;

    /// Bytes that leave at `now`.
    fn burst(pacer: &mut Pacer, now: u64) -> u32 {
        pacer.begin(Instant::from_nanos(now));
        let mut bytes = 0;
        while !pacer.holds() && bytes < 1_000_000 {
            pacer.on_sent(MSS);
            bytes += MSS;
        }
        bytes
    }

    #[test]
    fn a_burst_is_a_millisecond_and_the_rate_holds_over_time() {
        let mut pacer = Pacer::new(true);
        pacer.set_rate(10_000_000, MSS, 50 * MS);
        let (mut now, mut sent) = (MS, 0u64);
        while now < 1_000 * MS {
            let bytes = burst(&mut pacer, now);
            assert!(bytes <= 21_000, "{bytes} at once");
            sent += u64::from(bytes);
            // The wheel is late by up to a tick.
            now = pacer.next_at().as_nanos() + 65_536;
        }
        assert!((9_700_000..10_100_000).contains(&sent), "{sent}");
    }

    #[test]
    fn a_slow_rate_still_sends_two_segments_at_once() {
        let mut pacer = Pacer::new(true);
        pacer.set_rate(10_000, MSS, 50 * MS);
        pacer.begin(Instant::from_nanos(MS));
        pacer.on_sent(MSS);
        assert!(!pacer.holds());
        pacer.on_sent(MSS);
        assert!(pacer.holds());
        assert_eq!(pacer.next_at().as_nanos() / MS, 200 + 1 - 1, "a tenth of a second each, from a ms ago");
    }

    #[test]
    fn without_a_rate_nothing_is_held() {
        let mut pacer = Pacer::new(true);
        assert_eq!(burst(&mut pacer, MS), 1_000_000);
    }

    #[test]
    fn an_idle_time_is_made_up_for_by_one_burst_only() {
        let mut pacer = Pacer::new(true);
        pacer.set_rate(10_000_000, MSS, 50 * MS);
        burst(&mut pacer, MS);
        assert!(burst(&mut pacer, 60_000 * MS) <= 21_000);
    }
}
