//! TCP: what the socket crate sees of it.

mod acknowledge;
mod arrival;
mod assembler;
pub(crate) mod boundary;
mod calls;
mod census;
mod congestion;
mod connection;
mod cookie;
mod deadlines;
mod demux;
mod ecn;
pub(crate) mod engine;
mod episode;
mod flows;
mod frto;
mod greed;
mod header;
mod in_flight;
mod listener;
mod marks;
mod memory;
mod merged;
mod narrow_path;
mod ordinary;
mod output;
mod pacing;
mod path_search;
mod ports;
mod rack;
mod recovery;
mod reduction;
mod round_meter;
mod rtt;
mod scoreboard;
mod segment;
mod sent;
mod sequence;
mod slab;
mod tail_probe;
#[cfg(test)]
mod tests;
mod timewait;
mod tuning;
mod tuple;
mod undo;
mod user;
mod volley;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use crate::{InterfaceId, Prefix};

/// Names a connection for its life: a stale key misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

/// Names a listener.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenerKey {
    pub(crate) slot: u32,
    /// Lives before this one, and one: a connection's `Option` of a key is no larger than a key.
    pub(crate) life: NonZeroU32,
}

impl ListenerKey {
    pub(crate) fn new(slot: u32, life: u32) -> Self {
        Self { slot, life: NonZeroU32::MIN.saturating_add(life) }
    }

    /// As the slab counts.
    pub(crate) fn lives(self) -> u32 {
        self.life.get() - 1
    }
}

/// What a listener accepts. The most exact listener wins: address before prefix before any; port before any;
/// interface before any.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListenSpec {
    /// Local addresses (as the peer wrote them: the original destination).
    pub addresses: Prefix,
    /// `None`: every port.
    pub port: Option<u16>,
    /// `None`: every interface.
    pub interface: Option<InterfaceId>,
}

/// Behaviour of one connection, or of all that a listener accepts.
#[derive(Clone, Debug)]
pub struct TcpOptions {
    /// Bound of the receive buffer, and so of the window (bytes): what it is tuned up to. Linux's tcp_rmem.
    pub receive_buffer_bytes: usize,
    /// Bound of the send buffer (bytes): what it is tuned up to. Linux's tcp_wmem.
    pub send_buffer_bytes: usize,
    /// Half-open and not yet accepted connections a listener holds.
    pub backlog: usize,
    /// Time for a connect to succeed.
    pub connect_timeout: Duration,
    /// Idle time before keepalive probes; `None`: no probes.
    pub keepalive: Option<Duration>,
    /// How long what was written may go without progress before the connection is reset, also while the peer keeps its
    /// window closed (RFC 5482, section 3; Linux's TCP_USER_TIMEOUT). `None`: as long as retransmission goes on.
    pub user_timeout: Option<Duration>,
    pub congestion: Congestion,
    /// Spread what a window lets go over its round trip, where that is a millisecond or more. BBR always does.
    pub pacing: bool,
    pub ecn: Ecn,
    /// Send small segments at once (TCP_NODELAY).
    pub no_delay: bool,
}

/// How wide the congestion window is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Congestion {
    /// RFC 9438 with HyStart++ (RFC 9406).
    #[default]
    Cubic,
    /// RFC 5681 and RFC 6582.
    NewReno,
    /// Version 3 (draft-ietf-ccwg-bbr): by what the path delivered, not by what it lost.
    Bbr,
}

impl Congestion {
    pub const ALL: [Self; 3] = [Self::Cubic, Self::NewReno, Self::Bbr];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
            Self::Bbr => "bbr",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

/// Explicit congestion notification (RFC 3168).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ecn {
    Off,
    /// For who asks, as Linux does.
    #[default]
    Passive,
    /// Asks for it too; a SYN that gets no answer is sent again without.
    Active,
}

impl Ecn {
    pub const ALL: [Self; 3] = [Self::Off, Self::Passive, Self::Active];

    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Passive => "passive",
            Self::Active => "active",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            receive_buffer_bytes: 6 << 20,
            send_buffer_bytes: 4 << 20,
            backlog: 1024,
            connect_timeout: Duration::from_secs(5),
            keepalive: Some(Duration::from_secs(7200)),
            user_timeout: None,
            congestion: Congestion::default(),
            pacing: false,
            ecn: Ecn::default(),
            no_delay: true,
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TcpError {
    /// The peer reset the connection.
    Reset,
    /// The peer refused the connection.
    Refused,
    /// No answer within the connect timeout, the retransmission limit or the keepalive limit.
    TimedOut,
    /// ICMP said the destination cannot be reached, or no route is left.
    Unreachable,
    /// Reset here: memory was short, and the peer let go of next to nothing of what it made us hold.
    Cut,
    /// The key's connection is gone, or this side has shut down writing.
    Closed,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    NoRoute,
    /// No address of ours is of the remote's family on the outgoing interface.
    NoSourceAddress,
    /// Every source port towards the remote that steers home is taken.
    PortsExhausted,
    /// The worker's connection limit is reached.
    TooManyFlows,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ListenError {
    InUse,
    TooManyListeners,
}

/// What TCP tells its user; [`crate::Event`] has one of each. TCP's own, so that it need not name the stack.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum TcpEvent {
    Connected(FlowKey),
    Readable(FlowKey),
    Writable(FlowKey),
    Acceptable(ListenerKey),
}

/// What became of a wish to move bytes from one connection to another.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Splice {
    /// So many were moved.
    Moved(usize),
    /// The reader's stream has ended; nothing is left to move.
    Ended,
    /// Nothing is there to read: an [`crate::Event::Readable`] of the reader follows.
    AwaitsText,
    /// The writer has no room: an [`crate::Event::Writable`] of it follows.
    AwaitsRoom,
}

/// What an operator or the proxy may ask of a connection.
#[derive(Copy, Clone, Debug)]
pub struct TcpInfo {
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub interface: Option<InterfaceId>,
    pub state: &'static str,
    pub smoothed_rtt: Option<Duration>,
    /// The name of its congestion control.
    pub congestion: &'static str,
    pub congestion_window_bytes: u32,
    /// Our text is sent as ECN-capable.
    pub ecn: bool,
    pub retransmitted_segments: u32,
}

/// What TCP holds now: all of it is zero when the last connection, its rest and the last listener are over.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpHoldings {
    /// In whatever state but TIME-WAIT, those that are over and still held by their user included.
    pub connections: usize,
    pub time_waits: usize,
    pub listeners: usize,
    /// Bytes of buffers that connections hold.
    pub buffer_bytes: usize,
    /// Timers that connections have armed.
    pub timers: usize,
}

/// Source address and destination address of a segment's IP packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressPair {
    pub source: IpAddr,
    pub destination: IpAddr,
}
