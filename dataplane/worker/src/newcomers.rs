//! Requests for new connections wait for their share of a turn, so that a thousand that arrive at once do not hold up
//! the streams and datagrams behind them on the same queue: a SYN costs ten times what a datagram does. Only its bytes
//! wait; its frame goes back to the ring.

use std::collections::VecDeque;

use stack::InterfaceId;

use crate::ring::{Errand, Slot};

/// Requests that may wait: as deep as a listener's backlog (Linux's `tcp_max_syn_backlog` on such a machine).
pub const NEWCOMERS: usize = 1_024;

/// Requests taken in one turn, some fifty microseconds. Their answers and what follows them are paced by this too.
pub const NEWCOMERS_PER_TURN: usize = 8;

/// Longer requests carry data or many options and are rare: they do not wait.
const LONGEST: usize = 192;

/// What waits, oldest first. The slots go round: once each was used nothing is allocated.
#[derive(Debug, Default)]
pub struct Newcomers {
    waiting: VecDeque<(InterfaceId, Slot)>,
    spare: Vec<Slot>,
}

/// What became of a request that was offered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    Waits,
    /// As many wait as may.
    Full,
    /// It is to be handled now.
    TooLong,
}

impl Newcomers {
    pub fn offer(&mut self, interface: InterfaceId, packet: &[u8], whole_bytes: usize) -> Offered {
        if packet.len() < whole_bytes || packet.len() > LONGEST {
            return Offered::TooLong;
        }
        if self.waiting.len() >= NEWCOMERS {
            return Offered::Full;
        }
        let mut slot = self.spare.pop().unwrap_or_default();
        slot.fill(Errand::Handle(interface), [packet]);
        self.waiting.push_back((interface, slot));
        Offered::Waits
    }

    /// The oldest, and the interface that it came by.
    pub fn take(&mut self) -> Option<(InterfaceId, Slot)> {
        self.waiting.pop_front()
    }

    pub fn give_back(&mut self, slot: Slot) {
        self.spare.push(slot);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}
