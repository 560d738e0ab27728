//! What is in flight: each segment sent and not yet acknowledged, with when it was sent and what became of it.
//!
//! ```text
//!        unacked                                          next
//!           |  sent[0]  |  sent[1]  |  sent[2]  |  sent[3]  |
//!           |   lost    |  sacked   |   lost,   |           |
//!                                    sent again
//!   pipe = flight - sacked_bytes - lost_bytes - presumed_bytes          (RFC 6675, section 4)
//! ```

use std::collections::VecDeque;

use super::congestion::rate::Stamp;
use super::header::SackBlocks;
use super::rack::Rack;
use super::sent::{AckClock, Sent};
use super::sequence::Seq;
use crate::Instant;

/// What an acknowledgement delivered of segments of which each was sent once, and of none was anything else known.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Plain {
    pub oldest_sent_at: Instant,
    pub newest_sent_at: Instant,
    /// Where the newest ends.
    pub end: Seq,
}

/// What one acknowledgement delivered.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Delivered {
    /// Bytes newly acknowledged or newly selectively acknowledged.
    pub bytes: u32,
    /// When the oldest of them left that was sent once only (Karn's rule, RFC 6298, section 3).
    pub oldest_sent_at: Option<Instant>,
    /// When the newest of them left that was sent once only.
    pub newest_sent_at: Option<Instant>,
    /// Where the lowest of them that was sent once only ends.
    pub original_end: Option<Seq>,
    /// Where the highest of them ends.
    pub end: Option<Seq>,
    /// A segment sent once was delivered after one sent later: the path reorders (RFC 8985, section 6.2, step 3).
    pub reordered: bool,
    /// A retransmitted segment was among them.
    pub retransmitted: bool,
    /// The stamp of the one that left last, and when it did, where deliveries are measured.
    pub newest: Option<(Stamp, Instant)>,
}

#[derive(Debug)]
pub(crate) struct Scoreboard {
    sent: VecDeque<Sent>,
    sacked_bytes: u32,
    sacked_segments: u32,
    lost_bytes: u32,
    /// Bytes that duplicate acknowledgements say have left, when the peer has no SACK (RFC 5681, section 3.2).
    presumed_bytes: u32,
    /// No segment before it is `lost`.
    lost_from: Seq,
    /// From here on each segment was sent once, and is neither sacked nor lost.
    plain_from: Seq,
    /// The blocks of the last option that told something new: what they cover is marked already.
    seen: Option<Box<SackBlocks>>,
}

