//! TCP: a connection of a template, whose segments come in order and whose acknowledgements are never late.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use stack::{
    Admission, Contiguous, FirstDatagram, FlowKey, Forward, Instant, ListenSpec, ListenerKey, Prefix, Stack,
    TcpOptions, Verdict,
};

use super::{BURST, Family, INTERFACE, OUR_MAC, PEER_MAC, Tape, scene};
use crate::count::{Meter, Sums};
use crate::packets::{self, Ends, Tcp};

const PORT: u16 = 80;
/// Segments before counting begins: the window is open and buffers are of their final size.
const WARM_UP: u64 = 4_000;

/// Nobody sends datagrams here.
pub(super) struct Deliver;

impl Admission for Deliver {
    fn admit(&mut self, _: &FirstDatagram<'_>, _: Instant) -> Forward {
        Forward::Deliver
    }
}

/// The far end of a connection.
pub(super) struct Template {
    pub seq: u32,
    pub ack: u32,
    ends: Ends,
    /// TSval of the last packet that it got.
    pub echo: u32,
}

impl Template {
    /// A peer that has said nothing yet.
    pub fn new(remote: SocketAddr) -> Self {
        let ours = if remote.is_ipv4() { Family::V4.ours() } else { Family::V6.ours() };
        let to = SocketAddr::new(ours, PORT);
        let ends = Ends { from_mac: PEER_MAC, to_mac: OUR_MAC, from: remote, to };
        Self { seq: 0, ack: 0, ends, echo: 0 }
    }

    pub fn syn(&mut self) -> Contiguous {
        let header = Tcp { seq: self.seq, ack: 0, syn: true, fin: false, timestamps: (1, 0) };
        self.seq = self.seq.wrapping_add(1);
        Contiguous::new(&packets::tcp(&self.ends, &header, &[]))
    }

    /// The stack's answer to the SYN.
    pub fn hear(&mut self, packet: &[u8]) {
        let answer = packets::read_tcp(packet);
        (self.ack, self.echo) = (answer.seq.wrapping_add(1), answer.timestamp);
    }

    /// Its next segment.
    pub fn segment(&mut self, text: &[u8]) -> Contiguous {
        self.next(text, false)
    }

    pub fn fin(&mut self) -> Contiguous {
        self.next(&[], true)
    }

    fn next(&mut self, text: &[u8], fin: bool) -> Contiguous {
        let header = Tcp { seq: self.seq, ack: self.ack, syn: false, fin, timestamps: (1, self.echo) };
        let numbers = u32::try_from(text.len()).expect("a segment fits a packet") + u32::from(fin);
        self.seq = self.seq.wrapping_add(numbers);
        Contiguous::new(&packets::tcp(&self.ends, &header, text))
    }
}

/// A connection of the stack and its far end.
pub(super) struct Opened {
    pub flow: FlowKey,
    pub peer: Template,
}

pub(super) fn listen(stack: &mut Stack, family: Family) -> ListenerKey {
    listen_with(stack, family, TcpOptions { keepalive: None, ..TcpOptions::default() })
}

pub(super) fn listen_with(stack: &mut Stack, family: Family, options: TcpOptions) -> ListenerKey {
    let addresses = Prefix::new(family.ours(), if family == Family::V4 { 32 } else { 128 });
    let spec = ListenSpec { addresses, port: Some(PORT), interface: None };
    stack.tcp_listen(spec, options).expect("nobody else listens")
}

/// The three-way handshake of `remote`, accepted.
pub(super) fn establish(
    stack: &mut Stack,
    listener: ListenerKey,
    remote: SocketAddr,
    tape: &mut Tape,
    now: Instant,
) -> Opened {
    let mut peer = Template::new(remote);
    hand_over(stack, &mut peer.syn(), now);
    stack.poll_transmit(tape, BURST, now);
    peer.hear(tape.last());
    hand_over(stack, &mut peer.segment(&[]), now);
    let Poll::Ready(Ok(flow)) = stack.tcp_accept(listener) else { panic!("the handshake is complete") };
    while stack.poll_event().is_some() {}
    Opened { flow, peer }
}

pub(super) fn hand_over(stack: &mut Stack, packet: &mut Contiguous, now: Instant) {
    let verdict = stack.handle_packet(INTERFACE, packet, &mut Deliver, now);
    debug_assert_eq!(verdict, Verdict::Consumed, "the template's packets are in order");
}

