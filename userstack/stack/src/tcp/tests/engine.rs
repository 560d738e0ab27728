//! What scripts cannot say: limits of the engine, fairness, events and keys.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use super::link::{Host, Packet};
use crate::tcp::boundary::Refused;
use crate::tcp::header::{Flags, Header};
use crate::tcp::{ConnectError, FlowKey, ListenSpec, ListenerKey, TcpError, TcpEvent, TcpOptions};
use crate::{Discard, Instant, Prefix};

/// A client and a server that exchange segments at once.
struct Pair {
    client: Host,
    server: Host,
    listener: ListenerKey,
    now: Instant,
}

impl Pair {
    fn new(options: TcpOptions, server_memory: usize) -> Self {
        let client = Host::new("10.0.0.1", 1500, 1 << 30);
        let mut server = Host::new("10.0.0.2", 1500, server_memory);
        let listener = listen(&mut server, options);
        Self { client, server, listener, now: Instant::from_nanos(1_000_000) }
    }

    fn connect(&mut self) -> Result<FlowKey, ConnectError> {
        let (local, remote) = (self.client.address, SocketAddr::new(self.server.address, 80));
        self.client.tcp.connect(remote, local, TcpOptions::default(), &mut |_, _| true, self.now)
    }

    /// Segments cross until none is left.
    fn settle(&mut self) {
        loop {
            let (there, back) = (self.client.transmit(self.now), self.server.transmit(self.now));
            if there.is_empty() && back.is_empty() {
                return;
            }
            there.iter().for_each(|packet| self.server.receive(packet, 4096, self.now));
            back.iter().for_each(|packet| self.client.receive(packet, 4096, self.now));
        }
    }

    fn open(&mut self) -> (FlowKey, FlowKey) {
        let client = self.connect().unwrap();
        self.settle();
        let Poll::Ready(Ok(server)) = self.server.tcp.accept(self.listener) else { panic!("established") };
        (client, server)
    }
}

fn listen(host: &mut Host, options: TcpOptions) -> ListenerKey {
    let spec =
        ListenSpec { addresses: Prefix { address: host.address, len: 32 }, port: Some(80), interface: None };
    host.tcp.listen(spec, options).unwrap()
}

fn plain() -> TcpOptions {
    TcpOptions { keepalive: None, ..TcpOptions::default() }
}

fn events(host: &mut Host) -> Vec<TcpEvent> {
    std::iter::from_fn(|| host.tcp.poll_event()).collect()
}

fn flags(packet: &Packet) -> Flags {
    Header::parse(&packet.bytes).unwrap().0.flags
}

#[test]
fn an_event_is_told_once_until_it_is_taken() {
    let mut pair = Pair::new(plain(), 1 << 30);
    let (client, server) = pair.open();
    assert_eq!(events(&mut pair.client), [TcpEvent::Connected(client), TcpEvent::Writable(client)]);
    assert_eq!(events(&mut pair.server), [TcpEvent::Acceptable(pair.listener)]);
    for _ in 0..3 {
        let _ = pair.client.tcp.write(client, &[b"text"], pair.now);
        pair.settle();
    }
    assert_eq!(events(&mut pair.server), [TcpEvent::Readable(server)]);
    let _ = pair.client.tcp.write(client, &[b"more"], pair.now);
    pair.settle();
    assert_eq!(events(&mut pair.server), [TcpEvent::Readable(server)]);
}

#[test]
fn a_key_misses_after_close_and_in_the_next_life() {
    let mut pair = Pair::new(plain(), 1 << 30);
    let (client, server) = pair.open();
    pair.client.tcp.close(client, pair.now);
    assert_eq!(pair.client.tcp.read(client, &mut [0; 8], pair.now), Poll::Ready(Err(TcpError::Closed)));
    assert_eq!(pair.client.tcp.write(client, &[b"x"], pair.now), Poll::Ready(Err(TcpError::Closed)));
    assert!(pair.client.tcp.info(client).is_none());
    pair.settle();
    pair.server.tcp.close(server, pair.now);
    pair.settle();
    let (again, _) = pair.open();
    assert_ne!(again, client);
    assert!(pair.client.tcp.info(client).is_none() && pair.client.tcp.info(again).is_some());
}

