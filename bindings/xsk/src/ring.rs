//! The rings that user space and kernel share (Documentation/networking/af_xdp.rst): a power of two of entries, and two
//! free-running positions.
//!
//! ```text
//!            consumer              producer
//!   ...........|#######################|...........   entries between the two are the consumer's to read
//!    producer's to write (size - used)
//! ```
//!
//! Each side writes one position and reads the other's: the writer releases after the entries, the reader acquires
//! before them.

use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::xdp::XdpRingOffset;

use crate::mapping::Mapping;

/// `XDP_RING_NEED_WAKEUP`.
const NEED_WAKEUP: u32 = 1;

/// The memory of one ring with entries of kind `T`.
#[derive(Debug)]
struct Shared<T> {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: Option<usize>,
    entries: NonNull<T>,
    size: u32,
}

// SAFETY: the pointer goes into `mapping`, which is `Send`; entries are plain numbers, and reaching them takes `&mut` of
// the ring that owns this value.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> rustix::io::Result<Self> {
        let mapping = Mapping::new(socket, Self::bytes(offsets, size), page)?;
        Ok(Self::over(mapping, offsets, size))
    }

    fn bytes(offsets: &XdpRingOffset, size: u32) -> usize {
        offsets.desc as usize + size as usize * size_of::<T>()
    }

    /// The ring in memory of [`Self::bytes`] bytes.
    fn over(mapping: Mapping, offsets: &XdpRingOffset, size: u32) -> Self {
        assert!(size.is_power_of_two(), "ring sizes are powers of two: the kernel refuses others");
        assert!(mapping.len() >= Self::bytes(offsets, size), "the mapping has all of the ring");
        let desc = offsets.desc as usize;
        let positions = [Some(offsets.producer), Some(offsets.consumer), offsets.flags];
        let fits = positions
            .into_iter()
            .flatten()
            .all(|at| at as usize + size_of::<u32>() <= mapping.len() && at % 4 == 0);
        assert!(
            fits && desc.is_multiple_of(align_of::<T>()),
            "the kernel's ring offsets lie in the ring and are aligned"
        );
        // SAFETY: `desc` lies within the mapping, which is at least `desc` plus the entries long.
        let entries = unsafe { mapping.base().add(desc) };
        Self {
            mapping,
            producer: offsets.producer as usize,
            consumer: offsets.consumer as usize,
            flags: offsets.flags.map(|at| at as usize),
            entries: entries.cast(),
            size,
        }
    }

    fn producer(&self) -> &AtomicU32 {
        self.atomic(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.atomic(self.consumer)
    }

    /// Whether the other side sleeps until a system call wakes it.
    fn needs_wakeup(&self) -> bool {
        self.flags.is_some_and(|flags| self.atomic(flags).load(Ordering::Relaxed) & NEED_WAKEUP != 0)
    }

    #[inline]
    fn atomic(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `offset` is one of the three that `map` checked to lie in the mapping.
        let at = unsafe { self.mapping.base().add(offset) };
        // SAFETY: the word is aligned (checked by `map`; the mapping starts on a page), lives as long as the mapping that
        // `self` holds, and is touched by both sides with atomic instructions only.
        unsafe { AtomicU32::from_ptr(at.as_ptr().cast()) }
    }

    #[inline]
    fn entry(&self, position: u32) -> NonNull<T> {
        // SAFETY: the masked position is below `size`, and the mapping holds `size` entries from `entries` on.
        unsafe { self.entries.add((position & (self.size - 1)) as usize) }
    }
}

/// A ring that user space fills: fill and transmit.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    shared: Shared<T>,
    /// Where the next entry goes; ahead of the shared position until `publish`.
    next: u32,
    /// The kernel's position when it was last read.
    consumed: u32,
}

impl<T: Copy> Producer<T> {
    pub fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> rustix::io::Result<Self> {
        Ok(Self::new(Shared::map(socket, page, offsets, size)?))
    }

    fn new(shared: Shared<T>) -> Self {
        let next = shared.producer().load(Ordering::Relaxed);
        let consumed = shared.consumer().load(Ordering::Acquire);
        Self { shared, next, consumed }
    }

    /// Entries that fit, looking at the kernel's position only when `wanted` do not fit by what was known.
    pub fn room(&mut self, wanted: u32) -> u32 {
        if self.shared.size - self.next.wrapping_sub(self.consumed) < wanted {
            self.consumed = self.shared.consumer().load(Ordering::Acquire);
        }
        self.shared.size - self.next.wrapping_sub(self.consumed)
    }

