//! Plays a plan: builds its network, lets its tasks and faults happen, holds the model against what was seen, and waits
//! until nothing is left.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use stack::{Config, Instant, TcpHoldings};

use super::liar::{self, Character, Desk, Liar};
use super::model::Model;
use super::plan::{Family, Fault, PORTS, Path, Plan, Side};
use super::reached::{Reached, SeenStates};
use super::talk::{self, Stage};
use crate::pair;
use crate::{
    Address, Bursts, Clock, Fate, HostPair, LinkConfig, LinkFaults, Network, PairConfig, Random, Way,
};

/// Half-closed connections are held for hours; whoever has not ended then never will.
const PLAY_LIMIT: Duration = Duration::from_secs(12 * 3600);
/// Then: TIME-WAIT, lingering and the last retransmissions of orphans.
const REST_LIMIT: Duration = Duration::from_secs(3600);
/// Which states connections are in is looked at every so often: each look visits all of them.
const STEPS_PER_LOOK: u32 = 16;
/// Instants at which something happens; a thousand times what a seed needs.
const MOST_STEPS: u32 = 3_000_000;
/// The links' names and their place at the router (see [`HostPair`]).
const LINKS: [&str; 2] = ["client", "server"];
/// The subnets behind the router, by [`Side`], and a liar's.
const SUBNETS: [u8; 2] = [pair::CLIENT, pair::SERVER];
const LIAR: u8 = 3;
/// Who scribbles on a link, in its subnet.
const SCRIBBLER: u8 = 9;
/// Frames that are scribbled at once: no more than a ring takes.
const SCRIBBLES: usize = 100;
const SCRIBBLE_EVERY: Duration = Duration::from_millis(20);
const KEPT_PACKETS: usize = 200_000;
const KEPT_BYTES: u32 = 128;

/// What came of a plan.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first promise that was broken.
    pub failure: Option<String>,
    pub trace_hash: u64,
    pub packets: u64,
    pub reached: Reached,
    pub capture: Option<Capture>,
}

/// The packets of a play: as a pcapng file and as text, a line each.
#[derive(Clone, Debug)]
pub struct Capture {
    pub pcapng: Vec<u8>,
    pub text: String,
}

/// As [`play`], and a panic of the system is a failure like any other.
pub fn attempt(plan: &Plan) -> Outcome {
    let played = std::panic::catch_unwind(AssertUnwindSafe(|| play(plan, false)));
    played.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        let text = text.or(cause.downcast_ref::<&str>().copied()).unwrap_or("without a word");
        Outcome {
            failure: Some(format!("panicked: {text}")),
            trace_hash: 0,
            packets: 0,
            reached: Reached::default(),
            capture: None,
        }
    })
}

/// Plays a plan to its end. With `capture` the packets are kept.
pub fn play(plan: &Plan, capture: bool) -> Outcome {
    let mut play = Play::new(plan);
    if capture {
        play.pair.network.trace_mut().keep(KEPT_PACKETS, KEPT_BYTES);
    }
    play.run();
    play.rest();
    play.outcome(capture)
}

struct Play {
    plan: Rc<Plan>,
    pair: HostPair,
    stage: Stage,
    reached: Reached,
    random: Random,
    steps: u32,
    liar: Option<Rc<RefCell<Liar>>>,
    /// Frames that are yet to be scribbled, the last first, and where.
    scribbles: Vec<(Side, Vec<u8>)>,
    /// What has yet to happen, the last first.
    due: Vec<(Instant, Happening)>,
}

/// A timed fault, or its end.
#[derive(Copy, Clone, Debug)]
enum Happening {
    Begin(Fault),
    Widen(Side),
    Scribble,
    /// The server's link carries packets of that length.
    Carry(u16),
}

