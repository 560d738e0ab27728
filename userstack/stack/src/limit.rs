//! A token bucket: how often something may happen, in bursts and on average.

use std::time::Duration;

use crate::Instant;

/// Holds up to `burst` tokens and gains `per_second` of them each second. Kept as one moment (the generic cell rate
/// algorithm, ITU-T I.371): when the next token would be due if all came at the even rate.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    interval: Duration,
    burst: u32,
    due: Instant,
}

impl TokenBucket {
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second, burst, due: Instant::ZERO }
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due.max(now);
        let allowed = due.since(now) <= self.interval * (self.burst - 1);
        if allowed {
            self.due = due + self.interval;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_rules() {
        let mut bucket = TokenBucket::new(10, 3);
        let start = Instant::ZERO;
        assert_eq!((0..10).filter(|_| bucket.take(start)).count(), 3);
        assert!(!bucket.take(start + Duration::from_millis(99)));
        assert!(bucket.take(start + Duration::from_millis(100)));
        assert!(!bucket.take(start + Duration::from_millis(100)));
        assert_eq!((0..10).filter(|_| bucket.take(start + Duration::from_secs(60))).count(), 3);
    }
}
