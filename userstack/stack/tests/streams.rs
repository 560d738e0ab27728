//! Two hosts on one wire: TCP between their stacks.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod network;

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use network::{Network, pair};
use stack::{Discard, FlowKey, ListenSpec, ListenerKey, Prefix, TcpError, TcpOptions};

const MIB: usize = 1 << 20;

fn listen(network: &mut Network, host: usize, port: u16, v6: bool) -> ListenerKey {
    let addresses = if v6 { Prefix::ANY_V6 } else { Prefix::ANY_V4 };
    let spec = ListenSpec { addresses, port: Some(port), interface: None };
    network.hosts[host].stack.tcp_listen(spec, TcpOptions::default()).unwrap()
}

fn connect(network: &mut Network, remote: &str) -> FlowKey {
    let now = network.now;
    let remote: SocketAddr = remote.parse().unwrap();
    network.hosts[0].stack.tcp_connect(remote, None, TcpOptions::default(), now).unwrap()
}

/// A connection between host 0 and a listener of host 1.
fn connected(network: &mut Network, remote: &str) -> (FlowKey, FlowKey) {
    let address: SocketAddr = remote.parse().unwrap();
    let listener = listen(network, 1, address.port(), address.is_ipv6());
    let client = connect(network, remote);
    network.settle();
    assert_eq!(network.hosts[0].stack.tcp_connected(client), Poll::Ready(Ok(())));
    let Poll::Ready(Ok(server)) = network.hosts[1].stack.tcp_accept(listener) else {
        panic!("nothing to accept")
    };
    (client, server)
}

/// Reads what there is; the end of the stream when it is there.
fn read(network: &mut Network, host: usize, flow: FlowKey, into: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 16_384];
    loop {
        match network.hosts[host].stack.tcp_read(flow, &mut buffer, network.now) {
            Poll::Ready(Ok(0)) => return true,
            Poll::Ready(Ok(len)) => into.extend_from_slice(&buffer[..len]),
            Poll::Ready(Err(error)) => panic!("{error:?}"),
            Poll::Pending => return false,
        }
    }
}

/// Sends `bytes` from one host to the other and ends the stream.
fn transfer(
    network: &mut Network,
    (from, sender): (usize, FlowKey),
    receiver: FlowKey,
    bytes: &[u8],
) -> Vec<u8> {
    let (mut written, mut received) = (0, Vec::new());
    for _ in 0..200_000 {
        while written < bytes.len() {
            match network.hosts[from].stack.tcp_write(sender, &[&bytes[written..]], network.now) {
                Poll::Ready(taken) => written += taken.unwrap(),
                Poll::Pending => break,
            }
            if written == bytes.len() {
                network.hosts[from].stack.tcp_shutdown(sender, network.now);
            }
        }
        network.settle();
        if read(network, 1 - from, receiver, &mut received) {
            return received;
        }
        network.advance(Duration::from_millis(1));
    }
    panic!("{} of {} bytes arrived", received.len(), bytes.len());
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 253) as u8).collect()
}

fn carries_a_mebibyte_each_way(mut network: Network, remote: &str) {
    let (client, server) = connected(&mut network, remote);
    let bytes = pattern(MIB);
    assert!(transfer(&mut network, (0, client), server, &bytes) == bytes);
    assert!(transfer(&mut network, (1, server), client, &bytes) == bytes);
    network.check_accounts();
}

#[test]
fn a_connection_echoes() {
    let mut network = pair(None, 1500);
    let (client, server) = connected(&mut network, "10.0.0.2:80");
    let now = network.now;
    assert_eq!(network.hosts[0].stack.tcp_write(client, &[b"he", b"llo"], now), Poll::Ready(Ok(5)));
    network.settle();
    let mut heard = Vec::new();
    read(&mut network, 1, server, &mut heard);
    assert_eq!(heard, b"hello");
    let info = network.hosts[1].stack.tcp_info(server).unwrap();
    assert_eq!((info.local, info.remote.ip()), ("10.0.0.2:80".parse().unwrap(), [10, 0, 0, 1].into()));
    network.check_accounts();
}

#[test]
fn a_mebibyte_goes_each_way_over_ipv4() {
    carries_a_mebibyte_each_way(pair(None, 1500), "10.0.0.2:80");
}

