//! Frames that no protocol has, as a broken card or a hostile neighbour puts them on a host's link: of each reason to
//! discard before TCP one frame that meets it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::segment::{frame, transport_checksum};
use crate::wire::{self, ETHERNET_BYTES, Mac};

const BROADCAST: Mac = [0xff; 6];
const GROUP_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const SCTP: u8 = 132;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const IPV6_OPTIONS: u8 = 60;
/// RFC 4861, section 7.1.1.
const NDP_HOPS: u8 = 255;
/// A socket there takes datagrams, and nobody reads them.
pub(in crate::seed) const UNREAD_PORT: u16 = 9_999;
/// More than a socket holds (208 KiB).
const UNREAD_DATAGRAMS: usize = 160;
const UNREAD_BYTES: usize = 1_440;

/// Who scribbles on whose link.
#[derive(Copy, Clone, Debug)]
pub(in crate::seed) struct Desk {
    pub own: Mac,
    pub host: Mac,
    pub own_v4: Ipv4Addr,
    pub host_v4: Ipv4Addr,
    pub own_v6: Ipv6Addr,
    pub host_v6: Ipv6Addr,
    /// The neighbour that the host uses.
    pub router_v4: Ipv4Addr,
}

impl Desk {
    /// Everything that can be scribbled, in order.
    pub(in crate::seed) fn frames(&self) -> Vec<Vec<u8>> {
        let mut frames = self.link();
        frames.extend(self.neighbours());
        frames.extend(self.ipv4_headers());
        frames.extend(self.ipv6_headers());
        frames.extend(self.addresses());
        frames.extend(self.fragments());
        frames.extend(self.icmp());
        frames.extend(self.datagrams());
        frames
    }

    // ---- pieces ----

    fn v4(&self, protocol: u8, body: &[u8]) -> Vec<u8> {
        frame((self.own, self.host), (self.own_v4.into(), self.host_v4.into()), protocol, body)
    }

    fn v6(&self, protocol: u8, body: &[u8]) -> Vec<u8> {
        frame((self.own, self.host), (self.own_v6.into(), self.host_v6.into()), protocol, body)
    }

    fn udp(&self, ports: (u16, u16), text: &[u8]) -> Vec<u8> {
        self.v4(wire::PROTOCOL_UDP, &udp((self.own_v4.into(), self.host_v4.into()), ports, text))
    }

    /// An IPv4 packet whose header `change` makes wrong, with the checksum right again.
    fn changed_v4(&self, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = self.udp((1, 2), b"scribble");
        change(&mut frame);
        mend(&mut frame);
        frame
    }

    /// An IPv4 packet with options behind its header.
    fn optioned(&self, options: &[u8]) -> Vec<u8> {
        self.changed_v4(|frame| {
            let at = ETHERNET_BYTES + wire::IPV4_BYTES;
            frame.splice(at..at, options.iter().copied());
            frame[ETHERNET_BYTES] += (options.len() / 4) as u8;
            let len = (frame.len() - ETHERNET_BYTES) as u16;
            frame[16..18].copy_from_slice(&len.to_be_bytes());
        })
    }

    fn icmp4(&self, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let sum = wire::checksum(&[&message]);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.v4(wire::PROTOCOL_ICMP, &message)
    }

