//! Ethernet II and 802.1Q: reads, checks and writes the link header.

use crate::wire::{BROADCAST, ETHERNET_BYTES, Mac, VLAN_TAG_BYTES, ether_type, is_group, set_word, word};
use crate::{Chain, Discard, InterfaceConfig};

/// Bits of the tag control information that are the VLAN identifier; the rest is priority (802.1Q, 9.6).
const VLAN_ID_MASK: u16 = 0x0fff;

/// The link header of a received frame.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub source: Mac,
    /// The EtherType behind the tag, if there is one.
    pub ether_type: u16,
    /// Bytes up to the network header.
    pub len: usize,
    /// Sent to a group, or to all.
    pub group: bool,
}

impl Link {
    /// Reads the header and checks that the frame is for `interface`: tag and hardware address.
    pub fn parse(frame: &[u8], interface: &InterfaceConfig) -> Result<Self, Discard> {
        if frame.len() < ETHERNET_BYTES {
            return Err(Discard::EthernetTruncated);
        }
        let (ether_type, vlan, len) = read_tag(frame)?;
        if vlan != interface.vlan {
            return Err(Discard::VlanUnknown);
        }
        let (destination, source) = (mac_at(frame, 0), mac_at(frame, 6));
        if is_group(source) {
            return Err(Discard::EthernetSourceGroup);
        }
        if destination != interface.mac && !is_our_group(destination, interface) {
            return Err(Discard::EthernetNotOurs);
        }
        Ok(Self { source, ether_type, len, group: is_group(destination) })
    }
}

/// EtherType, VLAN and header length. A tag with VLAN 0 carries a priority only: the frame is untagged (802.1Q, 6.9).
fn read_tag(frame: &[u8]) -> Result<(u16, Option<u16>, usize), Discard> {
    match word(frame, 12) {
        ether_type::VLAN => {
            if frame.len() < ETHERNET_BYTES + VLAN_TAG_BYTES {
                return Err(Discard::EthernetTruncated);
            }
            let inner = word(frame, 16);
            if inner == ether_type::VLAN || inner == ether_type::SERVICE_VLAN {
                return Err(Discard::VlanStacked);
            }
            let vlan = word(frame, 14) & VLAN_ID_MASK;
            Ok((inner, (vlan != 0).then_some(vlan), ETHERNET_BYTES + VLAN_TAG_BYTES))
        }
        ether_type::SERVICE_VLAN => Err(Discard::VlanStacked),
        other => Ok((other, None, ETHERNET_BYTES)),
    }
}

/// Broadcast, all IPv6 nodes, or the solicited-node group of an address of ours.
fn is_our_group(mac: Mac, interface: &InterfaceConfig) -> bool {
    use crate::wire::{ALL_NODES, multicast_mac, solicited_node};
    mac == BROADCAST
        || mac == multicast_mac(ALL_NODES)
        || mac[..3] == [0x33, 0x33, 0xff]
            && interface.addresses.iter().any(|(address, _)| match address {
                std::net::IpAddr::V6(address) => mac == multicast_mac(solicited_node(*address)),
                std::net::IpAddr::V4(_) => false,
            })
}

fn mac_at(frame: &[u8], at: usize) -> Mac {
    frame[at..at + 6].try_into().expect("six bytes are a hardware address")
}

/// Bytes of the link header that `interface` sends.
pub(crate) fn header_len(interface: &InterfaceConfig) -> usize {
    ETHERNET_BYTES + if interface.vlan.is_some() { VLAN_TAG_BYTES } else { 0 }
}

/// Writes the link header at the front of `frame` and says how long it is.
pub(crate) fn write_header(
    frame: &mut [u8],
    interface: &InterfaceConfig,
    destination: Mac,
    kind: u16,
) -> usize {
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&interface.mac);
    match interface.vlan {
        None => set_word(frame, 12, kind),
        Some(vlan) => {
            set_word(frame, 12, ether_type::VLAN);
            set_word(frame, 14, vlan);
            set_word(frame, 16, kind);
        }
    }
    header_len(interface)
}

