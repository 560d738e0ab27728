//! The two buffers of a connection against a model, whatever a peer and a user do: a raw peer sends what it likes to a
//! real engine.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use proptest::prelude::*;

use super::link::{Host, Packet};
use crate::tcp::header::{Flags, Header, MAX_HEADER};
use crate::tcp::sequence::Seq;
use crate::tcp::{FlowKey, ListenSpec, TcpOptions};
use crate::{Instant, Prefix};

/// Our window scale when the receive buffer is this long: the smallest shift that tells all of it.
const RECEIVE_BYTES: u32 = 1 << 20;
const SCALE: u8 = 5;
const SEND_BYTES: u32 = 100_000;

fn pattern(place: u32) -> u8 {
    (place % 251) as u8
}

/// A connection of an engine, and its peer as a script would play it. The peer's initial sequence is zero.
struct Scene {
    host: Host,
    key: FlowKey,
    peer: SocketAddr,
    ours: Seq,
    now: Instant,
    /// The next byte that the user reads, and writes.
    read: u32,
    written: u32,
}

impl Scene {
    fn new(memory_bytes: usize, window: u16) -> Self {
        let mut host = Host::new("10.0.0.1", 1500, memory_bytes);
        let addresses = Prefix { address: host.address, len: 32 };
        let options = TcpOptions {
            keepalive: None,
            receive_buffer_bytes: RECEIVE_BYTES as usize,
            send_buffer_bytes: SEND_BYTES as usize,
            ..TcpOptions::default()
        };
        let listener =
            host.tcp.listen(ListenSpec { addresses, port: Some(80), interface: None }, options).unwrap();
        let now = Instant::from_nanos(1_000_000_000);
        let peer: SocketAddr = "10.0.0.2:5000".parse().unwrap();
        let key = FlowKey { slot: 0, life: 0 };
        let mut scene = Self { host, key, peer, ours: Seq(0), now, read: 0, written: 0 };
        let mut syn = Header { flags: Flags::SYN, window, ..Header::default() };
        syn.options.mss = Some(1460);
        syn.options.sack_permitted = true;
        syn.options.window_scale = Some(0);
        scene.send(syn, &[]);
        let answer = scene.host.transmit(now).remove(0);
        let (answer, _) = Header::parse(&answer.bytes).unwrap();
        assert_eq!(answer.options.window_scale, Some(SCALE));
        scene.ours = answer.seq;
        scene.send(
            Header { seq: Seq(1), ack: answer.seq + 1, flags: Flags::ACK, window, ..Header::default() },
            &[],
        );
        let Poll::Ready(Ok(key)) = scene.host.tcp.accept(listener) else { panic!("established") };
        scene.key = key;
        scene
    }

    fn send(&mut self, header: Header, text: &[u8]) {
        let header = Header { source_port: self.peer.port(), destination_port: 80, ..header };
        let mut bytes = [0; MAX_HEADER];
        let length = header.write(&mut bytes);
        let packet = Packet {
            source: self.peer,
            destination: SocketAddr::new(self.host.address, 80),
            ecn: 0,
            bytes: bytes[..length].iter().chain(text).copied().collect(),
        };
        self.host.receive(&packet, 700, self.now);
    }

    fn pass(&mut self, time: Duration) -> Vec<Packet> {
        self.now = self.now + time;
        while self.host.tcp.handle_timers(64, self.now) {}
        self.host.transmit(self.now)
    }

    /// Reads at most `limit` bytes and holds them against the pattern.
    fn read(&mut self, limit: usize) {
        let mut into = vec![0; limit];
        if let Poll::Ready(Ok(taken)) = self.host.tcp.read(self.key, &mut into, self.now) {
            for byte in &into[..taken] {
                assert_eq!(*byte, pattern(self.read), "byte {} of the stream", self.read);
                self.read += 1;
            }
        }
    }

    fn write(&mut self, bytes: u32) {
        let text: Vec<u8> = (0..bytes).map(|offset| pattern(self.written + offset)).collect();
        if let Poll::Ready(Ok(taken)) = self.host.tcp.write(self.key, &[&text], self.now) {
            self.written += taken as u32;
        }
    }

    /// Afterwards nothing is held.
    fn end(mut self) {
        self.host.tcp.abort(self.key, self.now);
        assert_eq!((self.host.tcp.lent_bytes(), self.host.tcp.connections()), (0, 0));
    }
}

#[derive(Clone, Debug)]
enum Arrives {
    /// Text from `ahead` beyond what was acknowledged, or `behind` before it.
    Text {
        ahead: u32,
        behind: u32,
        len: u32,
    },
    Read(usize),
    Pass(u64),
}

fn arrivals() -> impl Strategy<Value = Vec<Arrives>> {
    let step = prop_oneof![
        4 => (1u32..3_000).prop_map(|len| Arrives::Text { ahead: 0, behind: 0, len }),
        2 => (1u32..20).prop_map(|len| Arrives::Text { ahead: 0, behind: 0, len }),
        2 => (0u32..90_000, 0u32..2_000, 1u32..9_000)
            .prop_map(|(ahead, behind, len)| Arrives::Text { ahead, behind, len }),
        2 => (1usize..60_000).prop_map(Arrives::Read),
        1 => (0u64..50).prop_map(Arrives::Pass),
    ];
    prop::collection::vec(step, 1..200)
}

