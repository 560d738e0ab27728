//! One core of the data plane.
//!
//! [`Worker::turn`] is everything that a core does: take commands, receive, hand frames to the stack, run tasks, run
//! timers, transmit. It owns no thread, reads no clock and never sleeps: `daemon` loops it on a pinned thread, the
//! simulator calls it for many nodes in one thread.
//!
//! ```text
//!   mailbox ──▶ take_commands                     rings from other workers
//!   queue pairs ──▶ receive ──▶ classify ──▶ steer ──▶ Stack ──▶ Verdict ─┬─▶ forward (same frames)
//!                                   │                  │                 ├─▶ consumed
//!                                   ▼                  ▼                 └─▶ discarded, counted
//!                          another worker's ring   tasks, timers ──▶ Ports (Egress) ──▶ queue pairs
//! ```
#![forbid(unsafe_code)]

mod counters;
mod flow;
mod idle;
mod latch;
mod mailbox;
mod newcomers;
mod port;
mod ports;
mod ring;
#[cfg(test)]
mod tests;
mod view;
mod visits;

pub use counters::TurnCounters;
pub use idle::Idle;
pub use mailbox::{Doorbell, MAILBOX_COMMANDS, Mailbox, Sender, Stuck, mailbox};
pub use port::{LinkState, Port};
pub use ports::Exit;
pub use ring::{Errand, RING_PACKETS, RingReceiver, RingSender, ring};

/// What the one who builds workers needs of the stack.
pub use stack::{
    Admission, Config as StackConfig, Defence, Discard, Discards, Instant, InterfaceConfig, InterfaceId,
    Prefix, Role, Route, RtpStream, SessionInfo, Stack,
};

use nic::{BURST_PACKETS, Burst, Packet, QueuePair};
use socket::Core;
use stack::{Egress, Pieces, Run, Verdict, steer};

use newcomers::{NEWCOMERS_PER_TURN, Newcomers, Offered};
use ports::Ports;
use ring::Slot;
use view::{Together, View};
use visits::{RESTING_VISITS_PER_TURN, Visits};

/// Commands taken in one turn: a table change is one command, so this is never short of a second's worth.
const COMMANDS_PER_TURN: usize = 16;
/// Timers fired in one turn (DESIGN, the turn).
const TIMERS_PER_TURN: usize = 256;
/// Packets of new segments built in one turn; with 64 a queue pair and turn received, ACKs and data keep up.
const TRANSMITS_PER_TURN: usize = 256;
/// Bursts taken from one queue pair in one turn while most of each are requests for connections, which are only set
/// aside: a thousand of them do not keep what came after them waiting for further turns.
const BURSTS_PER_VISIT: usize = 16;
/// Packets taken from each ring in one turn.
const RING_PACKETS_PER_TURN: usize = 64;

/// What one core of a mesh node runs: its queue pairs, its stack and tasks, and the application (the proxy), which
/// this crate knows only as the one who admits datagram sessions.
#[derive(Debug)]
pub struct Worker<A> {
    pub core: Core,
    pub application: A,
    ports: Ports,
    visits: Visits,
    mailbox: Mailbox<Command<A>>,
    rings: Vec<RingReceiver>,
    /// Our number, and how many workers share the flows.
    number: usize,
    workers: u16,
    received: Burst,
    newcomers: Newcomers,
    /// Nanoseconds from 1970 to the clock's zero: what captures stamp packets with. Zero in the simulator.
    epoch_nanos: u64,
    counters: TurnCounters,
}

/// Something the management thread wants done between two turns' work.
pub struct Command<A>(Act<A>);

type Act<A> = Box<dyn FnOnce(&mut Worker<A>, Instant) + Send>;

impl<A> Command<A> {
    pub fn new(act: impl FnOnce(&mut Worker<A>, Instant) + Send + 'static) -> Self {
        Self(Box::new(act))
    }
}

impl<A> std::fmt::Debug for Command<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// Where a worker stands among its peers: its number, the rings towards each (`None` at its own place) and from them.
#[derive(Debug)]
pub struct Place {
    pub number: usize,
    pub to: Vec<Option<RingSender>>,
    pub from: Vec<RingReceiver>,
}

