//! A host that lies: it answers out of the protocol, with checksums that are right. It acknowledges what was not sent,
//! SACKs what does not exist, takes windows back, resets, overlaps, floods and falls silent. Whoever talks to it may lose
//! that conversation, and nothing else.
//!
//! It hears segments as a host does, and what it says is drawn from the seed alone.

mod flow;
mod lie;
mod scribble;
mod segment;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use stack::Instant;

use self::flow::{Flow, MSS};
use self::lie::Lie;
pub(super) use self::scribble::{Desk, UNREAD_PORT};
use self::segment::{ACK, Ends, FIN, Heard, RST, SYN, Said};
use crate::wire::{self, Mac};
use crate::{LinkEnd, Node, Random};

/// What it says on one flow at most: then it is silent, and the other side has to end it alone.
const MOST_SAID: u32 = 150;
/// It speaks unasked so often.
const TICK: Duration = Duration::from_millis(40);
/// How often that is an ICMP error.
const FORGED_ERRORS_PPM: u32 = 100_000;
/// Flows that it opens have ports from here on.
const FIRST_PORT: u16 = 20_000;

/// Where a liar lives, and whom it knows.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub mac: Mac,
    pub router: Mac,
    /// Its own addresses, by family.
    pub addresses: [IpAddr; 2],
    /// Sockets that it calls.
    pub victims: Vec<SocketAddr>,
}

/// What it is like.
#[derive(Copy, Clone, Debug)]
pub(super) struct Character {
    /// Connections that it opens.
    pub calls: u32,
    /// Chance of a lie where an honest host would have acknowledged.
    pub lies_ppm: u32,
}

#[derive(Debug)]
pub(super) struct Liar {
    home: Home,
    end: LinkEnd,
    random: Random,
    character: Character,
    flows: BTreeMap<Ends, Flow>,
    calls_left: u32,
    next_tick: Instant,
    hushed: bool,
}

impl Liar {
    pub(super) fn new(home: Home, end: LinkEnd, character: Character, seed: u64) -> Self {
        Self {
            home,
            end,
            random: Random::for_stream(seed, u64::from_be_bytes(*b"the liar")),
            calls_left: character.calls,
            character,
            flows: BTreeMap::new(),
            next_tick: Instant::ZERO,
            hushed: false,
        }
    }

    /// It says nothing any more, and never again.
    pub(super) fn hush(&mut self) {
        self.hushed = true;
    }

    fn hear(&mut self, frame: &[u8]) {
        let Some(heard) = Heard::parse(frame) else { return };
        if !self.home.addresses.contains(&heard.ends.local.ip()) {
            return;
        }
        let mut flow = self.flows.remove(&heard.ends).unwrap_or_else(|| Flow {
            next: self.random.next() as u32,
            clock: self.random.next() as u32,
            ..Flow::default()
        });
        flow.note(&heard);
        for said in self.answer(&mut flow, &heard) {
            self.say(heard.ends, &mut flow, &said);
        }
        self.flows.insert(heard.ends, flow);
    }

    fn answer(&mut self, flow: &mut Flow, heard: &Heard) -> Vec<Said> {
        if heard.has(RST) {
            return Vec::new();
        }
        if heard.has(SYN) && !heard.has(ACK) {
            return lie::to_syn(flow, &mut self.random);
        }
        if heard.has(SYN) {
            let mut said = vec![flow.plain(ACK)];
            // Some never say more, some speak at once.
            if self.random.chance(700_000) {
                said.push(flow.text(lie::NAME));
            }
            return said;
        }
        if self.random.chance(self.character.lies_ppm) {
            return Lie::draw(&mut self.random).tell(flow, &mut self.random);
        }
        if heard.len() == 0 {
            return Vec::new();
        }
        let flags = if heard.has(FIN) && self.random.chance(500_000) { ACK | FIN } else { ACK };
        vec![flow.plain(flags)]
    }

    fn call(&mut self) {
        self.calls_left -= 1;
        let victims = &self.home.victims;
        let remote = victims[self.random.below(victims.len() as u64) as usize];
        let local = self.home.addresses[usize::from(remote.is_ipv6())];
        let port = FIRST_PORT + self.calls_left as u16;
        let ends = Ends { local: SocketAddr::new(local, port), remote };
        let mut flow = Flow {
            next: self.random.next() as u32,
            clock: self.random.next() as u32,
            sack: self.random.chance(500_000),
            timestamp: self.random.chance(500_000).then_some(0),
            ..Flow::default()
        };
        let syn = flow.syn(SYN);
        self.say(ends, &mut flow, &syn);
        self.flows.insert(ends, flow);
    }

