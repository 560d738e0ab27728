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

#[derive(Debug, Default)]
pub(crate) struct FlowTable {
    table: HashTable<Entry>,
}

#[derive(Copy, Clone, Debug)]
struct Entry {
    hash: u32,
    target: u32,
}

impl FlowTable {
    /// The target with that hash for which `is_same` says that the tuple is the one sought.
    #[inline]
    pub(crate) fn find(&self, hash: u32, mut is_same: impl FnMut(Target) -> bool) -> Option<Target> {
        let found = self
            .table
            .find(spread(hash), |entry| entry.hash == hash && is_same(Target::unpack(entry.target)));
        found.map(|entry| Target::unpack(entry.target))
    }

    pub(crate) fn insert(&mut self, hash: u32, target: Target) {
        let entry = Entry { hash, target: target.pack() };
        self.table.insert_unique(spread(hash), entry, |entry| spread(entry.hash));
    }

    pub(crate) fn remove(&mut self, hash: u32, target: Target) -> bool {
        let packed = target.pack();
        match self.table.find_entry(spread(hash), |entry| entry.hash == hash && entry.target == packed) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }
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

/// The table uses the low bits for the place and the top seven for the tag.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
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
    }
}
