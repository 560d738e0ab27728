//! Attacks, a family a file. Each test is one attack and says what it costs us; beside it stands a control, which is the
//! same shape without the attack or without the defence, and comes out the other way: so the check can fail.
//! `docs/attacks.md` has the table for operators.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[path = "../network/mod.rs"]
mod network;

mod backlog;
mod blind;
mod cost;
mod extension_headers;
mod forged_icmp;
mod fragments;
mod holders;
mod martians;
mod neighbours;
mod out_of_order;
mod peer;
mod predictability;
mod sack;
mod syn_flood;
mod target;
mod time_wait;
