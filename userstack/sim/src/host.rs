//! A simulated host: one core's stack and tasks, with link ends for interfaces, and a clock of its own.

use nic::{Burst, Packet, QueuePair};
use socket::{Core, TaskId};
use stack::{
    Admission, Config, Discards, FirstDatagram, Forward, Instant, InterfaceConfig, InterfaceId, Route, Run,
    Stack, Verdict,
};

use crate::packet::{Ends, PacketChain, Together};
use crate::{Clock, LinkEnd, Node};

/// Packets that a turn sends (DESIGN, the turn's budgets).
const BURST_PACKETS: usize = 64;
const TIMERS_PER_TURN: usize = 256;

/// What a host did with what it received: `received` is the sum of the three that follow.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct HostCounters {
    pub received: u64,
    pub consumed: u64,
    pub forwarded: u64,
    pub discarded: u64,
    /// Of those consumed, segments of a stream that went in as one with others.
    pub merged: u64,
}

/// A [`Core`] on simulated links.
#[derive(Debug)]
pub struct Host {
    core: Core,
    config: Config,
    clock: Clock,
    ends: Vec<(InterfaceId, LinkEnd)>,
    interfaces: Vec<InterfaceConfig>,
    routes: Vec<Route>,
    admission: DebugAdmission,
    counters: HostCounters,
    /// Its cards cut long packets into segments.
    cut: bool,
    /// Empty between turns.
    received: Burst,
    /// Of the lives before the last restart: at their verdict, and later.
    past_discards: [Discards; 2],
    /// The last turn left work for the next.
    busy: bool,
    /// By its own clock.
    now: Instant,
}

impl Host {
    /// A host without interfaces. `config.secret` and `seed` decide all that it chooses.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            core: Core::new(Stack::new(config.clone(), Instant::ZERO), seed),
            config,
            clock: Clock::default(),
            ends: Vec::new(),
            interfaces: Vec::new(),
            routes: Vec::new(),
            admission: DebugAdmission(Box::new(Deliver)),
            counters: HostCounters::default(),
            cut: false,
            received: Burst::new(),
            past_discards: Default::default(),
            busy: false,
            now: Instant::ZERO,
        }
    }

    /// Gives it an interface on a link.
    pub fn attach(&mut self, interface: InterfaceConfig, end: LinkEnd) {
        self.ends.push((interface.id, end));
        self.interfaces.push(interface.clone());
        let now = self.now;
        self.core.stack().set_interface(interface, now);
    }

    pub fn set_routes(&mut self, routes: &[Route]) {
        self.routes = routes.to_vec();
        self.core.stack().set_routes(routes);
    }

    /// Gives it a clock of its own, from the network's time `now` on. It restarts for that: no clock jumps under a stack.
    pub fn set_clock(&mut self, clock: Clock, now: Instant) {
        self.clock = clock;
        let seed = self.enter(socket::random);
        self.restart(self.config.secret, seed, now);
    }

    /// The machine is switched off and on again at the network's time `now`: tasks, connections, neighbours and what lay
    /// in its rings are gone; interfaces and routes are as they were.
    pub fn restart(&mut self, secret: [u8; 32], seed: u64, now: Instant) {
        self.past_discards = [self.discards(), self.late_discards()];
        self.now = self.clock.local(now);
        self.config.secret = secret;
        self.core = Core::new(Stack::new(self.config.clone(), self.now), seed);
        self.ends.iter().for_each(|(_, end)| end.clear());
        for interface in &self.interfaces {
            self.core.stack().set_interface(interface.clone(), self.now);
        }
        self.core.stack().set_routes(&self.routes);
        self.busy = false;
    }

    /// Packets that died at their verdict, by reason, in all its lives.
    pub fn discards(&mut self) -> Discards {
        sum(&self.past_discards[0], self.core.stack().discards())
    }

    /// Packets that died later, by reason, in all its lives.
    pub fn late_discards(&mut self) -> Discards {
        sum(&self.past_discards[1], self.core.stack().late_discards())
    }

    /// Its cards promise to cut long TCP packets into segments and to finish these.
    pub fn set_segmentation(&mut self, cut: bool) {
        self.cut = cut;
    }

    /// Who judges datagram sessions; without one, all go to bound sockets.
    pub fn set_admission(&mut self, admission: impl Admission + 'static) {
        self.admission = DebugAdmission(Box::new(admission));
    }

    /// Starts a task. It first runs in the host's next turn.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> TaskId {
        self.core.spawn(future)
    }

    /// Polls tasks that are ready, ahead of the next turn: who listens does so before the first packet.
    pub fn run_tasks(&mut self) {
        self.core.run_tasks(self.now, &mut || false);
        // What they want to send leaves in that turn.
        self.busy = true;
    }

    /// Runs `f` where sockets work.
    pub fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let now = self.now;
        self.core.enter(now, f)
    }

    pub fn core(&mut self) -> &mut Core {
        &mut self.core
    }

    pub fn counters(&self) -> HostCounters {
        self.counters
    }

    fn receive(&mut self, now: Instant) {
        for at in 0..self.ends.len() {
            let (interface, mut end) = self.ends[at].clone();
            let mut burst = std::mem::take(&mut self.received);
            end.receive(&mut burst);
            self.counters.received += burst.len() as u64;
            while !burst.is_empty() {
                let run = Run::at_front_of(&Together(&burst));
                let packets = run.map_or(1, |run| run.packets());
                let merged =
                    run.is_some_and(|run| self.core.handle_run(interface, &run, &Together(&burst), now));
                for packet in (0..packets).map_while(|_| burst.pop()) {
                    if merged {
                        self.counters.consumed += 1;
                        self.counters.merged += 1;
                    } else {
                        self.handle(interface, packet, now);
                    }
                }
            }
            self.received = burst;
        }
    }

    fn handle(&mut self, interface: InterfaceId, mut packet: Packet, now: Instant) {
        let mut chain = PacketChain(&mut packet);
        let verdict = self.core.handle_packet(interface, &mut chain, self.admission.0.as_mut(), now);
        match verdict {
            Verdict::Consumed => self.counters.consumed += 1,
            Verdict::Discarded(_) => self.counters.discarded += 1,
            Verdict::Forward(to) => {
                self.counters.forwarded += 1;
                forward(&self.ends, to, packet);
            }
        }
    }
}

