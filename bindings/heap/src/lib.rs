//! The data plane's heap: mimalloc, told to keep what it has (docs/decisions/012).
//!
//! Every worker allocates from memory of its own and frees what it allocated, in a few instructions.

pub use mimalloc::MiMalloc as Heap;

use libmimalloc_sys::{mi_option_set, mi_option_t};

/// `mi_option_purge_delay` of mimalloc.h (version 3), which the crate does not name: after how many milliseconds memory
/// that is free goes back to the kernel.
const PURGE_DELAY: mi_option_t = 15;
const NEVER: std::ffi::c_long = -1;

/// Memory that is free stays with the process from now on. Else a burst after a quiet second finds its memory gone, and
/// the kernel clears page after page in the middle of a turn: a thousand connections cost a core five milliseconds so.
pub fn keep() {
    // SAFETY: it sets one of the options, by a number in their range; every thread reads them anew.
    unsafe { mi_option_set(PURGE_DELAY, NEVER) };
}
