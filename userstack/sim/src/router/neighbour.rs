//! ARP (RFC 826) and neighbour discovery (RFC 4861, sections 4.3 and 4.4) of a router: it answers for its addresses,
//! learns whoever speaks, and asks for whom it does not know.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Router;
use crate::end::packet_of;
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

impl Router {
    /// Whether the packet was ARP or NDP.
    pub(super) fn on_neighbour(&mut self, port: usize, bytes: &[u8]) -> bool {
        if wire::ethertype(bytes) == ETHERTYPE_ARP {
            self.on_arp(port, bytes);
            return true;
        }
        let icmp = ETHERNET_BYTES + IPV6_BYTES;
        let is_nd = wire::ethertype(bytes) == ETHERTYPE_IPV6
            && bytes.get(20) == Some(&PROTOCOL_ICMPV6)
            && bytes.get(icmp).is_some_and(|kind| (133..=137).contains(kind));
        if is_nd {
            self.on_nd(port, bytes, icmp);
        }
        is_nd
    }

    fn on_arp(&mut self, port: usize, bytes: &[u8]) {
        let (Some(sender), Some(target), Some(mac)) =
            (wire::ipv4_at(bytes, 28), wire::ipv4_at(bytes, 38), mac_at(bytes, 22))
        else {
            return;
        };
        if !sender.is_unspecified() {
            self.set_neighbour(sender.into(), port, mac);
        }
        let ours = &self.ports[port];
        if wire::u16_at(bytes, 20) == ARP_REQUEST && ours.addresses.contains(&target.into()) {
            let reply = arp(ARP_REPLY, (ours.mac, target), (mac, sender));
            let _lost = ours.end.transmit_one(packet_of(&[&reply]));
        }
    }

    fn on_nd(&mut self, port: usize, bytes: &[u8], icmp: usize) {
        let (Some(source), Some(target)) = (wire::ipv6_at(bytes, 22), wire::ipv6_at(bytes, icmp + 8)) else {
            return;
        };
        let option =
            |kind| (bytes.get(icmp + ND_BYTES) == Some(&kind)).then(|| mac_at(bytes, icmp + ND_BYTES + 2));
        match bytes[icmp] {
            SOLICITATION => {
                if let Some(Some(mac)) = option(OPTION_SOURCE_MAC) {
                    self.set_neighbour(source.into(), port, mac);
                }
                self.advertise(port, source, target, bytes);
            }
            ADVERTISEMENT => {
                if let Some(Some(mac)) = option(OPTION_TARGET_MAC) {
                    self.set_neighbour(target.into(), port, mac);
                }
            }
            _ => {}
        }
    }

    fn advertise(&self, port: usize, source: Ipv6Addr, target: Ipv6Addr, bytes: &[u8]) {
        let ours = &self.ports[port];
        let Some(asker) = mac_at(bytes, 6) else { return };
        if ours.addresses.contains(&target.into()) && !source.is_unspecified() {
            let body = nd(ADVERTISEMENT, ADVERTISEMENT_FLAGS, target, OPTION_TARGET_MAC, ours.mac);
            let answer = icmpv6((ours.mac, target), (asker, source), body);
            let _lost = ours.end.transmit_one(packet_of(&[&answer]));
        }
    }

    /// Asks on every port: the router does not keep prefixes of its links.
    pub(super) fn ask_for(&self, address: IpAddr) {
        for port in &self.ports {
            let own = port.addresses.iter().find(|own| own.is_ipv4() == address.is_ipv4());
            let question = match (own, address) {
                (Some(IpAddr::V4(own)), IpAddr::V4(target)) => {
                    arp(ARP_REQUEST, (port.mac, *own), ([0xff; 6], target))
                }
                (Some(IpAddr::V6(own)), IpAddr::V6(target)) => {
                    let body = nd(SOLICITATION, 0, target, OPTION_SOURCE_MAC, port.mac);
                    icmpv6((port.mac, *own), solicited_node(target), body)
                }
                _ => continue,
            };
            let _lost = port.end.transmit_one(packet_of(&[&question]));
        }
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
