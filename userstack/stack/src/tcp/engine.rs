//! One core's TCP: the turn. It finds the connection and lets it act, then settles what the connection asked for
//! (timers, events, a place in the transmit queue). Segments come in through `demux`, users' calls through
//! `user`.
//!
//! ```text
//!   handle_segment ---> demux ---> Connection::on_segment --+
//!   handle_timers  ---> wheel ---> Connection::on_deadline -+--> effects --> settle --> events, ready, wheel, replies
//!   user's calls   --------------> Connection::write, ...  -+
//!   poll_transmit  ---> replies, then ready: Connection::transmit, a burst each
//! ```

use std::collections::VecDeque;

use super::boundary::{Outgoing, Path, Refused, SegmentSink};
use super::connection::{Connection, Effects, NEVER};
use super::ecn::NOT_ECT;
use super::flows::{FlowTable, Target};
use super::greed::Greed;
use super::header::{Header, MAX_HEADER};
use super::listener::Listeners;
use super::memory::Pool;
use super::output::Progress;
use super::path_search::segment_size;
use super::ports::PortCounters;
use super::slab::Slab;
use super::timewait::{TimeWait, TimeWaits};
use super::tuple::{Secrets, Tuple};
use super::{FlowKey, TcpError, TcpEvent};
use crate::wheel::Wheel;
use crate::{Defence, Defences, Instant};

/// Segments without a connection (resets, cookies, TIME-WAIT's answers) that wait for the next transmission: a flood
/// of them is cut here.
pub(crate) const MAX_REPLIES: usize = 512;
/// Writers that are woken at once when memory comes back.
const WAKE_STARVED: usize = 16;
/// How often memory is looked for while a writer waits for it.
const STARVED_RETRY: std::time::Duration = std::time::Duration::from_millis(10);

/// What a connection did that is counted.
const DEFENCES: [(Effects, Defence); 3] = [
    (Effects::CHALLENGE_WITHHELD, Defence::ChallengeWithheld),
    (Effects::MSS_RAISED, Defence::MssRaised),
    (Effects::PIECES_FULL, Defence::PiecesFull),
];

/// Limits and secrets.
#[derive(Clone, Debug)]
pub(crate) struct TcpConfig {
    pub secret: [u8; 32],
    /// Source ports to choose from: `first..=last`.
    pub ports: (u16, u16),
    pub max_flows: usize,
    pub memory_budget_bytes: usize,
}

/// Connections, listeners and TIME-WAIT entries of one core.
#[derive(Debug)]
pub(crate) struct Tcp {
    pub(super) config: TcpConfig,
    pub(super) secrets: Secrets,
    pub(super) flows: FlowTable,
    pub(super) connections: Slab<Connection>,
    pub(super) time_waits: TimeWaits,
    pub(super) listeners: Listeners,
    pub(super) pool: Pool,
    pub(super) books: Books,
    /// Those of them that this call has served and that have more; empty between calls.
    served: VecDeque<FlowKey>,
    replies: VecDeque<Reply>,
    starved: VecDeque<FlowKey>,
    pub(super) ports: PortCounters,
    greed: Greed,
    /// What was warded off without a packet's death.
    pub(super) defences: Defences,
    /// The latest time that a call brought.
    now: Instant,
}

/// What connections ask of the engine after nearly everything they do.
#[derive(Debug)]
pub(super) struct Books {
    /// Each connection's one timer, by the connection's slot: none outlives its connection.
    wheel: Wheel<u32>,
    /// Connections that may have something to send, each once.
    ready: VecDeque<FlowKey>,
    events: VecDeque<TcpEvent>,
}

/// A segment that no connection sends.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub tuple: Tuple,
    /// An MSS option is filled in when the path is known.
    pub header: Header,
    /// That of the connection whose last word it is; else it is found when the segment goes out.
    pub path: Path,
}

impl Tcp {
    pub(crate) fn new(config: TcpConfig, now: Instant) -> Self {
        let secrets = Secrets::new(&config.secret);
        Self {
            ports: PortCounters::new(&secrets),
            secrets,
            defences: Defences::default(),
            greed: Greed::default(),
            pool: Pool::new(config.memory_budget_bytes),
            config,
            flows: FlowTable::default(),
            connections: Slab::new(),
            time_waits: TimeWaits::new(),
            listeners: Listeners::new(),
            books: Books { wheel: Wheel::new(now), ready: VecDeque::new(), events: VecDeque::new() },
            served: VecDeque::new(),
            replies: VecDeque::new(),
            starved: VecDeque::new(),
            now,
        }
    }

