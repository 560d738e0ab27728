//! The chunks of a region, as one thread owns them: which are free, and which the kernel has.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::region::{CHUNK_BYTES, Region};

/// Fewest chunks on a queue's fill ring, however many queues share the memory: one burst.
const FILL_MIN: u32 = 64;

/// The owner of a region's chunks. A clone is the same pool.
#[derive(Clone, Debug)]
pub struct Pool(Rc<Shared>);

struct Shared {
    region: Arc<Region>,
    /// Numbers of the chunks that nobody has.
    free: RefCell<Vec<u32>>,
    owners: Box<[Cell<Owner>]>,
    queues: Cell<u32>,
    last_queue: Cell<u32>,
    stranded: Cell<u32>,
}

/// A socket was to be started with memory that it was not bound with.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the socket was bound with the memory of another region")]
pub struct OtherRegion;

/// Who may touch a chunk: user space (0), or the kernel by one of a queue's rings.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner(u32);

impl Owner {
    const USER: Self = Self(0);

    /// On the fill ring of a queue, or received and not yet taken off its receive ring.
    pub fn fill(queue: u32) -> Self {
        Self(queue << 1)
    }

    /// On the transmit ring of a queue, or sent and not yet taken off its completion ring.
    pub fn transmit(queue: u32) -> Self {
        Self(queue << 1 | 1)
    }
}

impl Region {
    /// Makes the calling thread the owner of all chunks. `None` while another owner lives: one worker owns a region.
    pub fn claim(self: &Arc<Self>) -> Option<Pool> {
        self.try_claim().then(|| Pool::new(Arc::clone(self)))
    }
}

impl Pool {
    fn new(region: Arc<Region>) -> Self {
        let chunks = region.chunks();
        Self(Rc::new(Shared {
            // The first chunk is handed out first.
            free: RefCell::new((0..chunks).rev().collect()),
            owners: vec![Cell::new(Owner::USER); chunks as usize].into_boxed_slice(),
            queues: Cell::new(0),
            last_queue: Cell::new(0),
            stranded: Cell::new(0),
            region,
        }))
    }

    /// Counts a queue that works on this memory, and gives it its number.
    pub(crate) fn enroll(&self) -> u32 {
        // Zero is user space, and one bit is the ring's.
        let id = ((self.0.last_queue.get() + 1) & (u32::MAX >> 1)).max(1);
        self.0.last_queue.set(id);
        self.0.queues.set(self.0.queues.get() + 1);
        id
    }

    /// A chunk that nobody else has. `None`: all are in use.
    pub fn chunk(&self) -> Option<Chunk> {
        let index = self.0.free.borrow_mut().pop()?;
        Some(Chunk { pool: Rc::clone(&self.0), index })
    }

    pub fn free_chunks(&self) -> usize {
        self.0.free.borrow().len()
    }

    pub fn region(&self) -> &Arc<Region> {
        &self.0.region
    }

    /// Chunks that were still being sent when their socket closed. Nobody can say when the network is done with them, so
    /// they are out of use until the pool is made anew.
    pub fn stranded_chunks(&self) -> u32 {
        self.0.stranded.get()
    }

    /// Chunks that a queue should keep with the kernel: half of the memory goes to fill rings, in equal shares.
    pub(crate) fn fill_share(&self) -> u32 {
        (self.0.region.chunks() / 2 / self.0.queues.get().max(1)).max(FILL_MIN)
    }

    /// Hands a chunk to the kernel: the returned number is for one ring entry. `None`, and the chunk is free again, when
    /// it is of another pool.
    pub(crate) fn give(&self, chunk: Chunk, owner: Owner) -> Option<u32> {
        let ours = Rc::ptr_eq(&chunk.pool, &self.0);
        ours.then(|| {
            self.0.owners[chunk.index as usize].set(owner);
            chunk.index
        })
    }

    /// The chunk that `address` of a ring entry lies in, if `owner` has it; user space has it from now on.
    pub(crate) fn take_back(&self, address: u64, owner: Owner) -> Option<Chunk> {
        let index = usize::try_from(address / CHUNK_BYTES as u64).ok()?;
        let entry = self.0.owners.get(index)?;
        if entry.get() != owner {
            return None;
        }
        entry.set(Owner::USER);
        Some(Chunk { pool: Rc::clone(&self.0), index: index as u32 })
    }

