//! A router between simulated links: answers ARP and NDP for its addresses, forwards by prefix, says "too big" and
//! "time exceeded". It has no tasks and no state but its tables, so that a test's other nodes are the only stacks.

mod icmp;
mod neighbour;

use std::collections::BTreeMap;
use std::net::IpAddr;

use nic::Packet;
use stack::{Instant, Prefix};

use crate::end::packet_of;
use crate::wire::{self, ETHERNET_BYTES, Mac};
use crate::{LinkEnd, Node};

/// What a router did with what it received: `received` is the sum of the others.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterCounters {
    pub received: u64,
    pub forwarded: u64,
    /// ARP and NDP, answered or learned from.
    pub neighbours: u64,
    /// Answered with an ICMP error: too big, or its time exceeded.
    pub refused: u64,
    /// No route, no neighbour, not for this router, or malformed.
    pub dropped: u64,
}

#[derive(Debug)]
struct Port {
    end: LinkEnd,
    mac: Mac,
    addresses: Vec<IpAddr>,
    mtu: u16,
}

impl Port {
    fn names(&self) -> neighbour::Names<'_> {
        neighbour::Names { mac: self.mac, addresses: &self.addresses }
    }
}

/// Forwards IPv4 and IPv6 between its ports.
#[derive(Debug, Default)]
pub struct Router {
    ports: Vec<Port>,
    /// Longest prefix first. Ordered maps, so that runs repeat.
    routes: Vec<(Prefix, IpAddr)>,
    neighbours: BTreeMap<IpAddr, (usize, Mac)>,
    counters: RouterCounters,
}

/// What is to be done with a received packet.
enum Decision {
    Forward {
        port: usize,
        mac: Mac,
    },
    /// The next hop must be asked for first; the packet is given up.
    Ask(IpAddr),
    TooBig {
        port: usize,
    },
    TimeExceeded,
    Drop,
}

impl Router {
    pub fn new() -> Self {
        Self::default()
    }

    /// A port with its addresses; `mtu` is that of the link. Gives the port's number.
    pub fn attach(&mut self, end: LinkEnd, mac: Mac, addresses: &[IpAddr], mtu: u16) -> usize {
        self.ports.push(Port { end, mac, addresses: addresses.to_vec(), mtu });
        self.ports.len() - 1
    }

    /// The router's end of the link behind a port: what is sent there looks as if a neighbour on that link had sent it.
    pub fn end(&self, port: usize) -> LinkEnd {
        self.ports[port].end.clone()
    }

    /// The link behind a port carries less, or more, from now on: senders learn it by ICMP.
    pub fn set_mtu(&mut self, port: usize, mtu: u16) {
        self.ports[port].mtu = mtu;
    }

    /// Tells it where a neighbour is. It also learns from ARP and NDP.
    pub fn set_neighbour(&mut self, address: IpAddr, port: usize, mac: Mac) {
        self.neighbours.insert(address, (port, mac));
    }

