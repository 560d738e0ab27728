//! Segments that arrive in one burst and go in as one: what is verified of each, and what is left as it was where
//! something is wrong.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod network;

use std::net::SocketAddr;
use std::task::Poll;

use network::{End, Network, pair};
use stack::{Discard, FlowKey, InterfaceId, ListenSpec, Pieces, Prefix, Run, TcpOptions, Verdict};

const LINK: InterfaceId = InterfaceId(0);
const SEGMENTS: usize = 8;

struct Burst(Vec<Vec<u8>>);

impl Pieces for Burst {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn piece(&self, index: usize) -> &[u8] {
        &self.0[index]
    }
}

/// A connection to host 1 and the first segments of what host 0 writes, which have not arrived.
fn under_way(address: &str, text: &[u8]) -> (Network, FlowKey, Burst) {
    let mut network = pair(None, 1500);
    let remote: SocketAddr = address.parse().unwrap();
    let addresses = if remote.is_ipv6() { Prefix::ANY_V6 } else { Prefix::ANY_V4 };
    let now = network.now;
    let spec = ListenSpec { addresses, port: Some(80), interface: None };
    let listener = network.hosts[1].stack.tcp_listen(spec, TcpOptions::default()).unwrap();
    let client = network.hosts[0].stack.tcp_connect(remote, None, TcpOptions::default(), now).unwrap();
    network.settle();
    let Poll::Ready(Ok(server)) = network.hosts[1].stack.tcp_accept(listener) else { panic!("established") };
    network.record = true;
    network.lose = Box::new(|_| true);
    let taken = network.hosts[0].stack.tcp_write(client, &[text], now);
    assert_eq!(taken, Poll::Ready(Ok(text.len())));
    network.settle();
    let mut frames: Vec<Vec<u8>> = network.hosts[0].sent.drain(..).map(|(_, frame)| frame).collect();
    frames.truncate(SEGMENTS);
    assert_eq!(frames.len(), SEGMENTS);
    (network, server, Burst(frames))
}

fn read(network: &mut Network, flow: FlowKey) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 16];
    match network.hosts[1].stack.tcp_read(flow, &mut buffer, network.now) {
        Poll::Ready(Ok(len)) => buffer[..len].to_vec(),
        _ => vec![],
    }
}

fn text() -> Vec<u8> {
    (0..20_000u32).map(|at| (at % 251) as u8).collect()
}

#[test]
fn a_burst_of_a_real_flow_is_read_as_it_was_written() {
    for address in ["10.0.0.2:80", "[2001:db8::2]:80"] {
        let (mut network, flow, burst) = under_way(address, &text());
        let run = Run::at_front_of(&burst).unwrap();
        assert_eq!(run.packets(), SEGMENTS);
        let now = network.now;
        assert!(network.hosts[1].stack.handle_run(LINK, &run, &burst, now));
        let read = read(&mut network, flow);
        assert!(read.len() > 11_000 && text().starts_with(&read), "{} bytes", read.len());
    }
}

#[test]
fn one_wrong_checksum_sends_all_of_a_burst_the_long_way_and_dies_there_as_tcp_checksum() {
    for address in ["10.0.0.2:80", "[2001:db8::2]:80"] {
        let (mut network, flow, mut burst) = under_way(address, &text());
        *burst.0[5].last_mut().unwrap() ^= 1;
        dies_alone(&mut network, flow, burst, Discard::TcpChecksum);
    }
}

#[test]
fn a_wrong_sum_of_an_ip_header_within_a_burst_is_ipv4_checksum() {
    let (mut network, flow, mut burst) = under_way("10.0.0.2:80", &text());
    burst.0[5][24] ^= 1;
    dies_alone(&mut network, flow, burst, Discard::Ipv4Checksum);
}

/// Nothing of the burst goes in as one; one by one, all do but the sixth.
fn dies_alone(network: &mut Network, flow: FlowKey, burst: Burst, reason: Discard) {
    let run = Run::at_front_of(&burst).unwrap();
    let now = network.now;
    assert!(!network.hosts[1].stack.handle_run(LINK, &run, &burst, now));
    assert!(read(network, flow).is_empty(), "nothing was taken");
    for (index, frame) in burst.0.into_iter().enumerate() {
        let verdict = network.deliver(End { host: 1, interface: LINK }, frame);
        let expected = if index == 5 { Verdict::Discarded(reason) } else { Verdict::Consumed };
        assert_eq!(verdict, expected, "segment {index}");
    }
    let in_order = read(network, flow);
    assert!(!in_order.is_empty() && text().starts_with(&in_order));
}

#[test]
fn an_unfinished_checksum_within_a_burst_is_taken_where_it_may_come() {
    for unfinished_receive_checksum in [false, true] {
        let (mut network, flow, mut burst) = under_way("10.0.0.2:80", &text());
        let mut interface = network::interface(2, 0, stack::Role::Uplink, &["10.0.0.2/24"]);
        interface.unfinished_receive_checksum = unfinished_receive_checksum;
        let now = network.now;
        network.hosts[1].stack.set_interface(interface, now);
        for frame in &mut burst.0 {
            let sum = pseudo_header(&frame[26..34], frame.len() - 34);
            frame[50..52].copy_from_slice(&sum.to_be_bytes());
        }
        let run = Run::at_front_of(&burst).unwrap();
        let taken = network.hosts[1].stack.handle_run(LINK, &run, &burst, now);
        assert_eq!(
            (taken, !read(&mut network, flow).is_empty()),
            [(false, false), (true, true)][usize::from(unfinished_receive_checksum)]
        );
    }
}

fn pseudo_header(addresses: &[u8], len: usize) -> u16 {
    let words = addresses.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum = words.sum::<u32>() + 6 + len as u32;
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn a_burst_to_another_address_or_of_no_connection_goes_the_long_way() {
    let (mut network, _, burst) = under_way("10.0.0.2:80", &text());
    let run = Run::at_front_of(&burst).unwrap();
    let now = network.now;
    // Host 0 is where they come from: not its hardware address, not its IP address, no such connection.
    assert!(!network.hosts[0].stack.handle_run(LINK, &run, &burst, now));
    assert!(!network.hosts[1].stack.handle_run(InterfaceId(9), &run, &burst, now));
    for at in [5, 33, 35] {
        let mut other = Burst(burst.0.clone());
        other.0.iter_mut().for_each(|frame| frame[at] ^= 1);
        let run = Run::at_front_of(&other).unwrap();
        assert!(!network.hosts[1].stack.handle_run(LINK, &run, &other, now), "byte {at}");
    }
}
