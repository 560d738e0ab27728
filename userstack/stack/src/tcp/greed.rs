//! Who holds the memory that others need. A peer that does not read, or leaves a hole in what it sends, makes us hold
//! bytes for it as long as it likes, and may while there is room for all (RFC 9293, section 3.8.6.1: a live peer's window
//! may stay closed for ever). When so much is lent that others get little, connections are looked at, some at a time;
//! those that hold the most are watched, and then they are named, the greediest first, until memory has come back.
//!
//! ```text
//!   Resting --memory is short--> Surveying --all seen--> Watching --2 s--> Judging --memory is back, or none is left--> Resting
//! ```
//!
//! Bytes that wait for our own reader are not held against the peer.

use std::cmp::Reverse;
use std::time::Duration;

use super::FlowKey;
use super::connection::Connection;
use super::memory::Pool;
use super::sequence::Seq;
use super::slab::Slab;
use crate::Instant;

/// Connections looked at in a step, and the time between steps: a million are seen in four seconds, by a fiftieth of a
/// core.
const STEP_SLOTS: u32 = 256;
const STEP: Duration = Duration::from_millis(1);
/// Connections watched at once: those that hold the most.
const MOST_SUSPECTS: usize = 64;
/// How long they are watched: several round trips of the longest path.
const WATCH: Duration = Duration::from_secs(2);
/// Who lets go of what is held within this time is not cut: a buffer of 64 KiB by a modem's 17 kbit/s.
const FAIR_DRAIN: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(crate) struct Greed {
    phase: Phase,
    due: Instant,
    suspects: Vec<Suspect>,
    /// The least greedy first.
    guilty: Vec<FlowKey>,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Resting,
    /// From this slot on.
    Surveying(u32),
    Watching {
        since: Instant,
    },
    Judging,
}

/// A connection that holds much, and where it stood when it was found to.
#[derive(Copy, Clone, Debug)]
struct Suspect {
    key: FlowKey,
    held_bytes: usize,
    /// SND.UNA
    unacked: Seq,
    /// RCV.NXT
    received: Seq,
}

impl Greed {
    /// When there is something to do next.
    pub(crate) fn next_timeout(&self, pool: &Pool, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Resting => pool.is_short().then(|| self.due.max(now)),
            _ => Some(self.due),
        }
    }

    /// A connection to be cut now, if it has come to that. To be asked until there is none.
    pub(crate) fn poll(
        &mut self,
        connections: &Slab<Connection>,
        pool: &Pool,
        now: Instant,
    ) -> Option<FlowKey> {
        if now < self.due || (self.phase == Phase::Resting && !pool.is_short()) {
            return None;
        }
        match self.phase {
            Phase::Resting => {
                self.suspects.clear();
                self.enter(Phase::Surveying(0), now);
            }
            Phase::Surveying(next) => self.survey(next, connections, now),
            Phase::Watching { since } => self.judge(connections, now.since(since), now),
            Phase::Judging => {
                if !pool.is_relieved()
                    && let Some(key) = self.guilty.pop()
                {
                    return Some(key);
                }
                self.guilty.clear();
                self.enter(Phase::Resting, now + STEP);
            }
        }
        None
    }

    fn enter(&mut self, phase: Phase, due: Instant) {
        (self.phase, self.due) = (phase, due);
    }

    fn survey(&mut self, next: u32, connections: &Slab<Connection>, now: Instant) {
        let end = connections.slots().min(next.saturating_add(STEP_SLOTS));
        for slot in next..end {
            let Some(connection) = connections.at(slot) else { continue };
            let suspect = Suspect {
                key: FlowKey { slot, life: connections.life(slot) },
                held_bytes: held_for_peer(connection),
                unacked: connection.send.unacked,
                received: connection.receive.next,
            };
            self.suspect(suspect);
        }
        if end < connections.slots() {
            self.enter(Phase::Surveying(end), now + STEP);
        } else {
            self.enter(Phase::Watching { since: now }, now + WATCH);
        }
    }

    fn suspect(&mut self, suspect: Suspect) {
        if suspect.held_bytes == 0 {
            return;
        }
        if self.suspects.len() < MOST_SUSPECTS {
            return self.suspects.push(suspect);
        }
        if let Some(least) = self.suspects.iter_mut().min_by_key(|suspect| suspect.held_bytes)
            && least.held_bytes < suspect.held_bytes
        {
            *least = suspect;
        }
    }

    /// Greed is how long a connection would take to let go of what it holds, as fast as it was seen to.
    fn judge(&mut self, connections: &Slab<Connection>, watched: Duration, now: Instant) {
        let mut guilty: Vec<(u128, FlowKey)> = Vec::with_capacity(self.suspects.len());
        for suspect in self.suspects.drain(..) {
            let Some(connection) = connections.get(suspect.key.slot, suspect.key.life) else { continue };
            let let_go = u64::from(connection.send.unacked.since(suspect.unacked))
                + u64::from(connection.receive.next.since(suspect.received));
            let held = held_for_peer(connection) as u128;
            let drain_nanos = held * watched.as_nanos() / u128::from(let_go.max(1));
            if drain_nanos > FAIR_DRAIN.as_nanos() {
                guilty.push((drain_nanos, suspect.key));
            }
        }
        guilty.sort_by_key(|(drain_nanos, key)| (*drain_nanos, Reverse(key.slot)));
        self.guilty.extend(guilty.into_iter().map(|(_, key)| key));
        self.enter(Phase::Judging, now);
    }
}

/// Bytes of buffers that are lent because the peer does not acknowledge, does not open its window, or leaves a hole.
fn held_for_peer(connection: &Connection) -> usize {
    let behind_holes =
        if connection.receive.assembler.is_empty() { 0 } else { connection.receive.ring.capacity() };
    connection.send.ring.capacity() + behind_holes
}
