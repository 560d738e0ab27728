//! Where the bytes of connections lie: a pool of buffers in powers of two within the worker's budget, and the ring
//! that a connection takes from it when there are bytes and gives back when there are none.

use super::scoreboard::Scoreboard;

/// The smallest buffer: a request, and a page.
const SMALLEST_SHIFT: u32 = 12;
/// The largest: window scale 14 ends at 1 GiB (RFC 7323, section 2.3).
const LARGEST_SHIFT: u32 = 30;
const CLASSES: usize = (LARGEST_SHIFT - SMALLEST_SHIFT + 1) as usize;
/// Bytes of unused buffers a class keeps ready, so that steady traffic allocates nothing.
const KEPT_BYTES: usize = 4 << 20;
/// A buffer larger than the smallest is at most one part of what is free, of twice as many parts as buffers are lent,
/// within these bounds: few connections may have what they ask for, and a thousand who do not read cannot take what one
/// who does needs (after Choudhury and Hahne, Dynamic Queue Length Thresholds, 1998).
const FEWEST_PARTS: usize = 8;
const MOST_PARTS: usize = 256;
/// This part of the budget is for smallest buffers alone.
const RESERVED_PARTS: usize = 4;
/// A buffer that a stream gets on with: a window that needs no scale.
const USEFUL_BYTES: usize = 64 << 10;
/// Scoreboards kept ready, each with the room of a window.
const KEPT_SCOREBOARDS: usize = 1024;

/// Buffers and scoreboards not in use now, and the account of those that are.
#[derive(Debug)]
pub(crate) struct Pool {
    budget_bytes: usize,
    /// Bytes lent and kept.
    held_bytes: usize,
    kept_bytes: usize,
    lent_buffers: usize,
    kept: [Vec<Box<[u8]>>; CLASSES],
    #[expect(
        clippy::vec_box,
        reason = "it is the box that a connection borrows, so that it holds a pointer"
    )]
    scoreboards: Vec<Box<Scoreboard>>,
}

impl Pool {
    pub(crate) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            held_bytes: 0,
            kept_bytes: 0,
            lent_buffers: 0,
            kept: std::array::from_fn(|_| Vec::new()),
            scoreboards: Vec::new(),
        }
    }

    /// A buffer of at least `bytes`; `None` when the budget is spent, or this would be more than a fair part of it.
    fn acquire(&mut self, bytes: usize) -> Option<Box<[u8]>> {
        let class = class_of(bytes)?;
        // Whoever asks may have the smallest.
        if class == 0
            && let Some(buffer) = self.kept[0].pop()
        {
            self.kept_bytes -= buffer.len();
            self.lent_buffers += 1;
            return Some(buffer);
        }
        let size = 1 << (class as u32 + SMALLEST_SHIFT);
        if size > self.lendable_bytes() {
            return None;
        }
        if let Some(buffer) = self.kept[class].pop() {
            self.kept_bytes -= buffer.len();
            self.lent_buffers += 1;
            return Some(buffer);
        }
        if self.held_bytes + size > self.budget_bytes {
            self.let_go();
        }
        (self.held_bytes + size <= self.budget_bytes).then(|| {
            self.held_bytes += size;
            self.lent_buffers += 1;
            vec![0; size].into_boxed_slice()
        })
    }

    fn release(&mut self, buffer: Box<[u8]>) {
        let Some(class) = class_of(buffer.len()) else { return };
        self.lent_buffers -= 1;
        let kept = &mut self.kept[class];
        if (kept.len() + 1) * buffer.len() <= KEPT_BYTES {
            self.kept_bytes += buffer.len();
            kept.push(buffer);
        } else {
            self.held_bytes -= buffer.len();
        }
    }

    /// Whether a starved connection would get a buffer.
    pub(crate) fn has_room(&self) -> bool {
        !self.kept[0].is_empty() || self.held_bytes + (1 << SMALLEST_SHIFT) <= self.budget_bytes
    }

    /// A good part is lent, to so many that who asks now gets little.
    pub(crate) fn is_short(&self) -> bool {
        self.lent_bytes() > self.unreserved_bytes() / 4 && self.lendable_bytes() < USEFUL_BYTES
    }

    /// It is not short, and would not be with the next few loans.
    pub(crate) fn is_relieved(&self) -> bool {
        let unreserved = self.unreserved_bytes();
        self.lent_bytes() <= unreserved / 8 || self.lendable_bytes() >= 2 * USEFUL_BYTES
    }

    fn unreserved_bytes(&self) -> usize {
        self.budget_bytes - self.budget_bytes / RESERVED_PARTS
    }

    /// Bytes in buffers that connections hold.
    pub(crate) fn lent_bytes(&self) -> usize {
        self.held_bytes - self.kept_bytes
    }

    /// The largest buffer that is lent now.
    pub(crate) fn lendable_bytes(&self) -> usize {
        let parts = (2 * self.lent_buffers).clamp(FEWEST_PARTS, MOST_PARTS);
        let part = self.unreserved_bytes().saturating_sub(self.lent_bytes()) / parts;
        let largest = part.checked_ilog2().map_or(0, |shift| 1 << shift.min(LARGEST_SHIFT));
        largest.max(1 << SMALLEST_SHIFT)
    }

    pub(crate) fn acquire_scoreboard(&mut self) -> Box<Scoreboard> {
        self.scoreboards.pop().unwrap_or_else(|| Box::new(Scoreboard::new()))
    }

    pub(crate) fn release_scoreboard(&mut self, scoreboard: Box<Scoreboard>) {
        if self.scoreboards.len() < KEPT_SCOREBOARDS {
            self.scoreboards.push(scoreboard);
        }
    }

    /// Frees what is kept ready, so that another class may grow.
    fn let_go(&mut self) {
        for buffer in self.kept.iter_mut().flat_map(|kept| kept.drain(..)) {
            self.held_bytes -= buffer.len();
            self.kept_bytes -= buffer.len();
        }
    }
}

