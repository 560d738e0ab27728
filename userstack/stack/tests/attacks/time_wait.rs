//! Attacks on TIME-WAIT: a reset must not end the rest (RFC 1337), and what an entry answers is limited as a connection's
//! challenges are.
//!
//! Figure: 10 answers a second and entry; none to a reset.

use std::time::Duration;

use stack::{Defence, Discard, Verdict};

use crate::peer::Peer;
use crate::target::{ACK, FIN, RST, Target, options};

/// A target whose connection with the peer rests in TIME-WAIT.
fn resting() -> (Target, Peer) {
    let (mut target, listener) = Target::listening(options());
    let mut peer = Peer::new("192.0.2.1", 50_000);
    let flow = peer.open(&mut target, listener);
    target.stack.tcp_close(flow, target.now);
    assert!(target.segments().iter().any(|segment| segment.has(FIN)));
    peer.ack = peer.ack.wrapping_add(1);
    assert_eq!(target.hear(peer.next(FIN | ACK, &[])), Verdict::Consumed);
    assert_eq!(target.segments().len(), 1);
    (target, peer)
}

#[test]
fn a_reset_in_time_wait_is_tcp_reset_in_time_wait_and_ends_nothing() {
    let (mut target, peer) = resting();
    for seq in [peer.seq, peer.seq.wrapping_add(1), 0] {
        target.refuses(peer.segment(RST, seq, 0, &[]), Discard::TcpResetInTimeWait);
    }
    assert!(target.segments().is_empty());
    // The rest goes on: the last acknowledgement is there for a FIN that comes again, every time.
    for _ in 0..20 {
        assert_eq!(target.hear(peer.next(FIN | ACK, &[])), Verdict::Consumed);
        assert_eq!(target.segments().len(), 1);
    }
    // Control: with the rest over, the same FIN belongs to nothing.
    target.pass(Duration::from_secs(61));
    target.refuses(peer.next(FIN | ACK, &[]), Discard::TcpNoFlow);
}

#[test]
fn what_is_forged_at_an_entry_is_answered_ten_times_a_second() {
    let (mut target, peer) = resting();
    let mut answers = 0;
    for _ in 0..1_000 {
        target.refuses(peer.segment(ACK, peer.seq.wrapping_sub(50), peer.ack, b"old"), Discard::TcpDuplicate);
        answers += target.segments().len();
        target.pass(Duration::from_millis(1));
    }
    assert!((9..=11).contains(&answers), "{answers}");
    assert_eq!(target.warded(Defence::ChallengeWithheld), 1_000 - answers as u64);
}
