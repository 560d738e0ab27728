//! A network in a thread: nodes, links and one virtual clock, all of it decided by a seed.
//!
//! A [`Network`] owns the clock, the [`Link`](LinkConfig)s and the nodes. A [`Node`] is anything that turns: a
//! [`Host`] (a stack and its tasks), a [`Router`], or a whole worker that `tests/` puts on the same links, since a
//! [`LinkEnd`] is a [`nic::QueuePair`].
//!
//! ```text
//!   Host ── LinkEnd ═══ Link (two pipes) ═══ LinkEnd ── Router ── LinkEnd ═══ Link ═══ LinkEnd ── Host
//!                        │ bandwidth, delay, queue, MTU, faults from the seed
//!                        └──▶ Trace: a hash over times, lengths and headers; pcapng of what was sent
//! ```
//!
//! # Putting a node of one's own on the network
//! ```
//! use std::collections::VecDeque;
//! use nic::QueuePair;
//! use sim::{LinkConfig, LinkEnd, Network, Node};
//! use stack::Instant;
//!
//! /// Sends every packet back where it came from.
//! struct Mirror(LinkEnd);
//!
//! impl Node for Mirror {
//!     fn turn(&mut self, _now: Instant) {
//!         let mut burst = nic::Burst::new();
//!         self.0.receive(&mut burst);
//!         self.0.transmit(&mut burst);
//!     }
//!
//!     fn next_deadline(&self) -> Option<Instant> {
//!         self.0.has_arrived().then_some(Instant::ZERO)
//!     }
//! }
//!
//! let mut network = Network::new(1);
//! let (left, right) = network.link("mirror", LinkConfig::default());
//! network.add(Mirror(right));
//! left.send(&[0; 60]).expect("the ring is empty");
//! assert!(network.run_until(std::time::Duration::from_secs(1), || left.has_arrived()));
//! ```
//!
//! Two runs of one seed give the same trace, byte for byte: nothing here reads a clock, a thread or a map whose order
//! is not fixed.
#![forbid(unsafe_code)]

mod clock;
mod end;
mod fault;
pub mod grid;
mod host;
mod line;
mod link;
mod network;
mod packet;
mod pair;
mod random;
mod router;
pub mod seed;
mod trace;
mod wire;

pub use clock::Clock;
pub use end::LinkEnd;
pub use fault::{Bursts, LinkFaults};
pub use host::{Host, HostCounters};
pub use link::{LinkConfig, Way};
pub use network::{Network, Node, NodeNumber};
pub use pair::{Address, HostPair, PairConfig};
pub use random::Random;
pub use router::{Router, RouterCounters};
pub use trace::{Fate, Trace};
