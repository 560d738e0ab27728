//! What a run reached: TCP's states, kinds of fault, what became of packets, and why they were discarded.

use std::collections::BTreeMap;
use std::fmt;

use stack::Discard;

use super::plan::Fault;
use crate::Fate;

/// RFC 9293's states, as the stack names them.
const STATES: [&str; 11] = [
    "listen",
    "syn-sent",
    "syn-received",
    "established",
    "fin-wait-1",
    "fin-wait-2",
    "close-wait",
    "closing",
    "last-ack",
    "time-wait",
    "closed",
];

/// What no seed reaches, and why.
pub const UNREACHABLE: &[(&str, &str)] = &[
    ("interface_unknown", NO_SUCH_HOST),
    ("interface_gone", NO_SUCH_HOST),
    ("no_source_address", NO_SUCH_HOST),
    ("ip_source_ours", NO_SUCH_HOST),
    ("no_headroom", "a simulated frame has room before its first byte"),
    ("neighbour_evicted", TOO_MANY),
    ("neighbour_queue_full", "a connection waits for its neighbour itself, and hosts here send no datagrams"),
    ("icmp_echo_limited", TOO_MANY),
    ("outbox_full", TOO_MANY),
    ("tcp_flows_full", TOO_MANY),
    ("udp_merged", "a link carries no packet above its MTU"),
    ("ip_hops_exceeded", NO_SESSIONS),
    ("ip_too_big", NO_SESSIONS),
    ("no_route", NO_SESSIONS),
    ("icmp_error_limited", NO_SESSIONS),
    ("sessions_full", NO_SESSIONS),
    ("session_family", NO_SESSIONS),
    ("session_to_ourselves", NO_SESSIONS),
    ("session_ports_exhausted", NO_SESSIONS),
    ("session_interface", NO_SESSIONS),
    ("session_moved", NO_SESSIONS),
    ("datagram_no_listener", NO_SESSIONS),
    ("datagram_no_backend", NO_SESSIONS),
    ("datagram_no_endpoint", NO_SESSIONS),
    ("no_transmit_queue", NO_WORKER),
    ("transmit_full", NO_WORKER),
    ("ring_full", NO_WORKER),
    ("newcomers_full", NO_WORKER),
];
const NO_SUCH_HOST: &str = "a host here has one interface for ever, with an address of each family";
const TOO_MANY: &str = "takes thousands of packets or connections at once: the stack's own tests send them";
const NO_SESSIONS: &str = "hosts here end datagrams and forward none: tests/sim_mesh does";
const NO_WORKER: &str = "the worker's, and hosts here have none: tests/sim_mesh does";

const MERGED: &str = "merged";

/// Which of RFC 9293's states were seen: a bit each, so that looking costs little.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct SeenStates(u16);

impl SeenStates {
    pub(super) fn see(&mut self, name: &str) {
        // Names differ in their lengths and first letters: few are compared whole.
        let index = STATES.iter().position(|state| *state == name);
        self.0 |= 1 << index.expect("the stack names the states of the list");
    }
}

/// Counts by what they count: `"state"`, `"fault"`, `"packet"` or `"discard"`, and its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached(BTreeMap<(&'static str, &'static str), u64>);

impl Reached {
    pub(super) fn states(&mut self, seen: SeenStates) {
        let names = STATES.iter().enumerate().filter(|(index, _)| seen.0 & 1 << index != 0);
        names.for_each(|(_, name)| self.add("state", name, 1));
    }

    pub(super) fn fault(&mut self, name: &'static str) {
        self.add("fault", name, 1);
    }

    pub(super) fn packets(&mut self, fate: Fate, packets: u64) {
        self.add("packet", fate.name(), packets);
    }

    /// Segments that went in as one with others of their burst.
    pub(super) fn merged(&mut self, packets: u64) {
        self.add("packet", MERGED, packets);
    }

    pub(super) fn discards(&mut self, discard: Discard, packets: u64) {
        self.add("discard", discard.name(), packets);
    }

    fn add(&mut self, kind: &'static str, name: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry((kind, name)).or_default() += times;
        }
    }

    /// Adds what another seed reached.
    pub fn merge(&mut self, other: &Self) {
        for (key, times) in &other.0 {
            *self.0.entry(*key).or_default() += times;
        }
    }

    /// What was never reached though it can be.
    pub fn missing(&self) -> Vec<String> {
        let excused = |name: &str| UNREACHABLE.iter().any(|(listed, _)| *listed == name);
        let all = all().filter(|(kind, name)| !self.0.contains_key(&(*kind, *name)) && !excused(name));
        all.map(|(kind, name)| format!("{kind} {name}")).collect()
    }

    /// What is listed as out of reach and was reached all the same.
    pub fn wrongly_listed(&self) -> Vec<&'static str> {
        let reached = |name: &str| self.0.keys().any(|(_, reached)| *reached == name);
        UNREACHABLE.iter().map(|(name, _)| *name).filter(|name| reached(name)).collect()
    }
}

fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let states = STATES.iter().map(|name| ("state", *name));
    let faults = Fault::NAMES.iter().map(|name| ("fault", *name));
    let fates = Fate::ALL.iter().map(|fate| ("packet", fate.name()));
    let merged = std::iter::once(("packet", MERGED));
    let discards = Discard::ALL.iter().map(|discard| ("discard", discard.name()));
    states.chain(faults).chain(fates).chain(merged).chain(discards)
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, name), times) in &self.0 {
            writeln!(f, "{kind:<8} {name:<28} {times:>12}")?;
        }
        Ok(())
    }
}
