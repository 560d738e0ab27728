//! Why a packet died. Each reason is one counter and has a test that names it.

macro_rules! discards {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was not used. A packet that dies increments exactly one of these.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Discard { $($(#[doc = $doc])* $variant,)* }

        impl Discard {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that counters and tests use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The sentence that operators read.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)* ""),)* }
            }
        }
    };
}

discards! {
    /// Shorter than an Ethernet header.
    EthernetTruncated = "ethernet_truncated",
    /// Not sent to our hardware address, broadcast or a multicast group of ours.
    EthernetNotOurs = "ethernet_not_ours",
    /// An EtherType that is none of IPv4, IPv6 or ARP.
    EthernetUnknownType = "ethernet_unknown_type",
    /// A VLAN tag that no interface here has, or none where one is needed.
    VlanUnknown = "vlan_unknown",
    /// Shorter than a TCP header.
    TcpTruncated = "tcp_truncated",
    /// A TCP data offset below five words or past the segment's end.
    TcpBadDataOffset = "tcp_bad_data_offset",
    /// A TCP port of zero.
    TcpPortZero = "tcp_port_zero",
    /// A segment to no connection and no listener; answered with a reset unless it is one.
    TcpNoFlow = "tcp_no_flow",
    /// A segment with control bits that its connection's state has no use for.
    TcpUnexpected = "tcp_unexpected",
    /// Text that is here already (a retransmission whose acknowledgement was lost).
    TcpDuplicate = "tcp_duplicate",
    /// A sequence number or text beyond the receive window.
    TcpOutOfWindow = "tcp_out_of_window",
    /// A timestamp older than the last one (PAWS).
    TcpTimestampOld = "tcp_timestamp_old",
    /// No timestamp though both sides agreed on them.
    TcpTimestampMissing = "tcp_timestamp_missing",
    /// A segment without an ACK bit where every segment has one.
    TcpAckMissing = "tcp_ack_missing",
    /// An acknowledgement of what was never sent, or of long ago.
    TcpAckInvalid = "tcp_ack_invalid",
    /// A reset that ended its connection.
    TcpReset = "tcp_reset",
    /// A reset with a sequence number outside of the window, or without the acknowledgement it needs.
    TcpResetInvalid = "tcp_reset_invalid",
    /// A reset inside the window but not at its start; challenged (RFC 5961).
    TcpResetChallenged = "tcp_reset_challenged",
    /// A reset to a connection in TIME-WAIT (RFC 1337).
    TcpResetInTimeWait = "tcp_reset_in_time_wait",
    /// A SYN to an established connection; challenged (RFC 5961).
    TcpSynChallenged = "tcp_syn_challenged",
    /// A SYN answered by a cookie, because the listener's backlog is full.
    TcpSynCookie = "tcp_syn_cookie",
    /// A SYN or a cookie's acknowledgement while nobody accepts what waits already.
    TcpBacklogFull = "tcp_backlog_full",
    /// A cookie's acknowledgement while the worker has as many connections as it may.
    TcpFlowsFull = "tcp_flows_full",
    /// Text for a connection whose user has let go; answered with a reset.
    TcpAfterClose = "tcp_after_close",
    /// Text out of order with more holes than a connection may have.
    TcpOutOfOrderFull = "tcp_out_of_order_full",
    /// Text for which the worker's memory budget has no room.
    TcpMemory = "tcp_memory",
    /// An ICMP error that quotes no connection of ours.
    TcpIcmpNoFlow = "tcp_icmp_no_flow",
    /// An ICMP error that quotes a sequence number not in flight (RFC 5927).
    TcpIcmpOutOfWindow = "tcp_icmp_out_of_window",
}

/// One counter a reason.
#[derive(Clone, Debug)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Default for Discards {
    fn default() -> Self {
        Self([0; Discard::ALL.len()])
    }
}

impl Discards {
    pub fn count(&mut self, reason: Discard) {
        self.0[reason as usize] += 1;
    }

    pub fn of(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Discard, u64)> + '_ {
        Discard::ALL.iter().map(|&reason| (reason, self.of(reason)))
    }
}
