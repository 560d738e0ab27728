//! One script's run: the engine, the time, and what it has sent that no line has asked for yet.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::Duration;

use super::Outcome;
use super::lines::Family;
use super::notation::{Endpoint, Line, Segment, parse_line};
use super::segments::Peer;
use crate::Instant;
use crate::tcp::connection::Connection;
use crate::tcp::tests::link::{Host, Packet};
use crate::tcp::{FlowKey, ListenerKey, TcpOptions};

/// How far a segment may be from the time that its line says: the wheel's tick, rounded up.
const TOLERANCE: Duration = Duration::from_millis(1);
/// When scripts begin: late enough that a time before it is a time.
pub(super) const BEGINNING: Instant = Instant::from_nanos(3_600_000_000_000);
pub(super) const LISTENING_PORT: u16 = 80;

/// A connection as its user knows it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Flow {
    pub key: FlowKey,
    pub written: u32,
    pub read: u32,
}

pub(super) struct Runner {
    pub family: Family,
    pub host: Host,
    pub now: Instant,
    pub options: TcpOptions,
    pub peer_initial: u32,
    pub peers: HashMap<Endpoint, Peer>,
    /// Segments of the peer that are to arrive together.
    pub burst: Option<Vec<Packet>>,
    /// Segments sent, and when, that no line has asked for yet.
    pub emitted: VecDeque<(Instant, Packet)>,
    pub listener: Option<ListenerKey>,
    /// All that were opened, for the end.
    pub listeners: Vec<ListenerKey>,
    pub held: Vec<FlowKey>,
    pub flows: HashMap<String, Flow>,
    /// The name of the connection that lines are about.
    pub current: String,
}

impl Runner {
    pub fn new(family: Family) -> Self {
        Self {
            family,
            host: Host::new(&address(family, 1).to_string(), 1500, 1 << 30),
            now: BEGINNING,
            options: TcpOptions {
                keepalive: None,
                connect_timeout: Duration::from_secs(60),
                receive_buffer_bytes: 65_535,
                ..TcpOptions::default()
            },
            peer_initial: 0,
            peers: HashMap::new(),
            burst: None,
            emitted: VecDeque::new(),
            listener: None,
            listeners: Vec::new(),
            held: Vec::new(),
            flows: HashMap::new(),
            current: String::new(),
        }
    }

    pub fn play_line(&mut self, text: &str) -> Outcome {
        match parse_line(text)? {
            Line::Outbound { after, segment } => {
                self.expect_no_discard()?;
                self.expect(after, &segment)
            }
            Line::Command { words, .. } if words[0] == "discard" => {
                self.expect_discard(words.get(1).ok_or("a discard has a name")?)
            }
            line => {
                self.expect_no_discard()?;
                if line.after() > Duration::ZERO {
                    self.transmit();
                    self.advance(line.after());
                }
                self.expect_silence()?;
                match line {
                    Line::Inbound { segment, .. } => self.inject(&segment),
                    Line::Command { words, .. } => self.command(&words),
                    Line::Outbound { .. } => Ok(()),
                }
            }
        }
    }

    pub fn expect_nothing_left(&mut self) -> Outcome {
        self.transmit();
        self.expect_silence().and_then(|()| self.expect_no_discard())
    }

    // ---- time ----

    /// Time passes, with all that the engine does meanwhile.
    pub fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(next) = self.host.tcp.next_timeout()
            && next <= until
        {
            self.now = self.now.max(next);
            while self.host.tcp.handle_timers(64, self.now) {}
            self.transmit();
        }
        self.now = until;
        while self.host.tcp.handle_timers(64, self.now) {}
        self.transmit();
    }

    pub fn transmit(&mut self) {
        let sent = self.host.transmit(self.now);
        self.emitted.extend(sent.into_iter().map(|packet| (self.now, packet)));
    }

    pub fn wait(&mut self, time: Duration) -> Outcome {
        self.transmit();
        self.expect_silence()?;
        self.advance(time);
        self.expect_silence()
    }

    /// Time passes, and what is sent is heard without being asked for.
    pub fn overhear(&mut self, time: Duration) {
        self.transmit();
        self.advance(time);
        for (_, packet) in std::mem::take(&mut self.emitted) {
            self.note(&packet);
        }
        self.host.discards.clear();
    }

    /// Every listener and connection, on a world that is well again.
    pub fn let_all_go(&mut self) {
        (self.host.wire.refuse, self.host.wire.room) = (None, usize::MAX);
        for key in self.listeners.drain(..) {
            self.host.tcp.unlisten(key, self.now);
        }
        for key in self.held.drain(..) {
            self.host.tcp.abort(key, self.now);
        }
    }

    // ---- what is expected ----

    fn expect(&mut self, after: Duration, expected: &Segment) -> Outcome {
        let due = self.now + after;
        if self.emitted.is_empty() {
            self.transmit();
        }
        if self.emitted.is_empty() {
            self.advance(after);
        }
        if self.emitted.is_empty() {
            self.advance(TOLERANCE);
        }
        let (at, packet) = self.emitted.pop_front().ok_or("no segment was sent")?;
        let description = self.describe(at, &packet);
        let late = at.since(due).max(due.since(at));
        if late > TOLERANCE {
            return Err(format!("sent at the wrong time (by {late:?}): {description}"));
        }
        self.now = self.now.max(at);
        self.compare(expected, &packet).map_err(|error| format!("{error}; sent was {description}"))
    }

    pub fn expect_silence(&self) -> Outcome {
        match self.emitted.front() {
            None => Ok(()),
            Some((at, packet)) => Err(format!("unexpected segment {}", self.describe(*at, packet))),
        }
    }

    fn expect_no_discard(&self) -> Outcome {
        match self.host.discards.first() {
            None => Ok(()),
            Some(reason) => Err(format!("unexpected discard {}", reason.name())),
        }
    }

    fn expect_discard(&mut self, name: &str) -> Outcome {
        if self.host.discards.is_empty() {
            return Err("nothing was discarded".into());
        }
        let reason = self.host.discards.remove(0);
        expect_equal("discard", reason.name(), name)
    }

    // ---- connections and addresses ----

    pub fn flow(&mut self) -> Result<&mut Flow, String> {
        self.flows.get_mut(&self.current).ok_or_else(|| "no connection of that name".into())
    }

    pub fn connection(&self) -> Result<&Connection, String> {
        let key = self.flows.get(&self.current).ok_or("no connection of that name")?.key;
        self.host.tcp.connections.get(key.slot, key.life).ok_or_else(|| "the connection is gone".into())
    }

    pub fn peer_address(&self, host: u8) -> IpAddr {
        address(self.family, host)
    }
}

/// 10.0.0.N and 2001:db8::N; ours is 1.
pub(super) fn address(family: Family, host: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([10, 0, 0, host]),
        Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host)]),
    }
}

pub(super) fn expect_equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, the script says {expected:?}")) }
}