impl Play {
    fn new(plan: &Plan) -> Self {
        let stack = |side| Config { memory_budget_bytes: plan.memory_bytes(side), ..Config::default() };
        let (client, server) = (stack(Side::Client), stack(Side::Server));
        let config = PairConfig { link: link(plan), client, server, ..PairConfig::default() };
        let mut pair = HostPair::with(plan.seed, config);
        // Of four seeds, one has cards on both sides that cut long packets, and one on neither.
        pair.client.borrow_mut().set_segmentation(plan.seed & 1 != 0);
        pair.server.borrow_mut().set_segmentation(plan.seed & 2 != 0);
        pair.network.set_link(LINKS[1], &uncorrupted(link(plan)));
        let addresses = Side::BOTH.map(|side| {
            [Family::V4, Family::V6].map(|family| {
                let family = if family == Family::V4 { Address::V4 } else { Address::V6 };
                match side {
                    Side::Client => pair.client_address(family),
                    Side::Server => pair.server_address(family),
                }
            })
        });
        let plan = Rc::new(plan.clone());
        let model = Rc::new(RefCell::new(Model::new(&plan)));
        let stage = Stage {
            model,
            plan: Rc::clone(&plan),
            addresses,
            liar: Address::BOTH.map(|family| pair::address(family, LIAR, pair::END_HOST)),
            listeners: Rc::default(),
        };
        let random = Random::for_stream(plan.seed, u64::from_be_bytes(*b"the play"));
        let mut play = Self {
            plan,
            pair,
            stage,
            reached: Reached::default(),
            random,
            steps: 0,
            liar: None,
            scribbles: Vec::new(),
            due: Vec::new(),
        };
        play.set_faults();
        for side in Side::BOTH {
            play.begin(side);
        }
        play
    }

    fn host(&self, side: Side) -> &Rc<RefCell<crate::Host>> {
        match side {
            Side::Client => &self.pair.client,
            Side::Server => &self.pair.server,
        }
    }

    fn begin(&self, side: Side) {
        let stage = self.stage.clone();
        let mut host = self.host(side).borrow_mut();
        host.enter(|| talk::begin(&stage, side));
        host.run_tasks();
    }

    fn set_faults(&mut self) {
        let now = self.pair.network.now();
        for fault in self.plan.faults.clone() {
            match fault {
                Fault::Drift { side, ahead_ms, ppm } => {
                    let clock = Clock { ahead: Duration::from_millis(u64::from(ahead_ms)), drift_ppm: ppm };
                    self.host(side).borrow_mut().set_clock(clock, now);
                    self.reached.fault(fault.name());
                }
                Fault::Narrow { at_ms, .. }
                | Fault::Blackout { at_ms, .. }
                | Fault::Stall { at_ms, .. }
                | Fault::Scribble { at_ms, .. }
                | Fault::Hole { at_ms, .. }
                | Fault::Restart { at_ms, .. } => {
                    let at = now + Duration::from_millis(u64::from(at_ms));
                    self.due.push((at, Happening::Begin(fault)));
                }
                Fault::Liar { calls, lies_ppm, .. } => {
                    self.add_liar(Character { calls, lies_ppm });
                    self.reached.fault(fault.name());
                }
                _ => self.reached.fault(fault.name()),
            }
        }
        self.due.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }

    /// A third host behind the router.
    fn add_liar(&mut self, character: Character) {
        let (end, far) = self.pair.network.link("liar", uncorrupted(link(&self.plan)));
        pair::join_router(&self.pair.router, LIAR, far, LinkConfig::default().mtu);
        let ports = (0..PORTS as u16).map(|port| talk::FIRST_PORT + port);
        let addresses = self.stage.addresses.iter().flatten();
        let home = liar::Home {
            mac: pair::mac(LIAR, pair::END_HOST),
            router: pair::mac(LIAR, pair::ROUTER_HOST),
            addresses: self.stage.liar,
            victims: addresses.flat_map(|to| ports.clone().map(|port| SocketAddr::new(*to, port))).collect(),
        };
        let liar = Rc::new(RefCell::new(Liar::new(home, end, character, self.plan.seed)));
        self.pair.network.add(Rc::clone(&liar));
        self.liar = Some(liar);
    }

    /// Until every conversation is over, or something is wrong.
    fn run(&mut self) {
        let end = self.pair.network.now() + PLAY_LIMIT;
        loop {
            let now = self.pair.network.now();
            while let Some((_, happening)) = self.due.pop_if(|(at, _)| *at <= now) {
                self.happen(happening, now);
            }
            let next = self.due.last().map_or(end, |(at, _)| *at);
            let model = Rc::clone(&self.stage.model);
            let over = self.watch(next.since(now), move || {
                model.borrow().failure().is_some() || model.borrow().all_over()
            });
            if over {
                return;
            }
            if self.pair.network.now() >= end {
                let mut model = self.stage.model.borrow_mut();
                let unfinished = model.unfinished();
                return model.fail(format!("conversations do not end:\n{unfinished}"));
            }
        }
    }

