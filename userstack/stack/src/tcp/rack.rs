//! RACK (RFC 8985): losses told by time. The segments themselves lie in the scoreboard; this is the clock that they are
//! measured by. The probe for a lost tail is in `tail_probe`.

use super::sent::{AckClock, Sent};
use super::sequence::Seq;
use crate::Instant;

/// Segments out of order that start recovery before any reordering was seen (RFC 8985, section 6.2, step 4).
pub(crate) const DUPLICATE_THRESHOLD: u32 = 3;

/// Recoveries without a reported duplicate after which the reordering window is narrow again (RFC 8985, section 6.2,
/// step 4).
const PERSISTENCE: u8 = 16;

/// The newest delivered segment, and how late others may be (RFC 8985, section 5.2).
#[derive(Copy, Clone, Debug)]
pub(crate) struct Rack {
    /// RACK.xmit_ts
    sent_at: Instant,
    /// RACK.end_seq
    end: Seq,
    /// RACK.rtt
    rtt_nanos: u64,
    /// RACK.fack
    highest_delivered: Seq,
    /// RACK.reordering_seen
    reordering_seen: bool,
    /// RACK.dsack_round, where there is one.
    round_end: Seq,
    in_round: bool,
    /// RACK.reo_wnd_mult, less the one that it always has.
    widened: u8,
    /// RACK.reo_wnd_persist
    persist: u8,
}

impl Rack {
    /// Before anything beyond `unacked` was delivered.
    pub(crate) fn new(unacked: Seq) -> Self {
        Self {
            sent_at: Instant::ZERO,
            end: unacked,
            rtt_nanos: 0,
            highest_delivered: unacked,
            reordering_seen: false,
            round_end: unacked,
            in_round: false,
            widened: 0,
            persist: 0,
        }
    }

    pub(crate) fn rtt_nanos(&self) -> u64 {
        self.rtt_nanos
    }

    /// RFC 8985, section 6.2, steps 1 to 3. True when the delivery shows reordering.
    pub(crate) fn on_delivered(&mut self, sent: &Sent, clock: &AckClock) -> bool {
        let reordered = self.note_reordering(sent);
        let rtt = clock.now.as_nanos().saturating_sub(sent.sent_at.as_nanos());
        if sent.retransmitted && is_of_the_original(sent, clock, rtt) {
            return reordered;
        }
        self.rtt_nanos = rtt;
        if !self.was_sent_after(sent) {
            (self.sent_at, self.end) = (sent.sent_at, sent.end);
        }
        reordered
    }

    /// The same of segments that were sent once, and delivered in the order in which they were sent: the newest of them
    /// is all that counts.
    #[inline]
    pub(crate) fn on_delivered_in_order(&mut self, sent_at: Instant, end: Seq, now: Instant) {
        self.highest_delivered = end;
        self.rtt_nanos = now.as_nanos().saturating_sub(sent_at.as_nanos());
        if self.sent_at < sent_at || (self.sent_at == sent_at && !self.end.after(end)) {
            (self.sent_at, self.end) = (sent_at, end);
        }
    }

    /// Beyond step 2: what was sent again is delivered up to `end`, and whether it is the original or the repetition is not
    /// told (a round trip below the smallest one, which a queue at the handshake had made long, says original). In
    /// either case it left after the segment before it, which left at `at` and never again: what is as old as that one
    /// was overtaken. So the answer to a tail loss probe shows the loss of all before it.
    pub(crate) fn on_delivered_after(&mut self, at: Instant, end: Seq, now: Instant) {
        if at > self.sent_at || (at == self.sent_at && end.after(self.end)) {
            (self.sent_at, self.end) = (at, end);
            self.rtt_nanos = now.as_nanos().saturating_sub(at.as_nanos());
        }
    }

    /// Whether the newest delivered segment left after `sent` did.
    pub(crate) fn was_sent_after(&self, sent: &Sent) -> bool {
        self.sent_at > sent.sent_at || (self.sent_at == sent.sent_at && self.end.after(sent.end))
    }

    /// Step 4: a duplicate was reported, so something was sent again that was only late. The window grows by a quarter of
    /// the round trip, once a round trip.
    pub(crate) fn on_duplicate_reported(&mut self, unacked: Seq, next: Seq) {
        if self.in_round && unacked.before(self.round_end) {
            return;
        }
        (self.in_round, self.round_end) = (true, next);
        self.widened = self.widened.saturating_add(1);
        self.persist = PERSISTENCE;
    }

    /// Step 4: fast or timeout recovery ended.
    pub(crate) fn on_recovery_ended(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.widened = 0;
        }
    }

    /// A recovery was needless because the path reorders: what was sent again cannot show it itself (step 3).
    pub(crate) fn on_recovery_undone(&mut self) {
        self.reordering_seen = true;
    }

    /// The round of the last report is over; so that its end is not compared with numbers half the space away.
    pub(crate) fn forget_round(&mut self) {
        self.in_round = false;
    }

    /// RFC 8985, section 6.2, step 4: how long a segment may be overtaken before it counts as lost.
    pub(crate) fn reorder_window_nanos(
        &self,
        recovering_or_many_out_of_order: bool,
        min_rtt_nanos: u64,
        smoothed_rtt_nanos: u64,
    ) -> u64 {
        if !self.reordering_seen && recovering_or_many_out_of_order {
            return 0;
        }
        (min_rtt_nanos / 4).saturating_mul(1 + u64::from(self.widened)).min(smoothed_rtt_nanos)
    }

    fn note_reordering(&mut self, sent: &Sent) -> bool {
        if sent.end.at_or_after(self.highest_delivered) {
            self.highest_delivered = sent.end;
            return false;
        }
        let reordered = !sent.retransmitted;
        self.reordering_seen |= reordered;
        reordered
    }
}

