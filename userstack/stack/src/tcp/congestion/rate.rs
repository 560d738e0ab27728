//! Delivery rate (draft-cheng-iccrg-delivery-rate-estimation-02): how fast the path delivered what was sent, measured
//! at each acknowledgement over the flight of its newest segment.
//!
//! ```text
//!   segment sent:   delivered, lost and pipe of that moment are stamped on it, and the two clocks' distances
//!   delivered:      rate = (delivered now - delivered then) / max(time it took to send them, time it took to be told)
//! ```

use crate::Instant;
use crate::tcp::rtt::elapsed_nanos;

/// A stamp's distances are in units of 16 ns: they fit 32 bits up to 68 s, longer than any round trip that counts.
const UNIT_SHIFT: u32 = 4;

/// What a segment remembers of the moment at which it was sent.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// P.delivered, low bits.
    delivered: u32,
    /// C.lost, low bits.
    lost: u32,
    /// P.tx_in_flight: bytes in the network, itself included.
    pipe: u32,
    /// P.sent_time - P.first_sent_time and P.sent_time - P.delivered_time, in units of 16 ns.
    send_units: u32,
    delivered_units: u32,
    /// P.is_app_limited
    unused: bool,
    /// The connection measures deliveries.
    taken: bool,
}

impl Stamp {
    pub(crate) fn is_taken(&self) -> bool {
        self.taken
    }
}

/// C.delivered and its companions (section 3.1.1).
#[derive(Clone, Debug, Default)]
pub(crate) struct RateSampler {
    delivered: u64,
    /// C.delivered_time
    delivered_at: Instant,
    /// C.first_sent_time
    first_sent_at: Instant,
    lost: u64,
    /// C.app_limited: up to here what was delivered says nothing of the path's most.
    unused_until: u64,
}

/// What one acknowledgement shows (section 3.1.3).
#[derive(Copy, Clone, Debug)]
pub(crate) struct RateSample {
    /// Bytes a second; zero: the interval was too short to say.
    pub rate: u64,
    /// rs.delivered: bytes delivered since the newest segment was sent.
    pub delivered: u64,
    /// rs.prior_delivered
    pub prior_delivered: u64,
    /// C.delivered after this acknowledgement.
    pub total_delivered: u64,
    /// Bytes found lost since the newest segment was sent, and in all.
    pub lost: u64,
    pub total_lost: u64,
    /// What was in the network when the newest segment was sent.
    pub pipe_when_sent: u64,
    /// rs.is_app_limited
    pub unused: bool,
}

impl RateSampler {
    /// Section 3.2.1: the stamp of a segment of `bytes` that leaves now. `pipe` is what was in the network before it.
    pub(crate) fn on_sent(&mut self, bytes: u32, pipe: u32, now: Instant) -> Stamp {
        if pipe == 0 {
            (self.first_sent_at, self.delivered_at) = (now, now);
        }
        Stamp {
            delivered: self.delivered as u32,
            lost: self.lost as u32,
            pipe: pipe.saturating_add(bytes),
            send_units: units(elapsed_nanos(now, self.first_sent_at)),
            delivered_units: units(elapsed_nanos(now, self.delivered_at)),
            unused: self.unused_until > 0,
            taken: true,
        }
    }

    /// Bytes were newly found lost.
    pub(crate) fn on_lost(&mut self, bytes: u32) {
        self.lost += u64::from(bytes);
    }

    /// Section 3.4: nothing waits to be sent although the window has room. What is in the network now was sent slower
    /// than it could have been.
    pub(crate) fn on_unused(&mut self, pipe: u32) {
        self.unused_until = (self.delivered + u64::from(pipe)).max(1);
    }

