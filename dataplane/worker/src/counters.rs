//! What a worker counts of itself: turns, packets, and where its time went.

use std::time::Duration;

#[derive(Copy, Clone, Debug, Default)]
pub struct TurnCounters {
    pub turns_busy: u64,
    pub turns_empty: u64,
    /// CPU time of turns that found work, of turns that did not, and wall time asleep. The loop that owns the clock
    /// fills them in.
    pub busy: Duration,
    pub empty: Duration,
    pub asleep: Duration,
    pub sleeps: u64,
    /// The longest turn since the last reading.
    pub longest_turn: Duration,
    /// What came in by queue pairs and from other workers' rings is the sum of the four that follow.
    pub packets_received: u64,
    pub packets_from_rings: u64,
    pub packets_consumed: u64,
    pub packets_forwarded: u64,
    /// Each is counted under its reason too.
    pub packets_discarded: u64,
    /// Given to the worker that owns the flow.
    pub packets_steered: u64,
    /// Put together here from fragments, which were consumed, and given to the worker that owns the flow.
    pub wholes_steered: u64,
    /// Copies of news of neighbours given to the other workers.
    pub packets_shown: u64,
    /// Of those consumed, segments of a stream that went in as one with others.
    pub packets_merged: u64,
}

impl TurnCounters {
    pub(crate) fn turn(&mut self, busy: bool) {
        if busy {
            self.turns_busy += 1;
        } else {
            self.turns_empty += 1;
        }
    }

    /// Adds one turn's time.
    pub fn spend(&mut self, busy: bool, time: Duration) {
        if busy {
            self.busy += time;
        } else {
            self.empty += time;
        }
        self.longest_turn = self.longest_turn.max(time);
    }

    /// Adds one sleep.
    pub fn slept(&mut self, time: Duration) {
        self.sleeps += 1;
        self.asleep += time;
    }
}
