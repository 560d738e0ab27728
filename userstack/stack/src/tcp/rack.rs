//! RACK-TLP (RFC 8985): losses told by time, and a probe for a lost tail. The segments themselves lie in the
//! scoreboard; this is the clock that they are measured by.

use super::sent::{AckClock, Sent};
use super::sequence::Seq;
use crate::Instant;

/// Segments out of order that start recovery before any reordering was seen (RFC 8985, section 6.2, step 4).
pub(crate) const DUPLICATE_THRESHOLD: u32 = 3;

/// The newest delivered segment (RFC 8985, section 5.2).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Rack {
    /// RACK.xmit_ts
    sent_at: Instant,
    /// RACK.end_seq
    end: Seq,
    /// RACK.rtt
    rtt_nanos: u64,
    /// RACK.fack
    highest_delivered: Option<Seq>,
    /// RACK.reordering_seen
    reordering_seen: bool,
}

impl Rack {
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

    /// Whether the newest delivered segment left after `sent` did.
    pub(crate) fn was_sent_after(&self, sent: &Sent) -> bool {
        self.sent_at > sent.sent_at || (self.sent_at == sent.sent_at && self.end.after(sent.end))
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
        (min_rtt_nanos / 4).min(smoothed_rtt_nanos)
    }

    fn note_reordering(&mut self, sent: &Sent) -> bool {
        match self.highest_delivered {
            Some(highest) if sent.end.before(highest) => {
                let reordered = !sent.retransmitted;
                self.reordering_seen |= reordered;
                reordered
            }
            Some(highest) => {
                self.highest_delivered = Some(highest.max(sent.end));
                false
            }
            None => {
                self.highest_delivered = Some(sent.end);
                false
            }
        }
    }
}

/// Step 2: an acknowledgement that left before the retransmission arrived is of the original.
fn is_of_the_original(sent: &Sent, clock: &AckClock, rtt_nanos: u64) -> bool {
    let echoed_before =
        clock.echo_ms.is_some_and(|echo| (echo.wrapping_sub(sent.sent_at.as_millis() as u32) as i32) < 0);
    echoed_before || rtt_nanos < clock.min_rtt_nanos
}

/// The tail loss probe that is out (RFC 8985, section 7.1).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct TailProbe {
    /// TLP.end_seq
    pub end: Option<Seq>,
    /// TLP.is_retrans
    pub retransmission: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut rack = Rack::default();
        rack.on_delivered(&sent(300, 1_000), &CLOCK);
        assert!(rack.was_sent_after(&sent(200, 1_000)));
        assert!(!rack.was_sent_after(&sent(400, 1_000)));
    }

    #[test]
    fn a_delivery_below_the_highest_shows_reordering_and_widens_the_window() {
        let mut rack = Rack::default();
        assert!(!rack.on_delivered(&sent(300, 1_000), &CLOCK));
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 0);
        assert!(rack.on_delivered(&sent(200, 900), &CLOCK));
        assert_eq!(rack.reorder_window_nanos(true, 40, 100), 10);
    }

    #[test]
    fn an_acknowledgement_of_the_original_says_nothing_of_the_retransmission() {
        let again = Sent { retransmitted: true, ..sent(200, 49_000_000) };
        let mut rack = Rack::default();
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