fn sum(one: &Discards, other: &Discards) -> Discards {
    let mut sum = one.clone();
    for (discard, packets) in other.iter() {
        sum.count_many(discard, usize::try_from(packets).unwrap_or(usize::MAX));
    }
    sum
}

/// A full ring loses the packet, as a card's does.
fn forward(ends: &[(InterfaceId, LinkEnd)], to: InterfaceId, packet: Packet) {
    if let Some((_, end)) = ends.iter().find(|(id, _)| *id == to) {
        let _lost = end.transmit_one(packet);
    }
}

impl Node for Host {
    fn turn(&mut self, now: Instant) {
        let now = self.clock.local(now);
        self.now = now;
        self.receive(now);
        let more_tasks = self.core.run_tasks(now, &mut || false);
        let more_timers = self.core.handle_timers(TIMERS_PER_TURN, now);
        let more_packets = {
            let mut ends = Ends { ends: &self.ends, cut: self.cut };
            self.core.poll_transmit(&mut ends, BURST_PACKETS, now)
        };
        self.busy = more_tasks | more_timers | more_packets;
    }

    fn next_deadline(&self) -> Option<Instant> {
        if self.busy || self.core.has_ready() || self.ends.iter().any(|(_, end)| end.has_arrived()) {
            return Some(Instant::ZERO);
        }
        self.core.poll_timeout().map(|deadline| self.clock.network(deadline))
    }
}

/// Every datagram goes to the socket that is bound to its destination.
#[derive(Debug)]
struct Deliver;

impl Admission for Deliver {
    fn admit(&mut self, _: &FirstDatagram<'_>, _: Instant) -> Forward {
        Forward::Deliver
    }
}

struct DebugAdmission(Box<dyn Admission>);

impl std::fmt::Debug for DebugAdmission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admission")
    }
}
