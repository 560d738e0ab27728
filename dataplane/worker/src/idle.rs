//! When a worker sleeps, and on what: `poll: busy` never does; `poll: adaptive` spins a little after the last work,
//! then waits on the doorbell and the queue pairs' descriptors until the next deadline.
//!
//! The queue pairs are behind one epoll, so that neither going to sleep nor waking asks each of them, and the worker
//! knows whom to visit. The wait itself is ppoll(2) on that epoll, because epoll_pwait(2) counts milliseconds.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nic::QueuePair;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use stack::{Admission, Instant};

use crate::{Doorbell, Port, Worker};

/// Longest sleep: housekeeping (counters, health) may be this late.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How soon a device that left packets on its ring is asked again. The kernel makes room as it frees what it sent, and
/// tells nobody: soon enough for a stream, seldom enough not to spin on a device that takes nothing.
const RETRY_SENDING: Duration = Duration::from_micros(50);

/// Queue pairs that one sleep's end names; further ones are named at the next, or found in rotation.
const READY_PORTS: usize = 64;

/// How a worker waits.
#[derive(Debug)]
pub struct Idle {
    doorbell: Doorbell,
    /// `None`: never sleeps.
    sleeper: Option<Sleeper>,
    last_work: Instant,
}

struct Sleeper {
    spin: Duration,
    epoll: OwnedFd,
    /// Ports that are watched, from the first on.
    watched: usize,
    /// Those of them that have no descriptor: they are visited after every sleep.
    blind: Vec<usize>,
    ready: Vec<epoll::Event>,
}

impl std::fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleeper")
            .field("spin", &self.spin)
            .field("watched", &self.watched)
            .finish_non_exhaustive()
    }
}

impl Idle {
    pub fn busy(doorbell: Doorbell) -> Self {
        Self { doorbell, sleeper: None, last_work: Instant::ZERO }
    }

    pub fn adaptive(spin: Duration, doorbell: Doorbell) -> io::Result<Self> {
        let sleeper = Sleeper {
            spin,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            watched: 0,
            blind: Vec::new(),
            ready: Vec::with_capacity(READY_PORTS),
        };
        Ok(Self { doorbell, sleeper: Some(sleeper), last_work: Instant::ZERO })
    }

    /// Called after a turn. Whether the worker has been without work long enough to sleep.
    pub fn should_sleep(&mut self, busy: bool, now: Instant) -> bool {
        if busy {
            self.last_work = now;
        }
        self.sleeper.as_ref().is_some_and(|it| !busy && now.since(self.last_work) >= it.spin)
    }

    /// Sleeps until a packet, a command, another worker's packet or the worker's next deadline, and has the ports
    /// visited where packets wait. Does not sleep when something came in between.
    pub fn sleep<A: Admission>(&mut self, worker: &mut Worker<A>, now: Instant) {
        let Some(sleeper) = &mut self.sleeper else { return };
        sleeper.watch(worker.ports());
        self.doorbell.announce_sleep();
        if worker.is_idle() {
            let longest = if worker.is_sending() { RETRY_SENDING } else { LONGEST_SLEEP };
            let deadline = worker.core.poll_timeout().map_or(longest, |at| at.since(now).min(longest));
            sleeper.wait(&self.doorbell, deadline);
        }
        self.doorbell.announce_awake();
        sleeper.ready.drain(..).for_each(|event| worker.wake_port(event.data.u64() as usize));
        sleeper.blind.iter().for_each(|&port| worker.wake_port(port));
    }
}

impl Sleeper {
    /// Takes in the ports that were added since the last sleep.
    fn watch(&mut self, ports: &[Port]) {
        for (number, port) in ports.iter().enumerate().skip(self.watched) {
            let data = epoll::EventData::new_u64(number as u64);
            let watched = port.queue.descriptor().is_some_and(|descriptor| {
                epoll::add(&self.epoll, descriptor, data, epoll::EventFlags::IN).is_ok()
            });
            if !watched {
                self.blind.push(number);
            }
        }
        self.watched = ports.len();
    }

    fn wait(&mut self, doorbell: &Doorbell, longest: Duration) {
        let timeout =
            Timespec { tv_sec: longest.as_secs().cast_signed(), tv_nsec: longest.subsec_nanos().into() };
        let mut waiting = [
            PollFd::from_borrowed_fd(doorbell.descriptor(), PollFlags::IN),
            PollFd::new(&self.epoll, PollFlags::IN),
        ];
        // EINTR is a reason to wake as good as any.
        let woken = poll(&mut waiting, Some(&timeout)).is_ok();
        // A ring that comes after this look makes the next sleep short, and is drained then.
        if woken && waiting[0].revents().contains(PollFlags::IN) {
            doorbell.drain();
        }
        if woken && !waiting[1].revents().is_empty() {
            // It cannot fail for a descriptor of ours; what it does not say now it says at the next sleep.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&Timespec::default()));
        }
    }
}
