//! A token bucket: how often something may happen, in bursts and on average.

use std::hash::BuildHasher;
use std::time::Duration;

use crate::Instant;
use crate::hash::Key;

/// Holds up to `burst` tokens and gains `per_second` of them each second. Kept as one moment (the generic cell rate
/// algorithm, ITU-T I.371): when the next token would be due if all came at the even rate.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    interval: Duration,
    burst: u32,
    due: Instant,
    noise: Option<Noise>,
}

/// Makes some tokens count twice, which only the key knows.
#[derive(Debug)]
struct Noise {
    key: Key,
    taken: u64,
}

/// Of as many tokens one counts twice, on average.
const NOISE: u64 = 4;

impl TokenBucket {
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self { interval: Duration::from_secs(1) / per_second, burst, due: Instant::ZERO, noise: None }
    }

    /// One whose bursts are of no certain length, a little less than `burst`. What is answered out of a store that all
    /// share tells whoever empties it what others took, if they know how much was in it (CVE-2020-25705).
    pub fn noisy(per_second: u32, burst: u32, key: Key) -> Self {
        Self { noise: Some(Noise { key, taken: 0 }), ..Self::new(per_second, burst) }
    }

    /// Takes a token; false when there is none.
    pub fn take(&mut self, now: Instant) -> bool {
        let due = self.due.max(now);
        let allowed = due.since(now) <= self.interval * (self.burst - 1);
        if allowed {
            let tokens = self.noise.as_mut().map_or(1, Noise::tokens);
            self.due = due + self.interval * tokens;
        }
        allowed
    }
}

impl Noise {
    fn tokens(&mut self) -> u32 {
        self.taken += 1;
        if self.key.hash_one(self.taken).is_multiple_of(NOISE) { 2 } else { 1 }
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

    #[test]
    fn noise_makes_bursts_of_no_certain_length() {
        let mut bucket = TokenBucket::noisy(1000, 50, Key::new(&[1; 32], 0));
        let bursts: Vec<usize> = (1..=16)
            .map(|second| {
                let now = Instant::ZERO + Duration::from_secs(second);
                (0..100).filter(|_| bucket.take(now)).count()
            })
            .collect();
        assert!(bursts.iter().all(|burst| (30..=50).contains(burst)), "{bursts:?}");
        assert!(bursts.iter().any(|burst| *burst != bursts[0]), "{bursts:?}");
    }
}