    fn icmp6(&self, hops: u8, message: &[u8]) -> Vec<u8> {
        let mut message = message.to_vec();
        let sum = wire::icmpv6_checksum(self.own_v6, self.host_v6, &message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut frame = self.v6(wire::PROTOCOL_ICMPV6, &message);
        frame[21] = hops;
        frame
    }

    fn arp(&self, sender_mac: Mac, sender: Ipv4Addr) -> Vec<u8> {
        let mut frame = [&self.host[..], &self.own, &wire::ETHERTYPE_ARP.to_be_bytes()].concat();
        // Ethernet and IPv4, a request (RFC 826).
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(sender_mac);
        frame.extend(sender.octets());
        frame.extend([0; 6]);
        frame.extend(self.host_v4.octets());
        frame
    }

    fn advertisement(&self, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
        [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat()
    }

    // ---- what they make ----

    fn link(&self) -> Vec<Vec<u8>> {
        let good = self.udp((1, 2), b"scribble");
        let typed = |kind: &[u8]| [&good[..12], kind, &good[14..]].concat();
        let to = |mac: Mac| [&mac[..], &good[6..]].concat();
        vec![
            vec![0; 9],
            to([2, 9, 9, 9, 9, 9]),
            [&good[..6], &BROADCAST, &good[12..]].concat(),
            typed(&[0x88, 0xcc]),
            to(BROADCAST),
            typed(&[0x81, 0, 0, 5, 8, 0]),
            typed(&[0x88, 0xa8, 0, 5, 8, 0]),
        ]
    }

    fn neighbours(&self) -> Vec<Vec<u8>> {
        let mut odd = self.arp(self.own, self.own_v4);
        odd[21] = 9;
        let mut coded = self.advertisement(self.own_v6, self.own);
        coded[1] = 1;
        vec![
            odd,
            self.arp(BROADCAST, self.own_v4),
            self.arp(self.own, self.host_v4),
            self.arp(self.own, self.router_v4),
            self.icmp6(NDP_HOPS, &coded),
            self.icmp6(64, &self.advertisement(self.own_v6, self.own)),
            self.icmp6(NDP_HOPS, &self.advertisement(self.host_v6, self.own)),
            self.icmp6(NDP_HOPS, &self.advertisement(self.own_v6, GROUP_MAC)),
        ]
    }

    fn ipv4_headers(&self) -> Vec<Vec<u8>> {
        let mut wrong = self.udp((1, 2), b"scribble");
        wrong[24] ^= 0x55;
        let mut short = self.udp((1, 2), b"scribble");
        short.truncate(ETHERNET_BYTES + 10);
        vec![
            short,
            self.changed_v4(|frame| frame[14] = 0x55),
            self.changed_v4(|frame| frame[14] = 0x44),
            self.changed_v4(|frame| frame[16] = 0x20),
            wrong,
            self.optioned(&[7, 40, 4, 0]),
            self.optioned(&[131, 4, 4, 0]),
        ]
    }

    fn ipv6_headers(&self) -> Vec<Vec<u8>> {
        let good = self.v6(wire::PROTOCOL_UDP, &[0; 8]);
        let at = |index: usize, byte: u8| {
            let mut frame = good.clone();
            frame[index] = byte;
            frame
        };
        // Padding options of eight bytes (RFC 8200, section 4.2), one after the other.
        let padded = |count: usize| -> Vec<u8> {
            (0..count).flat_map(|_| [IPV6_OPTIONS, 0, 1, 4, 0, 0, 0, 0]).collect()
        };
        vec![
            good[..ETHERNET_BYTES + 20].to_vec(),
            at(14, 0x50),
            at(18, 0x20),
            self.v6(IPV6_OPTIONS, &[wire::PROTOCOL_UDP, 9]),
            self.v6(IPV6_OPTIONS, &[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]),
            self.v6(IPV6_OPTIONS, &padded(20)),
            self.v6(IPV6_OPTIONS, &[17, 0, 0xc5, 4, 0, 0, 0, 0]),
            self.v6(IPV6_OPTIONS, &[&[17, 1][..], &[0; 14]].concat()),
            self.v6(IPV6_ROUTING, &[17, 0, 0, 1, 0, 0, 0, 0]),
        ]
    }

    fn addresses(&self) -> Vec<Vec<u8>> {
        let between = |from: [u8; 4], to: [u8; 4], protocol: u8| {
            let ends: (IpAddr, IpAddr) = (from.into(), to.into());
            frame((self.own, self.host), ends, protocol, &udp(ends, (1, 2), b"?"))
        };
        let (own, host) = (self.own_v4.octets(), self.host_v4.octets());
        vec![
            between(host, host, wire::PROTOCOL_UDP),
            between([127, 0, 0, 1], host, wire::PROTOCOL_UDP),
            between(own, [127, 0, 0, 1], wire::PROTOCOL_UDP),
            between(own, [10, 99, 0, 1], wire::PROTOCOL_UDP),
            between(own, [224, 0, 0, 5], wire::PROTOCOL_UDP),
            self.v4(SCTP, &[0; 12]),
        ]
    }

    fn fragments(&self) -> Vec<Vec<u8>> {
        let part = |identification: u16, offset: u16, more: bool, len: usize| {
            let mut frame = self.v4(wire::PROTOCOL_UDP, &vec![0x66; len]);
            frame[18..20].copy_from_slice(&identification.to_be_bytes());
            frame[20..22].copy_from_slice(&((offset / 8) | if more { 0x2000 } else { 0 }).to_be_bytes());
            mend(&mut frame);
            frame
        };
        let mut frames = vec![
            part(1, 0, true, 13),
            part(2, 65_528, false, 1_000),
            part(3, 0, true, 16),
            part(3, 0, true, 16),
            part(4, 0, true, 32),
            part(4, 16, true, 32),
            // Alone for ever.
            part(5, 0, true, 16),
            self.v6(IPV6_FRAGMENT, &[17, 0, 0, 1]),
        ];
        let part6 = |next: u8, identification: u8, field: u16, rest: &[u8]| {
            let [high, low] = field.to_be_bytes();
            self.v6(IPV6_FRAGMENT, &[&[next, 0, high, low, 0, 0, 0, identification][..], rest].concat())
        };
        frames.extend([
            part6(wire::PROTOCOL_TCP, 1, 1, &[0; 16]),
            part6(IPV6_FRAGMENT, 2, 1, &[17, 0, 0, 0, 0, 0, 0, 1]),
            // An overlap, and what comes after it.
            part6(wire::PROTOCOL_UDP, 3, 1, &[0; 32]),
            part6(wire::PROTOCOL_UDP, 3, 16 | 1, &[0; 32]),
            part6(wire::PROTOCOL_UDP, 3, 64 | 1, &[0; 32]),
        ]);
        // As long as a packet may be.
        frames.extend((0..44).map(|index| part(7, 1_440 * index, true, 1_440)));
        // In more parts than any link makes, and more packets than wait for theirs.
        frames.extend((0..140).map(|index| part(6, 16 * index, true, 8)));
        frames.extend((0..300).map(|index| part(100 + index, 0, true, 8)));
        frames
    }

    fn icmp(&self) -> Vec<Vec<u8>> {
        let mut wrong = self.icmp4(&[8, 0, 0, 0, 0, 1, 0, 2, 9]);
        wrong[36] ^= 1;
        let quoted = |ports: (u16, u16)| {
            let (from, to): (IpAddr, IpAddr) = (self.host_v4.into(), self.own_v4.into());
            let quoted =
                frame(([0; 6], [0; 6]), (from, to), wire::PROTOCOL_UDP, &udp((from, to), ports, b"?"));
            quoted[ETHERNET_BYTES..].to_vec()
        };
        let of_tcp = {
            let (from, to): (IpAddr, IpAddr) = (self.host_v4.into(), self.own_v4.into());
            frame(([0; 6], [0; 6]), (from, to), wire::PROTOCOL_TCP, &[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0])
        };
        vec![
            self.v4(wire::PROTOCOL_ICMP, &[8, 0, 0, 0]),
            wrong,
            self.icmp4(&[13, 0, 0, 0, 0, 0, 0, 0]),
            self.icmp4(&[3, 3, 0, 0, 0, 0, 0, 0, 0x45, 0]),
            self.icmp4(&[&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted((1, 2))].concat()),
            self.icmp4(&[&[3, 3, 0, 0, 0, 0, 0, 0][..], &of_tcp[ETHERNET_BYTES..]].concat()),
        ]
    }

    fn datagrams(&self) -> Vec<Vec<u8>> {
        let mut short_len = self.udp((1, 2), b"x");
        short_len[39] = 7;
        let mut wrong = self.udp((1, 2), b"wrong");
        wrong[42] ^= 1;
        let text = vec![b'u'; UNREAD_BYTES];
        let mut frames = vec![
            self.v4(wire::PROTOCOL_UDP, &[0; 7]),
            short_len,
            wrong,
            self.v6(wire::PROTOCOL_UDP, &[0, 1, 0, 2, 0, 8, 0, 0]),
            self.udp((1, 2), b"nobody"),
            self.v4(wire::PROTOCOL_TCP, &[0; 19]),
        ];
        frames.extend((0..UNREAD_DATAGRAMS).map(|_| self.udp((1, UNREAD_PORT), &text)));
        frames
    }
}

/// A UDP datagram with its checksum.
fn udp(ends: (IpAddr, IpAddr), ports: (u16, u16), text: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + text.len());
    datagram.extend(ports.0.to_be_bytes());
    datagram.extend(ports.1.to_be_bytes());
    datagram.extend((8 + text.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(text);
    let sum = transport_checksum(ends.0, ends.1, wire::PROTOCOL_UDP, &datagram);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// Makes the IPv4 header's checksum right again, as long as the header says that it is.
fn mend(frame: &mut [u8]) {
    let len = usize::from(frame[ETHERNET_BYTES] & 0x0f) * 4;
    let header = &mut frame[ETHERNET_BYTES..][..len.max(wire::IPV4_BYTES)];
    header[10..12].fill(0);
    let sum = wire::checksum(&[header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
