//! The sessions of one core: found by hash for both directions, bounded, forgotten when idle.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use super::rtp::{Rtp, Streams};
use super::{SessionCounts, SessionInfo, Traffic};
use crate::hash::{Key, Map, bits};
use crate::tcp::boundary::Path;
use crate::wheel::{TimerId, Wheel};
use crate::{Instant, InterfaceId, Rewrite, Share, checksum::Sum};

/// Ended sessions that wait to be read; the oldest are lost first.
const MAX_ENDED: usize = 1024;

/// Which way a packet of a session goes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the endpoint.
    Forth,
    /// From the endpoint to the client.
    Back,
}

/// Source and destination of a packet, as tables are keyed by them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Tuple {
    source: u128,
    destination: u128,
    ports: u32,
}

impl Tuple {
    fn new(source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            source: bits(source.ip()),
            destination: bits(destination.ip()),
            ports: u32::from(source.port()) << 16 | u32::from(destination.port()),
        }
    }
}

/// One direction of a session: what its packets become.
#[derive(Debug)]
pub(crate) struct Leg {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// What the new addresses change in an IPv4 header's sum.
    pub header_change: Sum,
    /// What the new addresses and ports change in a UDP sum.
    pub datagram_change: Sum,
    pub path: Path,
    /// The only interface that these packets may come from: a workload's. From an uplink they may come by any.
    pub only_from: Option<InterfaceId>,
    pub traffic: Traffic,
}

