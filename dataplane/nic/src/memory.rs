//! Two queue pairs back to back in one thread's memory: what one transmits the other receives. For the simulator and
//! tests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::packet::{Burst, FRAME_BYTES, Frame, MAX_FRAMES, Packet};
use crate::{Offloads, QueueCounters, QueuePair};

/// What both ends of a link have in common.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MemoryLink {
    /// Packets on their way in one direction; what is more stays with the sender.
    pub capacity_packets: usize,
    pub offloads: Offloads,
}

impl Default for MemoryLink {
    /// As deep as an AF_XDP transmit ring, no offloads, chains of any length.
    fn default() -> Self {
        let offloads = Offloads { max_packet_bytes: MAX_FRAMES * FRAME_BYTES, ..Offloads::default() };
        Self { capacity_packets: 2_048, offloads }
    }
}

type Wire = Rc<RefCell<VecDeque<Packet>>>;

/// One end of a link. Packets move, bytes do not.
#[derive(Debug)]
pub struct MemoryQueuePair {
    link: MemoryLink,
    inbound: Wire,
    outbound: Wire,
    counters: QueueCounters,
}

impl MemoryQueuePair {
    /// Both ends of a new link.
    pub fn pair(link: MemoryLink) -> (Self, Self) {
        let (there, back) = (Wire::default(), Wire::default());
        let end = |inbound: &Wire, outbound: &Wire| Self {
            link,
            inbound: Rc::clone(inbound),
            outbound: Rc::clone(outbound),
            counters: QueueCounters::default(),
        };
        (end(&back, &there), end(&there, &back))
    }

    /// Packets that wait to be received at this end.
    pub fn waiting(&self) -> usize {
        self.inbound.borrow().len()
    }
}

impl QueuePair for MemoryQueuePair {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut wire = self.inbound.borrow_mut();
        let packets = burst.room().min(wire.len());
        for packet in wire.drain(..packets) {
            self.counters.received_bytes += packet.len() as u64;
            burst.push(packet).expect("no more is drained than the burst has room for");
        }
        self.counters.received_packets += packets as u64;
        packets
    }

    fn transmit(&mut self, burst: &mut Burst) {
        let mut wire = self.outbound.borrow_mut();
        while wire.len() < self.link.capacity_packets {
            let Some(packet) = burst.pop() else { break };
            let bytes = packet.len();
            if bytes == 0 || bytes > self.link.offloads.max_packet_bytes {
                self.counters.nic_tx_invalid += 1;
                continue;
            }
            self.counters.transmitted_packets += 1;
            self.counters.transmitted_bytes += bytes as u64;
            wire.push_back(packet);
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        Some(Frame::heap(FRAME_BYTES))
    }

    fn offloads(&self) -> Offloads {
        self.link.offloads
    }

    fn counters(&mut self) -> QueueCounters {
        self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(bytes: &[u8]) -> Packet {
        let mut frame = Frame::heap(bytes.len());
        frame.append(bytes);
        Packet::new(frame)
    }

    fn burst(packets: &[&[u8]]) -> Burst {
        let mut burst = Burst::new();
        packets.iter().for_each(|bytes| burst.push(packet(bytes)).unwrap());
        burst
    }

    #[test]
    fn what_one_end_transmits_the_other_receives_in_order() {
        let (mut left, mut right) = MemoryQueuePair::pair(MemoryLink::default());
        left.transmit(&mut burst(&[b"one", b"two"]));
        let mut received = Burst::new();
        assert_eq!(right.receive(&mut received), 2);
        assert_eq!(received.pop().unwrap().frame(0).unwrap().bytes(), b"one");
        assert_eq!(received.pop().unwrap().frame(0).unwrap().bytes(), b"two");
        assert_eq!(left.receive(&mut received), 0);
        assert_eq!((left.counters().transmitted_bytes, right.counters().received_bytes), (6, 6));
    }

    #[test]
    fn what_a_full_link_does_not_take_stays_behind_in_order() {
        let link = MemoryLink { capacity_packets: 1, ..MemoryLink::default() };
        let (mut left, right) = MemoryQueuePair::pair(link);
        let mut burst = burst(&[b"one", b"two", b"three"]);
        left.transmit(&mut burst);
        assert_eq!((burst.len(), right.waiting()), (2, 1));
        assert_eq!(burst.front().unwrap().frame(0).unwrap().bytes(), b"two");
    }

    #[test]
    fn a_packet_beyond_the_longest_is_counted_as_nic_tx_invalid() {
        let offloads = Offloads { max_packet_bytes: 4, ..Offloads::default() };
        let (mut left, right) = MemoryQueuePair::pair(MemoryLink { offloads, ..MemoryLink::default() });
        left.transmit(&mut burst(&[b"12345", b""]));
        assert_eq!((left.counters().nic_tx_invalid, right.waiting()), (2, 0));
    }
}
