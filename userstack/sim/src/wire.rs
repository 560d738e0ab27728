//! The few header fields that a router and a trace read. Written for the simulator's own packets: what is malformed
//! is not recognised, and so not forwarded.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ETHERNET_BYTES: usize = 14;
/// With one 802.1Q tag.
pub(crate) const MAX_ETHERNET_BYTES: usize = 18;
pub(crate) const IPV4_BYTES: usize = 20;
pub(crate) const IPV6_BYTES: usize = 40;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_UDP: u8 = 17;
pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;

pub(crate) type Mac = [u8; 6];

/// The two bytes at `offset`, or zero beyond the end.
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    match bytes.get(offset..offset + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

pub(crate) fn ethertype(bytes: &[u8]) -> u16 {
    u16_at(bytes, 12)
}

pub(crate) fn is_ip(bytes: &[u8]) -> bool {
    matches!(ethertype(bytes), ETHERTYPE_IPV4 | ETHERTYPE_IPV6)
}

pub(crate) fn ipv4_at(bytes: &[u8], offset: usize) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.get(offset..offset + 4)?.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

pub(crate) fn ipv6_at(bytes: &[u8], offset: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = bytes.get(offset..offset + 16)?.try_into().ok()?;
    Some(Ipv6Addr::from(octets))
}

/// Source and destination of an IP packet behind an untagged Ethernet header.
pub(crate) fn addresses(bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match ethertype(bytes) {
        ETHERTYPE_IPV4 => Some((ipv4_at(bytes, 26)?.into(), ipv4_at(bytes, 30)?.into())),
        ETHERTYPE_IPV6 => Some((ipv6_at(bytes, 22)?.into(), ipv6_at(bytes, 38)?.into())),
        _ => None,
    }
}

/// The bytes from the Ethernet header to the end of the TCP, UDP or ICMP header; of an unknown packet its first 64.
pub(crate) fn headers(bytes: &[u8]) -> &[u8] {
    let (protocol, transport) = match ethertype(bytes) {
        ETHERTYPE_IPV4 if bytes.len() > 23 => (bytes[23], ETHERNET_BYTES + usize::from(bytes[14] & 0x0f) * 4),
        ETHERTYPE_IPV6 if bytes.len() > 20 => (bytes[20], ETHERNET_BYTES + IPV6_BYTES),
        _ => (0, 0),
    };
    let end = match protocol {
        PROTOCOL_TCP => {
            transport + bytes.get(transport + 12).map_or(20, |offset| usize::from(offset >> 4) * 4)
        }
        PROTOCOL_UDP | PROTOCOL_ICMP | PROTOCOL_ICMPV6 => transport + 8,
        _ => 64,
    };
    &bytes[..end.min(bytes.len())]
}

/// Whether an IPv4 header's checksum is right; IPv6 has none.
pub(crate) fn has_good_header(bytes: &[u8]) -> bool {
    if ethertype(bytes) != ETHERTYPE_IPV4 {
        return true;
    }
    let len = bytes.get(ETHERNET_BYTES).map_or(0, |first| usize::from(first & 0x0f) * 4);
    bytes.get(ETHERNET_BYTES..ETHERNET_BYTES + len).is_some_and(|header| checksum(&[header]) == 0)
}

/// Sets the mark "congestion experienced" where the packet's ends understand it (RFC 3168, section 5). False: they do not.
pub(crate) fn mark_congestion(bytes: &mut [u8]) -> bool {
    match ethertype(bytes) {
        ETHERTYPE_IPV4 if bytes.len() >= ETHERNET_BYTES + IPV4_BYTES && bytes[15] & 3 != 0 => {
            // What is wrong with the header stays wrong: the checksum follows the change alone (RFC 1624, equation 3).
            let before = u16_at(bytes, ETHERNET_BYTES);
            bytes[15] |= 3;
            let after = u16_at(bytes, ETHERNET_BYTES);
            let sum = u32::from(!u16_at(bytes, 24)) + u32::from(!before) + u32::from(after);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
            true
        }
        ETHERTYPE_IPV6 if bytes.len() >= ETHERNET_BYTES + IPV6_BYTES && bytes[15] & 0x30 != 0 => {
            bytes[15] |= 0x30;
            true
        }
        _ => false,
    }
}

/// The Internet checksum (RFC 1071) of `slices`, each of even length but the last.
pub(crate) fn checksum(slices: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for slice in slices {
        for pair in slice.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from(folded & 0xffff).expect("masked to 16 bits")
}

/// The checksum of an ICMPv6 message, with its pseudo-header (RFC 8200, section 8.1).
pub(crate) fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let len = u32::try_from(message.len()).expect("an ICMPv6 message fits one packet").to_be_bytes();
    checksum(&[&source.octets(), &destination.octets(), &len, &[0, 0, 0, PROTOCOL_ICMPV6], message])
}
