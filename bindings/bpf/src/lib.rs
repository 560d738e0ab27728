//! The XDP redirect program (C, `program/redirect.c`), its maps and its loader.
//!
//! The management thread attaches one [`Redirect`] per interface and keeps it: dropping it, or the end of the process in
//! any way, takes the program off the interface. Workers never touch it; they only own the sockets that it names.
//! Nothing here parses a packet or owns packet memory, and there is no unsafe code: aya makes the system calls.
#![forbid(unsafe_code)]

mod attach;
mod error;
mod link;
mod notice;
mod owned;
mod verdict;

pub use attach::{AttachMode, Buffers, QUEUES_MAX, Redirect, RedirectConfig, Role};
pub use error::{AttachError, MapUpdateError};
pub use link::{Link, LinkError};
pub use notice::Notice;
pub use owned::{Claim, OWNED_MAX, OwnedPrefix, VlanSet};
pub use verdict::{Verdict, Verdicts};
