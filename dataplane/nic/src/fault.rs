//! A queue pair that loses, delays, reorders, duplicates and corrupts, by a seed: the same seed and the same calls give
//! the same faults, packet by packet.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use crate::packet::{BURST_PACKETS, Burst, Frame, Packet};
use crate::{Offloads, QueueCounters, QueuePair};

/// Packets that one direction holds back at most; the next ones pass at once.
const HELD_MAX: usize = 1_024;

/// Turns after which a reordered packet goes on though nothing overtook it.
const REORDER_TURNS: u64 = 16;

/// How often what happens, in packets of a million. Each kind is drawn for itself, so that one packet can be duplicated
/// and corrupted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub drop_ppm: u32,
    pub duplicate_ppm: u32,
    /// One bit flips.
    pub corrupt_ppm: u32,
    /// One to `reorder_packets` later packets overtake it.
    pub reorder_ppm: u32,
    pub reorder_packets: u32,
    /// It waits one to `delay_turns` calls.
    pub delay_ppm: u32,
    pub delay_turns: u32,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    pub seed: u64,
    pub receive: Faults,
    pub transmit: Faults,
}

/// What was done to one direction.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounters {
    pub dropped: u64,
    pub duplicated: u64,
    pub corrupted: u64,
    pub reordered: u64,
    pub delayed: u64,
}

/// A pair and what happens between it and its user.
#[derive(Debug)]
pub struct Fault<Q> {
    pair: Q,
    inbound: Channel,
    outbound: Channel,
    /// Taken from the pair, or ready for it.
    received: Burst,
    leaving: Burst,
}

impl<Q: QueuePair> Fault<Q> {
    pub fn new(pair: Q, plan: FaultPlan) -> Self {
        Self {
            pair,
            inbound: Channel::new(plan.receive, plan.seed),
            // Another stream of the same seed: what is sent does not change what befalls the received.
            outbound: Channel::new(plan.transmit, !plan.seed),
            received: Burst::new(),
            leaving: Burst::new(),
        }
    }

    /// From the next packet on, other faults; the stream of random numbers goes on.
    pub fn set_faults(&mut self, receive: Faults, transmit: Faults) {
        self.inbound.faults = receive;
        self.outbound.faults = transmit;
    }

    /// Received and transmitted direction.
    pub fn fault_counters(&self) -> (FaultCounters, FaultCounters) {
        (self.inbound.counters, self.outbound.counters)
    }

    /// Packets held back or ready in both directions; zero when everything has arrived or died.
    pub fn pending(&self) -> usize {
        self.inbound.pending() + self.outbound.pending() + self.leaving.len()
    }
}

impl<Q: QueuePair> QueuePair for Fault<Q> {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        self.inbound.begin_turn();
        if self.inbound.has_room() {
            self.pair.receive(&mut self.received);
        }
        while let Some(packet) = self.received.pop() {
            self.inbound.admit(packet);
        }
        self.inbound.release(burst)
    }

    fn transmit(&mut self, burst: &mut Burst) {
        self.outbound.begin_turn();
        while self.outbound.has_room() {
            let Some(packet) = burst.pop() else { break };
            self.outbound.admit(packet);
        }
        // As many bursts as the pair takes.
        while self.outbound.release(&mut self.leaving) > 0 || !self.leaving.is_empty() {
            self.pair.transmit(&mut self.leaving);
            if !self.leaving.is_empty() {
                return;
            }
        }
        self.pair.transmit(&mut self.leaving);
    }

    fn frame(&mut self) -> Option<Frame> {
        self.pair.frame()
    }

    fn offloads(&self) -> Offloads {
        self.pair.offloads()
    }

    fn counters(&mut self) -> QueueCounters {
        self.pair.counters()
    }

    fn is_sending(&self) -> bool {
        self.pair.is_sending()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.pair.descriptor()
    }
}

/// One direction.
#[derive(Debug)]
struct Channel {
    faults: Faults,
    random: SplitMix64,
    turn: u64,
    held: Vec<Held>,
    /// Fate done, in the order of leaving.
    ready: VecDeque<Packet>,
    counters: FaultCounters,
}

