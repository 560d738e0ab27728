//! What BBR knows of the path, one small filter each (draft-ietf-ccwg-bbr-02, section 5.5). None of them decides.

use crate::Instant;
use crate::tcp::congestion::rate::RateSample;
use crate::tcp::rtt::elapsed_nanos;

/// All of something, in hundredths, as [`share`] has them.
pub(super) const LEVEL: u64 = 100;
/// Not bounded, or not measured.
pub(super) const NONE: u64 = u64::MAX;
/// A startup round grows by a quarter, or the pipe begins to look full; after three such rounds it is.
const FULL_GROWTH: u64 = 125;
const FULL_ROUNDS: u8 = 3;
/// BBR.MinRTTFilterLen and BBR.ProbeRTTInterval.
const MIN_RTT_LIFE_NANOS: u64 = 10_000_000_000;
const PROBE_RTT_INTERVAL_NANOS: u64 = 5_000_000_000;
/// Half of BBR.ExtraAckedFilterLen: the filter is two halves.
const EXTRA_ACKED_ROUNDS: u64 = 5;

/// Round trips, counted by deliveries (section 5.5.1).
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Rounds {
    pub count: u64,
    /// The present acknowledgement begins one.
    pub start: bool,
    /// BBR.next_round_delivered
    ends_at: u64,
    /// The same for rounds of loss, which no state begins anew (BBR.loss_round_delivered).
    pub loss_start: bool,
    loss_ends_at: u64,
    /// C.delivered and C.lost when the present round of loss began.
    delivered_before: u64,
    lost_before: u64,
}

impl Rounds {
    pub(super) fn update(&mut self, sample: &RateSample) {
        self.loss_start = sample.prior_delivered >= self.loss_ends_at;
        if self.loss_start {
            self.loss_ends_at = sample.total_delivered;
        }
        self.start = sample.prior_delivered >= self.ends_at;
        if self.start {
            self.ends_at = sample.total_delivered;
            self.count += 1;
        }
    }

    /// BBRStartRound: the next round is of what is sent from now on.
    pub(super) fn restart(&mut self, sample: &RateSample) {
        self.ends_at = sample.total_delivered;
    }

    /// Bytes lost in the present round of loss, and bytes that it was of.
    pub(super) fn losses(&self, sample: &RateSample) -> (u64, u64) {
        let lost = sample.total_lost - self.lost_before;
        (lost, lost + sample.total_delivered - self.delivered_before)
    }

    pub(super) fn end_losses(&mut self, sample: &RateSample) {
        (self.delivered_before, self.lost_before) = (sample.total_delivered, sample.total_lost);
    }
}

/// Whether the pipe is full: the delivery rate no longer grows (section 5.3.1.2).
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct FullPipe {
    /// BBR.full_bw_reached: once, for good.
    pub reached: bool,
    /// BBR.full_bw_now
    pub now: bool,
    rate: u64,
    rounds: u8,
}

impl FullPipe {
    pub(super) fn update(&mut self, sample: &RateSample, round_start: bool) {
        if self.now || !round_start || sample.unused {
            return;
        }
        if sample.rate >= share(self.rate, FULL_GROWTH) {
            (self.rate, self.rounds) = (sample.rate, 0);
            return;
        }
        self.rounds += 1;
        self.now = self.rounds >= FULL_ROUNDS;
        self.reached |= self.now;
    }

    /// BBRResetFullBW: the question is asked anew, from `rate` on.
    pub(super) fn ask_again(&mut self, rate: u64) {
        (self.now, self.rounds, self.rate) = (false, 0, rate);
    }
}

/// BBR.max_bw over two probing cycles, and what the last round delivered (sections 5.5.2 to 5.5.5).
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Bandwidth {
    /// The present cycle's and that of the one before.
    most: [u64; 2],
    /// BBR.bw_latest and BBR.inflight_latest
    pub latest: u64,
    pub latest_delivered: u64,
}

impl Bandwidth {
    pub(super) fn max(&self) -> u64 {
        self.most[0].max(self.most[1])
    }

