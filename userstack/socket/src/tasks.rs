//! The futures of one core, in slots.
//!
//! A task that is polled or dropped is moved out of its slot first, so that it may spawn and abort tasks meanwhile.
//! Nothing here runs a task's code while the slots are borrowed.
//!
//! ```text
//!   Free ──insert──▶ Waiting ──take──▶ Running ──put_back──▶ Waiting
//!    ▲                  │ abort           ├──finish──▶ Free
//!    ├──────────────────┘                 └──abort───▶ Aborted
//!    └────────────────────put_back, finish───────────────┘
//! ```

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::ready::{CoreNumber, Mailbox, Signal, TaskId};

/// A future and the one waker that it keeps for life.
pub(crate) struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
    signal: Arc<Signal>,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.signal.task).finish_non_exhaustive()
    }
}

impl Task {
    pub(crate) fn poll(&mut self) -> Poll<()> {
        self.signal.lower();
        self.future.as_mut().poll(&mut Context::from_waker(&self.waker))
    }
}

#[derive(Debug)]
enum State {
    Free,
    Waiting(Task),
    Running,
    /// Aborted while it ran: dropped when its poll returns.
    Aborted,
}

#[derive(Debug)]
struct Slot {
    life: u32,
    state: State,
}

#[derive(Debug, Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
    living: usize,
}

/// All tasks of a core. Their number is bounded by what spawns them: connections and streams have limits of their own.
#[derive(Debug, Default)]
pub(crate) struct Tasks(RefCell<Slots>);

impl Tasks {
    pub(crate) fn len(&self) -> usize {
        self.0.borrow().living
    }

    /// Takes a future in. The caller wakes it for its first poll.
    pub(crate) fn insert(
        &self,
        future: Pin<Box<dyn Future<Output = ()>>>,
        core: CoreNumber,
        mailbox: &Arc<Mailbox>,
    ) -> (TaskId, Waker) {
        let mut slots = self.0.borrow_mut();
        let id = slots.reserve();
        let signal = Arc::new(Signal::new(core, id, Arc::clone(mailbox)));
        let waker = Waker::from(Arc::clone(&signal));
        slots.slots[id.slot as usize].state = State::Waiting(Task { future, waker: waker.clone(), signal });
        (id, waker)
    }

    /// Moves a task out to be polled. `None`: it has ended, or runs already.
    pub(crate) fn take(&self, id: TaskId) -> Option<Task> {
        let mut slots = self.0.borrow_mut();
        let slot = slots.living(id)?;
        match std::mem::replace(&mut slot.state, State::Running) {
            State::Waiting(task) => Some(task),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Moves a task back that has more to do. Gives it back to be dropped if it was aborted meanwhile.
    pub(crate) fn put_back(&self, id: TaskId, task: Task) -> Option<Task> {
        let mut slots = self.0.borrow_mut();
        let slot = slots.living(id)?;
        if matches!(slot.state, State::Aborted) {
            slots.release(id);
            return Some(task);
        }
        slot.state = State::Waiting(task);
        None
    }

    /// A task that was taken has ended.
    pub(crate) fn finish(&self, id: TaskId) {
        self.0.borrow_mut().release(id);
    }

    /// Ends a task: whether it lived, and the task to be dropped by the caller, unless it is running.
    pub(crate) fn abort(&self, id: TaskId) -> (bool, Option<Task>) {
        let mut slots = self.0.borrow_mut();
        let Some(slot) = slots.living(id) else { return (false, None) };
        if let State::Waiting(task) = std::mem::replace(&mut slot.state, State::Aborted) {
            slots.release(id);
            return (true, Some(task));
        }
        (true, None)
    }

    /// All tasks that wait, to empty the core.
    pub(crate) fn waiting(&self) -> Vec<TaskId> {
        let slots = self.0.borrow();
        let numbered = slots.slots.iter().enumerate();
        numbered
            .filter(|(_, slot)| matches!(slot.state, State::Waiting(_)))
            .map(|(index, slot)| TaskId { slot: slot_number(index), life: slot.life })
            .collect()
    }
}

impl Slots {
    fn reserve(&mut self) -> TaskId {
        self.living += 1;
        if let Some(slot) = self.free.pop() {
            return TaskId { slot, life: self.slots[slot as usize].life };
        }
        let slot = slot_number(self.slots.len());
        self.slots.push(Slot { life: 0, state: State::Free });
        TaskId { slot, life: 0 }
    }

    fn living(&mut self, id: TaskId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.slot as usize)?;
        (slot.life == id.life && !matches!(slot.state, State::Free)).then_some(slot)
    }

    fn release(&mut self, id: TaskId) {
        let Some(slot) = self.living(id) else { return };
        slot.state = State::Free;
        // A wake that is still on its way holds the old life and misses.
        slot.life = slot.life.wrapping_add(1);
        self.living -= 1;
        self.free.push(id.slot);
    }
}

fn slot_number(index: usize) -> u32 {
    u32::try_from(index).expect("a core has fewer than 2^32 tasks, because each takes memory")
}
