//! A network in memory: stacks joined by wires, on a clock that a test moves. Every packet that a stack gets is counted
//! by its verdict, and [`Network::check_accounts`] finds any that was not.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod packets;

use std::collections::VecDeque;
use std::time::Duration;

use stack::{
    Admission, Chain, Config, Contiguous, Egress, FirstDatagram, Forward, Full, Instant, InterfaceConfig,
    InterfaceId, Offloads, Role, Stack, Verdict,
};

/// Everything goes to sockets.
pub struct DeliverAll;

impl Admission for DeliverAll {
    fn admit(&mut self, _first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        Forward::Deliver
    }
}

/// One end of a wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct End {
    pub host: usize,
    pub interface: InterfaceId,
}

pub struct Host {
    pub stack: Stack,
    pub admission: Box<dyn Admission>,
    pub received: u64,
    pub consumed: u64,
    pub forwarded: u64,
    /// All frames it sent, for tests that look at them.
    pub sent: Vec<(InterfaceId, Vec<u8>)>,
}

pub type Loss = Box<dyn FnMut(&[u8]) -> bool>;

pub struct Network {
    pub hosts: Vec<Host>,
    pub now: Instant,
    wires: Vec<(End, End)>,
    /// Frames on their way: where to, and what.
    flying: VecDeque<(End, Vec<u8>)>,
    /// Says of each frame whether it is lost; by default none is.
    pub lose: Loss,
    /// Packets are handed over in chunks of this size.
    pub chunk_bytes: usize,
    pub record: bool,
}

/// Takes what a stack sends.
#[derive(Default)]
struct Wire(Vec<(InterfaceId, Vec<u8>)>);

/// Packets that a wire takes in one turn.
const ROOM: usize = 256;

impl Egress for Wire {
    fn room(&self, _interface: InterfaceId) -> usize {
        ROOM.saturating_sub(self.0.len())
    }

    fn emit(&mut self, interface: InterfaceId, header: &[u8], payload: [&[u8]; 2]) -> Result<(), Full> {
        if self.0.len() >= ROOM {
            return Err(Full);
        }
        self.0.push((interface, [header, payload[0], payload[1]].concat()));
        Ok(())
    }

    fn offloads(&self, _interface: InterfaceId) -> Offloads {
        Offloads::default()
    }
}

impl Network {
    pub fn new() -> Self {
        Self {
            hosts: vec![],
            now: Instant::ZERO + Duration::from_secs(1),
            wires: vec![],
            flying: VecDeque::new(),
            lose: Box::new(|_| false),
            chunk_bytes: usize::MAX,
            record: false,
        }
    }

    /// Adds a host with a stack of its own secret; returns its number.
    pub fn host(&mut self, interfaces: Vec<InterfaceConfig>) -> usize {
        let config = Config { secret: [self.hosts.len() as u8 + 1; 32], ..Config::default() };
        self.host_with(config, interfaces)
    }

    pub fn host_with(&mut self, config: Config, interfaces: Vec<InterfaceConfig>) -> usize {
        let mut stack = Stack::new(config, self.now);
        for interface in interfaces {
            stack.set_interface(interface, self.now);
        }
        let admission = Box::new(DeliverAll);
        self.hosts.push(Host { stack, admission, received: 0, consumed: 0, forwarded: 0, sent: vec![] });
        self.hosts.len() - 1
    }

    pub fn wire(&mut self, a: (usize, u16), b: (usize, u16)) {
        let end = |(host, interface)| End { host, interface: InterfaceId(interface) };
        self.wires.push((end(a), end(b)));
    }

    fn other_end(&self, end: End) -> Option<End> {
        self.wires.iter().find_map(|(a, b)| match end {
            end if end == *a => Some(*b),
            end if end == *b => Some(*a),
            _ => None,
        })
    }

    /// Hands a frame to a host and says what became of it; what it forwards flies on.
    pub fn deliver(&mut self, to: End, frame: Vec<u8>) -> Verdict {
        let mut packet = Pieces::new(&frame, self.chunk_bytes);
        let host = &mut self.hosts[to.host];
        host.received += 1;
        let verdict = host.stack.handle_packet(to.interface, &mut packet, &mut *host.admission, self.now);
        match verdict {
            Verdict::Consumed => host.consumed += 1,
            Verdict::Forward(interface) => {
                host.forwarded += 1;
                self.launch(to.host, interface, packet.bytes());
            }
            Verdict::Discarded(_) => {}
        }
        verdict
    }

    fn launch(&mut self, host: usize, interface: InterfaceId, frame: Vec<u8>) {
        if self.record {
            self.hosts[host].sent.push((interface, frame.clone()));
        }
        if let Some(to) = self.other_end(End { host, interface })
            && !(self.lose)(&frame)
        {
            self.flying.push_back((to, frame));
        }
    }

