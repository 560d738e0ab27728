//! ARP (RFC 826): answers for our addresses, learns what was asked for, follows what moves.

use std::net::IpAddr;

use crate::link::{self, Link};
use crate::locals::has;
use crate::neighbour::Claim;
use crate::output::Output;
use crate::wire::{ARP_BYTES, Arp, is_group};
use crate::{Chain, Discard, Instant, InterfaceConfig, Verdict};

/// An ARP message arrived. A request for an address of ours is turned into its answer in place.
pub(crate) fn handle(
    output: &mut Output,
    interface: &InterfaceConfig,
    link: &Link,
    packet: &mut dyn Chain,
    now: Instant,
) -> Result<Verdict, Discard> {
    let body = packet.chunk(0).get(link.len..link.len + ARP_BYTES).ok_or(Discard::ArpMalformed)?;
    let arp = Arp::parse(body).ok_or(Discard::ArpMalformed)?;
    check_sender(&arp, interface)?;
    if !arp.sender.is_unspecified() {
        // An unasked reply is a gratuitous one (RFC 5227, section 3): how a standby gateway takes over.
        let claim = if !arp.request && arp.target_mac == interface.mac {
            Claim::Answer { overrides: true }
        } else {
            Claim::Notice { overrides: true }
        };
        output.claim(interface.id, IpAddr::V4(arp.sender), arp.sender_mac, claim, now);
    }
    if !arp.request || !has(interface, IpAddr::V4(arp.target)) {
        return Ok(Verdict::Consumed);
    }
    let answer = Arp {
        request: false,
        sender_mac: interface.mac,
        sender: arp.target,
        target_mac: arp.sender_mac,
        target: arp.sender,
    };
    answer.write(&mut packet.chunk_mut(0)[link.len..link.len + ARP_BYTES]);
    if !link::replace_header(packet, link, interface, arp.sender_mac) {
        return Err(Discard::NoHeadroom);
    }
    Ok(Verdict::Forward(interface.id))
}

