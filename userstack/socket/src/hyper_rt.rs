//! hyper's runtime traits: [`TcpStream`] as its connection, [`Executor`] for its tasks, [`Timer`] for its clock.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::scope;
use crate::{Sleep, TcpStream, spawn};

impl Read for TcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_read_chunks(context, buffer.remaining(), |bytes| buffer.put_slice(bytes)).map_ok(|_read| ())
    }
}

impl Write for TcpStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_from(context, &[from])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_slices(context, slices)
    }

    /// Nothing to do: the stack sends what is written at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shutdown();
        Poll::Ready(Ok(()))
    }
}

/// Spawns hyper's tasks on the core that is running.
#[derive(Copy, Clone, Debug, Default)]
pub struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + 'static,
{
    fn execute(&self, future: F) {
        spawn(async move {
            future.await;
        });
    }
}

/// The core's clock for hyper. Its `std` instants count from one that was read when the core began; they are only
/// good for comparing with each other.
#[derive(Copy, Clone, Debug, Default)]
pub struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(crate::sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(scope::with("Timer::sleep_until", |scope| Sleep::new(scope, scope.moment_of(deadline))))
    }

    fn now(&self) -> Instant {
        scope::with("Timer::now", scope::Scope::std_now)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn hyper::rt::Sleep>>, deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<Sleep>() {
            Some(known) => {
                let deadline = scope::with("Timer::reset", |scope| scope.moment_of(deadline));
                known.get_mut().reset(deadline);
            }
            None => *sleep = self.sleep_until(deadline),
        }
    }
}

impl hyper::rt::Sleep for Sleep {}