/// Gives a received packet, whose link header is `old_len` bytes, the link header of the interface that it leaves by:
/// addresses, and a tag pushed or popped. False when there is no room for a tag.
pub(crate) fn replace_header(
    packet: &mut dyn Chain,
    old: &Link,
    interface: &InterfaceConfig,
    destination: Mac,
) -> bool {
    let new_len = header_len(interface);
    if new_len > old.len {
        if !packet.grow_front(new_len - old.len) {
            return false;
        }
    } else {
        packet.shrink_front(old.len - new_len);
    }
    write_header(packet.chunk_mut(0), interface, destination, old.ether_type);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Contiguous;
    use crate::{InterfaceId, Role};

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];

    fn interface(vlan: Option<u16>) -> InterfaceConfig {
        InterfaceConfig {
            id: InterfaceId(0),
            name: "test".into(),
            role: Role::Uplink,
            mac: OURS,
            mtu: 1500,
            vlan,
            addresses: vec![("fe80::1234:5678".parse().unwrap(), 64)],
            intercepted: vec![],
            unfinished_receive_checksum: false,
        }
    }

    fn frame(destination: Mac, source: Mac, rest: &[u8]) -> Vec<u8> {
        [&destination[..], &source[..], rest].concat()
    }

    fn parse(frame: &[u8], vlan: Option<u16>) -> Result<Link, Discard> {
        Link::parse(frame, &interface(vlan))
    }

    #[test]
    fn a_short_frame_is_ethernet_truncated() {
        assert_eq!(parse(&[0; 13], None), Err(Discard::EthernetTruncated));
        assert_eq!(
            parse(&frame(OURS, THEIRS, &[0x81, 0, 0, 5, 8]), Some(5)),
            Err(Discard::EthernetTruncated)
        );
    }

    #[test]
    fn a_frame_for_another_host_is_ethernet_not_ours() {
        assert_eq!(parse(&frame([2, 0, 0, 0, 0, 9], THEIRS, &[8, 0]), None), Err(Discard::EthernetNotOurs));
        assert_eq!(
            parse(&frame([0x33, 0x33, 0xff, 0, 0, 1], THEIRS, &[8, 0]), None),
            Err(Discard::EthernetNotOurs)
        );
    }

    #[test]
    fn broadcast_and_our_groups_are_taken() {
        for group in [BROADCAST, [0x33, 0x33, 0, 0, 0, 1], [0x33, 0x33, 0xff, 0x34, 0x56, 0x78]] {
            assert!(parse(&frame(group, THEIRS, &[8, 0]), None).unwrap().group);
        }
    }

    #[test]
    fn a_group_as_source_is_ethernet_source_group() {
        assert_eq!(parse(&frame(OURS, BROADCAST, &[8, 0]), None), Err(Discard::EthernetSourceGroup));
    }

    #[test]
    fn a_tag_must_be_the_interfaces_or_it_is_vlan_unknown() {
        let tagged = frame(OURS, THEIRS, &[0x81, 0, 0x60, 5, 8, 0]);
        assert_eq!(parse(&tagged, Some(5)).unwrap().len, 18);
        assert_eq!(parse(&tagged, Some(6)), Err(Discard::VlanUnknown));
        assert_eq!(parse(&tagged, None), Err(Discard::VlanUnknown));
        assert_eq!(parse(&frame(OURS, THEIRS, &[8, 0]), Some(5)), Err(Discard::VlanUnknown));
    }

    #[test]
    fn a_priority_tag_is_no_vlan() {
        let tagged = frame(OURS, THEIRS, &[0x81, 0, 0xe0, 0, 8, 0]);
        assert_eq!(parse(&tagged, None).unwrap().len, 18);
        assert_eq!(parse(&tagged, Some(5)), Err(Discard::VlanUnknown));
    }

    #[test]
    fn two_tags_are_vlan_stacked() {
        assert_eq!(parse(&frame(OURS, THEIRS, &[0x88, 0xa8, 0, 5, 8, 0]), None), Err(Discard::VlanStacked));
        assert_eq!(
            parse(&frame(OURS, THEIRS, &[0x81, 0, 0, 5, 0x81, 0]), Some(5)),
            Err(Discard::VlanStacked)
        );
    }

    #[test]
    fn a_tag_goes_on_and_comes_off_in_place() {
        let plain = frame(OURS, THEIRS, &[8, 0, 1, 2, 3]);
        let mut packet = Contiguous::new(&plain);
        let link = parse(&plain, None).unwrap();
        assert!(replace_header(&mut packet, &link, &interface(Some(5)), THEIRS));
        assert_eq!(packet.bytes(), frame(THEIRS, OURS, &[0x81, 0, 0, 5, 8, 0, 1, 2, 3]));

        let tagged = frame(OURS, THEIRS, &[0x81, 0, 0, 5, 8, 0, 1, 2, 3]);
        let mut packet = Contiguous::new(&tagged);
        let link = parse(&tagged, Some(5)).unwrap();
        assert!(replace_header(&mut packet, &link, &interface(None), THEIRS));
        assert_eq!(packet.bytes(), frame(THEIRS, OURS, &[8, 0, 1, 2, 3]));
    }
}
