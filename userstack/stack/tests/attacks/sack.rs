//! The shapes of CVE-2019-11477 (SACK panic), 11478 (a retransmission queue in crumbs) and 11479 (a tiny MSS): a peer that
//! makes our segments small, and then acknowledges them in pieces.
//!
//! Figures: no segment of new text carries less than 48 bytes but the last; a connection has at most one segment in
//! flight for 512 bytes of its send buffer (and 1,024 at least), however small they are; a SACK option splits nothing
//! and holds no byte.

use std::time::Duration;

use allocation_counter::measure;
use stack::{Defence, TcpOptions, Verdict};

use crate::network::DeliverAll;
use crate::network::Flat;
use crate::peer::{Options, Peer};
use crate::target::{ACK, Heard, LINK, Target, options};

const BUFFER: usize = 1 << 20;
/// For 1 MiB: BYTES_A_PIECE of `tcp/connection.rs`.
const MOST_PIECES: usize = BUFFER / 512;
/// What is left of the least MSS beside timestamps and SACK blocks.
const LEAST_TEXT: usize = 48;

/// A peer of that MSS takes 4 MiB, so that the congestion window is wide, and then acknowledges nothing more: what is in
/// flight then, in the order in which it was sent, with the target and the peer.
fn left_in_flight(mss: u16) -> (Target, Peer, Vec<Heard>) {
    let (mut target, listener) = Target::listening(TcpOptions { send_buffer_bytes: BUFFER, ..options() });
    let offered = Options { mss: Some(mss), scale: Some(14), ..Options::usual() };
    let mut peer = Peer { options: offered, ..Peer::new("192.0.2.1", 50_000) };
    let flow = peer.open(&mut target, listener);
    let mut taken = 0;
    while taken < 4 * BUFFER {
        target.write(flow, BUFFER);
        let sent = target.segments();
        taken += sent.iter().map(|segment| segment.text_bytes).sum::<usize>();
        peer.take(&sent);
        target.now = target.now + Duration::from_millis(1);
        target.hear(peer.next(ACK, &[]));
    }
    target.write(flow, BUFFER);
    let in_flight = target.segments();
    (target, peer, in_flight)
}

#[test]
fn a_tiny_mss_is_raised_and_counted_as_tcp_mss_raised() {
    let (target, _, in_flight) = left_in_flight(8);
    assert_eq!(target.warded(Defence::MssRaised), 1);
    let shortest = in_flight.iter().rev().skip(1).map(|segment| segment.text_bytes).min().unwrap();
    assert!(shortest >= LEAST_TEXT, "{shortest}");
}

#[test]
fn crumbs_in_flight_are_bounded_and_counted_as_tcp_pieces_full() {
    let (target, _, in_flight) = left_in_flight(48);
    assert!(in_flight.len() <= MOST_PIECES, "{} segments", in_flight.len());
    assert!(in_flight.len() > MOST_PIECES / 2, "the window was wide enough for the bound to be met");
    assert!(target.warded(Defence::PiecesFull) > 0);
}

/// Control: segments of the usual size fill the whole buffer and never meet the bound.
#[test]
fn usual_segments_never_meet_the_bound_of_pieces() {
    let (target, _, in_flight) = left_in_flight(1460);
    assert_eq!((target.warded(Defence::PiecesFull), target.warded(Defence::MssRaised)), (0, 0));
    let bytes: usize = in_flight.iter().map(|segment| segment.text_bytes).sum();
    assert!(bytes > BUFFER / 2, "{bytes} bytes in flight");
}

#[test]
fn acknowledging_single_bytes_splits_nothing_and_holds_nothing() {
    let (mut target, mut peer, in_flight) = left_in_flight(48);
    let mut frames = vec![];
    for (number, segment) in in_flight.iter().skip(1).enumerate().take(1_000) {
        // Three bytes, far apart from one another, none of them a whole segment.
        let byte = |at: u32| (segment.seq.wrapping_add(at), segment.seq.wrapping_add(at + 1));
        peer.options.sack = vec![byte(1), byte(100), byte(200 + number as u32 % 7)];
        frames.push(Flat(peer.next(ACK, &[])));
    }
    let now = target.now;
    let counted = measure(|| {
        for frame in &mut frames {
            assert_eq!(target.stack.handle_packet(LINK, frame, &mut DeliverAll, now), Verdict::Consumed);
        }
    });
    assert_eq!(counted.bytes_current, 0, "bytes that 1,000 acknowledgements hold");
    // Control: blocks of whole segments are taken, and what lies before them is sent again.
    let (from, to) = (in_flight[5].seq, in_flight[200].seq);
    peer.options.sack = vec![(from, to)];
    target.hear(peer.next(ACK, &[]));
    let again = target.pass(Duration::from_millis(100));
    assert!(again.iter().any(|segment| segment.seq == in_flight[0].seq), "the hole is filled");
}