impl Place {
    /// The only worker.
    pub fn alone() -> Self {
        Self { number: 0, to: vec![None], from: Vec::new() }
    }
}

impl<A: Admission> Worker<A> {
    pub fn new(core: Core, application: A, mailbox: Mailbox<Command<A>>, place: Place) -> Self {
        let workers = u16::try_from(place.to.len()).unwrap_or(u16::MAX);
        Self {
            core,
            application,
            ports: Ports::new(place.to),
            visits: Visits::default(),
            mailbox,
            rings: place.from,
            number: place.number,
            workers,
            received: Burst::new(),
            newcomers: Newcomers::default(),
            epoch_nanos: 0,
            counters: TurnCounters::default(),
        }
    }

    /// One turn. `expired` says whether the tasks' share of it (50 us) is used up; virtual time never expires.
    /// True when there was work, or is left.
    pub fn turn(&mut self, now: Instant, expired: &mut dyn FnMut() -> bool) -> bool {
        let mut busy = self.take_commands(now);
        busy |= self.receive(now);
        busy |= self.take_rings(now);
        self.steer_whole();
        // What was forwarded does not wait for the tasks.
        self.ports.flush();
        busy |= self.take_newcomers(now);
        busy |= self.core.run_tasks(now, expired);
        busy |= self.core.handle_timers(TIMERS_PER_TURN, now);
        busy |= self.transmit(now);
        self.counters.turn(busy);
        busy
    }

    fn take_commands(&mut self, now: Instant) -> bool {
        let mut taken = 0;
        while taken < COMMANDS_PER_TURN
            && let Some(command) = self.mailbox.take()
        {
            command.0(self, now);
            taken += 1;
        }
        taken > 0
    }

    /// One burst from each queue pair that is due a visit.
    fn receive(&mut self, now: Instant) -> bool {
        let (mut any, mut at) = (false, 0);
        while let Some(port) = self.visits.awake(at) {
            let found = self.visit(port, now);
            at = self.visits.visited(at, found);
            any |= found;
        }
        for _ in 0..RESTING_VISITS_PER_TURN {
            if let Some(port) = self.visits.next_resting()
                && self.visit(port, now)
            {
                self.visits.wake(port);
                any = true;
            }
        }
        any
    }

    /// True when there were packets.
    fn visit(&mut self, port: usize, now: Instant) -> bool {
        let mut any = false;
        for _ in 0..BURSTS_PER_VISIT {
            let queue = &mut self.ports.list[port].queue;
            queue.set_time(self.epoch_nanos + now.as_nanos());
            let received = queue.receive(&mut self.received);
            any |= received > 0;
            let mut set_aside = 0;
            while !self.received.is_empty() {
                set_aside += self.handle_front(port, now);
            }
            if received < BURST_PACKETS || set_aside <= received / 2 {
                break;
            }
        }
        any
    }

    /// What was received first: segments of one stream together, any other packet by itself. How many were only set aside.
    fn handle_front(&mut self, port: usize, now: Instant) -> usize {
        let run = Run::at_front_of(&Together(&self.received));
        let packets = run.map_or(1, |run| run.packets());
        self.counters.packets_received += packets as u64;
        if run.is_some_and(|run| self.handle_run(port, &run, now)) {
            self.counters.packets_consumed += packets as u64;
            self.counters.packets_merged += packets as u64;
            (0..packets).for_each(|_| drop(self.received.pop()));
            return 0;
        }
        let mut set_aside = 0;
        for _ in 0..packets {
            let Some(packet) = self.received.pop() else { break };
            set_aside += usize::from(self.handle(port, packet, now));
        }
        set_aside
    }

    /// False: they are to be handled one by one.
    fn handle_run(&mut self, port: usize, run: &Run, now: Instant) -> bool {
        let pieces = Together(&self.received);
        let head = pieces.piece(0);
        let Some(interface) = self.ports.list[port].interface_of(head) else { return false };
        let ours = self.workers == 1 || flow::owner(head, self.workers) == Some(self.number);
        ours && self.core.handle_run(interface, run, &pieces, now)
    }

