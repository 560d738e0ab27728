//! Which interface a frame belongs to, which member of a bond a flow leaves by, and who is visited after a sleep.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use nic::{Burst, Frame, MemoryLink, MemoryQueuePair, QueueCounters, QueuePair};
use rustix::event::{EventfdFlags, eventfd};
use stack::{Discard, Egress};

use super::{Bench, DOWN, NOW, OURS, UP, Way, bench, datagram, interface};
use crate::ports::Ports;
use crate::{Doorbell, Exit, Idle, LinkState, Place, Port};

/// The frame with an 802.1Q tag.
fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0x00], &tag.to_be_bytes(), &frame[12..]].concat()
}

#[test]
fn a_tag_that_no_interface_of_the_port_has_is_vlan_unknown() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    bench.send(&tagged(&datagram(5000), 7));
    bench.send(&tagged(&datagram(5000), 4095));
    bench.turn();
    assert_eq!(bench.worker.discards().of(Discard::VlanUnknown), 2);
    assert_eq!(Discard::VlanUnknown.name(), "vlan_unknown");
}

#[test]
fn each_tag_of_a_port_leads_to_its_own_interface_until_that_is_gone() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    let up = Exit { ports: vec![0], owner: None };
    for tag in [7, 100] {
        let mut config = interface(stack::InterfaceId(tag), [10, 2, tag as u8, 1]);
        config.vlan = Some(tag);
        bench.worker.set_interface(config, up.clone(), NOW);
    }
    let leads = |bench: &Bench, tag| bench.worker.ports()[0].interface_of(&tagged(&datagram(1), tag));
    assert_eq!(leads(&bench, 7), Some(stack::InterfaceId(7)));
    assert_eq!(leads(&bench, 100), Some(stack::InterfaceId(100)));
    assert_eq!(leads(&bench, 0), Some(super::UP), "VLAN 0 is priority only");
    bench.worker.remove_interface(stack::InterfaceId(7), NOW);
    assert_eq!(leads(&bench, 7), None);
    assert_eq!(leads(&bench, 100), Some(stack::InterfaceId(100)));
}

/// The backend's interface on a bond of two; the far ends of its members.
fn bond() -> (Bench, [MemoryQueuePair; 2]) {
    let mut bench = bench(Place::alone(), Way::Nowhere);
    let mut member = |device| {
        let (near, far) = MemoryQueuePair::pair(MemoryLink::default());
        bench.worker.add_port(Port::new(format!("member{device}"), device, Box::new(near)));
        far
    };
    let far = [member(1), member(2)];
    let exit = Exit { ports: vec![1, 2], owner: None };
    bench.worker.set_interface(interface(DOWN, [10, 1, 0, 1]), exit, NOW);
    (bench, far)
}

/// Of 40 sessions' datagrams, how many left by each member.
fn left_by(bench: &mut Bench, far: &mut [MemoryQueuePair; 2]) -> [usize; 2] {
    (0..40).for_each(|port| bench.send(&datagram(5000 + port)));
    bench.turn();
    far.each_mut().map(|end| end.receive(&mut Burst::new()))
}

#[test]
fn a_bonds_flows_leave_by_the_members_that_carry() {
    let (mut bench, mut far) = bond();
    let both = left_by(&mut bench, &mut far);
    assert_eq!(both[0] + both[1], 40);
    assert!(both[0] > 0 && both[1] > 0, "{both:?}");
    bench.worker.set_link(1, LinkState::StandsBy);
    assert_eq!(left_by(&mut bench, &mut far), [0, 40]);
}

#[test]
fn a_member_that_stands_by_takes_over_as_soon_as_no_other_carries() {
    let (mut bench, mut far) = bond();
    bench.worker.set_link(1, LinkState::StandsBy);
    bench.worker.set_link(2, LinkState::Down);
    assert_eq!(left_by(&mut bench, &mut far), [40, 0], "before the bond itself has chosen it");
    bench.worker.set_link(1, LinkState::Down);
    assert_eq!(left_by(&mut bench, &mut far), [0, 0]);
    assert_eq!(bench.worker.discards().of(Discard::NoTransmitQueue), 40);
}

/// A queue pair that can be slept on: readable while its event is set, as a ring is while packets wait.
struct Signalled {
    pair: MemoryQueuePair,
    event: Rc<OwnedFd>,
}

