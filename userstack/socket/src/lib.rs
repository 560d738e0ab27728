//! One core's executor, and the face that async tasks have of its stack.
//!
//! [`TcpStream`], [`TcpListener`], [`UdpSocket`] and [`Sleep`] are plain keys: they find their core through one
//! thread-local scope, which [`Core`] enters around every poll and every drop of a task. Outside of it they fail by
//! name. The stack is never borrowed across an await.
//!
//! ```text
//!   worker's turn        Core                                   tasks
//!   handle_packet  ──▶  stack ──events──▶ waiters ──wakers──▶  ready list ──▶ poll (scope entered)
//!   handle_timers  ──▶  timers ─────────────wakers──────────▶      ▲              │ TcpStream, Sleep, ..
//!   poll_transmit  ◀──  stack ◀──────── reads and writes ──────────┼──────────────┘
//!   other threads' wakers ──▶ mailbox (and doorbell) ──────────────┘
//! ```
//!
//! # What a task costs
//! Spawning allocates twice: the future's box, and the `Arc` behind the one waker that the task keeps for life. Polling
//! allocates nothing. hyper's own timer interface allocates a box a sleep ([`Timer`]); [`sleep`] does not.
//!
//! # Where sockets may be used and dropped
//! Any use outside of a scope, or inside the scope of another core, panics with a sentence that names the call: it is a
//! mistake in the program. Drops never panic. A socket or sleep that is dropped outside of its core's scope, on the
//! core's thread, is closed when the core runs tasks next; on another thread its connection is left to the stack's
//! timeouts, because tasks never leave their core.
#![forbid(unsafe_code)]

mod core;
mod error;
mod hyper_rt;
mod orphans;
mod ready;
mod scope;
mod sleep;
mod tasks;
mod tcp;
mod timers;
mod udp;
mod waiters;
mod wake;

pub use self::core::{Core, POLLS_PER_TURN, abort, now, random, spawn};
pub use self::hyper_rt::{Executor, Timer};
pub use self::ready::{Doorbell, TaskId};
pub use self::sleep::{Elapsed, Sleep, sleep, sleep_until, timeout};
pub use self::tcp::{TcpListener, TcpStream};
pub use self::udp::UdpSocket;

/// What the proxy needs of the stack, which it may not name.
pub use stack::tcp::{Congestion, Ecn};
pub use stack::{
    Admission, ConnectError, Discard, Event, FirstDatagram, FlowKey, Forward, Holding, Instant, InterfaceId,
    ListenError, ListenSpec, ListenerKey, Prefix, Rewrite, Role, SessionCounts, Share, TcpError, TcpInfo,
    TcpOptions, UdpError, UdpKey,
};