    /// True when nothing was done but to set it aside.
    fn handle(&mut self, port: usize, mut packet: Packet, now: Instant) -> bool {
        let head = packet.frame(0).map_or(&[][..], |frame| frame.bytes());
        let Some(interface) = self.ports.list[port].interface_of(head) else {
            self.counters.packets_discarded += 1;
            self.ports.discards.count(Discard::VlanUnknown);
            return false;
        };
        if self.workers > 1 {
            // Before steering: an advertisement is IPv6, and its addresses would steer it to one worker alone.
            if steer::concerns_every_worker(head) {
                self.show_to_all(interface, head.to_vec());
            } else {
                let owner = flow::owner(head, self.workers).unwrap_or(self.number);
                if owner != self.number {
                    self.steer(owner, interface, &packet);
                    return false;
                }
            }
        }
        if flow::opens_connection(head) && self.set_aside(interface, head, packet.len()) {
            return true;
        }
        let verdict = self.core.handle_packet(interface, &mut View(&mut packet), &mut self.application, now);
        self.conclude(verdict, |ports, out| ports.forward(out, packet));
        false
    }

    /// A request for a connection waits for its share, or dies. False: it is to be handled now.
    fn set_aside(&mut self, interface: InterfaceId, head: &[u8], bytes: usize) -> bool {
        match self.newcomers.offer(interface, head, bytes) {
            Offered::Waits => true,
            Offered::Full => {
                self.counters.packets_discarded += 1;
                self.ports.discards.count(Discard::NewcomersFull);
                true
            }
            Offered::TooLong => false,
        }
    }

    /// True when there were any.
    fn take_newcomers(&mut self, now: Instant) -> bool {
        for taken in 0..NEWCOMERS_PER_TURN {
            let Some((interface, mut slot)) = self.newcomers.take() else { return taken > 0 };
            let verdict = self.core.handle_packet(interface, &mut slot, &mut self.application, now);
            self.conclude(verdict, |ports, out| ports.forward_bytes(out, slot.bytes()));
            self.newcomers.give_back(slot);
        }
        true
    }

    /// The packet's flow belongs to another worker: its bytes go there, its frames back to their pool.
    fn steer(&mut self, owner: usize, interface: InterfaceId, packet: &Packet) {
        let pieces = (0..packet.frames()).filter_map(|index| packet.frame(index)).map(|frame| frame.bytes());
        if self.ports.send_to(owner, Errand::Handle(interface), pieces) {
            self.counters.packets_steered += 1;
        } else {
            self.counters.packets_discarded += 1;
        }
    }

    /// News of a neighbour came to one queue, whichever worker asked: each learns by its own rules.
    fn show_to_all(&mut self, interface: InterfaceId, frame: Vec<u8>) {
        for other in (0..usize::from(self.workers)).filter(|&other| other != self.number) {
            if self.ports.send_to(other, Errand::Handle(interface), [&frame[..]]) {
                self.counters.packets_shown += 1;
            }
        }
    }

    /// Packets whose last fragment came, and whose flow as a whole belongs to another worker.
    fn steer_whole(&mut self) {
        while let Some(steered) = { self.core.stack().poll_steered() } {
            let errand = Errand::HandleWhole(steered.interface);
            if self.ports.send_to(steered.worker.into(), errand, [&steered.packet[..]]) {
                self.counters.wholes_steered += 1;
            }
        }
    }

    /// Counts the verdict. What is forwarded, `transmit` sends on.
    fn conclude(&mut self, verdict: Verdict, transmit: impl FnOnce(&mut Ports, InterfaceId)) {
        match verdict {
            Verdict::Forward(out) => {
                self.counters.packets_forwarded += 1;
                transmit(&mut self.ports, out);
            }
            Verdict::Consumed => self.counters.packets_consumed += 1,
            Verdict::Discarded(_counted_by_the_stack) => self.counters.packets_discarded += 1,
        }
    }

