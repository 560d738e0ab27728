//! Backends: what traffic knows of clusters and endpoints. It lives beside the snapshot and outlives it.
//!
//! ```text
//!  send ─> cluster (endpoints) ─> balance
//!    │        └ h1::Pool, h2::Links ─> dial
//!    └─ h1: one request a connection, driven by the request · h2: many streams, driven by a task
//! ```

mod attentive;
mod balance;
mod body;
mod cluster;
mod dial;
mod h1;
mod h2;
mod send;

pub(crate) use balance::draw;
pub(crate) use body::{IdleWatch, Leftover, Progress, RequestBody, Unread};
pub(crate) use cluster::{Cluster, Endpoint};
pub(crate) use h1::{H1, Tunnel};
pub(crate) use h2::StreamSlot;
pub(crate) use send::{Carrier, Upstream};
