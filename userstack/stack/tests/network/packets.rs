//! Packets written byte by byte, and read again, with plain arithmetic of their own: what the stack is measured by.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::net::{IpAddr, SocketAddr};

/// RFC 1071, word by word.
pub fn sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let mut bytes = [octets(source), octets(destination)].concat();
    bytes.extend_from_slice(&(len as u32).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, protocol]);
    bytes
}

/// How a packet is to be made.
#[derive(Clone)]
pub struct Spec {
    pub link_source: [u8; 6],
    pub link_destination: [u8; 6],
    pub vlan: Option<u16>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hops: u8,
    pub dont_fragment: bool,
}

impl Spec {
    /// From `source` to `destination`, between two hosts of [`super::interface`]'s hardware addresses.
    pub fn new(source: &str, destination: &str, link_destination: [u8; 6]) -> Self {
        Self {
            link_source: [2, 0, 0, 0, 0xee, 0xee],
            link_destination,
            vlan: None,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: 17,
            hops: 64,
            dont_fragment: false,
        }
    }

    pub fn frame(&self, body: &[u8]) -> Vec<u8> {
        let mut frame = [self.link_destination, self.link_source].concat();
        if let Some(vlan) = self.vlan {
            frame.extend_from_slice(&[0x81, 0]);
            frame.extend_from_slice(&vlan.to_be_bytes());
        }
        if self.source.is_ipv4() {
            frame.extend_from_slice(&[8, 0]);
            let flags = if self.dont_fragment { 0x40 } else { 0 };
            let len = (20 + body.len()) as u16;
            let mut header = vec![0x45, 0, (len >> 8) as u8, len as u8, 0x12, 0x34, flags, 0, self.hops];
            header.extend_from_slice(&[self.protocol, 0, 0]);
            header.extend_from_slice(&octets(self.source));
            header.extend_from_slice(&octets(self.destination));
            let checksum = !sum(&header);
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
            frame.extend_from_slice(&header);
        } else {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
            frame.extend_from_slice(&[self.protocol, self.hops]);
            frame.extend_from_slice(&octets(self.source));
            frame.extend_from_slice(&octets(self.destination));
        }
        frame.extend_from_slice(body);
        frame
    }

    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let len = (8 + payload.len()) as u16;
        let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), len.to_be_bytes(), [0, 0]].concat();
        body.extend_from_slice(payload);
        let pseudo = pseudo_header(self.source, self.destination, 17, body.len());
        let checksum = match !sum(&[pseudo, body.clone()].concat()) {
            0 => 0xffff,
            checksum => checksum,
        };
        body[6..8].copy_from_slice(&checksum.to_be_bytes());
        Self { protocol: 17, ..self.clone() }.frame(&body)
    }

    /// A SYN.
    pub fn tcp(&self, ports: (u16, u16)) -> Vec<u8> {
        let mut body = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
        body.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x10, 0, 0, 0, 0, 0]);
        let pseudo = pseudo_header(self.source, self.destination, 6, body.len());
        let checksum = !sum(&[pseudo, body.clone()].concat());
        body[16..18].copy_from_slice(&checksum.to_be_bytes());
        Self { protocol: 6, ..self.clone() }.frame(&body)
    }

    /// An ICMP or ICMPv6 message; the checksum field of `message` is filled in.
    pub fn icmp(&self, message: &[u8]) -> Vec<u8> {
        let mut body = message.to_vec();
        body[2..4].fill(0);
        let (protocol, pseudo) = match self.source {
            IpAddr::V4(_) => (1, vec![]),
            IpAddr::V6(_) => (58, pseudo_header(self.source, self.destination, 58, body.len())),
        };
        let checksum = !sum(&[pseudo, body.clone()].concat());
        body[2..4].copy_from_slice(&checksum.to_be_bytes());
        Self { protocol, ..self.clone() }.frame(&body)
    }
}

/// A packet read back, every checksum verified.
#[derive(Debug)]
pub struct Read {
    pub link_destination: [u8; 6],
    pub link_source: [u8; 6],
    pub vlan: Option<u16>,
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hops: u8,
    /// Offset and whether more follow.
    pub fragment: Option<(usize, bool)>,
    pub body: Vec<u8>,
}

impl Read {
    /// Panics where a checksum or a length is wrong. `None`: it is no IP.
    pub fn new(frame: &[u8]) -> Option<Self> {
        let vlan = (frame[12..14] == [0x81, 0]).then(|| u16::from_be_bytes([frame[14], frame[15]]));
        let network = if vlan.is_some() { 18 } else { 14 };
        let packet = &frame[network..];
        let mut read = match frame[network - 2..network] {
            [8, 0] => Self::v4(packet),
            [0x86, 0xdd] => Self::v6(packet),
            _ => return None,
        };
        read.link_destination = frame[..6].try_into().unwrap();
        read.link_source = frame[6..12].try_into().unwrap();
        read.vlan = vlan;
        read.check_transport();
        Some(read)
    }

    fn v4(packet: &[u8]) -> Self {
        let header_len = usize::from(packet[0] & 0xf) * 4;
        assert_eq!(sum(&packet[..header_len]), 0xffff, "IPv4 header checksum");
        let len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        assert_eq!(len, packet.len(), "IPv4 total length");
        let flags = u16::from_be_bytes([packet[6], packet[7]]);
        let fragment =
            (flags & 0x3fff != 0).then_some((usize::from(flags & 0x1fff) * 8, flags & 0x2000 != 0));
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        Self::of((address(12), address(16)), packet[9], packet[8], fragment, &packet[header_len..])
    }

    fn v6(packet: &[u8]) -> Self {
        assert_eq!(
            usize::from(u16::from_be_bytes([packet[4], packet[5]])),
            packet.len() - 40,
            "payload length"
        );
        let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
        let ends = (address(8), address(24));
        if packet[6] != 44 {
            return Self::of(ends, packet[6], packet[7], None, &packet[40..]);
        }
        let field = u16::from_be_bytes([packet[42], packet[43]]);
        let fragment = Some((usize::from(field & !7), field & 1 == 1));
        Self::of(ends, packet[40], packet[7], fragment, &packet[48..])
    }

    fn of(
        (source, destination): (IpAddr, IpAddr),
        protocol: u8,
        hops: u8,
        fragment: Option<(usize, bool)>,
        body: &[u8],
    ) -> Self {
        Self {
            link_destination: [0; 6],
            link_source: [0; 6],
            vlan: None,
            source,
            destination,
            protocol,
            hops,
            fragment,
            body: body.to_vec(),
        }
    }

    fn check_transport(&self) {
        let (pseudo, absent) = match self.protocol {
            _ if self.fragment.is_some() => return,
            1 => (vec![], false),
            17 => (self.pseudo_header(), self.source.is_ipv4() && self.body[6..8] == [0, 0]),
            _ => (self.pseudo_header(), false),
        };
        assert!(absent || sum(&[pseudo, self.body.clone()].concat()) == 0xffff, "checksum of {self:?}");
    }

    fn pseudo_header(&self) -> Vec<u8> {
        pseudo_header(self.source, self.destination, self.protocol, self.body.len())
    }

    fn port(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.body[at], self.body[at + 1]])
    }

    pub fn from(&self) -> SocketAddr {
        SocketAddr::new(self.source, self.port(0))
    }

    pub fn to(&self) -> SocketAddr {
        SocketAddr::new(self.destination, self.port(2))
    }

    pub fn udp_payload(&self) -> &[u8] {
        &self.body[8..]
    }
}
