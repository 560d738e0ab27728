//! Which connection or TIME-WAIT entry a segment belongs to: a hash table of eight bytes an entry. The tuples
//! themselves lie with what they name, so that a lookup touches one line here and one there.

use hashbrown::HashTable;

/// What a tuple names.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Connection(u32),
    TimeWait(u32),
}

/// The top bit tells the two apart.
const TIME_WAIT: u32 = 1 << 31;

/// Tables, each with its part of the hashes: one grows by copying its own few thousand entries, and never all at once,
/// which with a million would stop the turn for milliseconds and hold them twice. As many as 2^20 flows, the default
/// bound, want to lie in tables of 4,096 places that are seven eighths full at most (hashbrown).
const TABLES: u64 = 320;

#[derive(Debug)]
pub(crate) struct FlowTable {
    tables: Box<[HashTable<Entry>]>,
}

#[derive(Copy, Clone, Debug)]
struct Entry {
    hash: u32,
    target: u32,
}

impl Default for FlowTable {
    fn default() -> Self {
        Self { tables: (0..TABLES).map(|_| HashTable::new()).collect() }
    }
}

impl FlowTable {
    /// The target with that hash for which `is_same` says that the tuple is the one sought.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_same: impl FnMut(Target) -> bool) -> Option<Target> {
        let found = self.tables[table_of(hash)]
            .find(spread(hash), |entry| entry.hash == hash && is_same(Target::unpack(entry.target)));
        found.map(|entry| Target::unpack(entry.target))
    }

    pub(crate) fn insert(&mut self, hash: u32, target: Target) {
        let entry = Entry { hash, target: target.pack() };
        self.tables[table_of(hash)].insert_unique(spread(hash), entry, |entry| spread(entry.hash));
    }

    pub(crate) fn remove(&mut self, hash: u32, target: Target) -> bool {
        let packed = target.pack();
        let of_target = |entry: &Entry| entry.hash == hash && entry.target == packed;
        match self.tables[table_of(hash)].find_entry(spread(hash), of_target) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }

    /// The entry of this hash names another target from now on.
    pub(crate) fn replace(&mut self, hash: u32, target: Target, by: Target) {
        let packed = target.pack();
        let of_target = |entry: &Entry| entry.hash == hash && entry.target == packed;
        if let Some(entry) = self.tables[table_of(hash)].find_mut(spread(hash), of_target) {
            entry.target = by.pack();
        }
    }
}

/// By the high bits.
fn table_of(hash: u32) -> usize {
    ((u64::from(hash) * TABLES) >> 32) as usize
}

impl Target {
    fn pack(self) -> u32 {
        match self {
            Self::Connection(slot) => slot,
            Self::TimeWait(slot) => slot | TIME_WAIT,
        }
    }

    fn unpack(packed: u32) -> Self {
        if packed & TIME_WAIT == 0 { Self::Connection(packed) } else { Self::TimeWait(packed & !TIME_WAIT) }
    }
}

/// A table uses the low bits for the place and the top seven for the tag. The hash's own top bits are the same within
/// a table: those below them are the tag.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 41 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_one_hash_are_told_apart_by_their_tuple() {
        let mut flows = FlowTable::default();
        flows.insert(7, Target::Connection(1));
        flows.insert(7, Target::TimeWait(1));
        assert_eq!(flows.find(7, |target| target == Target::TimeWait(1)), Some(Target::TimeWait(1)));
        assert!(flows.remove(7, Target::Connection(1)) && !flows.remove(7, Target::Connection(1)));
        assert_eq!(flows.find(7, |target| target == Target::Connection(1)), None);
        flows.replace(7, Target::TimeWait(1), Target::Connection(9));
        assert_eq!(flows.find(7, |_| true), Some(Target::Connection(9)));
    }

    #[test]
    fn a_million_flows_are_looked_at_once_each_and_their_growth_copies_a_table_at_a_time() {
        let hash = |flow: u32| flow.wrapping_mul(0x9e37_79b1);
        let (mut flows, mut longest) = (FlowTable::default(), 0);
        let mut before = flows.tables.iter().map(HashTable::capacity).max();
        for flow in 0..1_000_000 {
            flows.insert(hash(flow), Target::Connection(flow));
            let table = &flows.tables[table_of(hash(flow))];
            if Some(table.capacity()) > before {
                (before, longest) = (Some(table.capacity()), table.len());
            }
        }
        assert!(longest < 4_000, "{longest} entries copied at once");
        let places: usize = flows.tables.iter().map(|table| table.allocation_size()).sum();
        assert!(places < 13_000_000, "{places} bytes");
        let mut looked_at = 0;
        for flow in (0..1_000_000).step_by(97) {
            let found = flows.find(hash(flow), |target| {
                looked_at += 1;
                target == Target::Connection(flow)
            });
            assert_eq!(found, Some(Target::Connection(flow)));
        }
        assert_eq!(looked_at, 1_000_000u32.div_ceil(97), "a whole hash of 32 bits is compared first");
    }
}
