//! The neighbours of every interface: hardware addresses, how sure we are of them, and packets that wait for one.
//! ARP and NDP feed it, the sending half asks it. It builds no packet and sends none.
//!
//! ```text
//!            wanted                 answer, or told              30 s, then used
//!   Unknown --------> Incomplete ------------------> Reachable -----------------> Probe
//!      ^                  | 3 requests, 1 s apart       ^  ^                        |
//!      +------------------+ what waited dies            |  +---- answer ------------+
//!      |                                                |                           | 3 requests, 1 s apart
//!      |                             wanted, as told <--+-- told by the kernel? ----+
//!      +---------------------------------------------------- no --------------------+
//!
//!   Stale: a changed address that nobody confirmed yet. It is used, and probed when it is.
//!   Contested: somebody else claims the address. Whoever has it is asked, and stays when there is an answer; after
//!   100 ms of silence the claim is believed, and the neighbour is Stale.
//! ```
//!
//! RFC 4861, section 7.3.2, without DELAY: nothing above reports that a peer is making progress, so a neighbour in
//! use is asked directly every [`REACHABLE`].

use std::net::IpAddr;
use std::time::Duration;

use crate::hash::{Key, Map, bits};
use crate::wheel::{TimerId, Wheel};
use crate::wire::Mac;
use crate::{Instant, InterfaceId};

/// Neighbours of all interfaces (four times Linux's gc_thresh3).
const MAX_NEIGHBOURS: usize = 4096;
/// Packets that wait for one neighbour (RFC 1122, section 2.3.2.2: at least one; a datagram in fragments needs more).
const MAX_WAITING: usize = 16;
/// Packets that wait for all of them, so that a scan of an empty network costs no more than this.
const MAX_WAITING_IN_ALL: usize = 1024;
/// How often a request is sent (RFC 4861, section 10: MAX_MULTICAST_SOLICIT, MAX_UNICAST_SOLICIT).
const MAX_TRIES: u8 = 3;
/// Time between requests (RFC 4861, section 10: RETRANS_TIMER).
const RETRY: Duration = Duration::from_secs(1);
/// Who is contested is asked so often, so long apart: an answer on a link comes within a few milliseconds, and a gateway
/// that fails over is followed in 100.
const MAX_CONTESTED_TRIES: u8 = 2;
const CONTESTED_RETRY: Duration = Duration::from_millis(50);
/// After a denial, other claims are denied for so long without asking: a flood of them makes no flood of ours.
const DENIED: Duration = Duration::from_millis(100);
/// How long an answer is believed (RFC 4861, section 10: REACHABLE_TIME).
const REACHABLE: Duration = Duration::from_secs(30);
/// Entries looked at to find one that may go when the table is full.
const EVICTION_SCAN: usize = 16;

#[derive(Debug)]
pub(crate) struct Neighbours {
    slots: Vec<Neighbour>,
    free: Vec<u32>,
    index: Map<(InterfaceId, u128), u32>,
    timers: Wheel<u32>,
    /// Where the next search for an entry to evict begins.
    hand: usize,
    /// Packets that wait for any neighbour.
    waiting: usize,
}

#[derive(Debug)]
struct Neighbour {
    interface: InterfaceId,
    address: IpAddr,
    mac: Mac,
    /// Who claims its address, while it is contested.
    rival: Mac,
    /// When it last denied a claim.
    denied_at: Option<Instant>,
    state: State,
    /// When the state was entered.
    since: Instant,
    /// When a packet last wanted it.
    used: Instant,
    /// The kernel vouches for it: it stays when nobody answers us.
    told: bool,
    timer: Option<TimerId>,
    /// Frames without destination address.
    waiting: Vec<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Incomplete {
        tries: u8,
    },
    Reachable,
    Stale,
    Probe {
        tries: u8,
    },
    /// A rival claims the address: the neighbour is asked whether it is still there.
    Contested {
        tries: u8,
    },
    /// Not in use.
    Vacant,
}

