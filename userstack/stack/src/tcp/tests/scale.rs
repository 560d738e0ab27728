//! Many connections: what each holds, counted where it is allocated. `docs/benchmarks.md` has the figures of a million.

use std::net::SocketAddr;
use std::task::Poll;

use allocation_counter::measure;

use super::link::{Chunks, Host, INTERFACE};
use crate::tcp::boundary::{Arrival, Outgoing, Path, Refused, SegmentSink};
use crate::tcp::header::{Flags, Header, MAX_HEADER, Options, Timestamps};
use crate::tcp::sequence::Seq;
use crate::tcp::{FlowKey, ListenSpec, ListenerKey, TcpOptions};
use crate::{Instant, Prefix};

/// As full as the flow table's parts are with a million.
const MANY: u32 = 30_000;
/// What an established connection without anything to do may hold, with all its places.
const MOST_BYTES: i64 = 600;
/// A TIME-WAIT's entry, and its place in the flow table.
const MOST_RESTING_BYTES: i64 = 64 + 16;

/// Takes all, and keeps what its peer must know.
struct Last {
    sent: u64,
    header: Header,
}

impl SegmentSink for Last {
    fn open(&mut self, _: SocketAddr, _: SocketAddr, _path: &mut Path) -> Result<u16, Refused> {
        Ok(1500)
    }

    fn send(&mut self, segment: &Outgoing<'_>) -> Result<(), Refused> {
        self.sent += 1;
        self.header = Header::parse(segment.header).unwrap().0;
        Ok(())
    }
}

/// A server, and peers that are one header each.
struct Scene {
    host: Host,
    listener: ListenerKey,
    last: Last,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let mut host = Host::new("10.0.0.1", 1500, 1 << 30);
        host.tcp.set_max_flows(1 << 20);
        let addresses = Prefix { address: host.address, len: 32 };
        let spec = ListenSpec { addresses, port: Some(80), interface: None };
        let listener = host.tcp.listen(spec, TcpOptions::default()).unwrap();
        let last = Last { sent: 0, header: Header::default() };
        Self { host, listener, last, now: Instant::from_nanos(1_000_000_000) }
    }

    fn hear(&mut self, remote: SocketAddr, header: &Header, text: &[u8]) {
        let mut bytes = [0; MAX_HEADER];
        let length = header.write(&mut bytes);
        let packet = Chunks(vec![[&bytes[..length], text].concat()]);
        let arrival = Arrival { interface: INTERFACE, local: self.host.address, remote: remote.ip(), ecn: 0 };
        self.host.tcp.handle_segment(arrival, &packet, 0, self.now).unwrap();
        self.host.tcp.poll_transmit(&mut self.last, 64, self.now);
    }

    /// The next segment of the peer that heard the last one.
    fn next(&self, remote: SocketAddr, seq: u32, flags: Flags) -> Header {
        let heard = &self.last.header;
        let numbers = if heard.flags.has(Flags::SYN) || heard.flags.has(Flags::FIN) { 1 } else { 0 };
        let echo = heard.options.timestamps.map_or(0, |timestamps| timestamps.value);
        let options = Options { timestamps: Some(Timestamps { value: 1, echo }), ..Options::default() };
        Header {
            source_port: remote.port(),
            destination_port: 80,
            seq: Seq(seq),
            ack: heard.seq + numbers,
            flags,
            window: u16::MAX,
            options,
        }
    }

    /// Opened, accepted, asked and answered.
    fn open(&mut self, number: u32) -> (FlowKey, SocketAddr) {
        let [_, high, low, _] = (number << 8).to_be_bytes();
        let remote = SocketAddr::from(([10, 1, high, low], 5000));
        let mut syn = self.next(remote, 0, Flags::SYN);
        syn.options.mss = Some(1460);
        syn.options.sack_permitted = true;
        syn.options.window_scale = Some(7);
        self.hear(remote, &syn, &[]);
        let ack = self.next(remote, 1, Flags::ACK);
        self.hear(remote, &ack, &[]);
        let Poll::Ready(Ok(flow)) = self.host.tcp.accept(self.listener) else { panic!("established") };
        self.hear(remote, &ack, &[7; 100]);
        assert_eq!(self.host.tcp.read(flow, &mut [0; 128], self.now), Poll::Ready(Ok(100)));
        assert_eq!(self.host.tcp.write(flow, &[&[7; 100]], self.now), Poll::Ready(Ok(100)));
        self.host.tcp.poll_transmit(&mut self.last, 64, self.now);
        let mut thanks = self.next(remote, 101, Flags::ACK);
        thanks.ack += 100;
        self.hear(remote, &thanks, &[]);
        while self.host.tcp.poll_event().is_some() {}
        (flow, remote)
    }

    /// We close, and so does the peer.
    fn end(&mut self, flow: FlowKey, remote: SocketAddr) {
        self.host.tcp.close(flow, self.now);
        self.host.tcp.poll_transmit(&mut self.last, 64, self.now);
        let fin = self.next(remote, 101, Flags::ACK.with(Flags::FIN));
        self.hear(remote, &fin, &[]);
        while self.host.tcp.poll_event().is_some() {}
    }
}

#[test]
fn an_idle_connection_with_all_its_places_holds_at_most_600_bytes() {
    let mut scene = Scene::new();
    let held = measure(|| {
        for number in 0..MANY {
            scene.open(number);
        }
    });
    let holdings = scene.host.tcp.holdings();
    assert_eq!((holdings.connections, holdings.buffer_bytes), (MANY as usize, 0));
    assert_eq!(holdings.timers, MANY as usize, "each has its keepalive");
    let each = held.bytes_current / i64::from(MANY);
    assert!(each <= MOST_BYTES, "{each} bytes");
}

#[test]
fn a_time_wait_is_64_bytes_and_a_place_in_the_flow_table() {
    let mut scene = Scene::new();
    let held = measure(|| {
        for number in 0..MANY {
            let (flow, remote) = scene.open(number);
            scene.end(flow, remote);
        }
    });
    let holdings = scene.host.tcp.holdings();
    assert_eq!((holdings.connections, holdings.time_waits), (0, MANY as usize));
    let each = held.bytes_current / i64::from(MANY);
    assert!(each <= MOST_RESTING_BYTES, "{each} bytes");
    assert_eq!(size_of::<crate::tcp::timewait::TimeWait>(), 64);
}

/// Opening, answering and closing takes nothing from the heap once there was as much of it before.
#[test]
fn a_connection_comes_and_goes_without_an_allocation() {
    let mut scene = Scene::new();
    let life = |scene: &mut Scene, number| {
        let (flow, remote) = scene.open(number);
        scene.end(flow, remote);
        scene.now = scene.now + std::time::Duration::from_secs(61);
        scene.host.tcp.handle_timers(64, scene.now);
    };
    // Each part of the flow table has had an entry.
    (0..4_000).for_each(|number| life(&mut scene, number));
    // The peer's packets are the test's own: five, of two pieces of memory each.
    let ours = measure(|| (4_000..4_100).for_each(|number| life(&mut scene, number))).count_total;
    let peers = measure(|| {
        for _ in 0..100 * 5 {
            drop(Chunks(vec![[&[0u8; 20][..], &[]].concat()]));
        }
    });
    assert_eq!(ours.saturating_sub(peers.count_total), 0, "allocations of 100 connections");
    assert_eq!(scene.host.tcp.holdings().time_waits, 0);
}
