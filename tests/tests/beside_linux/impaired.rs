//! A link that loses, delays and queues: a tap at each end, and a thread between them.
//!
//! ```text
//!   client: tap ── relay thread ── tap ── bridge ── veth ═══ the server's interface
//! ```
//!
//! What is lost depends on a seed, the direction and a packet's number alone, so both systems meet one pattern. Packets
//! without TCP text are counted and lost as all others are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nic::{Burst, Frame, Packet, QueuePair, TapQueuePair};
use tests::Namespace;

/// Between two looks at empty taps: a fortieth of the delay.
const PAUSE: Duration = Duration::from_micros(50);

/// One direction of the link; both are alike.
#[derive(Copy, Clone, Debug)]
pub struct Impairment {
    pub seed: u64,
    /// Packets lost of a million.
    pub lost_per_million: u64,
    pub bits_per_second: u64,
    pub delay: Duration,
    /// What waits to be sent at most; more is dropped at the tail.
    pub queue_bytes: usize,
}

/// What the thread is told and tells.
#[derive(Debug, Default)]
struct Desk {
    ends: AtomicBool,
    /// The settings changed: by this number, so that a new run begins with the pattern's first packet.
    run: AtomicU64,
    seed: AtomicU64,
    lost_per_million: AtomicU64,
    /// Packets of this run that came, and that were lost by the pattern.
    came: AtomicU64,
    lost: AtomicU64,
}

/// The link of one server; gone when it is dropped.
#[derive(Debug)]
pub struct Link {
    desk: Arc<Desk>,
    relay: Option<JoinHandle<()>>,
    _switch: Namespace,
}

impl Link {
    /// Joins a new tap `near` of the client to a new interface `far` of the server's namespace.
    pub fn lay(client: &Namespace, near: &str, server: &Namespace, far: &str, shape: Impairment) -> Self {
        let switch = Namespace::new();
        switch.connect("out", server, far);
        let access = client.within(|| TapQueuePair::open(near)).expect("the client's tap can be made");
        let port = switch.within(|| TapQueuePair::open("port")).expect("the switch's tap can be made");
        switch.run(
            "ip link add switch0 type bridge stp_state 0 mcast_snooping 0; \
             for i in out port switch0; do ip link set dev $i addrgenmode none; done; \
             ip link set dev out master switch0; ip link set dev port master switch0; \
             ip link set dev port up; ip link set dev switch0 up",
        );
        client.run(&format!("ip link set {near} up"));
        let desk = Arc::<Desk>::default();
        let relay = thread::spawn({
            let desk = Arc::clone(&desk);
            move || relay(access, port, shape, &desk)
        });
        let link = Self { desk, relay: Some(relay), _switch: switch };
        link.begin(shape.seed, shape.lost_per_million);
        link
    }

    /// The next run: its pattern starts anew.
    pub fn begin(&self, seed: u64, lost_per_million: u64) {
        self.desk.seed.store(seed, Ordering::Relaxed);
        self.desk.lost_per_million.store(lost_per_million, Ordering::Relaxed);
        self.desk.came.store(0, Ordering::Relaxed);
        self.desk.lost.store(0, Ordering::Relaxed);
        self.desk.run.fetch_add(1, Ordering::Release);
    }

    /// Packets of this run that came, and those of them that were lost by the pattern.
    pub fn counts(&self) -> (u64, u64) {
        (self.desk.came.load(Ordering::Relaxed), self.desk.lost.load(Ordering::Relaxed))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.desk.ends.store(true, Ordering::Relaxed);
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

/// One direction: what is on its way.
#[derive(Debug)]
struct Pipe {
    number: u64,
    packets: u64,
    free_at: Instant,
    /// When each is there, and when it has left the queue.
    on_the_way: VecDeque<(Instant, Instant, Vec<u8>)>,
}

impl Pipe {
    fn new(number: u64) -> Self {
        Self { number, packets: 0, free_at: Instant::now(), on_the_way: VecDeque::new() }
    }

    fn take(&mut self, frame: &[u8], shape: &Impairment, desk: &Desk, now: Instant) {
        self.packets += 1;
        desk.came.fetch_add(1, Ordering::Relaxed);
        let seed = desk.seed.load(Ordering::Relaxed);
        let draw = mix(seed ^ (self.number << 62) ^ self.packets) % 1_000_000;
        if draw < desk.lost_per_million.load(Ordering::Relaxed) {
            desk.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let waiting = self.on_the_way.iter().rev().take_while(|(_, left, _)| *left > now);
        if waiting.map(|(.., frame)| frame.len()).sum::<usize>() + frame.len() > shape.queue_bytes {
            return;
        }
        let serialized = Duration::from_nanos(frame.len() as u64 * 8 * 1_000_000_000 / shape.bits_per_second);
        self.free_at = self.free_at.max(now) + serialized;
        self.on_the_way.push_back((self.free_at + shape.delay, self.free_at, frame.to_vec()));
    }

    fn give(&mut self, to: &mut TapQueuePair, now: Instant) -> bool {
        let mut due = Burst::new();
        while due.room() > 0
            && let Some((there, ..)) = self.on_the_way.front()
            && *there <= now
        {
            let (.., bytes) = self.on_the_way.pop_front().expect("there is a first");
            let mut frame = Frame::heap(bytes.len());
            frame.append(&bytes);
            due.push(Packet::new(frame)).expect("there is room");
        }
        let any = !due.is_empty();
        while !due.is_empty() {
            to.transmit(&mut due);
        }
        any
    }
}

fn relay(mut access: TapQueuePair, mut port: TapQueuePair, shape: Impairment, desk: &Desk) {
    let (mut out, mut back) = (Pipe::new(0), Pipe::new(1));
    let mut run = 0;
    while !desk.ends.load(Ordering::Relaxed) {
        let current = desk.run.load(Ordering::Acquire);
        if current != run {
            run = current;
            (out.packets, back.packets) = (0, 0);
        }
        let mut any = false;
        for (pipe, from) in [(&mut out, &mut access), (&mut back, &mut port)] {
            let mut burst = Burst::new();
            any |= from.receive(&mut burst) > 0;
            let now = Instant::now();
            while let Some(packet) = burst.pop() {
                if let Some(frame) = packet.frame(0) {
                    pipe.take(frame.bytes(), &shape, desk, now);
                }
            }
        }
        let now = Instant::now();
        any |= out.give(&mut port, now);
        any |= back.give(&mut access, now);
        if !any {
            thread::sleep(PAUSE);
        }
    }
}

/// SplitMix64's last step: neighbouring numbers give unlike draws.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
