//! Workers over queue pairs in memory: what is forwarded, what is steered, and what dies under which name.

use std::net::SocketAddr;

use nic::{BURST_PACKETS, Burst, Frame, MemoryLink, MemoryQueuePair, Packet, QueuePair};
use socket::Core;
use stack::{
    Admission, Discard, FirstDatagram, Forward, Instant, InterfaceConfig, InterfaceId, Rewrite, Role, Stack,
};

use crate::{
    Command, Doorbell, Exit, MAILBOX_COMMANDS, Place, Port, RING_PACKETS, RingReceiver, StackConfig, Worker,
    flow, mailbox, ring,
};

mod bursts;
mod newcomers;
mod ports;

const NOW: Instant = Instant::from_nanos(1_000_000_000);
const UP: InterfaceId = InterfaceId(0);
const DOWN: InterfaceId = InterfaceId(1);
const OURS: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];
const BACKEND: [u8; 4] = [10, 1, 0, 2];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Sends every session to the backend.
#[derive(Debug)]
struct ToBackend;

impl Admission for ToBackend {
    fn admit(&mut self, _first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        Forward::Rewrite(Rewrite {
            endpoint: SocketAddr::from((BACKEND, 7000)),
            idle: std::time::Duration::from_secs(60),
            version: 1,
            tag: 0,
        })
    }
}

/// A worker with an uplink and a second one, whose far ends the test holds.
struct Bench {
    worker: Worker<ToBackend>,
    client: MemoryQueuePair,
    backend: Option<MemoryQueuePair>,
}

fn interface(id: InterfaceId, address: [u8; 4]) -> InterfaceConfig {
    InterfaceConfig {
        id,
        name: format!("if{}", id.0),
        role: Role::Uplink,
        mac: MAC,
        mtu: 1500,
        vlan: None,
        addresses: vec![(address.into(), 24)],
        intercepted: Vec::new(),
        unfinished_receive_checksum: false,
    }
}

/// `exit` of the interface towards the backend: a port of its own, another worker, or nothing at all.
enum Way {
    OwnPort,
    Worker(usize),
    Nowhere,
}

fn bench(place: Place, way: Way) -> Bench {
    let (number, workers) = (place.number as u16, place.to.len() as u16);
    let config = StackConfig { worker: number, workers, ..StackConfig::default() };
    let core = Core::new(Stack::new(config, NOW), 1);
    let (_sender, mailbox) = mailbox::<Command<ToBackend>>(Doorbell::new().unwrap());
    let mut worker = Worker::new(core, ToBackend, mailbox, place);
    let (near, client) = MemoryQueuePair::pair(MemoryLink::default());
    let up = worker.add_port(Port::new("up".into(), 0, Box::new(near)));
    worker.set_interface(interface(UP, OURS), Exit { ports: vec![up], owner: None }, NOW);
    let (near, far) = MemoryQueuePair::pair(MemoryLink::default());
    let (exit, backend) = match way {
        Way::OwnPort => {
            let down = worker.add_port(Port::new("down".into(), 1, Box::new(near)));
            (Exit { ports: vec![down], owner: None }, Some(far))
        }
        Way::Worker(owner) => (Exit { ports: Vec::new(), owner: Some(owner) }, None),
        Way::Nowhere => (Exit::default(), None),
    };
    worker.set_interface(interface(DOWN, [10, 1, 0, 1]), exit, NOW);
    worker.core.stack().set_neighbour(UP, CLIENT.into(), Some(PEER_MAC), NOW);
    worker.core.stack().set_neighbour(DOWN, BACKEND.into(), Some(PEER_MAC), NOW);
    Bench { worker, client, backend }
}

impl Bench {
    fn send(&mut self, bytes: &[u8]) {
        let mut frame = Frame::heap(bytes.len());
        assert_eq!(frame.append(bytes), bytes.len());
        let mut burst = Burst::new();
        burst.push(Packet::new(frame)).unwrap();
        self.client.transmit(&mut burst);
    }