pub(super) fn one(family: Family) -> (Stack, Opened, Tape, Instant) {
    let (mut stack, now) = scene(family, 1);
    let listener = listen(&mut stack, family);
    let mut tape = Tape::new();
    let remote = SocketAddr::new(family.neighbour(0), 5000);
    let opened = establish(&mut stack, listener, remote, &mut tape, now);
    (stack, opened, tape, now)
}

fn text_bytes(family: Family) -> usize {
    if family == Family::V4 { 1448 } else { 1428 }
}

/// Full segments in order, in bursts, read by the user after each; with the acknowledgements that they cause.
pub fn received(family: Family, segments: u64) -> Sums {
    let (mut stack, Opened { flow, peer: mut template }, mut tape, mut now) = one(family);
    let text = vec![7; text_bytes(family)];
    let mut into = vec![0; 64 << 10];
    let (mut meter, mut read) = (Meter::default(), 0);
    let (mut given, mut counted) = (0, 0);
    while counted < segments {
        if given >= WARM_UP {
            meter.start();
            counted += BURST as u64;
        }
        let mut burst: Vec<Contiguous> = (0..BURST).map(|_| template.segment(&text)).collect();
        given += BURST as u64;
        now = now + Duration::from_micros(10);
        meter.run(&mut || {
            for packet in &mut burst {
                hand_over(&mut stack, packet, now);
            }
            while stack.poll_event().is_some() {}
            if let Poll::Ready(Ok(taken)) = stack.tcp_read(flow, &mut into, now) {
                read += taken;
            }
            stack.poll_transmit(&mut tape, BURST, now);
        });
    }
    assert_eq!(read as u64, given * text.len() as u64, "all that was sent was read");
    meter.finish(counted)
}

/// What is counted of a connection that sends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Counted {
    /// Writing, transmitting, and the acknowledgements that come back.
    Sending,
    /// The acknowledgements alone.
    Acknowledgements,
}

/// Full segments sent, written by the user a burst at a time, every two of them acknowledged.
pub fn sent(family: Family, segments: u64) -> Sums {
    send(family, segments, Counted::Sending, false)
}

/// The same through a device that cuts long packets into segments.
pub fn sent_uncut(family: Family, segments: u64) -> Sums {
    send(family, segments, Counted::Sending, true)
}

/// Acknowledgements of two full segments each.
pub fn acknowledged(family: Family, acknowledgements: u64) -> Sums {
    send(family, acknowledgements, Counted::Acknowledgements, false)
}

fn send(family: Family, units: u64, what: Counted, cuts: bool) -> Sums {
    let (mut stack, Opened { flow, peer: mut template }, mut tape, mut now) = one(family);
    tape.cuts = cuts;
    let text_bytes = u32::try_from(text_bytes(family)).expect("a segment fits a packet");
    let text = vec![7; text_bytes as usize * BURST];
    let (mut meter, mut aside) = (Meter::default(), Meter::default());
    let (mut counted, mut sent) = (0, 0);
    while counted < units {
        let warm = sent >= WARM_UP;
        if warm {
            meter.start();
        }
        let before = tape.packets;
        now = now + Duration::from_micros(50);
        let sending = if what == Counted::Sending { &mut meter } else { &mut aside };
        sending.run(&mut || {
            let _taken = stack.tcp_write(flow, &[&text], now);
            stack.poll_transmit(&mut tape, BURST, now);
        });
        let segments = tape.packets - before;
        assert!(segments > 0, "the window is open after each round");
        let last = packets::read_tcp(tape.last());
        (sent, template.echo) = (sent + segments, last.timestamp);
        let end = last.seq.wrapping_add(last.text_bytes + tape.apart);
        let mut acks = acknowledge(&mut template, end, text_bytes);
        now = now + Duration::from_micros(50);
        meter.run(&mut || {
            for ack in &mut acks {
                hand_over(&mut stack, ack, now);
            }
            while stack.poll_event().is_some() {}
        });
        if warm {
            counted += if what == Counted::Sending { segments } else { acks.len() as u64 };
        }
    }
    meter.finish(counted)
}

/// Acknowledges all up to `end`, two segments at a time.
fn acknowledge(template: &mut Template, end: u32, text_bytes: u32) -> Vec<Contiguous> {
    let mut acks = Vec::new();
    while template.ack != end {
        let left = end.wrapping_sub(template.ack);
        template.ack = template.ack.wrapping_add(left.min(2 * text_bytes));
        acks.push(template.segment(&[]));
    }
    acks
}