impl QueuePair for Signalled {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
        self.pair.receive(burst)
    }

    fn transmit(&mut self, burst: &mut Burst) {
        self.pair.transmit(burst);
    }

    fn frame(&mut self) -> Option<Frame> {
        self.pair.frame()
    }

    fn offloads(&self) -> nic::Offloads {
        self.pair.offloads()
    }

    fn counters(&mut self) -> QueueCounters {
        self.pair.counters()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.event.as_fd())
    }
}

/// A worker with so many more ports that a resting one's turn in the rotation is far away.
fn with_quiet_ports(count: usize) -> (Bench, Vec<(MemoryQueuePair, Rc<OwnedFd>)>) {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    let mut far_ends = Vec::new();
    for device in 2..count + 2 {
        let (pair, far) = MemoryQueuePair::pair(MemoryLink::default());
        let event = Rc::new(eventfd(0, EventfdFlags::NONBLOCK).unwrap());
        let near = Signalled { pair, event: Rc::clone(&event) };
        bench.worker.add_port(Port::new(format!("quiet{device}"), device, Box::new(near)));
        far_ends.push((far, event));
    }
    for _ in 0..100 {
        bench.worker.turn(NOW, &mut || false);
    }
    (bench, far_ends)
}

#[test]
fn a_packet_that_ends_a_sleep_is_received_in_the_next_turn() {
    let (mut bench, mut far_ends) = with_quiet_ports(200);
    let mut idle = Idle::adaptive(Duration::ZERO, Doorbell::new().unwrap()).unwrap();
    for number in [150, 3, 199] {
        let (far, event) = &mut far_ends[number];
        let mut frame = Frame::heap(64);
        frame.append(&[0; 64]);
        let mut burst = Burst::new();
        burst.push(nic::Packet::new(frame)).unwrap();
        far.transmit(&mut burst);
        rustix::io::write(&*event, &1u64.to_ne_bytes()).unwrap();
        let before = bench.worker.counters().packets_received;
        idle.sleep(&mut bench.worker, NOW);
        bench.worker.turn(NOW, &mut || false);
        assert_eq!(bench.worker.counters().packets_received, before + 1);
    }
}

/// Promises to cut long packets, and does not: as a queue pair whose packets are being captured.
struct Promises(MemoryQueuePair);

impl QueuePair for Promises {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.0.receive(burst)
    }

    fn transmit(&mut self, burst: &mut Burst) {
        self.0.transmit(burst);
    }

    fn frame(&mut self) -> Option<Frame> {
        self.0.frame()
    }

    fn offloads(&self) -> nic::Offloads {
        nic::Offloads { cuts_tcp: true, ..self.0.offloads() }
    }

    fn counters(&mut self) -> QueueCounters {
        self.0.counters()
    }
}

#[test]
fn a_long_packet_that_a_queue_pair_does_not_cut_after_all_is_cut_here() {
    let link = MemoryLink { capacity_packets: 40, ..MemoryLink::default() };
    let (near, mut far) = MemoryQueuePair::pair(link);
    let mut ports = Ports::default();
    ports.list.push(Port::new("promises".into(), 0, Box::new(Promises(near))));
    ports.set_interface(interface(UP, OURS), Exit { ports: vec![0], owner: None });
    assert!(ports.offloads(UP).cuts_tcp);
    let mut headers = [&[2; 12][..], &[8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
    headers.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 19, 136, 0, 0, 0, 7, 0, 0, 0, 9]);
    headers.extend([5 << 4, 0x18, 1, 0, 0, 0, 0, 0]);
    let (text, segment) = ([7; 4_400], std::num::NonZeroU16::new(100).unwrap());
    // 44 segments each: the second waits in the burst before the ring, the third finds no room there.
    assert_eq!(ports.emit_long(UP, &headers, [&text, &[]], segment), Ok(()));
    assert_eq!(ports.emit_long(UP, &headers, [&text, &[]], segment), Ok(()));
    assert_eq!(ports.emit_long(UP, &headers, [&text, &[]], segment), Err(stack::Full));
    let mut arrived = 0;
    for _ in 0..4 {
        ports.flush();
        let mut burst = Burst::new();
        far.receive(&mut burst);
        arrived += burst.iter().inspect(|packet| assert_eq!(packet.len(), 54 + 100)).count();
    }
    assert_eq!((arrived, ports.discards.total()), (88, 0));
}
