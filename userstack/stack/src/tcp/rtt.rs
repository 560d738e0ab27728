//! Round-trip time and the retransmission timeout (RFC 6298).

use std::time::Duration;

use crate::Instant;

/// RFC 6298, section 2.1.
const INITIAL_RTO_NANOS: u64 = 1_000_000_000;
/// RFC 6298 (5.7): until it is measured, where the handshake lost a SYN.
const LOST_SYN_RTO_NANOS: u64 = 3_000_000_000;
/// Linux's TCP_RTO_MIN. RFC 6298 (2.4) would have a second; every stack that people run uses a fifth, which is above
/// the delayed acknowledgements of all of them.
const MIN_RTO_NANOS: u64 = 200_000_000;
/// RFC 6298 (2.5) allows no less than 60 s.
pub(crate) const MAX_RTO_NANOS: u64 = 60_000_000_000;
/// G: timers fire to the millisecond.
const CLOCK_GRANULARITY_NANOS: u64 = 1_000_000;
/// Doublings after which every timeout is the longest.
const MAX_SHIFT: u8 = 9;
/// How long a smallest round trip is believed: paths change (RFC 8985, section 6.2 wants a window of minutes).
const MIN_RTT_LIFE_SECONDS: u32 = 300;

/// Estimates are kept in units of 16 ns, so that 32 bits hold more than the longest timeout: a million connections have
/// them.
const UNIT_SHIFT: u32 = 4;

/// In units of 2^[`UNIT_SHIFT`] ns.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Rtt {
    /// SRTT; zero before the first sample.
    smoothed: u32,
    /// RTTVAR
    variance: u32,
    min: u32,
    /// When that was measured, in seconds.
    min_at_seconds: u32,
    /// Doublings since the last acknowledgement of new data.
    backoff: u8,
    /// A SYN of ours timed out.
    syn_lost: bool,
}

impl Default for Rtt {
    fn default() -> Self {
        Self { smoothed: 0, variance: 0, min: u32::MAX, min_at_seconds: 0, backoff: 0, syn_lost: false }
    }
}

impl Rtt {
    /// RFC 6298 (2.2) and (2.3).
    pub(crate) fn sample(&mut self, nanos: u64, now: Instant) {
        self.note_min(nanos, now);
        let sample = to_units(nanos);
        if self.smoothed == 0 {
            (self.smoothed, self.variance) = (sample, sample / 2);
            return;
        }
        let error = self.smoothed.abs_diff(sample);
        self.variance = self.variance - self.variance / 4 + error / 4;
        self.smoothed = self.smoothed - self.smoothed / 8 + sample / 8;
    }

    /// A timeout was spurious, and `nanos` is the first of what was sent after that was found: from now on the estimate
    /// is no lower than it or than `before` the timeout (RFC 4015, section 3.2, step 10).
    pub(crate) fn adapt(&mut self, before: &Self, nanos: u64, now: Instant) {
        self.note_min(nanos, now);
        let sample = to_units(nanos);
        // SRTT_prev is SRTT + 2 * G, and G is the wheel's tick.
        let previous = before.smoothed.saturating_add(to_units(2 * CLOCK_GRANULARITY_NANOS));
        self.smoothed = previous.max(sample);
        self.variance = before.variance.max(sample / 2);
    }

    /// The newest delivery of an acknowledgement, free of the peer's delay.
    pub(crate) fn note_min(&mut self, nanos: u64, now: Instant) {
        let (sample, now_seconds) = (to_units(nanos), (now.as_nanos() / 1_000_000_000) as u32);
        if sample <= self.min || now_seconds.wrapping_sub(self.min_at_seconds) > MIN_RTT_LIFE_SECONDS {
            (self.min, self.min_at_seconds) = (sample, now_seconds);
        }
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        (self.smoothed > 0).then(|| Duration::from_nanos(self.smoothed_nanos()))
    }

    pub(crate) fn smoothed_nanos(&self) -> u64 {
        to_nanos(self.smoothed)
    }