/// A request to be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Solicit {
    pub interface: InterfaceId,
    pub address: IpAddr,
    /// To this neighbour alone; `None`: to all.
    pub to: Option<Mac>,
}

/// What a packet that wants a neighbour gets.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub mac: Option<Mac>,
    pub solicit: Option<Solicit>,
}

/// What a timer led to.
#[derive(Debug)]
pub(crate) enum Due {
    Solicit(Solicit),
    /// Nobody answers for the address: these die.
    Unresolved(Vec<Vec<u8>>),
    Nothing,
}

/// Packets that waited for a neighbour that had to go.
pub(crate) type Evicted = Vec<Vec<u8>>;

/// What a claim led to.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    /// What waited for the address, which is known now.
    pub ready: Vec<Vec<u8>>,
    /// Whoever has the address is to be asked.
    pub solicit: Option<Solicit>,
    /// Whoever has the address said so: a claim was false.
    pub denied: bool,
}

/// What somebody says of an address.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// An answer to us (ARP reply, solicited advertisement).
    Answer { overrides: bool },
    /// Said without being asked (ARP request, gratuitous ARP, unsolicited advertisement, solicitation).
    Notice { overrides: bool },
}

impl Neighbour {
    fn has_answered(&self) -> bool {
        !matches!(self.state, State::Unknown | State::Incomplete { .. } | State::Vacant)
    }
}

