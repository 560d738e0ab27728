//! SYN flood (RFC 4987): beyond the backlog a SYN is answered by a cookie, which holds nothing here. A real peer gets
//! through, with window scale, SACK and timestamps where its SYN had timestamps to carry them.
//!
//! Figure: no byte and no allocation a SYN beyond the backlog, however many come.

use allocation_counter::measure;
use stack::{Defence, Discard, TcpOptions, Verdict};

use crate::network::DeliverAll;
use crate::network::Flat;
use crate::peer::{Options, Peer};
use crate::target::{ACK, LINK, RST, Target, options};

const BACKLOG: usize = 64;

/// SYNs of as many forged senders; what answers them is let go.
fn flood(target: &mut Target, senders: std::ops::Range<u32>) {
    for number in senders {
        target.hear(Peer::numbered(number).syn());
        if number % 128 == 0 {
            target.flush();
        }
    }
    target.flush();
}

/// Bytes held after a flood of `syns` beyond what 1,000 made.
fn held_by(syns: u32, backlog: usize) -> i64 {
    let (mut target, _) = Target::listening(TcpOptions { backlog, ..options() });
    flood(&mut target, 0..1_000);
    measure(|| flood(&mut target, 1_000..1_000 + syns)).bytes_current
}

#[test]
fn a_flood_of_syns_holds_no_memory_beyond_the_backlog() {
    assert_eq!(held_by(20_000, BACKLOG), 0);
}

/// Control: with a backlog for all of them, which is to have no cookies, each holds its connection.
#[test]
fn without_cookies_every_syn_would_hold_a_connection() {
    let held = held_by(2_000, 100_000);
    assert!(held > 2_000 * 500, "{held} bytes");
}

#[test]
fn a_syn_beyond_the_backlog_allocates_nothing_and_is_counted() {
    let (mut target, _) = Target::listening(TcpOptions { backlog: BACKLOG, ..options() });
    // As many as one turn answers: the queue of answers has its size then.
    for number in 0..1_000 {
        target.hear(Peer::numbered(number).syn());
    }
    target.flush();
    let mut frames: Vec<Flat> = (1_000..1_400).map(|number| Flat(Peer::numbered(number).syn())).collect();
    let now = target.now;
    let counted = measure(|| {
        for frame in &mut frames {
            target.stack.handle_packet(LINK, frame, &mut DeliverAll, now);
        }
    });
    assert_eq!(counted.count_total, 0, "allocations of 400 SYNs");
    assert_eq!(target.count(Discard::TcpSynCookie), 1_400 - BACKLOG as u64);
}

/// What the peer's connection has of what its SYN offered: (scale, SACK, timestamps), seen by what the target does.
fn kept_through_a_flood(offered: Options) -> (bool, bool, bool) {
    let (mut target, listener) = Target::listening(TcpOptions { backlog: BACKLOG, ..options() });
    flood(&mut target, 0..500);
    let mut peer = Peer { options: offered, ..Peer::new("192.0.2.1", 50_000) };
    let answer = peer.knock(&mut target).expect("a cookie answers");
    assert_eq!(target.count(Discard::TcpSynCookie), 501 - BACKLOG as u64, "it was one");
    assert!(answer.option(2).is_some(), "an MSS");
    // The window of 10 is 1,280 where it is scaled by 7.
    peer.window = 10;
    assert_eq!(target.hear(peer.next(ACK, b"question")), Verdict::Consumed);
    assert_eq!(target.warded(Defence::CookieTaken), 1);
    let flow = target.accept(listener).expect("a real peer's connection is established");
    assert_eq!(target.read(flow), b"question");
    peer.seq = peer.seq.wrapping_add(8);
    target.write(flow, 5_000);
    let sent = peer.mine(target.pass(std::time::Duration::from_secs(1)));
    let longest = sent.iter().map(|segment| segment.text_bytes).max().unwrap();
    let timestamps = sent.iter().all(|segment| segment.timestamp().is_some());
    // Text beyond a hole: with SACK the acknowledgement says what is here.
    target.hear(peer.segment(ACK, peer.seq.wrapping_add(100), peer.ack, b"late"));
    let sack = peer.mine(target.segments()).iter().any(|answer| answer.option(5).is_some());
    (longest > 10, sack, timestamps)
}

#[test]
fn a_cookie_keeps_window_scale_sack_and_timestamps() {
    assert_eq!(kept_through_a_flood(Options::usual()), (true, true, true));
}

/// Control: without timestamps nothing can carry the rest, and it is not promised.
#[test]
fn without_timestamps_a_cookie_keeps_the_mss_alone() {
    let offered = Options { timestamps: None, ..Options::usual() };
    assert_eq!(kept_through_a_flood(offered), (false, false, false));
}

#[test]
fn guessed_cookies_are_tcp_cookie_invalid_and_open_nothing() {
    let (mut target, listener) = Target::listening(TcpOptions { backlog: BACKLOG, ..options() });
    flood(&mut target, 0..500);
    let before = target.stack.tcp_connections();
    let peer = Peer::new("192.0.2.1", 50_000);
    for guess in 0..5_000u32 {
        target.refuses(
            peer.segment(ACK, peer.seq, guess.wrapping_mul(0x9e37_79b9), &[]),
            Discard::TcpCookieInvalid,
        );
        if guess % 128 == 0 {
            assert!(peer.mine(target.segments()).iter().all(|answer| answer.has(RST)));
        }
    }
    assert_eq!(target.stack.tcp_connections(), before);
    // Control: the right one opens.
    let mut honest = Peer::new("192.0.2.2", 50_000);
    honest.open(&mut target, listener);
    assert_eq!(target.stack.tcp_connections(), before + 1);
}

#[test]
fn cookies_are_honoured_over_ipv6_too() {
    let (mut target, _) = Target::listening(TcpOptions { backlog: 1, ..options() });
    for port in 1..200 {
        target.hear(Peer::new("2001:db8:bad::1", port).syn());
        target.flush();
    }
    let mut peer = Peer::new("2001:db8:9::9", 50_000);
    peer.knock(&mut target).expect("a cookie answers");
    assert_eq!(target.hear(peer.next(ACK, &[])), Verdict::Consumed);
    assert_eq!(target.warded(Defence::CookieTaken), 1);
}
