//! One core's parts, and how code that holds only keys finds them: through a thread-local that is set while the core
//! runs something.
//!
//! Scopes nest, so that several cores live in one thread (the simulator). Every borrow here is shorter than a call:
//! nothing is borrowed while a task, a waker or a drop of either runs.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};

use stack::{Event, Instant, Stack};

use crate::orphans::{self, Orphan};
use crate::ready::{CoreNumber, Mailbox, TaskId};
use crate::tasks::Tasks;
use crate::timers::Timers;
use crate::waiters::{Wait, Waiters};

/// What a core consists of, shared by its owner and the thread-local scope.
pub(crate) struct Scope {
    pub(crate) number: CoreNumber,
    pub(crate) stack: RefCell<Stack>,
    pub(crate) tasks: Tasks,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) timers: RefCell<Timers>,
    ready: RefCell<VecDeque<TaskId>>,
    waiters: RefCell<Waiters>,
    now: Cell<Instant>,
    /// A `std` instant and the moment on the core's clock that it stands for.
    epoch: Cell<Option<(std::time::Instant, Instant)>>,
    random: Cell<u64>,
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("number", &self.number)
            .field("now", &self.now.get())
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Scope>>> = const { RefCell::new(None) };
}

/// Leaves the scope when dropped, also by a panic.
#[derive(Debug)]
pub(crate) struct Entered(Option<Rc<Scope>>);

/// Makes `scope` the one that sockets find, until the guard is dropped.
pub(crate) fn enter(scope: &Rc<Scope>) -> Entered {
    Entered(CURRENT.replace(Some(Rc::clone(scope))))
}

impl Drop for Entered {
    fn drop(&mut self) {
        let outer = self.0.take();
        // A thread that is ending has no scope to restore.
        let left = CURRENT.try_with(|current| current.replace(outer));
        drop(left);
    }
}

/// The scope that `call` needs.
///
/// # Panics
/// When there is none: the program uses a socket outside of a task.
pub(crate) fn with<R>(call: &str, f: impl FnOnce(&Scope) -> R) -> R {
    CURRENT.with_borrow(|current| match current {
        Some(scope) => f(scope),
        None => panic!(
            "{call} was used outside of a core: it works in tasks of a socket::Core and in Core::enter"
        ),
    })
}

/// The scope that `call` on a key of `core` needs.
///
/// # Panics
/// When there is none, or it is another core's.
pub(crate) fn with_core<R>(call: &str, core: CoreNumber, f: impl FnOnce(&Scope) -> R) -> R {
    with(call, |scope| {
        assert!(scope.number == core, "{call} was used in another core than the one that made it");
        f(scope)
    })
}

/// The scope, if it is `core`'s.
pub(crate) fn try_with<R>(core: CoreNumber, f: impl FnOnce(&Scope) -> R) -> Option<R> {
    CURRENT
        .try_with(|current| {
            current.borrow().as_ref().filter(|scope| scope.number == core).map(|scope| f(scope))
        })
        .ok()
        .flatten()
}

/// Lets go of what `orphan` names: at once inside of its core's scope, otherwise when the core runs tasks next.
pub(crate) fn release(core: CoreNumber, orphan: Orphan) {
    if try_with(core, |scope| scope.close(orphan)) != Some(true) {
        orphans::leave(core, orphan);
    }
}

