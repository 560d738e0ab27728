//! A host's own clock: it began elsewhere, and it is too fast or too slow.

use std::time::Duration;

use stack::Instant;

const MILLION: i128 = 1_000_000;

/// How a host's time follows the network's. The default is the network's own.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// What it shows when the network's shows zero.
    pub ahead: Duration,
    /// How much faster than the network's it runs, in parts per million; more than minus a million.
    pub drift_ppm: i32,
}

impl Clock {
    /// What it shows at `time` of the network.
    pub fn local(&self, time: Instant) -> Instant {
        let passed = i128::from(time.as_nanos()) * (MILLION + i128::from(self.drift_ppm)) / MILLION;
        Instant::from_nanos(u64::try_from(passed).unwrap_or(u64::MAX)) + self.ahead
    }

    /// The first moment of the network at which it shows `local` or later.
    pub fn network(&self, local: Instant) -> Instant {
        let passed = i128::try_from(local.since(Instant::ZERO + self.ahead).as_nanos()).unwrap_or(i128::MAX);
        let rate = MILLION + i128::from(self.drift_ppm);
        let time = (passed.saturating_mul(MILLION) + rate - 1) / rate;
        Instant::from_nanos(u64::try_from(time).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_on_a_drifting_clock_is_reached_and_not_a_nanosecond_early() {
        for drift_ppm in [-200_000, -7, 0, 13, 250_000] {
            let clock = Clock { ahead: Duration::from_secs(77), drift_ppm };
            for nanos in [0, 1, 2, 999_999_937, 1 << 50] {
                let local = Instant::from_nanos(nanos) + clock.ahead;
                let time = clock.network(local);
                assert!(clock.local(time) >= local, "{drift_ppm} {nanos}");
                if time > Instant::ZERO {
                    let before = Instant::from_nanos(time.as_nanos() - 1);
                    assert!(clock.local(before) < local, "{drift_ppm} {nanos}");
                }
            }
        }
    }
}
