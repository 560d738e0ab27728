//! Entries in blocks of one size, named by number. Growth adds a block: nothing moves, no growth takes long, and at no
//! moment are there two copies, however many entries there are.

/// Entries a block: few enough that one allocation is small and comes from the heap (and so from its huge pages, where
/// the allocator asks for them: `docs/benchmarks.md`), many enough that the list of blocks stays in the cache.
const BLOCK: usize = 512;

#[derive(Debug)]
pub(crate) struct Blocks<T> {
    blocks: Vec<Vec<T>>,
}

impl<T> Blocks<T> {
    pub(crate) fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    /// Entries that there are.
    pub(crate) fn len(&self) -> usize {
        let full = self.blocks.len().saturating_sub(1) * BLOCK;
        full + self.blocks.last().map_or(0, Vec::len)
    }

    /// The number of the new entry.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = u32::try_from(self.len()).expect("a core has fewer than 2^32 of anything");
        if (number as usize).is_multiple_of(BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        if let Some(block) = self.blocks.last_mut() {
            block.push(value);
        }
        number
    }

    #[inline]
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.blocks.get(number as usize / BLOCK)?.get(number as usize % BLOCK)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.blocks.get_mut(number as usize / BLOCK)?.get_mut(number as usize % BLOCK)
    }
}

/// For who knows that the entry is there.
impl<T> std::ops::Index<u32> for Blocks<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }
}

impl<T> std::ops::IndexMut<u32> for Blocks<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.blocks[number as usize / BLOCK][number as usize % BLOCK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_their_number_and_place_while_others_come() {
        let mut blocks = Blocks::new();
        let first = blocks.push(0usize);
        let place: *const usize = &blocks[first];
        let all: Vec<_> = (1..3 * BLOCK).map(|value| (blocks.push(value), value)).collect();
        assert!(all.iter().all(|(number, value)| blocks.get(*number) == Some(value)));
        assert!(std::ptr::eq(place, &blocks[first]));
        assert_eq!((blocks.len(), blocks.get(3 * BLOCK as u32)), (3 * BLOCK, None));
    }
}
