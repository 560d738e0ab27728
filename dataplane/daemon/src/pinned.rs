//! A worker's thread: pins itself to its core, and turns until it is told to stop. The one place of the data plane
//! that reads a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket::Instant;
use worker::Admission;
use worker::{Idle, Worker};

/// The tasks' share of one turn (DESIGN, the turn).
const TASKS_SHARE: Duration = Duration::from_micros(50);

/// The node's clock: nanoseconds since the process started its workers, the same on each.
#[derive(Copy, Clone, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    pub fn start() -> Self {
        // A second before now, so that nothing is due or expired at time zero.
        Self { origin: std::time::Instant::now() - Duration::from_secs(1) }
    }

    /// Nanoseconds from 1970 to this clock's zero.
    pub fn epoch_nanos(&self) -> u64 {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.saturating_sub(self.origin.elapsed()).as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Loops `worker` on the calling thread until `stop` is set (and its doorbell rung).
pub fn run<A: Admission>(worker: &mut Worker<A>, mut idle: Idle, clock: Clock, stop: &Arc<AtomicBool>) {
    let mut now = clock.now();
    while !stop.load(Ordering::Relaxed) {
        let mut share = Share::default();
        let busy = worker.turn(now, &mut || share.is_spent(clock.now()));
        let after = clock.now();
        worker.counters_mut().spend(busy, after.since(now));
        now = after;
        if idle.should_sleep(busy, now) {
            idle.sleep(worker, now);
            let awake = clock.now();
            worker.counters_mut().slept(awake.since(now));
            now = awake;
        }
    }
}

/// How much of their share of one turn tasks have used. It begins at the first look, which comes after a few polls: what
/// the turn took to receive is not theirs.
#[derive(Debug, Default)]
struct Share {
    begun: Option<Instant>,
}

impl Share {
    fn is_spent(&mut self, now: Instant) -> bool {
        now.since(*self.begun.get_or_insert(now)) > TASKS_SHARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_have_their_whole_share_however_long_the_turn_received() {
        let first_look = Instant::from_nanos(1_000_000);
        let mut share = Share::default();
        assert!(!share.is_spent(first_look));
        assert!(!share.is_spent(first_look + TASKS_SHARE));
        assert!(share.is_spent(first_look + TASKS_SHARE + Duration::from_nanos(1)));
    }
}
