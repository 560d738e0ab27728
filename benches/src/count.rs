//! Counts the work of the one under test and nothing else.

use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// What callgrind is told to collect: [`counted`] and all that it calls.
pub const COUNTED_FUNCTION: &str = "benches::count::counted*";

/// What one case measured, over all its units.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// Segments, datagrams, requests, MiB or connections.
    pub units: u64,
    pub allocations: u64,
    /// Heap bytes that are held at the end and were not at the beginning.
    pub held_bytes: i64,
    pub nanos: u64,
}

/// Runs the work under test; counts it once the scene is warm.
#[derive(Debug, Default)]
pub struct Meter {
    counting: bool,
    sums: Sums,
}

impl Meter {
    pub fn start(&mut self) {
        self.counting = true;
    }

    /// Does `work`, which is counted if the meter has been started.
    pub fn run(&mut self, work: &mut dyn FnMut()) {
        if !self.counting {
            return work();
        }
        let begun = Instant::now();
        let heap = allocation_counter::measure(|| counted(work));
        self.spend(begun.elapsed());
        self.sums.allocations += heap.count_total;
        self.sums.held_bytes += heap.bytes_current;
    }

    fn spend(&mut self, time: Duration) {
        self.sums.nanos += u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    /// Heap bytes that the counted work freed (or took) on behalf of others.
    pub fn correct_bytes(&mut self, bytes: i64) {
        if self.counting {
            self.sums.held_bytes += bytes;
        }
    }

    pub fn finish(self, units: u64) -> Sums {
        Sums { units, ..self.sums }
    }
}

/// A function of its own, never inlined and never left by a jump, so that callgrind sees it entered and left.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}
