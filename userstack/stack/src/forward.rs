//! Datagram sessions: the first packet is judged, what follows is rewritten in place.

use crate::{Discard, Instant, InterfaceId};
use std::net::SocketAddr;
use std::time::Duration;

/// Judges the first datagram of a session, before any state exists, and again after a table change.
/// The proxy implements it; the stack asks.
pub trait Admission {
    fn admit(&mut self, first: &FirstDatagram<'_>, now: Instant) -> Forward;
}

/// What is known of a session when it is judged.
#[derive(Debug)]
pub struct FirstDatagram<'a> {
    pub interface: InterfaceId,
    pub source: SocketAddr,
    /// As the sender wrote it: the original destination.
    pub destination: SocketAddr,
    /// The payload's bytes that lie in the first chunk.
    pub payload: &'a [u8],
    /// Where the session goes today, when it is judged again after a table change.
    pub current: Option<SocketAddr>,
}

/// What becomes of a datagram session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Both directions are rewritten in place.
    Rewrite(Rewrite),
    /// To the UDP socket bound to the destination.
    Deliver,
    Drop(Discard),
}

/// Where a rewritten session goes. The stack adds source address and port, next hop and interface itself, for both
/// directions at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub endpoint: SocketAddr,
    /// Idle time after which the session is forgotten.
    pub idle: Duration,
    /// The version of the table that decided this.
    pub version: u64,
    /// Caller's number for the route or cluster, handed back in session listings, so that counters have names.
    pub tag: u32,
}
