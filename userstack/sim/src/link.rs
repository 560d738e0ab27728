//! A link: two pipes, each with a bandwidth, a delay, a queue, an MTU and faults of its own.
//!
//! ```text
//!   take ──▶ queue (bytes, tail drop) ──▶ serialised at the bandwidth ──▶ delay (+ reorder) ──▶ arrive
//!               │ QueueFull, Dark              │ Lost.., Corrupted, Duplicated, Marked..
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use nic::Packet;
use stack::Instant;

use crate::Random;
use crate::end::LinkEnd;
use crate::fault::{Bursts, LinkFaults};
use crate::trace::{Fate, Passage, Trace};
use crate::wire;

/// Shortest time on a wire: cause and effect never fall on one instant.
const MIN_DELAY: Duration = Duration::from_nanos(100);

/// A burst of losses does not outlast such a silence.
const LONGEST_GAP_IN_BURST: Duration = Duration::from_millis(200);

/// What both directions of a link are like.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    pub bits_per_second: u64,
    pub delay: Duration,
    /// Bytes that wait for the wire at most; more are lost (tail drop).
    pub queue_bytes: usize,
    /// Longest IP packet.
    pub mtu: u16,
    pub faults: LinkFaults,
}

/// 10 Gb/s, 50 us, 1 MB of queue, 1,500 B, no faults: two hosts of one rack.
impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            bits_per_second: 10_000_000_000,
            delay: Duration::from_micros(50),
            queue_bytes: 1_000_000,
            mtu: 1500,
            faults: LinkFaults::NONE,
        }
    }
}

/// Which of a link's two directions.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// From its first end to its second.
    Forth,
    Back,
}

/// Two ends and what lies between them.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: String,
    ends: [LinkEnd; 2],
    /// `pipes[i]` takes from `ends[i]` and arrives at the other.
    pipes: [Pipe; 2],
}

impl Link {
    pub(crate) fn new(name: &str, number: usize, config: LinkConfig, seed: u64) -> Self {
        let pipe = |direction: u64| {
            Pipe::new(config.clone(), Random::for_stream(seed, number as u64 * 2 + direction))
        };
        Self {
            name: name.to_owned(),
            ends: [LinkEnd::default(), LinkEnd::default()],
            pipes: [pipe(0), pipe(1)],
        }
    }

    pub(crate) fn ends(&self) -> (LinkEnd, LinkEnd) {
        (self.ends[0].clone(), self.ends[1].clone())
    }

    pub(crate) fn set_config(&mut self, config: &LinkConfig) {
        for pipe in &mut self.pipes {
            pipe.config = config.clone();
        }
    }

    /// Nothing gets through that way until then.
    pub(crate) fn darken(&mut self, way: Way, until: Instant) {
        self.pipes[way as usize].dark_until = until;
    }

    /// Puts what the nodes sent on the wire.
    pub(crate) fn take(&mut self, number: usize, now: Instant, trace: &mut Trace) {
        for direction in 0..2 {
            while let Some(packet) = self.ends[direction].take_sent() {
                let passage = Passage { at: now, link: number, direction };
                self.pipes[direction].take(packet, passage, trace);
            }
        }
    }

    /// Hands over what has arrived by `now`.
    pub(crate) fn deliver(&mut self, number: usize, now: Instant, trace: &mut Trace) {
        for direction in 0..2 {
            while let Some(packet) = self.pipes[direction].arrived(now) {
                if let Err(packet) = self.ends[1 - direction].arrive(packet) {
                    trace.note(&Passage { at: now, link: number, direction }, Fate::RingFull, &packet);
                }
            }
        }
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.pipes.iter().filter_map(Pipe::next_arrival).min()
    }
}

#[derive(Debug)]
struct Pipe {
    config: LinkConfig,
    random: Random,
    /// When the wire has sent all that was taken.
    busy_until: Instant,
    dark_until: Instant,
    in_burst: bool,
    /// The last packet that bursts were asked about.
    last_at: Instant,
    /// Packets since one was lost by count.
    counted: u32,
    /// By arrival, then by the order of sending.
    under_way: BTreeMap<(Instant, u64), Packet>,
    taken: u64,
}