    fn take_rings(&mut self, now: Instant) -> bool {
        let mut any = false;
        for from in 0..self.rings.len() {
            for _ in 0..RING_PACKETS_PER_TURN {
                let Some(mut slot) = self.rings[from].take() else { break };
                any = true;
                self.run_errand(&mut slot, now);
                self.rings[from].give_back(slot);
            }
        }
        any
    }

    fn run_errand(&mut self, slot: &mut Slot, now: Instant) {
        let verdict = match slot.errand {
            Some(Errand::Transmit(interface)) => return self.ports.forward_bytes(interface, slot.bytes()),
            Some(Errand::Handle(interface)) => {
                let bytes = slot.bytes();
                if flow::opens_connection(bytes) && self.set_aside(interface, bytes, bytes.len()) {
                    self.counters.packets_from_rings += 1;
                    return;
                }
                self.core.handle_packet(interface, slot, &mut self.application, now)
            }
            Some(Errand::HandleWhole(interface)) => {
                self.core.handle_steered(interface, slot.bytes(), &mut self.application, now)
            }
            None => return,
        };
        self.counters.packets_from_rings += 1;
        self.conclude(verdict, |ports, out| ports.forward_bytes(out, slot.bytes()));
    }

    fn transmit(&mut self, now: Instant) -> bool {
        let more = self.core.poll_transmit(&mut self.ports, TRANSMITS_PER_TURN, now);
        self.ports.flush();
        more
    }

    // ---- what commands and the one who loops us may do ----

    /// Adds a queue pair; its number names it in [`Exit::ports`].
    pub fn add_port(&mut self, port: Port) -> usize {
        self.ports.list.push(port);
        self.visits.add();
        self.ports.list.len() - 1
    }

    pub fn ports(&self) -> &[Port] {
        &self.ports.list
    }

    pub fn ports_mut(&mut self) -> &mut [Port] {
        &mut self.ports.list
    }

    pub fn set_interface(&mut self, mut config: InterfaceConfig, exit: Exit, now: Instant) {
        self.ports.set_interface(config.clone(), exit);
        // A worker without a queue there is given what came in by another's.
        config.unfinished_receive_checksum |= self.ports.offloads(config.id).unfinished_receive_checksum;
        self.core.stack().set_interface(config, now);
    }

    pub fn remove_interface(&mut self, interface: InterfaceId, now: Instant) {
        self.ports.remove_interface(interface);
        self.core.stack().remove_interface(interface, now);
    }

    pub fn set_routes(&mut self, routes: &[Route]) {
        self.core.stack().set_routes(routes);
    }

    /// A device's link changed: its ports carry flows, or others of the bond do.
    pub fn set_link(&mut self, device: usize, link: LinkState) {
        self.ports.list.iter_mut().filter(|port| port.device == device).for_each(|port| port.link = link);
    }

    /// When the clock's zero was, in nanoseconds since 1970, so that captures carry the time of day.
    pub fn set_epoch(&mut self, nanos: u64) {
        self.epoch_nanos = nanos;
    }

    pub fn number(&self) -> usize {
        self.number
    }

    /// Reasons counted here; the stack counts its own.
    pub fn discards(&self) -> &Discards {
        &self.ports.discards
    }

    pub fn counters(&self) -> &TurnCounters {
        &self.counters
    }

    pub fn counters_mut(&mut self) -> &mut TurnCounters {
        &mut self.counters
    }

    /// Nothing waits that only a turn can move on: the worker may sleep until its next deadline.
    pub fn is_idle(&self) -> bool {
        self.mailbox.is_empty()
            && self.newcomers.is_empty()
            && self.rings.iter().all(RingReceiver::is_empty)
            && !self.core.has_ready()
    }

    /// A device has not taken all that is for it: the worker must come back soon, though nothing will wake it.
    pub fn is_sending(&self) -> bool {
        self.ports.is_sending()
    }

    /// Packets wait there: the port is due a visit.
    pub fn wake_port(&mut self, port: usize) {
        self.visits.wake(port);
    }

    /// Every queue pair is due a visit: after a sleep of one who does not know where packets wait.
    pub fn wake_ports(&mut self) {
        self.visits.wake_all();
    }
}
