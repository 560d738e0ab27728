//! What a segment costs, for a profiler to count: run one with `--ignored` under
//! `valgrind --tool=callgrind` with two values of `SEGMENTS`, and divide the difference.

use std::net::SocketAddr;
use std::task::Poll;

use super::link::{Chunks, Host, INTERFACE, Packet};
use crate::tcp::boundary::{Arrival, Outgoing, Path, Refused, SegmentSink};
use crate::tcp::header::{Flags, Header, MAX_HEADER, Options, Timestamps};
use crate::tcp::sequence::Seq;
use crate::tcp::{FlowKey, ListenSpec, TcpOptions};
use crate::{Chain, Instant, Prefix};

const TEXT: u32 = 1448;

/// Takes everything and keeps the last acknowledgement.
struct Void {
    segments: u64,
    ack: u32,
}

impl SegmentSink for Void {
    fn open(&mut self, _: SocketAddr, _: SocketAddr, _path: &mut Path) -> Result<u16, Refused> {
        Ok(1500)
    }

    fn send(&mut self, segment: &Outgoing<'_>) -> Result<(), Refused> {
        self.segments += 1;
        self.ack = u32::from_be_bytes(segment.header[8..12].try_into().unwrap());
        Ok(())
    }
}

struct Scene {
    host: Host,
    key: FlowKey,
    remote: SocketAddr,
    ours: Seq,
    value: u32,
    now: Instant,
}

/// An established connection, with timestamps, SACK and window scale, of a peer that is only a template.
fn scene() -> Scene {
    let mut host = Host::new("10.0.0.1", 1500, 1 << 30);
    let spec =
        ListenSpec { addresses: Prefix { address: host.address, len: 32 }, port: Some(80), interface: None };
    let options = TcpOptions { keepalive: None, ..TcpOptions::default() };
    let listener = host.tcp.listen(spec, options).unwrap();
    let now = Instant::from_nanos(1_000_000_000);
    let remote: SocketAddr = "10.0.0.2:5000".parse().unwrap();
    let mut syn = header(remote, 0, 0, Flags::SYN, Timestamps { value: 1, echo: 0 });
    syn.options.mss = Some(1460);
    syn.options.sack_permitted = true;
    syn.options.window_scale = Some(7);
    host.receive(&packet(&host, remote, &syn), 4096, now);
    let answer = host.transmit(now).remove(0);
    let (answer, _) = Header::parse(&answer.bytes).unwrap();
    let value = answer.options.timestamps.unwrap().value;
    let ours = answer.seq + 1;
    let ack = header(remote, 1, ours.0, Flags::ACK, Timestamps { value: 1, echo: value });
    host.receive(&packet(&host, remote, &ack), 4096, now);
    let Poll::Ready(Ok(key)) = host.tcp.accept(listener) else { panic!("established") };
    Scene { host, key, remote, ours, value, now }
}

fn header(remote: SocketAddr, seq: u32, ack: u32, flags: Flags, timestamps: Timestamps) -> Header {
    let options = Options { timestamps: Some(timestamps), ..Options::default() };
    Header {
        source_port: remote.port(),
        destination_port: 80,
        seq: Seq(seq),
        ack: Seq(ack),
        flags,
        window: u16::MAX,
        options,
    }
}

fn packet(host: &Host, remote: SocketAddr, header: &Header) -> Packet {
    let mut bytes = [0; MAX_HEADER];
    let length = header.write(&mut bytes);
    let destination = SocketAddr::new(host.address, 80);
    Packet { source: remote, destination, bytes: bytes[..length].to_vec(), ecn: 0 }
}

fn segments() -> u32 {
    std::env::var("SEGMENTS").ok().and_then(|count| count.parse().ok()).unwrap_or(1_000)
}

/// Segments of 1448 bytes, two a turn with one acknowledgement, read every 32.
#[test]
#[ignore = "for a profiler"]
fn receiving() {
    let Scene { mut host, key, remote, ours, value, now } = scene();
    let template = header(remote, 1, ours.0, Flags::ACK, Timestamps { value: 1, echo: value });
    let mut bytes = packet(&host, remote, &template).bytes;
    bytes.resize(bytes.len() + TEXT as usize, 7);
    let mut chain = Chunks(vec![bytes]);
    let arrival = Arrival { interface: INTERFACE, local: host.address, remote: remote.ip(), ecn: 0 };
    let mut void = Void { segments: 0, ack: 0 };
    let (mut into, mut read) = (vec![0; 64 * 1024], 0);
    let mut seq = 1u32;
    for number in 0..segments() {
        chain.chunk_mut(0)[4..8].copy_from_slice(&seq.to_be_bytes());
        host.tcp.handle_segment(arrival, &chain, 0, now).unwrap();
        seq = seq.wrapping_add(TEXT);
        if number % 2 == 1 {
            host.tcp.poll_transmit(&mut void, 64, now);
        }
        if number % 32 == 31 {
            let Poll::Ready(Ok(taken)) = host.tcp.read(key, &mut into, now) else { panic!("text is here") };
            read += taken;
            while host.tcp.poll_event().is_some() {}
        }
    }
    assert!(void.segments >= u64::from(segments() / 2) && read > 0);
}

/// Segments of 1448 bytes, acknowledged two at a time.
#[test]
#[ignore = "for a profiler"]
fn sending() {
    let Scene { mut host, key, remote, ours, value, now } = scene();
    let template = header(remote, 1, ours.0, Flags::ACK, Timestamps { value: 1, echo: value });
    let mut chain = Chunks(vec![packet(&host, remote, &template).bytes]);
    let arrival = Arrival { interface: INTERFACE, local: host.address, remote: remote.ip(), ecn: 0 };
    let mut void = Void { segments: 0, ack: 0 };
    let text = vec![7; 64 * 1024];
    let mut ack = ours;
    let (mut acked, segments) = (0, u64::from(segments()));
    while void.segments < segments {
        let _ = host.tcp.write(key, &[&text], now);
        host.tcp.poll_transmit(&mut void, 64, now);
        while acked + 2 <= void.segments {
            acked += 2;
            ack += 2 * TEXT;
            chain.chunk_mut(0)[8..12].copy_from_slice(&ack.0.to_be_bytes());
            host.tcp.handle_segment(arrival, &chain, 0, now).unwrap();
        }
        while host.tcp.poll_event().is_some() {}
    }
    assert_eq!(void.ack, 1);
}
