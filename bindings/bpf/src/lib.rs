//! The XDP redirect program (C, `program/redirect.c`), its maps and its loader.
//!
//! The management thread attaches one [`Redirect`] per interface and keeps it: dropping it, or the end of the process in
//! any way, takes the program off the interface. Workers never touch it; they only own the sockets that it names.
//! Nothing here parses a packet or owns packet memory, and there is no unsafe code: aya makes the system calls.
#![forbid(unsafe_code)]

mod attach;
mod error;
mod limits;
mod link;
mod mode;
mod notice;
mod owned;
mod verdict;

pub use attach::{Buffers, Redirect, RedirectConfig, Role};
pub use error::{AttachError, MapUpdateError};
pub use limits::{OWNED_MAX, QUEUES_MAX};
pub use link::{Link, LinkError};
pub use mode::AttachMode;
pub use notice::Notice;
pub use owned::{Claim, OwnedPrefix, VlanSet};
pub use verdict::{Verdict, Verdicts};