    /// Fires at most `budget` timers; true when more are due.
    pub(crate) fn handle_timers(&mut self, budget: usize, now: Instant) -> bool {
        self.now = now;
        let mut work = budget;
        while let Some(slot) = self.books.wheel.poll(now, &mut work) {
            let Some(connection) = self.connections.at_mut(slot) else { continue };
            (connection.deadlines.armed, connection.deadlines.armed_at) = (None, NEVER);
            connection.on_deadline(&mut self.pool, now);
            self.settle(slot, now);
        }
        while work > 0
            && let Some(slot) = self.time_waits.expired(now)
        {
            self.forget_time_wait(slot);
            work -= 1;
        }
        while work > 0
            && let Some(key) = self.greed.poll(&self.connections, &self.pool, now)
        {
            self.cut(key, now);
            work -= 1;
        }
        self.wake_starved();
        work == 0
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let rest = self.time_waits.next_timeout(self.now.as_millis());
        let starved = (!self.starved.is_empty()).then(|| self.now + STARVED_RETRY);
        let greed = self.greed.next_timeout(&self.pool, self.now);
        [self.books.wheel.next_timeout(), rest, starved, greed].into_iter().flatten().min()
    }

    /// Sends at most `budget` segments; true when more wait.
    pub(crate) fn poll_transmit(&mut self, sink: &mut dyn SegmentSink, budget: usize, now: Instant) -> bool {
        self.now = now;
        let mut budget = budget;
        self.transmit_replies(sink, &mut budget);
        // Each connection has one visit a call; who has more to send queues again.
        for _ in 0..self.books.ready.len() {
            if budget == 0 {
                break;
            }
            let Some(key) = self.books.ready.pop_front() else { break };
            let Some(connection) = self.connections.get_mut(key.slot, key.life) else { continue };
            connection.queued = false;
            connection.effects = Effects(connection.effects.0 & !Effects::TRANSMIT.0);
            let before = budget;
            let progress = connection.transmit(sink, &mut self.pool, &mut budget, now);
            match progress {
                Progress::Done => {}
                // Who was served stands behind all that were not, also behind those that only met a full interface.
                _ if budget < before => {
                    connection.queued = true;
                    self.served.push_back(key);
                }
                _ => connection.effects.add(Effects::TRANSMIT),
            }
            if progress == Progress::Full {
                // A visit to a full interface is work too.
                budget -= 1;
            }
            self.settle(key.slot, now);
        }
        self.books.ready.append(&mut self.served);
        !self.books.ready.is_empty() || !self.replies.is_empty()
    }

    pub(crate) fn poll_event(&mut self) -> Option<TcpEvent> {
        while let Some(event) = self.books.events.pop_front() {
            let alive = match event {
                TcpEvent::Acceptable(key) => {
                    self.listeners.get_mut(key).map(|listener| listener.told = false).is_some()
                }
                TcpEvent::Connected(key) => self.untell(key, Effects::CONNECTED),
                TcpEvent::Readable(key) => self.untell(key, Effects::READABLE),
                TcpEvent::Writable(key) => self.untell(key, Effects::WRITABLE),
            };
            if alive {
                return Some(event);
            }
        }
        None
    }

    // ---- what the other files of the engine share ----

    /// Adds a connection to all books; `None` when there are as many as there may be.
    pub(super) fn open(&mut self, connection: Connection) -> Option<FlowKey> {
        if self.connections.len() >= self.config.max_flows {
            return None;
        }
        let hash = self.secrets.flow_hash(&connection.tuple);
        let (slot, life) = self.connections.insert(connection);
        self.flows.insert(hash, Target::Connection(slot));
        Some(FlowKey { slot, life })
    }

    /// Does what a connection asked for while it acted: a place in the queue, events, a timer; the rest is rare.
    pub(super) fn settle(&mut self, slot: u32, now: Instant) {
        let Some((life, connection)) = self.connections.entry(slot) else { return };
        let key = FlowKey { slot, life };
        let effects = self.books.settle(connection, key);
        if effects.has(Effects::RARE) {
            self.apply(key, effects, now);
        }
    }

    fn apply(&mut self, key: FlowKey, effects: Effects, now: Instant) {
        for (effect, defence) in DEFENCES {
            if effects.has(effect) {
                self.defences.count(defence);
            }
        }
        if effects.has(Effects::STARVED) {
            self.starved.push_back(key);
        }
        if effects.has(Effects::ACCEPTABLE) {
            self.queue_for_accept(key, now);
        }
        let mut rests = effects.has(Effects::TIME_WAIT);
        if rests {
            self.enter_time_wait(key, now);
        }
        if effects.has(Effects::RESET_PEER) {
            self.reset_peer(key);
        }
        if effects.has(Effects::DEAD) && !rests {
            rests = self.rest_after_cookie(key, now);
        }
        if effects.has(Effects::DEAD) || effects.has(Effects::TIME_WAIT) {
            self.bury(key, rests);
        }
    }

