//! Segments as a liar reads and writes them: every field is free, the checksums are right.

use std::net::{IpAddr, SocketAddr};

use crate::wire::{self, ETHERNET_BYTES, Mac};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const PSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;
pub(super) const URG: u8 = 0x20;

const TCP_BYTES: usize = 20;
/// Time to live and hop limit (RFC 1700's recommendation).
const HOPS: u8 = 64;

/// Two ends of a flow, seen from the liar.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ends {
    pub local: SocketAddr,
    pub remote: SocketAddr,
}

/// What a liar says.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// Padded to words when it is written.
    pub options: Vec<u8>,
    pub text: Vec<u8>,
    pub forged: Option<Forged>,
}

/// A header that is no header.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Forged {
    /// A data offset past the segment's end.
    Offset,
    Checksum,
    /// Less than a header.
    Short,
    PortZero,
}

/// What it heard.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub ends: Ends,
    pub seq: u32,
    pub flags: u8,
    pub text_bytes: u32,
    /// TSval, where there is one.
    pub timestamp: Option<u32>,
    pub sack_permitted: bool,
}

impl Heard {
    /// Reads a TCP segment behind an untagged Ethernet header. `None`: something else.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let (source, destination) = wire::addresses(frame)?;
        let (protocol, transport, end) = if source.is_ipv4() {
            let header = usize::from(frame[ETHERNET_BYTES] & 0x0f) * 4;
            (frame[23], ETHERNET_BYTES + header, ETHERNET_BYTES + usize::from(wire::u16_at(frame, 16)))
        } else {
            let start = ETHERNET_BYTES + wire::IPV6_BYTES;
            (frame[20], start, start + usize::from(wire::u16_at(frame, 18)))
        };
        let segment = frame.get(transport..end.min(frame.len()))?;
        if protocol != wire::PROTOCOL_TCP || segment.len() < TCP_BYTES {
            return None;
        }
        let header = (usize::from(segment[12] >> 4) * 4).clamp(TCP_BYTES, segment.len());
        let (timestamp, sack_permitted) = options(&segment[TCP_BYTES..header]);
        Some(Self {
            ends: Ends {
                local: SocketAddr::new(destination, wire::u16_at(segment, 2)),
                remote: SocketAddr::new(source, wire::u16_at(segment, 0)),
            },
            seq: u32_at(segment, 4),
            flags: segment[13],
            text_bytes: (segment.len() - header) as u32,
            timestamp,
            sack_permitted,
        })
    }

    pub(super) fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sequence numbers that it takes.
    pub(super) fn len(&self) -> u32 {
        self.text_bytes + u32::from(self.has(SYN)) + u32::from(self.has(FIN))
    }
}

/// The value of a timestamp, and whether SACK is permitted.
fn options(mut rest: &[u8]) -> (Option<u32>, bool) {
    let mut found = (None, false);
    while let [kind, tail @ ..] = rest {
        let len = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(tail.first().copied().unwrap_or(0)).max(2),
        };
        match kind {
            4 => found.1 = true,
            8 if rest.len() >= 10 => found.0 = Some(u32_at(rest, 2)),
            _ => {}
        }
        rest = &rest[len.min(rest.len())..];
    }
    found
}

pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(wire::u16_at(bytes, offset)) << 16 | u32::from(wire::u16_at(bytes, offset + 2))
}

pub(super) fn timestamps(value: u32, echo: u32) -> Vec<u8> {
    let mut option = vec![1, 1, 8, 10];
    option.extend(value.to_be_bytes());
    option.extend(echo.to_be_bytes());
    option
}

/// A SACK option of up to three blocks.
pub(super) fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
    let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    for (left, right) in blocks {
        option.extend(left.to_be_bytes());
        option.extend(right.to_be_bytes());
    }
    option
}

