//! Why a packet died. Each reason is one counter and has a test that names it.

macro_rules! discards {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Why a packet was not used. A packet that dies increments exactly one of these.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Discard { $($(#[doc = $doc])* $variant,)* }

        impl Discard {
            /// Every reason, in the order of their numbers.
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
    // ---- the link ----
    /// An interface that the stack does not have.
    InterfaceUnknown = "interface_unknown",
    /// Shorter than an Ethernet header.
    EthernetTruncated = "ethernet_truncated",
    /// Not sent to our hardware address, broadcast or a multicast group of ours.
    EthernetNotOurs = "ethernet_not_ours",
    /// A group address as the sender's hardware address.
    EthernetSourceGroup = "ethernet_source_group",
    /// An EtherType that is none of IPv4, IPv6 or ARP.
    EthernetUnknownType = "ethernet_unknown_type",
    /// A unicast packet in a frame to a group (RFC 1122, 3.3.6).
    EthernetGroupUnicast = "ethernet_group_unicast",
    /// A VLAN tag that no interface here has, or none where one is needed.
    VlanUnknown = "vlan_unknown",
    /// Two VLAN tags (QinQ), which no interface here carries.
    VlanStacked = "vlan_stacked",
    /// No room before the packet for the tag of the interface that it leaves by.
    NoHeadroom = "no_headroom",

    // ---- neighbours ----
    /// ARP that is cut short, not IPv4 over Ethernet, or neither request nor reply.
    ArpMalformed = "arp_malformed",
    /// Neighbour discovery that RFC 4861, 7.1 calls invalid.
    NdpMalformed = "ndp_malformed",
    /// Neighbour discovery that came through a router: its hop limit is not 255.
    NdpHopLimit = "ndp_hop_limit",
    /// A neighbour whose hardware address is a group, zero or ours.
    NeighbourBadMac = "neighbour_bad_mac",
    /// A neighbour that says it has an address of ours.
    NeighbourClaimsOurAddress = "neighbour_claims_our_address",
    /// Nobody answers for the next hop: what waited for it died.
    NeighbourUnresolved = "neighbour_unresolved",
    /// A claim to a neighbour's address that the neighbour itself denied: somebody forges ARP or NDP.
    NeighbourClaimDenied = "neighbour_claim_denied",
    /// Enough packets wait for that next hop already.
    NeighbourQueueFull = "neighbour_queue_full",
    /// The next hop's place in the neighbour table was taken while the packet waited.
    NeighbourEvicted = "neighbour_evicted",

    // ---- IP ----
    /// Shorter than its IPv4 header.
    Ipv4Truncated = "ipv4_truncated",
    /// Not version 4 behind IPv4's EtherType.
    Ipv4Version = "ipv4_version",
    /// An IPv4 header length under 20 bytes.
    Ipv4HeaderLength = "ipv4_header_length",
    /// An IPv4 total length that is less than the header or more than what arrived.
    Ipv4TotalLength = "ipv4_total_length",
    /// A wrong IPv4 header checksum.
    Ipv4Checksum = "ipv4_checksum",
    /// An IPv4 option that overruns the header.
    Ipv4Options = "ipv4_options",
    /// Shorter than an IPv6 header.
    Ipv6Truncated = "ipv6_truncated",
    /// Not version 6 behind IPv6's EtherType.
    Ipv6Version = "ipv6_version",
    /// An IPv6 payload length that is more than what arrived.
    Ipv6PayloadLength = "ipv6_payload_length",
    /// An IPv6 extension header that overruns the packet or the first chunk.
    Ipv6ExtensionTruncated = "ipv6_extension_truncated",
    /// Hop-by-hop options that are not first (RFC 8200, 4.1).
    Ipv6ExtensionOrder = "ipv6_extension_order",
    /// More extension headers than a packet has reason to have.
    Ipv6ExtensionsTooMany = "ipv6_extensions_too_many",
    /// More IPv6 options, or more padding, than a packet has reason to have (RFC 8504, section 5.3).
    Ipv6OptionsTooMany = "ipv6_options_too_many",
    /// A first fragment of IPv6 that ends before the protocol's header does (RFC 7112).
    Ipv6FirstFragmentShort = "ipv6_first_fragment_short",
    /// An unknown IPv6 option that says not to skip it.
    Ipv6OptionRefused = "ipv6_option_refused",
    /// A source route: IPv4's options, or an IPv6 routing header with segments left (RFC 5095, RFC 7126).
    IpSourceRoute = "ip_source_route",
    /// From its own destination (LAND).
    IpLand = "ip_land",
    /// From an address that no host has, or the broadcast address of the interface's prefix.
    IpMartianSource = "ip_martian_source",
    /// To an address that no packet on a wire has.
    IpMartianDestination = "ip_martian_destination",
    /// From an address that is ours.
    IpSourceOurs = "ip_source_ours",
    /// To an address that is neither ours nor intercepted on that interface.
    IpNotOurs = "ip_not_ours",
    /// To a multicast or broadcast address.
    IpGroup = "ip_group",
    /// A protocol that is none of ICMP, TCP or UDP.
    IpUnknownProtocol = "ip_unknown_protocol",

    /// Its TTL or hop limit ended here.
    IpHopsExceeded = "ip_hops_exceeded",
    /// Longer than the way on carries, and it may not be fragmented.
    IpTooBig = "ip_too_big",
    /// No route to where it goes.
    NoRoute = "no_route",

    // ---- fragments ----
    /// A fragment without bytes, or one in the middle that does not end at a multiple of eight.
    FragmentLength = "fragment_length",
    /// A fragment that would make a packet of more than 65,535 bytes.
    FragmentTooLong = "fragment_too_long",
    /// A fragment that came twice.
    FragmentDuplicate = "fragment_duplicate",
    /// A fragment that overlaps another or the packet's end: the packet is given up (RFC 5722).
    FragmentOverlap = "fragment_overlap",
    /// A fragment of IPv6 to a packet that was given up for an overlap: it stays given up (RFC 8200, section 4.5).
    FragmentOfRefused = "fragment_of_refused",
    /// A packet that was put together from fragments and is one again.
    FragmentNested = "fragment_nested",
    /// A packet in more fragments than any link makes of it.
    FragmentsTooMany = "fragments_too_many",
    /// More bytes than may wait for fragments, or more whole packets than wait for another worker.
    ReassemblyFull = "reassembly_full",
    /// Its packet was the oldest that waited for fragments when a newer one needed the room.
    ReassemblyEvicted = "reassembly_evicted",
    /// The other fragments did not come in time.
    ReassemblyTimeout = "reassembly_timeout",

    // ---- ICMP ----
    /// Shorter than an ICMP header, or its header not in the first chunk.
    IcmpTruncated = "icmp_truncated",
    /// A wrong ICMP checksum.
    IcmpChecksum = "icmp_checksum",
    /// An ICMP message that asks for nothing we do.
    IcmpUnsupported = "icmp_unsupported",
    /// More echo requests than are answered a second.
    IcmpEchoLimited = "icmp_echo_limited",
    /// More errors than are translated a second.
    IcmpErrorLimited = "icmp_error_limited",
    /// An ICMP error whose quoted packet cannot be read.
    IcmpQuote = "icmp_quote",
    /// An ICMP error about a flow that does not exist.
    IcmpUnknownFlow = "icmp_unknown_flow",

    // ---- TCP ----
    /// Shorter than a TCP header, or its header not in the first chunk.
    TcpTruncated = "tcp_truncated",
    /// A wrong TCP checksum, or an unfinished one where none may be.
    TcpChecksum = "tcp_checksum",
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
    /// A keepalive or window probe; answered.
    TcpProbe = "tcp_probe",
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
    /// Text that overtook the cookie's acknowledgement that it builds on; the peer sends that again.
    TcpCookieAwaited = "tcp_cookie_awaited",
    /// An acknowledgement to a listener that answers with cookies, and of none of them; answered with a reset.
    TcpCookieInvalid = "tcp_cookie_invalid",
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
    /// An ICMP error with a path MTU that no path of IPv6 has (RFC 8201, 4).
    TcpIcmpMtu = "tcp_icmp_mtu",
    /// An ICMP error that calls too long what just arrived; believed if the segment stays lost (RFC 5927, 7.2).
    TcpIcmpDoubted = "tcp_icmp_doubted",

    // ---- UDP ----
    /// Shorter than a UDP header, or its header not in the first chunk.
    UdpTruncated = "udp_truncated",
    /// A UDP length that is less than the header or more than what arrived.
    UdpLength = "udp_length",
    /// A wrong UDP checksum, or an unfinished one where none may be.
    UdpChecksum = "udp_checksum",
    /// No UDP checksum over IPv6.
    UdpChecksumMissing = "udp_checksum_missing",
    /// Longer than the interface's MTU: several datagrams that have lost their boundaries.
    UdpMerged = "udp_merged",
    /// Nothing is there for that address and port.
    UdpPortUnreachable = "udp_port_unreachable",
    /// The socket holds as many datagrams as it may.
    UdpQueueFull = "udp_queue_full",

    // ---- datagram sessions ----
    /// As many sessions as may be exist.
    SessionsFull = "sessions_full",
    /// Client and endpoint are of two address families.
    SessionFamily = "session_family",
    /// The endpoint is an address of ours: nothing would come back.
    SessionToOurselves = "session_to_ourselves",
    /// Every source port towards the endpoint that steers home is taken.
    SessionPortsExhausted = "session_ports_exhausted",
    /// A datagram of a workload's session that came by another interface.
    SessionInterface = "session_interface",
    /// An answer from an endpoint that the session has just been taken away from.
    SessionMoved = "session_moved",

    // ---- sending ----
    /// The stack's own queue of packets is full.
    OutboxFull = "outbox_full",
    /// The interface went away while the packet waited.
    InterfaceGone = "interface_gone",
    /// No address of ours to send from.
    NoSourceAddress = "no_source_address",

    // ---- datagram sessions, judged by the proxy ----
    /// No datagram listener serves this address and port for the source's class.
    DatagramNoListener = "datagram_no_listener",
    /// The share of an invalid backend, or of a route whose weights are all zero.
    DatagramNoBackend = "datagram_no_backend",
    /// No endpoint of the chosen backend is ready.
    DatagramNoEndpoint = "datagram_no_endpoint",

    // ---- the worker, around the stack ----
    /// No worker has a queue of the interface that it leaves by.
    NoTransmitQueue = "no_transmit_queue",
    /// The transmit ring and the burst before it are full.
    TransmitFull = "transmit_full",
    /// The ring to the worker that owns the flow or the queue is full.
    RingFull = "ring_full",
    /// As many requests for connections wait for their share of the worker's turns as may.
    NewcomersFull = "newcomers_full",
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

    /// Counts several packets that died of one cause.
    pub fn count_many(&mut self, reason: Discard, packets: usize) {
        self.0[reason as usize] += packets as u64;
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
