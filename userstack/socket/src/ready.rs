//! Who is to be polled next: the names of tasks and cores, and the mailbox through which other threads wake a task.
//!
//! A task is in at most one of ready list and mailbox at a time: `queued` says so. That bounds both by the number of
//! tasks that were spawned and not yet looked at.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_queue::SegQueue;

/// Names a task for its life: a stale id misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct TaskId {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

/// Tells the cores of one process apart, so that a key is never used on a foreign stack.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreNumber(u64);

impl CoreNumber {
    pub(crate) fn next() -> Self {
        /// Shared by the process: cores are made on several threads. Only uniqueness matters.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Called on the waking thread when a task was woken from elsewhere: ends the worker's sleep, if it sleeps.
pub type Doorbell = Arc<dyn Fn() + Send + Sync>;

/// What other threads reach of a core.
pub(crate) struct Mailbox {
    woken: SegQueue<TaskId>,
    doorbell: OnceLock<Doorbell>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("woken", &self.woken.len()).finish_non_exhaustive()
    }
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        Self { woken: SegQueue::new(), doorbell: OnceLock::new() }
    }

    pub(crate) fn set_doorbell(&self, ring: Doorbell) {
        assert!(self.doorbell.set(ring).is_ok(), "a core's doorbell is set once");
    }

    pub(crate) fn post(&self, task: TaskId) {
        self.woken.push(task);
        if let Some(ring) = self.doorbell.get() {
            ring();
        }
    }

    pub(crate) fn collect(&self) -> Option<TaskId> {
        self.woken.pop()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.woken.is_empty()
    }
}

/// What a task's waker points to, for the task's whole life.
#[derive(Debug)]
pub(crate) struct Signal {
    pub(crate) core: CoreNumber,
    pub(crate) task: TaskId,
    pub(crate) mailbox: Arc<Mailbox>,
    /// Shared with wakers on other threads.
    queued: AtomicBool,
}

impl Signal {
    pub(crate) fn new(core: CoreNumber, task: TaskId, mailbox: Arc<Mailbox>) -> Self {
        Self { core, task, mailbox, queued: AtomicBool::new(false) }
    }

    /// True for the one wake that must queue the task.
    pub(crate) fn raise(&self) -> bool {
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Before the poll: a wake that comes during it queues the task again.
    pub(crate) fn lower(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}
