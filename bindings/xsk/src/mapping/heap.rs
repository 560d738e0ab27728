//! Memory of the heap in place of a shared mapping, for tests that play the kernel and for Miri.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::Arc;

/// Mappings begin on a page.
const PAGE_BYTES: usize = 4_096;

/// Memory that goes with its last mapping. A clone is the same memory.
#[derive(Clone, Debug)]
pub(crate) struct Heap(Arc<Memory>);

#[derive(Debug)]
struct Memory {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: plain memory without thread affinity; it is given out as an address only, and who may touch which bytes is
// decided by the types that hold a mapping, as for a mapping of the kernel's.
unsafe impl Send for Memory {}

// SAFETY: as above: a shared `Memory` gives out its address, never a reference into the bytes.
unsafe impl Sync for Memory {}

impl Heap {
    pub fn zeroed(bytes: usize) -> Self {
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).expect("a test's memory is small");
        assert!(bytes > 0, "a mapping has bytes");
        // SAFETY: the layout's size is not zero.
        let base = unsafe { alloc_zeroed(layout) };
        let base = NonNull::new(base).unwrap_or_else(|| handle_alloc_error(layout));
        Self(Arc::new(Memory { base, layout }))
    }

    pub fn base(&self) -> NonNull<u8> {
        self.0.base
    }

    pub fn len(&self) -> usize {
        self.0.layout.size()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `base` came from `alloc_zeroed` with this layout, is freed only here, and every mapping of it holds
        // this value.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}