#[derive(Debug)]
struct Held {
    packet: Packet,
    /// Leaves when the turn is reached, or when this many packets have overtaken it.
    until_turn: u64,
    overtakers: u32,
}

impl Channel {
    fn new(faults: Faults, seed: u64) -> Self {
        let random = SplitMix64(seed);
        Self {
            faults,
            random,
            turn: 0,
            held: Vec::new(),
            ready: VecDeque::new(),
            counters: FaultCounters::default(),
        }
    }

    fn begin_turn(&mut self) {
        self.turn += 1;
        let turn = self.turn;
        self.ready.extend(self.held.extract_if(.., |held| held.until_turn <= turn).map(|held| held.packet));
    }

    fn has_room(&self) -> bool {
        self.ready.len() < BURST_PACKETS
    }

    fn admit(&mut self, mut packet: Packet) {
        if self.happens(self.faults.drop_ppm) {
            self.counters.dropped += 1;
            return;
        }
        if self.happens(self.faults.duplicate_ppm) {
            self.counters.duplicated += 1;
            self.pass(packet.to_heap());
        }
        if self.happens(self.faults.corrupt_ppm) {
            self.counters.corrupted += 1;
            self.corrupt(&mut packet);
        }
        if self.happens(self.faults.delay_ppm) && self.held.len() < HELD_MAX {
            self.counters.delayed += 1;
            let turns = 1 + self.random.below(self.faults.delay_turns.max(1));
            self.hold(packet, u64::from(turns), u32::MAX);
        } else if self.happens(self.faults.reorder_ppm) && self.held.len() < HELD_MAX {
            self.counters.reordered += 1;
            let packets = 1 + self.random.below(self.faults.reorder_packets.max(1));
            self.hold(packet, REORDER_TURNS, packets);
        } else {
            self.pass(packet);
        }
    }

    fn hold(&mut self, packet: Packet, turns: u64, overtakers: u32) {
        self.held.push(Held { packet, until_turn: self.turn + turns, overtakers });
    }

    /// The packet goes on, and behind it those that it was the last to overtake.
    fn pass(&mut self, packet: Packet) {
        self.ready.push_back(packet);
        for held in &mut self.held {
            held.overtakers = held.overtakers.saturating_sub(u32::from(held.overtakers != u32::MAX));
        }
        self.ready.extend(self.held.extract_if(.., |held| held.overtakers == 0).map(|held| held.packet));
    }

    fn corrupt(&mut self, packet: &mut Packet) {
        let Ok(bytes) = u32::try_from(packet.len()) else { return };
        if bytes == 0 {
            return;
        }
        let mut at = self.random.below(bytes) as usize;
        let bit = self.random.below(8);
        for index in 0..packet.frames() {
            let Some(frame) = packet.frame_mut(index) else { return };
            match frame.bytes_mut().get_mut(at) {
                Some(byte) => return *byte ^= 1 << bit,
                None => at -= frame.len(),
            }
        }
    }

    /// Moves what is ready into `burst` until either runs out.
    fn release(&mut self, burst: &mut Burst) -> usize {
        let packets = burst.room().min(self.ready.len());
        for packet in self.ready.drain(..packets) {
            burst.push(packet).expect("no more is drained than the burst has room for");
        }
        packets
    }

    fn pending(&self) -> usize {
        self.held.len() + self.ready.len()
    }

    /// Draws only for what can happen: a plan without delays has the same drops as before delays were known.
    fn happens(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.random.below(1_000_000) < ppm
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): 64 bits of state, every seed a good one.
#[derive(Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Even enough for fault plans: the bias is below `bound` / 2^32.
    fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{MemoryLink, MemoryQueuePair};

    const ALWAYS: u32 = 1_000_000;

    fn packet(number: u32) -> Packet {
        let mut frame = Frame::heap(64);
        frame.append(&number.to_be_bytes());
        Packet::new(frame)
    }