    /// Memory is short, and this connection holds the most for the least.
    fn cut(&mut self, key: FlowKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.slot, key.life) else { return };
        connection.reset(Some(TcpError::Cut), &mut self.pool);
        self.defences.count(Defence::HolderCut);
        self.settle(key.slot, now);
    }

    fn untell(&mut self, key: FlowKey, kind: Effects) -> bool {
        let Some(connection) = self.connections.get_mut(key.slot, key.life) else { return false };
        connection.told = Effects(connection.told.0 & !kind.0);
        true
    }

    /// A passive connection is established: from half-open to waiting.
    fn queue_for_accept(&mut self, key: FlowKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.slot, key.life) else { return };
        let listener_key = connection.user.listener;
        let Some(listener) = listener_key.and_then(|listener| self.listeners.get_mut(listener)) else {
            // Its listener has gone meanwhile.
            connection.abort(&mut self.pool);
            return self.settle(key.slot, now);
        };
        listener.half_open -= 1;
        listener.waiting.push_back(key);
        if let Some(listener_key) = listener_key
            && !std::mem::replace(&mut listener.told, true)
        {
            self.books.events.push_back(TcpEvent::Acceptable(listener_key));
        }
    }

    /// The four numbers pass to a TIME-WAIT entry; the connection ends well.
    fn enter_time_wait(&mut self, key: FlowKey, now: Instant) {
        let Some(connection) = self.connections.get_mut(key.slot, key.life) else { return };
        let (tuple, path, offset) = (connection.tuple, connection.path, connection.timestamps.offset);
        let entry = TimeWait::new(connection, now);
        connection.finish(None, &mut self.pool);
        let effects = connection.effects.take();
        tell(connection, key, effects, &mut self.books.events);
        let header = entry.acknowledgement(&tuple, offset, now);
        self.reply(Reply { tuple, header, path });
        self.lay_to_rest(key.slot, &tuple, entry);
    }

    /// What ends without TIME-WAIT leaves its numbers free, and a late copy of the segment that proved a cookie would open
    /// the connection once more, with the same text: such a connection rests however it ended. True when it does.
    fn rest_after_cookie(&mut self, key: FlowKey, now: Instant) -> bool {
        let connection = self.connections.get(key.slot, key.life).filter(|ended| ended.user.by_cookie);
        let Some(connection) = connection else { return false };
        let (tuple, entry) = (connection.tuple, TimeWait::new(connection, now));
        self.lay_to_rest(key.slot, &tuple, entry);
        true
    }

    fn lay_to_rest(&mut self, connection: u32, tuple: &Tuple, entry: TimeWait) {
        if self.time_waits.len() >= self.config.max_flows
            && let Some(oldest) = self.time_waits.oldest()
        {
            self.forget_time_wait(oldest);
        }
        let slot = self.time_waits.insert(entry);
        let hash = self.secrets.flow_hash(tuple);
        self.flows.replace(hash, Target::Connection(connection), Target::TimeWait(slot));
    }

    pub(super) fn forget_time_wait(&mut self, slot: u32) {
        if let Some(entry) = self.time_waits.remove(slot) {
            self.flows.remove(self.secrets.flow_hash(&entry.tuple()), Target::TimeWait(slot));
        }
    }

    /// Off the wire: out of the table, where its numbers do not rest there, and gone when nobody holds the key.
    fn bury(&mut self, key: FlowKey, rests: bool) {
        let Some(connection) = self.connections.get_mut(key.slot, key.life) else { return };
        let (tuple, listener) = (connection.tuple, connection.user.listener);
        let armed = connection.deadlines.armed.take();
        connection.deadlines.armed_at = NEVER;
        let unseen = connection.user.orphan || listener.is_some();
        if let Some(timer) = armed {
            self.books.wheel.cancel(timer);
        }
        if !rests {
            self.flows.remove(self.secrets.flow_hash(&tuple), Target::Connection(key.slot));
        }
        if let Some(listener) = listener.and_then(|listener| self.listeners.get_mut(listener)) {
            let before = listener.waiting.len();
            listener.waiting.retain(|waiting| *waiting != key);
            listener.half_open -= usize::from(listener.waiting.len() == before);
        }
        if unseen {
            self.discard(key);
        }
    }

    /// Takes a dead connection's last memory.
    pub(super) fn discard(&mut self, key: FlowKey) {
        if let Some(connection) = self.connections.at_mut(key.slot) {
            connection.receive.ring.release(&mut self.pool);
        }
        self.connections.discard(key.slot);
    }

    /// Queues a segment that no connection sends; beyond the bound it is as if the network had lost it.
    pub(super) fn reply(&mut self, reply: Reply) {
        if self.replies.len() < MAX_REPLIES {
            self.replies.push_back(reply);
        }
    }

    fn transmit_replies(&mut self, sink: &mut dyn SegmentSink, budget: &mut usize) {
        while *budget > 0
            && let Some(Reply { tuple, header, path }) = self.replies.front_mut()
        {
            let mut bytes = [0; MAX_HEADER];
            let mtu = sink.open(tuple.local(), tuple.remote(), path);
            if header.options.mss.is_some() {
                header.options.mss = mtu.ok().map(|mtu| segment_size(mtu, tuple.is_v6()));
            }
            let length = header.write(&mut bytes);
            let segment =
                Outgoing { header: &bytes[..length], payload: [&[], &[]], ecn: NOT_ECT, segment_bytes: None };
            if sink.send(&segment) == Err(Refused::Full) {
                return;
            }
            self.replies.pop_front();
            *budget -= 1;
        }
    }

    fn wake_starved(&mut self) {
        for _ in 0..WAKE_STARVED.min(self.starved.len()) {
            if !self.pool.has_room() {
                return;
            }
            let Some(key) = self.starved.pop_front() else { return };
            if let Some(connection) = self.connections.get_mut(key.slot, key.life) {
                connection.user.starved = false;
                tell(connection, key, Effects::WRITABLE, &mut self.books.events);
            }
        }
    }
}

