//! `ringwayd`: wires workers, proxies, interfaces and tables together. The only place that knows all of them.
//!
//! ```text
//!  management thread (tokio, one)                         worker threads (one a CPU, pinned)
//!  ───────────────────────────────                        ───────────────────────────────────
//!  interfaces ─ attach ── sockets ───────────────────────▶ Worker::turn, looped by pinned::run
//!  mirror (netlink) ── routes, neighbours ── mailbox ────▶   stack
//!  tables (directory or xDS) ── Snapshot ─── mailbox ────▶   proxy
//!  identity ── join, renew, trust
//!  shares ── parts of the node's limits ──── mailbox ────▶   stack, proxy
//!  admin (HTTP) ◀── reports ──────────────── oneshot ◀────
//! ```
#![forbid(unsafe_code)]

mod admin;
mod attach;
mod capture;
pub mod config;
mod error;
#[cfg(test)]
mod fuzz;
mod housekeeping;
mod identity;
mod interfaces;
mod metrics;
mod mirror;
mod node;
mod pinned;
mod report;
mod saved;
mod secrets;
mod serve;
mod sessions;
mod shares;
mod tables;

pub use error::StartError;
pub use serve::{check, serve};