    /// Moves everything that can move at this moment, a bounded number of rounds.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            for host in 0..self.hosts.len() {
                let mut wire = Wire::default();
                self.hosts[host].stack.poll_transmit(&mut wire, ROOM, self.now);
                for (interface, frame) in wire.0 {
                    self.launch(host, interface, frame);
                }
            }
            if self.flying.is_empty() {
                return;
            }
            for _ in 0..self.flying.len() {
                if let Some((to, frame)) = self.flying.pop_front() {
                    self.deliver(to, frame);
                }
            }
        }
        panic!("the network does not come to rest");
    }

    /// Lets time pass, firing timers as they come due.
    pub fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let next = self.hosts.iter().filter_map(|host| host.stack.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            self.now = self.now.max(at);
            for host in &mut self.hosts {
                while host.stack.handle_timers(256, self.now) {}
            }
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    /// Every packet that a host received has exactly one verdict.
    pub fn check_accounts(&self) {
        for (number, host) in self.hosts.iter().enumerate() {
            let discarded = host.stack.discards().total();
            assert_eq!(host.received, host.consumed + host.forwarded + discarded, "host {number}");
        }
    }
}

/// An interface with MAC `02:00:00:00:host:id` and MTU 1500.
pub fn interface(host: u8, id: u16, role: Role, addresses: &[&str]) -> InterfaceConfig {
    let parse = |text: &&str| {
        let (address, len) = text.split_once('/').unwrap();
        (address.parse().unwrap(), len.parse().unwrap())
    };
    InterfaceConfig {
        id: InterfaceId(id),
        name: format!("h{host}i{id}"),
        role,
        mac: [2, 0, 0, 0, host, id as u8],
        mtu: 1500,
        vlan: None,
        addresses: addresses.iter().map(parse).collect(),
        intercepted: vec![],
        unfinished_receive_checksum: false,
    }
}

/// Two hosts on one wire: 10.0.0.1 and 10.0.0.2, 2001:db8::1 and ::2.
pub fn pair(vlan: Option<u16>, mtu: u16) -> Network {
    let mut network = Network::new();
    for host in 1..=2u8 {
        let v4 = format!("10.0.0.{host}/24");
        let v6 = format!("2001:db8::{host}/64");
        let mut interface = interface(host, 0, Role::Uplink, &[&v4, &v6]);
        interface.vlan = vlan;
        interface.mtu = mtu;
        network.host(vec![interface]);
    }
    network.wire((0, 0), (1, 0));
    network
}

/// One frame in one piece that begins where its memory does. Handing it over costs no memory of its own.
pub struct Flat(pub Vec<u8>);

impl Chain for Flat {
    fn total_len(&self) -> usize {
        self.0.len()
    }

    fn chunks(&self) -> usize {
        1
    }

    fn chunk(&self, index: usize) -> &[u8] {
        if index == 0 { &self.0 } else { &[] }
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        if index == 0 { &mut self.0 } else { &mut [] }
    }

    fn grow_front(&mut self, _bytes: usize) -> bool {
        false
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.0.drain(..bytes);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A packet in several chunks, the headers in the first.
pub struct Pieces {
    first: Contiguous,
    rest: Vec<Vec<u8>>,
}

/// Headers never lie in two chunks.
const LEAST_FIRST_CHUNK: usize = 256;

impl Pieces {
    pub fn new(frame: &[u8], chunk_bytes: usize) -> Self {
        Self::cut(frame, chunk_bytes.max(LEAST_FIRST_CHUNK), chunk_bytes)
    }

    /// The first chunk may end in a header.
    pub fn cut(frame: &[u8], first_bytes: usize, chunk_bytes: usize) -> Self {
        let (first, rest) = frame.split_at(frame.len().min(first_bytes));
        Self { first: Contiguous::new(first), rest: rest.chunks(chunk_bytes).map(<[u8]>::to_vec).collect() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.rest.iter().fold(self.first.bytes().to_vec(), |mut all, piece| {
            all.extend_from_slice(piece);
            all
        })
    }
}

impl Chain for Pieces {
    fn total_len(&self) -> usize {
        self.first.total_len() + self.rest.iter().map(Vec::len).sum::<usize>()
    }

    fn chunks(&self) -> usize {
        1 + self.rest.len()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        match index {
            0 => self.first.bytes(),
            index => self.rest.get(index - 1).map_or(&[], Vec::as_slice),
        }
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        match index {
            0 => self.first.bytes_mut(),
            index => self.rest.get_mut(index - 1).map_or(&mut [], Vec::as_mut_slice),
        }
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        self.first.grow_front(bytes)
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.first.shrink_front(bytes);
    }

    fn truncate(&mut self, len: usize) {
        let mut left = len.saturating_sub(self.first.total_len());
        self.first.truncate(len);
        self.rest.retain_mut(|piece| {
            piece.truncate(left);
            left -= piece.len();
            !piece.is_empty()
        });
    }
}
