//! The scoreboard of a connection that has something in flight, and nothing for one that has not: most are idle. It is
//! lent by the pool with the room that it had before, and given back with the last acknowledgement.
//!
//! Who asks what is in flight asks the scoreboard; without one, an empty one answers.

use std::ops::Deref;

use super::congestion::rate::Stamp;
use super::header::SackBlocks;
use super::memory::Pool;
use super::rack::Rack;
use super::scoreboard::{Delivered, Plain, Scoreboard};
use super::sent::AckClock;
use super::sequence::Seq;
use crate::Instant;

static NOTHING: Scoreboard = Scoreboard::new();

#[derive(Debug, Default)]
pub(crate) struct InFlight(Option<Box<Scoreboard>>);

impl Deref for InFlight {
    type Target = Scoreboard;

    #[inline]
    fn deref(&self) -> &Scoreboard {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl InFlight {
    /// `start..end` was sent for the first time.
    pub(crate) fn push(&mut self, pool: &mut Pool, start: Seq, end: Seq, now: Instant) {
        self.0.get_or_insert_with(|| pool.acquire_scoreboard()).push(start, end, now);
    }

    /// Everything before `ack` has arrived.
    pub(crate) fn acknowledge(
        &mut self,
        ack: Seq,
        clock: &AckClock,
        rack: &mut Rack,
        delivered: &mut Delivered,
        pool: &mut Pool,
    ) {
        if let Some(board) = &mut self.0 {
            board.acknowledge(ack, clock, rack, delivered);
            if board.is_empty() {
                self.release(pool);
            }
        }
    }

    /// The same, while all [is plain](Scoreboard::is_plain). `None`: of no segment the end.
    #[inline]
    pub(crate) fn acknowledge_plain(&mut self, ack: Seq, pool: &mut Pool) -> Option<Plain> {
        let board = self.0.as_mut()?;
        let delivered = board.acknowledge_plain(ack);
        if board.is_empty() {
            self.release(pool);
        }
        delivered
    }

    /// The connection has nothing in flight any more.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        if let Some(mut board) = self.0.take() {
            board.clear();
            pool.release_scoreboard(board);
        }
    }

    /// The segment that begins at `start`, to be stamped.
    pub(crate) fn stamp(&mut self, start: Seq) -> Option<(&mut Stamp, u32)> {
        self.0.as_mut()?.stamp(start)
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
        self.0.as_mut().is_some_and(|board| board.mark_sacked(blocks, span, clock, rack, delivered))
    }

    /// The time until more is lost, if the rest stays unacknowledged.
    pub(crate) fn detect_losses(
        &mut self,
        rack: &Rack,
        reorder_window_nanos: u64,
        now: Instant,
    ) -> Option<u64> {
        self.0.as_mut()?.detect_losses(rack, reorder_window_nanos, now)
    }

    pub(crate) fn mark_lost_by_timeout(&mut self, patience_nanos: u64, now: Instant) {
        self.change(|board| board.mark_lost_by_timeout(patience_nanos, now));
    }

    pub(crate) fn unmark_lost(&mut self) {
        self.change(Scoreboard::unmark_lost);
    }

    pub(crate) fn mark_longer_lost(&mut self, bytes: u32) {
        self.change(|board| board.mark_longer_lost(bytes));
    }

    pub(crate) fn mark_first_lost(&mut self) {
        self.change(Scoreboard::mark_first_lost);
    }

    pub(crate) fn presume_delivered(&mut self, bytes: u32, flight: u32) {
        self.change(|board| board.presume_delivered(bytes, flight));
    }

    pub(crate) fn presume_fewer(&mut self, bytes: u32) {
        self.change(|board| board.presume_fewer(bytes));
    }

    pub(crate) fn on_retransmitted(&mut self, start: Seq, end: Seq, now: Instant) {
        self.change(|board| board.on_retransmitted(start, end, now));
    }

    /// Where nothing is in flight there is nothing to change.
    #[inline]
    fn change(&mut self, change: impl FnOnce(&mut Scoreboard)) {
        if let Some(board) = &mut self.0 {
            change(board);
        }
    }
}
