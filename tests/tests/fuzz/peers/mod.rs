//! Two stacks and a middlebox between them that keeps no rule but one: checksums are right. It loses, doubles, holds
//! back, cuts, marks, changes, sends back and repeats what passes, and quotes it in ICMP errors.
//!
//! Text is a pattern of its sequence number, also after the middlebox changed that: so every byte that either side
//! sends or reads can be checked. Where the middlebox did only what a network may, both streams must arrive whole.
//!
//! The first record is the set-up: IPv6 (bit 0), then congestion control, ECN and buffers of both sides. Each other one
//! is a deed: its first byte says which ([`Deed`]), the rest are its numbers; what is wanting is zero.

mod middlebox;
mod side;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use stack::tcp::{Congestion, Ecn};
use stack::{Discard, InterfaceId, ListenSpec, ListenerKey, Prefix, Role, TcpOptions};
use tests::fuzz::{Outcome, Target};

use self::middlebox::{Action, Change, Middlebox};
use self::side::{Segment, Side};
use crate::network::packets::Read;
use crate::network::{End, Network, interface};
use crate::records::{join, records};

const PORT: u16 = 80;
const CLIENT: usize = 0;
const SERVER: usize = 1;
const WIRE: InterfaceId = InterfaceId(0);
/// A frame's way from one side to the other.
const DELAY: Duration = Duration::from_micros(500);
/// Rounds of frames at one moment. Two stacks that still talk then do so for ever.
const MAX_ROUNDS: usize = 4_000;
/// Longer than a connect may take with all that a network may lose here.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(300);
/// Time for both streams to arrive, whatever timeout was doubled before.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// Longer than retransmission, probes of a closed window and TIME-WAIT go on.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Frames that a network may lose without a side giving up (RFC 9293, section 3.8.3, has at least 3 SYNs and 100 s).
const FEW_LOSSES: usize = 4;
/// Bytes of a unit of what a task writes.
const WRITE_UNIT: usize = 64;

#[test]
fn two_stacks_agree_whatever_lies_between_them() {
    let target = Target { name: "peers", words: &[], seeds: seeds(), mutations: 1_500 };
    target.run(|input| Outcome::of_all(run(input)));
}

/// Else the target would pass for nothing: a middlebox that never acts, connections that never open.
#[test]
fn the_seeds_reach_what_a_network_does_and_what_none_should() {
    let seen: BTreeSet<String> = seeds().iter().flat_map(|seed| run(seed)).collect();
    for expected in [
        "fair, 0 lost",
        "fair, 3 lost",
        "Reset",
        "1 Discarded(TcpDuplicate)",
        "1 Discarded(TcpTimestampOld)",
        "0 Discarded(TcpIcmpOutOfWindow)",
    ] {
        assert!(seen.contains(expected), "{expected} is not among {seen:?}");
    }
}

/// What a record asks for.
#[derive(Debug)]
enum Deed {
    Write {
        side: usize,
        bytes: usize,
    },
    /// A task that does not read begins to, and the other way round.
    ToggleReading {
        side: usize,
    },
    Shutdown {
        side: usize,
    },
    Abort {
        side: usize,
    },
    Wait(Duration),
    /// What becomes of a frame that this side sends after so many others.
    Meet {
        side: usize,
        after: usize,
        action: Action,
    },
    /// A frame that passed before comes again, changed.
    Repeat {
        which: usize,
        changes: Vec<Change>,
    },
    /// An ICMP error that quotes one: too big, with this MTU, or unreachable.
    Complain {
        which: usize,
        mtu: u16,
        unreachable: bool,
    },
}

impl Deed {
    fn of(record: &[u8]) -> Self {
        let byte = |at: usize| record.get(at).copied().unwrap_or_default();
        let word = |at: usize| u16::from_be_bytes([byte(at), byte(at + 1)]);
        let side = usize::from(byte(1) & 1);
        let changes = || record.get(3..).unwrap_or_default().chunks(4).map(Change::of).collect();
        match byte(0) % 16 {
            0..=3 => Self::Write { side, bytes: usize::from(word(2) % 1_024) * WRITE_UNIT },
            4 => Self::ToggleReading { side },
            5 => Self::Shutdown { side },
            6 => Self::Abort { side },
            // 1 ms to 32 s.
            7..=8 => Self::Wait(Duration::from_millis(1 << (byte(1) & 15))),
            9..=13 => {
                let action = Action::of(byte(2), word(3), changes());
                Self::Meet { side, after: usize::from(byte(1) >> 1 & 0xf), action }
            }
            14 => Self::Repeat { which: usize::from(byte(1)), changes: changes() },
            _ => Self::Complain { which: usize::from(byte(1)), mtu: word(2), unreachable: byte(4) & 1 == 1 },
        }
    }
}