/// MSS, SACK permitted, timestamps, window scale: what a SYN has.
pub(super) fn syn_options(mss: u16, scale: u8, timestamp: Option<(u32, u32)>, sack: bool) -> Vec<u8> {
    let mut option = vec![2, 4];
    option.extend(mss.to_be_bytes());
    option.extend([1, 3, 3, scale]);
    if sack {
        option.extend([1, 1, 4, 2]);
    }
    if let Some((value, echo)) = timestamp {
        option.extend(timestamps(value, echo));
    }
    option
}

/// The TCP header and text, with a checksum.
pub(super) fn tcp(ends: Ends, said: &Said) -> Vec<u8> {
    let mut options = said.options.clone();
    options.resize(options.len().next_multiple_of(4).min(40), 0);
    let mut segment = Vec::with_capacity(TCP_BYTES + options.len() + said.text.len());
    segment.extend(ends.local.port().to_be_bytes());
    segment.extend(ends.remote.port().to_be_bytes());
    segment.extend(said.seq.to_be_bytes());
    segment.extend(said.ack.to_be_bytes());
    segment.extend([(((TCP_BYTES + options.len()) / 4) << 4) as u8, said.flags]);
    segment.extend(said.window.to_be_bytes());
    // Checksum, and an urgent pointer that points somewhere.
    segment.extend([0, 0, 0, u8::from(said.flags & URG != 0)]);
    segment.extend(&options);
    segment.extend(&said.text);
    match said.forged {
        Some(Forged::Offset) => segment[12] = 0xf0,
        Some(Forged::Short) => segment.truncate(12),
        Some(Forged::PortZero) => segment[..2].fill(0),
        Some(Forged::Checksum) | None => {}
    }
    finish_tcp(ends, &mut segment);
    if said.forged == Some(Forged::Checksum) {
        segment[16] ^= 0x55;
    }
    segment
}

/// Writes the checksum of a TCP segment, however it looks otherwise.
pub(super) fn finish_tcp(ends: Ends, segment: &mut [u8]) {
    if segment.len() < 18 {
        return;
    }
    segment[16..18].fill(0);
    let sum = transport_checksum(ends.local.ip(), ends.remote.ip(), wire::PROTOCOL_TCP, segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
}

/// The checksum of a transport's bytes with its pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub(super) fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, bytes: &[u8]) -> u16 {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let len = (bytes.len() as u16).to_be_bytes();
            wire::checksum(&[&source.octets(), &destination.octets(), &[0, protocol], &len, bytes])
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let len = (bytes.len() as u32).to_be_bytes();
            wire::checksum(&[&source.octets(), &destination.octets(), &len, &[0, 0, 0, protocol], bytes])
        }
        _ => 0,
    }
}

/// Ethernet and IP around a transport's bytes.
pub(super) fn frame(macs: (Mac, Mac), ends: (IpAddr, IpAddr), protocol: u8, transport: &[u8]) -> Vec<u8> {
    let (source, destination) = macs;
    let mut frame = Vec::with_capacity(ETHERNET_BYTES + wire::IPV6_BYTES + transport.len());
    frame.extend(destination);
    frame.extend(source);
    match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend(wire::ETHERTYPE_IPV4.to_be_bytes());
            let len = (wire::IPV4_BYTES + transport.len()) as u16;
            let mut header = [0; wire::IPV4_BYTES];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&len.to_be_bytes());
            // Don't fragment.
            header[6] = 0x40;
            (header[8], header[9]) = (HOPS, protocol);
            header[12..16].copy_from_slice(&from.octets());
            header[16..20].copy_from_slice(&to.octets());
            let sum = wire::checksum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend(wire::ETHERTYPE_IPV6.to_be_bytes());
            frame.extend([0x60, 0, 0, 0]);
            frame.extend((transport.len() as u16).to_be_bytes());
            frame.extend([protocol, HOPS]);
            frame.extend(from.octets());
            frame.extend(to.octets());
        }
        _ => {}
    }
    frame.extend(transport);
    frame
}
