//! ARP (RFC 826) and neighbour discovery (RFC 4861, sections 4.3 and 4.4) of a router: it answers for its addresses,
//! learns whoever speaks, and asks for whom it does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::{self, ETHERNET_BYTES, ETHERTYPE_ARP, ETHERTYPE_IPV6, IPV6_BYTES, Mac, PROTOCOL_ICMPV6};

const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const OPTION_SOURCE_MAC: u8 = 1;
const OPTION_TARGET_MAC: u8 = 2;
/// Router, solicited, override (RFC 4861, section 4.4).
const ADVERTISEMENT_FLAGS: u8 = 0xe0;
/// Type, code, checksum, reserved, target.
const ND_BYTES: usize = 24;

/// What a port is called by its neighbours.
#[derive(Copy, Clone, Debug)]
pub(super) struct Names<'a> {
    pub(super) mac: Mac,
    pub(super) addresses: &'a [IpAddr],
}

/// What a packet of ARP or NDP said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) learned: Option<(IpAddr, Mac)>,
    pub(super) answer: Option<Vec<u8>>,
}

/// `None`: the packet is neither ARP nor NDP.
pub(super) fn hear(ours: Names<'_>, bytes: &[u8]) -> Option<Heard> {
    if wire::ethertype(bytes) == ETHERTYPE_ARP {
        return Some(hear_arp(ours, bytes).unwrap_or_default());
    }
    let icmp = ETHERNET_BYTES + IPV6_BYTES;
    let is_nd = wire::ethertype(bytes) == ETHERTYPE_IPV6
        && bytes.get(20) == Some(&PROTOCOL_ICMPV6)
        && bytes.get(icmp).is_some_and(|kind| (133..=137).contains(kind));
    is_nd.then(|| hear_nd(ours, bytes, icmp).unwrap_or_default())
}

fn hear_arp(ours: Names<'_>, bytes: &[u8]) -> Option<Heard> {
    let (sender, target, mac) = (wire::ipv4_at(bytes, 28)?, wire::ipv4_at(bytes, 38)?, mac_at(bytes, 22)?);
    let asks_us = wire::u16_at(bytes, 20) == ARP_REQUEST && ours.addresses.contains(&target.into());
    Some(Heard {
        learned: (!sender.is_unspecified()).then_some((sender.into(), mac)),
        answer: asks_us.then(|| arp(ARP_REPLY, (ours.mac, target), (mac, sender))),
    })
}

fn hear_nd(ours: Names<'_>, bytes: &[u8], icmp: usize) -> Option<Heard> {
    let (source, target) = (wire::ipv6_at(bytes, 22)?, wire::ipv6_at(bytes, icmp + 8)?);
    let option = |kind| {
        let is_there = bytes.get(icmp + ND_BYTES) == Some(&kind);
        is_there.then(|| mac_at(bytes, icmp + ND_BYTES + 2)).flatten()
    };
    match bytes[icmp] {
        SOLICITATION => {
            let asks_us = ours.addresses.contains(&target.into()) && !source.is_unspecified();
            let asker = mac_at(bytes, 6)?;
            Some(Heard {
                learned: option(OPTION_SOURCE_MAC).map(|mac| (source.into(), mac)),
                answer: asks_us.then(|| advertisement(ours.mac, target, (asker, source))),
            })
        }
        ADVERTISEMENT => {
            Some(Heard { learned: option(OPTION_TARGET_MAC).map(|mac| (target.into(), mac)), answer: None })
        }
        _ => None,
    }
}

fn advertisement(mac: Mac, target: Ipv6Addr, asker: (Mac, Ipv6Addr)) -> Vec<u8> {
    let body = nd(ADVERTISEMENT, ADVERTISEMENT_FLAGS, target, OPTION_TARGET_MAC, mac);
    icmpv6((mac, target), asker, body)
}

/// Who has `address`. `None`: we have no address of that family to ask from.
pub(super) fn question(ours: Names<'_>, address: IpAddr) -> Option<Vec<u8>> {
    let own = ours.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4())?;
    match (*own, address) {
        (IpAddr::V4(own), IpAddr::V4(target)) => Some(arp(ARP_REQUEST, (ours.mac, own), ([0xff; 6], target))),
        (IpAddr::V6(own), IpAddr::V6(target)) => {
            let body = nd(SOLICITATION, 0, target, OPTION_SOURCE_MAC, ours.mac);
            Some(icmpv6((ours.mac, own), solicited_node(target), body))
        }
        _ => None,
    }
}

fn mac_at(bytes: &[u8], offset: usize) -> Option<Mac> {
    bytes.get(offset..offset + 6)?.try_into().ok()
}

fn arp(operation: u16, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    // Ethernet and IPv4, with addresses of 6 and 4 bytes.
    let fixed = [0, 1, 8, 0, 6, 4];
    [
        &to.0[..],
        &from.0,
        &ETHERTYPE_ARP.to_be_bytes(),
        &fixed,
        &operation.to_be_bytes(),
        &from.0,
        &from.1.octets(),
        &to.0,
        &to.1.octets(),
    ]
    .concat()
}

fn nd(kind: u8, flags: u8, target: Ipv6Addr, option: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[option, 1], &mac].concat()
}

/// The multicast MAC and address under which the owner of `target` listens (RFC 4291, section 2.7.1).
fn solicited_node(target: Ipv6Addr) -> (Mac, Ipv6Addr) {
    let [.., a, b, c] = target.octets();
    let address = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    ([0x33, 0x33, 0xff, a, b, c], address)
}

/// An ICMPv6 message with its headers; hop limit 255, as neighbour discovery demands.
pub(super) fn icmpv6(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr), mut message: Vec<u8>) -> Vec<u8> {
    let sum = wire::icmpv6_checksum(from.1, to.1, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let len = u16::try_from(message.len()).expect("an ICMPv6 message fits one packet").to_be_bytes();
    [
        &to.0[..],
        &from.0,
        &ETHERTYPE_IPV6.to_be_bytes(),
        &[0x60, 0, 0, 0],
        &len,
        &[PROTOCOL_ICMPV6, 255],
        &from.1.octets(),
        &to.1.octets(),
        &message,
    ]
    .concat()
}