    /// Packets to `prefix` go to the neighbour `via`. A neighbour itself needs no route.
    pub fn add_route(&mut self, prefix: Prefix, via: IpAddr) {
        self.routes.push((prefix, via));
        self.routes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len));
    }

    pub fn counters(&self) -> RouterCounters {
        self.counters
    }

    fn on_packet(&mut self, port: usize, mut packet: Packet) {
        self.counters.received += 1;
        let Some(frame) = packet.frame_mut(0) else { return };
        if let Some(heard) = neighbour::hear(self.ports[port].names(), frame.bytes()) {
            self.counters.neighbours += 1;
            return self.on_heard(port, heard);
        }
        let len = packet.len();
        let Some(frame) = packet.frame_mut(0) else { return };
        let bytes = frame.bytes_mut();
        match self.decide(port, bytes, len) {
            Decision::Forward { port, mac } => {
                take_hop(bytes);
                bytes[..6].copy_from_slice(&mac);
                bytes[6..12].copy_from_slice(&self.ports[port].mac);
                self.counters.forwarded += 1;
                // A full ring loses the packet, as a router's queue does.
                let _lost = self.ports[port].end.transmit_one(packet);
            }
            Decision::TooBig { port: out } => {
                let mtu = self.ports[out].mtu;
                self.refuse(port, bytes, icmp::Reason::TooBig { mtu });
            }
            Decision::TimeExceeded => self.refuse(port, bytes, icmp::Reason::TimeExceeded),
            Decision::Ask(next_hop) => {
                self.counters.dropped += 1;
                self.ask_for(next_hop);
            }
            Decision::Drop => self.counters.dropped += 1,
        }
    }

    fn on_heard(&mut self, port: usize, heard: neighbour::Heard) {
        if let Some((address, mac)) = heard.learned {
            self.set_neighbour(address, port, mac);
        }
        if let Some(answer) = heard.answer {
            let _lost = self.ports[port].end.transmit_one(packet_of(&[&answer]));
        }
    }

    /// Asks on every port: the router does not keep the prefixes of its links.
    fn ask_for(&self, address: IpAddr) {
        for port in &self.ports {
            if let Some(question) = neighbour::question(port.names(), address) {
                let _lost = port.end.transmit_one(packet_of(&[&question]));
            }
        }
    }

    fn decide(&self, port: usize, bytes: &[u8], len: usize) -> Decision {
        let Some((_, destination)) = wire::addresses(bytes) else { return Decision::Drop };
        if !wire::has_good_header(bytes) {
            return Decision::Drop; // RFC 1812, section 5.2.2
        }
        let is_ours = self.ports.iter().any(|port| port.addresses.contains(&destination));
        if is_ours || bytes[..6] != self.ports[port].mac {
            return Decision::Drop;
        }
        if hops(bytes) <= 1 {
            return Decision::TimeExceeded;
        }
        let via = |(prefix, via): &(Prefix, IpAddr)| prefix.contains(destination).then_some(*via);
        let routed = self.routes.iter().find_map(via);
        let next_hop = if self.neighbours.contains_key(&destination) { Some(destination) } else { routed };
        let next_hop = next_hop.unwrap_or(destination);
        match self.neighbours.get(&next_hop) {
            Some(&(port, _)) if len > usize::from(self.ports[port].mtu) + ETHERNET_BYTES => {
                Decision::TooBig { port }
            }
            Some(&(port, mac)) => Decision::Forward { port, mac },
            None => Decision::Ask(next_hop),
        }
    }

    fn refuse(&mut self, port: usize, bytes: &[u8], reason: icmp::Reason) {
        let port = &self.ports[port];
        match icmp::error(port.mac, &port.addresses, bytes, reason) {
            Some(answer) => {
                self.counters.refused += 1;
                let _lost = port.end.transmit_one(packet_of(&[&answer]));
            }
            None => self.counters.dropped += 1,
        }
    }
}

