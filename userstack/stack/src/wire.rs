//! Formats: the numbers of the headers, and smoltcp's checked views of what is not on the fast path.
//!
//! The only file that names `smoltcp::wire`. Its accessors are called after `new_checked` only. IP and UDP headers,
//! which every packet has, are read by hand in `ipv4`, `ipv6` and `forward`.

use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, Icmpv6Packet, NdiscNeighborFlags, NdiscRepr,
    RawHardwareAddress,
};

pub(crate) type Mac = [u8; 6];

pub(crate) const BROADCAST: Mac = [0xff; 6];

/// EtherTypes (IEEE 802 numbers).
pub(crate) mod ether_type {
    pub const IPV4: u16 = 0x0800;
    pub const ARP: u16 = 0x0806;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag: the outer of two.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    pub const IPV6: u16 = 0x86dd;
}

/// Protocol and next-header numbers (IANA).
pub(crate) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const VLAN_TAG_BYTES: usize = 4;
pub(crate) const IPV4_BYTES: usize = 20;
pub(crate) const IPV6_BYTES: usize = 40;
pub(crate) const UDP_BYTES: usize = 8;
/// Type, code, checksum and the four bytes that differ by type.
pub(crate) const ICMP_BYTES: usize = 8;
/// Ethernet with a tag, then IPv6 without extension headers.
pub(crate) const LINK_AND_IP_BYTES: usize = ETHERNET_BYTES + VLAN_TAG_BYTES + IPV6_BYTES;

/// Hop limit of what the stack sends (RFC 1700's default; RFC 8200 leaves it to the host).
pub(crate) const HOPS: u8 = 64;
/// Proves that a neighbour discovery message was not forwarded (RFC 4861, section 3.1).
pub(crate) const NDP_HOPS: u8 = 255;

/// `ff02::1`.
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// `ff02::1:ffXX:XXXX` (RFC 4291, section 2.7.1).
pub(crate) fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b] = address.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (a & 0xff), b)
}

/// The group address of an IPv6 multicast address (RFC 2464, section 7).
pub(crate) fn multicast_mac(address: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = address.octets();
    [0x33, 0x33, a, b, c, d]
}

pub(crate) fn is_group(mac: Mac) -> bool {
    mac[0] & 1 == 1
}

/// The big-endian 16 bits at `at`. The caller has checked the length.
pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// An ARP message for IPv4 over Ethernet (RFC 826).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arp {
    pub request: bool,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

pub(crate) const ARP_BYTES: usize = 28;

impl Arp {
    /// `None`: cut short, not IPv4 over Ethernet, or neither request nor reply.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = ArpPacket::new_checked(bytes).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        Some(Self {
            request,
            sender_mac: source_hardware_addr.0,
            sender: source_protocol_addr,
            target_mac: target_hardware_addr.0,
            target: target_protocol_addr,
        })
    }

    /// Writes the message; `into` is [`ARP_BYTES`] long.
    pub fn write(&self, into: &mut [u8]) {
        let mut packet = ArpPacket::new_unchecked(into);
        ArpRepr::EthernetIpv4 {
            operation: if self.request { ArpOperation::Request } else { ArpOperation::Reply },
            source_hardware_addr: EthernetAddress(self.sender_mac),
            source_protocol_addr: self.sender,
            target_hardware_addr: EthernetAddress(self.target_mac),
            target_protocol_addr: self.target,
        }
        .emit(&mut packet);
    }
}

/// A neighbour discovery message that concerns addresses (RFC 4861, sections 4.3 and 4.4).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ndp {
    Solicitation { target: Ipv6Addr, link_address: Option<Mac> },
    Advertisement { target: Ipv6Addr, link_address: Option<Mac>, solicited: bool, overrides: bool },
}

/// ICMPv6 types of the two (RFC 4861, sections 4.3 and 4.4).
pub(crate) const NDP_SOLICITATION: u8 = 135;
pub(crate) const NDP_ADVERTISEMENT: u8 = 136;

/// A solicitation or advertisement with one link-layer address option.
pub(crate) const NDP_BYTES: usize = 32;

impl Ndp {
    /// `None`: malformed. Router messages and redirects are the caller's to tell apart by type first.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = Icmpv6Packet::new_checked(bytes).ok()?;
        match NdiscRepr::parse(&packet).ok()? {
            NdiscRepr::NeighborSolicit { target_addr, lladdr } => {
                Some(Self::Solicitation { target: target_addr, link_address: link_address(lladdr)? })
            }
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr } => Some(Self::Advertisement {
                target: target_addr,
                link_address: link_address(lladdr)?,
                solicited: flags.contains(NdiscNeighborFlags::SOLICITED),
                overrides: flags.contains(NdiscNeighborFlags::OVERRIDE),
            }),
            _ => None,
        }
    }
}

/// `None`: there is an option, but it is no Ethernet address.
fn link_address(option: Option<RawHardwareAddress>) -> Option<Option<Mac>> {
    option.map(|raw| Mac::try_from(raw.as_bytes()).ok()).map_or(Some(None), |mac| mac.map(Some))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_reads_back_what_it_wrote() {
        let arp = Arp {
            request: true,
            sender_mac: [2, 0, 0, 0, 0, 1],
            sender: [10, 0, 0, 1].into(),
            target_mac: [0; 6],
            target: [10, 0, 0, 2].into(),
        };
        let mut bytes = [0; ARP_BYTES];
        arp.write(&mut bytes);
        assert_eq!(Arp::parse(&bytes), Some(arp));
        assert_eq!(Arp::parse(&bytes[..27]), None);
    }

    #[test]
    fn the_group_of_an_address_ends_with_its_last_three_bytes() {
        let address = "fe80::2aa:ff:fe28:9c5a".parse().unwrap();
        assert_eq!(solicited_node(address), "ff02::1:ff28:9c5a".parse::<Ipv6Addr>().unwrap());
        assert_eq!(multicast_mac(solicited_node(address)), [0x33, 0x33, 0xff, 0x28, 0x9c, 0x5a]);
    }
}