    pub(super) fn update(&mut self, sample: &RateSample) {
        self.latest = self.latest.max(sample.rate);
        self.latest_delivered = self.latest_delivered.max(sample.delivered);
        if !sample.unused || sample.rate >= self.max() {
            self.most[0] = self.most[0].max(sample.rate);
        }
    }

    /// A round of loss is over.
    pub(super) fn end_round(&mut self, sample: &RateSample) {
        (self.latest, self.latest_delivered) = (sample.rate, sample.delivered);
    }

    /// A probing cycle is over: what the one before it had seen no longer counts.
    pub(super) fn end_cycle(&mut self) {
        if self.most[0] > 0 {
            self.most = [0, self.most[0]];
        }
    }
}

/// BBR.inflight_longterm, BBR.bw_shortterm and BBR.inflight_shortterm; [`NONE`]: not bounded.
#[derive(Copy, Clone, Debug)]
pub(super) struct Bounds {
    pub long_term: u64,
    pub rate: u64,
    pub short_term: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { long_term: NONE, rate: NONE, short_term: NONE }
    }
}

impl Bounds {
    /// BBRResetShortTermModel
    pub(super) fn forget_short_term(&mut self) {
        (self.rate, self.short_term) = (NONE, NONE);
    }
}

/// The least that a round trip took (section 5.5.7).
#[derive(Copy, Clone, Debug)]
pub(super) struct RoundTrip {
    /// BBR.min_rtt
    pub min: u64,
    min_at: Instant,
    /// BBR.probe_rtt_min_delay
    probe_min: u64,
    pub probe_min_at: Instant,
    /// No smallest round trip was seen for so long that the queue is to be emptied for one.
    pub expired: bool,
}

impl Default for RoundTrip {
    fn default() -> Self {
        let (min_at, probe_min_at) = (Instant::ZERO, Instant::ZERO);
        Self { min: NONE, min_at, probe_min: NONE, probe_min_at, expired: false }
    }
}

impl RoundTrip {
    pub(super) fn update(&mut self, rtt_nanos: Option<u64>, now: Instant) {
        self.expired =
            self.probe_min != NONE && elapsed_nanos(now, self.probe_min_at) > PROBE_RTT_INTERVAL_NANOS;
        if let Some(rtt) = rtt_nanos
            && (rtt <= self.probe_min || self.expired)
        {
            (self.probe_min, self.probe_min_at) = (rtt.max(1), now);
        }
        let old = self.min != NONE && elapsed_nanos(now, self.min_at) > MIN_RTT_LIFE_NANOS;
        if self.probe_min <= self.min || old {
            (self.min, self.min_at) = (self.probe_min, self.probe_min_at);
        }
    }
}

/// Acknowledgements that come in heaps: what came beyond the bandwidth (section 5.5.9).
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Aggregation {
    since: Instant,
    delivered: u64,
    extra: [u64; 2],
    turned_at: u64,
}

impl Aggregation {
    pub(super) fn update(&mut self, bytes: u32, rate: u64, most: u64, rounds: &Rounds, now: Instant) {
        let mut expected = bytes_in(rate, elapsed_nanos(now, self.since));
        if self.delivered <= expected {
            self.restart(now);
            expected = 0;
        }
        self.delivered += u64::from(bytes);
        if rounds.count >= self.turned_at + EXTRA_ACKED_ROUNDS {
            (self.extra, self.turned_at) = ([0, self.extra[0]], rounds.count);
        }
        self.extra[0] = self.extra[0].max((self.delivered - expected).min(most));
    }

    pub(super) fn restart(&mut self, now: Instant) {
        (self.since, self.delivered) = (now, 0);
    }

    /// BBR.extra_acked
    pub(super) fn extra(&self) -> u64 {
        self.extra[0].max(self.extra[1])
    }
}

/// Hundredths of it.
pub(super) fn share(of: u64, percent: u64) -> u64 {
    (u128::from(of) * u128::from(percent) / 100).min(u128::from(NONE - 1)) as u64
}

/// What `rate` bytes a second carry in so long.
pub(super) fn bytes_in(rate: u64, nanos: u64) -> u64 {
    (u128::from(rate) * u128::from(nanos) / 1_000_000_000).min(u128::from(NONE - 1)) as u64
}
