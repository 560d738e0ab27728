//! How long datagrams wait for the core while a thousand connections arrive: what the budgets of a turn are set by.
//!
//! The clock is the core's own time: it goes on by what each turn took (the thread's processor time, so that other
//! programs do not count) and by what the kernel takes for a packet. Everybody else costs no time.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use nic::{Burst, Frame, Offloads, Packet, QueueCounters, QueuePair};
use rustix::time::{ClockId, clock_gettime};
use socket::{TcpOptions, TcpStream};
use worker::{Instant, Worker};

use super::{BACKEND, CLIENT, GATE, GATE_TO_BACKEND, Host, Progress, UDP_PORT, WAITS_PORT, gate, publish};
use crate::packets::{self, Ends};
use crate::scene::{Keeper, Wire, attach, know, mac, packet, worker};
use proxy::{Proxy, ProxyConfig};

/// 50,000 datagrams a second, evenly.
const DATAGRAM_EVERY: Duration = Duration::from_micros(20);
/// As the measuring rig's W6.
const DATAGRAM_BYTES: usize = 172;
/// Connections come as fast as one client's kernel opens them, and as fast as many clients' do.
pub const CONNECTIONS_EVERY: [Duration; 2] = [Duration::from_micros(10), Duration::from_micros(1)];
const CONNECTIONS: u32 = 1_000;
/// Of the calm stream, before the connections come.
const CALM: Duration = Duration::from_millis(200);
/// What the kernel takes of the core for a packet in copy mode, each way: the rig's W6 is 1.9 us a packet there and
/// back, of which a quarter is ours.
const KERNEL_A_PACKET: Duration = Duration::from_nanos(700);
/// A task's share, as the daemon sets it, and how often it looks.
const TASKS_SHARE: Duration = Duration::from_micros(50);
const POLLS_PER_LOOK: u32 = 4;

/// What datagrams waited, from their arrival to their being sent on.
#[derive(Copy, Clone, Debug)]
pub struct Waits {
    /// One connection came so often.
    pub every: Duration,
    pub calm_p99: Duration,
    pub busy_p99: Duration,
    pub busy_longest: Duration,
    /// From the first connection to the last answer.
    pub busy: Duration,
}

/// The core's time: what it has spent, and since when a turn is under way.
#[derive(Debug)]
struct Ledger {
    now: Instant,
    turn_began: Duration,
    kernel: Duration,
    /// When each datagram left, by its number.
    left: Vec<Instant>,
}

type Shared = Rc<RefCell<Ledger>>;

impl Ledger {
    fn within_turn(&self) -> Instant {
        self.now + (processor_time() - self.turn_began) + self.kernel
    }

    fn pay(&mut self, packets: usize) {
        self.kernel += KERNEL_A_PACKET * u32::try_from(packets).unwrap_or(u32::MAX);
    }
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A wire whose packets cost what the kernel takes for them.
#[derive(Debug)]
struct Priced {
    wire: Wire,
    ledger: Shared,
}

impl QueuePair for Priced {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let packets = self.wire.receive(burst);
        self.ledger.borrow_mut().pay(packets);
        packets
    }

    fn transmit(&mut self, burst: &mut Burst) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.pay(burst.len());
        let at = ledger.within_turn();
        ledger.left.extend(burst.iter().filter(|packet| is_datagram(packet)).map(|_| at));
        self.wire.transmit(burst);
    }

    fn frame(&mut self) -> Option<Frame> {
        self.wire.frame()
    }

    fn offloads(&self) -> Offloads {
        self.wire.offloads()
    }

    fn counters(&mut self) -> QueueCounters {
        self.wire.counters()
    }
}

/// Of the stream: it is in order, so that the n-th that leaves is the n-th that came.
fn is_datagram(packet: &Packet) -> bool {
    const PROTOCOL_AT: usize = 23;
    const UDP: u8 = 17;
    packet.frame(0).is_some_and(|frame| frame.bytes().get(PROTOCOL_AT) == Some(&UDP))
}

struct Scene {
    client: Worker<Host>,
    gateway: Worker<Proxy>,
    front: Keeper,
    /// Of the other ends from which somebody sends.
    senders: [Keeper; 2],
    /// Where the datagrams come out.
    sink: Keeper,
    ledger: Shared,
    datagram: Vec<u8>,
    came: Vec<Instant>,
    next_datagram: Instant,
    busy: bool,
}

