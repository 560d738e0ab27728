//! Datagram sessions: the first packet is judged, what follows is rewritten in place.
//!
//! ```text
//!   client ----> service            ours ----> endpoint
//!           forth: matched on the left, written as on the right
//!   client <---- service            ours <---- endpoint
//!           back:  matched on the right, written as on the left
//! ```
//!
//! This file is what the caller sees. `table` finds sessions, `rewrite` changes packets, `rtp` watches media.

pub(crate) mod rewrite;
pub(crate) mod rtp;
pub(crate) mod table;

pub use rtp::RtpStream;

use crate::{Discard, Instant, InterfaceId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    /// What the endpoints have to carry already.
    pub load: &'a SessionCounts,
}

/// How many sessions each endpoint has. Ordered: endpoints are few, and one seed must mean one order.
#[derive(Clone, Debug, Default)]
pub struct SessionCounts(BTreeMap<SocketAddr, u32>);

impl SessionCounts {
    pub fn of(&self, endpoint: SocketAddr) -> u32 {
        self.0.get(&endpoint).copied().unwrap_or(0)
    }

    pub fn add(&mut self, endpoint: SocketAddr) {
        *self.0.entry(endpoint).or_insert(0) += 1;
    }

    pub fn remove(&mut self, endpoint: SocketAddr) {
        if let Entry::Occupied(mut count) = self.0.entry(endpoint) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What becomes of a datagram session. Only [`Forward::Rewrite`] makes one: the others are asked for again with every
/// datagram, so that no state exists for what was not admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// Both directions are rewritten in place.
    Rewrite(Rewrite),
    /// To the UDP socket bound to the destination.
    Deliver,
    /// It dies under that reason. `Drop(Discard::UdpPortUnreachable)` says that nobody is there: a socket bound to the
    /// destination gets it, else its sender is told by ICMP.
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

/// One session, as listed or when it ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub client: SocketAddr,
    /// The original destination.
    pub service: SocketAddr,
    /// Source of what the endpoint gets.
    pub ours: SocketAddr,
    pub endpoint: SocketAddr,
    /// Where the client's datagrams arrive.
    pub interface: InterfaceId,
    pub tag: u32,
    pub version: u64,
    pub last_used: Instant,
    pub to_endpoint: Traffic,
    pub to_client: Traffic,
    /// Streams that proved to be RTP.
    pub rtp: [Option<RtpStream>; rtp::MAX_STREAMS],
}

/// What went one way.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub packets: u64,
    /// UDP payload bytes.
    pub bytes: u64,
}