impl Neighbours {
    pub fn new(key: Key, now: Instant) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Map::with_hasher(key),
            timers: Wheel::new(now),
            hand: 0,
            waiting: 0,
        }
    }

    /// The slot of a neighbour, made when it is new. With it, when another one's slot was taken for it: what waited
    /// there. Whoever kept that slot must look it up again.
    pub fn slot(&mut self, interface: InterfaceId, address: IpAddr, now: Instant) -> (u32, Option<Evicted>) {
        let key = (interface, bits(address));
        if let Some(slot) = self.index.get(&key) {
            return (*slot, None);
        }
        let full = self.free.is_empty() && self.slots.len() == MAX_NEIGHBOURS;
        let evicted = full.then(|| self.evict());
        let fresh = Neighbour {
            interface,
            address,
            mac: [0; 6],
            rival: [0; 6],
            denied_at: None,
            state: State::Unknown,
            since: now,
            used: now,
            told: false,
            timer: None,
            waiting: Vec::new(),
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = fresh;
                slot
            }
            None => {
                self.slots.push(fresh);
                (self.slots.len() - 1) as u32
            }
        };
        self.index.insert(key, slot);
        (slot, evicted)
    }

    /// Frees the longest unused of a few entries; what was told stays if anything else can go, and so does who has
    /// answered if somebody has not: a scan of addresses that nobody has costs no neighbour its place.
    fn evict(&mut self) -> Evicted {
        let candidates = (0..EVICTION_SCAN).map(|step| (self.hand + step) % self.slots.len());
        let worth = |neighbour: &Neighbour| (neighbour.told, neighbour.has_answered(), neighbour.used);
        let victim = candidates.min_by_key(|slot| worth(&self.slots[*slot]));
        self.hand = (self.hand + EVICTION_SCAN) % self.slots.len();
        victim.map_or_else(Vec::new, |victim| self.vacate(victim as u32))
    }

    fn vacate(&mut self, slot: u32) -> Vec<Vec<u8>> {
        let neighbour = &mut self.slots[slot as usize];
        let timer = neighbour.timer.take();
        neighbour.state = State::Vacant;
        self.index.remove(&(neighbour.interface, bits(neighbour.address)));
        self.free.push(slot);
        if let Some(timer) = timer {
            self.timers.cancel(timer);
        }
        self.take_waiting(slot)
    }

    fn take_waiting(&mut self, slot: u32) -> Vec<Vec<u8>> {
        let waiting = std::mem::take(&mut self.slots[slot as usize].waiting);
        self.waiting -= waiting.len();
        waiting
    }

    /// A packet wants to go to this neighbour.
    pub fn want(&mut self, slot: u32, now: Instant) -> Wanted {
        let neighbour = &mut self.slots[slot as usize];
        neighbour.used = now;
        match neighbour.state {
            State::Reachable if now.since(neighbour.since) < REACHABLE => {
                Wanted { mac: Some(neighbour.mac), solicit: None }
            }
            State::Reachable | State::Stale => {
                let mac = neighbour.mac;
                Wanted { mac: Some(mac), solicit: Some(self.ask(slot, State::Probe { tries: 1 }, now)) }
            }
            State::Probe { .. } | State::Contested { .. } => {
                Wanted { mac: Some(neighbour.mac), solicit: None }
            }
            State::Incomplete { .. } => Wanted { mac: None, solicit: None },
            State::Unknown | State::Vacant => {
                Wanted { mac: None, solicit: Some(self.ask(slot, State::Incomplete { tries: 1 }, now)) }
            }
        }
    }

    fn ask(&mut self, slot: u32, state: State, now: Instant) -> Solicit {
        self.enter(slot, state, now);
        let (retry, known) = match state {
            State::Contested { .. } => (CONTESTED_RETRY, true),
            state => (RETRY, matches!(state, State::Probe { .. })),
        };
        self.slots[slot as usize].timer = Some(self.timers.insert(now + retry, slot));
        let neighbour = &self.slots[slot as usize];
        let to = known.then_some(neighbour.mac);
        Solicit { interface: neighbour.interface, address: neighbour.address, to }
    }

    /// Leaves a state with its timer, and enters another.
    fn enter(&mut self, slot: u32, state: State, now: Instant) {
        let neighbour = &mut self.slots[slot as usize];
        neighbour.state = state;
        neighbour.since = now;
        if let Some(timer) = neighbour.timer.take() {
            self.timers.cancel(timer);
        }
    }

    /// Keeps a frame until the neighbour answers. Gives it back when enough wait.
    pub fn wait(&mut self, slot: u32, frame: Vec<u8>) -> Result<(), Vec<u8>> {
        let neighbour = &mut self.slots[slot as usize];
        if neighbour.waiting.len() == MAX_WAITING || self.waiting == MAX_WAITING_IN_ALL {
            return Err(frame);
        }
        self.waiting += 1;
        neighbour.waiting.push(frame);
        Ok(())
    }

    /// Somebody claims that `address` is at `mac`. Only entries that exist learn, and those exist that a packet of ours
    /// wanted or that were told (RFC 826, the merge; RFC 4861, section 7.2.5, and 7.2.3 without creating).
    pub fn claim(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Mac,
        claim: Claim,
        now: Instant,
    ) -> Claimed {
        let Some(&slot) = self.index.get(&(interface, bits(address))) else { return Claimed::default() };
        let neighbour = &mut self.slots[slot as usize];
        match neighbour.state {
            State::Vacant => Claimed::default(),
            State::Unknown | State::Incomplete { .. } => {
                let asked = matches!(neighbour.state, State::Incomplete { .. });
                neighbour.mac = mac;
                let answered = asked && matches!(claim, Claim::Answer { .. });
                self.enter(slot, if answered { State::Reachable } else { State::Stale }, now);
                Claimed { ready: self.take_waiting(slot), ..Claimed::default() }
            }
            _ if neighbour.mac == mac => self.confirm(slot, claim, now),
            _ => self.contest(slot, mac, claim, now),
        }
    }

    /// The neighbour itself speaks.
    fn confirm(&mut self, slot: u32, claim: Claim, now: Instant) -> Claimed {
        if matches!(claim, Claim::Notice { .. }) {
            return Claimed::default();
        }
        let neighbour = &mut self.slots[slot as usize];
        let denied = matches!(neighbour.state, State::Contested { .. });
        if denied {
            neighbour.denied_at = Some(now);
        }
        self.enter(slot, State::Reachable, now);
        Claimed { denied, ..Claimed::default() }
    }

    /// Somebody else says that the address is theirs. That is how a standby gateway takes over, and how a thief of its
    /// traffic does: whoever has it now is asked first.
    fn contest(&mut self, slot: u32, rival: Mac, claim: Claim, now: Instant) -> Claimed {
        let neighbour = &mut self.slots[slot as usize];
        let (Claim::Answer { overrides } | Claim::Notice { overrides }) = claim;
        if !overrides {
            // Doubt, but no change: the neighbour is asked when it is next used.
            if neighbour.state == State::Reachable {
                self.enter(slot, State::Stale, now);
            }
            return Claimed::default();
        }
        if neighbour.denied_at.is_some_and(|at| now.since(at) < DENIED) {
            return Claimed { denied: true, ..Claimed::default() };
        }
        neighbour.rival = rival;
        if matches!(neighbour.state, State::Contested { .. }) {
            return Claimed::default();
        }
        let solicit = Some(self.ask(slot, State::Contested { tries: 1 }, now));
        Claimed { solicit, ..Claimed::default() }
    }

    /// The kernel knows the address. Returns what waited for it, and what [`Neighbours::slot`] says.
    pub fn tell(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Mac,
        now: Instant,
    ) -> (Vec<Vec<u8>>, Option<Evicted>) {
        let (slot, evicted) = self.slot(interface, address, now);
        self.enter(slot, State::Reachable, now);
        let neighbour = &mut self.slots[slot as usize];
        neighbour.mac = mac;
        neighbour.told = true;
        (self.take_waiting(slot), evicted)
    }

    /// The kernel no longer knows the address: it must be asked for again. What waits goes on
    /// waiting.
    pub fn forget(&mut self, interface: InterfaceId, address: IpAddr, now: Instant) {
        let Some(&slot) = self.index.get(&(interface, bits(address))) else { return };
        self.slots[slot as usize].told = false;
        if !matches!(self.slots[slot as usize].state, State::Incomplete { .. }) {
            self.enter(slot, State::Unknown, now);
        }
    }

    /// Drops the neighbours of an interface that is gone; returns the packets that waited.
    pub fn remove_interface(&mut self, interface: InterfaceId) -> Vec<Vec<u8>> {
        let occupied = |slot: &Neighbour| slot.state != State::Vacant && slot.interface == interface;
        let gone: Vec<u32> =
            (0..self.slots.len() as u32).filter(|slot| occupied(&self.slots[*slot as usize])).collect();
        gone.into_iter().flat_map(|slot| self.vacate(slot)).collect()
    }

    /// The next thing a timer wants done, while there is work to spend. `None`: nothing more is due.
    pub fn poll_due(&mut self, now: Instant, work: &mut usize) -> Option<Due> {
        let slot = self.timers.poll(now, work)?;
        let neighbour = &mut self.slots[slot as usize];
        neighbour.timer = None;
        Some(match neighbour.state {
            State::Incomplete { tries } if tries < MAX_TRIES => {
                Due::Solicit(self.ask(slot, State::Incomplete { tries: tries + 1 }, now))
            }
            State::Probe { tries } if tries < MAX_TRIES => {
                Due::Solicit(self.ask(slot, State::Probe { tries: tries + 1 }, now))
            }
            State::Contested { tries } if tries < MAX_CONTESTED_TRIES => {
                Due::Solicit(self.ask(slot, State::Contested { tries: tries + 1 }, now))
            }
            State::Contested { .. } => {
                neighbour.mac = neighbour.rival;
                self.enter(slot, State::Stale, now);
                Due::Nothing
            }
            State::Incomplete { .. } => {
                self.enter(slot, State::Unknown, now);
                Due::Unresolved(self.take_waiting(slot))
            }
            State::Probe { .. } => {
                let state = if neighbour.told { State::Reachable } else { State::Unknown };
                self.enter(slot, state, now);
                Due::Nothing
            }
            State::Unknown | State::Reachable | State::Stale | State::Vacant => Due::Nothing,
        })
    }

    pub fn next_timeout(&self) -> Option<Instant> {
        self.timers.next_timeout()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: InterfaceId = InterfaceId(3);
    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];

    fn at(seconds: f64) -> Instant {
        Instant::ZERO + Duration::from_secs_f64(seconds)
    }

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(u32::to_be_bytes(0x0a00_0000 + number).into())
    }

    fn table() -> Neighbours {
        Neighbours::new(Key::new(&[0; 32], 0), at(0.0))
    }

    fn wanted(table: &mut Neighbours, number: u32, seconds: f64) -> Wanted {
        let (slot, _) = table.slot(LINK, host(number), at(seconds));
        table.want(slot, at(seconds))
    }

    fn answered(table: &mut Neighbours, mac: Mac, seconds: f64) -> Vec<Vec<u8>> {
        table.claim(LINK, host(1), mac, Claim::Answer { overrides: true }, at(seconds)).ready
    }

    #[test]
    fn an_unknown_neighbour_is_asked_for_three_times_and_then_what_waits_dies() {
        let mut table = table();
        let (slot, _) = table.slot(LINK, host(1), at(0.0));
        assert!(table.want(slot, at(0.0)).solicit.is_some_and(|solicit| solicit.to.is_none()));
        table.wait(slot, vec![1]).unwrap();
        assert_eq!(table.want(slot, at(0.5)), Wanted { mac: None, solicit: None });
        let due = |table: &mut Neighbours, seconds| table.poll_due(at(seconds), &mut 64);
        assert!(due(&mut table, 0.9).is_none());
        assert!(matches!(due(&mut table, 1.1), Some(Due::Solicit(_))));
        assert!(matches!(due(&mut table, 2.2), Some(Due::Solicit(_))));
        assert!(matches!(due(&mut table, 3.3), Some(Due::Unresolved(waiting)) if waiting == [vec![1]]));
        assert!(table.want(slot, at(3.4)).solicit.is_some(), "the next packet begins anew");
    }

    #[test]
    fn a_bounded_number_of_packets_waits_and_leaves_with_the_answer() {
        let mut table = table();
        let (slot, _) = table.slot(LINK, host(1), at(0.0));
        table.want(slot, at(0.0));
        for number in 0..MAX_WAITING as u8 {
            table.wait(slot, vec![number]).unwrap();
        }
        assert_eq!(table.wait(slot, vec![9]), Err(vec![9]));
        assert_eq!(answered(&mut table, A, 0.1).len(), MAX_WAITING);
        assert_eq!(table.want(slot, at(0.2)), Wanted { mac: Some(A), solicit: None });
    }

    #[test]
    fn nobody_is_learned_who_was_not_asked_for() {
        let mut table = table();
        answered(&mut table, A, 0.0);
        assert_eq!(wanted(&mut table, 1, 0.1).mac, None);
    }

    #[test]
    fn an_old_answer_is_probed_while_it_is_used_and_dropped_when_nobody_answers() {
        let mut table = table();
        wanted(&mut table, 1, 0.0);
        answered(&mut table, A, 0.1);
        assert_eq!(wanted(&mut table, 1, 29.0).solicit, None);
        let probe = wanted(&mut table, 1, 31.0);
        assert_eq!((probe.mac, probe.solicit.unwrap().to), (Some(A), Some(A)));
        for (seconds, solicits) in [(32.1, true), (33.2, true), (34.3, false)] {
            let due = table.poll_due(at(seconds), &mut 64).unwrap();
            assert_eq!(matches!(due, Due::Solicit(_)), solicits, "at {seconds}");
        }
        assert_eq!(wanted(&mut table, 1, 35.0).mac, None);
    }

    #[test]
    fn a_neighbour_that_was_told_stays_when_it_does_not_answer() {
        let mut table = table();
        table.tell(LINK, host(1), A, at(0.0));
        assert!(wanted(&mut table, 1, 31.0).solicit.is_some());
        for seconds in [32.1, 33.2, 34.3] {
            table.poll_due(at(seconds), &mut 64);
        }
        assert_eq!(wanted(&mut table, 1, 35.0), Wanted { mac: Some(A), solicit: None });
        table.forget(LINK, host(1), at(36.0));
        assert_eq!(wanted(&mut table, 1, 36.0).mac, None);
    }

    /// A neighbour at A, and then a gratuitous claim of B at 5 s: who is asked.
    fn contested(table: &mut Neighbours) -> Option<Mac> {
        wanted(table, 1, 0.0);
        answered(table, A, 0.1);
        let claimed = table.claim(LINK, host(1), B, Claim::Notice { overrides: true }, at(5.0));
        claimed.solicit.and_then(|solicit| solicit.to)
    }

    #[test]
    fn a_gateway_that_moves_is_followed_when_its_old_address_is_silent() {
        let mut table = table();
        assert_eq!(contested(&mut table), Some(A), "who has it is asked");
        assert_eq!(wanted(&mut table, 1, 5.01).mac, Some(A));
        assert!(matches!(table.poll_due(at(5.052), &mut 64), Some(Due::Solicit(_))));
        assert!(matches!(table.poll_due(at(5.105), &mut 64), Some(Due::Nothing)));
        let probe = wanted(&mut table, 1, 5.11);
        assert_eq!((probe.mac, probe.solicit.unwrap().to), (Some(B), Some(B)), "used, and confirmed");
    }

    #[test]
    fn a_claim_that_the_neighbour_denies_changes_nothing() {
        let mut table = table();
        contested(&mut table);
        let answer = Claim::Answer { overrides: true };
        assert!(!table.claim(LINK, host(1), B, answer, at(5.001)).denied, "the thief's own word");
        assert!(table.claim(LINK, host(1), A, answer, at(5.002)).denied);
        let again = table.claim(LINK, host(1), B, answer, at(5.003));
        assert!(again.denied && again.solicit.is_none(), "a flood is not answered by one");
        assert_eq!(wanted(&mut table, 1, 6.0), Wanted { mac: Some(A), solicit: None });
        assert!(table.claim(LINK, host(1), B, answer, at(6.0)).solicit.is_some());
    }

    #[test]
    fn an_answer_that_nobody_asked_for_is_no_answer() {
        let mut table = table();
        table.slot(LINK, host(1), at(0.0));
        answered(&mut table, A, 0.0);
        assert!(wanted(&mut table, 1, 0.1).solicit.is_some(), "it is asked before it is believed");
    }

    #[test]
    fn who_has_answered_outlives_who_has_not() {
        let mut table = table();
        wanted(&mut table, 1, 0.0);
        answered(&mut table, A, 0.1);
        for number in 2..2 + 2 * MAX_NEIGHBOURS as u32 {
            wanted(&mut table, number, 1.0);
        }
        assert_eq!(wanted(&mut table, 1, 2.0).mac, Some(A));
    }

    #[test]
    fn an_advertisement_that_does_not_override_only_raises_doubt() {
        let mut table = table();
        wanted(&mut table, 1, 0.0);
        answered(&mut table, A, 0.1);
        let doubt = Claim::Answer { overrides: false };
        table.claim(LINK, host(1), B, doubt, at(1.0));
        let probe = wanted(&mut table, 1, 1.1);
        assert_eq!((probe.mac, probe.solicit.unwrap().to), (Some(A), Some(A)));
    }

    #[test]
    fn a_full_table_gives_up_its_longest_unused() {
        let mut table = table();
        for number in 0..MAX_NEIGHBOURS as u32 {
            assert!(table.slot(LINK, host(number), at(0.0)).1.is_none());
        }
        for number in 1..EVICTION_SCAN as u32 {
            wanted(&mut table, number, 1.0);
        }
        assert!(table.slot(LINK, host(90_000), at(2.0)).1.is_some());
        assert!(table.slot(LINK, host(0), at(2.0)).1.is_some(), "number 0 was the one to go");
    }

    #[test]
    fn an_interface_that_goes_takes_its_neighbours_along() {
        let mut table = table();
        let (slot, _) = table.slot(LINK, host(1), at(0.0));
        table.want(slot, at(0.0));
        table.wait(slot, vec![1]).unwrap();
        assert_eq!(table.remove_interface(LINK), [vec![1]]);
        assert!(table.poll_due(at(9.0), &mut 64).is_none());
    }
}
