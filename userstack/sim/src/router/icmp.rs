//! A router's ICMP errors (RFC 792, RFC 1191, RFC 4443): always about a packet that it did not forward.

use std::net::{IpAddr, Ipv4Addr};

use super::neighbour::icmpv6;
use crate::wire::{self, ETHERNET_BYTES, ETHERTYPE_IPV4, IPV4_BYTES, Mac, PROTOCOL_ICMP, PROTOCOL_ICMPV6};

/// Bytes of the packet that an error quotes: an IPv4 error is at most 576 B (RFC 1812, section 4.3.2.3); an IPv6
/// error may be longer, but need not be.
const QUOTED_BYTES: usize = 576 - IPV4_BYTES - 8;

#[derive(Copy, Clone, Debug)]
pub(super) enum Reason {
    TooBig { mtu: u16 },
    TimeExceeded,
}

/// The error about `bytes`, sent back to where it came from. `None`: it is an error itself, or may be fragmented,
/// which this router does not do.
pub(super) fn error(mac: Mac, addresses: &[IpAddr], bytes: &[u8], reason: Reason) -> Option<Vec<u8>> {
    let (source, _) = wire::addresses(bytes)?;
    let own = *addresses.iter().find(|own| own.is_ipv4() == source.is_ipv4())?;
    let asker: Mac = bytes.get(6..12)?.try_into().ok()?;
    let quoted = &bytes[ETHERNET_BYTES..bytes.len().min(ETHERNET_BYTES + QUOTED_BYTES)];
    match (own, source) {
        (IpAddr::V4(own), IpAddr::V4(source)) => {
            let dont_fragment = bytes[20] & 0x40 != 0;
            if bytes[23] == PROTOCOL_ICMP || !dont_fragment {
                return None;
            }
            Some(icmpv4((mac, own), (asker, source), v4_message(reason, quoted)))
        }
        (IpAddr::V6(own), IpAddr::V6(source)) => {
            let is_error = bytes[20] == PROTOCOL_ICMPV6 && bytes.get(54).is_some_and(|kind| *kind < 128);
            (!is_error).then(|| icmpv6((mac, own), (asker, source), v6_message(reason, quoted)))
        }
        _ => None,
    }
}

fn v4_message(reason: Reason, quoted: &[u8]) -> Vec<u8> {
    let (kind, code, mtu) = match reason {
        Reason::TooBig { mtu } => (3, 4, mtu),
        Reason::TimeExceeded => (11, 0, 0),
    };
    let mut message = [&[kind, code, 0, 0, 0, 0][..], &mtu.to_be_bytes(), quoted].concat();
    let sum = wire::checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn v6_message(reason: Reason, quoted: &[u8]) -> Vec<u8> {
    let (kind, mtu) = match reason {
        Reason::TooBig { mtu } => (2, u32::from(mtu)),
        Reason::TimeExceeded => (3, 0),
    };
    [&[kind, 0, 0, 0][..], &mtu.to_be_bytes(), quoted].concat()
}

fn icmpv4(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), message: Vec<u8>) -> Vec<u8> {
    let len =
        u16::try_from(IPV4_BYTES + message.len()).expect("an ICMP error is at most 576 bytes").to_be_bytes();
    let mut header =
        [&[0x45, 0][..], &len, &[0, 0, 0, 0, 64, PROTOCOL_ICMP, 0, 0], &from.1.octets(), &to.1.octets()]
            .concat();
    let sum = wire::checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&to.0[..], &from.0, &ETHERTYPE_IPV4.to_be_bytes(), &header, &message].concat()
}