/// Step 2: an acknowledgement that left before the retransmission arrived is of the original.
fn is_of_the_original(sent: &Sent, clock: &AckClock, rtt_nanos: u64) -> bool {
    let echoed_before =
        clock.echo_ms.is_some_and(|echo| (echo.wrapping_sub(sent.sent_at.as_millis() as u32) as i32) < 0);
    echoed_before || rtt_nanos < clock.min_rtt_nanos
}

/// The tail loss probe that is out (RFC 8985, section 7.1): TLP.end_seq and TLP.is_retrans.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum TailProbe {
    #[default]
    None,
    New(Seq),
    Again(Seq),
}

impl TailProbe {
    /// TLP.end_seq
    pub(crate) fn end(self) -> Option<Seq> {
        match self {
            Self::None => None,
            Self::New(end) | Self::Again(end) => Some(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(end: u32, at_nanos: u64) -> Sent {
        Sent {
            start: Seq(end - 100),
            end: Seq(end),
            sent_at: Instant::from_nanos(at_nanos),
            sacked: false,
            lost: false,
            ..Sent::default()
        }
    }

    const CLOCK: AckClock =
        AckClock { now: Instant::from_nanos(50_000_000), echo_ms: None, min_rtt_nanos: 10_000_000 };

    #[test]
    fn segments_of_one_burst_are_ordered_by_sequence() {
        let mut rack = Rack::new(Seq(0));
        rack.on_delivered(&sent(300, 1_000), &CLOCK);
        assert!(rack.was_sent_after(&sent(200, 1_000)));
        assert!(!rack.was_sent_after(&sent(400, 1_000)));
    }

    #[test]
    fn a_delivery_below_the_highest_shows_reordering_and_widens_the_window() {
        let mut rack = Rack::new(Seq(0));
        assert!(!rack.on_delivered(&sent(300, 1_000), &CLOCK));
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 0);
        assert!(rack.on_delivered(&sent(200, 900), &CLOCK));
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 10);
    }

    #[test]
    fn each_round_with_a_reported_duplicate_widens_the_window_for_sixteen_recoveries() {
        let mut rack = Rack::new(Seq(0));
        rack.on_recovery_undone();
        rack.on_duplicate_reported(Seq(100), Seq(500));
        rack.on_duplicate_reported(Seq(200), Seq(600));
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 20, "once a round");
        rack.on_duplicate_reported(Seq(500), Seq(900));
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 30);
        (0..15).for_each(|_| rack.on_recovery_ended());
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 30);
        rack.on_recovery_ended();
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 10);
    }

    proptest! {
        /// Section 6.2, step 4: between nothing and the round trip, in quarters of the shortest; nothing only where no
        /// reordering was seen and a loss is likely.
        #[test]
        fn the_reordering_window_keeps_its_bounds(
            steps in prop::collection::vec((0u8..4, 0u32..1000, 1u32..1000), 0..60),
            min in 0u64..1_000_000_000, more in 0u64..1_000_000_000,
        ) {
            let (mut rack, mut reports, mut undone) = (Rack::new(Seq(0)), 0u64, false);
            for (step, unacked, flight) in steps {
                match step {
                    0 => rack.on_recovery_ended(),
                    1 => { rack.on_recovery_undone(); undone = true; }
                    2 => rack.forget_round(),
                    _ => { rack.on_duplicate_reported(Seq(unacked), Seq(unacked) + flight); reports += 1; }
                }
                let smoothed = min + more;
                for eager in [false, true] {
                    let window = rack.reorder_window_nanos(eager, min, smoothed);
                    prop_assert!(window <= smoothed && window <= min / 4 * (1 + reports));
                    prop_assert_eq!(window == 0, (eager && !undone) || min / 4 == 0);
                }
            }
        }
    }

    #[test]
    fn an_acknowledgement_of_the_original_says_nothing_of_the_retransmission() {
        let again = Sent { retransmitted: true, ..sent(200, 49_000_000) };
        let mut rack = Rack::new(Seq(0));
        rack.on_delivered(&again, &CLOCK);
        assert!(!rack.was_sent_after(&sent(100, 1_000)), "1 ms is less than the path ever took");
        let echo_of_the_original = AckClock { echo_ms: Some(48), min_rtt_nanos: 0, ..CLOCK };
        rack.on_delivered(&again, &echo_of_the_original);
        assert!(!rack.was_sent_after(&sent(100, 1_000)));
        let echo_of_the_retransmission = AckClock { echo_ms: Some(49), min_rtt_nanos: 0, ..CLOCK };
        rack.on_delivered(&again, &echo_of_the_retransmission);
        assert!(rack.was_sent_after(&sent(100, 1_000)));
    }
}