#[derive(Clone, Debug)]
enum Asked {
    Write(u32),
    /// A part of what is out is acknowledged, in percent, with this window.
    Ack(u32, u16),
    Pass(u64),
}

fn asked() -> impl Strategy<Value = Vec<Asked>> {
    let step = prop_oneof![
        3 => (1u32..60_000).prop_map(Asked::Write),
        4 => (0u32..=100, prop_oneof![Just(0u16), 1u16..3_000, 20_000u16..]).prop_map(|(part, window)| Asked::Ack(part, window)),
        2 => (0u64..400).prop_map(Asked::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// RFC 9293, sections 3.8.6 and 3.10.7.4: what is read is what was sent, in order and once; the window's right edge
    /// never moves back, and never beyond what the user's bound has room for; memory stays within the budget.
    #[test]
    fn what_is_received_is_read_once_and_the_window_keeps_its_word(
        steps in arrivals(),
        memory_bytes in prop_oneof![Just(1usize << 30), 16_384usize..400_000],
    ) {
        let mut scene = Scene::new(memory_bytes, u16::MAX);
        let ours = scene.ours + 1;
        let (mut acked, mut edge) = (1u32, 65_536u32);
        for step in steps {
            match step {
                Arrives::Text { ahead, behind, len } => {
                    let start = (acked + ahead).saturating_sub(behind).max(1);
                    let text: Vec<u8> = (start..start + len).map(|place| pattern(place - 1)).collect();
                    let header =
                        Header { seq: Seq(start), ack: ours, flags: Flags::ACK, window: u16::MAX, ..Header::default() };
                    scene.send(header, &text);
                }
                Arrives::Read(limit) => scene.read(limit),
                Arrives::Pass(millis) => scene.now = scene.now + Duration::from_millis(millis),
            }
            for packet in scene.pass(Duration::ZERO) {
                let (header, _) = Header::parse(&packet.bytes).unwrap();
                prop_assert!(header.ack.0 >= acked, "acknowledgements do not go back");
                acked = header.ack.0;
                let told = acked + (u32::from(header.window) << SCALE);
                // By less than the scale's unit it may, where the room for rounding up is used (RFC 7323, section 2.4).
                prop_assert!(told + (1 << SCALE) > edge, "the edge moved from {} back to {}", edge, told);
                prop_assert!(told <= scene.read + 1 + RECEIVE_BYTES, "{} bytes are more than the bound", told - scene.read);
                edge = edge.max(told);
            }
            prop_assert!(scene.host.tcp.lent_bytes() <= memory_bytes);
        }
        scene.end();
    }

    /// RFC 9293, section 3.8.6: new text stays within the window, every byte is the one that was written, and no more is
    /// held than the user's bound.
    #[test]
    fn what_is_written_is_sent_within_the_window_and_held_until_it_is_acknowledged(steps in asked()) {
        let mut scene = Scene::new(1 << 30, 20_000);
        let first = scene.ours + 1;
        let (mut acked, mut window, mut next) = (0u32, 20_000u32, 0u32);
        for step in steps {
            let mut time = Duration::ZERO;
            match step {
                Asked::Write(bytes) => scene.write(bytes),
                Asked::Ack(part, offered) => {
                    acked += (next - acked) * part / 100;
                    window = u32::from(offered);
                    let header =
                        Header { seq: Seq(1), ack: first + acked, flags: Flags::ACK, window: offered, ..Header::default() };
                    scene.send(header, &[]);
                }
                Asked::Pass(millis) => time = Duration::from_millis(millis),
            }
            for packet in scene.pass(time) {
                let (header, length) = Header::parse(&packet.bytes).unwrap();
                let text = &packet.bytes[length..];
                let start = header.seq.since(first);
                if text.is_empty() {
                    continue;
                }
                for (offset, byte) in text.iter().enumerate() {
                    prop_assert_eq!(*byte, pattern(start + offset as u32));
                }
                let end = start + text.len() as u32;
                prop_assert!(start <= next, "nothing is left out");
                prop_assert!(end <= next || end <= acked + window, "new text up to {} beyond {}", end, acked + window);
                next = next.max(end);
            }
            prop_assert!(scene.written - acked <= SEND_BYTES);
        }
        scene.end();
    }
}

/// Each crumb moves the window's end on by a crumb, where the scale cannot say less: not for ever.
#[test]
fn a_peer_that_sends_crumbs_to_nobody_gets_no_endless_window() {
    let mut scene = Scene::new(1 << 30, u16::MAX);
    let ours = scene.ours + 1;
    let mut edge = 65_536u32;
    for start in (1u32..).take_while(|start| *start < 100_000) {
        if start >= edge {
            break;
        }
        let header =
            Header { seq: Seq(start), ack: ours, flags: Flags::ACK, window: u16::MAX, ..Header::default() };
        scene.send(header, &[pattern(start - 1)]);
        for packet in scene.pass(Duration::from_micros(20)) {
            let (header, _) = Header::parse(&packet.bytes).unwrap();
            edge = edge.max(header.ack.0 + (u32::from(header.window) << SCALE));
        }
    }
    assert!((65_536..65_536 + 65_536 / 32).contains(&edge), "{edge}");
    scene.read(1 << 20);
    assert!(scene.read >= 65_000, "{}", scene.read);
    scene.end();
}
