//! Packets of peers that are only templates: Ethernet, IPv4 or IPv6, UDP or TCP, checksums right.

use std::net::{IpAddr, SocketAddr};

/// Bytes of an Ethernet header.
const LINK_BYTES: usize = 14;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// From whom and to whom, on the link too.
#[derive(Copy, Clone, Debug)]
pub struct Ends {
    pub from_mac: [u8; 6],
    pub to_mac: [u8; 6],
    pub from: SocketAddr,
    pub to: SocketAddr,
}

/// A TCP header: timestamps always, the options of a SYN where it is one.
#[derive(Copy, Clone, Debug)]
pub struct Tcp {
    pub seq: u32,
    pub ack: u32,
    pub syn: bool,
    pub fin: bool,
    /// TSval and TSecr.
    pub timestamps: (u32, u32),
}

pub fn udp(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("a datagram fits a packet");
    let mut body = ports(ends);
    body.extend(len.to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    finish(ends, PROTOCOL_UDP, body, 6)
}

pub fn tcp(ends: &Ends, header: &Tcp, text: &[u8]) -> Vec<u8> {
    let mut options = vec![1, 1, 8, 10];
    options.extend(header.timestamps.0.to_be_bytes());
    options.extend(header.timestamps.1.to_be_bytes());
    if header.syn {
        // MSS 1460, SACK permitted, window scale 7.
        options.extend([2, 4, 0x05, 0xb4, 4, 2, 3, 3, 7, 0, 0, 0]);
    }
    let flags = if header.syn { 0x02 } else { 0x10 | u8::from(header.fin) };
    let words = u8::try_from((20 + options.len()) / 4).expect("a TCP header has at most 15 words");
    let mut body = ports(ends);
    body.extend(header.seq.to_be_bytes());
    body.extend(header.ack.to_be_bytes());
    body.extend([words << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    body.extend(options);
    body.extend(text);
    finish(ends, PROTOCOL_TCP, body, 16)
}

/// Leaves the checksum of a TCP packet to whoever receives it, as a veth's neighbour does: the pseudo-header's sum alone.
pub fn leave_unfinished(packet: &mut [u8]) {
    let (addresses, transport) = if packet[12..14] == [8, 0] { (26..34, 34) } else { (22..54, 54) };
    let len = packet.len() - transport;
    let pseudo = sum(&packet[addresses]) + u64::from(PROTOCOL_TCP) + len as u64;
    packet[transport + 16..transport + 18].copy_from_slice(&fold(pseudo).to_be_bytes());
}

fn ports(ends: &Ends) -> Vec<u8> {
    [ends.from.port().to_be_bytes(), ends.to.port().to_be_bytes()].concat()
}

/// Fills in the checksum and puts the headers of IP and Ethernet before `body`.
fn finish(ends: &Ends, protocol: u8, mut body: Vec<u8>, checksum_at: usize) -> Vec<u8> {
    let len = u16::try_from(body.len()).expect("a body fits a packet");
    let (from, to) = (octets(ends.from.ip()), octets(ends.to.ip()));
    let pseudo = sum(&from) + sum(&to) + u64::from(protocol) + u64::from(len);
    let checksum = !fold(pseudo + sum(&body));
    body[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
    let mut packet = [ends.to_mac, ends.from_mac].concat();
    if ends.from.is_ipv4() {
        let mut header = vec![0x45, 0];
        header.extend((len + 20).to_be_bytes());
        header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
        header.extend([from, to].concat());
        let checksum = !fold(sum(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend([8, 0]);
        packet.extend(header);
    } else {
        packet.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        packet.extend(len.to_be_bytes());
        packet.extend([protocol, 64]);
        packet.extend([from, to].concat());
    }
    packet.extend(body);
    packet
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// RFC 1071, not folded.
fn sum(bytes: &[u8]) -> u64 {
    let (words, last) = bytes.as_chunks::<2>();
    let last = last.first().map_or(0, |&byte| u64::from(byte) << 8);
    words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>() + last
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded to sixteen bits")
}

/// What a template must know of a TCP header that the stack wrote.
#[derive(Copy, Clone, Debug)]
pub struct Answer {
    pub seq: u32,
    pub timestamp: u32,
    pub text_bytes: u32,
}

/// Reads a TCP packet of the stack: no VLAN, no IP options.
pub fn read_tcp(packet: &[u8]) -> Answer {
    let ip_bytes = if packet[12..14] == [8, 0] { 20 } else { 40 };
    let segment = &packet[LINK_BYTES + ip_bytes..];
    let word = |at: usize| u32::from_be_bytes(segment[at..at + 4].try_into().expect("four bytes"));
    let header_bytes = usize::from(segment[12] >> 4) * 4;
    let text_bytes = u32::try_from(segment.len() - header_bytes).expect("a segment fits a packet");
    Answer { seq: word(4), timestamp: timestamp(&segment[20..header_bytes]), text_bytes }
}

/// TSval, where the timestamps option is (RFC 7323, section 3).
fn timestamp(mut options: &[u8]) -> u32 {
    while let Some(&kind) = options.first() {
        let length = match kind {
            8 => return u32::from_be_bytes(options[2..6].try_into().expect("four bytes")),
            0 | 1 => 1,
            _ => usize::from(options[1]),
        };
        options = &options[length..];
    }
    0
}