    fn turn(&mut self) {
        self.worker.wake_ports();
        self.worker.turn(NOW, &mut || false);
    }

    fn arrived_at_backend(&mut self) -> usize {
        let mut burst = Burst::new();
        self.backend.as_mut().map_or(0, |end| end.receive(&mut burst))
    }
}

/// A datagram from a client's port to ours, without a UDP checksum (RFC 768 allows it over IPv4).
fn datagram(port: u16) -> Vec<u8> {
    let mut frame = [&MAC[..], &PEER_MAC, &[8, 0]].concat();
    let mut header = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    header.extend(CLIENT);
    header.extend(OURS);
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    frame.extend(header);
    frame.extend(port.to_be_bytes());
    frame.extend(6000u16.to_be_bytes());
    frame.extend([0, 16, 0, 0]);
    frame.extend(*b"payload!");
    frame
}

#[test]
fn a_session_is_forwarded_in_the_frames_that_it_came_in() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    for _ in 0..3 {
        bench.send(&datagram(5000));
        bench.turn();
        assert_eq!(bench.arrived_at_backend(), 1);
    }
    let counters = bench.worker.counters();
    assert_eq!((counters.packets_received, counters.packets_forwarded), (3, 3));
}

#[test]
fn what_has_no_queue_to_leave_by_is_no_transmit_queue() {
    let mut bench = bench(Place::alone(), Way::Nowhere);
    bench.send(&datagram(5000));
    bench.turn();
    assert_eq!(bench.worker.discards().of(Discard::NoTransmitQueue), 1);
    assert_eq!(Discard::NoTransmitQueue.name(), "no_transmit_queue");
}

#[test]
fn what_a_full_queue_does_not_take_is_transmit_full() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    // Nobody receives at the far end: its link fills, then the burst before it.
    let mut sent = 0u64;
    while bench.worker.discards().of(Discard::TransmitFull) == 0 {
        bench.send(&datagram(5000));
        bench.turn();
        sent += 1;
        assert!(sent < 100_000, "the link has no bound");
    }
    assert_eq!(Discard::TransmitFull.name(), "transmit_full");
    let waiting = bench.worker.ports_mut()[1].outgoing.len();
    assert_eq!(waiting, BURST_PACKETS);
    let mut arrived = 0;
    while let got @ 1.. = bench.arrived_at_backend() {
        arrived += got;
        bench.turn();
    }
    assert_eq!(arrived as u64, sent - 1, "all but the one that was counted");
}

/// The place of worker 0 of two, and the far end of its ring to worker 1.
fn place_of_two() -> (Place, RingReceiver) {
    let (sender, receiver) = ring(Doorbell::new().unwrap());
    (Place { number: 0, to: vec![None, Some(sender)], from: Vec::new() }, receiver)
}

/// A source port whose flow worker 0 (or 1) of two owns.
fn port_owned_by(worker: usize) -> u16 {
    (1024..).find(|&port| flow::owner(&datagram(port), 2) == Some(worker)).unwrap()
}

#[test]
fn a_flow_of_another_worker_goes_there_and_a_full_ring_is_ring_full() {
    let (place, mut other) = place_of_two();
    let mut bench = bench(place, Way::OwnPort);
    let theirs = datagram(port_owned_by(1));
    for _ in 0..RING_PACKETS + 3 {
        bench.send(&theirs);
        bench.turn();
    }
    assert_eq!(bench.worker.discards().of(Discard::RingFull), 3);
    assert_eq!(Discard::RingFull.name(), "ring_full");
    assert_eq!(bench.worker.counters().packets_steered, RING_PACKETS as u64);
    let slot = other.take().unwrap();
    assert_eq!(slot.bytes(), theirs);
    assert_eq!(slot.errand, Some(crate::Errand::Handle(UP)));
}

