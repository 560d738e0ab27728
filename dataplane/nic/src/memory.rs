//! Two queue pairs back to back in one thread's memory: what one transmits the other receives. For the simulator and
//! tests.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::rc::Rc;

use crate::cut::{cut, pieces};
use crate::packet::{Burst, FRAME_BYTES, Frame, MAX_FRAMES, Packet};
use crate::{Large, Offloads, QueueCounters, QueuePair};

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

    /// Cuts at once: what is on the wire is finished.
    fn transmit_large(
        &mut self,
        before: &mut Burst,
        headers: &[u8],
        text: [&[u8]; 2],
        segment_bytes: Option<NonZeroU16>,
    ) -> Large {
        let Some(segment_bytes) = segment_bytes.filter(|_| self.link.offloads.cuts_tcp) else {
            return Large::Refused;
        };
        self.transmit(before);
        let mut wire = self.outbound.borrow_mut();
        if !before.is_empty() || wire.len() + pieces(text, segment_bytes) > self.link.capacity_packets {
            return Large::Full;
        }
        let counters = &mut self.counters;
        let taken = cut(headers, text, segment_bytes, |own, [first, second]| {
            let mut frame = Frame::heap(own.len() + first.len() + second.len());
            [own, first, second].iter().for_each(|part| {
                frame.append(part);
            });
            counters.transmitted_packets += 1;
            counters.merged_packets += 1;
            counters.transmitted_bytes += frame.len() as u64;
            wire.push_back(Packet::new(frame));
        });
        if taken { Large::Taken } else { Large::Refused }
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

    /// Ethernet, IPv4 and TCP of a packet with 250 bytes of text.
    fn headers() -> Vec<u8> {
        let mut headers = [&[2; 12][..], &[8, 0, 0x45, 0, 1, 34, 0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
        headers.extend([10, 0, 0, 1, 10, 0, 0, 2, 0, 80, 19, 136, 0, 0, 0, 7, 0, 0, 0, 9]);
        headers.extend([5 << 4, 0x18, 1, 0, 0, 0, 0, 0]);
        headers
    }

    #[test]
    fn segments_of_one_long_packet_arrive_as_if_each_had_been_sent() {
        let offloads = Offloads { cuts_tcp: true, ..MemoryLink::default().offloads };
        let (mut left, mut right) = MemoryQueuePair::pair(MemoryLink { capacity_packets: 5, offloads });
        let (segment, text) = (NonZeroU16::new(100), [7; 250]);
        let mut before = burst(&[b"one", b"two"]);
        let taken = left.transmit_large(&mut before, &headers(), [&text[..130], &text[130..]], segment);
        assert_eq!((taken, before.len()), (Large::Taken, 0));
        assert_eq!(
            left.transmit_large(&mut before, &headers(), [&text, &[]], segment),
            Large::Full,
            "there is no room for all of it"
        );
        let mut received = Burst::new();
        right.receive(&mut received);
        let lengths: Vec<usize> = received.iter().map(Packet::len).collect();
        assert_eq!(lengths, [3, 3, 54 + 100, 54 + 100, 54 + 50]);
        let numbers: Vec<u8> = received.iter().skip(2).map(|p| p.frame(0).unwrap().bytes()[41]).collect();
        assert_eq!(numbers, [7, 107, 207]);
        assert_eq!((left.counters().transmitted_packets, left.counters().merged_packets), (5, 3));
    }

    #[test]
    fn a_link_that_promised_nothing_takes_no_long_packet() {
        let (mut left, right) = MemoryQueuePair::pair(MemoryLink::default());
        let taken =
            left.transmit_large(&mut Burst::new(), &headers(), [&[7; 250], &[]], NonZeroU16::new(100));
        assert_eq!((taken, right.waiting()), (Large::Refused, 0));
    }
}