impl Pipe {
    fn new(config: LinkConfig, random: Random) -> Self {
        assert!(config.bits_per_second > 0, "a link without bandwidth never carries a packet");
        Self {
            config,
            random,
            busy_until: Instant::ZERO,
            dark_until: Instant::ZERO,
            in_burst: false,
            last_at: Instant::ZERO,
            counted: 0,
            under_way: BTreeMap::new(),
            taken: 0,
        }
    }

    fn take(&mut self, mut packet: Packet, passage: Passage, trace: &mut Trace) {
        let len = packet.len();
        let waiting = self.waiting_bytes(passage.at);
        let mut fate = self.judge(len, waiting, passage.at);
        if fate == Fate::Carried {
            self.busy_until = self.busy_until.max(passage.at) + self.serialised(len);
            fate = self.misfortune(&mut packet, waiting, passage.at);
        }
        trace.note(&passage, fate, &packet);
        if fate.arrives() {
            self.send(packet, fate);
        }
    }

    fn waiting_bytes(&self, now: Instant) -> u128 {
        self.busy_until.since(now).as_nanos() * u128::from(self.config.bits_per_second) / 8_000_000_000
    }

    /// Whether the queue takes a packet of `len` bytes behind those that wait.
    fn judge(&self, len: usize, waiting: u128, now: Instant) -> Fate {
        if len > usize::from(self.config.mtu) + wire::MAX_ETHERNET_BYTES {
            return Fate::TooLong;
        }
        if now < self.dark_until {
            return Fate::Dark;
        }
        if waiting + len as u128 > self.config.queue_bytes as u128 { Fate::QueueFull } else { Fate::Carried }
    }

    /// What the seed has in store for a packet on the wire. One fault a packet.
    fn misfortune(&mut self, packet: &mut Packet, waiting: u128, now: Instant) -> Fate {
        let faults = self.config.faults;
        if self.random.chance(faults.loss_ppm) {
            return Fate::Lost;
        }
        if faults.bursts.is_some_and(|bursts| self.is_lost_in(bursts, now)) {
            return Fate::LostInBurst;
        }
        if self.is_counted_out(faults.lose_every) {
            return Fate::LostByCount;
        }
        if self.random.chance(faults.duplicate_ppm) {
            return Fate::Duplicated;
        }
        if self.random.chance(faults.corrupt_ppm) && self.flip_bit(packet) {
            return Fate::Corrupted;
        }
        let is_long = faults.mark_above_bytes > 0 && waiting > u128::from(faults.mark_above_bytes);
        if is_long && mark(packet) {
            return Fate::MarkedByQueue;
        }
        if self.random.chance(faults.mark_ppm) && mark(packet) {
            return Fate::Marked;
        }
        if self.random.chance(faults.reorder_ppm) {
            return Fate::Late;
        }
        Fate::Carried
    }

    /// One step of the channel, and the packet's chance in the state that it is then in. A burst is over when nothing was
    /// sent for a while: it is trouble of the channel and not of the packets.
    fn is_lost_in(&mut self, bursts: Bursts, now: Instant) -> bool {
        self.in_burst &= now.since(self.last_at) < LONGEST_GAP_IN_BURST;
        self.last_at = now;
        let turns = if self.in_burst { bursts.end_ppm } else { bursts.begin_ppm };
        self.in_burst ^= self.random.chance(turns);
        self.in_burst && self.random.chance(bursts.loss_ppm)
    }

    fn is_counted_out(&mut self, every: u32) -> bool {
        self.counted += 1;
        let out = every > 0 && self.counted >= every;
        if out {
            self.counted = 0;
        }
        out
    }

    fn flip_bit(&mut self, packet: &mut Packet) -> bool {
        let Some(frame) = packet.frame_mut(0) else { return false };
        let bytes = frame.bytes_mut();
        if bytes.len() <= wire::ETHERNET_BYTES || !wire::is_ip(bytes) {
            return false;
        }
        // No checksum covers the first words of an IPv6 header: a hop limit that shrank would be believed.
        let unprotected = if wire::ethertype(bytes) == wire::ETHERTYPE_IPV6 { 8 } else { 0 };
        let start = wire::ETHERNET_BYTES + unprotected;
        let Some(protected) = bytes.len().checked_sub(start).filter(|len| *len > 0) else { return false };
        let bit = self.random.below(8 * protected as u64) as usize;
        bytes[start + bit / 8] ^= 1 << (bit % 8);
        true
    }