/// A calm stream, then the same while a thousand connections come, each with a request.
pub fn beside_new_connections(every: Duration) -> Waits {
    let mut scene = Scene::new();
    let begun = scene.now() + CALM / 10;
    scene.run(|scene| scene.now() >= begun + CALM);
    let (calm_from, calm_to) = (scene.since(begun), scene.came.len());
    let busy_begun = scene.now();
    let answers = Progress::default();
    let mut opened = 0;
    scene.run(|scene| {
        while opened < CONNECTIONS && busy_begun + every * opened <= scene.now() {
            scene.client.core.spawn(visit(Rc::clone(&answers)));
            opened += 1;
        }
        answers.get() == u64::from(CONNECTIONS)
    });
    let busy = scene.now().since(busy_begun);
    let busy_to = scene.came.len();
    scene.run(|scene| scene.ledger.borrow().left.len() >= busy_to);
    let calm = scene.waits(calm_from, calm_to);
    let busy_waits = scene.waits(calm_to, busy_to);
    Waits {
        every,
        calm_p99: p99(&calm),
        busy_p99: p99(&busy_waits),
        busy_longest: busy_waits[busy_waits.len() - 1],
        busy,
    }
}

fn p99(sorted: &[Duration]) -> Duration {
    sorted[sorted.len() * 99 / 100]
}

async fn visit(answers: Progress) {
    let stream =
        TcpStream::connect(gate(WAITS_PORT), None, TcpOptions::default()).await.expect("the gateway listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: many\r\n\r\n").await.expect("the connection lives");
    let mut answer = [0; 512];
    let read = stream.read(&mut answer).await.expect("the connection lives");
    assert!(answer[..read].starts_with(b"HTTP/1.1 500 "), "a rule without backends");
    answers.set(answers.get() + 1);
    std::future::pending::<()>().await;
}

impl Scene {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let ledger = Rc::new(RefCell::new(Ledger {
            now,
            turn_began: Duration::ZERO,
            kernel: Duration::ZERO,
            left: Vec::new(),
        }));
        let mut client = worker(Host, 1, now);
        let mut gateway = worker(Proxy::new(ProxyConfig::default()), 2, now);
        let (client_end, front) = Wire::pair();
        let (back, far) = Wire::pair();
        let (front_keeper, sink) = (front.keeper(), far.keeper());
        let senders = [client_end.keeper(), back.keeper()];
        let priced = |wire| Priced { wire, ledger: Rc::clone(&ledger) };
        attach(&mut client, 0, (CLIENT, 24), client_end, now);
        attach(&mut gateway, 0, (GATE, 24), priced(front), now);
        attach(&mut gateway, 1, (GATE_TO_BACKEND, 24), priced(back), now);
        know(&mut client, 0, GATE, now);
        know(&mut gateway, 0, CLIENT, now);
        know(&mut gateway, 1, BACKEND, now);
        publish(&mut gateway, now);
        let ends = Ends {
            from_mac: mac(CLIENT),
            to_mac: mac(GATE),
            from: SocketAddr::new(CLIENT, 7_000),
            to: gate(UDP_PORT),
        };
        let datagram = packets::udp(&ends, &[7; DATAGRAM_BYTES]);
        let (came, next_datagram) = (Vec::new(), now);
        let front = front_keeper;
        Self { client, gateway, front, senders, sink, ledger, datagram, came, next_datagram, busy: true }
    }

    fn now(&self) -> Instant {
        self.ledger.borrow().now
    }

    /// The first datagram that came then or later.
    fn since(&self, then: Instant) -> usize {
        self.came.partition_point(|&came| came < then)
    }

    fn run(&mut self, mut is_over: impl FnMut(&mut Self) -> bool) {
        while !is_over(self) {
            self.deliver();
            self.turn_gateway();
        }
    }

    /// What has come by now lies on the gateway's rings; without work the time is that of the next arrival.
    fn deliver(&mut self) {
        let now = self.now();
        while self.next_datagram <= now {
            self.front.give(packet(&self.datagram));
            self.came.push(self.next_datagram);
            self.next_datagram = self.next_datagram + DATAGRAM_EVERY;
        }
        self.senders.iter().for_each(Keeper::refill);
        self.front.refill();
        self.sink.drain();
        self.client.wake_ports();
        self.client.turn(now, &mut || false);
        let idle = !self.busy && self.front.waiting() == 0 && !self.gateway.core.has_ready();
        if idle {
            self.ledger.borrow_mut().now = now + Duration::from_micros(1);
        }
    }

    fn turn_gateway(&mut self) {
        let now = {
            let mut ledger = self.ledger.borrow_mut();
            (ledger.turn_began, ledger.kernel) = (processor_time(), Duration::ZERO);
            ledger.now
        };
        self.gateway.wake_ports();
        let (mut polls, mut share_began) = (0, None);
        self.busy = self.gateway.turn(now, &mut || {
            polls += 1;
            let spent = processor_time();
            polls % POLLS_PER_LOOK == 0 && spent - *share_began.get_or_insert(spent) > TASKS_SHARE
        });
        let mut ledger = self.ledger.borrow_mut();
        ledger.now = ledger.within_turn();
    }

    fn waits(&self, from: usize, to: usize) -> Vec<Duration> {
        let ledger = self.ledger.borrow();
        let mut waits: Vec<Duration> = (from..to).map(|at| ledger.left[at].since(self.came[at])).collect();
        waits.sort_unstable();
        waits
    }
}
