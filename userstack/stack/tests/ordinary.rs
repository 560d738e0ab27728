//! The short way of an ordinary packet, from its first byte to its connection, and the long one do the same: with every bit
//! of its headers turned, whether the sums are right or not.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod network;

use std::net::SocketAddr;
use std::task::Poll;

use network::packets::{pseudo_header, sum};
use network::{DeliverAll, Flat, Network, pair};
use stack::{Chain, Discard, FlowKey, InterfaceId, ListenSpec, Prefix, Role, TcpOptions, Verdict};

const LINK: InterfaceId = InterfaceId(0);
const LINK_BYTES: usize = 14;
const TCP_BYTES: usize = 32;
const TCP: u8 = 6;

/// A frame in one piece that does not say so: it goes the long way.
struct Long(Flat);

impl Chain for Long {
    fn total_len(&self) -> usize {
        self.0.total_len()
    }

    fn chunks(&self) -> usize {
        self.0.chunks()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        self.0.chunk(index)
    }

    fn in_one(&self) -> Option<&[u8]> {
        None
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        self.0.chunk_mut(index)
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        self.0.grow_front(bytes)
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.0.shrink_front(bytes);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// One of two hosts that get the same.
struct Way {
    network: Network,
    flow: FlowKey,
    long: bool,
    read: Vec<u8>,
}

/// What a host made of a frame: the verdict, all that was read until now, what it sends.
type Outcome = (Verdict, Vec<u8>, Vec<Vec<u8>>);

impl Way {
    /// A connection to host 1, and what host 0 sends on it, which has not arrived.
    fn new(address: &str, unfinished: bool, long: bool) -> (Self, Vec<Vec<u8>>) {
        let mut network = pair(None, 1500);
        let remote: SocketAddr = address.parse().unwrap();
        let addresses = if remote.is_ipv6() { Prefix::ANY_V6 } else { Prefix::ANY_V4 };
        let now = network.now;
        let spec = ListenSpec { addresses, port: Some(80), interface: None };
        let listener = network.hosts[1].stack.tcp_listen(spec, TcpOptions::default()).unwrap();
        let client = network.hosts[0].stack.tcp_connect(remote, None, TcpOptions::default(), now).unwrap();
        network.settle();
        let Poll::Ready(Ok(flow)) = network.hosts[1].stack.tcp_accept(listener) else {
            panic!("established")
        };
        if unfinished {
            let mut interface = network::interface(2, 0, Role::Uplink, &["10.0.0.2/24", "2001:db8::2/64"]);
            interface.unfinished_receive_checksum = true;
            network.hosts[1].stack.set_interface(interface, now);
        }
        network.record = true;
        network.lose = Box::new(|_| true);
        let taken = network.hosts[0].stack.tcp_write(client, &[&text()], now);
        assert_eq!(taken, Poll::Ready(Ok(text().len())));
        network.settle();
        let frames = network.hosts[0].sent.drain(..).map(|(_, frame)| frame).collect();
        (Self { network, flow, long, read: vec![] }, frames)
    }

    fn take(&mut self, frame: &[u8]) -> Outcome {
        let now = self.network.now;
        let stack = &mut self.network.hosts[1].stack;
        let flat = Flat(frame.to_vec());
        let verdict = if self.long {
            stack.handle_packet(LINK, &mut Long(flat), &mut DeliverAll, now)
        } else {
            stack.handle_packet(LINK, &mut { flat }, &mut DeliverAll, now)
        };
        let mut buffer = vec![0; 1 << 16];
        if let Poll::Ready(Ok(len)) = stack.tcp_read(self.flow, &mut buffer, now) {
            self.read.extend_from_slice(&buffer[..len]);
        }
        while stack.poll_event().is_some() {}
        self.network.settle();
        let sent = self.network.hosts[1].sent.drain(..).map(|(_, frame)| frame).collect();
        (verdict, self.read.clone(), sent)
    }
}

fn text() -> Vec<u8> {
    (0..4_000u32).map(|at| (at % 251) as u8).collect()
}

/// Makes the sums of a frame right again.
fn finish(frame: &mut [u8]) {
    let is_v4 = frame[12..14] == [8, 0];
    let transport = LINK_BYTES + if is_v4 { 20 } else { 40 };
    let (addresses, checksum_at) = (if is_v4 { 26..34 } else { 22..54 }, transport + 16);
    frame[checksum_at..checksum_at + 2].fill(0);
    let (source, destination) = frame[addresses].split_at(if is_v4 { 4 } else { 16 });
    let mut summed = match (<[u8; 4]>::try_from(source), <[u8; 4]>::try_from(destination)) {
        (Ok(source), Ok(destination)) => {
            pseudo_header(source.into(), destination.into(), TCP, frame.len() - transport)
        }
        _ => {
            let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).unwrap().into();
            pseudo_header(address(source), address(destination), TCP, frame.len() - transport)
        }
    };
    summed.extend_from_slice(&frame[transport..]);
    let checksum = !sum(&summed);
    frame[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn a_frame_with_any_bit_of_its_headers_turned_is_judged_as_the_long_way_judges_it() {
    for address in ["10.0.0.2:80", "[2001:db8::2]:80"] {
        for unfinished in [false, true] {
            let ((mut short, frames), (mut long, _)) =
                (Way::new(address, unfinished, false), Way::new(address, unfinished, true));
            let headers = LINK_BYTES + if address.starts_with('[') { 40 } else { 20 } + TCP_BYTES;
            // From now on the stream is known.
            assert_eq!(short.take(&frames[0]), long.take(&frames[0]));
            for bit in 0..8 * headers {
                let mut frame = frames[1].clone();
                frame[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(short.take(&frame), long.take(&frame), "{address}, bit {bit}");
            }
            for frame in &frames[1..] {
                assert_eq!(short.take(frame), long.take(frame), "{address}");
            }
            assert_eq!((short.read, long.read), (text(), text()), "{address}");
        }
    }
}

#[test]
fn a_segment_with_any_bit_of_its_header_turned_and_its_sum_right_does_what_it_does_the_long_way() {
    for address in ["10.0.0.2:80", "[2001:db8::2]:80"] {
        let (_, frames) = Way::new(address, false, false);
        let transport = LINK_BYTES + if address.starts_with('[') { 40 } else { 20 };
        for bit in 0..8 * TCP_BYTES {
            let ((mut short, _), (mut long, _)) =
                (Way::new(address, false, false), Way::new(address, false, true));
            let mut frame = frames[1].clone();
            frame[transport + bit / 8] ^= 1 << (bit % 8);
            finish(&mut frame);
            for frame in [&frames[0], &frame, &frames[1], &frames[2]] {
                assert_eq!(short.take(frame), long.take(frame), "{address}, bit {bit}");
            }
        }
    }
}

/// Each of two numbers so far apart is before the other: such a segment neither begins before the window nor ends behind it.
#[test]
fn a_segment_half_the_numbers_away_does_not_span_the_window() {
    for address in ["10.0.0.2:80", "[2001:db8::2]:80"] {
        let (mut way, frames) = Way::new(address, false, false);
        let sequence_at = LINK_BYTES + if address.starts_with('[') { 40 } else { 20 } + 4;
        let mut frame = frames[0].clone();
        frame[sequence_at] ^= 0x80;
        finish(&mut frame);
        let (verdict, read, _) = way.take(&frame);
        assert_eq!((verdict, read.len()), (Verdict::Discarded(Discard::TcpDuplicate), 0));
        assert_eq!(way.take(&frames[0]).0, Verdict::Consumed);
    }
}
