//! Blind resets, SYNs, acknowledgements and data (RFC 5961): who does not see the connection cannot end it or put text
//! into it by a number within the window. What may be forged is answered by a challenge, ten a second and connection,
//! and not out of a store shared by all, by which one connection could be measured from another (CVE-2016-5696).
//!
//! Figure: 10 challenges a second and connection, whatever comes.

use std::time::Duration;

use stack::{Defence, Discard, FlowKey, Verdict};

use crate::peer::Peer;
use crate::target::{ACK, RST, SYN, Target, options};

const CHALLENGES: usize = 10;

/// An established connection. The attacker knows addresses and ports of it.
fn victim() -> (Target, Peer, FlowKey) {
    let (mut target, listener) = Target::listening(options());
    let mut peer = Peer::new("192.0.2.1", 50_000);
    let flow = peer.open(&mut target, listener);
    (target, peer, flow)
}

#[test]
fn a_reset_within_the_window_is_tcp_reset_challenged() {
    let (mut target, peer, flow) = victim();
    for step in 1..=1_000 {
        target.refuses(
            peer.segment(RST, peer.seq.wrapping_add(step * 50), 0, &[]),
            Discard::TcpResetChallenged,
        );
    }
    assert!(target.is_alive(flow));
    assert_eq!(target.segments().len(), 1, "one acknowledgement tells the peer all of it");
    // Control: the exact number, which only who sees the connection knows, resets.
    assert_eq!(target.hear(peer.segment(RST, peer.seq, 0, &[])), Verdict::Consumed);
    assert!(!target.is_alive(flow));
}

#[test]
fn a_reset_outside_of_the_window_is_tcp_reset_invalid() {
    let (mut target, peer, flow) = victim();
    for seq in [peer.seq.wrapping_sub(1), peer.seq.wrapping_add(1 << 30)] {
        target.refuses(peer.segment(RST, seq, 0, &[]), Discard::TcpResetInvalid);
    }
    assert!(target.is_alive(flow) && target.segments().is_empty());
}

#[test]
fn a_syn_into_a_connection_is_tcp_syn_challenged() {
    let (mut target, peer, flow) = victim();
    target.refuses(peer.segment(SYN, peer.seq, 0, &[]), Discard::TcpSynChallenged);
    let answer = peer.mine(target.segments()).remove(0);
    assert_eq!((answer.flags, answer.ack), (ACK, peer.seq));
    assert!(target.is_alive(flow));
    // Control: the same SYN from another port is a connection's beginning.
    let mut other = Peer { port: 50_001, ..peer };
    assert!(other.knock(&mut target).is_some());
}

#[test]
fn data_with_a_guessed_acknowledgement_is_tcp_ack_invalid() {
    let (mut target, peer, flow) = victim();
    for guess in [peer.ack.wrapping_add(1), peer.ack.wrapping_add(1 << 31), peer.ack.wrapping_sub(1 << 30)] {
        target.refuses(peer.segment(ACK, peer.seq, guess, b"forged"), Discard::TcpAckInvalid);
    }
    assert_eq!(target.read(flow), b"");
    // Control: with the right one it is text.
    assert_eq!(target.hear(peer.next(ACK, b"honest")), Verdict::Consumed);
    assert_eq!(target.read(flow), b"honest");
}

/// Challenges that a connection gives in one second, each asked for and looked at by itself.
fn challenges_in_a_second(target: &mut Target, peer: &Peer, asked: u32) -> usize {
    let mut given = 0;
    for step in 1..=asked {
        target.hear(peer.segment(RST, peer.seq.wrapping_add(step), 0, &[]));
        given += peer.mine(target.segments()).len();
    }
    given
}

#[test]
fn challenges_are_limited_by_connection_and_the_rest_are_tcp_challenge_withheld() {
    let (mut target, peer, _) = victim();
    assert_eq!(challenges_in_a_second(&mut target, &peer, 500), CHALLENGES);
    assert_eq!(target.warded(Defence::ChallengeWithheld), 500 - CHALLENGES as u64);
    target.pass(Duration::from_secs(1));
    assert_eq!(challenges_in_a_second(&mut target, &peer, 500), CHALLENGES, "a new second");
}

#[test]
fn one_connections_challenges_cannot_be_measured_by_another() {
    let (mut target, listener) = Target::listening(options());
    let (mut victim, mut attacker) = (Peer::new("192.0.2.1", 50_000), Peer::new("192.0.2.66", 50_000));
    victim.open(&mut target, listener);
    attacker.open(&mut target, listener);
    // The attacker forges the victim's segments until the victim's connection is mute ...
    assert_eq!(challenges_in_a_second(&mut target, &victim, 200), CHALLENGES);
    assert_eq!(challenges_in_a_second(&mut target, &victim, 1), 0, "control: within one connection it shows");
    // ... and sees nothing of it: its own connection answers as if nothing had been.
    assert_eq!(challenges_in_a_second(&mut target, &attacker, 200), CHALLENGES);
}
