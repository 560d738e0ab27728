//! Fuzz targets: bytes in, never a panic; and of what comes out, that it is well-formed.
//!
//! | target | bytes | checked beside panics |
//! |---|---|---|
//! | `frames` | frames into a stack: ARP, NDP, IP, fragments, ICMP, UDP sessions, VLAN, TCP | accounts add up; what is sent has right lengths and checksums |
//! | `segments` | segments into one connection | every byte read and sent is the stream's at that place |
//! | `peers` | what a middlebox does between two stacks | the same of both; where it was fair, both streams arrive |
//! | `resources` | YAML and JSON | what validation admits can be published and served |
//! | `xds` | messages of both ends of ADS | a table that was taken is the same after saving |
//!
//! HTTP bytes are fuzzed in `dataplane/proxy/src/tests/fuzz.rs`, saved tables and `node.yaml` in
//! `dataplane/daemon/src/fuzz.rs`: they need what their crates do not show. `tests::fuzz` is the runner and says how to
//! run longer and how to repeat a panic; the corpus is `tests/fuzz/corpus`.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod frames;
#[path = "../../../userstack/stack/tests/network/mod.rs"]
mod network;
mod node;
mod peers;
mod records;
mod resources;
mod segments;
mod xds;

/// A message without what only repeats the input.
fn shape(message: &str) -> String {
    message.chars().filter(char::is_ascii_alphabetic).take(80).collect()
}
