//! The blocks of a pcapng file (draft-ietf-opsawg-pcapng): section header, interface description, enhanced packet.
//!
//! Each function appends one whole block; blocks can come from several threads and be joined by whoever writes the file:
//! a section header, one description per interface in the order of their numbers, then packets.

use crate::packet::Packet;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Length of the section: not known beforehand.
const UNKNOWN_LENGTH: u64 = u64::MAX;

const LINKTYPE_ETHERNET: u16 = 1;

const OPTION_END: u16 = 0;
/// In an interface description: `if_name`; in an enhanced packet: `epb_flags`.
const OPTION_NAME_OR_FLAGS: u16 = 2;
const OPTION_USER_APPLICATION: u16 = 4;
const OPTION_TIME_RESOLUTION: u16 = 9;

/// 10^-9 s.
const NANOSECONDS: u8 = 9;

/// Which way a packet went, seen from this host.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Received,
    Transmitted,
}

impl Direction {
    /// Bits 0 and 1 of `epb_flags`.
    const fn flags(self) -> u32 {
        match self {
            Self::Received => 0b01,
            Self::Transmitted => 0b10,
        }
    }
}

/// What an enhanced packet block says beside the bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PacketHead {
    /// Place of its description in the file, from zero.
    pub interface: u32,
    /// Since 1970, as the caller's clock has it.
    pub nanos: u64,
    pub direction: Direction,
    /// Bytes of a packet that are kept.
    pub snap_bytes: u32,
}

pub fn push_section_header(out: &mut Vec<u8>) {
    block(out, SECTION_HEADER, |out| {
        put_u32(out, BYTE_ORDER_MAGIC);
        put_u16(out, 1);
        put_u16(out, 0);
        out.extend(UNKNOWN_LENGTH.to_le_bytes());
        option(out, OPTION_USER_APPLICATION, b"ringway");
        option(out, OPTION_END, &[]);
    });
}

pub fn push_interface(out: &mut Vec<u8>, name: &str, snap_bytes: u32) {
    block(out, INTERFACE_DESCRIPTION, |out| {
        put_u16(out, LINKTYPE_ETHERNET);
        put_u16(out, 0);
        put_u32(out, snap_bytes);
        option(out, OPTION_NAME_OR_FLAGS, name.as_bytes());
        option(out, OPTION_TIME_RESOLUTION, &[NANOSECONDS]);
        option(out, OPTION_END, &[]);
    });
}

pub fn push_packet(out: &mut Vec<u8>, head: PacketHead, packet: &Packet) {
    block(out, ENHANCED_PACKET, |out| {
        let original = packet.len() as u32;
        let kept = original.min(head.snap_bytes);
        put_u32(out, head.interface);
        put_u32(out, (head.nanos >> 32) as u32);
        put_u32(out, head.nanos as u32);
        put_u32(out, kept);
        put_u32(out, original);
        let mut left = kept as usize;
        for frame in packet.iter() {
            let bytes = &frame.bytes()[..left.min(frame.len())];
            out.extend_from_slice(bytes);
            left -= bytes.len();
        }
        pad(out, kept as usize);
        option(out, OPTION_NAME_OR_FLAGS, &head.direction.flags().to_le_bytes());
        option(out, OPTION_END, &[]);
    });
}

/// Type, total length, body, total length again.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put_u32(out, kind);
    put_u32(out, 0);
    body(out);
    let length = ((out.len() - start + size_of::<u32>()) as u32).to_le_bytes();
    out.extend(length);
    out[start + 4..start + 8].copy_from_slice(&length);
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Interface names and our own values are far below 64 KiB; a longer one is cut.
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    put_u16(out, code);
    put_u16(out, value.len() as u16);
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Fields end on multiples of four bytes.
fn pad(out: &mut Vec<u8>, bytes: usize) {
    out.resize(out.len() + bytes.next_multiple_of(4) - bytes, 0);
}

fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend(value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend(value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Frame;

    /// Splits a file into its blocks' types and bodies, and checks both lengths of each.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap());
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let length = word(&file[4..]) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(&file[length - 4..]) as usize, length);
            blocks.push((word(file), file[8..length - 4].to_vec()));
            file = &file[length..];
        }
        blocks
    }

    fn chain(parts: &[&[u8]]) -> Packet {
        let mut frames = parts.iter().map(|bytes| {
            let mut frame = Frame::heap(bytes.len());
            frame.append(bytes);
            frame
        });
        let mut packet = Packet::new(frames.next().unwrap());
        frames.for_each(|frame| packet.push(frame).unwrap());
        packet
    }

    #[test]
    fn a_file_is_whole_blocks_with_both_lengths() {
        let mut file = Vec::new();
        push_section_header(&mut file);
        push_interface(&mut file, "eth0", 96);
        let head =
            PacketHead { interface: 0, nanos: 1 << 32 | 5, direction: Direction::Received, snap_bytes: 96 };
        push_packet(&mut file, head, &chain(&[b"abc", b"de"]));
        let blocks = blocks(&file);
        assert_eq!(blocks.iter().map(|block| block.0).collect::<Vec<_>>(), [SECTION_HEADER, 1, 6]);
        let packet = &blocks[2].1;
        assert_eq!(packet[4..12], [1, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(packet[12..20], [5, 0, 0, 0, 5, 0, 0, 0]);
        assert_eq!(packet[20..28], *b"abcde\0\0\0");
        assert_eq!(packet[28..36], [2, 0, 4, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_long_packet_is_cut_and_says_how_long_it_was() {
        let mut file = Vec::new();
        let head = PacketHead { interface: 3, nanos: 0, direction: Direction::Transmitted, snap_bytes: 4 };
        push_packet(&mut file, head, &chain(&[b"abc", b"def"]));
        let (_, packet) = &blocks(&file)[0];
        assert_eq!(packet[12..20], [4, 0, 0, 0, 6, 0, 0, 0]);
        assert_eq!(packet[20..24], *b"abcd");
        assert_eq!(packet[24..32], [2, 0, 4, 0, 2, 0, 0, 0]);
    }
}
