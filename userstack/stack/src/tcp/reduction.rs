//! Proportional rate reduction (RFC 9937, which obsoletes RFC 6937; the names are those of its section 6): in fast
//! recovery the window comes down in step with what is delivered, and arrives at the threshold when recovery ends.
//!
//! ```text
//!   pipe > threshold:   sent = delivered * threshold / flight         one out for each 1/beta in
//!   pipe <= threshold:  sent = delivered, and a segment more for each acknowledgement that is in good progress
//! ```

/// The books of one fast recovery, in bytes.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Reduction {
    /// prr_delivered
    delivered: u32,
    /// prr_out
    sent: u32,
    /// RecoverFS: what was in the network when recovery began.
    flight: u32,
}

/// What one acknowledgement says, and where the connection stands after it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Progress {
    /// DeliveredData
    pub delivered: u32,
    /// inflight
    pub pipe: u32,
    /// ssthresh
    pub threshold: u32,
    pub mss: u32,
    /// safeACK: SND.UNA moved and no further loss was found.
    pub safe: bool,
}

impl Reduction {
    /// RFC 9937, section 6: `flight` without what was selectively acknowledged before recovery began.
    pub(crate) fn new(flight: u32) -> Self {
        Self { delivered: 0, sent: 0, flight: flight.max(1) }
    }

    /// sndcnt: bytes that may be sent now. `None` when the acknowledgement delivered nothing: then the window stays.
    pub(crate) fn allow(&mut self, progress: &Progress) -> Option<u32> {
        let Progress { delivered, pipe, threshold, mss, safe } = *progress;
        if delivered == 0 {
            return None;
        }
        self.delivered = self.delivered.saturating_add(delivered);
        let allowed = if pipe > threshold {
            let share = u64::from(self.delivered) * u64::from(threshold);
            let share = u32::try_from(share.div_ceil(u64::from(self.flight))).unwrap_or(u32::MAX);
            share.saturating_sub(self.sent)
        } else {
            // The conservative bound; the slow-start bound while recovery goes well (as Linux chooses too).
            let conserved = self.delivered.saturating_sub(self.sent).max(delivered);
            let bound = conserved.saturating_add(if safe { mss } else { 0 });
            bound.min(threshold - pipe)
        };
        // The first retransmission does not wait.
        Some(if self.sent == 0 { allowed.max(mss) } else { allowed })
    }

    pub(crate) fn on_sent(&mut self, bytes: u32) {
        self.sent = self.sent.saturating_add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MSS: u32 = 1000;

    fn progress(delivered: u32, pipe: u32, threshold: u32) -> Progress {
        Progress { delivered, pipe, threshold, mss: MSS, safe: false }
    }

    #[test]
    fn seven_segments_leave_for_ten_delivered_while_the_network_holds_more_than_the_threshold() {
        let mut reduction = Reduction::new(20 * MSS);
        let mut sent = 0;
        for n in 0..10 {
            let allowed = reduction.allow(&progress(MSS, (19 - n) * MSS + sent, 14 * MSS)).unwrap();
            let segments = allowed / MSS;
            reduction.on_sent(segments * MSS);
            sent += segments * MSS;
        }
        assert_eq!(sent, 7 * MSS);
    }

    #[test]
    fn below_the_threshold_an_acknowledgement_lets_go_what_it_delivered_and_a_safe_one_a_segment_more() {
        let mut reduction = Reduction::new(20 * MSS);
        reduction.on_sent(MSS);
        assert_eq!(reduction.allow(&progress(MSS, 4 * MSS, 14 * MSS)), Some(MSS));
        reduction.on_sent(MSS);
        let safe = Progress { safe: true, ..progress(MSS, 4 * MSS, 14 * MSS) };
        assert_eq!(reduction.allow(&safe), Some(2 * MSS));
    }

    #[test]
    fn the_first_retransmission_does_not_wait_and_an_acknowledgement_of_nothing_changes_nothing() {
        let mut reduction = Reduction::new(20 * MSS);
        assert_eq!(reduction.allow(&progress(0, 19 * MSS, 10 * MSS)), None);
        assert_eq!(reduction.allow(&progress(1, 19 * MSS, 10 * MSS)), Some(MSS));
        reduction.on_sent(MSS);
        assert_eq!(reduction.allow(&progress(1, 19 * MSS, 10 * MSS)), Some(0));
    }

    proptest! {
        /// RFC 9937, section 9: never more out than in, but for the first segment and one a safe acknowledgement; and
        /// never above the threshold.
        #[test]
        fn what_is_sent_is_bounded_by_what_is_delivered(
            flight in 2u32..200, beta in 30u32..90,
            acks in prop::collection::vec((0u32..4, any::<bool>(), 0u32..3), 1..100),
        ) {
            let (flight, threshold) = (flight * MSS, (flight * MSS / 100 * beta).max(2 * MSS));
            let (mut reduction, mut pipe, mut safe_acks) = (Reduction::new(flight), flight, 0);
            let (mut sent, mut delivered) = (0u32, 0u32);
            for (segments, safe, lost) in acks {
                let bytes = (segments * MSS).min(pipe);
                pipe -= bytes;
                pipe -= (lost * MSS).min(pipe);
                delivered += bytes;
                safe_acks += u32::from(safe);
                let Some(allowed) = reduction.allow(&Progress { delivered: bytes, pipe, threshold, mss: MSS, safe })
                else { continue };
                if sent > 0 && pipe <= threshold {
                    prop_assert!(pipe + allowed <= threshold);
                }
                let out = allowed / MSS * MSS;
                reduction.on_sent(out);
                (pipe, sent) = (pipe + out, sent + out);
                prop_assert!(sent <= delivered + (1 + safe_acks) * MSS, "{sent} out, {delivered} in");
            }
        }
    }
}
