//! Out-of-order and overlap exhaustion (CVE-2018-5390): single bytes with holes between them, and segments that overlap.
//!
//! Figures: 32 ranges a connection, or one for two KiB of the buffer that it holds, 2,048 at most; a byte beyond them is refused without an allocation; what is held is the receive
//! buffer that the peer was promised, and no more.

use std::time::Duration;

use allocation_counter::measure;
use stack::{Discard, FlowKey, TcpOptions, Verdict};

use crate::network::DeliverAll;
use crate::network::Flat;
use crate::peer::Peer;
use crate::target::{ACK, LINK, Target, options};

const RANGES: u32 = 32;
const BUFFER: usize = 64 << 10;

fn victim() -> (Target, Peer, FlowKey) {
    let (mut target, listener) = Target::listening(TcpOptions { receive_buffer_bytes: BUFFER, ..options() });
    let mut peer = Peer::new("192.0.2.1", 50_000);
    let flow = peer.open(&mut target, listener);
    (target, peer, flow)
}

/// One byte at `offset` of the stream.
fn crumb(peer: &Peer, offset: u32) -> Vec<u8> {
    peer.segment(ACK, peer.seq.wrapping_add(offset), peer.ack, &[offset as u8])
}

#[test]
fn bytes_with_holes_between_them_are_tcp_out_of_order_full_beyond_32() {
    let (mut target, peer, _) = victim();
    let held = measure(|| {
        for number in 1..=2_000 {
            let verdict = target.hear(crumb(&peer, 2 * number));
            let kept = number <= RANGES;
            let expected =
                if kept { Verdict::Consumed } else { Verdict::Discarded(Discard::TcpOutOfOrderFull) };
            assert_eq!(verdict, expected, "byte {number}");
        }
    });
    assert_eq!(target.count(Discard::TcpOutOfOrderFull), 2_000 - u64::from(RANGES));
    assert!(held.bytes_current < BUFFER as i64 + 4_096, "{} bytes", held.bytes_current);
}

#[test]
fn a_byte_beyond_the_bound_allocates_nothing() {
    let (mut target, peer, _) = victim();
    (1..=RANGES).for_each(|number| assert_eq!(target.hear(crumb(&peer, 2 * number)), Verdict::Consumed));
    let mut frames: Vec<Flat> = (100..600).map(|number| Flat(crumb(&peer, 2 * number))).collect();
    let now = target.now;
    let counted = measure(|| {
        for frame in &mut frames {
            target.stack.handle_packet(LINK, frame, &mut DeliverAll, now);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn a_byte_at_the_windows_end_holds_the_buffer_that_was_promised_and_no_more() {
    let (mut target, peer, _) = victim();
    let held = measure(|| {
        target.hear(crumb(&peer, BUFFER as u32 - 1));
    });
    assert!(held.bytes_current <= BUFFER as i64 + 4_096, "{} bytes", held.bytes_current);
    target.refuses(crumb(&peer, 2 * BUFFER as u32), Discard::TcpOutOfWindow);
}

/// Control: with few holes, in whatever order, all of it arrives, once.
#[test]
fn a_stream_in_disorder_within_the_bound_arrives_whole() {
    let (mut target, peer, flow) = victim();
    for number in (0..RANGES).rev() {
        assert_eq!(target.hear(crumb(&peer, number)), Verdict::Consumed);
    }
    let expected: Vec<u8> = (0..RANGES as u8).collect();
    assert_eq!(target.read(flow), expected);
    assert_eq!(target.count(Discard::TcpOutOfOrderFull), 0);
}

#[test]
fn overlaps_of_every_kind_make_one_stream() {
    let (mut target, peer, flow) = victim();
    let text: Vec<u8> = (0..=255).collect();
    let mut state = 1u32;
    for _ in 0..2_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (start, len) = ((state >> 8) as usize % 250, 1 + (state >> 24) as usize % 40);
        let end = (start + len).min(256);
        let seq = peer.seq.wrapping_add(start as u32);
        target.hear(peer.segment(ACK, seq, peer.ack, &text[start..end]));
        target.flush();
    }
    target.hear(peer.segment(ACK, peer.seq, peer.ack, &text));
    assert_eq!(target.read(flow), text);
    target.pass(Duration::from_secs(1));
    assert_eq!(target.read(flow), b"");
}