impl Scope {
    pub(crate) fn new(stack: Stack, seed: u64) -> Self {
        Self {
            number: CoreNumber::next(),
            stack: RefCell::new(stack),
            tasks: Tasks::default(),
            mailbox: Arc::new(Mailbox::new()),
            timers: RefCell::new(Timers::new()),
            ready: RefCell::new(VecDeque::new()),
            waiters: RefCell::new(Waiters::default()),
            now: Cell::new(Instant::ZERO),
            epoch: Cell::new(None),
            random: Cell::new(seed),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn set_now(&self, now: Instant) {
        self.now.set(now);
        if self.epoch.get().is_none() {
            // The only clock reading: an origin for the type, which no decision depends on.
            self.epoch.set(Some((std::time::Instant::now(), now)));
        }
    }

    /// The core's time as the type that hyper wants.
    pub(crate) fn std_now(&self) -> std::time::Instant {
        let (origin, then) = self.epoch();
        origin + self.now().since(then)
    }

    /// The moment on the core's clock that a `std` instant of ours stands for.
    pub(crate) fn moment_of(&self, instant: std::time::Instant) -> Instant {
        let (origin, then) = self.epoch();
        then + instant.saturating_duration_since(origin)
    }

    fn epoch(&self) -> (std::time::Instant, Instant) {
        self.epoch.get().expect("a scope is only entered with the time set")
    }

    /// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    // ---- who runs next ----

    pub(crate) fn make_ready(&self, task: TaskId) {
        self.ready.borrow_mut().push_back(task);
    }

    pub(crate) fn next_ready(&self) -> Option<TaskId> {
        self.ready.borrow_mut().pop_front()
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty() || !self.mailbox.is_empty()
    }

    /// Moves what other threads woke to the ready list.
    pub(crate) fn collect_mail(&self) {
        while let Some(task) = self.mailbox.collect() {
            self.make_ready(task);
        }
    }

    // ---- who waits ----

    /// The task of `context` is woken when the event comes.
    pub(crate) fn wait(&self, wait: Wait, context: &Context<'_>) {
        let replaced = self.waiters.borrow_mut().register(wait, context.waker());
        drop(replaced);
    }

    fn wake(&self, wait: Wait) {
        if let Some(waker) = self.take_waiter(wait) {
            waker.wake();
        }
    }

    fn take_waiter(&self, wait: Wait) -> Option<Waker> {
        self.waiters.borrow_mut().take(wait)
    }

    /// Wakes the tasks that the stack's events name. The caller has entered this scope.
    pub(crate) fn deliver_events(&self) {
        loop {
            let Some(event) = self.stack.borrow_mut().poll_event() else { return };
            match event {
                Event::Connected(flow) => {
                    self.wake(Wait::Write(flow));
                    self.wake(Wait::Read(flow));
                }
                Event::Readable(flow) => self.wake(Wait::Read(flow)),
                Event::Writable(flow) => self.wake(Wait::Write(flow)),
                Event::Acceptable(listener) => self.wake(Wait::Accept(listener)),
                Event::DatagramReadable(socket) => self.wake(Wait::Receive(socket)),
                Event::DatagramWritable(socket) => self.wake(Wait::Send(socket)),
            }
        }
    }

    // ---- letting go ----

    /// Closes what was dropped outside of the scope.
    pub(crate) fn adopt_orphans(&self) {
        while let Some(orphan) = orphans::adopt(self.number) {
            self.close(orphan);
        }
    }

    /// False when the stack is at work just now: an admission dropped a socket.
    fn close(&self, orphan: Orphan) -> bool {
        if let Orphan::Sleep(key) = orphan {
            let waker = self.timers.borrow_mut().cancel(key);
            drop(waker);
            return true;
        }
        let Ok(mut stack) = self.stack.try_borrow_mut() else { return false };
        let waits = match orphan {
            Orphan::Stream(flow) => {
                stack.tcp_close(flow, self.now());
                [Wait::Read(flow), Wait::Write(flow)]
            }
            Orphan::Listener(listener) => {
                stack.tcp_unlisten(listener, self.now());
                [Wait::Accept(listener); 2]
            }
            Orphan::Datagrams(socket) => {
                stack.udp_close(socket);
                [Wait::Receive(socket), Wait::Send(socket)]
            }
            Orphan::Sleep(_) => return true,
        };
        drop(stack);
        for wait in waits {
            drop(self.take_waiter(wait));
        }
        true
    }
}
