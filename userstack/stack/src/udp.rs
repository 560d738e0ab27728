//! UDP sockets for tasks.

/// Names a UDP socket; a stale one misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpKey {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum UdpError {
    /// The address and port are bound already.
    InUse,
    /// The key's socket is gone.
    Closed,
    /// No route to the destination.
    Unreachable,
    /// Longer than one IP packet carries.
    TooLong,
}
