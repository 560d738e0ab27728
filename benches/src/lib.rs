//! What a segment, a datagram, a request and an idle connection cost, in instructions, allocations and bytes: counts
//! that repeat on a noisy machine. `docs/benchmarks.md` says how to run them and what each one counts.
//!
//! A case lays out a scene, warms it up, and lets a [`count::Meter`] count only the work of the one under test: what
//! plays the peers runs beside it and is not counted.
//!
//! ```text
//!   main ──▶ cases ──▶ stack, nic, relay ──▶ scene, packets ──▶ count
//!     └────▶ runner (runs a case by itself, and under callgrind) ──▶ baseline (compares), report (prints)
//! ```
#![forbid(unsafe_code)]

pub mod baseline;
pub mod cases;
pub mod count;
pub mod nic;
mod packets;
mod profile;
pub mod relay;
pub mod report;
pub mod runner;
mod scene;
pub mod stack;
