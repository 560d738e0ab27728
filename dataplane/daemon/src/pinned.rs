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

/// Polls of tasks between two looks at the clock: one takes a few microseconds, a look a fortieth of one.
const POLLS_PER_LOOK: u32 = 4;

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

/// How long a core that hardly worked goes on to send each task's answer at once, once it has work.
const LIGHT_LONGEST: Duration = Duration::from_millis(1);

/// How much it must have slept for its work to count as light.
const LIGHT_SLEEP_PER_WORK: u32 = 4;

/// Whether the core is loaded lightly. Then a turn ends after each task, so that its answer leaves while the next is
/// made; else tasks of one turn share their packets' way to the device.
#[derive(Debug, Default)]
struct Load {
    /// Sleep that no work has been set against.
    rest: Duration,
}

impl Load {
    fn worked(&mut self, time: Duration) {
        self.rest = self.rest.saturating_sub(time * LIGHT_SLEEP_PER_WORK);
    }

    fn slept(&mut self, time: Duration) {
        self.rest = (self.rest + time).min(LIGHT_LONGEST * LIGHT_SLEEP_PER_WORK);
    }

    fn is_light(&self) -> bool {
        !self.rest.is_zero()
    }
}

/// Loops `worker` on the calling thread until `stop` is set (and its doorbell rung).
pub fn run<A: Admission>(worker: &mut Worker<A>, mut idle: Idle, clock: Clock, stop: &Arc<AtomicBool>) {
    let mut now = clock.now();
    let mut load = Load::default();
    while !stop.load(Ordering::Relaxed) {
        let (mut polls, mut share) = (0, Share::default());
        let busy = worker.turn(now, &mut || {
            polls += 1;
            load.is_light() || (polls % POLLS_PER_LOOK == 0 && share.is_spent(clock.now()))
        });
        let after = clock.now();
        worker.counters_mut().spend(busy, after.since(now));
        load.worked(after.since(now));
        now = after;
        if idle.should_sleep(busy, now) {
            idle.sleep(worker, now);
            let awake = clock.now();
            worker.counters_mut().slept(awake.since(now));
            load.slept(awake.since(now));
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
    fn a_core_that_sleeps_most_of_the_time_is_loaded_lightly() {
        let mut load = Load::default();
        assert!(!load.is_light(), "nothing is known of it");
        for _ in 0..10 {
            load.slept(Duration::from_millis(10));
            load.worked(Duration::from_micros(900));
            assert!(load.is_light(), "a burst that does not last");
        }
        load.worked(Duration::from_micros(200));
        assert!(!load.is_light(), "one that lasts");
        for _ in 0..10 {
            load.slept(Duration::from_micros(50));
            load.worked(Duration::from_micros(150));
            assert!(!load.is_light(), "three quarters are work");
        }
    }

    #[test]
    fn tasks_have_their_whole_share_however_long_the_turn_received() {
        let first_look = Instant::from_nanos(1_000_000);
        let mut share = Share::default();
        assert!(!share.is_spent(first_look));
        assert!(!share.is_spent(first_look + TASKS_SHARE));
        assert!(share.is_spent(first_look + TASKS_SHARE + Duration::from_nanos(1)));
    }
}