    /// Lets time go by, and sees which states the connections are in.
    fn watch(&mut self, limit: Duration, mut over: impl FnMut() -> bool) -> bool {
        let hosts = Side::BOTH.map(|side| Rc::clone(self.host(side)));
        let mut steps = self.steps;
        let mut seen = SeenStates::default();
        let held = self.pair.network.run_until(limit, || {
            steps += 1;
            if steps.is_multiple_of(STEPS_PER_LOOK) {
                hosts.iter().for_each(|host| look_at_states(&mut host.borrow_mut(), &mut seen));
            }
            steps >= MOST_STEPS || over()
        });
        self.steps = steps;
        self.reached.states(seen);
        if steps >= MOST_STEPS {
            self.stage.model.borrow_mut().fail("the hosts are never idle: somebody is woken for nothing");
        }
        held
    }

    fn happen(&mut self, happening: Happening, now: Instant) {
        let fault = match happening {
            Happening::Begin(fault) => fault,
            Happening::Widen(side) => {
                return self.pair.router.borrow_mut().set_mtu(side as usize, LinkConfig::default().mtu);
            }
            Happening::Scribble => return self.scribble(now),
            Happening::Carry(mtu) => return self.carry(mtu),
        };
        self.reached.fault(fault.name());
        let millis = |millis: u32| Duration::from_millis(u64::from(millis));
        match fault {
            Fault::Narrow { towards, for_ms, mtu, .. } => {
                self.pair.router.borrow_mut().set_mtu(towards as usize, mtu);
                self.plan_ahead(now + millis(for_ms), Happening::Widen(towards));
            }
            Fault::Blackout { side, outwards, for_ms, .. } => {
                let way = if outwards { Way::Forth } else { Way::Back };
                self.pair.network.darken(LINKS[side as usize], way, millis(for_ms));
            }
            Fault::Stall { side, for_ms, .. } => {
                let number = match side {
                    Side::Client => self.pair.client_number,
                    Side::Server => self.pair.server_number,
                };
                self.pair.network.stall(number, millis(for_ms));
            }
            Fault::Restart { side, .. } => self.restart(side, now),
            Fault::Hole { for_ms, mtu, .. } => {
                self.carry(mtu);
                self.plan_ahead(now + millis(for_ms), Happening::Carry(LinkConfig::default().mtu));
            }
            Fault::Scribble { side, .. } => {
                self.scribbles = desk(side).frames().into_iter().rev().map(|frame| (side, frame)).collect();
                self.scribble(now);
            }
            _ => {}
        }
    }

    fn plan_ahead(&mut self, at: Instant, happening: Happening) {
        self.due.push((at, happening));
        self.due.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    }

    fn carry(&mut self, mtu: u16) {
        let link = LinkConfig { mtu, ..uncorrupted(link(&self.plan)) };
        self.pair.network.set_link(LINKS[1], &link);
    }

    fn scribble(&mut self, now: Instant) {
        let left = self.scribbles.len().saturating_sub(SCRIBBLES);
        for (side, frame) in self.scribbles.drain(left..).rev() {
            // A full ring loses it.
            let _lost = self.pair.router.borrow().end(side as usize).send(&frame);
        }
        if left > 0 {
            self.plan_ahead(now + SCRIBBLE_EVERY, Happening::Scribble);
        }
    }

    fn restart(&mut self, side: Side, now: Instant) {
        let mut secret = [0; 32];
        for part in secret.chunks_exact_mut(8) {
            part.copy_from_slice(&self.random.next().to_be_bytes());
        }
        let seed = self.random.next();
        self.stage.model.borrow_mut().restart(side);
        self.stage.listeners.borrow_mut().retain(|(listener, _)| *listener != side);
        self.host(side).borrow_mut().restart(secret, seed, now);
        self.begin(side);
    }

    /// The network is well again, nobody listens any more: all that the stacks hold has to go.
    fn rest(&mut self) {
        if self.stage.model.borrow().failure().is_some() {
            return;
        }
        self.stage.model.borrow_mut().judge();
        let mut well = link(&self.plan);
        well.faults = LinkFaults::NONE;
        for name in LINKS {
            self.pair.network.set_link(name, &well);
        }
        if let Some(liar) = &self.liar {
            liar.borrow_mut().hush();
        }
        let hosts = Side::BOTH.map(|side| Rc::clone(self.host(side)));
        for (side, task) in self.stage.listeners.borrow_mut().drain(..) {
            self.host(side).borrow_mut().core().abort(task);
        }
        let watched = hosts.clone();
        let rested = self.watch(REST_LIMIT, move || {
            watched.iter().all(|host| {
                let mut host = host.borrow_mut();
                host.core().tasks() == 0 && host.core().stack().tcp_holdings() == TcpHoldings::default()
            })
        });
        let mut model = self.stage.model.borrow_mut();
        for (side, host) in Side::BOTH.into_iter().zip(&hosts) {
            let mut host = host.borrow_mut();
            if !rested {
                let (tasks, held) = (host.core().tasks(), host.core().stack().tcp_holdings());
                let states: Vec<&str> = host.core().stack().tcp_states().collect();
                model
                    .fail(format!("the {side:?} does not come to rest: {tasks} tasks, {held:?}, {states:?}"));
            }
            let counters = host.counters();
            if counters.received != counters.consumed + counters.forwarded + counters.discarded {
                model.fail(format!("the {side:?}'s verdicts do not add up: {counters:?}"));
            }
            if host.discards().total() < counters.discarded {
                model.fail(format!("the {side:?} discarded packets for no reason: {counters:?}"));
            }
        }
    }