    /// Sends `count` packets through a link with faults at the receiver and gives what arrived within enough turns.
    fn run(seed: u64, faults: Faults, count: u32) -> (Vec<Vec<u8>>, FaultCounters) {
        let (mut sender, receiver) = MemoryQueuePair::pair(MemoryLink::default());
        let mut receiver = Fault::new(receiver, FaultPlan { seed, receive: faults, ..FaultPlan::default() });
        let mut arrived = Vec::new();
        let (mut out, mut burst) = (Burst::new(), Burst::new());
        for number in 0..count {
            out.push(packet(number)).unwrap();
            sender.transmit(&mut out);
            receiver.receive(&mut burst);
            arrived.extend(
                std::iter::from_fn(|| burst.pop()).map(|packet| packet.frame(0).unwrap().bytes().to_vec()),
            );
        }
        while receiver.pending() > 0 {
            receiver.receive(&mut burst);
            arrived.extend(
                std::iter::from_fn(|| burst.pop()).map(|packet| packet.frame(0).unwrap().bytes().to_vec()),
            );
        }
        (arrived, receiver.fault_counters().0)
    }

    fn numbers(packets: &[Vec<u8>]) -> Vec<u32> {
        packets.iter().map(|bytes| u32::from_be_bytes(bytes.as_slice().try_into().unwrap())).collect()
    }

    #[test]
    fn without_faults_everything_arrives_in_order() {
        let (arrived, counters) = run(1, Faults::default(), 200);
        assert_eq!(numbers(&arrived), (0..200).collect::<Vec<_>>());
        assert_eq!(counters, FaultCounters::default());
    }

    #[test]
    fn one_seed_gives_the_same_faults_twice_and_another_gives_others() {
        let faults = Faults {
            drop_ppm: 50_000,
            duplicate_ppm: 50_000,
            corrupt_ppm: 50_000,
            reorder_ppm: 100_000,
            reorder_packets: 3,
            delay_ppm: 50_000,
            delay_turns: 5,
        };
        assert_eq!(run(7, faults, 500), run(7, faults, 500));
        assert_ne!(run(7, faults, 500).0, run(8, faults, 500).0);
        let (arrived, counters) = run(7, faults, 500);
        assert_eq!(arrived.len() as u64, 500 - counters.dropped + counters.duplicated);
    }

    #[test]
    fn drops_come_as_often_as_asked() {
        let (arrived, counters) = run(3, Faults { drop_ppm: 100_000, ..Faults::default() }, 10_000);
        assert!((900..1_100).contains(&counters.dropped), "{counters:?}");
        assert_eq!(arrived.len() as u64, 10_000 - counters.dropped);
    }

    #[test]
    fn a_reordered_packet_is_overtaken_and_arrives() {
        let faults = Faults { reorder_ppm: 200_000, reorder_packets: 2, ..Faults::default() };
        let (arrived, counters) = run(5, faults, 100);
        let mut sorted = numbers(&arrived);
        assert!(!sorted.is_sorted() && counters.reordered > 0);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_delayed_packet_waits_its_turns() {
        let (arrived, counters) =
            run(5, Faults { delay_ppm: ALWAYS, delay_turns: 1, ..Faults::default() }, 3);
        assert_eq!((numbers(&arrived), counters.delayed), (vec![0, 1, 2], 3));
    }

    #[test]
    fn corruption_flips_one_bit() {
        let (arrived, _) = run(9, Faults { corrupt_ppm: ALWAYS, ..Faults::default() }, 20);
        for (number, found) in (0u32..).zip(numbers(&arrived)) {
            assert_eq!((number ^ found).count_ones(), 1);
        }
    }

    #[test]
    fn transmitted_packets_suffer_too_and_what_the_pair_refuses_waits() {
        let link = MemoryLink { capacity_packets: 1, ..MemoryLink::default() };
        let (sender, mut receiver) = MemoryQueuePair::pair(link);
        let transmit = Faults { duplicate_ppm: ALWAYS, ..Faults::default() };
        let mut sender = Fault::new(sender, FaultPlan { transmit, ..FaultPlan::default() });
        let (mut out, mut burst) = (Burst::new(), Burst::new());
        out.push(packet(1)).unwrap();
        sender.transmit(&mut out);
        assert_eq!((receiver.receive(&mut burst), sender.pending()), (1, 1));
        sender.transmit(&mut out);
        assert_eq!((receiver.receive(&mut burst), sender.pending()), (1, 0));
    }
}
