//! What lies between TCP and the IP layer below it, in both directions. Neither side knows more of the other.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use crate::{Full, InterfaceId};

/// What IP knows of a segment that arrived. The TCP checksum has been verified.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Arrival {
    pub interface: InterfaceId,
    pub local: IpAddr,
    pub remote: IpAddr,
    /// The two ECN bits of its packet (RFC 3168, section 5).
    pub ecn: u8,
}

/// Where a connection's packets go, resolved once and kept by the connection; IP checks that it still holds.
/// The default value is "not resolved yet".
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Path {
    pub interface: Option<InterfaceId>,
    /// Index of the neighbour entry, private to IP.
    pub neighbour: u32,
    /// Generation of routes and neighbours under which this was resolved, private to IP.
    pub generation: u32,
}

/// What an ICMP error says of a segment of ours.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum IcmpError {
    /// Port or protocol unreachable: nobody listens there (RFC 1122, section 4.2.3.9: hard).
    Refused,
    /// Network or host unreachable, time exceeded, parameter problem (soft).
    Unreachable,
    /// Fragmentation needed, or packet too big: IP bytes that fit.
    TooBig { mtu: u16 },
}

/// Why IP did not take a segment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The interface takes no more this turn: offer it again next turn.
    Full,
    /// The next hop's hardware address is being resolved; a bounded number waits, this one did not fit. RTO resends.
    Resolving,
    NoRoute,
}

impl From<Full> for Refused {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// IP, as TCP sees it while it transmits.
pub(crate) trait SegmentSink {
    /// What follows goes from `local` to `remote`. Resolves `path` again where routes or neighbours changed.
    /// IP bytes of a packet that `path` carries (for the MSS), or `NoRoute`.
    fn open(&mut self, local: SocketAddr, remote: SocketAddr, path: &mut Path) -> Result<u16, Refused>;

    /// Whether the device on the path that was opened last cuts a long packet into segments ([`Outgoing::segment_bytes`]).
    fn cuts(&mut self) -> bool {
        false
    }

    /// Sends one segment along what was opened last. IP fills in the checksum (or leaves it to the device), adds IP and
    /// Ethernet headers and resolves the next hop.
    fn send(&mut self, segment: &Outgoing<'_>) -> Result<(), Refused>;
}

#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// The TCP header with options, its checksum zero.
    pub header: &'a [u8],
    /// Up to two slices of a ring buffer, oldest first.
    pub payload: [&'a [u8]; 2],
    pub ecn: u8,
    /// Text of each segment but the last that the device is to cut this one into; `None`: it is one.
    pub segment_bytes: Option<NonZeroU16>,
}
