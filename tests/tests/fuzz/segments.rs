//! Segments of a peer that keeps no rule, into one connection. Both streams are patterns of their positions, so that
//! every byte that comes out can be checked, whatever was sent twice, late, cut or never.
//!
//! The first record is the options of the SYN. Each other one is a segment: flags (with bit 6 for a wait before it, and
//! bit 7 for a deed of the task), sequence number and acknowledgement as distances (16 bits each) from what would be
//! right, window (16 bits), number of payload's 16-byte pieces, then options.

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use stack::FlowKey;
use tests::fuzz::{Outcome, Target};

use crate::network::packets::{Spec, pseudo_header, sum};
use crate::node::{Node, UPLINK};
use crate::records::records;

const PORTS: (u16, u16) = (5_000, 80);
/// Near the wrap, so that it is crossed.
const PEER_ISN: u32 = 0xffff_f000;
const OURS: [u8; 6] = [2, 0, 0, 0, 1, 0];
/// A header without options (RFC 9293, section 3.1), and what options may take.
const HEADER_BYTES: usize = 20;
const MAX_OPTION_BYTES: usize = 40;
const PIECE_BYTES: usize = 16;
/// The task's write.
const WRITE_BYTES: usize = 4_000;

const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// The peer's stream by sequence number, and the task's by position.
const RECEIVED: fn(u32) -> u8 = |position| (position.wrapping_mul(31) >> 3) as u8;
const SENT: fn(u32) -> u8 = |position| (position.wrapping_mul(17) >> 2) as u8;

#[test]
fn no_segment_breaks_a_connection_or_its_streams() {
    let target = Target { name: "segments", words: &[], seeds: Vec::new(), mutations: 3_000 };
    target.run(|input| Outcome::of_all(run(input)));
}

/// A segment as the peer makes it.
struct Segment<'a> {
    flags: u8,
    sequence: u32,
    acknowledged: u32,
    window: u16,
    options: &'a [u8],
    payload: Vec<u8>,
}

/// What the peer knows of the connection.
struct Peer {
    node: Node,
    /// Right would be: the next byte that it sends, and the next that it expects.
    next: u32,
    expected: u32,
    /// Of the stack, once its SYN has come.
    isn: Option<u32>,
    /// Of the peer, as the stack acknowledged it: any of its SYNs may have opened the connection.
    opened_by: u32,
    written: u32,
    shut: bool,
}

fn run(input: &[u8]) -> BTreeSet<String> {
    let mut records = records(input).into_iter();
    let mut peer = Peer {
        node: Node::new(false),
        next: PEER_ISN.wrapping_add(1),
        expected: 0,
        isn: None,
        opened_by: PEER_ISN,
        written: 0,
        shut: false,
    };
    peer.open(records.next().unwrap_or_default());
    for record in records {
        peer.on_record(record);
    }
    peer.check_received();
    peer.node.finish()
}

impl Peer {
    fn open(&mut self, options: &[u8]) {
        let options = &options[..options.len().min(MAX_OPTION_BYTES)];
        let segment = |flags, sequence, acknowledged, options| Segment {
            flags,
            sequence,
            acknowledged,
            window: u16::MAX,
            options,
            payload: Vec::new(),
        };
        self.send(segment(SYN, PEER_ISN, 0, options));
        let (next, expected) = (self.next, self.expected);
        self.send(segment(ACK, next, expected, &[]));
    }

    fn on_record(&mut self, record: &[u8]) {
        let [flags, s1, s2, a1, a2, w1, w2, pieces, options @ ..] = record else { return };
        if flags & 0x40 != 0 {
            self.node.wait(Duration::from_millis(1 << (pieces & 15)));
            self.look_at_sent();
        }
        if flags & 0x80 != 0 {
            self.task_acts(*pieces);
        }
        let distance = |bytes: [u8; 2]| i32::from(i16::from_be_bytes(bytes)) as u32;
        let sequence = self.next.wrapping_add(distance([*s1, *s2]));
        // A SYN stands before its text (RFC 9293, section 3.4).
        let text = sequence.wrapping_add(u32::from(flags & SYN != 0));
        let payload: Vec<u8> = (0..usize::from(*pieces) * PIECE_BYTES)
            .map(|at| RECEIVED(text.wrapping_add(at as u32)))
            .collect();
        // In order: the next one is right after it.
        if distance([*s1, *s2]) == 0 {
            let fin = u32::from(flags & FIN != 0);
            self.next = text.wrapping_add(payload.len() as u32 + fin);
        }
        self.send(Segment {
            flags: flags & 0x3f,
            sequence,
            acknowledged: self.expected.wrapping_add(distance([*a1, *a2])),
            window: u16::from_be_bytes([*w1, *w2]),
            options: &options[..options.len().min(MAX_OPTION_BYTES)],
            payload,
        });
    }

