//! The memory of one worker and one mode, which the sockets of many queues share.

use std::io;
#[cfg(not(miri))]
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::fs::MemfdFlags;
#[cfg(not(miri))]
use rustix::fs::{ftruncate, memfd_create};

use crate::mapping::Mapping;

/// A chunk holds one buffer: a page, so that the kernel need never join two.
pub const CHUNK_BYTES: usize = 4_096;

const HUGEPAGE_BYTES: usize = 2 << 20;

/// Most chunks of a region (16 GiB): their numbers fit the tables, and a mistyped size is refused here.
const CHUNKS_MAX: u32 = 1 << 22;

#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    #[error("a region of {chunks} chunks: at least 1 and at most {CHUNKS_MAX} are possible")]
    Size { chunks: u32 },
    #[error(
        "mapping {bytes} bytes of packet memory: {source}; lower the worker's packet memory or free some"
    )]
    Map { bytes: usize, source: io::Error },
}

/// Memory for chunks, in a memfd, so that it can outlive a process. Shared between the thread that binds sockets to it
/// and the worker that claimed it.
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    file: OwnedFd,
    chunks: u32,
    /// Why the memory is not in hugepages; `None` where it is.
    small_pages: Option<String>,
    claimed: AtomicBool,
    bound: Mutex<Bound>,
}

/// Sockets that are bound with this memory. A later one shares the kernel's registration with any that lives; when none
/// does, the next registers the memory anew.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    sockets: Vec<Weak<OwnedFd>>,
    /// The registration takes chains of descriptors (`XDP_USE_SG`).
    pub multi_buffer: bool,
    /// The registration has room for metadata before each packet that is sent, which may ask for a checksum.
    pub finishes_checksums: bool,
}

impl Bound {
    pub fn living(&mut self) -> Option<Arc<OwnedFd>> {
        self.sockets.retain(|socket| socket.strong_count() > 0);
        self.sockets.iter().find_map(Weak::upgrade)
    }

    pub fn add(&mut self, socket: &Arc<OwnedFd>) {
        self.sockets.push(Arc::downgrade(socket));
    }
}

impl Region {
    /// Memory for `chunks` chunks: in hugepages where the system has enough of them free, else in small pages.
    pub fn new(chunks: u32) -> Result<Arc<Self>, RegionError> {
        if chunks == 0 || chunks > CHUNKS_MAX {
            return Err(RegionError::Size { chunks });
        }
        let bytes = chunks as usize * CHUNK_BYTES;
        let huge = map(bytes.next_multiple_of(HUGEPAGE_BYTES), MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB);
        let ((mapping, file), small_pages) = match huge {
            Ok(mapped) => (mapped, None),
            Err(error) => {
                let mapped = map(bytes, MemfdFlags::empty());
                let mapped = mapped.map_err(|source| RegionError::Map { bytes, source: source.into() })?;
                (
                    mapped,
                    Some(format!("no {} free hugepages of 2 MiB: {error}", bytes.div_ceil(HUGEPAGE_BYTES))),
                )
            }
        };
        let claimed = AtomicBool::new(false);
        Ok(Arc::new(Self { mapping, file, chunks, small_pages, claimed, bound: Mutex::default() }))
    }

    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// Why the memory is not in hugepages; `None` where it is.
    pub fn small_pages(&self) -> Option<&str> {
        self.small_pages.as_deref()
    }

    /// The file behind the memory.
    pub fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// True for the one caller that owns the chunks from now on, until it calls [`Region::unclaim`].
    pub(crate) fn try_claim(&self) -> bool {
        // Acquire pairs with the release in `unclaim`: what the last owner wrote into the memory happened before.
        self.claimed.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn unclaim(&self) {
        self.claimed.store(false, Ordering::Release);
    }

    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(crate) fn bound(&self) -> MutexGuard<'_, Bound> {
        // The list is whole after every statement, so that a panic elsewhere leaves nothing half done.
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(not(miri))]
fn map(bytes: usize, flags: MemfdFlags) -> rustix::io::Result<(Mapping, OwnedFd)> {
    let file = memfd_create("ringway-umem", MemfdFlags::CLOEXEC | flags)?;
    ftruncate(&file, bytes as u64)?;
    let mapping = Mapping::new(file.as_fd(), bytes, 0)?;
    Ok((mapping, file))
}

/// Miri has no memfd.
#[cfg(miri)]
fn map(bytes: usize, _flags: MemfdFlags) -> rustix::io::Result<(Mapping, OwnedFd)> {
    let nothing = std::fs::File::open("/dev/null").map_err(|_| rustix::io::Errno::NOENT)?;
    Ok((Mapping::of(&crate::mapping::heap::Heap::zeroed(bytes)), nothing.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_one_owner_at_a_time() {
        let region = Region::new(16).unwrap();
        let pool = region.claim().unwrap();
        assert!(region.claim().is_none());
        drop(pool);
        assert!(region.claim().is_some());
    }

    #[test]
    fn a_region_without_chunks_is_refused() {
        assert!(matches!(Region::new(0), Err(RegionError::Size { chunks: 0 })));
    }
}
