//! Slots with lives: a key of an earlier life misses. Grows by blocks, so that nothing moves and no growth is long.

/// Entries a block: enough that the block list stays short, few enough that one allocation is small.
const BLOCK: usize = 64;
const NIL: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    blocks: Vec<Vec<Entry<T>>>,
    free: u32,
    len: usize,
}

#[derive(Debug)]
struct Entry<T> {
    life: u32,
    next_free: u32,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Self {
        Self { blocks: Vec::new(), free: NIL, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Every value, in the order of its slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().filter_map(|entry| entry.value.as_ref())
    }

    /// Slot and life of the new entry.
    pub(crate) fn insert(&mut self, value: T) -> (u32, u32) {
        self.len += 1;
        if self.free == NIL {
            return self.push(value);
        }
        let slot = self.free;
        let entry = self.find_mut(slot).expect("the free list names entries");
        entry.value = Some(value);
        let (life, next) = (entry.life, entry.next_free);
        self.free = next;
        (slot, life)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let free = self.free;
        let entry = self.find_mut(slot)?;
        let value = entry.value.take()?;
        entry.life = entry.life.wrapping_add(1);
        entry.next_free = free;
        self.free = slot;
        self.len -= 1;
        Some(value)
    }

    /// As [`Slab::remove`], for who does not want the value: it is dropped where it lies.
    pub(crate) fn discard(&mut self, slot: u32) {
        let free = self.free;
        let Some(entry) = self.find_mut(slot).filter(|entry| entry.value.is_some()) else { return };
        entry.value = None;
        entry.life = entry.life.wrapping_add(1);
        entry.next_free = free;
        self.free = slot;
        self.len -= 1;
    }

    pub(crate) fn get(&self, slot: u32, life: u32) -> Option<&T> {
        let entry = self.find(slot)?;
        if entry.life != life {
            return None;
        }
        entry.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32, life: u32) -> Option<&mut T> {
        let entry = self.find_mut(slot)?;
        if entry.life != life {
            return None;
        }
        entry.value.as_mut()
    }

    /// Two entries at once; `None` also when both are the same.
    pub(crate) fn pair_mut(&mut self, one: (u32, u32), other: (u32, u32)) -> Option<(&mut T, &mut T)> {
        let (at, beside) = (one.0 as usize, other.0 as usize);
        let (first, second) = if at / BLOCK == beside / BLOCK {
            let block = self.blocks.get_mut(at / BLOCK)?;
            let [first, second] = block.get_disjoint_mut([at % BLOCK, beside % BLOCK]).ok()?;
            (first, second)
        } else {
            let [here, there] = self.blocks.get_disjoint_mut([at / BLOCK, beside / BLOCK]).ok()?;
            (here.get_mut(at % BLOCK)?, there.get_mut(beside % BLOCK)?)
        };
        if first.life != one.1 || second.life != other.1 {
            return None;
        }
        Some((first.value.as_mut()?, second.value.as_mut()?))
    }

    /// The entry that lives in `slot` now.
    pub(crate) fn at(&self, slot: u32) -> Option<&T> {
        self.find(slot)?.value.as_ref()
    }

    pub(crate) fn at_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.find_mut(slot)?.value.as_mut()
    }

    /// The entry that lives in `slot` now, with its life.
    pub(crate) fn entry(&mut self, slot: u32) -> Option<(u32, &mut T)> {
        let entry = self.find_mut(slot)?;
        Some((entry.life, entry.value.as_mut()?))
    }

    /// The life that `slot` lives now.
    pub(crate) fn life(&self, slot: u32) -> u32 {
        self.find(slot).map_or(0, |entry| entry.life)
    }

    /// Slots that there are, vacant ones included: every entry's is below it.
    pub(crate) fn slots(&self) -> u32 {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        (full + self.blocks.last().map_or(0, Vec::len)) as u32
    }

    fn push(&mut self, value: T) -> (u32, u32) {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let number = self.blocks.len() - 1;
        let block = &mut self.blocks[number];
        block.push(Entry { life: 0, next_free: NIL, value: Some(value) });
        let slot = u32::try_from(number * BLOCK + block.len() - 1).expect("fewer than 2^32 entries");
        (slot, 0)
    }

    fn find(&self, slot: u32) -> Option<&Entry<T>> {
        self.blocks.get(slot as usize / BLOCK)?.get(slot as usize % BLOCK)
    }

    fn find_mut(&mut self, slot: u32) -> Option<&mut Entry<T>> {
        self.blocks.get_mut(slot as usize / BLOCK)?.get_mut(slot as usize % BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_an_earlier_life_misses() {
        let mut slab = Slab::new();
        let (slot, life) = slab.insert('a');
        assert_eq!(slab.get(slot, life), Some(&'a'));
        assert_eq!(slab.remove(slot), Some('a'));
        assert_eq!(slab.remove(slot), None);
        let (again, second) = slab.insert('b');
        assert_eq!(again, slot, "slots are used again");
        assert_eq!((slab.get(slot, life), slab.get(slot, second)), (None, Some(&'b')));
        slab.discard(slot);
        slab.discard(slot);
        assert_eq!((slab.get(slot, second), slab.len()), (None, 0));
    }

    #[test]
    fn two_entries_are_lent_together_from_one_block_or_two_and_none_twice() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..100).map(|n| slab.insert(n)).collect();
        for (one, other) in [(0, 1), (1, 0), (3, 99), (99, 3)] {
            let pair = slab.pair_mut(keys[one], keys[other]).map(|(a, b)| (*a, *b));
            assert_eq!(pair, Some((one, other)));
        }
        assert_eq!(slab.pair_mut(keys[5], keys[5]), None);
        slab.remove(keys[5].0);
        assert_eq!(slab.pair_mut(keys[4], keys[5]), None);
    }

    #[test]
    fn growth_keeps_what_is_there() {
        let mut slab = Slab::new();
        let keys: Vec<_> = (0..1000).map(|n| slab.insert(n)).collect();
        assert!(keys.iter().enumerate().all(|(n, (slot, life))| slab.get(*slot, *life) == Some(&n)));
        assert_eq!((slab.len(), slab.slots()), (1000, 1000));
    }
}
