//! Backlog exhaustion: peers that complete their handshakes faster than anybody accepts, and peers that never complete
//! one.
//!
//! Figure: a listener holds as many connections as its backlog says, half open and waiting together; the rest is
//! `tcp_backlog_full` and holds nothing.

use std::time::Duration;

use allocation_counter::measure;
use stack::{Discard, TcpOptions};

use crate::peer::Peer;
use crate::target::{ACK, Target, options};

const BACKLOG: usize = 32;

fn victim() -> (Target, stack::ListenerKey) {
    Target::listening(TcpOptions { backlog: BACKLOG, ..options() })
}

/// Completes handshakes of as many peers; those of them that were answered.
fn connect(target: &mut Target, peers: std::ops::Range<u32>) -> usize {
    let mut answered = 0;
    for number in peers {
        let mut peer = Peer::numbered(number);
        if peer.knock(target).is_some() {
            answered += 1;
            target.hear(peer.next(ACK, &[]));
        }
    }
    answered
}

#[test]
fn connections_that_nobody_accepts_are_tcp_backlog_full_beyond_the_backlog() {
    let (mut target, listener) = victim();
    assert_eq!(connect(&mut target, 0..BACKLOG as u32), BACKLOG);
    let held = measure(|| assert_eq!(connect(&mut target, 1_000..3_000), 0));
    assert_eq!(target.count(Discard::TcpBacklogFull), 2_000);
    assert_eq!((held.bytes_current, target.stack.tcp_connections()), (0, BACKLOG));
    // Control: as soon as one is accepted there is room for one.
    target.accept(listener).unwrap();
    assert_eq!(connect(&mut target, 5_000..5_010), 1);
}

#[test]
fn handshakes_that_nobody_completes_give_their_places_back() {
    let (mut target, _) = victim();
    for number in 0..500 {
        target.hear(Peer::numbered(number).syn());
        target.flush();
    }
    assert_eq!(target.stack.tcp_connections(), BACKLOG, "the others have cookies");
    target.pass(options().connect_timeout + Duration::from_secs(1));
    assert_eq!(target.stack.tcp_connections(), 0);
    let cookies = target.count(Discard::TcpSynCookie);
    // Control: now a SYN has a place of its own again.
    let mut peer = Peer::new("192.0.2.1", 50_000);
    assert!(peer.knock(&mut target).is_some());
    assert_eq!((target.count(Discard::TcpSynCookie), target.stack.tcp_connections()), (cookies, 1));
}

#[test]
fn one_listeners_full_backlog_is_no_other_listeners() {
    let (mut target, _) = victim();
    connect(&mut target, 0..200);
    let mut peer = Peer::new("2001:db8:9::9", 50_000);
    assert!(peer.knock(&mut target).is_some(), "the listener of IPv6 has its own");
}
