//! A TCP/IP stack without I/O: packets and time go in, packets and events come out.
//!
//! [`Stack`] belongs to one core. It never reads a clock, spawns nothing, logs nothing and names no future: every
//! method that needs the time takes it. `handle_*` takes an event in, `poll_*` yields an action out.
//! The caller (the worker's turn, or the simulator) owns the frames; the stack reads and rewrites them in place
//! through [`Chain`] and writes new packets through [`Egress`].
#![forbid(unsafe_code)]

pub mod chain;
pub mod discard;
pub mod egress;
pub mod forward;
pub mod interface;
mod keys;
pub mod stack;
pub mod tcp;
pub mod time;
pub mod udp;
pub mod wheel;

pub use chain::Chain;
pub use discard::{Discard, Discards};
pub use egress::{Egress, Full, Offloads};
pub use forward::{Admission, FirstDatagram, Forward, Rewrite};
pub use interface::{InterfaceConfig, InterfaceId, Prefix, Role, Route};
pub use stack::{Config, Event, Stack, Verdict};
pub use tcp::{ConnectError, FlowKey, ListenError, ListenSpec, ListenerKey, TcpError, TcpInfo, TcpOptions};
pub use time::Instant;
pub use udp::{UdpError, UdpKey};
