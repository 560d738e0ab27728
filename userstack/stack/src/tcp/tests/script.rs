//! Runs the segment scripts of `tests/scripts` (their README has the language) against one engine on virtual time.
//! `SCRIPT=name` in the environment runs one of them.

use std::collections::{HashMap, VecDeque};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::task::Poll;
use std::time::Duration;

use super::link::{Host, Packet};
use super::notation::{Line, Segment, parse_line};
use crate::tcp::boundary::{IcmpError, Refused};
use crate::tcp::header::{Header, MAX_HEADER, Timestamps};
use crate::tcp::sequence::Seq;
use crate::tcp::{Congestion, FlowKey, ListenSpec, ListenerKey, TcpError, TcpOptions};
use crate::{Instant, Prefix};

/// How far a segment may be from the time that its line says: the wheel's tick, rounded up.
const TOLERANCE: Duration = Duration::from_millis(1);
const LISTENING_PORT: u16 = 80;
const PEER_PORT: u16 = 5000;

/// What the script knows of one peer port's connection.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// Our initial sequence, known when our SYN was seen.
    initial: Option<Seq>,
    first_timestamp: Option<u32>,
    last_timestamp: u32,
}

struct Runner {
    host: Host,
    now: Instant,
    options: TcpOptions,
    peer_address: std::net::IpAddr,
    peer_initial: u32,
    peers: HashMap<u16, Peer>,
    local_port: u16,
    emitted: VecDeque<(Instant, Packet)>,
    listener: Option<ListenerKey>,
    flow: Option<FlowKey>,
    written: u32,
    read: u32,
}

type Outcome = Result<(), String>;

#[test]
fn every_script_plays_as_it_is_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts");
    let only = std::env::var("SCRIPT").ok();
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let (mut played, mut failures) = (0, Vec::new());
    for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "pkt")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        played += 1;
        if let Err(failure) = play(&std::fs::read_to_string(path).unwrap()) {
            failures.push(format!("{name}.pkt: {failure}"));
        }
    }
    assert!(failures.is_empty(), "{} of {played} scripts:\n{}", failures.len(), failures.join("\n"));
    assert!(played > 0, "there are scripts");
}

#[test]
fn a_script_that_is_wrong_fails() {
    let handshake = "listen\n+0 < S 0:0(0) win 65535\n";
    assert!(play(&format!("{handshake}+0 > S. 0:0(0) ack 1\n")).is_ok());
    for wrong in [
        "+0 > S. 0:0(0) ack 2",
        "+0 > . 1:1(0) ack 1",
        "+0.5 > S. 0:0(0) ack 1",
        "+0 wait 0.1",
        "discard tcp_reset",
    ] {
        assert!(play(&format!("{handshake}{wrong}\n")).is_err(), "{wrong}");
    }
}

fn play(script: &str) -> Outcome {
    let mut runner = Runner::new();
    for (number, text) in script.lines().enumerate() {
        let step = parse_line(text).and_then(|line| line.map_or(Ok(()), |line| runner.step(&line)));
        step.map_err(|error| format!("line {}: `{}`: {error}", number + 1, text.trim()))?;
    }
    runner.transmit();
    runner
        .expect_silence()
        .and_then(|()| runner.expect_no_discard())
        .map_err(|error| format!("at the end: {error}"))
}

impl Runner {
    fn new() -> Self {
        let keepalive = None;
        let connect_timeout = Duration::from_secs(60);
        Self {
            host: Host::new("10.0.0.1", 1500, 1 << 30),
            now: Instant::from_nanos(3_600_000_000_000),
            options: TcpOptions {
                keepalive,
                connect_timeout,
                receive_buffer_bytes: 65_535,
                ..TcpOptions::default()
            },
            peer_address: [10, 0, 0, 2].into(),
            peer_initial: 0,
            peers: HashMap::new(),
            local_port: LISTENING_PORT,
            emitted: VecDeque::new(),
            listener: None,
            flow: None,
            written: 0,
            read: 0,
        }
    }

    fn step(&mut self, line: &Line) -> Outcome {
        if let Line::Outbound { after, segment } = line {
            self.expect_no_discard()?;
            return self.expect(*after, segment);
        }
        if let Line::Command { words, .. } = line
            && words[0] == "discard"
        {
            return self.expect_discard(&words[1]);
        }
        self.expect_no_discard()?;
        if line.after() > Duration::ZERO {
            self.transmit();
            self.advance(line.after());
        }
        self.expect_silence()?;
        match line {
            Line::Inbound { segment, .. } => self.inject(segment),
            Line::Command { words, .. } => self.command(words),
            Line::Outbound { .. } => Ok(()),
        }
    }

