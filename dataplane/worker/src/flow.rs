//! What can be told of a flow from the first bytes of its packet: VLAN tag, hash, and the worker that owns it.
//!
//! Fragments steer by their address pair, ICMP errors by the packet that they quote (turned round, since they answer
//! it), everything that is not IP by nothing: the worker that received it handles it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use stack::steer;

const ETHERNET_BYTES: usize = 14;
const VLAN_TAG_BYTES: usize = 4;
const ETHERNET_ADDRESSES_BYTES: usize = 12;
const VLAN_TAG_TYPE: [u8; 2] = [0x81, 0x00];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_BYTES: usize = 40;
const TCP_FLAGS_AT: usize = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Extension headers that may stand between IPv6 and its payload, as the stack bounds them.
const MAX_EXTENSION_HEADERS: usize = 8;

/// Addresses and ports by which a packet is steered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Tuple {
    source: IpAddr,
    destination: IpAddr,
    /// Source and destination port; `None` where it has none.
    ports: Option<(u16, u16)>,
}

impl Tuple {
    fn hash(self) -> u32 {
        match self.ports {
            None => steer::address_hash(self.source, self.destination),
            Some((source, destination)) => steer::flow_hash(
                SocketAddr::new(self.source, source),
                SocketAddr::new(self.destination, destination),
            ),
        }
    }
}

/// The 802.1Q tag's VLAN identifier; 0 (priority only) counts as no tag.
pub fn vlan_of(head: &[u8]) -> Option<u16> {
    let tag = head.get(ETHERNET_ADDRESSES_BYTES..ETHERNET_ADDRESSES_BYTES + VLAN_TAG_BYTES)?;
    let id = u16::from_be_bytes([tag[2], tag[3]]) & 0x0fff;
    (tag[..2] == VLAN_TAG_TYPE && id != 0).then_some(id)
}

/// A number that packets of one flow share; 0 for what is not IP.
pub fn hash(head: &[u8]) -> u32 {
    tuple(head).map_or(0, Tuple::hash)
}

/// Which of `workers` owns the packet's flow. `None`: whoever received it.
pub fn owner(head: &[u8], workers: u16) -> Option<usize> {
    Some(steer::worker_of(tuple(head)?.hash(), workers).into())
}

/// Whether the packet asks for a new TCP connection: a SYN without an ACK. Behind IPv6 extension headers none is seen.
pub fn opens_connection(frame: &[u8]) -> bool {
    let Some((kind, packet)) = network(frame) else { return false };
    let transport = match kind {
        IPV4 if packet.get(9) == Some(&TCP) => usize::from(packet[0] & 0x0f) * 4,
        IPV6 if packet.get(6) == Some(&TCP) => IPV6_BYTES,
        _ => return false,
    };
    packet.get(transport + TCP_FLAGS_AT).is_some_and(|flags| flags & (SYN | ACK) == SYN)
}

/// The EtherType behind a tag, and what follows it.
fn network(frame: &[u8]) -> Option<([u8; 2], &[u8])> {
    let tagged = frame.get(ETHERNET_ADDRESSES_BYTES..ETHERNET_BYTES)? == VLAN_TAG_TYPE;
    let at = if tagged { ETHERNET_BYTES + VLAN_TAG_BYTES } else { ETHERNET_BYTES };
    let packet = frame.get(at..)?;
    Some(([frame[at - 2], frame[at - 1]], packet))
}

fn tuple(frame: &[u8]) -> Option<Tuple> {
    match network(frame)? {
        (IPV4, packet) => ipv4(packet, true),
        (IPV6, packet) => ipv6(packet, true),
        _ => None,
    }
}

/// `follow`: an ICMP error steers by what it quotes. A quoted packet is not followed again.
fn ipv4(packet: &[u8], follow: bool) -> Option<Tuple> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let source = IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15]));
    let destination = IpAddr::V4(Ipv4Addr::new(header[16], header[17], header[18], header[19]));
    let addresses = Tuple { source, destination, ports: None };
    // Offset or more-fragments set: the ports are in the first fragment only, so none of them counts.
    if u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Some(addresses);
    }
    let payload = packet.get(usize::from(header[0] & 0x0f) * 4..)?;
    match header[9] {
        TCP | UDP => Some(Tuple { ports: Some(ports(payload)?), ..addresses }),
        ICMP if follow && matches!(payload.first()?, 3 | 4 | 5 | 11 | 12) => {
            Some(turned(ipv4(payload.get(8..)?, false)?))
        }
        _ => Some(addresses),
    }
}

fn ipv6(packet: &[u8], follow: bool) -> Option<Tuple> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let address = |at: usize| {
        let octets: [u8; 16] = header[at..at + 16].try_into().expect("sixteen bytes of forty");
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let addresses = Tuple { source: address(8), destination: address(24), ports: None };
    let mut next = header[6];
    let mut payload = &packet[40..];
    for _ in 0..MAX_EXTENSION_HEADERS {
        match next {
            TCP | UDP => return Some(Tuple { ports: Some(ports(payload)?), ..addresses }),
            IPV6_FRAGMENT => return Some(addresses),
            ICMPV6 if follow && *payload.first()? < 128 => {
                return Some(turned(ipv6(payload.get(8..)?, false)?));
            }
            // Hop-by-hop, routing and destination options say their own length (RFC 8200, section 4).
            0 | 43 | 60 => {
                next = *payload.first()?;
                payload = payload.get((usize::from(*payload.get(1)?) + 1) * 8..)?;
            }
            _ => return Some(addresses),
        }
    }
    Some(addresses)
}

