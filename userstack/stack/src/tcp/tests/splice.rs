//! Bytes that pass from one connection of a host to another without leaving the stack.

use std::net::SocketAddr;
use std::task::Poll;

use super::link::Host;
use crate::tcp::{FlowKey, ListenSpec, ListenerKey, Splice, TcpError, TcpOptions};
use crate::{Instant, Prefix};

/// Two connections of one client to one relay, which splices the first to the second.
struct Relay {
    client: Host,
    relay: Host,
    from: (FlowKey, FlowKey),
    to: (FlowKey, FlowKey),
    now: Instant,
}

impl Relay {
    fn new(send_buffer_bytes: usize) -> Self {
        let mut client = Host::new("10.0.0.1", 1500, 1 << 30);
        let mut relay = Host::new("10.0.0.2", 1500, 1 << 30);
        let now = Instant::from_nanos(1_000_000);
        let addresses = Prefix { address: relay.address, len: 32 };
        let spec = ListenSpec { addresses, port: Some(80), interface: None };
        let options = TcpOptions { keepalive: None, send_buffer_bytes, ..TcpOptions::default() };
        let listener = relay.tcp.listen(spec, options).unwrap();
        let from = open(&mut client, &mut relay, listener, now);
        let to = open(&mut client, &mut relay, listener, now);
        Self { client, relay, from, to, now }
    }

    fn settle(&mut self) {
        settle(&mut self.client, &mut self.relay, self.now);
    }

    fn write(&mut self, bytes: &[u8]) {
        assert_eq!(self.client.tcp.write(self.from.0, &[bytes], self.now), Poll::Ready(Ok(bytes.len())));
        self.settle();
    }

    fn splice(&mut self) -> Result<Splice, TcpError> {
        self.relay.tcp.splice(self.from.1, self.to.1, self.now)
    }

    fn received(&mut self) -> Vec<u8> {
        self.settle();
        let mut all = Vec::new();
        let take = |bytes: &[u8]| all.extend_from_slice(bytes);
        let _ = self.client.tcp.read_with(self.to.0, usize::MAX, take, self.now);
        self.settle();
        all
    }
}

fn open(client: &mut Host, relay: &mut Host, listener: ListenerKey, now: Instant) -> (FlowKey, FlowKey) {
    let remote = SocketAddr::new(relay.address, 80);
    let flow =
        client.tcp.connect(remote, client.address, TcpOptions::default(), &mut |_, _| true, now).unwrap();
    settle(client, relay, now);
    let Poll::Ready(Ok(accepted)) = relay.tcp.accept(listener) else { panic!("established") };
    (flow, accepted)
}

fn settle(client: &mut Host, relay: &mut Host, now: Instant) {
    loop {
        let (there, back) = (client.transmit(now), relay.transmit(now));
        if there.is_empty() && back.is_empty() {
            return;
        }
        there.iter().for_each(|packet| relay.receive(packet, 4096, now));
        back.iter().for_each(|packet| client.receive(packet, 4096, now));
    }
}

#[test]
fn what_one_connection_received_another_sends_byte_for_byte() {
    let mut relay = Relay::new(1 << 20);
    assert_eq!(relay.splice(), Ok(Splice::AwaitsText));
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for round in 0..200u32 {
        let text: Vec<u8> = (0..(round * 37) % 9_000 + 1).map(|at| (at * 7 + round) as u8).collect();
        relay.write(&text);
        sent.extend_from_slice(&text);
        let moved = relay.splice().unwrap();
        assert_eq!(moved, Splice::Moved(text.len()));
        // Every other time the next bytes come while these are still in flight.
        if round % 2 == 0 {
            received.extend(relay.received());
        }
    }
    received.extend(relay.received());
    assert!(sent == received);
    assert_eq!(relay.relay.tcp.lent_bytes(), 0, "nothing waits, so nothing is held");
}

#[test]
fn a_writer_without_room_takes_what_fits_and_is_told_when_more_does() {
    let mut relay = Relay::new(2048);
    relay.write(&[1; 5000]);
    assert_eq!(relay.splice(), Ok(Splice::Moved(2048)));
    assert_eq!(relay.splice(), Ok(Splice::AwaitsRoom));
    while relay.relay.tcp.poll_event().is_some() {}
    let mut length = relay.received().len();
    assert!(
        std::iter::from_fn(|| relay.relay.tcp.poll_event())
            .any(|event| event == crate::tcp::TcpEvent::Writable(relay.to.1))
    );
    while let Ok(Splice::Moved(_)) = relay.splice() {
        length += relay.received().len();
    }
    assert_eq!((length, relay.splice()), (5000, Ok(Splice::AwaitsText)));
}

#[test]
fn the_end_of_the_reader_comes_after_its_last_byte_and_a_closed_writer_takes_nothing() {
    let mut relay = Relay::new(1 << 20);
    relay.write(b"last");
    relay.client.tcp.shutdown(relay.from.0, relay.now);
    relay.settle();
    assert_eq!(relay.splice(), Ok(Splice::Moved(4)));
    assert_eq!(relay.splice(), Ok(Splice::Ended));
    assert_eq!(relay.received(), b"last");

    let mut relay = Relay::new(1 << 20);
    relay.write(b"lost");
    relay.relay.tcp.shutdown(relay.to.1, relay.now);
    assert_eq!(relay.splice(), Err(TcpError::Closed));
    let (from, now) = (relay.from.1, relay.now);
    assert_eq!(relay.relay.tcp.splice(from, from, now), Err(TcpError::Closed), "not to itself");
}
