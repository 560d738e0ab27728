//! When a worker sleeps, and on what: `poll: busy` never does; `poll: adaptive` spins a little after the last work,
//! then waits on the doorbell and the queue pairs' descriptors until the next deadline.

use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stack::{Admission, Instant};

use nic::QueuePair;

use crate::{Doorbell, Worker};

/// Longest sleep: housekeeping (counters, health) may be this late.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How soon a device that left packets on its ring is asked again. The kernel makes room as it frees what it sent, and
/// tells nobody: soon enough for a stream, seldom enough not to spin on a device that takes nothing.
const RETRY_SENDING: Duration = Duration::from_micros(50);

/// How a worker waits.
#[derive(Debug)]
pub struct Idle {
    /// `None`: never sleeps.
    spin: Option<Duration>,
    doorbell: Doorbell,
    last_work: Instant,
}

impl Idle {
    pub fn busy(doorbell: Doorbell) -> Self {
        Self { spin: None, doorbell, last_work: Instant::ZERO }
    }

    pub fn adaptive(spin: Duration, doorbell: Doorbell) -> Self {
        Self { spin: Some(spin), doorbell, last_work: Instant::ZERO }
    }

    /// Called after a turn. Whether the worker has been without work long enough to sleep.
    pub fn should_sleep(&mut self, busy: bool, now: Instant) -> bool {
        if busy {
            self.last_work = now;
        }
        self.spin.is_some_and(|spin| !busy && now.since(self.last_work) >= spin)
    }

    /// Sleeps until a packet, a command, another worker's packet or the worker's next deadline. Does not sleep when
    /// something came in between.
    pub fn sleep<A: Admission>(&self, worker: &mut Worker<A>, now: Instant) {
        self.doorbell.announce_sleep();
        if worker.is_idle() {
            let longest = if worker.is_sending() { RETRY_SENDING } else { LONGEST_SLEEP };
            let deadline = worker.core.poll_timeout().map_or(longest, |at| at.since(now).min(longest));
            let timeout = Timespec {
                tv_sec: deadline.as_secs().cast_signed(),
                tv_nsec: deadline.subsec_nanos().into(),
            };
            let mut waiting = vec![PollFd::from_borrowed_fd(self.doorbell.descriptor(), PollFlags::IN)];
            let queues = worker.ports_mut().iter().filter_map(|port| port.queue.descriptor());
            waiting.extend(queues.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN)));
            // EINTR is a reason to wake as good as any.
            let _ = poll(&mut waiting, Some(&timeout));
            // A ring that comes after this look makes the next sleep short, and is drained then.
            if waiting[0].revents().contains(PollFlags::IN) {
                self.doorbell.drain();
            }
        }
        self.doorbell.announce_awake();
        worker.wake_ports();
    }
}