impl Books {
    /// A place in the queue, events, a timer; gives what was asked for.
    #[inline(always)]
    pub(super) fn settle(&mut self, connection: &mut Connection, key: FlowKey) -> Effects {
        let effects = connection.effects.take();
        if effects.has(Effects::TRANSMIT) && !connection.queued {
            connection.queued = true;
            self.ready.push_back(key);
        }
        if effects.0 & Effects::EVENTS.0 & !connection.told.0 != 0 {
            tell(connection, key, effects, &mut self.events);
        }
        if connection.deadlines.are_before_armed() {
            arm(connection, key.slot, &mut self.wheel);
        }
        effects
    }
}

/// Tells the user, each kind once until it is taken. Who was not accepted yet has no user.
fn tell(connection: &mut Connection, key: FlowKey, effects: Effects, events: &mut VecDeque<TcpEvent>) {
    let fresh = Effects(effects.0 & Effects::EVENTS.0 & !connection.told.0);
    if connection.user.orphan || connection.user.listener.is_some() {
        return;
    }
    connection.told.add(fresh);
    for (kind, event) in [
        (Effects::CONNECTED, TcpEvent::Connected(key)),
        (Effects::READABLE, TcpEvent::Readable(key)),
        (Effects::WRITABLE, TcpEvent::Writable(key)),
    ] {
        if fresh.has(kind) {
            events.push_back(event);
        }
    }
}

/// The wheel entry stands at the earliest deadline or before it.
#[inline(never)]
fn arm(connection: &mut Connection, slot: u32, wheel: &mut Wheel<u32>) {
    let next = connection.deadlines.next();
    if let Some(timer) = connection.deadlines.armed.take() {
        wheel.cancel(timer);
    }
    connection.deadlines.armed = Some(wheel.insert(next, slot));
    connection.deadlines.armed_at = next;
}

impl Tcp {
    /// What was warded off without a packet's death.
    pub(crate) fn defences(&self) -> &Defences {
        &self.defences
    }

    /// Established connections and those on their way there or from there.
    pub(crate) fn connections(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn armed_timers(&self) -> usize {
        self.books.wheel.len()
    }

    #[cfg(test)]
    pub(crate) fn lent_bytes(&self) -> usize {
        self.pool.lent_bytes()
    }

    #[cfg(test)]
    pub(crate) fn set_max_flows(&mut self, flows: usize) {
        self.config.max_flows = flows;
    }

    #[cfg(test)]
    pub(crate) fn states(&self) -> impl Iterator<Item = super::connection::State> + '_ {
        (0..self.connections.len() as u32 + 64).filter_map(|slot| self.connections.at(slot)).map(|c| c.state)
    }
}