impl Leg {
    /// Packets from `old` become packets from `new`; each is a pair of source and destination.
    pub fn new(old: (SocketAddr, SocketAddr), new: (SocketAddr, SocketAddr)) -> Self {
        let mut header_change = Sum::default();
        for (old, new) in [(old.0, new.0), (old.1, new.1)] {
            let mut before = Sum::default();
            before.add_address(old.ip());
            header_change.subtract_sum(before);
            header_change.add_address(new.ip());
        }
        let mut datagram_change = header_change;
        for (old, new) in [(old.0, new.0), (old.1, new.1)] {
            datagram_change.add_word(!old.port());
            datagram_change.add_word(new.port());
        }
        Self {
            source: new.0,
            destination: new.1,
            header_change,
            datagram_change,
            path: Path::default(),
            only_from: None,
            traffic: Traffic::default(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub client: SocketAddr,
    pub service: SocketAddr,
    pub ours: SocketAddr,
    pub endpoint: SocketAddr,
    pub interface: InterfaceId,
    pub forth: Leg,
    pub back: Leg,
    pub version: u64,
    tag: u32,
    idle: Duration,
    used: Instant,
    timer: TimerId,
    /// Made when the first packet that may be RTP passes.
    streams: Option<Box<Streams>>,
}

impl Session {
    pub fn leg_mut(&mut self, direction: Direction) -> &mut Leg {
        match direction {
            Direction::Forth => &mut self.forth,
            Direction::Back => &mut self.back,
        }
    }

    /// A packet with this payload goes on.
    pub fn count(&mut self, direction: Direction, payload: &[u8], payload_len: usize, now: Instant) {
        self.used = now;
        let traffic = &mut self.leg_mut(direction).traffic;
        traffic.packets += 1;
        traffic.bytes += payload_len as u64;
        if let Some(rtp) = Rtp::parse(payload) {
            let streams = self.streams.get_or_insert_default();
            streams.on_packet(rtp, direction == Direction::Forth, now);
        }
    }

    /// It was judged again and goes where it went.
    pub fn confirm(&mut self, rewrite: &Rewrite, version: u64) {
        self.version = rewrite.version.max(version);
        self.idle = rewrite.idle;
        self.tag = rewrite.tag;
    }

    fn info(&self) -> SessionInfo {
        SessionInfo {
            client: self.client,
            service: self.service,
            ours: self.ours,
            endpoint: self.endpoint,
            interface: self.interface,
            tag: self.tag,
            version: self.version,
            last_used: self.used,
            to_endpoint: self.forth.traffic,
            to_client: self.back.traffic,
            rtp: self.streams.as_ref().map_or_else(Default::default, |streams| streams.list()),
        }
    }
}

/// What a new session is made of.
#[derive(Debug)]
pub(crate) struct NewSession {
    pub client: SocketAddr,
    pub service: SocketAddr,
    pub ours: SocketAddr,
    pub interface: InterfaceId,
    pub only_from: (Option<InterfaceId>, Option<InterfaceId>),
    pub rewrite: Rewrite,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Vec<Option<Session>>,
    free: Vec<u32>,
    index: Map<Tuple, (u32, Direction)>,
    timers: Wheel<u32>,
    ended: VecDeque<SessionInfo>,
    pub share: Share,
    pub counts: SessionCounts,
    /// Sessions judged under an older one are judged again.
    pub version: u64,
}

impl Sessions {
    pub fn new(key: Key, share: Share, now: Instant) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Map::with_hasher(key),
            timers: Wheel::new(now),
            ended: VecDeque::new(),
            share,
            counts: SessionCounts::default(),
            version: 0,
        }
    }

    pub fn find(&self, source: SocketAddr, destination: SocketAddr) -> Option<(u32, Direction)> {
        self.index.get(&Tuple::new(source, destination)).copied()
    }

    /// The session in a slot that [`Sessions::find`] named.
    pub fn session_mut(&mut self, slot: u32) -> &mut Session {
        self.slots[slot as usize].as_mut().expect("the index names occupied slots only")
    }

    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_full(&self) -> bool {
        !self.share.admits(self.len())
    }

    /// Adds a session; the caller has checked that there is room and that neither direction is taken.
    pub fn insert(&mut self, new: NewSession, now: Instant) -> u32 {
        let NewSession { client, service, ours, interface, only_from, rewrite } = new;
        let endpoint = rewrite.endpoint;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        let mut forth = Leg::new((client, service), (ours, endpoint));
        let mut back = Leg::new((endpoint, ours), (service, client));
        (forth.only_from, back.only_from) = only_from;
        self.index.insert(Tuple::new(client, service), (slot, Direction::Forth));
        self.index.insert(Tuple::new(endpoint, ours), (slot, Direction::Back));
        self.counts.add(endpoint);
        self.slots[slot as usize] = Some(Session {
            client,
            service,
            ours,
            endpoint,
            interface,
            forth,
            back,
            version: rewrite.version.max(self.version),
            tag: rewrite.tag,
            idle: rewrite.idle,
            used: now,
            timer: self.timers.insert(now + rewrite.idle, slot),
            streams: None,
        });
        slot
    }

    pub fn remove(&mut self, slot: u32) {
        let Some(session) = self.slots[slot as usize].take() else { return };
        self.timers.cancel(session.timer);
        self.index.remove(&Tuple::new(session.client, session.service));
        self.index.remove(&Tuple::new(session.endpoint, session.ours));
        self.counts.remove(session.endpoint);
        self.free.push(slot);
        if self.ended.len() == MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(session.info());
    }

    /// Fires timers while there is work to spend: a session in use gets another one, an idle one ends.
    pub fn handle_timers(&mut self, work: &mut usize, now: Instant) {
        while let Some(slot) = self.timers.poll(now, work) {
            let Some(session) = self.slots[slot as usize].as_mut() else { continue };
            let until = session.used + session.idle;
            if until > now {
                session.timer = self.timers.insert(until, slot);
            } else {
                self.remove(slot);
            }
        }
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }

    pub fn iter(&self) -> impl Iterator<Item = SessionInfo> + '_ {
        self.slots.iter().flatten().map(Session::info)
    }

    pub fn poll_ended(&mut self) -> Option<SessionInfo> {
        self.ended.pop_front()
    }
}
