//! Fragments put together again: RFC 791 section 3.2 and RFC 8200 section 4.5, bounded in packets, bytes and time,
//! overlaps refused for both versions (RFC 5722; for IPv4 by RFC 8900's reasons).
//!
//! Where room is wanting, the oldest packet gives way: fragments that belong together arrive together, and what has
//! waited longest is what nobody completes. A table that refused the newest instead would be closed for half a minute by
//! as many single fragments as it has places. A sender has a part of the table only, and loses its own oldest beyond it.

mod partial;
#[cfg(test)]
mod tests;

use std::time::Duration;

use partial::{PART_BYTES, Partial, check_range};

use crate::chain::Contiguous;
use crate::hash::{Key, Map, bits};
use crate::header::{Fragment, Header};
use crate::wheel::{TimerId, Wheel};
use crate::{Chain, Discard, Instant};

/// Packets that wait for fragments at most (what 4 MiB hold at a full 16 KiB each).
const MAX_PARTIALS: usize = 256;
/// Of these, packets of one sender.
const MAX_OF_ONE_SOURCE: usize = 64;
/// How long fragments wait (Linux: ipfrag_time; RFC 8200 and RFC 1122 allow 60 s, at our memory's cost).
const LIFETIME: Duration = Duration::from_secs(30);

/// Which packet a fragment belongs to.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Whole {
    source: u128,
    destination: u128,
    identification: u32,
    /// IPv4's only: RFC 791 has it, RFC 8200 has not.
    protocol: u8,
}

#[derive(Debug)]
pub(crate) struct Reassembly {
    partials: Map<Whole, Waiting>,
    timers: Wheel<Whole>,
    /// What is held, the books' own bytes included.
    bytes: usize,
    max_bytes: usize,
    /// Packets begun so far, which tells the older of two.
    begun: u64,
    /// Fragments of packets that gave way, and that nobody has been told of.
    evicted: usize,
}

/// A packet in its place.
#[derive(Debug)]
struct Waiting {
    timer: TimerId,
    number: u64,
    packet: Partial,
}

/// What a packet that waits costs beside what it holds: its entry here and its timer.
const WAITING_BYTES: usize = size_of::<(Whole, Waiting)>() + 64;

impl Waiting {
    fn held(&self) -> usize {
        WAITING_BYTES + self.packet.held()
    }
}

/// The packet of the least number so far.
#[derive(Copy, Clone, Debug, Default)]
struct Oldest(Option<(u64, Whole)>);

impl Oldest {
    #[inline]
    fn consider(&mut self, key: &Whole, number: u64) {
        if self.0.is_none_or(|(least, _)| number < least) {
            self.0 = Some((number, *key));
        }
    }
}

/// What became of a fragment.
#[derive(Debug)]
pub(crate) enum Added {
    Kept,
    Whole(Contiguous),
    /// The fragment is refused, and with it all that was kept of its packet: so many fragments.
    Refused(Discard, usize),
}

impl Reassembly {
    pub fn new(key: Key, max_bytes: usize, now: Instant) -> Self {
        let partials = Map::with_hasher(key);
        Self { partials, timers: Wheel::new(now), bytes: 0, max_bytes, begun: 0, evicted: 0 }
    }

