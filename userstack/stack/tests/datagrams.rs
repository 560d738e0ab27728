//! Two hosts on one wire: UDP between their sockets.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod network;

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use network::{Network, pair};
use stack::{Event, UdpError, UdpKey};

fn bind(network: &mut Network, host: usize, address: &str) -> UdpKey {
    network.hosts[host].stack.udp_bind(address.parse().unwrap(), None).unwrap()
}

fn send(network: &mut Network, host: usize, socket: UdpKey, payload: &[u8], to: SocketAddr) {
    let now = network.now;
    let sent = network.hosts[host].stack.udp_send(socket, payload, to, now);
    assert_eq!(sent, Poll::Ready(Ok(())));
    network.settle();
}

fn receive(network: &mut Network, host: usize, socket: UdpKey) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 70_000];
    match network.hosts[host].stack.udp_receive(socket, &mut buffer) {
        Poll::Ready(received) => {
            let (len, from, _) = received.unwrap();
            buffer.truncate(len);
            Some((buffer, from))
        }
        Poll::Pending => None,
    }
}

/// A datagram goes over and its answer comes back to a port that was chosen.
fn echo(network: &mut Network, local: &str, server: &str, payload: &[u8]) {
    let listening = bind(network, 1, server);
    let client = bind(network, 0, local);
    send(network, 0, client, payload, server.parse().unwrap());
    let (request, from) = receive(network, 1, listening).expect("the request arrives");
    assert_eq!(request, payload);
    send(network, 1, listening, &request, from);
    let (answer, from) = receive(network, 0, client).expect("the answer arrives");
    assert_eq!((answer.as_slice(), from), (payload, server.parse().unwrap()));
    network.check_accounts();
}

#[test]
fn a_datagram_is_echoed_over_ipv4() {
    echo(&mut pair(None, 1500), "0.0.0.0:0", "10.0.0.2:7", b"ping");
}

#[test]
fn a_datagram_is_echoed_over_ipv6() {
    echo(&mut pair(None, 1500), "[::]:0", "[2001:db8::2]:7", b"ping");
}

#[test]
fn a_datagram_is_echoed_within_a_vlan() {
    echo(&mut pair(Some(100), 1500), "10.0.0.1:0", "10.0.0.2:7", b"ping");
}

#[test]
fn an_empty_datagram_is_a_datagram() {
    echo(&mut pair(None, 1500), "0.0.0.0:0", "10.0.0.2:7", b"");
}

#[test]
fn readable_is_told_once_a_change() {
    let mut network = pair(None, 1500);
    let listening = bind(&mut network, 1, "10.0.0.2:7");
    let client = bind(&mut network, 0, "0.0.0.0:0");
    for _ in 0..2 {
        send(&mut network, 0, client, b"x", "10.0.0.2:7".parse().unwrap());
    }
    let mut events = std::iter::from_fn(|| network.hosts[1].stack.poll_event());
    assert_eq!(
        events.find(|event| matches!(event, Event::DatagramReadable(_))),
        Some(Event::DatagramReadable(listening))
    );
    assert_eq!(events.find(|event| matches!(event, Event::DatagramReadable(_))), None);
}

#[test]
fn a_lost_arp_request_is_asked_again_and_nothing_is_lost() {
    let mut network = pair(None, 1500);
    let listening = bind(&mut network, 1, "10.0.0.2:7");
    let client = bind(&mut network, 0, "0.0.0.0:0");
    let mut first = true;
    network.lose = Box::new(move |_| std::mem::take(&mut first));
    send(&mut network, 0, client, b"late", "10.0.0.2:7".parse().unwrap());
    assert_eq!(receive(&mut network, 1, listening), None);
    network.advance(Duration::from_millis(1100));
    assert_eq!(receive(&mut network, 1, listening).unwrap().0, b"late");
}

#[test]
fn errors_of_sockets_have_names() {
    let mut network = pair(None, 1500);
    let bound = bind(&mut network, 0, "10.0.0.1:9");
    let now = network.now;
    let stack = &mut network.hosts[0].stack;
    assert_eq!(stack.udp_bind("10.0.0.1:9".parse().unwrap(), None), Err(UdpError::InUse));
    let far = "192.0.2.1:9".parse().unwrap();
    assert_eq!(stack.udp_send(bound, b"", far, now), Poll::Ready(Err(UdpError::Unreachable)));
    let near = "10.0.0.2:9".parse().unwrap();
    assert_eq!(stack.udp_send(bound, &[0; 65_508], near, now), Poll::Ready(Err(UdpError::TooLong)));
    stack.udp_close(bound);
    assert_eq!(stack.udp_send(bound, b"", near, now), Poll::Ready(Err(UdpError::Closed)));
}
