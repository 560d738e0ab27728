//! A trace as a pcapng file (draft-ietf-opsawg-pcapng), for Wireshark.

use std::io;

use crate::trace::Kept;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const LINKTYPE_ETHERNET: u16 = 1;
const OPTION_COMMENT: u16 = 1;
const OPTION_IF_NAME: u16 = 2;
const OPTION_IF_TSRESOL: u16 = 9;
/// Timestamps count 10^-9 s.
const NANOSECONDS: u8 = 9;

pub(crate) fn write<'a>(
    links: &[&str],
    packets: impl Iterator<Item = &'a Kept>,
    to: &mut dyn io::Write,
) -> io::Result<()> {
    to.write_all(&section_header())?;
    for link in links {
        for direction in [">", "<"] {
            to.write_all(&interface(&format!("{link} {direction}")))?;
        }
    }
    for packet in packets {
        to.write_all(&enhanced_packet(packet))?;
    }
    to.flush()
}

fn section_header() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(0x1a2b_3c4d_u32.to_le_bytes());
    body.extend(1_u16.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(u64::MAX.to_le_bytes()); // section length: not given
    block(SECTION_HEADER, &body)
}

fn interface(name: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(LINKTYPE_ETHERNET.to_le_bytes());
    body.extend(0_u16.to_le_bytes());
    body.extend(0_u32.to_le_bytes()); // no limit to a packet's length
    option(&mut body, OPTION_IF_NAME, name.as_bytes());
    option(&mut body, OPTION_IF_TSRESOL, &[NANOSECONDS]);
    body.extend([0; 4]);
    block(INTERFACE_DESCRIPTION, &body)
}

fn enhanced_packet(packet: &Kept) -> Vec<u8> {
    let interface = packet.passage.link as u32 * 2 + packet.passage.direction as u32;
    let nanos = packet.passage.at.as_nanos();
    let mut body = Vec::new();
    body.extend(interface.to_le_bytes());
    body.extend(((nanos >> 32) as u32).to_le_bytes());
    body.extend((nanos as u32).to_le_bytes());
    body.extend((packet.bytes.len() as u32).to_le_bytes());
    body.extend((packet.len as u32).to_le_bytes());
    body.extend(&packet.bytes);
    pad(&mut body);
    option(&mut body, OPTION_COMMENT, packet.fate.name().as_bytes());
    body.extend([0; 4]);
    block(ENHANCED_PACKET, &body)
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Type, length, body, length again.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 12).to_le_bytes();
    [&kind.to_le_bytes()[..], &len, body, &len].concat()
}