/// A function of its own, so that a profile tells what copying the text costs from all else (`docs/benchmarks.md`).
#[inline(never)]
pub(crate) fn copy_text(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
}

fn class_of(bytes: usize) -> Option<usize> {
    let shift = bytes.next_power_of_two().trailing_zeros().max(SMALLEST_SHIFT);
    (shift <= LARGEST_SHIFT).then_some((shift - SMALLEST_SHIFT) as usize)
}

/// Bytes in order, from `head` on, in a buffer whose length is a power of two. Without bytes it has no buffer.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    buffer: Box<[u8]>,
    head: u32,
    len: u32,
    /// The most that was reserved since the buffer was taken.
    peak: u32,
    /// The peak of the buffer before: what the next one starts with, so that a stream does not grow it each time.
    expected: u32,
}

impl Ring {
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.buffer.len()
    }

    /// Makes `bytes` from `head` on writable; false when the pool has no more.
    #[inline]
    pub(crate) fn reserve(&mut self, pool: &mut Pool, bytes: usize) -> bool {
        self.peak = self.peak.max(bytes as u32);
        self.buffer.len() >= bytes || self.grow(pool, bytes)
    }

    fn grow(&mut self, pool: &mut Pool, bytes: usize) -> bool {
        let wanted = bytes.max(self.expected as usize);
        let Some(mut larger) = pool.acquire(wanted).or_else(|| pool.acquire(bytes)) else { return false };
        if self.buffer.is_empty() {
            (self.buffer, self.head) = (larger, 0);
            return true;
        }
        // All of the old buffer, not only `len`: bytes out of order lie beyond.
        let old = std::mem::take(&mut self.buffer);
        let (wrapped, first) = old.split_at(self.head as usize);
        larger[..first.len()].copy_from_slice(first);
        larger[first.len()..old.len()].copy_from_slice(wrapped);
        pool.release(old);
        (self.buffer, self.head) = (larger, 0);
        true
    }

    /// Writes `bytes` at `offset` from `head`, within what was reserved.
    #[inline(always)]
    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset + bytes.len() <= self.buffer.len(), "reserved before it is written");
        let start = (self.head as usize + offset) & self.buffer.len().wrapping_sub(1);
        match self.buffer.get_mut(start..start + bytes.len()) {
            Some(room) => copy_text(room, bytes),
            None => self.write_around(start, bytes),
        }
    }

    /// From `start` of the buffer to its end, and on from its front.
    #[inline(never)]
    fn write_around(&mut self, start: usize, bytes: &[u8]) {
        let (front, back) = self.buffer.split_at_mut(start);
        let (first, second) = bytes.split_at(back.len());
        copy_text(back, first);
        copy_text(&mut front[..second.len()], second);
    }

    /// `bytes` behind the end, which were written before, belong to it now.
    pub(crate) fn extend(&mut self, bytes: usize) {
        self.len += bytes as u32;
    }

    /// The bytes at `offset`, up to `len` of them, in two slices.
    pub(crate) fn slices(&self, offset: usize, len: usize) -> [&[u8]; 2] {
        if len == 0 {
            return [&[], &[]];
        }
        let start = (self.head as usize + offset) & (self.buffer.len() - 1);
        let first = len.min(self.buffer.len() - start);
        [&self.buffer[start..start + first], &self.buffer[..len - first]]
    }

    /// Shows `take` the oldest bytes, at most `limit`, in one slice or two, and forgets them.
    #[inline]
    pub(crate) fn read_with(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> usize {
        let taken = limit.min(self.len());
        let [first, second] = self.slices(0, taken);
        if !first.is_empty() {
            take(first);
        }
        if !second.is_empty() {
            take(second);
        }
        self.consume(taken);
        taken
    }

    /// Forgets the oldest `bytes`.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.len -= bytes as u32;
        self.head = (self.head + bytes as u32) & (self.buffer.len() as u32).saturating_sub(1);
    }

    /// Hands the buffer, with all that is in it, to a ring that has none.
    pub(crate) fn hand_over(&mut self, to: &mut Self) {
        debug_assert!(to.buffer.is_empty(), "the other ring has no buffer");
        self.expected = std::mem::take(&mut self.peak);
        to.peak = to.peak.max(self.len);
        (to.buffer, to.head, to.len) = (std::mem::take(&mut self.buffer), self.head, self.len);
        (self.head, self.len) = (0, 0);
    }

    /// Gives the buffer back.
    pub(crate) fn release(&mut self, pool: &mut Pool) {
        (self.head, self.len) = (0, 0);
        self.expected = std::mem::take(&mut self.peak);
        if !self.buffer.is_empty() {
            pool.release(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn append(ring: &mut Ring, pool: &mut Pool, bytes: &[u8]) -> bool {
        let fits = ring.reserve(pool, ring.len() + bytes.len());
        if fits {
            ring.write_at(ring.len(), bytes);
            ring.extend(bytes.len());
        }
        fits
    }

    #[test]
    fn the_budget_bounds_what_is_lent() {
        let mut pool = Pool::new(8192);
        let (mut one, mut two, mut three) = (Ring::default(), Ring::default(), Ring::default());
        assert!(append(&mut one, &mut pool, &[1]) && append(&mut two, &mut pool, &[2]));
        assert!(!append(&mut three, &mut pool, &[3]) && !pool.has_room());
        one.release(&mut pool);
        assert!(append(&mut three, &mut pool, &[3]), "what is given back is lent again");
        assert_eq!(pool.lent_bytes(), 8192);
    }

    #[test]
    fn a_buffer_that_is_handed_over_keeps_its_bytes_and_its_place_in_the_account() {
        let mut pool = Pool::new(8192);
        let (mut from, mut to) = (Ring::default(), Ring::default());
        assert!(append(&mut from, &mut pool, &[7; 3000]));
        from.consume(2999);
        from.hand_over(&mut to);
        assert!((from.is_empty(), from.capacity(), to.len()) == (true, 0, 1));
        assert_eq!(to.slices(0, 1)[0], [7]);
        assert!(append(&mut from, &mut pool, &[1]), "the giver takes another");
        to.release(&mut pool);
        from.release(&mut pool);
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[test]
    fn buffers_kept_ready_make_way_for_another_size() {
        let mut pool = Pool::new(3 << 20);
        let mut rings: Vec<Ring> = (0..768).map(|_| Ring::default()).collect();
        assert!(rings.iter_mut().all(|ring| append(ring, &mut pool, &[1])));
        rings.iter_mut().for_each(|ring| ring.release(&mut pool));
        assert!(append(&mut rings[0], &mut pool, &[1; 8000]));
    }

    #[test]
    fn whoever_hoards_leaves_room_for_whoever_comes_later() {
        let mut pool = Pool::new(64 << 20);
        let mut hoarders: Vec<Ring> = (0..1000).map(|_| Ring::default()).collect();
        for hoarder in &mut hoarders {
            while append(hoarder, &mut pool, &[0; 4096]) {}
            assert!(!hoarder.is_empty(), "everyone gets the smallest buffer");
        }
        assert!(append(&mut Ring::default(), &mut pool, &[0; 4096]));
    }

    proptest! {
        #[test]
        fn a_ring_behaves_as_a_queue_of_bytes(steps in prop::collection::vec((any::<bool>(), 0usize..9000), 1..60)) {
            let (mut pool, mut ring, mut model) = (Pool::new(1 << 30), Ring::default(), VecDeque::new());
            let mut next = 0u8;
            for (write, amount) in steps {
                if write {
                    let bytes: Vec<u8> = (0..amount).map(|_| { next = next.wrapping_add(1); next }).collect();
                    prop_assert!(append(&mut ring, &mut pool, &bytes));
                    model.extend(bytes);
                } else {
                    let mut read = Vec::new();
                    let taken = ring.read_with(amount, |bytes| read.extend_from_slice(bytes));
                    prop_assert_eq!(read, model.drain(..taken).collect::<Vec<_>>());
                }
                prop_assert_eq!(ring.len(), model.len());
            }
        }
    }
}