/// Nobody may be a group, be us, or have our address.
fn check_sender(arp: &Arp, interface: &InterfaceConfig) -> Result<(), Discard> {
    if is_group(arp.sender_mac) || arp.sender_mac == [0; 6] || arp.sender_mac == interface.mac {
        return Err(Discard::NeighbourBadMac);
    }
    if has(interface, IpAddr::V4(arp.sender)) {
        return Err(Discard::NeighbourClaimsOurAddress);
    }
    if arp.sender.is_multicast() || arp.sender.is_broadcast() || arp.sender.is_loopback() {
        return Err(Discard::ArpMalformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Contiguous;
    use crate::locals::tests::interface;
    use crate::wire::{BROADCAST, Mac, ether_type};
    use crate::{InterfaceId, Role};
    use std::net::Ipv4Addr;

    const PEER: Mac = [2, 0, 0, 0, 0, 0xaa];

    struct Host {
        output: Output,
        interface: InterfaceConfig,
    }

    impl Host {
        fn new() -> Self {
            let interface = interface(0, Role::Uplink, &["10.0.0.1/24"]);
            let mut output = Output::new(&[0; 32], Instant::ZERO);
            output.set_interface(interface.clone());
            Self { output, interface }
        }

        fn hear(&mut self, arp: Arp) -> (Result<Verdict, Discard>, Contiguous) {
            let mut body = [0; ARP_BYTES];
            arp.write(&mut body);
            let mut packet = Contiguous::joined(&[&BROADCAST, &PEER, &[8, 6], &body, &[0; 18]]);
            let link = Link { source: PEER, ether_type: ether_type::ARP, len: 14, group: true };
            let interface = self.interface.clone();
            let verdict = handle(&mut self.output, &interface, &link, &mut packet, Instant::ZERO);
            (verdict, packet)
        }

        fn mac_of(&mut self, address: [u8; 4]) -> Option<Mac> {
            let (slot, _) = self.output.neighbours.slot(InterfaceId(0), address.into(), Instant::ZERO);
            self.output.neighbour_mac(slot, Instant::ZERO)
        }
    }

    fn request(sender: impl Into<Ipv4Addr>, target: impl Into<Ipv4Addr>) -> Arp {
        let (sender, target) = (sender.into(), target.into());
        Arp { request: true, sender_mac: PEER, sender, target_mac: [0; 6], target }
    }

    fn reply(sender_mac: Mac, sender: impl Into<Ipv4Addr>) -> Arp {
        let target_mac = [2, 0, 0, 0, 0, 1];
        Arp { request: false, sender_mac, sender: sender.into(), target_mac, target: [10, 0, 0, 1].into() }
    }

    #[test]
    fn a_request_for_our_address_becomes_its_answer() {
        let (verdict, packet) = Host::new().hear(request([10, 0, 0, 2], [10, 0, 0, 1]));
        assert_eq!(verdict, Ok(Verdict::Forward(InterfaceId(0))));
        assert_eq!(packet.bytes()[..12], [PEER, [2, 0, 0, 0, 0, 1]].concat());
        let answer = Arp::parse(&packet.bytes()[14..]).unwrap();
        assert_eq!((answer.request, answer.sender), (false, Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!((answer.sender_mac, answer.target_mac), ([2, 0, 0, 0, 0, 1], PEER));
    }

    #[test]
    fn a_request_for_another_address_is_left_alone() {
        let (verdict, packet) = Host::new().hear(request([10, 0, 0, 2], [10, 0, 0, 3]));
        assert_eq!(verdict, Ok(Verdict::Consumed));
        assert_eq!(packet.bytes()[..6], BROADCAST);
    }

    #[test]
    fn a_probe_is_answered_and_teaches_nothing() {
        let (verdict, _) = Host::new().hear(request([0, 0, 0, 0], [10, 0, 0, 1]));
        assert_eq!(verdict, Ok(Verdict::Forward(InterfaceId(0))));
    }

    #[test]
    fn only_an_answer_to_our_question_is_learned() {
        let mut host = Host::new();
        host.hear(reply(PEER, [10, 0, 0, 2])).0.unwrap();
        assert_eq!(host.mac_of([10, 0, 0, 2]), None);
        host.hear(reply(PEER, [10, 0, 0, 2])).0.unwrap();
        assert_eq!(host.mac_of([10, 0, 0, 2]), Some(PEER));
    }

    #[test]
    fn a_gratuitous_arp_moves_an_entry_that_exists() {
        let mut host = Host::new();
        host.mac_of([10, 0, 0, 2]);
        host.hear(reply(PEER, [10, 0, 0, 2])).0.unwrap();
        let standby = [2, 0, 0, 0, 0, 0xbb];
        let gratuitous = Arp { sender_mac: standby, ..request([10, 0, 0, 2], [10, 0, 0, 2]) };
        host.hear(gratuitous).0.unwrap();
        assert_eq!(host.mac_of([10, 0, 0, 2]), Some(PEER), "who has it is asked first");
        for millis in [60, 120] {
            host.output.handle_timers(&mut 64, Instant::from_nanos(millis * 1_000_000));
        }
        assert_eq!(host.mac_of([10, 0, 0, 2]), Some(standby));
    }

    #[test]
    fn a_short_or_foreign_message_is_arp_malformed() {
        let mut host = Host::new();
        let link = Link { source: PEER, ether_type: ether_type::ARP, len: 14, group: true };
        let mut short = Contiguous::new(&[0; 14 + 27]);
        let interface = host.interface.clone();
        let verdict = handle(&mut host.output, &interface, &link, &mut short, Instant::ZERO);
        assert_eq!(verdict, Err(Discard::ArpMalformed));
        assert_eq!(host.hear(request([224, 0, 0, 1], [10, 0, 0, 1])).0, Err(Discard::ArpMalformed));
    }

    #[test]
    fn a_group_or_our_own_address_as_sender_is_neighbour_bad_mac() {
        for mac in [BROADCAST, [1, 0, 0x5e, 0, 0, 1], [0; 6], [2, 0, 0, 0, 0, 1]] {
            assert_eq!(Host::new().hear(reply(mac, [10, 0, 0, 2])).0, Err(Discard::NeighbourBadMac));
        }
    }

    #[test]
    fn somebody_with_our_address_is_neighbour_claims_our_address() {
        assert_eq!(Host::new().hear(reply(PEER, [10, 0, 0, 1])).0, Err(Discard::NeighbourClaimsOurAddress));
    }
}
