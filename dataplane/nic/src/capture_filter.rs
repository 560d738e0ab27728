//! Which packets a capture wants: by address and port, at either end. The only place of this crate that looks into one.

use std::net::IpAddr;

use crate::packet::Packet;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Empty fields match everything. A port matches TCP and UDP, and a fragment only where it carries the ports.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CaptureFilter {
    /// Source or destination.
    pub address: Option<IpAddr>,
    /// Source or destination.
    pub port: Option<u16>,
}

impl CaptureFilter {
    /// Headers are looked for in the first frame.
    pub fn matches(&self, packet: &Packet) -> bool {
        if *self == Self::default() {
            return true;
        }
        let bytes = packet.frame(0).map_or(&[][..], |frame| frame.bytes());
        let Some(ends) = Ends::read(bytes) else { return false };
        self.address.is_none_or(|address| ends.addresses.contains(&address))
            && self.port.is_none_or(|port| ends.ports.is_some_and(|ports| ports.contains(&port)))
    }
}

/// Who speaks to whom.
struct Ends {
    addresses: [IpAddr; 2],
    ports: Option<[u16; 2]>,
}

impl Ends {
    fn read(frame: &[u8]) -> Option<Self> {
        let (mut kind, mut rest) = (u16_at(frame, 12)?, frame.get(14..)?);
        if kind == ETHERTYPE_VLAN {
            (kind, rest) = (u16_at(rest, 2)?, rest.get(4..)?);
        }
        match kind {
            ETHERTYPE_IPV4 => Self::read_v4(rest),
            ETHERTYPE_IPV6 => Self::read_v6(rest),
            ETHERTYPE_ARP => Some(Self { addresses: [v4_at(rest, 14)?, v4_at(rest, 24)?], ports: None }),
            _ => None,
        }
    }

    fn read_v4(packet: &[u8]) -> Option<Self> {
        let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
        let later_fragment = u16_at(packet, 6)? & 0x1fff != 0;
        let ports = match packet.get(9)? {
            &(TCP | UDP) if !later_fragment => packet.get(header_bytes..).and_then(ports),
            _ => None,
        };
        Some(Self { addresses: [v4_at(packet, 12)?, v4_at(packet, 16)?], ports })
    }

    /// Ports behind extension headers are not looked for.
    fn read_v6(packet: &[u8]) -> Option<Self> {
        let ports = match packet.get(6)? {
            &(TCP | UDP) => packet.get(40..).and_then(ports),
            _ => None,
        };
        Some(Self { addresses: [v6_at(packet, 8)?, v6_at(packet, 24)?], ports })
    }
}

fn ports(transport: &[u8]) -> Option<[u16; 2]> {
    Some([u16_at(transport, 0)?, u16_at(transport, 2)?])
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn v4_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    bytes.get(at..)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes))
}

fn v6_at(bytes: &[u8], at: usize) -> Option<IpAddr> {
    bytes.get(at..)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Frame;

    fn udp_v4(fragment: u16) -> Vec<u8> {
        let mut bytes = vec![0; 12];
        bytes.extend([0x08, 0x00, 0x45, 0, 0, 28, 0, 0]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, UDP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x30, 0x39, 0, 53, 0, 8, 0, 0]);
        bytes
    }

    fn matches(address: Option<&str>, port: Option<u16>, bytes: &[u8]) -> bool {
        let mut frame = Frame::heap(bytes.len());
        frame.append(bytes);
        let address = address.map(|address| address.parse().unwrap());
        CaptureFilter { address, port }.matches(&Packet::new(frame))
    }

    #[test]
    fn either_end_matches_and_both_conditions_must() {
        let bytes = udp_v4(0);
        assert!(matches(Some("10.0.0.1"), None, &bytes) && matches(Some("10.0.0.2"), Some(53), &bytes));
        assert!(matches(None, Some(12345), &bytes));
        assert!(!matches(Some("10.0.0.3"), Some(53), &bytes) && !matches(Some("10.0.0.1"), Some(54), &bytes));
    }

    #[test]
    fn a_tag_is_looked_behind() {
        let mut bytes = udp_v4(0);
        bytes.splice(12..12, [0x81, 0, 0, 100]);
        assert!(matches(Some("10.0.0.2"), Some(53), &bytes));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        assert!(matches(Some("10.0.0.1"), None, &udp_v4(1)) && !matches(None, Some(53), &udp_v4(1)));
    }

    #[test]
    fn ipv6_and_arp_match_by_their_addresses() {
        let mut v6 = vec![0; 12];
        v6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8, TCP, 64]);
        v6.extend("fd00::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        v6.extend("fd00::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        v6.extend([0, 80, 0x30, 0x39]);
        assert!(matches(Some("fd00::2"), Some(80), &v6));
        let mut arp = vec![0; 12];
        arp.extend([
            0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 9,
        ]);
        assert!(matches(Some("10.0.0.9"), None, &arp) && !matches(Some("10.0.0.9"), Some(80), &arp));
    }

    #[test]
    fn what_cannot_be_read_matches_only_the_empty_filter() {
        assert!(matches(None, None, &[1, 2, 3]) && !matches(Some("10.0.0.1"), None, &[1, 2, 3]));
    }
}