    fn send(&mut self, packet: Packet, fate: Fate) {
        let on_time = self.busy_until + self.config.delay.max(MIN_DELAY);
        match fate {
            Fate::Late => {
                let late = on_time + self.lateness();
                self.put(late, packet);
            }
            Fate::Duplicated => {
                let late = on_time + self.lateness();
                self.put(late, packet.to_heap());
                self.put(on_time, packet);
            }
            _ => self.put(on_time, packet),
        }
    }

    fn put(&mut self, arrival: Instant, packet: Packet) {
        self.under_way.insert((arrival, self.taken), packet);
        self.taken += 1;
    }

    fn lateness(&mut self) -> Duration {
        let bound = u64::try_from(self.config.faults.reorder_delay.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.random.below(bound))
    }

    /// Time that `len` bytes take at the link's bandwidth.
    fn serialised(&self, len: usize) -> Duration {
        Duration::from_nanos(len as u64 * 8_000_000_000 / self.config.bits_per_second)
    }

    fn arrived(&mut self, now: Instant) -> Option<Packet> {
        self.next_arrival().filter(|arrival| *arrival <= now)?;
        self.under_way.pop_first().map(|(_, packet)| packet)
    }

    fn next_arrival(&self) -> Option<Instant> {
        self.under_way.first_key_value().map(|((arrival, _), _)| *arrival)
    }
}

