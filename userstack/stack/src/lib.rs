//! A TCP/IP stack without I/O: packets and time go in, packets and events come out.
//!
//! [`Stack`] belongs to one core. It never reads a clock, spawns nothing, logs nothing and names no future: every
//! method that needs the time takes it. `handle_*` takes an event in, `poll_*` yields an action out.
//! The caller (the worker's turn, or the simulator) owns the frames; the stack reads and rewrites them in place
//! through [`Chain`] and writes new packets through [`Egress`].
#![forbid(unsafe_code)]

mod arp;
mod blocks;
mod burst;
pub mod chain;
mod checksum;
pub mod config;
mod datagram;
pub mod defence;
pub mod discard;
pub mod egress;
mod error;
pub mod event;
pub mod forward;
mod hash;
mod header;
mod icmp;
mod identification;
mod input;
pub mod interface;
mod ipv4;
mod ipv6;
mod keys;
mod limit;
mod link;
mod locals;
mod ndp;
mod neighbour;
mod ordinary;
mod outbox;
mod output;
mod pmtu;
mod reassembly;
mod recent;
mod route;
pub mod run;
mod send_datagram;
mod share;
mod sink;
pub mod stack;
pub mod steer;
pub mod tcp;
pub mod time;
pub mod udp;
pub mod wheel;
mod wire;

pub use chain::{Chain, Contiguous};
pub use config::Config;
pub use defence::{Defence, Defences};
pub use discard::{Discard, Discards};
pub use egress::{Egress, Full, Offloads};
pub use event::{Event, Verdict};
pub use forward::{
    Admission, FirstDatagram, Forward, Rewrite, RtpStream, SessionCounts, SessionInfo, Traffic,
};
pub use interface::{InterfaceConfig, InterfaceId, Prefix, Role, Route};
pub use run::{Pieces, Run};
pub use share::{Holding, Share};
pub use stack::{Stack, Steered};
pub use tcp::{
    ConnectError, FlowKey, ListenError, ListenSpec, ListenerKey, Splice, TcpError, TcpHoldings, TcpInfo,
    TcpOptions,
};
pub use time::Instant;
pub use udp::{UdpError, UdpKey};