#[test]
fn a_mebibyte_goes_each_way_over_ipv6() {
    carries_a_mebibyte_each_way(pair(None, 1280), "[2001:db8::2]:80");
}

#[test]
fn a_mebibyte_goes_each_way_within_a_vlan() {
    carries_a_mebibyte_each_way(pair(Some(100), 1500), "10.0.0.2:80");
}

#[test]
fn a_mebibyte_goes_each_way_in_jumbo_packets_of_several_chunks() {
    let mut network = pair(None, 65_535);
    network.chunk_bytes = 3841;
    carries_a_mebibyte_each_way(network, "10.0.0.2:80");
}

#[test]
fn a_mebibyte_survives_loss() {
    let mut network = pair(None, 1500);
    let mut count = 0u32;
    network.lose = Box::new(move |_| {
        count += 1;
        count.is_multiple_of(37)
    });
    carries_a_mebibyte_each_way(network, "[2001:db8::2]:80");
}

#[test]
fn nobody_listening_is_refused() {
    let mut network = pair(None, 1500);
    let client = connect(&mut network, "10.0.0.2:81");
    network.settle();
    assert_eq!(network.hosts[0].stack.tcp_connected(client), Poll::Ready(Err(TcpError::Refused)));
    assert_eq!(network.hosts[1].stack.discards().of(Discard::TcpNoFlow), 1);
    network.check_accounts();
}

#[test]
fn a_connection_survives_its_gateways_failover() {
    let mut network = pair(None, 1500);
    let (client, server) = connected(&mut network, "10.0.0.2:80");
    // The other host's address moves to another hardware address: it tells so by gratuitous ARP.
    let mut interface = network::interface(2, 0, stack::Role::Uplink, &["10.0.0.2/24"]);
    interface.mac = [2, 0, 0, 0, 0xbb, 0xbb];
    let now = network.now;
    network.hosts[1].stack.set_interface(interface.clone(), now);
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&interface.mac);
    arp.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.extend_from_slice(&interface.mac);
    arp.extend_from_slice(&[10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    network.deliver(network::End { host: 0, interface: stack::InterfaceId(0) }, arp);
    // Who had the address is asked, and is silent.
    network.advance(Duration::from_millis(110));
    let bytes = pattern(100_000);
    assert!(transfer(&mut network, (0, client), server, &bytes) == bytes);
    assert_eq!(network.hosts[1].stack.discards().of(Discard::EthernetNotOurs), 2, "the two questions");
}

#[test]
fn an_address_that_leaves_is_not_sent_from_and_serves_again_when_it_comes_back() {
    let mut network = pair(None, 1500);
    let (client, server) = connected(&mut network, "10.0.0.2:80");
    let now = network.now;
    let there = network::interface(1, 0, stack::Role::Uplink, &["10.0.0.1/24"]);
    let elsewhere = network::interface(1, 0, stack::Role::Uplink, &["10.0.0.7/24"]);
    network.hosts[0].stack.set_interface(elsewhere, now);
    network.record = true;
    assert!(network.hosts[0].stack.tcp_write(client, &[b"text"], now).is_ready());
    network.advance(Duration::from_secs(20));
    let from_us = |frame: &[u8]| frame[12..14] == [8, 0] && frame[26..30] == [10, 0, 0, 1];
    assert!(!network.hosts[0].sent.iter().any(|(_, frame)| from_us(frame)), "it is another host's now");
    network.hosts[0].stack.set_interface(there, now);
    network.advance(Duration::from_secs(40));
    let mut heard = Vec::new();
    assert!(!read(&mut network, 1, server, &mut heard));
    assert_eq!(heard, b"text");
}

#[test]
fn a_connection_whose_address_stays_away_ends_as_unreachable() {
    let mut network = pair(None, 1500);
    let (client, _) = connected(&mut network, "10.0.0.2:80");
    let now = network.now;
    network.hosts[0].stack.remove_interface(stack::InterfaceId(0), now);
    assert!(network.hosts[0].stack.tcp_write(client, &[b"text"], now).is_ready());
    network.advance(Duration::from_secs(1_000));
    let mut into = [0; 8];
    let now = network.now;
    assert_eq!(
        network.hosts[0].stack.tcp_read(client, &mut into, now),
        Poll::Ready(Err(TcpError::Unreachable))
    );
}
