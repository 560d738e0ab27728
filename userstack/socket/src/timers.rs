//! The deadlines of one core's tasks, on the stack's timer wheel.
//!
//! Never early; late by at most one tick of the wheel (65 us) and the core's next turn.

use std::task::Waker;

use stack::Instant;
use stack::wheel::{TimerId, Wheel};

/// Names an armed timer: one that has fired or was cancelled misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    timer: TimerId,
}

/// Armed timers: bounded by the sleeps that tasks hold.
#[derive(Debug)]
pub(crate) struct Timers {
    /// Fires slot numbers.
    wheel: Wheel<u32>,
    /// Whom a slot wakes, and which timer it belongs to; empty while the slot is free.
    slots: Vec<Option<(TimerId, Waker)>>,
    free: Vec<u32>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { wheel: Wheel::new(Instant::ZERO), slots: Vec::new(), free: Vec::new() }
    }

    pub(crate) fn arm(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            u32::try_from(self.slots.len() - 1)
                .expect("a core has fewer than 2^32 sleeps, because each takes memory")
        });
        let timer = self.wheel.insert(deadline, slot);
        self.slots[slot as usize] = Some((timer, waker));
        TimerKey { slot, timer }
    }

    /// Whom `key` will wake. `None`: it has fired.
    pub(crate) fn waker_mut(&mut self, key: TimerKey) -> Option<&mut Waker> {
        let (timer, waker) = self.slots.get_mut(key.slot as usize)?.as_mut()?;
        (*timer == key.timer).then_some(waker)
    }

    /// Disarms; gives the waker back to be dropped.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        self.waker_mut(key)?;
        self.wheel.cancel(key.timer);
        self.release(key.slot)
    }

    /// Hands out one waker whose deadline has come. `work` bounds the call; `None` with work left means that nothing
    /// more is due.
    pub(crate) fn fire(&mut self, now: Instant, work: &mut usize) -> Option<Waker> {
        let slot = self.wheel.poll(now, work)?;
        self.release(slot)
    }

    /// When [`Timers::fire`] has work again.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.wheel.next_timeout()
    }

    fn release(&mut self, slot: u32) -> Option<Waker> {
        let (_, waker) = self.slots[slot as usize].take()?;
        self.free.push(slot);
        Some(waker)
    }
}
