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

    /// No datagram listener serves this address and port for the source's class.
    DatagramNoListener = "datagram_no_listener",
    /// The share of an invalid backend, or of a route whose weights are all zero.
    DatagramNoBackend = "datagram_no_backend",
    /// No endpoint of the chosen backend is ready.
    DatagramNoEndpoint = "datagram_no_endpoint",
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