    fn send(&mut self, segment: Segment<'_>) {
        let frame = frame(&segment);
        self.node.hear(UPLINK, frame);
        self.look_at_sent();
    }

    fn flow(&self) -> Option<FlowKey> {
        self.node.streams.get(&0).map(|(flow, _)| *flow)
    }

    /// The task writes, shuts down or lets go.
    fn task_acts(&mut self, which: u8) {
        let Some(flow) = self.flow() else { return };
        let now = self.node.network.now;
        let stack = &mut self.node.network.hosts[0].stack;
        match which % 8 {
            0..=5 if !self.shut => {
                let bytes: Vec<u8> =
                    (0..WRITE_BYTES as u32).map(|at| SENT(self.written.wrapping_add(at))).collect();
                if let Poll::Ready(Ok(written)) = stack.tcp_write(flow, &[&bytes], now) {
                    self.written = self.written.wrapping_add(written as u32);
                }
            }
            6 => {
                self.shut = true;
                stack.tcp_shutdown(flow, now);
            }
            _ => {}
        }
        self.node.serve();
        self.look_at_sent();
    }

    /// Every segment that came from the stack: its payload is the stream's, and it moves what would be right.
    fn look_at_sent(&mut self) {
        for sent in std::mem::take(&mut self.node.sent) {
            if sent.protocol != 6 || sent.body.len() < HEADER_BYTES {
                continue;
            }
            let word = |at: usize| u32::from_be_bytes(sent.body[at..at + 4].try_into().unwrap());
            let (sequence, flags) = (word(4), sent.body[13]);
            let payload = &sent.body[usize::from(sent.body[12] >> 4) * 4..];
            if flags & SYN != 0 {
                self.isn = Some(sequence);
                self.expected = sequence.wrapping_add(1);
                if self.node.streams.is_empty() {
                    self.opened_by = word(8).wrapping_sub(1);
                }
            }
            let Some(isn) = self.isn else { continue };
            let begin = sequence.wrapping_sub(isn).wrapping_sub(1);
            for (at, byte) in payload.iter().enumerate() {
                let position = begin.wrapping_add(at as u32);
                assert_eq!(*byte, SENT(position), "byte {position} of what is sent");
            }
            let end = sequence.wrapping_add(payload.len() as u32 + u32::from(flags & FIN != 0));
            if (end.wrapping_sub(self.expected) as i32) > 0 {
                self.expected = end;
            }
        }
    }

    fn check_received(&self) {
        let Some((_, stream)) = self.node.streams.get(&0) else { return };
        for (position, byte) in stream.received.iter().enumerate() {
            let sequence = self.opened_by.wrapping_add(1 + position as u32);
            assert_eq!(*byte, RECEIVED(sequence), "byte {position} of what was read");
        }
    }
}

fn frame(segment: &Segment<'_>) -> Vec<u8> {
    let padded = segment.options.len().next_multiple_of(4);
    let words = (HEADER_BYTES + padded) / 4;
    let mut body = [PORTS.0.to_be_bytes(), PORTS.1.to_be_bytes()].concat();
    body.extend_from_slice(&segment.sequence.to_be_bytes());
    body.extend_from_slice(&segment.acknowledged.to_be_bytes());
    body.extend_from_slice(&[(words as u8) << 4, segment.flags]);
    body.extend_from_slice(&segment.window.to_be_bytes());
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(segment.options);
    body.resize(HEADER_BYTES + padded, 0);
    body.extend_from_slice(&segment.payload);
    let spec = Spec { protocol: 6, ..Spec::new("10.0.0.2", "10.0.0.1", OURS) };
    let pseudo = pseudo_header(spec.source, spec.destination, 6, body.len());
    let checksum = !sum(&[pseudo, body.clone()].concat());
    body[16..18].copy_from_slice(&checksum.to_be_bytes());
    spec.frame(&body)
}
