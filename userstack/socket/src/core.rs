//! [`Core`]: the stack, the tasks and the timers of one core, and the steps that a worker's turn calls on them.
//!
//! It owns no thread and no clock: every step takes the time. It is called by the worker (or the simulator's host),
//! and by nobody while a task runs.

use std::fmt;
use std::ops::DerefMut;
use std::rc::Rc;
use std::task::{Poll, Waker};

use stack::{
    Admission, Chain, Egress, FirstDatagram, Forward, Instant, InterfaceId, Pieces, Run, Stack, Verdict,
};

use crate::ready::{Doorbell, TaskId};
use crate::scope::{self, Scope};

/// Polls that one [`Core::run_tasks`] makes at most (DESIGN, the turn's budgets).
pub const POLLS_PER_TURN: usize = 64;

/// How often a core that ends looks again for tasks that were spawned by the drop of another.
const DROP_ROUNDS: usize = 8;

/// Stack, executor and timers of one core.
pub struct Core {
    scope: Rc<Scope>,
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("scope", &self.scope).finish()
    }
}

impl Core {
    /// `seed` decides what [`random`] gives: equal seeds and inputs give equal runs.
    pub fn new(stack: Stack, seed: u64) -> Self {
        Self { scope: Rc::new(Scope::new(stack, seed)) }
    }

    /// The stack, between two steps of the turn.
    pub fn stack(&mut self) -> impl DerefMut<Target = Stack> {
        self.scope.stack.borrow_mut()
    }

    /// Runs `f` inside the scope: sockets, [`spawn`], [`now`] and [`random`] work in it.
    pub fn enter<R>(&mut self, now: Instant, f: impl FnOnce() -> R) -> R {
        self.scope.set_now(now);
        let _entered = scope::enter(&self.scope);
        f()
    }

    /// Takes a task in; its first poll is in the next [`Core::run_tasks`].
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> TaskId {
        let _entered = scope::enter(&self.scope);
        self.scope.spawn(future)
    }

    /// Drops a task, inside the scope. False: it had ended.
    pub fn abort(&mut self, task: TaskId) -> bool {
        let _entered = scope::enter(&self.scope);
        abort(task)
    }

