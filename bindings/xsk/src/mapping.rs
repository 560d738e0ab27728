//! One memory mapping that ends with its owner: a region's memory, or the pages of a ring.
//!
//! Tests play the kernel at a ring's other end, and Miri has no shared mappings: for both, memory of the heap stands for
//! one, which any number of mappings have in common.

#[cfg(any(test, miri))]
pub(crate) mod heap;

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;

use rustix::io::Result;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    /// `Some` where it is no mapping of the kernel's.
    #[cfg(any(test, miri))]
    heap: Option<heap::Heap>,
}

// SAFETY: the mapping is plain shared memory without thread affinity; who may touch which bytes is decided by the types
// that hold a mapping (the pool's table for a region, `&mut self` for a ring), not by the thread.
unsafe impl Send for Mapping {}

// SAFETY: as above: a shared `Mapping` gives out addresses only, never a reference into the memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `file` from `offset`, readable, writable, shared with the kernel and present at once.
    pub fn new(file: BorrowedFd<'_>, len: usize, offset: u64) -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        // SAFETY: without MAP_FIXED and with a null hint the kernel chooses an unused range, so no memory that anyone
        // holds is replaced.
        let base = unsafe { mmap(std::ptr::null_mut(), len, protection, flags, file.as_fd(), offset) }?;
        let base =
            NonNull::new(base.cast()).expect("the kernel maps nothing at address zero without MAP_FIXED");
        Ok(Self {
            base,
            len,
            #[cfg(any(test, miri))]
            heap: None,
        })
    }

    /// All of `heap`, which lives as long as this.
    #[cfg(any(test, miri))]
    pub fn of(heap: &heap::Heap) -> Self {
        Self { base: heap.base(), len: heap.len(), heap: Some(heap.clone()) }
    }

    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        #[cfg(any(test, miri))]
        if self.heap.is_some() {
            return;
        }
        // SAFETY: the range was mapped by `new`, is unmapped only here, and every pointer into it belongs to a value that
        // holds this mapping and is dropped with it.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of ours can be unmapped");
    }
}
