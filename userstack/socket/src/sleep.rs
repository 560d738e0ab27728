//! Waiting for time to pass: [`Sleep`] and [`timeout`], on the core's clock.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use stack::Instant;

use crate::orphans::Orphan;
use crate::ready::CoreNumber;
use crate::scope::{self, Scope};
use crate::timers::TimerKey;

/// Ends at its deadline. Armed at the first poll, disarmed by the drop.
#[derive(Debug)]
#[must_use = "a sleep does nothing until it is awaited"]
pub struct Sleep {
    core: CoreNumber,
    deadline: Instant,
    armed: Option<TimerKey>,
}

/// A sleep of `duration` from now.
///
/// # Panics
/// Outside of a core's scope.
pub fn sleep(duration: Duration) -> Sleep {
    scope::with("socket::sleep", |scope| Sleep::new(scope, scope.now() + duration))
}

/// A sleep until `deadline` on the core's clock.
///
/// # Panics
/// Outside of a core's scope.
pub fn sleep_until(deadline: Instant) -> Sleep {
    scope::with("socket::sleep_until", |scope| Sleep::new(scope, deadline))
}

/// `future` did not end in time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time for it is over")
    }
}

impl std::error::Error for Elapsed {}

/// What `future` yields, or [`Elapsed`] when `limit` passes first, counted from this call.
///
/// # Panics
/// Outside of a core's scope.
pub fn timeout<F: Future>(limit: Duration, future: F) -> impl Future<Output = Result<F::Output, Elapsed>> {
    let limit = scope::with("socket::timeout", |scope| Sleep::new(scope, scope.now() + limit));
    async move {
        let mut future = pin!(future);
        let mut limit = pin!(limit);
        std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| Err(Elapsed)),
        })
        .await
    }
}

impl Sleep {
    pub(crate) fn new(scope: &Scope, deadline: Instant) -> Self {
        Self { core: scope.number, deadline, armed: None }
    }

    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends at `deadline` instead, also if it had ended already.
    pub fn reset(&mut self, deadline: Instant) {
        self.disarm();
        self.deadline = deadline;
    }

    fn disarm(&mut self) {
        if let Some(key) = self.armed.take() {
            scope::release(self.core, Orphan::Sleep(key));
        }
    }

    fn arm(&mut self, scope: &Scope, context: &Context<'_>) {
        let replaced = {
            let mut timers = scope.timers.borrow_mut();
            match self.armed.and_then(|key| timers.waker_mut(key)) {
                Some(known) if known.will_wake(context.waker()) => None,
                Some(known) => Some(std::mem::replace(known, context.waker().clone())),
                None => {
                    self.armed = Some(timers.arm(self.deadline, context.waker().clone()));
                    None
                }
            }
        };
        // Outside of the borrow: dropping a waker may run code that sleeps.
        drop(replaced);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        scope::with_core("Sleep::poll", self.core, |scope| {
            if scope.now() >= self.deadline {
                return Poll::Ready(());
            }
            self.arm(scope, context);
            Poll::Pending
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}