    /// Section 3.3: `bytes` were delivered; the newest of them left at the time beside its stamp. An interval below the smallest round trip
    /// is one of acknowledgements that were held up and came at once.
    pub(crate) fn on_delivered(
        &mut self,
        bytes: u32,
        newest: Option<(Stamp, Instant)>,
        min_rtt_nanos: u64,
        now: Instant,
    ) -> Option<RateSample> {
        if bytes == 0 {
            return None;
        }
        self.delivered += u64::from(bytes);
        self.delivered_at = now;
        if self.unused_until > 0 && self.delivered > self.unused_until {
            self.unused_until = 0;
        }
        let (stamp, sent_at) = newest.filter(|(stamp, _)| stamp.taken)?;
        self.first_sent_at = sent_at;
        let send_nanos = nanos(stamp.send_units);
        let told_nanos = elapsed_nanos(now, sent_at) + nanos(stamp.delivered_units);
        let interval = send_nanos.max(told_nanos);
        let delivered = since(self.delivered, stamp.delivered);
        let rate = if interval < min_rtt_nanos.max(1) {
            0
        } else {
            (u128::from(delivered) * 1_000_000_000 / u128::from(interval)) as u64
        };
        Some(RateSample {
            rate,
            delivered,
            prior_delivered: self.delivered - delivered,
            total_delivered: self.delivered,
            lost: since(self.lost, stamp.lost),
            total_lost: self.lost,
            pipe_when_sent: u64::from(stamp.pipe),
            unused: stamp.unused,
        })
    }
}

/// From a stamp's low bits to now.
fn since(now: u64, then: u32) -> u64 {
    u64::from((now as u32).wrapping_sub(then))
}

fn units(nanos: u64) -> u32 {
    u32::try_from(nanos >> UNIT_SHIFT).unwrap_or(u32::MAX)
}

fn nanos(units: u32) -> u64 {
    u64::from(units) << UNIT_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn sent(sampler: &mut RateSampler, pipe: u32, at_ms: u64) -> Option<(Stamp, Instant)> {
        Some((sampler.on_sent(1000, pipe, at(at_ms)), at(at_ms)))
    }

    #[test]
    fn a_rate_is_what_was_delivered_over_the_longer_of_two_times() {
        let mut sampler = RateSampler::default();
        let segments: Vec<_> = (0..10).map(|n| sent(&mut sampler, n * 1000, u64::from(n))).collect();
        // Sent a millisecond apart, told two milliseconds apart: the slower of the two is the path.
        let samples: Vec<_> = segments
            .into_iter()
            .zip(0..)
            .map(|(newest, n)| sampler.on_delivered(1000, newest, 50_000_000, at(50 + 2 * n)).unwrap())
            .collect();
        assert_eq!(samples[0].rate, 1000 * 20, "one segment in a round trip of 50 ms");
        assert_eq!(samples[9].rate, 10_000 * 1_000_000_000 / 68_000_000);
        assert_eq!((samples[9].delivered, samples[9].prior_delivered), (10_000, 0));
        assert_eq!(samples[9].pipe_when_sent, 10_000);
    }

    #[test]
    fn an_interval_below_the_smallest_round_trip_says_nothing() {
        let mut sampler = RateSampler::default();
        let segment = sent(&mut sampler, 0, 0);
        assert_eq!(sampler.on_delivered(1000, segment, 50_000_000, at(10)).unwrap().rate, 0);
    }

    #[test]
    fn what_was_sent_while_nothing_waited_is_marked_until_it_is_delivered() {
        let mut sampler = RateSampler::default();
        let first = sent(&mut sampler, 0, 0);
        sampler.on_unused(1000);
        let second = sent(&mut sampler, 1000, 1);
        assert!(!sampler.on_delivered(1000, first, 1, at(50)).unwrap().unused);
        assert!(sampler.on_delivered(1000, second, 1, at(51)).unwrap().unused);
        let third = sent(&mut sampler, 0, 52);
        assert!(!sampler.on_delivered(1000, third, 1, at(100)).unwrap().unused);
    }

    #[test]
    fn losses_are_counted_from_when_the_segment_was_sent() {
        let mut sampler = RateSampler::default();
        sampler.on_lost(5000);
        let segment = sent(&mut sampler, 0, 0);
        sampler.on_lost(2000);
        let sample = sampler.on_delivered(1000, segment, 1, at(50)).unwrap();
        assert_eq!((sample.lost, sample.total_lost), (2000, 7000));
    }
}
