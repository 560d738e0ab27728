//! One end of a link, as a node holds it: a queue pair whose device is the simulated wire.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nic::{Burst, FRAME_BYTES, Frame, Offloads, Packet, QueueCounters, QueuePair};

/// Packets that wait for the wire or for their node; a small card's ring. What arrives beyond it is lost and counted.
const RING_PACKETS: usize = 512;

/// Longest packet of several frames (nic: MAX_FRAMES).
const MAX_PACKET_BYTES: usize = nic::MAX_FRAMES * FRAME_BYTES;

#[derive(Debug, Default)]
struct Rings {
    arrived: VecDeque<Packet>,
    sent: VecDeque<Packet>,
    counters: QueueCounters,
}

/// A handle to one end of a link: the node has one, the network the other.
#[derive(Clone, Debug, Default)]
pub struct LinkEnd(Rc<RefCell<Rings>>);

impl LinkEnd {
    /// Whether packets wait to be received: a node with some wants its turn at once.
    pub fn has_arrived(&self) -> bool {
        !self.0.borrow().arrived.is_empty()
    }

    /// The oldest packet that arrived.
    pub fn receive_one(&self) -> Option<Packet> {
        let mut rings = self.0.borrow_mut();
        let packet = rings.arrived.pop_front()?;
        rings.counters.received_packets += 1;
        rings.counters.received_bytes += packet.len() as u64;
        Some(packet)
    }

    /// How many more packets the transmit ring takes.
    pub fn room(&self) -> usize {
        RING_PACKETS - self.0.borrow().sent.len()
    }

    /// Queues a packet for the wire. Gives it back when the ring is full.
    pub fn transmit_one(&self, packet: Packet) -> Result<(), Packet> {
        let mut rings = self.0.borrow_mut();
        if rings.sent.len() == RING_PACKETS {
            return Err(packet);
        }
        rings.counters.transmitted_packets += 1;
        rings.counters.transmitted_bytes += packet.len() as u64;
        rings.sent.push_back(packet);
        Ok(())
    }

    /// [`LinkEnd::transmit_one`] of bytes. Gives the packet back when the ring is full.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Packet> {
        self.transmit_one(packet_of(&[bytes]))
    }

    /// The node is switched off: what lies in its rings is lost.
    pub(crate) fn clear(&self) {
        let mut rings = self.0.borrow_mut();
        rings.arrived.clear();
        rings.sent.clear();
    }

    /// What a node sent, for the wire.
    pub(crate) fn take_sent(&self) -> Option<Packet> {
        self.0.borrow_mut().sent.pop_front()
    }

    /// A packet comes off the wire. Gives it back, lost, when the node's ring is full.
    pub(crate) fn arrive(&self, packet: Packet) -> Result<(), Packet> {
        let mut rings = self.0.borrow_mut();
        if rings.arrived.len() == RING_PACKETS {
            rings.counters.nic_rx_ring_full += 1;
            return Err(packet);
        }
        rings.arrived.push_back(packet);
        Ok(())
    }
}

/// A packet in fresh frames, of slices that lie one after the other.
///
/// # Panics
/// When they are longer than the longest chain: no IP packet is.
pub(crate) fn packet_of(slices: &[&[u8]]) -> Packet {
    // No larger than it needs to be: clearing 4 KiB costs more than carrying most packets.
    let len: usize = slices.iter().map(|slice| slice.len()).sum();
    let mut packet = Packet::new(Frame::heap(len.min(FRAME_BYTES)));
    for slice in slices {
        let mut rest = *slice;
        while !rest.is_empty() {
            let taken = packet.last_mut().append(rest);
            rest = &rest[taken..];
            if !rest.is_empty() {
                packet.push(Frame::heap(FRAME_BYTES)).expect("an IP packet fits the longest chain");
            }
        }
    }
    packet
}

impl QueuePair for LinkEnd {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut moved = 0;
        while !burst.is_full() {
            let Some(packet) = self.receive_one() else { break };
            burst.push(packet).expect("a burst that is not full takes a packet");
            moved += 1;
        }
        moved
    }

    fn transmit(&mut self, burst: &mut Burst) {
        while let Some(packet) = burst.pop() {
            if let Err(back) = self.transmit_one(packet) {
                burst.push_front(back);
                return;
            }
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        Some(Frame::heap(FRAME_BYTES))
    }

    fn offloads(&self) -> Offloads {
        Offloads { max_packet_bytes: MAX_PACKET_BYTES, ..Offloads::default() }
    }

    fn counters(&mut self) -> QueueCounters {
        self.0.borrow().counters
    }
}