impl Node for Router {
    fn turn(&mut self, _now: Instant) {
        for port in 0..self.ports.len() {
            while let Some(packet) = self.ports[port].end.receive_one() {
                self.on_packet(port, packet);
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.ports.iter().any(|port| port.end.has_arrived()).then_some(Instant::ZERO)
    }
}

/// Time to live, or hop limit.
fn hops(bytes: &[u8]) -> u8 {
    let offset = if wire::ethertype(bytes) == wire::ETHERTYPE_IPV4 { 22 } else { 21 };
    bytes.get(offset).copied().unwrap_or(0)
}

/// One hop less, and the IPv4 header's checksum with it (RFC 1624).
fn take_hop(bytes: &mut [u8]) {
    if wire::ethertype(bytes) == wire::ETHERTYPE_IPV6 {
        bytes[21] -= 1;
        return;
    }
    bytes[22] -= 1;
    let sum = u32::from(wire::u16_at(bytes, 24)) + 0x0100;
    let folded = (sum & 0xffff) + (sum >> 16);
    bytes[24..26].copy_from_slice(&(folded as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;
    use crate::{LinkConfig, Network};

    const ROUTER_MAC: [Mac; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
    const HOST_MAC: [Mac; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];

    fn v4(subnet: u8, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, subnet, 0, host)
    }

    fn v6(subnet: u8, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, subnet.into(), 0, 0, 0, 0, 0, host.into())
    }

    /// A router between subnets 0 and 1 (MTU 1,500 and 1,280), and the ends where hosts would be.
    fn two_subnets() -> (Network, [LinkEnd; 2], std::rc::Rc<std::cell::RefCell<Router>>) {
        let mut network = Network::new(5);
        let mut router = Router::new();
        let ends = [(0u8, 1500), (1, 1280)].map(|(subnet, mtu)| {
            let (near, far) = network.link("link", LinkConfig::default());
            let addresses = [v4(subnet, 1).into(), v6(subnet, 1).into()];
            router.attach(far, ROUTER_MAC[usize::from(subnet)], &addresses, mtu);
            near
        });
        router.set_neighbour(v4(1, 2).into(), 1, HOST_MAC[1]);
        router.set_neighbour(v6(1, 2).into(), 1, HOST_MAC[1]);
        let router = std::rc::Rc::new(std::cell::RefCell::new(router));
        network.add(std::rc::Rc::clone(&router));
        (network, ends, router)
    }

    /// Sends from subnet 0; what arrives at each end.
    fn exchange(packet: &[u8]) -> ([Option<Vec<u8>>; 2], RouterCounters) {
        let (mut network, ends, router) = two_subnets();
        ends[0].send(packet).expect("the ring is empty");
        network.run_for(Duration::from_millis(1));
        let arrived =
            ends.map(|end| end.receive_one().map(|p| p.frame(0).expect("a frame").bytes().to_vec()));
        let counters = router.borrow().counters();
        (arrived, counters)
    }

    fn ipv4(payload: usize, hops: u8, to: Ipv4Addr) -> Vec<u8> {
        let len = (20 + payload) as u16;
        let mut header = vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 0, 0x40, 0, hops, 17, 0, 0];
        header.extend(v4(0, 2).octets());
        header.extend(to.octets());
        let sum = wire::checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&ROUTER_MAC[0][..], &HOST_MAC[0], &[0x08, 0x00], &header, &vec![0; payload]].concat()
    }

    fn ipv6(payload: usize, hops: u8) -> Vec<u8> {
        let len = (payload as u16).to_be_bytes();
        let addresses = [v6(0, 2).octets(), v6(1, 2).octets()].concat();
        let ethernet = [&ROUTER_MAC[0][..], &HOST_MAC[0], &[0x86, 0xdd]].concat();
        [&ethernet[..], &[0x60, 0, 0, 0], &len, &[17, hops], &addresses, &vec![0; payload]].concat()
    }

    #[test]
    fn forwards_ipv4_with_one_hop_less_and_a_right_checksum() {
        let ([_, arrived], counters) = exchange(&ipv4(100, 64, v4(1, 2)));
        let arrived = arrived.expect("forwarded");
        assert_eq!(arrived[..12], [HOST_MAC[1], ROUTER_MAC[1]].concat());
        assert_eq!(arrived[22], 63);
        assert_eq!(wire::checksum(&[&arrived[14..34]]), 0);
        assert_eq!(counters.forwarded, 1);
    }

    #[test]
    fn forwards_ipv6_with_one_hop_less() {
        let ([_, arrived], _) = exchange(&ipv6(100, 64));
        assert_eq!(arrived.expect("forwarded")[21], 63);
    }

    #[test]
    fn says_too_big_with_the_next_links_mtu() {
        let ([answer, _], counters) = exchange(&ipv4(1_400, 64, v4(1, 2)));
        let answer = answer.expect("an ICMP error");
        assert_eq!(answer[34..36], [3, 4]);
        assert_eq!(wire::u16_at(&answer, 40), 1280);
        assert_eq!(wire::checksum(&[&answer[34..]]), 0);
        assert_eq!(counters.refused, 1);
        let ([answer, _], _) = exchange(&ipv6(1_400, 64));
        let answer = answer.expect("an ICMPv6 error");
        assert_eq!((answer[54], wire::u16_at(&answer, 60)), (2, 1280));
        assert_eq!(wire::icmpv6_checksum(v6(0, 1), v6(0, 2), &answer[54..]), 0);
    }

    #[test]
    fn says_time_exceeded_at_the_last_hop() {
        let ([answer, _], _) = exchange(&ipv4(8, 1, v4(1, 2)));
        assert_eq!(answer.expect("an ICMP error")[34], 11);
        let ([answer, _], _) = exchange(&ipv6(8, 1));
        assert_eq!(answer.expect("an ICMPv6 error")[54], 3);
    }

    #[test]
    fn answers_arp_for_its_address_and_learns_the_asker() {
        let request = [
            &[0xff; 6][..],
            &HOST_MAC[0],
            &[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1],
            &HOST_MAC[0],
            &v4(0, 2).octets(),
            &[0; 6],
            &v4(0, 1).octets(),
        ]
        .concat();
        let ([reply, _], counters) = exchange(&request);
        let reply = reply.expect("a reply");
        assert_eq!(reply[20..32], [&[0, 2][..], &ROUTER_MAC[0], &v4(0, 1).octets()].concat());
        assert_eq!(counters.neighbours, 1);
    }

    #[test]
    fn asks_for_a_neighbour_that_it_does_not_know() {
        let ([_, question], counters) = exchange(&ipv4(8, 64, v4(1, 9)));
        let question = question.expect("an ARP request");
        assert_eq!(wire::u16_at(&question, 20), 1);
        assert_eq!(question[38..42], v4(1, 9).octets());
        assert_eq!(counters.dropped, 1);
    }

    #[test]
    fn follows_the_longest_prefix() {
        let (mut network, ends, router) = two_subnets();
        let prefix = |len| Prefix { address: v4(9, 0).into(), len };
        router.borrow_mut().add_route(prefix(8), v4(0, 2).into());
        router.borrow_mut().add_route(prefix(16), v4(1, 2).into());
        ends[0].send(&ipv4(8, 64, v4(9, 9))).expect("the ring is empty");
        network.run_for(Duration::from_millis(1));
        assert!(ends[1].has_arrived());
    }
}