    /// Takes a fragment. A packet that it completes comes back with the link header that the fragment has.
    pub fn add(&mut self, header: &Header, fragment: &Fragment, packet: &dyn Chain, now: Instant) -> Added {
        let range = match check_range(header, fragment) {
            Ok(range) => range,
            Err(reason) => return Added::Refused(reason, 0),
        };
        let key = Whole {
            source: bits(header.source),
            destination: bits(header.destination),
            identification: fragment.identification,
            protocol: if header.source.is_ipv4() { header.protocol } else { 0 },
        };
        if !self.partials.contains_key(&key) {
            self.make_place(key.source);
            self.begin(key, now);
        }
        if !self.make_room(key, range.1 - range.0 + PART_BYTES + header.transport - header.network) {
            return self.refuse(key, Discard::ReassemblyFull);
        }
        let Some(partial) = self.partials.get_mut(&key) else {
            unreachable!("a partial was just found or made, and does not give way to itself");
        };
        let before = partial.held();
        let result = partial.packet.add(range, fragment, header, packet);
        self.bytes = self.bytes + partial.held() - before;
        match result {
            Err(reason @ (Discard::FragmentDuplicate | Discard::FragmentOfRefused)) => {
                Added::Refused(reason, 0)
            }
            Err(reason) => self.refuse(key, reason),
            Ok(false) => Added::Kept,
            Ok(true) => match self.remove(key) {
                Some(parts) => Added::Whole(parts.join(header, packet)),
                None => unreachable!("the partial that was completed is in the table"),
            },
        }
    }

    fn begin(&mut self, key: Whole, now: Instant) {
        self.begun += 1;
        let timer = self.timers.insert(now + LIFETIME, key);
        let partial = Waiting { timer, number: self.begun, packet: Partial::default() };
        self.bytes += partial.held();
        self.partials.insert(key, partial);
    }

    /// A place for one more packet of `source`. The table is looked through once, and only when it is well filled.
    fn make_place(&mut self, source: u128) {
        if self.partials.len() < MAX_OF_ONE_SOURCE {
            return;
        }
        let (mut own, mut oldest, mut oldest_own) = (0, Oldest::default(), Oldest::default());
        for (key, partial) in &self.partials {
            oldest.consider(key, partial.number);
            if key.source == source {
                own += 1;
                oldest_own.consider(key, partial.number);
            }
        }
        if own >= MAX_OF_ONE_SOURCE {
            self.evict(oldest_own);
        } else if self.partials.len() >= MAX_PARTIALS {
            self.evict(oldest);
        }
    }

    /// Room for `bytes` more of the packet `key`; false when all others together would not make it.
    fn make_room(&mut self, key: Whole, bytes: usize) -> bool {
        while self.bytes + bytes > self.max_bytes {
            let mut oldest = Oldest::default();
            let others = self.partials.iter().filter(|(other, _)| **other != key);
            others.for_each(|(other, partial)| oldest.consider(other, partial.number));
            if oldest.0.is_none() {
                return false;
            }
            self.evict(oldest);
        }
        true
    }

    fn evict(&mut self, oldest: Oldest) {
        let gone = oldest.0.and_then(|(_, key)| self.remove(key));
        self.evicted += gone.map_or(0, |partial| partial.parts());
    }

    /// Fragments of packets that gave way since this was asked last.
    pub fn take_evicted(&mut self) -> usize {
        std::mem::take(&mut self.evicted)
    }

    /// Gives a packet up. RFC 8200, section 4.5 wants the rest of it refused too, whenever it comes; IPv4's identification
    /// is too short for that, since another packet has the same soon.
    fn refuse(&mut self, key: Whole, reason: Discard) -> Added {
        let is_v6 = key.protocol == 0;
        if reason != Discard::FragmentOverlap || !is_v6 {
            let kept = self.remove(key).map_or(0, |partial| partial.parts());
            return Added::Refused(reason, kept);
        }
        let Some(partial) = self.partials.get_mut(&key) else { return Added::Refused(reason, 0) };
        let before = partial.held();
        let kept = partial.packet.give_up();
        self.bytes = self.bytes + partial.held() - before;
        Added::Refused(reason, kept)
    }

    fn remove(&mut self, key: Whole) -> Option<Partial> {
        let partial = self.partials.remove(&key)?;
        self.bytes -= partial.held();
        self.timers.cancel(partial.timer);
        Some(partial.packet)
    }

    /// Gives up the next packet whose time is over, and says how many fragments were kept of it.
    pub fn poll_expired(&mut self, now: Instant, work: &mut usize) -> Option<usize> {
        let key = self.timers.poll(now, work)?;
        self.remove(key).map(|partial| partial.parts())
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }
}
