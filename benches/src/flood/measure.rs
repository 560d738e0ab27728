//! A span of time that two threads measure at once, each its own counters.

use std::sync::Barrier;
use std::time::{Duration, Instant};

/// What is not measured at the beginning: windows open, caches warm.
const WARM_UP: Duration = Duration::from_millis(500);

/// Counters at one moment.
#[derive(Copy, Clone, Debug, Default)]
pub struct Count {
    pub packets: u64,
    pub bytes: u64,
}

/// One side at work.
pub trait Side {
    /// A burst, or a turn.
    fn work(&mut self);

    /// Since it began. Reading may cost a system call.
    fn count(&mut self) -> Count;
}

/// A second's.
#[derive(Copy, Clone, Debug, Default)]
pub struct Rate {
    pub packets: f64,
    pub bytes: f64,
}

/// What left on one side and came to the other.
#[derive(Copy, Clone, Debug)]
pub struct Round {
    pub sent: Rate,
    pub received: Rate,
}

/// Both threads are ready, and begin.
pub struct Start(Barrier);

impl Start {
    pub fn new() -> Self {
        Self(Barrier::new(2))
    }

    /// Lets `side` work until the time is over, and gives what its counters did in the measured part of it.
    pub fn measure(&self, seconds: f64, mut side: impl Side) -> Rate {
        self.0.wait();
        let begin = Instant::now();
        let span = Duration::from_secs_f64(seconds);
        let mut first = None;
        loop {
            side.work();
            let now = begin.elapsed();
            if first.is_none() && now >= WARM_UP {
                first = Some((now, side.count()));
            }
            if let Some((from, before)) = first
                && now >= from + span
            {
                let count = side.count();
                // The other thread must not find its neighbour gone.
                self.0.wait();
                let seconds = (now - from).as_secs_f64();
                let rate = |before: u64, after: u64| (after - before) as f64 / seconds;
                return Rate {
                    packets: rate(before.packets, count.packets),
                    bytes: rate(before.bytes, count.bytes),
                };
            }
        }
    }
}

/// Runs both sides in threads of their own.
pub fn both(sent: impl FnOnce() -> Rate + Send, received: impl FnOnce() -> Rate + Send) -> Round {
    std::thread::scope(|scope| {
        let (sent, received) = (scope.spawn(sent), scope.spawn(received));
        let result = |side: std::thread::ScopedJoinHandle<'_, Rate>| side.join().expect("no side panics");
        Round { sent: result(sent), received: result(received) }
    })
}