fn ports(payload: &[u8]) -> Option<(u16, u16)> {
    let four: &[u8; 4] = payload.first_chunk()?;
    Some((u16::from_be_bytes([four[0], four[1]]), u16::from_be_bytes([four[2], four[3]])))
}

fn turned(quoted: Tuple) -> Tuple {
    Tuple {
        source: quoted.destination,
        destination: quoted.source,
        ports: quoted.ports.map(|(source, destination)| (destination, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ether_type: [u8; 2], packet: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &ether_type, packet].concat()
    }

    fn udp4(source: [u8; 4], destination: [u8; 4], ports: (u16, u16), fragment: u16) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, UDP, 0, 0];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend(source);
        packet.extend(destination);
        packet.extend(ports.0.to_be_bytes());
        packet.extend(ports.1.to_be_bytes());
        packet.extend([0; 4]);
        packet
    }

    #[test]
    fn a_tag_is_read_and_priority_only_counts_as_none() {
        assert_eq!(vlan_of(&frame(IPV4, &[])), None);
        assert_eq!(vlan_of(&frame(VLAN_TAG_TYPE, &[0x60, 100, 8, 0])), Some(100));
        assert_eq!(vlan_of(&frame(VLAN_TAG_TYPE, &[0x60, 0, 8, 0])), None);
    }

    #[test]
    fn only_a_syn_without_an_ack_opens_a_connection() {
        let packet = |version: u8, flags: u8| {
            let (kind, mut packet) = if version == 4 { (IPV4, vec![0; 20]) } else { (IPV6, vec![0; 40]) };
            (packet[0], packet[9 - usize::from(version == 6) * 3]) = (0x45, TCP);
            let mut tcp = [0; 20];
            tcp[TCP_FLAGS_AT] = flags;
            frame(kind, &[&packet[..], &tcp].concat())
        };
        for version in [4, 6] {
            assert!(opens_connection(&packet(version, SYN)));
            assert!(opens_connection(&packet(version, SYN | 0xc0)), "with ECN's flags (RFC 3168)");
            assert!(!opens_connection(&packet(version, SYN | ACK)));
            assert!(!opens_connection(&packet(version, ACK)));
            let whole = packet(version, SYN);
            let flags_at = whole.len() - 20 + TCP_FLAGS_AT;
            assert!((0..=flags_at).all(|len| !opens_connection(&whole[..len])), "cut short");
        }
        assert!(!opens_connection(&frame(IPV4, &udp4([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0))));
    }

    #[test]
    fn both_directions_of_a_flow_have_one_owner() {
        for port in 1000..1100 {
            let there = frame(IPV4, &udp4([10, 0, 0, 1], [10, 0, 0, 2], (port, 53), 0));
            let back = frame(IPV4, &udp4([10, 0, 0, 2], [10, 0, 0, 1], (53, port), 0));
            assert_eq!(owner(&there, 3), owner(&back, 3));
        }
        let owners: std::collections::BTreeSet<_> = (1000..1100)
            .map(|port| owner(&frame(IPV4, &udp4([10, 0, 0, 1], [10, 0, 0, 2], (port, 53), 0)), 3))
            .collect();
        assert_eq!(owners.len(), 3, "a hundred flows reach three workers");
    }

    #[test]
    fn fragments_steer_by_their_address_pair() {
        let first = frame(IPV4, &udp4([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0x2000));
        let later = frame(IPV4, &udp4([10, 0, 0, 1], [10, 0, 0, 2], (7, 9), 0x0010));
        assert_eq!(tuple(&first).unwrap(), tuple(&later).unwrap());
        assert_eq!(tuple(&first).unwrap().ports, None);
    }

    #[test]
    fn an_icmp_error_steers_with_the_flow_that_it_quotes() {
        let quoted = udp4([10, 0, 0, 1], [10, 0, 0, 2], (4000, 53), 0);
        let mut error = vec![0x45, 0, 0, 56, 0, 0, 0, 0, 64, ICMP, 0, 0, 192, 0, 2, 1, 10, 0, 0, 1];
        error.extend([3, 4, 0, 0, 0, 0, 0, 0]);
        error.extend(&quoted);
        let answer = udp4([10, 0, 0, 2], [10, 0, 0, 1], (53, 4000), 0);
        assert_eq!(tuple(&frame(IPV4, &error)), tuple(&frame(IPV4, &answer)));
    }

    #[test]
    fn what_is_cut_short_or_not_ip_has_no_owner() {
        let whole = frame(IPV4, &udp4([10, 0, 0, 1], [10, 0, 0, 2], (1, 2), 0));
        for len in 0..ETHERNET_BYTES + 24 {
            assert_eq!(owner(&whole[..len], 2), None, "{len} bytes");
        }
        assert_eq!(owner(&frame([0x08, 0x06], &[0; 28]), 2), None);
    }
}