#[test]
fn a_writer_of_more_than_memory_lends_gets_the_smallest_buffer() {
    let mut pair = Pair::new(plain(), 32 << 10);
    let (_, server) = pair.open();
    assert_eq!(pair.server.tcp.write(server, &[&[1; 10_000]], pair.now), Poll::Ready(Ok(4096)));
}

#[test]
fn a_cookie_of_a_worker_with_all_the_connections_it_may_have_is_tcp_flows_full() {
    let mut pair = Pair::new(TcpOptions { backlog: 5_000, ..plain() }, 1 << 30);
    pair.server.tcp.set_max_flows(1);
    let (first, second) = (pair.connect().unwrap(), pair.connect().unwrap());
    pair.settle();
    assert_eq!(pair.server.discards, [Discard::TcpSynCookie, Discard::TcpFlowsFull]);
    assert!(pair.client.tcp.connected(first).is_ready() && pair.client.tcp.connected(second).is_ready());
}

#[test]
fn a_connect_takes_only_ports_that_steer_home_and_says_when_none_is_left() {
    let mut pair = Pair::new(plain(), 1 << 30);
    let (local, remote) = (pair.client.address, SocketAddr::new(pair.server.address, 80));
    let mut taken = Vec::new();
    let last = loop {
        let mut home = |source: SocketAddr, to: SocketAddr| to == remote && source.port().is_multiple_of(4);
        match pair.client.tcp.connect(remote, local, plain(), &mut home, pair.now) {
            Ok(key) => taken.push(pair.client.tcp.info(key).unwrap().local.port()),
            Err(error) => break error,
        }
    };
    assert_eq!(last, ConnectError::PortsExhausted);
    assert_eq!(taken.len(), 25, "of 100 ports a quarter steers home");
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken.len(), 25);
}

#[test]
fn a_full_interface_loses_nothing_and_each_connection_has_its_turn() {
    let mut pair = Pair::new(plain(), 1 << 30);
    let keys: Vec<_> = (0..3).map(|_| pair.open().0).collect();
    let text = vec![1; 200_000];
    keys.iter().for_each(|key| assert!(pair.client.tcp.write(*key, &[&text], pair.now).is_ready()));
    pair.client.wire.room = 4;
    let mut ports = Vec::new();
    for _ in 0..3 {
        assert!(pair.client.tcp.poll_transmit(&mut pair.client.wire, 64, pair.now), "more waits");
        let sent = std::mem::take(&mut pair.client.wire.sent);
        assert_eq!(sent.len(), 4);
        ports.extend(sent.iter().map(|packet| packet.source.port()));
        sent.iter().for_each(|packet| pair.server.receive(packet, 4096, pair.now));
    }
    ports.dedup();
    assert_eq!(ports.len(), 3, "one after the other");
    assert_eq!(pair.server.discards, []);
}

#[test]
fn a_budget_is_kept_and_what_is_left_goes_next_time() {
    let mut pair = Pair::new(plain(), 1 << 30);
    let (client, _) = pair.open();
    let _ = pair.client.tcp.write(client, &[&[1; 14_000]], pair.now);
    assert!(pair.client.tcp.poll_transmit(&mut pair.client.wire, 3, pair.now));
    assert_eq!(pair.client.wire.sent.len(), 3);
    assert!(!pair.client.tcp.poll_transmit(&mut pair.client.wire, 100, pair.now));
    assert_eq!(pair.client.wire.sent.len(), 10);
}

#[test]
fn a_writer_without_memory_is_told_when_some_comes_back() {
    let mut pair = Pair::new(plain(), 4096);
    let ((_, first), (_, second)) = (pair.open(), pair.open());
    assert_eq!(pair.server.tcp.write(first, &[&[1; 100]], pair.now), Poll::Ready(Ok(100)));
    events(&mut pair.server);
    assert_eq!(pair.server.tcp.write(second, &[&[1; 100]], pair.now), Poll::Pending);
    assert!(pair.server.tcp.next_timeout().is_some_and(|at| at <= pair.now + Duration::from_millis(10)));
    pair.settle();
    // The client's acknowledgement waited for an answer of its user.
    pair.now = pair.now + Duration::from_millis(6);
    pair.client.tcp.handle_timers(64, pair.now);
    pair.settle();
    pair.server.tcp.handle_timers(64, pair.now);
    assert_eq!(events(&mut pair.server), [TcpEvent::Writable(second)]);
    assert_eq!(pair.server.tcp.write(second, &[&[1; 100]], pair.now), Poll::Ready(Ok(100)));
}

