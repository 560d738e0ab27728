//! What IP needs to know of a received packet, whichever version it is, and the checks that both versions share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Discard;

/// A checked IP header. Offsets count from the packet's first byte, which is Ethernet's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// The protocol behind all extension headers.
    pub protocol: u8,
    /// TTL or hop limit.
    pub hops: u8,
    /// The two ECN bits (RFC 3168, section 5).
    pub ecn: u8,
    /// IPv4's DF bit; always set for IPv6, which no router fragments.
    pub dont_fragment: bool,
    /// Where the IP header begins.
    pub network: usize,
    /// Where the number of the protocol lies.
    pub protocol_at: usize,
    /// Where the protocol's header begins.
    pub transport: usize,
    /// Where the packet ends; what follows is Ethernet padding.
    pub end: usize,
    /// Set when this is a part of a packet. `transport` is then where the part's bytes begin.
    pub fragment: Option<Fragment>,
}

impl Header {
    /// Bytes of the protocol's header and payload.
    pub fn transport_len(&self) -> usize {
        self.end - self.transport
    }

    /// IP bytes.
    pub fn packet_len(&self) -> usize {
        self.end - self.network
    }
}

/// Which part of which packet a fragment is (RFC 791, section 3.2; RFC 8200, section 4.5).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub identification: u32,
    /// Bytes of the fragmentable part that lie before it.
    pub offset: usize,
    /// More parts follow.
    pub more: bool,
    /// IPv6: where the number lies that says that a fragment header comes next, so that it can be taken out.
    pub named_at: usize,
}

/// Addresses that no packet may have (RFC 1122, section 3.2.1.3; RFC 4291, sections 2.5.2, 2.5.3 and 2.7), and LAND:
/// a packet from its own destination.
pub(crate) fn check_addresses(source: IpAddr, destination: IpAddr) -> Result<(), Discard> {
    if source == destination {
        return Err(Discard::IpLand);
    }
    let (bad_source, bad_destination) = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            (is_martian_source_v4(source), is_martian_destination_v4(destination))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            (is_martian_source_v6(source), is_martian_destination_v6(destination))
        }
        _ => (true, true),
    };
    if bad_source {
        return Err(Discard::IpMartianSource);
    }
    if bad_destination {
        return Err(Discard::IpMartianDestination);
    }
    Ok(())
}

fn is_martian_source_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    // 0/8 is "this network", 127/8 loopback, 224/4 multicast, 240/4 reserved and broadcast.
    first == 0 || first == 127 || first >= 224
}

fn is_martian_destination_v4(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first == 0 || first == 127
}

fn is_martian_source_v6(address: Ipv6Addr) -> bool {
    // The unspecified address is a source in duplicate address detection only: NDP judges it.
    address.is_multicast() || address.is_loopback() || address.to_ipv4_mapped().is_some()
}

fn is_martian_destination_v6(address: Ipv6Addr) -> bool {
    address.is_unspecified() || address.is_loopback() || address.to_ipv4_mapped().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(source: &str, destination: &str) -> Result<(), Discard> {
        check_addresses(source.parse().unwrap(), destination.parse().unwrap())
    }

    #[test]
    fn a_packet_from_its_own_destination_is_ip_land() {
        assert_eq!(check("10.0.0.1", "10.0.0.1"), Err(Discard::IpLand));
        assert_eq!(check("2001:db8::1", "2001:db8::1"), Err(Discard::IpLand));
    }

    #[test]
    fn sources_that_no_host_has_are_ip_martian_source() {
        for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
            assert_eq!(check(source, "10.0.0.1"), Err(Discard::IpMartianSource), "{source}");
        }
        for source in ["::1", "ff02::1", "::ffff:10.0.0.2"] {
            assert_eq!(check(source, "2001:db8::1"), Err(Discard::IpMartianSource), "{source}");
        }
    }

    #[test]
    fn destinations_that_no_wire_has_are_ip_martian_destination() {
        for destination in ["0.0.0.1", "127.0.0.1"] {
            assert_eq!(check("10.0.0.1", destination), Err(Discard::IpMartianDestination), "{destination}");
        }
        for destination in ["::", "::1", "::ffff:10.0.0.2"] {
            assert_eq!(
                check("2001:db8::1", destination),
                Err(Discard::IpMartianDestination),
                "{destination}"
            );
        }
    }
}
