//! The proxy of one node: listen, route, balance, relay (streams and datagrams), check health, observe.
//!
//! The daemon compiles a [`Snapshot`] on its management thread and gives every worker's [`Proxy`] the same one. A
//! `Proxy` lives on one worker, knows no frame, queue or core, and runs on any [`Runtime`]: the socket crate on a
//! worker, in-memory pipes in the tests.
//!
//! ```text
//!  listen ─> sniff ─> http ──> exchange ──> upstream (pool, h1, h2) ─> backend       (http1: both sides' wire)
//!    │                           │ table (routes, filters)
//!    │                           └ answer (fault) when it ends here
//!    └──────────────> relay ──────────────> upstream (connect) ──────> backend
//!  datagram (admission) ──> Forward::Rewrite, and the stack does the rest
//! ```
#![forbid(unsafe_code)]

mod datagram;
mod engine;
mod fault;
mod gate;
mod health;
mod http;
mod http1;
mod limits;
mod listen;
mod observe;
mod proxy;
mod relay;
mod runtime;
mod samples;
mod sniff;
mod table;
#[cfg(test)]
mod tests;
mod upstream;
mod view;

pub use engine::ProxyConfig;
pub use limits::Limits;
pub use observe::{HealthReport, Sample, SampleKind};
pub use proxy::Proxy;
pub use runtime::{Accepted, Network, Runtime, Sockets};
pub use table::{RouteError, Snapshot, SnapshotError};
