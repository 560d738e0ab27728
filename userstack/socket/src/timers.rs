//! The deadlines of one core's tasks.
//!
//! Fires in the order of deadlines, then of arming. Never early; as late as the core's next turn.

use std::collections::BTreeSet;
use std::task::Waker;

use stack::Instant;

/// Names an armed timer: one that has fired or was cancelled misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TimerKey {
    slot: u32,
    life: u32,
}

#[derive(Debug)]
struct Slot {
    life: u32,
    armed: Option<(Instant, Waker)>,
}

/// Armed timers: bounded by the sleeps that tasks hold.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    order: BTreeSet<(Instant, u32)>,
}

impl Timers {
    pub(crate) fn arm(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { life: 0, armed: None });
            u32::try_from(self.slots.len() - 1)
                .expect("a core has fewer than 2^32 sleeps, because each takes memory")
        });
        let entry = &mut self.slots[slot as usize];
        entry.armed = Some((deadline, waker));
        self.order.insert((deadline, slot));
        TimerKey { slot, life: entry.life }
    }

    /// Whom `key` will wake. `None`: it has fired.
    pub(crate) fn waker_mut(&mut self, key: TimerKey) -> Option<&mut Waker> {
        let slot = self.slots.get_mut(key.slot as usize).filter(|slot| slot.life == key.life)?;
        slot.armed.as_mut().map(|(_, waker)| waker)
    }

    /// Disarms; gives the waker back to be dropped.
    pub(crate) fn cancel(&mut self, key: TimerKey) -> Option<Waker> {
        self.waker_mut(key)?;
        self.release(key.slot)
    }

    /// Hands out one waker whose deadline has come.
    pub(crate) fn fire(&mut self, now: Instant) -> Option<Waker> {
        let &(deadline, slot) = self.order.first()?;
        if deadline > now {
            return None;
        }
        self.release(slot)
    }

    /// When the next timer is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.order.first().map(|&(deadline, _)| deadline)
    }

    fn release(&mut self, slot: u32) -> Option<Waker> {
        let entry = &mut self.slots[slot as usize];
        let (deadline, waker) = entry.armed.take()?;
        entry.life = entry.life.wrapping_add(1);
        self.order.remove(&(deadline, slot));
        self.free.push(slot);
        Some(waker)
    }
}