    /// An ICMP error of its own making about a segment that the other side may have sent.
    fn forge_error(&mut self, ends: Ends, flow: &Flow) {
        let seq = if self.random.chance(500_000) { flow.expected } else { self.random.next() as u32 };
        let mut transport = ends.remote.port().to_be_bytes().to_vec();
        transport.extend(ends.local.port().to_be_bytes());
        transport.extend(seq.to_be_bytes());
        let (own, other) = (ends.local.ip(), ends.remote.ip());
        let quoted = segment::frame(([0; 6], [0; 6]), (other, own), wire::PROTOCOL_TCP, &transport);
        let mut quoted = quoted[wire::ETHERNET_BYTES..].to_vec();
        // It was a full segment, of which errors quote the beginning.
        let length_at = if own.is_ipv4() { 2 } else { 4 };
        quoted[length_at..length_at + 2].copy_from_slice(&MSS.to_be_bytes());
        let kind = self.random.below(3) as usize;
        let (protocol, message) = match (own, other) {
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                // Too big, with an MTU that IPv6 may have and one that it has not; no port (RFC 4443, section 3).
                let head =
                    [[2, 0, 0, 0, 0, 0, 5, 0], [2, 0, 0, 0, 0, 0, 2, 0], [1, 4, 0, 0, 0, 0, 0, 0]][kind];
                let mut message = [&head[..], &quoted].concat();
                let sum = wire::icmpv6_checksum(own, other, &message);
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                (wire::PROTOCOL_ICMPV6, message)
            }
            _ => {
                // No host, no port, or fragmentation needed with a small MTU (RFC 792, RFC 1191).
                let head =
                    [[3, 1, 0, 0, 0, 0, 0, 0], [3, 3, 0, 0, 0, 0, 0, 0], [3, 4, 0, 0, 0, 0, 2, 0]][kind];
                let mut message = [&head[..], &quoted].concat();
                let sum = wire::checksum(&[&message]);
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                (wire::PROTOCOL_ICMP, message)
            }
        };
        let macs = (self.home.mac, self.home.router);
        let _lost = self.end.send(&segment::frame(macs, (own, other), protocol, &message));
    }

    /// A lie on a flow of which nothing was heard just now.
    fn speak_unasked(&mut self) {
        let Some(place) = (self.random.below(self.flows.len() as u64 + 1) as usize).checked_sub(1) else {
            return;
        };
        let Some((ends, flow)) = self.flows.iter().nth(place) else { return };
        let (ends, mut flow) = (*ends, flow.clone());
        if self.random.chance(FORGED_ERRORS_PPM) {
            return self.forge_error(ends, &flow);
        }
        for said in Lie::draw(&mut self.random).tell(&mut flow, &mut self.random) {
            self.say(ends, &mut flow, &said);
        }
        self.flows.insert(ends, flow);
    }

    fn say(&self, ends: Ends, flow: &mut Flow, said: &Said) {
        if flow.said >= MOST_SAID {
            return;
        }
        flow.said += 1;
        let bytes = segment::tcp(ends, said);
        let between = (ends.local.ip(), ends.remote.ip());
        let frame = segment::frame((self.home.mac, self.home.router), between, wire::PROTOCOL_TCP, &bytes);
        // A full ring loses it: nobody relies on what a liar says.
        let _lost = self.end.send(&frame);
    }
}

impl Node for Liar {
    fn turn(&mut self, now: Instant) {
        while let Some(packet) = self.end.receive_one() {
            if let (false, Some(frame)) = (self.hushed, packet.frame(0)) {
                self.hear(frame.bytes());
            }
        }
        if self.hushed || now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        if self.calls_left > 0 {
            self.call();
        }
        self.speak_unasked();
        // Who has said all that it may say has nothing to wait for.
        self.hushed |= self.calls_left == 0
            && !self.flows.is_empty()
            && self.flows.values().all(|flow| flow.said >= MOST_SAID);
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.end.has_arrived() {
            return Some(Instant::ZERO);
        }
        (!self.hushed).then_some(self.next_tick)
    }
}