#[test]
fn stalled_readers_close_their_windows_and_hold_no_more_than_them() {
    let limit = 8192;
    let mut pair = Pair::new(TcpOptions { receive_buffer_bytes: limit, backlog: 2_000, ..plain() }, 64 << 20);
    let keys: Vec<_> = (0..90).map(|_| pair.open()).collect();
    for (client, _) in &keys {
        let _ = pair.client.tcp.write(*client, &[&[1; 100_000]], pair.now);
    }
    for _ in 0..50 {
        pair.settle();
        pair.now = pair.now + Duration::from_millis(300);
        while pair.client.tcp.handle_timers(64, pair.now) {}
    }
    assert!(pair.server.tcp.lent_bytes() <= keys.len() * limit, "{}", pair.server.tcp.lent_bytes());
    let mut into = vec![0; 100_000];
    let Poll::Ready(Ok(taken)) = pair.server.tcp.read(keys[0].1, &mut into, pair.now) else {
        panic!("text is here")
    };
    assert!(taken <= limit);
    pair.settle();
    assert!(pair.server.tcp.read(keys[0].1, &mut into, pair.now).is_ready(), "the window opens again");
}

#[test]
fn a_reset_flood_is_cut_at_the_bound_of_replies() {
    let mut pair = Pair::new(plain(), 1 << 30);
    pair.connect().unwrap();
    let mut to_nobody = pair.client.transmit(pair.now).remove(0);
    to_nobody.bytes[2..4].copy_from_slice(&81u16.to_be_bytes());
    for _ in 0..2_000 {
        pair.server.receive(&to_nobody, 4096, pair.now);
    }
    let sent = pair.server.transmit(pair.now);
    assert_eq!(sent.len(), crate::tcp::engine::MAX_REPLIES);
    assert!(sent.iter().all(|packet| flags(packet).has(Flags::RST)));
}

#[test]
fn a_segment_that_waits_for_its_neighbour_is_sent_again_by_its_timer() {
    let mut pair = Pair::new(plain(), 1 << 30);
    pair.client.wire.refuse = Some(Refused::Resolving);
    let key = pair.connect().unwrap();
    assert!(pair.client.transmit(pair.now).is_empty());
    pair.client.wire.refuse = None;
    pair.now = pair.now + Duration::from_millis(1_001);
    pair.client.tcp.handle_timers(64, pair.now);
    pair.settle();
    assert_eq!(pair.client.tcp.connected(key), Poll::Ready(Ok(())));
}

#[test]
fn a_connection_that_follows_another_starts_beyond_its_sequence() {
    let mut pair = Pair::new(plain(), 1 << 30);
    let (client, server) = pair.open();
    let port = pair.client.tcp.info(client).unwrap().local.port();
    let _ = pair.client.tcp.write(client, &[&[1; 50_000]], pair.now);
    pair.settle();
    let mut into = vec![0; 60_000];
    let _ = pair.server.tcp.read(server, &mut into, pair.now);
    pair.client.tcp.close(client, pair.now);
    pair.settle();
    pair.server.tcp.close(server, pair.now);
    let last = pair.server.transmit(pair.now).remove(0);
    let ended = Header::parse(&last.bytes).unwrap().0.ack;
    pair.client.receive(&last, 4096, pair.now);
    let ack = pair.client.transmit(pair.now).remove(0);
    pair.server.receive(&ack, 4096, pair.now);
    pair.now = pair.now + Duration::from_millis(1_500);
    let (local, remote) = (pair.client.address, SocketAddr::new(pair.server.address, 80));
    let mut same_port = |source: SocketAddr, _: SocketAddr| source.port() == port;
    pair.client.tcp.connect(remote, local, plain(), &mut same_port, pair.now).unwrap();
    let syn = Header::parse(&pair.client.transmit(pair.now)[0].bytes).unwrap().0;
    assert!(syn.seq.after(ended), "RFC 6191 needs it where the clock has not moved on far enough");
}
