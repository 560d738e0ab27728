//! Forged ICMP (RFC 5927): an error is believed of a connection only when it quotes a sequence number in flight; none
//! ends an established connection; what quotes a datagram says nothing to streams; redirects and router messages change
//! nothing.
//!
//! Figure: an attacker who knows addresses and ports but not the numbers needs 2^32 / (bytes in flight) errors, each
//! counted; nothing is held for one.

use std::time::Duration;

use stack::{Discard, FlowKey, TcpError, TcpOptions, Verdict};

use crate::network::packets::Spec;
use crate::peer::Peer;
use crate::target::{ACK, Heard, OURS, Target, options};

/// An ICMP error from a router, which quotes a segment of ours to `peer` that begins at `seq`.
fn error(kind: u8, code: u8, mtu: u16, peer: &Peer, seq: u32) -> Vec<u8> {
    let mut quoted = Spec { protocol: 6, ..Spec::new("10.0.0.1", "192.0.2.1", [0; 6]) }
        .frame(&[&[0; 4][..], &seq.to_be_bytes(), &[0; 1_480]].concat());
    quoted[34..36].copy_from_slice(&peer.to.to_be_bytes());
    quoted[36..38].copy_from_slice(&peer.port.to_be_bytes());
    report(kind, code, mtu, &quoted[14..14 + 28])
}

fn report(kind: u8, code: u8, mtu: u16, quoted: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let message = [&[kind, code, 0, 0, 0, 0, high, low][..], quoted].concat();
    Spec::new("203.0.113.9", "10.0.0.1", OURS).icmp(&message)
}

/// A connection with text in flight: the first of its segments.
fn busy() -> (Target, Peer, FlowKey, Heard) {
    let (mut target, listener) = Target::listening(options());
    let mut peer = Peer::new("192.0.2.1", 50_000);
    let flow = peer.open(&mut target, listener);
    target.write(flow, 100_000);
    let first = target.segments().remove(0);
    (target, peer, flow, first)
}

/// The longest text sent from now on, when all that is in flight is acknowledged and more is written.
fn longest_text(target: &mut Target, peer: &mut Peer, flow: FlowKey) -> usize {
    let mut longest = 0;
    for _ in 0..20 {
        let sent = target.pass(Duration::from_millis(400));
        longest = longest.max(sent.iter().map(|segment| segment.text_bytes).max().unwrap_or(0));
        peer.take(&sent);
        target.hear(peer.next(ACK, &[]));
        target.write(flow, 10_000);
    }
    longest
}

#[test]
fn an_error_about_a_number_not_in_flight_is_tcp_icmp_out_of_window() {
    let (mut target, mut peer, flow, first) = busy();
    for guess in [first.seq.wrapping_sub(1), first.seq.wrapping_add(1 << 20), 0] {
        target.refuses(error(3, 4, 600, &peer, guess), Discard::TcpIcmpOutOfWindow);
        target.refuses(error(3, 3, 0, &peer, guess), Discard::TcpIcmpOutOfWindow);
    }
    peer.seq = peer.seq.wrapping_add(0);
    target.hear(peer.next(ACK, &[]));
    assert_eq!(longest_text(&mut target, &mut peer, flow), 1_448);
    assert!(target.is_alive(flow));
}

/// Control: with the number of a segment in flight, segments become shorter.
#[test]
fn an_error_about_a_segment_in_flight_is_believed() {
    let (mut target, mut peer, flow, first) = busy();
    assert_eq!(target.hear(error(3, 4, 1_000, &peer, first.seq)), Verdict::Consumed);
    let longest = longest_text(&mut target, &mut peer, flow);
    assert!(longest <= 1_000 - 52, "{longest}");
}

#[test]
fn an_absurd_mtu_is_taken_as_the_least_that_links_have() {
    let (mut target, mut peer, flow, first) = busy();
    target.hear(error(3, 4, 68, &peer, first.seq));
    let longest = longest_text(&mut target, &mut peer, flow);
    assert!(longest >= 500, "{longest}");
}

#[test]
fn hard_errors_end_no_established_connection() {
    let (mut target, peer, flow, first) = busy();
    for code in [0, 1, 2, 3, 9, 13] {
        target.hear(error(3, code, 0, &peer, first.seq));
    }
    assert!(target.is_alive(flow));
}

/// Control: a connect is refused by the same error, when it quotes the SYN.
#[test]
fn a_connect_is_refused_by_the_error_that_quotes_its_syn() {
    let mut target = Target::new();
    let remote = "192.0.2.1:50000".parse().unwrap();
    let flow = target.stack.tcp_connect(remote, None, TcpOptions::default(), target.now).unwrap();
    let syn = target.segments().remove(0);
    let peer = Peer { to: syn.from.port(), ..Peer::new("192.0.2.1", 50_000) };
    target.refuses(error(3, 3, 0, &peer, syn.seq.wrapping_add(5)), Discard::TcpIcmpOutOfWindow);
    assert_eq!(target.hear(error(3, 3, 0, &peer, syn.seq)), Verdict::Consumed);
    let answer = target.stack.tcp_connected(flow);
    assert_eq!(answer, std::task::Poll::Ready(Err(TcpError::Refused)));
}

#[test]
fn an_error_about_a_flow_that_does_not_exist_is_named() {
    let (mut target, peer, _, first) = busy();
    let other = Peer { port: 50_001, ..peer };
    target.refuses(error(3, 4, 600, &other, first.seq), Discard::TcpIcmpNoFlow);
    let quoted = Spec::new("10.0.0.1", "192.0.2.1", [0; 6]).udp((1, 2), &[0; 32]);
    target.refuses(report(3, 3, 0, &quoted[14..42]), Discard::IcmpUnknownFlow);
}

#[test]
fn what_quotes_a_datagram_does_not_shorten_a_streams_segments() {
    let (mut target, mut peer, flow, _) = busy();
    target.stack.udp_bind("10.0.0.1:53".parse().unwrap(), None).unwrap();
    // The ports of a socket are no secret: the error is one to datagrams, and believed of them.
    let mut quoted = Spec::new("10.0.0.1", "192.0.2.1", [0; 6]).udp((53, 53), &[0; 1_400]);
    quoted.truncate(14 + 28);
    assert_eq!(target.hear(report(3, 4, 600, &quoted[14..])), Verdict::Consumed);
    target.hear(peer.next(ACK, &[]));
    assert_eq!(longest_text(&mut target, &mut peer, flow), 1_448);
}

#[test]
fn redirects_and_router_messages_are_icmp_unsupported() {
    let mut target = Target::new();
    let quoted = Spec::new("10.0.0.1", "192.0.2.1", [0; 6]).udp((1, 2), b"");
    target.refuses(report(5, 1, 0, &quoted[14..]), Discard::IcmpUnsupported);
    target.refuses(report(9, 0, 0, &quoted[14..]), Discard::IcmpUnsupported);
    for kind in [134, 137] {
        let router = Spec { hops: 255, ..Spec::new("fe80::66", "2001:db8::1", OURS) };
        target.refuses(router.icmp(&[&[kind, 0, 0, 0][..], &[0; 36]].concat()), Discard::IcmpUnsupported);
    }
}