    /// A queue's socket is closed: what it had to fill is free, what it was sending is stranded.
    pub(crate) fn close(&self, queue: u32) {
        for index in 0..self.0.region.chunks() {
            let address = u64::from(index) * CHUNK_BYTES as u64;
            drop(self.take_back(address, Owner::fill(queue)));
            if self.0.owners[index as usize].get() == Owner::transmit(queue) {
                self.0.stranded.set(self.0.stranded.get() + 1);
            }
        }
        self.0.queues.set(self.0.queues.get() - 1);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.region.unclaim();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("chunks", &self.region.chunks())
            .field("free", &self.free.borrow().len())
            .field("queues", &self.queues.get())
            .finish_non_exhaustive()
    }
}

/// [`CHUNK_BYTES`] of memory that one owner has. Dropping it makes it free.
pub struct Chunk {
    pool: Rc<Shared>,
    index: u32,
}

impl Chunk {
    /// All of the chunk's bytes, headroom included.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let start = self.start();
        // SAFETY: `start` to `start + CHUNK_BYTES` lies in the region's mapping, which the pool keeps alive and which is
        // always initialised (file pages). This chunk is its only owner in user space: numbers leave the free list once,
        // come back from the kernel only by the owner table, and `Chunk` is not `Clone`. The kernel writes only to
        // chunks on rings, which `give` takes by value.
        unsafe { std::slice::from_raw_parts(start, CHUNK_BYTES) }
    }

    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let start = self.start();
        // SAFETY: as in `bytes`; `&mut self` makes this reference the only one.
        unsafe { std::slice::from_raw_parts_mut(start, CHUNK_BYTES) }
    }

    /// Whether `pool` is where this chunk's memory lies.
    pub fn belongs_to(&self, pool: &Pool) -> bool {
        Rc::ptr_eq(&self.pool, &pool.0)
    }

    #[inline]
    fn start(&self) -> *mut u8 {
        let base = self.pool.region.mapping().base().as_ptr();
        debug_assert!(self.index < self.pool.region.chunks());
        // SAFETY: `index` is below the region's number of chunks (it came from the free list or passed the owner table,
        // both of that length), so the offset lies within the mapping of at least `chunks * CHUNK_BYTES` bytes.
        unsafe { base.add(self.index as usize * CHUNK_BYTES) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // What was given to the kernel comes back by `take_back`, not here.
        if self.pool.owners[self.index as usize].get() == Owner::USER {
            self.pool.free.borrow_mut().push(self.index);
        }
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({})", self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(chunks: u32) -> Pool {
        Region::new(chunks).unwrap().claim().unwrap()
    }

    #[test]
    fn a_dropped_chunk_is_free_again() {
        let pool = pool(2);
        let (mut one, two) = (pool.chunk().unwrap(), pool.chunk().unwrap());
        assert!(pool.chunk().is_none());
        one.bytes_mut().fill(7);
        assert!(two.bytes().iter().all(|&byte| byte == 0));
        drop(one);
        assert_eq!(pool.chunk().unwrap().bytes()[CHUNK_BYTES - 1], 7);
    }

    #[test]
    fn a_chunk_that_the_kernel_has_comes_back_once_and_from_its_own_ring() {
        let pool = pool(1);
        let chunk = pool.chunk().unwrap();
        let index = pool.give(chunk, Owner::fill(1)).unwrap();
        let address = u64::from(index) * CHUNK_BYTES as u64 + 300;
        assert_eq!(pool.free_chunks(), 0);
        assert!(pool.take_back(address, Owner::transmit(1)).is_none());
        assert!(pool.take_back(address, Owner::fill(2)).is_none());
        let chunk = pool.take_back(address, Owner::fill(1)).unwrap();
        assert!(pool.take_back(address, Owner::fill(1)).is_none());
        drop(chunk);
        assert_eq!(pool.free_chunks(), 1);
    }

    #[test]
    fn an_address_outside_the_region_is_nobodys() {
        let pool = pool(1);
        assert!(pool.take_back(u64::MAX, Owner::fill(1)).is_none());
        assert!(pool.take_back(CHUNK_BYTES as u64, Owner::fill(1)).is_none());
    }

    #[test]
    fn a_chunk_of_another_pool_is_not_given() {
        let (pool, other) = (pool(1), pool(1));
        assert!(pool.give(other.chunk().unwrap(), Owner::fill(1)).is_none());
        assert_eq!(other.free_chunks(), 1);
    }
}
