//! When a worker sleeps, and on what: `poll: busy` never does; `poll: adaptive` spins a little after the last work,
//! then waits on the doorbell and the queue pairs' descriptors until the next deadline.
//!
//! A few queue pairs are polled by themselves: a descriptor that nobody waits on costs the kernel nothing for a packet
//! that comes while the worker is awake. Many are behind one epoll, so that neither going to sleep nor waking asks each
//! of them. Either way the worker knows whom to visit. The wait is ppoll(2), because epoll_pwait(2) counts milliseconds.

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

/// Up to so many queue pairs are polled by themselves.
const POLLED_PORTS: usize = 16;

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
    /// Ports where packets wait.
    woken: Vec<usize>,
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
            woken: Vec::with_capacity(READY_PORTS),
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
        self.doorbell.announce_sleep();
        if worker.is_idle() {
            let longest = if worker.is_sending() { RETRY_SENDING } else { LONGEST_SLEEP };
            let deadline = worker.core.poll_timeout().map_or(longest, |at| at.since(now).min(longest));
            sleeper.wait(&self.doorbell, worker.ports(), deadline);
        }
        self.doorbell.announce_awake();
        sleeper.woken.drain(..).for_each(|port| worker.wake_port(port));
    }
}

impl Sleeper {
    fn wait(&mut self, doorbell: &Doorbell, ports: &[Port], longest: Duration) {
        if ports.len() <= POLLED_PORTS {
            self.wait_for_each(doorbell, ports, longest);
        } else {
            self.watch(ports);
            self.wait_for_all(doorbell, longest);
        }
    }

    fn wait_for_each(&mut self, doorbell: &Doorbell, ports: &[Port], longest: Duration) {
        // The doorbell stands in the first place, and in that of a port without a descriptor, which is visited after
        // every sleep that it ends.
        let mut waiting: [PollFd<'_>; POLLED_PORTS + 1] = std::array::from_fn(|place| {
            let port = place.checked_sub(1).and_then(|port| ports.get(port));
            let descriptor = port.and_then(|port| port.queue.descriptor());
            PollFd::from_borrowed_fd(descriptor.unwrap_or(doorbell.descriptor()), PollFlags::IN)
        });
        let waiting = &mut waiting[..=ports.len()];
        rest(waiting, longest, doorbell);
        let blind = |port: usize| ports[port].queue.descriptor().is_none();
        let woken = waiting[1..].iter().enumerate();
        let woken = woken.filter(|&(port, it)| !it.revents().is_empty() || blind(port));
        self.woken.extend(woken.map(|(port, _)| port));
    }

    fn wait_for_all(&mut self, doorbell: &Doorbell, longest: Duration) {
        let mut waiting = [
            PollFd::from_borrowed_fd(doorbell.descriptor(), PollFlags::IN),
            PollFd::new(&self.epoll, PollFlags::IN),
        ];
        rest(&mut waiting, longest, doorbell);
        if !waiting[1].revents().is_empty() {
            // It cannot fail for a descriptor of ours; what it does not say now it says at the next sleep.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&Timespec::default()));
        }
        self.woken.extend(self.ready.drain(..).map(|event| event.data.u64() as usize));
        self.woken.extend(&self.blind);
    }

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
}

/// Waits for one of `waiting`, of which the first is the doorbell, or for the time to pass.
fn rest(waiting: &mut [PollFd<'_>], longest: Duration, doorbell: &Doorbell) {
    let timeout =
        Timespec { tv_sec: longest.as_secs().cast_signed(), tv_nsec: longest.subsec_nanos().into() };
    if poll(waiting, Some(&timeout)).is_err() {
        // EINTR is a reason to wake as good as any; nothing is known of the descriptors.
        waiting.iter_mut().for_each(PollFd::clear_revents);
    }
    // A ring that comes after this look makes the next sleep short, and is drained then.
    if waiting[0].revents().contains(PollFlags::IN) {
        doorbell.drain();
    }
}