/// Inputs that reach each deed once.
fn seeds() -> Vec<Vec<u8>> {
    const WRITE: [u8; 4] = [0, 0, 0, 200];
    const ANSWER: [u8; 4] = [0, 1, 0, 250];
    let ends: [&[u8]; 2] = [&[5, 0], &[5, 1]];
    let with = |setup: &'static [u8], deeds: &[&'static [u8]]| {
        let all = [setup, &WRITE, &ANSWER].into_iter().chain(deeds.iter().copied()).chain(ends);
        join(all.collect::<Vec<_>>())
    };
    let mut seeds = vec![
        with(&[0, 0, 0, 0], &[]),
        with(&[1, 1, 5, 0], &[&[7, 5], &WRITE]),
        with(&[0, 2, 8, 3], &[&[4, 1], &[7, 12], &WRITE, &[4, 1]]),
        with(&[0], &[&[6, 0], &[7, 10], &ANSWER]),
        with(&[1], &[&[14, 2, 0, 2, 16, 0, 4], &[15, 3, 5, 120, 0], &WRITE]),
        with(&[0], &[&[15, 3, 2, 88, 0], &[15, 3, 0, 0, 1], &WRITE]),
    ];
    // Each action on a frame of each side, in the middle of what is written.
    for action in 0..Action::KINDS {
        let meet = |side: u8, after: u8| vec![9, after << 1 | side, action, 0, 3, 9, 64, 1];
        let deeds = [meet(0, 3), meet(1, 2), WRITE.to_vec(), meet(0, 0), ANSWER.to_vec()];
        let setup = [action & 1, action, action, action];
        seeds.push(join(std::iter::once(&setup[..]).chain(deeds.iter().map(Vec::as_slice)).chain(ends)));
    }
    seeds
}

fn run(input: &[u8]) -> BTreeSet<String> {
    let mut records = records(input).into_iter();
    let mut scene = Scene::new(records.next().unwrap_or_default());
    scene.let_pass();
    for record in records {
        scene.take(Deed::of(record));
    }
    scene.finish()
}

struct Scene {
    network: Network,
    sides: [Side; 2],
    listener: ListenerKey,
    middlebox: Middlebox,
    /// A task gave its connection up.
    aborted: bool,
    seen: BTreeSet<String>,
}

impl Scene {
    fn new(setup: &[u8]) -> Self {
        let byte = |at: usize| setup.get(at).copied().unwrap_or_default();
        let mut network = Network::new();
        network.record = true;
        for host in 1..=2u8 {
            let (v4, v6) = (format!("10.0.0.{host}/24"), format!("2001:db8::{host}/64"));
            network.host(vec![interface(host, WIRE.0, Role::Uplink, &[&v4, &v6])]);
        }
        let now = network.now;
        let addresses: [[IpAddr; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["2001:db8::1", "2001:db8::2"]]
            .map(|pair| pair.map(|text| text.parse().unwrap()));
        for (host, other) in [(CLIENT, SERVER), (SERVER, CLIENT)] {
            let mac = [2, 0, 0, 0, other as u8 + 1, WIRE.0 as u8];
            for family in addresses {
                network.hosts[host].stack.set_neighbour(WIRE, family[other], Some(mac), now);
            }
        }
        let options = |side: usize| TcpOptions {
            receive_buffer_bytes: 4_096 << (byte(3) >> (4 * side) & 0xf).min(10),
            connect_timeout: CONNECT_TIMEOUT,
            congestion: Congestion::ALL[usize::from(byte(1)) % 3],
            pacing: byte(1) & 8 != 0,
            ecn: Ecn::ALL[usize::from(byte(2) >> (2 * side) & 3) % 3],
            no_delay: byte(1) & 16 == 0,
            ..TcpOptions::default()
        };
        let family = addresses[usize::from(byte(0) & 1)];
        let any = if byte(0) & 1 == 0 { Prefix::ANY_V4 } else { Prefix::ANY_V6 };
        let spec = ListenSpec { addresses: any, port: Some(PORT), interface: None };
        let listener = network.hosts[SERVER].stack.tcp_listen(spec, options(SERVER)).unwrap();
        let remote = (family[SERVER], PORT).into();
        let flow = network.hosts[CLIENT].stack.tcp_connect(remote, None, options(CLIENT), now).unwrap();
        let sides = [Side::connecting(flow), Side::default()];
        Self {
            network,
            sides,
            listener,
            middlebox: Middlebox::default(),
            aborted: false,
            seen: BTreeSet::new(),
        }
    }

    fn take(&mut self, deed: Deed) {
        let now = self.network.now;
        match deed {
            Deed::Write { side, bytes } => self.sides[side].wants_to_write(bytes),
            Deed::ToggleReading { side } => self.sides[side].toggle_reading(),
            Deed::Shutdown { side } => self.sides[side].wants_to_shut = true,
            Deed::Abort { side } => {
                self.aborted = true;
                for stream in &self.sides[side].streams {
                    self.network.hosts[side].stack.tcp_abort(stream.flow, now);
                }
            }
            Deed::Wait(time) => self.wait(time),
            Deed::Meet { side, after, action } => self.middlebox.expect(side, after, action),
            Deed::Repeat { which, changes } => {
                let repeated = self.middlebox.repeat(which, &changes);
                self.deliver(repeated.into_iter().collect());
            }
            Deed::Complain { which, mtu, unreachable } => {
                let complaint = self.middlebox.complain(which, mtu, unreachable);
                self.deliver(complaint.into_iter().collect());
            }
        }
        self.let_pass();
        for (number, side) in self.sides.iter().enumerate() {
            for stream in &side.streams {
                let info = self.network.hosts[number].stack.tcp_info(stream.flow);
                self.seen.extend(info.map(|info| format!("{number} {}", info.state)));
            }
        }
    }

    /// Time passes, and every frame comes to its time.
    fn wait(&mut self, time: Duration) {
        let until = self.network.now + time;
        let held = self.middlebox.release();
        self.deliver(held);
        self.let_pass();
        while let Some(at) = self.network.hosts.iter().filter_map(|host| host.stack.poll_timeout()).min()
            && at <= until
        {
            // At least a moment, so that a timeout that is due again at once is not waited for here.
            let step = at.since(self.network.now).max(DELAY);
            self.network.advance(step);
            self.let_pass();
        }
        self.network.advance(until.since(self.network.now));
        self.let_pass();
    }

    /// Tasks run and frames pass until nobody has anything to say at this moment.
    fn let_pass(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.run_tasks();
            self.network.settle();
            let passed = self.pass_on();
            if passed.is_empty() {
                return;
            }
            self.network.advance(DELAY);
            self.deliver(passed);
        }
        panic!("the two never fall silent");
    }