    /// Writes one entry; the kernel sees it after `publish`. False when the ring is full.
    pub fn push(&mut self, value: T) -> bool {
        if self.room(1) == 0 {
            return false;
        }
        let entry = self.shared.entry(self.next);
        // SAFETY: `entry` lies in the ring, and as there is room it is not between the kernel's position and ours: the
        // kernel does not read it before `publish`. `&mut self` excludes any other writer.
        unsafe { entry.write(value) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Shows the kernel all entries that were pushed.
    pub fn publish(&mut self) {
        self.shared.producer().store(self.next, Ordering::Release);
    }

    /// Published entries that the kernel has not taken yet.
    pub fn waiting(&mut self) -> u32 {
        self.consumed = self.shared.consumer().load(Ordering::Acquire);
        self.shared.producer().load(Ordering::Relaxed).wrapping_sub(self.consumed)
    }

    /// Whether the kernel has not taken all published entries yet.
    pub fn is_waiting(&self) -> bool {
        let taken = self.shared.consumer().load(Ordering::Relaxed);
        taken != self.shared.producer().load(Ordering::Relaxed)
    }

    pub fn needs_wakeup(&self) -> bool {
        self.shared.needs_wakeup()
    }
}

/// A ring that the kernel fills: receive and completion.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    shared: Shared<T>,
    /// The next entry to read; ahead of the shared position until `publish`.
    next: u32,
    /// The kernel's position when it was last read.
    produced: u32,
}

impl<T: Copy> Consumer<T> {
    pub fn map(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        size: u32,
    ) -> rustix::io::Result<Self> {
        Ok(Self::new(Shared::map(socket, page, offsets, size)?))
    }

    fn new(shared: Shared<T>) -> Self {
        let next = shared.consumer().load(Ordering::Relaxed);
        Self { shared, next, produced: next }
    }

    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.produced {
            self.produced = self.shared.producer().load(Ordering::Acquire);
            if self.next == self.produced {
                return None;
            }
        }
        let entry = self.shared.entry(self.next);
        // SAFETY: `entry` lies in the ring and before the kernel's position, which was read with acquire: it is written,
        // and the kernel does not write it again before `publish`.
        let value = unsafe { entry.read() };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// Gives the kernel back all entries that were popped.
    pub fn publish(&mut self) {
        self.shared.consumer().store(self.next, Ordering::Release);
    }
}

/// Both ends of one ring in memory of the heap, as user space and the kernel have it.
#[cfg(test)]
pub(crate) fn both_ends<T: Copy>(size: u32) -> (Producer<T>, Consumer<T>) {
    use crate::mapping::heap::Heap;

    const OFFSETS: XdpRingOffset = XdpRingOffset { producer: 0, consumer: 64, flags: Some(128), desc: 192 };
    let heap = Heap::zeroed(Shared::<T>::bytes(&OFFSETS, size));
    let shared = || Shared::over(Mapping::of(&heap), &OFFSETS, size);
    (Producer::new(shared()), Consumer::new(shared()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(size: u32) -> (Producer<u64>, Consumer<u64>) {
        both_ends(size)
    }

    #[test]
    fn entries_arrive_in_order_and_only_after_publish() {
        let (mut producer, mut consumer) = ring(4);
        assert!(producer.push(7) && producer.push(8));
        assert_eq!(consumer.pop(), None);
        producer.publish();
        assert_eq!(producer.waiting(), 2);
        assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [Some(7), Some(8), None]);
    }

    #[test]
    fn a_full_ring_takes_nothing_until_the_other_side_published() {
        let (mut producer, mut consumer) = ring(2);
        assert!(producer.push(1) && producer.push(2) && !producer.push(3));
        producer.publish();
        assert_eq!(consumer.pop(), Some(1));
        assert!(!producer.push(3));
        consumer.publish();
        assert!(producer.push(3));
    }

    #[test]
    fn positions_run_past_the_end_of_the_ring() {
        let (mut producer, mut consumer) = ring(2);
        for value in 0..9 {
            assert!(producer.push(value));
            producer.publish();
            assert_eq!(consumer.pop(), Some(value));
            consumer.publish();
        }
        assert_eq!(producer.room(2), 2);
    }

    /// What is written before `publish` is read after it, whichever thread it is: Miri sees a race where an ordering is
    /// wanting.
    #[test]
    fn entries_cross_threads_in_order() {
        const ENTRIES: u64 = 64;
        let (mut producer, mut consumer) = ring(4);
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            while (read.len() as u64) < ENTRIES {
                match consumer.pop() {
                    Some(entry) => read.push(entry),
                    None => std::thread::yield_now(),
                }
                consumer.publish();
            }
            read
        });
        for entry in 0..ENTRIES {
            while !producer.push(entry) {
                std::thread::yield_now();
            }
            producer.publish();
        }
        assert_eq!(reader.join().unwrap(), (0..ENTRIES).collect::<Vec<_>>());
    }
}