/// False where the packet's ends would not understand it.
fn mark(packet: &mut Packet) -> bool {
    packet.frame_mut(0).is_some_and(|frame| wire::mark_congestion(frame.bytes_mut()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end::packet_of;

    const MBIT: u64 = 1_000_000;

    /// Sends `count` IPv4 packets of 1,000 bytes at once and gives the arrival times, in microseconds.
    fn arrivals(config: LinkConfig, count: usize) -> (Vec<u64>, Trace) {
        let mut trace = Trace::new();
        let mut link = Link::new("test", 0, config, 1);
        let (left, right) = link.ends();
        for _ in 0..count {
            left.send(&ipv4_packet()).expect("the ring takes what a test sends");
        }
        link.take(0, Instant::ZERO, &mut trace);
        let mut times = Vec::new();
        while let Some(next) = link.next_arrival() {
            link.deliver(0, next, &mut trace);
            while right.receive_one().is_some() {
                times.push(next.as_micros());
            }
        }
        (times, trace)
    }

    fn ipv4_packet() -> Vec<u8> {
        let mut bytes = vec![0; 1_000];
        bytes[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        bytes
    }

    fn faulty(faults: LinkFaults) -> LinkConfig {
        LinkConfig { faults, ..LinkConfig::default() }
    }

    #[test]
    fn packets_arrive_at_the_links_bandwidth_after_its_delay() {
        let config = LinkConfig {
            bits_per_second: 8 * MBIT,
            delay: Duration::from_millis(5),
            ..LinkConfig::default()
        };
        let (times, trace) = arrivals(config, 3);
        assert_eq!(times, [6_000, 7_000, 8_000]);
        assert_eq!(trace.count(Fate::Carried), 3);
    }

    #[test]
    fn what_the_queue_cannot_hold_is_lost() {
        let config = LinkConfig { bits_per_second: 8 * MBIT, queue_bytes: 2_000, ..LinkConfig::default() };
        let (times, trace) = arrivals(config, 5);
        assert_eq!(times.len(), 2);
        assert_eq!(trace.count(Fate::QueueFull), 3);
    }

    #[test]
    fn a_queue_marks_what_finds_it_long_and_only_what_understands_it() {
        let faults = LinkFaults { mark_above_bytes: 1_500, ..LinkFaults::NONE };
        let slow = LinkConfig { bits_per_second: 8 * MBIT, ..faulty(faults) };
        let marked = |packet: &[u8]| {
            let mut trace = Trace::new();
            let mut link = Link::new("test", 0, slow.clone(), 1);
            let (left, _right) = link.ends();
            (0..5).for_each(|_| left.send(packet).expect("the ring takes what a test sends"));
            link.take(0, Instant::ZERO, &mut trace);
            trace.count(Fate::MarkedByQueue)
        };
        let mut capable = ipv4_packet();
        capable[15] = 2;
        assert_eq!(marked(&capable), 3, "two find at most a packet before them");
        assert_eq!(marked(&ipv4_packet()), 0);
    }

    #[test]
    fn what_is_longer_than_the_mtu_is_lost() {
        let (times, trace) = arrivals(LinkConfig { mtu: 900, ..LinkConfig::default() }, 1);
        assert!(times.is_empty());
        assert_eq!(trace.count(Fate::TooLong), 1);
    }

    #[test]
    fn loss_takes_about_its_share() {
        let (times, trace) = arrivals(faulty(LinkFaults { loss_ppm: 100_000, ..LinkFaults::NONE }), 500);
        assert_eq!(times.len() as u64 + trace.count(Fate::Lost), 500);
        assert!((25..=75).contains(&trace.count(Fate::Lost)), "{} of 500", trace.count(Fate::Lost));
    }

    #[test]
    fn bursts_lose_neighbours_and_a_count_loses_every_so_manyth() {
        let bursts = Bursts { begin_ppm: 20_000, end_ppm: 200_000, loss_ppm: 1_000_000 };
        let (times, trace) = arrivals(faulty(LinkFaults { bursts: Some(bursts), ..LinkFaults::NONE }), 500);
        assert_eq!(times.len() as u64 + trace.count(Fate::LostInBurst), 500);
        assert!((10..=150).contains(&trace.count(Fate::LostInBurst)), "{}", trace.count(Fate::LostInBurst));
        let (times, trace) = arrivals(faulty(LinkFaults { lose_every: 10, ..LinkFaults::NONE }), 500);
        assert_eq!((times.len(), trace.count(Fate::LostByCount)), (450, 50));
    }

    #[test]
    fn a_dark_direction_loses_all_until_its_time_is_over() {
        let mut trace = Trace::new();
        let mut link = Link::new("test", 0, LinkConfig::default(), 1);
        let (left, right) = link.ends();
        link.darken(Way::Forth, Instant::ZERO + Duration::from_millis(1));
        for millis in 0..2 {
            left.send(&ipv4_packet()).expect("the ring is empty");
            right.send(&ipv4_packet()).expect("the ring is empty");
            link.take(0, Instant::ZERO + Duration::from_millis(millis), &mut trace);
        }
        assert_eq!((trace.count(Fate::Dark), trace.count(Fate::Carried)), (1, 3));
    }

    #[test]
    fn a_duplicate_arrives_twice_and_a_late_one_is_overtaken() {
        let delay = Duration::from_millis(1);
        let plan = LinkFaults { duplicate_ppm: 1_000_000, reorder_delay: delay, ..LinkFaults::NONE };
        assert_eq!(arrivals(faulty(plan), 10).0.len(), 20);
        let plan = LinkFaults { reorder_ppm: 500_000, reorder_delay: delay, ..LinkFaults::NONE };
        let (times, trace) = arrivals(faulty(plan), 100);
        assert_eq!(times.len(), 100);
        assert!(trace.count(Fate::Late) > 0);
    }

    #[test]
    fn corruption_flips_one_bit_behind_the_ethernet_header() {
        let mut trace = Trace::new();
        let mut link =
            Link::new("test", 0, faulty(LinkFaults { corrupt_ppm: 1_000_000, ..LinkFaults::NONE }), 3);
        let (left, right) = link.ends();
        left.send(&ipv4_packet()).expect("the ring is empty");
        link.take(0, Instant::ZERO, &mut trace);
        link.deliver(0, Instant::ZERO + Duration::from_secs(1), &mut trace);
        let packet = right.receive_one().expect("a corrupted packet arrives");
        let (sent, got) = (ipv4_packet(), packet.frame(0).expect("a packet has a frame").bytes());
        let flipped: u32 = sent.iter().zip(got).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!(flipped, 1);
        assert_eq!(sent[..ETHERNET], got[..ETHERNET]);
    }

    const ETHERNET: usize = wire::ETHERNET_BYTES;

    #[test]
    fn a_packet_longer_than_a_frame_is_a_chain_with_the_same_bytes() {
        let bytes: Vec<u8> = (0..20_000u32).map(|index| index as u8).collect();
        let packet = packet_of(&[&bytes[..100], &bytes[100..]]);
        assert_eq!(packet.frames(), 6);
        let together: Vec<u8> =
            (0..packet.frames()).flat_map(|i| packet.frame(i).expect("counted").bytes().to_vec()).collect();
        assert_eq!(together, bytes);
    }
}