/// A neighbour advertisement from fd00::`sender` to fd00::1; which worker its addresses name does not matter.
fn advertisement(sender: u8) -> Vec<u8> {
    let mut frame = [&MAC[..], &PEER_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]].concat();
    for host in [sender, 1] {
        frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    frame.push(136);
    frame.resize(14 + 40 + 32, 0);
    frame
}

#[test]
fn an_advertisement_is_handled_here_and_shown_to_the_others_whoever_it_would_steer_to() {
    let owned_by =
        |worker| (2..).find(|&sender| flow::owner(&advertisement(sender), 2) == Some(worker)).unwrap();
    for worker in [0, 1] {
        let (place, mut other) = place_of_two();
        let mut bench = bench(place, Way::OwnPort);
        let news = advertisement(owned_by(worker));
        bench.send(&news);
        bench.turn();
        let counters = *bench.worker.counters();
        assert_eq!((counters.packets_shown, counters.packets_steered), (1, 0));
        assert_eq!(counters.packets_consumed + counters.packets_discarded, 1, "{counters:?}");
        assert_eq!(other.take().unwrap().bytes(), news);
    }
}

#[test]
fn what_another_worker_must_transmit_crosses_the_ring_rewritten() {
    let (place, mut other) = place_of_two();
    let mut bench = bench(place, Way::Worker(1));
    bench.send(&datagram(port_owned_by(0)));
    bench.turn();
    let slot = other.take().unwrap();
    assert_eq!(slot.errand, Some(crate::Errand::Transmit(DOWN)));
    assert_eq!(slot.bytes()[30..34], BACKEND);
    assert_eq!(slot.bytes()[..6], PEER_MAC);
}

#[test]
fn a_stuck_worker_s_mailbox_has_a_bound() {
    let (sender, _mailbox) = mailbox::<u32>(Doorbell::new().unwrap());
    assert!((0..MAILBOX_COMMANDS as u32).all(|command| sender.send(command).is_ok()));
    assert!(sender.send(0).is_err());
}

/// A device that has packets is asked before the tasks and at the turn's end.
const ASKED_A_TURN: u32 = 2;

/// A device that keeps packets on its ring until it is asked again, as the kernel does when it is short of memory.
struct Reluctant {
    pair: MemoryQueuePair,
    ring: Burst,
    asked: u32,
}

impl QueuePair for Reluctant {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.pair.receive(burst)
    }

    fn transmit(&mut self, burst: &mut Burst) {
        self.asked += 1;
        if self.asked > ASKED_A_TURN {
            self.pair.transmit(&mut self.ring);
        }
        while let Some(packet) = burst.pop() {
            self.ring.push(packet).unwrap();
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        self.pair.frame()
    }

    fn offloads(&self) -> nic::Offloads {
        self.pair.offloads()
    }

    fn counters(&mut self) -> nic::QueueCounters {
        self.pair.counters()
    }

    fn is_sending(&self) -> bool {
        !self.ring.is_empty()
    }
}

#[test]
fn a_device_that_left_packets_on_its_ring_is_asked_again_without_new_ones() {
    let mut bench = bench(Place::alone(), Way::Nowhere);
    let (near, far) = MemoryQueuePair::pair(MemoryLink::default());
    let reluctant = Reluctant { pair: near, ring: Burst::new(), asked: 0 };
    let down = bench.worker.add_port(Port::new("down".into(), 1, Box::new(reluctant)));
    bench.worker.set_interface(interface(DOWN, [10, 1, 0, 1]), Exit { ports: vec![down], owner: None }, NOW);
    bench.backend = Some(far);
    bench.send(&datagram(5000));
    bench.turn();
    assert_eq!(bench.arrived_at_backend(), 0);
    assert!(bench.worker.is_sending(), "a sleep now must be a short one");
    bench.turn();
    assert_eq!(bench.arrived_at_backend(), 1);
    assert!(!bench.worker.is_sending());
}