    /// Zero before the first sample.
    pub(crate) fn min_nanos(&self) -> u64 {
        if self.min == u32::MAX { 0 } else { to_nanos(self.min) }
    }

    /// The timeout with its backoff (RFC 6298 (5.5)). The floor is on the variance, as Linux has it: with a steady
    /// round trip the timeout would else be the round trip itself.
    pub(crate) fn timeout_nanos(&self) -> u64 {
        let base = match self.smoothed {
            0 if self.syn_lost => LOST_SYN_RTO_NANOS,
            0 => INITIAL_RTO_NANOS,
            smoothed => to_nanos(smoothed) + (4 * to_nanos(self.variance)).max(MIN_RTO_NANOS),
        };
        (base << self.backoff.min(MAX_SHIFT)).min(MAX_RTO_NANOS)
    }

    /// When a timeout that begins now ends.
    pub(crate) fn timeout_from(&self, now: Instant) -> Instant {
        later(now, self.timeout_nanos())
    }

    pub(crate) fn back_off(&mut self) {
        self.backoff = self.backoff.saturating_add(1);
    }

    /// Our SYN is acknowledged.
    pub(crate) fn on_established(&mut self) {
        self.syn_lost = self.backoff > 0;
        self.end_backoff();
    }

    /// New data was acknowledged.
    pub(crate) fn end_backoff(&mut self) {
        self.backoff = 0;
    }

    pub(crate) fn backoff(&self) -> u8 {
        self.backoff
    }
}

/// Never zero, which is "not measured", and never the largest, which is "no least".
fn to_units(nanos: u64) -> u32 {
    (nanos >> UNIT_SHIFT).clamp(1, u64::from(u32::MAX) - 1) as u32
}

fn to_nanos(units: u32) -> u64 {
    u64::from(units) << UNIT_SHIFT
}

/// Nanoseconds from `earlier` to `now`. Segments count instructions: a `Duration` on the way costs more than the sum.
pub(crate) fn elapsed_nanos(now: Instant, earlier: Instant) -> u64 {
    now.as_nanos().saturating_sub(earlier.as_nanos())
}

/// `nanos` after `now`.
pub(crate) fn later(now: Instant, nanos: u64) -> Instant {
    Instant::from_nanos(now.as_nanos().saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_a_second_before_any_sample_and_never_below_the_floor() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout_nanos(), INITIAL_RTO_NANOS);
        for _ in 0..100 {
            rtt.sample(100_000, Instant::ZERO);
        }
        assert!((MIN_RTO_NANOS..MIN_RTO_NANOS + 1_000_000).contains(&rtt.timeout_nanos()));
    }

    #[test]
    fn the_first_sample_sets_mean_and_half_of_it_as_variance() {
        let mut rtt = Rtt::default();
        rtt.sample(300_000_000, Instant::ZERO);
        assert_eq!(rtt.timeout_nanos(), (300 + 4 * 150) * 1_000_000);
    }

    #[test]
    fn after_a_spurious_timeout_the_estimate_is_no_lower_than_before_it_nor_than_the_first_sample() {
        let mut before = Rtt::default();
        (0..100).for_each(|_| before.sample(100_000_000, Instant::ZERO));
        let mut rtt = before;
        rtt.adapt(&before, 500_000_000, Instant::ZERO);
        assert_eq!(rtt.timeout_nanos(), 1_500_000_000, "a first sample's");
        rtt.adapt(&before, 50_000_000, Instant::ZERO);
        assert!(rtt.timeout_nanos() >= before.timeout_nanos());
    }

    #[test]
    fn backoff_doubles_up_to_a_minute_and_ends_with_new_data() {
        let mut rtt = Rtt::default();
        let timeouts: Vec<_> = (0..8)
            .map(|_| {
                let timeout = rtt.timeout_nanos() / 1_000_000_000;
                rtt.back_off();
                timeout
            })
            .collect();
        assert_eq!(timeouts, [1, 2, 4, 8, 16, 32, 60, 60]);
        rtt.end_backoff();
        assert_eq!(rtt.timeout_nanos(), INITIAL_RTO_NANOS);
    }
}
