//! A peer that a test speaks for, segment by segment: what our side sends, and what it is sent. Places count from the
//! first byte of each stream, 0.

use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use super::pattern;
use crate::tcp::header::{Flags, Header, MAX_HEADER};
use crate::tcp::sequence::Seq;
use crate::tcp::tests::link::{Host, Packet};
use crate::tcp::{FlowKey, ListenSpec, TcpOptions};
use crate::{Instant, Prefix};

const PORT: u16 = 80;
/// Longer than any acknowledgement is delayed.
const DELAYS: Duration = Duration::from_millis(50);

/// A segment of our side as the peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub at: Instant,
    /// Place of the first byte.
    pub start: u32,
    pub text: Vec<u8>,
    pub fin: bool,
    /// Places: the next byte wanted, the end of the window, and blocks.
    pub ack: u32,
    pub edge: u32,
    pub blocks: Vec<(u32, u32)>,
}

/// A segment of the peer.
#[derive(Copy, Clone, Debug)]
pub(super) struct Said<'a> {
    /// Place of the first byte.
    pub start: u32,
    pub text: &'a [u8],
    pub flags: Flags,
    /// Places of our stream: the next byte wanted, and blocks beyond it.
    pub ack: u32,
    pub blocks: &'a [(u32, u32)],
    pub window: u16,
}

impl Default for Said<'_> {
    fn default() -> Self {
        Self { start: 0, text: &[], flags: Flags::ACK, ack: 0, blocks: &[], window: u16::MAX }
    }
}

pub(super) struct Conversation {
    pub host: Host,
    pub flow: FlowKey,
    pub now: Instant,
    /// Segments that are to arrive together.
    gathered: Option<Vec<Packet>>,
    /// Sequence numbers before the first bytes.
    ours: Seq,
    theirs: Seq,
}

impl Conversation {
    /// The peer's MSS is 1,000; it has SACK and neither scale nor timestamps.
    pub fn open(options: TcpOptions, peer_initial: u32, window: u16) -> Self {
        let mut host = Host::new("10.0.0.1", 1500, 1 << 30);
        let now = Instant::from_nanos(3_600_000_000_000);
        let addresses = Prefix { address: host.address, len: 32 };
        let spec = ListenSpec { addresses, port: Some(PORT), interface: None };
        let listener = host.tcp.listen(spec, options).unwrap();
        let theirs = Seq(peer_initial);
        let flow = FlowKey { slot: 0, life: 0 };
        let mut conversation = Self { host, flow, now, gathered: None, ours: Seq(0), theirs };
        let mut syn = Header { flags: Flags::SYN, seq: theirs, window, ..Header::default() };
        (syn.options.mss, syn.options.sack_permitted) = (Some(1000), true);
        conversation.put(syn, &[]);
        let answers = conversation.host.transmit(now);
        conversation.ours = Header::parse(&answers[0].bytes).unwrap().0.seq;
        conversation.now = now + Duration::from_millis(10);
        conversation.say(Said { window, ..Said::default() });
        let Poll::Ready(Ok(flow)) = conversation.host.tcp.accept(listener) else { panic!("established") };
        conversation.flow = flow;
        conversation
    }

    pub fn say(&mut self, said: Said<'_>) {
        let (ours, theirs) = (self.ours + 1, self.theirs + 1);
        let Said { flags, window, .. } = said;
        let (seq, ack) = (theirs + said.start, ours + said.ack);
        let mut header = Header { flags, seq, ack, window, ..Header::default() };
        said.blocks.iter().for_each(|(left, right)| header.options.sack.push(ours + *left, ours + *right));
        self.put(header, said.text);
    }

    /// What the peer says from here on arrives together, when it is handed over.
    pub fn gather(&mut self) {
        self.gathered = Some(Vec::new());
    }

    pub fn hand_over(&mut self) {
        if let Some(burst) = self.gathered.take() {
            self.host.receive_together(&burst, self.now);
        }
    }

    /// The peer sends the pattern.
    pub fn say_pattern(&mut self, start: u32, len: u32, fin: bool) {
        let text: Vec<u8> = (start..start + len).map(pattern).collect();
        let flags = if fin { Flags::ACK.with(Flags::FIN) } else { Flags::ACK };
        self.say(Said { start, text: &text, flags, ..Said::default() });
    }

    fn put(&mut self, mut header: Header, text: &[u8]) {
        (header.source_port, header.destination_port) = (5000, PORT);
        let mut bytes = [0; MAX_HEADER];
        let length = header.write(&mut bytes);
        let packet = Packet {
            source: SocketAddr::new([10, 0, 0, 2].into(), 5000),
            destination: SocketAddr::new(self.host.address, PORT),
            bytes: [&bytes[..length], text].concat(),
            ecn: 0,
        };
        match &mut self.gathered {
            Some(burst) => burst.push(packet),
            None => self.host.receive(&packet, 512, self.now),
        }
    }

    /// What is sent within `time`.
    pub fn hear_for(&mut self, time: Duration) -> Vec<Heard> {
        let until = self.now + time;
        let mut heard = self.hear();
        while let Some(next) = self.host.tcp.next_timeout().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            while self.host.tcp.handle_timers(64, self.now) {}
            heard.extend(self.hear());
        }
        self.now = until;
        heard
    }

    /// What is sent, with the acknowledgements that wait.
    pub fn hear_all(&mut self) -> Vec<Heard> {
        self.hear_for(DELAYS)
    }

    fn hear(&mut self) -> Vec<Heard> {
        let sent = self.host.transmit(self.now);
        sent.iter().map(|packet| self.understand(packet)).collect()
    }

    fn understand(&self, packet: &Packet) -> Heard {
        let (header, length) = Header::parse(&packet.bytes).unwrap();
        let (ours, theirs) = (self.ours + 1, self.theirs + 1);
        let ack = header.ack.since(theirs);
        let blocks = header.options.sack.as_slice().iter();
        Heard {
            at: self.now,
            start: header.seq.since(ours),
            text: packet.bytes[length..].to_vec(),
            fin: header.flags.has(Flags::FIN),
            ack,
            edge: ack + u32::from(header.window),
            blocks: blocks.map(|(left, right)| (left.since(theirs), right.since(theirs))).collect(),
        }
    }

    pub fn read(&mut self, most: usize) -> Option<Vec<u8>> {
        let mut into = vec![0; most];
        match self.host.tcp.read(self.flow, &mut into, self.now) {
            Poll::Ready(taken) => {
                into.truncate(taken.unwrap());
                Some(into)
            }
            Poll::Pending => None,
        }
    }

    pub fn write(&mut self, text: &[u8]) -> usize {
        match self.host.tcp.write(self.flow, &[text], self.now) {
            Poll::Ready(taken) => taken.unwrap(),
            Poll::Pending => 0,
        }
    }
}

/// Options that leave the peer's silence alone.
pub(super) fn quiet() -> TcpOptions {
    TcpOptions { keepalive: None, ..TcpOptions::default() }
}