    // ---- time ----

    /// Time passes, with all that the engine does meanwhile.
    fn advance(&mut self, by: Duration) {
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

    fn transmit(&mut self) {
        let sent = self.host.transmit(self.now);
        self.emitted.extend(sent.into_iter().map(|packet| (self.now, packet)));
    }

    fn expect_silence(&self) -> Outcome {
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

    // ---- segments ----

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

    fn compare(&mut self, expected: &Segment, packet: &Packet) -> Outcome {
        let (header, length) = Header::parse(&packet.bytes).map_err(|reason| reason.name().to_string())?;
        let text = &packet.bytes[length..];
        expect_equal("port", packet.destination.port(), expected.port.unwrap_or(PEER_PORT))?;
        expect_equal("flags", header.flags, expected.flags)?;
        let peer = self.peers.entry(packet.destination.port()).or_default();
        if header.flags.has(crate::tcp::header::Flags::SYN) {
            peer.initial = Some(header.seq);
        }
        if let Some(Timestamps { value, .. }) = header.options.timestamps {
            peer.first_timestamp.get_or_insert(value);
            peer.last_timestamp = value;
        }
        let peer = peer.clone();
        expect_equal("sequence", header.seq.since(peer.initial.unwrap_or_default()), expected.start)?;
        expect_equal("length", text.len() as u32, expected.len)?;
        if let Some(ack) = expected.ack {
            expect_equal("ack", header.ack.0.wrapping_sub(self.peer_initial), ack)?;
        }
        if let Some(window) = expected.window {
            expect_equal("window", header.window, window)?;
        }
        for (offset, byte) in text.iter().enumerate() {
            expect_equal("text", *byte, pattern(expected.start - 1 + offset as u32))?;
        }
        self.compare_options(expected, &header, &peer)
    }

    fn compare_options(&self, expected: &Segment, header: &Header, peer: &Peer) -> Outcome {
        let (Some(expected), sent) = (&expected.options, &header.options) else { return Ok(()) };
        expect_equal("mss", sent.mss, expected.mss)?;
        expect_equal("wscale", sent.window_scale, expected.window_scale)?;
        expect_equal("sackOK", sent.sack_permitted, expected.sack_permitted)?;
        let blocks: Vec<_> = sent
            .sack
            .as_slice()
            .iter()
            .map(|(left, right)| {
                (left.0.wrapping_sub(self.peer_initial), right.0.wrapping_sub(self.peer_initial))
            })
            .collect();
        expect_equal("sack", blocks, expected.sack.clone())?;
        expect_equal("TS present", sent.timestamps.is_some(), expected.timestamps.is_some())?;
        if let (Some(sent), Some((value, echo))) = (sent.timestamps, expected.timestamps) {
            if let Some(value) = value {
                let first = peer.first_timestamp.unwrap_or_default();
                expect_equal("TS val", sent.value.wrapping_sub(first), value)?;
            }
            if let Some(echo) = echo {
                expect_equal("TS ecr", sent.echo, echo)?;
            }
        }
        Ok(())
    }

    fn inject(&mut self, segment: &Segment) -> Outcome {
        let port = segment.port.unwrap_or(PEER_PORT);
        let peer = self.peers.entry(port).or_default();
        let mut header = Header {
            source_port: port,
            destination_port: self.local_port,
            seq: Seq(self.peer_initial.wrapping_add(segment.start)),
            flags: segment.flags,
            window: segment.window.unwrap_or(u16::MAX),
            ..Header::default()
        };
        if let Some(ack) = segment.ack {
            header.ack = peer.initial.unwrap_or_default() + ack;
        }
        if let Some(options) = &segment.options {
            header.options.mss = options.mss;
            header.options.window_scale = options.window_scale;
            header.options.sack_permitted = options.sack_permitted;
            for (left, right) in &options.sack {
                let initial = peer.initial.unwrap_or_default();
                header.options.sack.push(initial + *left, initial + *right);
            }
            header.options.timestamps = options.timestamps.map(|(value, echo)| Timestamps {
                value: value.unwrap_or_default(),
                echo: echo
                    .map_or(peer.last_timestamp, |echo| peer.first_timestamp.unwrap_or(0).wrapping_add(echo)),
            });
        }
        let mut bytes = [0; MAX_HEADER];
        let length = header.write(&mut bytes);
        let syn = u32::from(header.flags.has(crate::tcp::header::Flags::SYN));
        let text = (0..segment.len).map(|offset| pattern((segment.start + syn + offset).wrapping_sub(1)));
        let packet = Packet {
            source: SocketAddr::new(self.peer_address, port),
            destination: SocketAddr::new(self.host.address, self.local_port),
            bytes: bytes[..length].iter().copied().chain(text).collect(),
        };
        self.host.receive(&packet, 512, self.now);
        Ok(())
    }

    // ---- commands ----

    fn command(&mut self, words: &[String]) -> Outcome {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            ["set", name, value] => self.set(name, value),
            ["listen"] => self.listen(),
            ["connect"] => self.connect(),
            ["connected", ref expected @ ..] => self.connected(expected),
            ["accept"] => self.accept(),
            ["accept", "wait"] => match self.host.tcp.accept(self.listener.ok_or("no listener")?) {
                Poll::Pending => Ok(()),
                other => Err(format!("accept: {other:?}")),
            },
            ["write", bytes] => self.write(number(bytes)?, number(bytes)?),
            ["write", bytes, "->", taken] => self.write(number(bytes)?, number(taken)?),
            ["read", bytes, "->", ref expected @ ..] => self.read(number(bytes)?, expected),
            ["flushed", expected] => {
                let flow = self.flow.ok_or("no connection")?;
                expect_poll("flushed", self.host.tcp.flushed(flow).map_ok(|()| "yes"), &[expected])
            }
            ["shutdown"] => self.with_flow(|host, flow, now| host.tcp.shutdown(flow, now)),
            ["close"] => self.with_flow(|host, flow, now| host.tcp.close(flow, now)),
            ["abort"] => self.with_flow(|host, flow, now| host.tcp.abort(flow, now)),
            ["unlisten"] => {
                self.host.tcp.unlisten(self.listener.ok_or("no listener")?, self.now);
                Ok(())
            }
            ["state", name] => {
                let flow = self.flow.ok_or("no connection")?;
                expect_equal("state", self.host.tcp.info(flow).map_or("gone", |info| info.state), name)
            }
            ["cwnd", segments] => {
                let flow = self.flow.ok_or("no connection")?;
                let info = self.host.tcp.info(flow).ok_or("gone")?;
                expect_equal("cwnd", info.congestion_window_bytes, number(segments)?)
            }
            ["icmp", kind, "seq", seq] => self.icmp(kind, "0", seq),
            ["icmp", kind, "mtu", mtu, "seq", seq] => self.icmp(kind, mtu, seq),
            ["route", "gone"] => {
                self.host.wire.refuse = Some(Refused::NoRoute);
                Ok(())
            }
            ["route", "back"] => {
                self.host.wire.refuse = None;
                Ok(())
            }
            ["wait", seconds] => {
                self.transmit();
                self.expect_silence()?;
                self.advance(Duration::from_secs_f64(number(seconds)?));
                self.expect_silence()
            }
            _ => Err("no such command".into()),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Outcome {
        let seconds = || number::<f64>(value).map(Duration::from_secs_f64);
        match name {
            "mtu" => self.host.wire.mtu = number(value)?,
            "receive_buffer" => self.options.receive_buffer_bytes = number(value)?,
            "send_buffer" => self.options.send_buffer_bytes = number(value)?,
            "memory" => self.host = Host::new("10.0.0.1", self.host.wire.mtu, number(value)?),
            "backlog" => self.options.backlog = number(value)?,
            "no_delay" => self.options.no_delay = value == "on",
            "keepalive" => self.options.keepalive = Some(seconds()?),
            "user_timeout" => self.options.user_timeout = Some(seconds()?),
            "connect_timeout" => self.options.connect_timeout = seconds()?,
            "peer_isn" => self.peer_initial = number(value)?,
            "congestion" if value == "newreno" => self.options.congestion = Congestion::NewReno,
            "congestion" if value == "cubic" => self.options.congestion = Congestion::Cubic,
            "family" if value == "ipv6" => {
                self.host = Host::new("2001:db8::1", self.host.wire.mtu, 1 << 30);
                self.peer_address = "2001:db8::2".parse().map_err(|_| "address")?;
            }
            _ => return Err("no such setting".into()),
        }
        Ok(())
    }

    fn listen(&mut self) -> Outcome {
        let len = if self.host.address.is_ipv6() { 128 } else { 32 };
        let addresses = Prefix { address: self.host.address, len };
        let spec = ListenSpec { addresses, port: Some(LISTENING_PORT), interface: None };
        let key = self.host.tcp.listen(spec, self.options.clone()).map_err(|error| format!("{error:?}"))?;
        (self.listener, self.local_port) = (Some(key), LISTENING_PORT);
        Ok(())
    }

    fn connect(&mut self) -> Outcome {
        let remote = SocketAddr::new(self.peer_address, PEER_PORT);
        let local = self.host.address;
        let key = self.host.tcp.connect(remote, local, self.options.clone(), &mut |_, _| true, self.now);
        let key = key.map_err(|error| format!("{error:?}"))?;
        self.local_port = self.host.tcp.info(key).ok_or("gone")?.local.port();
        self.flow = Some(key);
        Ok(())
    }

    fn connected(&mut self, expected: &[&str]) -> Outcome {
        let flow = self.flow.ok_or("no connection")?;
        expect_poll("connected", self.host.tcp.connected(flow).map_ok(|()| "yes"), expected)
    }

    fn accept(&mut self) -> Outcome {
        match self.host.tcp.accept(self.listener.ok_or("no listener")?) {
            Poll::Ready(Ok(key)) => {
                (self.flow, self.written, self.read) = (Some(key), 0, 0);
                Ok(())
            }
            other => Err(format!("accept: {other:?}")),
        }
    }

    fn write(&mut self, bytes: u32, taken: usize) -> Outcome {
        let flow = self.flow.ok_or("no connection")?;
        let text: Vec<u8> = (0..bytes).map(|offset| pattern(self.written + offset)).collect();
        match self.host.tcp.write(flow, &[&text], self.now) {
            Poll::Ready(Ok(wrote)) => {
                self.written += wrote as u32;
                expect_equal("written", wrote, taken)
            }
            Poll::Pending => expect_equal("written", 0, taken),
            Poll::Ready(Err(error)) => Err(format!("write: {error:?}")),
        }
    }

    fn read(&mut self, bytes: usize, expected: &[&str]) -> Outcome {
        let flow = self.flow.ok_or("no connection")?;
        let mut into = vec![0; bytes];
        let answer = self.host.tcp.read(flow, &mut into, self.now);
        if let Poll::Ready(Ok(taken)) = answer {
            for byte in &into[..taken] {
                expect_equal("text read", *byte, pattern(self.read))?;
                self.read += 1;
            }
            let taken = if taken == 0 { "end".to_string() } else { taken.to_string() };
            return expect_equal("read", taken.as_str(), expected[0]);
        }
        expect_poll("read", answer.map_ok(|_| ""), expected)
    }

    fn with_flow(&mut self, act: impl FnOnce(&mut Host, FlowKey, Instant)) -> Outcome {
        act(&mut self.host, self.flow.ok_or("no connection")?, self.now);
        Ok(())
    }

    fn icmp(&mut self, kind: &str, mtu: &str, seq: &str) -> Outcome {
        let error = match kind {
            "too_big" => IcmpError::TooBig { mtu: number(mtu)? },
            "refused" => IcmpError::Refused,
            "unreachable" => IcmpError::Unreachable,
            _ => return Err("no such ICMP error".into()),
        };
        let initial = self.peers.get(&PEER_PORT).and_then(|peer| peer.initial).unwrap_or_default();
        let local = SocketAddr::new(self.host.address, self.local_port);
        let remote = SocketAddr::new(self.peer_address, PEER_PORT);
        let sequence = (initial + number::<u32>(seq)?).0;
        if let Err(reason) = self.host.tcp.handle_icmp_error(local, remote, sequence, error, self.now) {
            self.host.discards.push(reason);
        }
        Ok(())
    }

    /// A segment as a script would write it.
    fn describe(&self, at: Instant, packet: &Packet) -> String {
        let Ok((header, length)) = Header::parse(&packet.bytes) else { return "not a segment".into() };
        let initial =
            self.peers.get(&packet.destination.port()).and_then(|peer| peer.initial).unwrap_or(header.seq);
        let (start, len) = (header.seq.since(initial), packet.bytes.len() - length);
        let ack = header.ack.0.wrapping_sub(self.peer_initial);
        let since = at.since(Instant::from_nanos(3_600_000_000_000));
        format!(
            "at {since:?}: > {:?} {start}:{}({len}) ack {ack} win {} {:?} port {}",
            header.flags,
            start + len as u32,
            header.window,
            header.options,
            packet.destination.port()
        )
    }
}

fn expect_poll(what: &str, answer: Poll<Result<&str, TcpError>>, expected: &[&str]) -> Outcome {
    let told = match answer {
        Poll::Pending => "wait".to_string(),
        Poll::Ready(Ok(value)) => value.to_string(),
        Poll::Ready(Err(error)) => format!("{error:?}").to_lowercase(),
    };
    expect_equal(what, told.as_str(), expected.first().copied().unwrap_or("yes"))
}

fn expect_equal<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?}, the script says {expected:?}")) }
}

pub(super) fn number<T: FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("`{word}` is not a number that fits here"))
}

/// The byte at a place of a stream, the same for both directions.
fn pattern(place: u32) -> u8 {
    (place % 251) as u8
}
