//! AF_XDP: a safe, move-only face over UMEM memory, its chunks, the four rings and their socket.
//!
//! ```text
//!            management thread                           worker's thread
//!   Region ── memory of one worker and mode ── claim ──> Pool ── free chunks, who owns which
//!     │                                                   │  │
//!   Socket::bind(region, interface, queue) ─── Send ───> Queue ── fill, rx, tx, completion rings
//!                                                         │
//!                                                        Chunk ── memory in a packet; dropping it frees it
//! ```
//!
//! A [`Region`] is shared and a [`Socket`] is `Send`: both are made where privileges and errors are handled. A [`Pool`],
//! its [`Queue`]s and [`Chunk`]s belong to the thread that claimed the region and never leave it.
//!
//! **Ownership.** The pool's table says of every chunk whether it is in user space or on a ring of which queue. A chunk
//! is handed to the kernel by value, and only what this table knows to be on a ring is taken back from one, so that no
//! descriptor, whatever it says, makes two owners of the same bytes.
//!
//! **Why raw rings and not a library's.** xsk-rs 0.11 fixes a descriptor's address when the memory is made, so that a
//! packet could not leave after a tag went on or off in front of it; its rings are private, so that they cannot be used
//! beside it. It and libxdp keep the first socket open until the memory goes, though its interface left: that queue
//! would then swallow what it should pass. And neither takes memory that the caller mapped. The system calls are rustix's
//! safe ones; unsafe code is in `mapping.rs`, `ring.rs`, `pool.rs`, `tap.rs` and `whole.rs` alone.
//!
//! Never attaches a program: `ringway-bpf` does, and gets the socket's descriptor for its map.

mod mapping;
mod pool;
mod queue;
mod region;
mod ring;
mod socket;
mod tap;
mod whole;

pub use pool::{Chunk, OtherRegion, Pool};
pub use queue::{Queue, Received, Statistics, Unfinished};
pub use region::{CHUNK_BYTES, Region, RegionError};
pub use socket::{BindError, CopyMode, HEADROOM_BYTES, Socket};
pub use tap::{TapError, open_tap};
pub use whole::{Whole, WholeSocket};