impl Scoreboard {
    pub(crate) const fn new() -> Self {
        Self {
            sent: VecDeque::new(),
            sacked_bytes: 0,
            sacked_segments: 0,
            lost_bytes: 0,
            presumed_bytes: 0,
            lost_from: Seq(0),
            plain_from: Seq(0),
            seen: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn first(&self) -> Option<&Sent> {
        self.sent.front()
    }

    pub(crate) fn last(&self) -> Option<&Sent> {
        self.sent.back()
    }

    /// The segment that begins at `start`, to be stamped.
    pub(crate) fn stamp(&mut self, start: Seq) -> Option<(&mut Stamp, u32)> {
        let index = self.sent.partition_point(|sent| sent.start.before(start));
        self.sent.get_mut(index).map(|sent| {
            let bytes = sent.len();
            (&mut sent.stamp, bytes)
        })
    }

    pub(crate) fn sacked_bytes(&self) -> u32 {
        self.sacked_bytes
    }

    pub(crate) fn sacked_segments(&self) -> u32 {
        self.sacked_segments
    }

    pub(crate) fn lost_bytes(&self) -> u32 {
        self.lost_bytes
    }

    pub(crate) fn presumed_bytes(&self) -> u32 {
        self.presumed_bytes
    }

    /// A peer that has selectively acknowledged what it waits for has taken its word back (RFC 2018, section 8).
    pub(crate) fn is_reneged(&self) -> bool {
        self.sacked_segments > 0 && self.sent.front().is_some_and(|sent| sent.sacked)
    }

    /// Bytes of `flight` that the peer has not said to have.
    pub(crate) fn undelivered(&self, flight: u32) -> u32 {
        flight.saturating_sub(self.sacked_bytes + self.presumed_bytes)
    }

    /// Bytes of `flight` that are thought to be in the network.
    pub(crate) fn pipe(&self, flight: u32) -> u32 {
        flight.saturating_sub(self.sacked_bytes + self.lost_bytes + self.presumed_bytes)
    }

    pub(crate) fn push(&mut self, start: Seq, end: Seq, now: Instant) {
        if self.sent.is_empty() {
            (self.lost_from, self.plain_from) = (start, start);
        }
        self.sent.push_back(Sent { start, end, sent_at: now, ..Sent::default() });
    }

    /// Each segment in flight was sent once, and nothing was heard of any.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.presumed_bytes == 0
            && self.sent.front().is_some_and(|first| first.start.at_or_after(self.plain_from))
    }

    /// Something is known of a segment in flight, or is to be.
    fn note_disturbed(&mut self) {
        if let Some(last) = self.sent.back() {
            self.plain_from = last.end;
        }
    }

    /// As [`acknowledge`](Self::acknowledge), while all [is plain](Self::is_plain). `None`: of no segment the end.
    pub(crate) fn acknowledge_plain(&mut self, ack: Seq) -> Option<Plain> {
        let mut delivered: Option<Plain> = None;
        while let Some(first) = self.sent.front_mut() {
            let (sent_at, end) = (first.sent_at, first.end);
            if end.after(ack) {
                first.start = first.start.max(ack);
                break;
            }
            let oldest_sent_at = delivered.map_or(sent_at, |delivered| delivered.oldest_sent_at);
            delivered = Some(Plain { oldest_sent_at, newest_sent_at: sent_at, end });
            self.sent.pop_front();
        }
        (self.lost_from, self.plain_from) = (ack, ack);
        delivered
    }

    /// Everything before `ack` has arrived.
    pub(crate) fn acknowledge(
        &mut self,
        ack: Seq,
        clock: &AckClock,
        rack: &mut Rack,
        delivered: &mut Delivered,
    ) {
        while let Some(first) = self.sent.front_mut() {
            if first.start.at_or_after(ack) {
                break;
            }
            if first.end.after(ack) {
                // The peer cut our segment: the rest stays in flight.
                let head = ack.since(first.start);
                first.start = ack;
                let (sacked, lost) = (first.sacked, first.lost);
                self.sacked_bytes -= if sacked { head } else { 0 };
                self.lost_bytes -= if lost { head } else { 0 };
                delivered.bytes += if sacked { 0 } else { head };
                break;
            }
            let sent = *first;
            self.sent.pop_front();
            self.forget(&sent);
            if !sent.sacked {
                note_delivery(&sent, clock, rack, delivered);
            }
        }
        self.lost_from = self.lost_from.max(ack);
        self.plain_from = self.plain_from.max(ack);
    }

    /// Marks what `blocks` cover between `unacked` and `next`. True when something was newly marked.
    pub(crate) fn mark_sacked(
        &mut self,
        blocks: &SackBlocks,
        span: (Seq, Seq),
        clock: &AckClock,
        rack: &mut Rack,
        delivered: &mut Delivered,
    ) -> bool {
        self.note_disturbed();
        let before = self.sacked_bytes;
        // What stands behind a hole is acknowledged with the timestamp of the last text in order (RFC 7323, section 4.3).
        // That is older than any retransmission, and says nothing of it: the round trip alone decides, as in Linux.
        let clock = &AckClock { echo_ms: None, ..*clock };
        // In the order of the numbers, so that what one acknowledgement tells does not look reordered by itself.
        let mut ascending = *blocks;
        ascending.sort(span.0);
        for &(left, right) in ascending.as_slice() {
            let (unacked, next) = span;
            // A block below `unacked` is a DSACK (RFC 2883); one beyond `next` is no acknowledgement of ours.
            if left.at_or_after(right) || left.before(unacked) || right.after(next) {
                continue;
            }
            let seen = self.seen.as_deref().map_or(&[][..], SackBlocks::as_slice);
            let seen = seen.iter().find(|(start, end)| *start == left && end.at_or_before(right));
            let from = seen.map_or(left, |(_, end)| *end);
            self.mark_block((left, right), from, clock, rack, delivered);
        }
        let news = self.sacked_bytes != before;
        if news {
            **self.seen.get_or_insert_default() = *blocks;
        }
        news
    }

    fn mark_block(
        &mut self,
        (left, right): (Seq, Seq),
        from: Seq,
        clock: &AckClock,
        rack: &mut Rack,
        delivered: &mut Delivered,
    ) {
        let first = self.sent.partition_point(|sent| sent.end.at_or_before(from));
        let mut before = first.checked_sub(1).and_then(|index| self.sent[index].sent_once_at());
        for sent in self.sent.range_mut(first..) {
            if sent.end.after(right) {
                break;
            }
            let left_after = before;
            before = sent.sent_once_at();
            if sent.sacked || sent.start.before(left) {
                continue;
            }
            sent.sacked = true;
            self.sacked_bytes += sent.len();
            self.sacked_segments += 1;
            if std::mem::take(&mut sent.lost) {
                self.lost_bytes -= sent.len();
            }
            note_delivery(sent, clock, rack, delivered);
            if sent.retransmitted
                && let Some(at) = left_after
            {
                rack.on_delivered_after(at, sent.end, clock.now);
            }
        }
    }

    /// RFC 8985, section 6.2, step 5: what was sent long enough before the newest delivered segment is lost.
    /// Gives the time until the next one is, if the rest stays unacknowledged.
    pub(crate) fn detect_losses(
        &mut self,
        rack: &Rack,
        reorder_window_nanos: u64,
        now: Instant,
    ) -> Option<u64> {
        self.note_disturbed();
        let mut wait = None;
        for sent in &mut self.sent {
            if sent.sacked || sent.lost {
                continue;
            }
            if !rack.was_sent_after(sent) {
                if sent.retransmitted {
                    continue;
                }
                // Segments sent once lie in the order in which they were sent: nothing older follows.
                break;
            }
            let due = sent.sent_at.as_nanos() + rack.rtt_nanos() + reorder_window_nanos;
            match due.checked_sub(now.as_nanos()) {
                None | Some(0) => {
                    sent.lost = true;
                    self.lost_bytes += sent.len();
                    self.lost_from = self.lost_from.min(sent.start);
                }
                Some(rest) => wait = wait.max(Some(rest)),
            }
        }
        wait
    }

    /// The retransmission timer fired: the first segment is lost, and with it what was sent so long ago that the path
    /// would have delivered it, `patience_nanos` (RFC 8985, section 6.3). Of a peer that took its word back nothing
    /// sacked counts, and all is lost (RFC 2018, section 8).
    pub(crate) fn mark_lost_by_timeout(&mut self, patience_nanos: u64, now: Instant) {
        self.note_disturbed();
        let mut all = self.is_reneged();
        if all {
            self.sent.iter_mut().for_each(|sent| sent.sacked = false);
            (self.sacked_bytes, self.sacked_segments) = (0, 0);
            self.seen = None;
        }
        all |= patience_nanos == 0;
        let first = self.sent.front().map_or(self.lost_from, |sent| sent.start);
        for sent in self.sent.iter_mut().filter(|sent| !sent.sacked && !sent.lost) {
            let overdue = sent.sent_at.as_nanos().saturating_add(patience_nanos) <= now.as_nanos();
            if all || overdue || sent.start == first {
                sent.lost = true;
                self.lost_bytes += sent.len();
            }
        }
        self.presumed_bytes = 0;
        self.lost_from = first;
    }

    /// A recovery was needless: what it took as lost is under way.
    pub(crate) fn unmark_lost(&mut self) {
        self.sent.iter_mut().for_each(|sent| sent.lost = false);
        (self.lost_bytes, self.presumed_bytes) = (0, 0);
    }

    /// The path carries less than it did: segments of `bytes` and more never arrive (RFC 1191, section 6.5).
    pub(crate) fn mark_longer_lost(&mut self, bytes: u32) {
        self.note_disturbed();
        for sent in self.sent.iter_mut().filter(|sent| !sent.sacked && !sent.lost && sent.len() >= bytes) {
            sent.lost = true;
            self.lost_bytes += sent.len();
            self.lost_from = self.lost_from.min(sent.start);
        }
    }

    /// Fast retransmit without SACK: the segment at `unacked` is lost (RFC 6582, section 3.2).
    pub(crate) fn mark_first_lost(&mut self) {
        self.note_disturbed();
        if let Some(first) = self.sent.front_mut()
            && !first.lost
        {
            first.lost = true;
            self.lost_bytes += first.len();
            self.lost_from = first.start;
        }
    }

    /// A duplicate acknowledgement without SACK: one more segment has left.
    pub(crate) fn presume_delivered(&mut self, bytes: u32, flight: u32) {
        self.presumed_bytes = (self.presumed_bytes + bytes).min(flight.saturating_sub(self.lost_bytes));
    }

    /// New data was acknowledged: `bytes` of what duplicates told are counted already.
    pub(crate) fn presume_fewer(&mut self, bytes: u32) {
        self.presumed_bytes = self.presumed_bytes.saturating_sub(bytes);
    }

    /// The next segment to send again.
    pub(crate) fn next_lost(&self) -> Option<Sent> {
        if self.lost_bytes == 0 {
            return None;
        }
        let from = self.sent.partition_point(|sent| sent.end.at_or_before(self.lost_from));
        self.sent.range(from..).find(|sent| sent.lost).copied()
    }

    /// `start..end` was sent again: the whole of a segment, or its head when the path carries less than before.
    pub(crate) fn on_retransmitted(&mut self, start: Seq, end: Seq, now: Instant) {
        self.note_disturbed();
        let index = self.sent.partition_point(|sent| sent.start.before(start));
        let Some(sent) = self.sent.get_mut(index).filter(|sent| sent.start == start) else { return };
        let rest = Sent { start: end, ..*sent };
        let cut = sent.end.after(end);
        sent.end = end;
        if std::mem::take(&mut sent.lost) {
            self.lost_bytes -= end.since(start);
            self.lost_from = end;
        }
        (sent.retransmitted, sent.sent_at) = (true, now);
        if cut {
            self.sent.insert(index + 1, rest);
        }
    }

    /// As new, but for the room that it has.
    pub(crate) fn clear(&mut self) {
        let mut sent = std::mem::take(&mut self.sent);
        sent.clear();
        *self = Self { sent, ..Self::new() };
    }

    fn forget(&mut self, sent: &Sent) {
        if sent.sacked {
            self.sacked_bytes -= sent.len();
            self.sacked_segments -= 1;
        }
        if sent.lost {
            self.lost_bytes -= sent.len();
        }
    }
}

fn note_delivery(sent: &Sent, clock: &AckClock, rack: &mut Rack, delivered: &mut Delivered) {
    delivered.bytes += sent.len();
    delivered.end = Some(sent.end);
    if sent.stamp.is_taken() && delivered.newest.is_none_or(|(_, newest)| newest <= sent.sent_at) {
        delivered.newest = Some((sent.stamp, sent.sent_at));
    }
    if sent.retransmitted {
        delivered.retransmitted = true;
    } else {
        delivered.original_end = delivered.original_end.or(Some(sent.end));
        let older = delivered.oldest_sent_at.map_or(sent.sent_at, |oldest| oldest.min(sent.sent_at));
        delivered.oldest_sent_at = Some(older);
        delivered.newest_sent_at = delivered.newest_sent_at.max(Some(sent.sent_at));
    }
    delivered.reordered |= rack.on_delivered(sent, clock);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOCK: AckClock = AckClock { now: Instant::from_nanos(1_000_000), echo_ms: None, min_rtt_nanos: 0 };

    fn sent_segments(count: u32, base: Seq) -> Scoreboard {
        let mut board = Scoreboard::new();
        for n in 0..count {
            board.push(base + n * 100, base + (n + 1) * 100, Instant::from_nanos(u64::from(n)));
        }
        board
    }

    fn sack(board: &mut Scoreboard, blocks: &[(Seq, Seq)], span: (Seq, Seq)) -> Delivered {
        let mut option = SackBlocks::default();
        blocks.iter().for_each(|(left, right)| option.push(*left, *right));
        let (mut rack, mut delivered) = (Rack::new(span.0), Delivered::default());
        board.mark_sacked(&option, span, &CLOCK, &mut rack, &mut delivered);
        delivered
    }

    #[test]
    fn a_segment_is_sacked_once_and_by_whole_blocks_only() {
        let mut board = sent_segments(10, Seq(0));
        let span = (Seq(0), Seq(1000));
        assert_eq!(sack(&mut board, &[(Seq(200), Seq(450))], span).bytes, 200);
        assert_eq!(sack(&mut board, &[(Seq(200), Seq(450))], span).bytes, 0);
        assert_eq!(
            sack(&mut board, &[(Seq(200), Seq(500))], span).bytes,
            100,
            "the block grew over segment 4"
        );
    }

    #[test]
    fn a_peer_that_takes_its_sack_back_is_sent_everything_again() {
        let mut board = sent_segments(3, Seq(0));
        sack(&mut board, &[(Seq(0), Seq(100))], (Seq(0), Seq(300)));
        board.mark_lost_by_timeout(0, CLOCK.now);
        assert_eq!((board.lost_bytes(), board.sacked_bytes()), (300, 0));
    }

    #[test]
    fn a_segment_longer_than_the_path_carries_is_cut_when_sent_again() {
        let mut board = sent_segments(1, Seq(0));
        board.mark_lost_by_timeout(0, CLOCK.now);
        board.on_retransmitted(Seq(0), Seq(60), CLOCK.now);
        assert_eq!(board.next_lost().map(|sent| (sent.start, sent.end)), Some((Seq(60), Seq(100))));
        assert_eq!(board.lost_bytes(), 40);
    }

    #[test]
    fn blocks_of_one_option_do_not_look_reordered_by_their_order() {
        let mut board = sent_segments(10, Seq(0));
        let blocks = [(Seq(700), Seq(800)), (Seq(500), Seq(600)), (Seq(200), Seq(300))];
        assert!(!sack(&mut board, &blocks, (Seq(0), Seq(1000))).reordered);
        assert!(board.sent.iter().filter(|sent| sent.sacked).count() == 3);
    }

    #[test]
    fn a_timeout_takes_the_first_as_lost_and_others_only_when_they_are_overdue() {
        let mut board = sent_segments(4, Seq(0));
        let now = Instant::from_nanos(101);
        board.mark_lost_by_timeout(100, now);
        let lost: Vec<_> = board.sent.iter().map(|sent| sent.lost).collect();
        assert_eq!(lost, [true, true, false, false], "sent at 0, 1, 2 and 3 ns");
        board.unmark_lost();
        assert_eq!((board.lost_bytes(), board.next_lost().is_none()), (0, true));
    }

    #[test]
    fn a_segment_that_was_sent_again_and_is_lost_again_is_the_next_to_be_sent() {
        let mut board = sent_segments(4, Seq(0));
        board.mark_lost_by_timeout(0, CLOCK.now);
        for start in [0, 100] {
            board.on_retransmitted(Seq(start), Seq(start + 100), CLOCK.now);
        }
        let (mut rack, mut option) = (Rack::new(Seq(0)), SackBlocks::default());
        option.push(Seq(100), Seq(200));
        board.mark_sacked(&option, (Seq(0), Seq(400)), &CLOCK, &mut rack, &mut Delivered::default());
        board.detect_losses(&rack, 0, CLOCK.now);
        assert_eq!(board.next_lost().map(|sent| sent.start), Some(Seq(0)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ack(u32),
        Sack(u32, u32),
        /// Selectively acknowledged, and what left before it is looked at (RACK).
        Deliver(u32, u32),
        Lose(u64),
        Unlose,
        LoseFirst,
        Resend(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0u32..2100).prop_map(Step::Ack),
            (0u32..2100, 0u32..2100).prop_map(|(left, right)| Step::Sack(left, right)),
            (0u32..2100, 0u32..400).prop_map(|(left, len)| Step::Deliver(left, left + len)),
            (0u64..1_000_020).prop_map(Step::Lose),
            Just(Step::Unlose),
            Just(Step::LoseFirst),
            (1u32..150).prop_map(Step::Resend),
        ];
        prop::collection::vec(step, 1..40)
    }

    proptest! {
        /// The counters are what a count over the segments gives, whatever the peer says.
        #[test]
        fn counters_agree_with_the_segments(base: u32, steps in steps()) {
            let base = Seq(base);
            let mut board = sent_segments(20, base);
            let (mut rack, mut unacked) = (Rack::new(base), base);
            for step in steps {
                match step {
                    Step::Ack(ack) => {
                        let ack = (base + ack.min(2000)).max(unacked);
                        unacked = ack;
                        board.acknowledge(ack, &CLOCK, &mut rack, &mut Delivered::default());
                    }
                    Step::Sack(left, right) => {
                        sack(&mut board, &[(base + left, base + right)], (unacked, base + 2000));
                    }
                    Step::Deliver(left, right) => {
                        let mut option = SackBlocks::default();
                        option.push(base + left, base + right);
                        let span = (unacked, base + 2000);
                        board.mark_sacked(&option, span, &CLOCK, &mut rack, &mut Delivered::default());
                        board.detect_losses(&rack, 0, CLOCK.now);
                    }
                    Step::Lose(patience) => board.mark_lost_by_timeout(patience, CLOCK.now),
                    Step::Unlose => board.unmark_lost(),
                    Step::LoseFirst => {
                        if board.first().is_some_and(|sent| !sent.sacked) {
                            board.mark_first_lost();
                        }
                    }
                    Step::Resend(most) => {
                        if let Some(lost) = board.next_lost() {
                            board.on_retransmitted(lost.start, lost.end.min(lost.start + most), CLOCK.now);
                        }
                    }
                }
                let sum = |of: fn(&Sent) -> bool| -> u32 { board.sent.iter().filter(|s| of(s)).map(Sent::len).sum() };
                prop_assert_eq!(board.sacked_bytes, sum(|s| s.sacked));
                prop_assert_eq!(board.lost_bytes, sum(|s| s.lost));
                prop_assert_eq!(board.sacked_segments as usize, board.sent.iter().filter(|s| s.sacked).count());
                prop_assert!(board.sent.iter().all(|s| !(s.sacked && s.lost) && s.start.before(s.end)));
                prop_assert_eq!(board.next_lost().is_some(), board.lost_bytes > 0);
                let flight = (base + 2000).since(unacked);
                prop_assert_eq!(board.sent.iter().map(Sent::len).sum::<u32>(), flight);
                prop_assert!(board.pipe(flight) <= flight);
            }
        }

        /// RFC 8985, section 6.2, step 5, beside a plain reading of it: lost is what left before the newest delivered
        /// segment, and longer ago than the round trip and the reordering window; and the wait is for the last of those
        /// that left before it too.
        #[test]
        fn a_segment_is_lost_neither_before_its_time_nor_later(
            base: u32,
            gaps in prop::collection::vec(0u64..50, 20),
            again in prop::collection::btree_set(0u32..20, 0..5),
            sacked in prop::collection::vec(0u32..20, 1..6),
            window in 0u64..300,
            patience in 0u64..500,
        ) {
            let (base, mut board) = (Seq(base), Scoreboard::new());
            let mut at = 1_000;
            for (n, gap) in (0..20).zip(&gaps) {
                at += gap;
                board.push(base + n * 100, base + (n + 1) * 100, Instant::from_nanos(at));
            }
            for n in again {
                at += 1;
                board.on_retransmitted(base + n * 100, base + (n + 1) * 100, Instant::from_nanos(at));
            }
            let now = Instant::from_nanos(at + patience);
            let clock = AckClock { now, echo_ms: None, min_rtt_nanos: 0 };
            let mut rack = Rack::new(base);
            for n in sacked {
                let mut option = SackBlocks::default();
                option.push(base + n * 100, base + (n + 1) * 100);
                let span = (base, base + 2000);
                board.mark_sacked(&option, span, &clock, &mut rack, &mut Delivered::default());
            }
            let wait = board.detect_losses(&rack, window, now);
            let due = |sent: &Sent| sent.sent_at.as_nanos() + rack.rtt_nanos() + window;
            for sent in board.sent.iter().filter(|sent| !sent.sacked) {
                let expected = rack.was_sent_after(sent) && due(sent) <= now.as_nanos();
                prop_assert_eq!(sent.lost, expected, "{:?} at {:?}", sent, now);
            }
            let pending = board.sent.iter().filter(|sent| !sent.sacked && !sent.lost && rack.was_sent_after(sent));
            prop_assert_eq!(wait, pending.map(|sent| due(sent) - now.as_nanos()).max());
        }
    }
}