    fn run_tasks(&mut self) {
        for number in [CLIENT, SERVER] {
            let stack = &mut self.network.hosts[number].stack;
            while stack.poll_event().is_some() {}
            if number == SERVER {
                self.sides[number].accept(stack, self.listener);
            }
            self.sides[number].run(stack, self.network.now, &mut self.seen);
        }
    }

    /// What either side has sent, as it comes out of the middlebox.
    fn pass_on(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut passed = Vec::new();
        for from in [CLIENT, SERVER] {
            for (_, frame) in std::mem::take(&mut self.network.hosts[from].sent) {
                // Lengths and checksums are right, and text is the pattern's.
                Read::new(&frame);
                if let Some(segment) = Segment::of(&frame) {
                    self.sides[from].on_sent(&segment);
                }
                passed.extend(self.middlebox.pass(from, frame));
            }
        }
        passed
    }

    fn deliver(&mut self, frames: Vec<(usize, Vec<u8>)>) {
        for (to, frame) in frames {
            let verdict = self.network.deliver(End { host: to, interface: WIRE }, frame);
            self.seen.insert(format!("{to} {verdict:?}"));
            self.run_tasks();
        }
    }

    /// The middlebox is a wire from now on: what may arrive does, both sides end, and nothing is left of either.
    fn finish(mut self) -> BTreeSet<String> {
        let losses = self.middlebox.losses;
        let fair = self.middlebox.fair && !self.aborted && losses <= FEW_LOSSES;
        self.middlebox.rest();
        for side in &mut self.sides {
            side.finish();
        }
        let until = self.network.now + PATIENCE;
        while self.network.now < until && !self.sides.iter().all(Side::is_over) {
            self.wait(Duration::from_secs(10));
        }
        if fair {
            self.check_both_arrived();
            self.seen.insert(format!("fair, {losses} lost"));
        }
        let now = self.network.now;
        for (number, side) in self.sides.iter().enumerate() {
            for stream in &side.streams {
                self.network.hosts[number].stack.tcp_close(stream.flow, now);
            }
        }
        self.wait(FORGOTTEN_AFTER);
        self.network.hosts[SERVER].stack.tcp_unlisten(self.listener, self.network.now);
        self.check_nothing_is_left();
        self.seen
    }

    fn check_both_arrived(&self) {
        let [client, server] = &self.sides;
        let one = |side: &Side| match &side.streams[..] {
            [stream] => (stream.written, stream.read, stream.ended),
            streams => panic!("{} connections of one", streams.len()),
        };
        let ((sent, heard, ended), (answered, received, closed)) = (one(client), one(server));
        assert!(ended && closed, "a stream does not end");
        assert_eq!((sent, answered), (received, heard), "what was written is not what was read");
    }

    fn check_nothing_is_left(&self) {
        self.network.check_accounts();
        for (number, host) in self.network.hosts.iter().enumerate() {
            assert_eq!(host.stack.tcp_holdings(), Default::default(), "host {number}");
            let wrong = host.stack.discards().of(Discard::TcpChecksum);
            assert_eq!(wrong, 0, "the middlebox puts checksums right");
        }
    }
}
