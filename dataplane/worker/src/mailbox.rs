//! How other threads reach a worker: a bounded queue of commands and a doorbell.
//!
//! The doorbell costs a system call only when the worker sleeps ([`Latch`] says how the two agree).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use rustix::event::{EventfdFlags, eventfd};

use crate::latch::Latch;

/// Commands that may wait for a worker. The management thread is the only producer that matters and sends a few a
/// second; when this many wait the worker is stuck, and the sender must hear of it.
pub const MAILBOX_COMMANDS: usize = 4096;

/// Wakes one sleeping worker. Cheap to clone; every producer holds one.
#[derive(Clone, Debug)]
pub struct Doorbell {
    shared: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    latch: Latch,
    event: OwnedFd,
}

impl Doorbell {
    pub fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { shared: Arc::new(Bell { latch: Latch::default(), event }) })
    }

    /// Called after something was pushed for the worker.
    pub fn ring(&self) {
        if self.shared.latch.must_ring() {
            // The counter saturates far above one ring a sleep; a failed write means that it is readable already.
            let _ = rustix::io::write(&self.shared.event, &1u64.to_ne_bytes());
        }
    }

    /// The worker says that it will sleep. It must look at every queue once more after this.
    pub fn announce_sleep(&self) {
        self.shared.latch.announce_sleep();
    }

    /// The worker is awake: producers need not ring.
    pub fn announce_awake(&self) {
        self.shared.latch.announce_awake();
    }

    /// The descriptor was readable: it is not any more.
    pub fn drain(&self) {
        let mut drained = [0; 8];
        // Nothing to read would be no harm: whoever rang wrote, or is about to.
        let _ = rustix::io::read(&self.shared.event, &mut drained);
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Mailbox<T> {
    queue: Arc<ArrayQueue<T>>,
}

/// A producer's end.
#[derive(Debug)]
pub struct Sender<T> {
    queue: Arc<ArrayQueue<T>>,
    doorbell: Doorbell,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), doorbell: self.doorbell.clone() }
    }
}

/// The mailbox is full: the worker takes no commands. Gives the command back.
#[derive(Debug)]
pub struct Stuck<T>(pub T);

pub fn mailbox<T>(doorbell: Doorbell) -> (Sender<T>, Mailbox<T>) {
    let queue = Arc::new(ArrayQueue::new(MAILBOX_COMMANDS));
    (Sender { queue: Arc::clone(&queue), doorbell }, Mailbox { queue })
}

impl<T> Sender<T> {
    pub fn send(&self, command: T) -> Result<(), Stuck<T>> {
        self.queue.push(command).map_err(Stuck)?;
        self.doorbell.ring();
        Ok(())
    }
}

impl<T> Mailbox<T> {
    pub fn take(&mut self) -> Option<T> {
        self.queue.pop()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_gives_the_command_back() {
        let (sender, mut mailbox) = mailbox(Doorbell::new().unwrap());
        for number in 0..MAILBOX_COMMANDS {
            sender.send(number).unwrap();
        }
        let Stuck(command) = sender.send(7).unwrap_err();
        assert_eq!(command, 7);
        assert_eq!(mailbox.take(), Some(0));
        sender.send(8).unwrap();
    }

    #[test]
    fn a_ring_makes_the_descriptor_readable_only_while_the_worker_sleeps() {
        let bell = Doorbell::new().unwrap();
        let readable = |bell: &Doorbell| {
            let mut fds = [rustix::event::PollFd::new(&bell.shared.event, rustix::event::PollFlags::IN)];
            rustix::event::poll(&mut fds, Some(&rustix::event::Timespec::default())).unwrap() == 1
        };
        bell.ring();
        assert!(!readable(&bell), "awake: no system call");
        bell.announce_sleep();
        bell.ring();
        bell.ring();
        assert!(readable(&bell));
        bell.announce_awake();
        bell.drain();
        assert!(!readable(&bell));
    }
}
