//! Neighbour discovery (RFC 4861): answers for our addresses, learns what was asked for, follows what moves.
//! Router messages and redirects change nothing here: routes are configured.

use std::net::{IpAddr, Ipv6Addr};

use crate::header::Header;
use crate::link::Link;
use crate::locals::has;
use crate::neighbour::Claim;
use crate::output::{Output, ndp_message, write_ndp};
use crate::wire::{
    ALL_NODES, Mac, NDP_ADVERTISEMENT, NDP_HOPS, Ndp, is_group, multicast_mac, solicited_node,
};
use crate::{Chain, Discard, Instant, InterfaceConfig, Verdict};

const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// A neighbour solicitation or advertisement arrived; its checksum has been verified.
pub(crate) fn handle(
    output: &mut Output,
    interface: &InterfaceConfig,
    (link, header): (&Link, &Header),
    packet: &dyn Chain,
    now: Instant,
) -> Result<Verdict, Discard> {
    let message = packet.chunk(0).get(header.transport..header.end).ok_or(Discard::NdpMalformed)?;
    // RFC 4861, sections 7.1.1 and 7.1.2: nobody beyond a router can have sent it.
    if header.hops != NDP_HOPS {
        return Err(Discard::NdpHopLimit);
    }
    if message[1] != 0 {
        return Err(Discard::NdpMalformed);
    }
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (header.source, header.destination) else {
        return Err(Discard::NdpMalformed);
    };
    match Ndp::parse(message).ok_or(Discard::NdpMalformed)? {
        Ndp::Solicitation { target, link_address } => {
            check_solicitation(source, destination, target, link_address)?;
            check_link_address(link_address, interface)?;
            solicited(output, interface, (source, target), link_address.unwrap_or(link.source), now)
        }
        Ndp::Advertisement { target, link_address, solicited, overrides } => {
            if target.is_multicast() || destination.is_multicast() && solicited {
                return Err(Discard::NdpMalformed);
            }
            check_link_address(link_address, interface)?;
            if has(interface, IpAddr::V6(target)) {
                return Err(Discard::NeighbourClaimsOurAddress);
            }
            // RFC 4861, section 7.2.5: without the option it says nothing new.
            let mac = link_address.unwrap_or(link.source);
            let claim = if solicited { Claim::Answer { overrides } } else { Claim::Notice { overrides } };
            output.claim(interface.id, IpAddr::V6(target), mac, claim, now);
            Ok(Verdict::Consumed)
        }
    }
}

/// RFC 4861, section 7.1.1: duplicate address detection goes to the group and carries no link address.
fn check_solicitation(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    link_address: Option<Mac>,
) -> Result<(), Discard> {
    let duplicate_detection = source.is_unspecified();
    let wrong = target.is_multicast()
        || duplicate_detection && (destination != solicited_node(target) || link_address.is_some());
    if wrong { Err(Discard::NdpMalformed) } else { Ok(()) }
}

fn check_link_address(link_address: Option<Mac>, interface: &InterfaceConfig) -> Result<(), Discard> {
    match link_address {
        Some(mac) if is_group(mac) || mac == [0; 6] || mac == interface.mac => Err(Discard::NeighbourBadMac),
        _ => Ok(()),
    }
}

/// Somebody asks for `target` (RFC 4861, section 7.2.3), and the answer (7.2.4).
fn solicited(
    output: &mut Output,
    interface: &InterfaceConfig,
    (source, target): (Ipv6Addr, Ipv6Addr),
    mac: Mac,
    now: Instant,
) -> Result<Verdict, Discard> {
    if has(interface, IpAddr::V6(source)) {
        return Err(Discard::NeighbourClaimsOurAddress);
    }
    if !source.is_unspecified() {
        output.claim(interface.id, IpAddr::V6(source), mac, Claim::Notice { overrides: true }, now);
    }
    if !has(interface, IpAddr::V6(target)) {
        return Ok(Verdict::Consumed);
    }
    let (destination, mac, flags) = if source.is_unspecified() {
        (ALL_NODES, multicast_mac(ALL_NODES), FLAG_OVERRIDE)
    } else {
        (source, mac, FLAG_SOLICITED | FLAG_OVERRIDE)
    };
    let message = ndp_message(NDP_ADVERTISEMENT, flags, target, interface.mac);
    let mut frame = output.outbox.buffer();
    write_ndp(&mut frame, interface, mac, (target, destination), message);
    output.queue(interface.id, frame);
    Ok(Verdict::Consumed)
}
