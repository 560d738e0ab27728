//! Frames of any bytes, in any order and at any time.
//!
//! A record is a byte of control, then the frame. Control, from the lowest bit: two bits of interface (uplink, workload,
//! tagged, none), whether checksums are put right, whether the packet is in small pieces, four bits of time before it.

use std::collections::BTreeSet;
use std::time::Duration;

use tests::fuzz::{Outcome, Target};

use crate::network::packets::{pseudo_header, sum};
use crate::node::{NONE, Node, TAGGED, UPLINK, WORKLOAD};
use crate::records::records;

/// The stack wants headers in the first piece, and no piece smaller.
const SMALL_PIECES: usize = 256;
/// IP protocols with a checksum, and where it lies in their headers.
const CHECKSUMS: [(u8, usize); 4] = [(1, 2), (6, 16), (17, 6), (58, 2)];

#[test]
fn no_frame_breaks_the_stack() {
    let target = Target { name: "frames", words: &[], seeds: Vec::new(), mutations: 3_000 };
    target.run(|input| Outcome::of_all(run(input)));
}

fn run(input: &[u8]) -> BTreeSet<String> {
    let mut node = Node::new(true);
    for record in records(input) {
        let [control, frame @ ..] = record else { continue };
        let interface = [UPLINK, WORKLOAD, TAGGED, NONE][usize::from(control & 3)];
        let mut frame = frame.to_vec();
        if control & 4 != 0 {
            put_right(&mut frame);
        }
        node.network.chunk_bytes = if control & 8 != 0 { SMALL_PIECES } else { usize::MAX };
        match control >> 4 {
            0 => {}
            // 1 ms to 16 s.
            exponent => node.wait(Duration::from_millis(1 << (exponent - 1))),
        }
        node.hear(interface, frame);
    }
    node.finish()
}

/// Writes the checksums that the frame's other bytes ask for, where it is whole enough to have any.
fn put_right(frame: &mut [u8]) -> Option<()> {
    let tag = if frame.get(12..14)? == [0x81, 0] { 4 } else { 0 };
    let kind = [*frame.get(12 + tag)?, *frame.get(13 + tag)?];
    let packet = &mut frame[14 + tag..];
    match kind {
        [8, 0] => put_right_v4(packet),
        [0x86, 0xdd] => put_right_v6(packet),
        _ => None,
    }
}

fn put_right_v4(packet: &mut [u8]) -> Option<()> {
    let header_bytes = usize::from(packet.first()? & 0xf) * 4;
    let header = packet.get_mut(..header_bytes.max(20))?;
    header[10..12].fill(0);
    let checksum = !sum(header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let protocol = header[9];
    let (source, destination) = (four(header, 12)?, four(header, 16)?);
    let end = usize::from(u16::from_be_bytes([header[2], header[3]])).min(packet.len());
    let body = packet.get_mut(header_bytes..end)?;
    let pseudo = match protocol {
        1 => Vec::new(),
        _ => pseudo_header(source.into(), destination.into(), protocol, body.len()),
    };
    put_right_body(body, protocol, pseudo)
}

fn put_right_v6(packet: &mut [u8]) -> Option<()> {
    let protocol = *packet.get(6)?;
    let end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
    let (source, destination) = (sixteen(packet, 8)?, sixteen(packet, 24)?);
    let end = end.min(packet.len());
    let body = packet.get_mut(40..end)?;
    let pseudo = pseudo_header(source.into(), destination.into(), protocol, body.len());
    put_right_body(body, protocol, pseudo)
}

fn put_right_body(body: &mut [u8], protocol: u8, pseudo: Vec<u8>) -> Option<()> {
    let (_, at) = CHECKSUMS.into_iter().find(|(one, _)| *one == protocol)?;
    body.get_mut(at..at + 2)?.fill(0);
    let checksum = !sum(&[pseudo, body.to_vec()].concat());
    body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    Some(())
}

fn four(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

fn sixteen(bytes: &[u8], at: usize) -> Option<[u8; 16]> {
    bytes.get(at..at + 16)?.try_into().ok()
}