    /// A packet arrived. `admission` may call [`now`] and [`random`], but no socket: the stack is at work.
    pub fn handle_packet(
        &mut self,
        interface: InterfaceId,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Verdict {
        self.scope.set_now(now);
        let admission = &mut Inside { scope: &self.scope, admission };
        self.scope.stack.borrow_mut().handle_packet(interface, packet, admission, now)
    }

    /// Segments of one stream arrived ([`Stack::handle_run`]). False: they are to be handled one by one.
    pub fn handle_run(
        &mut self,
        interface: InterfaceId,
        run: &Run,
        pieces: &dyn Pieces,
        now: Instant,
    ) -> bool {
        self.scope.set_now(now);
        self.scope.stack.borrow_mut().handle_run(interface, run, pieces, now)
    }

    /// A packet that another worker put together from fragments ([`Stack::poll_steered`]); as [`Core::handle_packet`].
    pub fn handle_steered(
        &mut self,
        interface: InterfaceId,
        packet: &[u8],
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Verdict {
        self.scope.set_now(now);
        let admission = &mut Inside { scope: &self.scope, admission };
        self.scope.stack.borrow_mut().handle_steered(interface, packet, admission, now)
    }

    /// Wakes what the stack's events name, then polls ready tasks: at most [`POLLS_PER_TURN`], or until `expired`,
    /// which is asked after each, says so. True: more are ready.
    pub fn run_tasks(&mut self, now: Instant, expired: &mut dyn FnMut() -> bool) -> bool {
        self.scope.set_now(now);
        let _entered = scope::enter(&self.scope);
        self.scope.adopt_orphans();
        self.scope.deliver_events();
        self.scope.collect_mail();
        for _ in 0..POLLS_PER_TURN {
            let Some(task) = self.scope.next_ready() else { break };
            self.poll_task(task);
            if expired() {
                break;
            }
        }
        // What tasks did may concern other tasks: a reset connection, a socket that was closed under another.
        self.scope.deliver_events();
        self.scope.has_ready()
    }

    fn poll_task(&self, id: TaskId) {
        let Some(mut task) = self.scope.tasks.take(id) else { return };
        let ended = match task.poll() {
            Poll::Pending => self.scope.tasks.put_back(id, task),
            Poll::Ready(()) => {
                self.scope.tasks.finish(id);
                Some(task)
            }
        };
        drop(ended);
    }

    /// Fires at most `budget` due timers, of the stack and of tasks; true when more are due.
    pub fn handle_timers(&mut self, budget: usize, now: Instant) -> bool {
        self.scope.set_now(now);
        let _entered = scope::enter(&self.scope);
        let more_in_stack = self.scope.stack.borrow_mut().handle_timers(budget, now);
        self.scope.deliver_events();
        more_in_stack | self.fire_sleeps(budget, now)
    }

    fn fire_sleeps(&self, budget: usize, now: Instant) -> bool {
        let mut work = budget;
        while let Some(waker) = self.next_fired(now, &mut work) {
            waker.wake();
        }
        self.scope.timers.borrow().next_deadline().is_some_and(|deadline| deadline <= now)
    }

    /// The borrow ends here: waking may run code that sleeps.
    fn next_fired(&self, now: Instant, work: &mut usize) -> Option<Waker> {
        self.scope.timers.borrow_mut().fire(now, work)
    }

    /// Writes packets until `budget` is spent or nothing is left; true when more is left.
    pub fn poll_transmit(&mut self, egress: &mut dyn Egress, budget: usize, now: Instant) -> bool {
        self.scope.set_now(now);
        let _entered = scope::enter(&self.scope);
        let more = self.scope.stack.borrow_mut().poll_transmit(egress, budget, now);
        self.scope.deliver_events();
        more
    }

    /// When the next timer is due, of the stack or of a task.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_stack = self.scope.stack.borrow().poll_timeout();
        let of_tasks = self.scope.timers.borrow().next_deadline();
        [of_stack, of_tasks].into_iter().flatten().min()
    }

    /// Whether [`Core::run_tasks`] would poll a task. Ask before a sleep.
    pub fn has_ready(&self) -> bool {
        let _entered = scope::enter(&self.scope);
        self.scope.deliver_events();
        self.scope.has_ready()
    }

    /// Living tasks.
    pub fn tasks(&self) -> usize {
        self.scope.tasks.len()
    }

    /// What wakers on other threads call after they have woken a task; set once.
    pub fn set_doorbell(&mut self, ring: Doorbell) {
        self.scope.mailbox.set_doorbell(ring);
    }
}

/// An admission that judges inside the scope. Only a session's first datagram is judged: other packets do without it.
struct Inside<'a> {
    scope: &'a Rc<Scope>,
    admission: &'a mut dyn Admission,
}

impl Admission for Inside<'_> {
    fn admit(&mut self, first: &FirstDatagram<'_>, now: Instant) -> Forward {
        let _entered = scope::enter(self.scope);
        self.admission.admit(first, now)
    }
}

/// Ends every task, inside the scope, so that what tasks hold is closed on this core's stack.
impl Drop for Core {
    fn drop(&mut self) {
        let _entered = scope::enter(&self.scope);
        for _ in 0..DROP_ROUNDS {
            for task in self.scope.tasks.waiting() {
                abort(task);
            }
        }
        self.scope.adopt_orphans();
    }
}

impl Scope {
    fn spawn(&self, future: impl Future<Output = ()> + 'static) -> TaskId {
        let (id, waker) = self.tasks.insert(Box::pin(future), self.number, &self.mailbox);
        waker.wake();
        id
    }
}

/// Spawns a task on this core; its first poll is after the tasks that are ready now.
///
/// # Panics
/// Outside of a core's scope.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> TaskId {
    scope::with("socket::spawn", |scope| scope.spawn(future))
}

/// Drops a task of this core; one that aborts itself is dropped when its poll returns. False: it had ended.
///
/// # Panics
/// Outside of a core's scope.
pub fn abort(task: TaskId) -> bool {
    let (found, dropped) = scope::with("socket::abort", |scope| scope.tasks.abort(task));
    drop(dropped);
    found
}

/// The time of this core's turn.
///
/// # Panics
/// Outside of a core's scope.
pub fn now() -> Instant {
    scope::with("socket::now", Scope::now)
}

/// The next number of this core's seeded generator: for balancing and jitter, never for secrets.
///
/// # Panics
/// Outside of a core's scope.
pub fn random() -> u64 {
    scope::with("socket::random", Scope::random)
}

#[cfg(test)]
mod tests;