    fn outcome(self, capture: bool) -> Outcome {
        let network = &self.pair.network;
        let mut reached = self.reached.clone();
        for fate in Fate::ALL {
            reached.packets(fate, network.trace().count(fate));
        }
        for side in Side::BOTH {
            let mut host = self.host(side).borrow_mut();
            reached.merged(host.counters().merged);
            for discards in [host.discards(), host.late_discards()] {
                discards.iter().for_each(|(discard, packets)| reached.discards(discard, packets));
            }
        }
        let failure = self.stage.model.borrow().failure().map(str::to_owned);
        Outcome {
            failure,
            trace_hash: network.trace().hash(),
            packets: network.trace().packets(),
            reached,
            capture: capture.then(|| captured(network)),
        }
    }
}

fn captured(network: &Network) -> Capture {
    let mut pcapng = Vec::new();
    network.write_pcapng(&mut pcapng).expect("memory takes all bytes");
    Capture { pcapng, text: network.trace_text() }
}

fn look_at_states(host: &mut crate::Host, seen: &mut SeenStates) {
    let stack = host.core().stack();
    stack.tcp_states().for_each(|state| seen.see(state));
    let held = stack.tcp_holdings();
    if held.time_waits > 0 {
        seen.see("time-wait");
    }
    if held.listeners > 0 {
        seen.see("listen");
    }
}

/// Two flipped bits may cancel each other out in a checksum of 16 bits (RFC 1071), so that no TCP would see it: a packet
/// meets one link that flips.
fn uncorrupted(link: LinkConfig) -> LinkConfig {
    LinkConfig { faults: LinkFaults { corrupt_ppm: 0, ..link.faults }, ..link }
}

fn desk(side: Side) -> Desk {
    let subnet = SUBNETS[side as usize];
    let v4 = |host| match pair::address(Address::V4, subnet, host) {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("an address is of the family that was asked for"),
    };
    let v6 = |host| match pair::address(Address::V6, subnet, host) {
        IpAddr::V6(address) => address,
        IpAddr::V4(_) => unreachable!("an address is of the family that was asked for"),
    };
    Desk {
        own: pair::mac(subnet, SCRIBBLER),
        host: pair::mac(subnet, pair::END_HOST),
        own_v4: v4(SCRIBBLER),
        host_v4: v4(pair::END_HOST),
        own_v6: v6(SCRIBBLER),
        host_v6: v6(pair::END_HOST),
        router_v4: v4(pair::ROUTER_HOST),
    }
}

fn link(plan: &Plan) -> LinkConfig {
    let Path { kilobits_per_second, delay_us, queue_bytes } = plan.path;
    let mut faults = LinkFaults::NONE;
    for fault in &plan.faults {
        match *fault {
            Fault::Loss { ppm } => faults.loss_ppm = ppm,
            Fault::Bursts { begin_ppm, end_ppm, loss_ppm } => {
                faults.bursts = Some(Bursts { begin_ppm, end_ppm, loss_ppm });
            }
            Fault::LoseEvery { packets } => faults.lose_every = packets,
            Fault::Reorder { ppm, delay_us } => {
                (faults.reorder_ppm, faults.reorder_delay) =
                    (ppm, Duration::from_micros(u64::from(delay_us)));
            }
            Fault::Duplicate { ppm } => faults.duplicate_ppm = ppm,
            Fault::Corrupt { ppm } => faults.corrupt_ppm = ppm,
            Fault::Mark { ppm } => faults.mark_ppm = ppm,
            Fault::MarkQueue { bytes } => faults.mark_above_bytes = bytes,
            _ => {}
        }
    }
    LinkConfig {
        bits_per_second: u64::from(kilobits_per_second) * 1_000,
        delay: Duration::from_micros(u64::from(delay_us)),
        queue_bytes: queue_bytes as usize,
        faults,
        ..LinkConfig::default()
    }
}
