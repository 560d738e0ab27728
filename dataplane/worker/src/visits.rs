//! Which queue pairs a turn visits: those where packets come, every turn; the quiet ones in rotation. So a turn's cost
//! does not grow with the number of queue pairs that are quiet.

/// A port that was empty this often in a row rests. It wakes when a packet is found, or when a sleep ended because of it.
const RESTS_AFTER: u32 = 64;

/// Resting ports visited in one turn. While a worker is too busy to sleep, the first packet on one of 256 resting ports
/// waits for at most 64 turns.
pub const RESTING_VISITS_PER_TURN: usize = 4;

/// The ports of one worker, by number.
#[derive(Debug, Default)]
pub struct Visits {
    /// Visited every turn.
    awake: Vec<usize>,
    /// By port.
    ports: Vec<Quiet>,
    /// Where the rotation goes on.
    next: usize,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Quiet {
    /// Awake, and empty at this many visits in a row.
    For(u32),
    Rests,
}

impl Visits {
    /// A new port: it has the next number.
    pub fn add(&mut self) {
        self.awake.push(self.ports.len());
        self.ports.push(Quiet::For(0));
    }

    /// The port that a turn visits at this point of its round; `None` at the end.
    pub fn awake(&self, at: usize) -> Option<usize> {
        self.awake.get(at).copied()
    }

    /// The port at this point of the round was visited. Where the round goes on.
    pub fn visited(&mut self, at: usize, found: bool) -> usize {
        let port = self.awake[at];
        self.ports[port] = match self.ports[port] {
            _ if found => Quiet::For(0),
            Quiet::For(RESTS_AFTER) | Quiet::Rests => Quiet::Rests,
            Quiet::For(visits) => Quiet::For(visits + 1),
        };
        if self.ports[port] == Quiet::Rests {
            self.awake.swap_remove(at);
            return at;
        }
        at + 1
    }

    /// One step of the rotation: the next port, if it rests.
    pub fn next_resting(&mut self) -> Option<usize> {
        let port = self.next;
        let state = *self.ports.get(port)?;
        self.next = (port + 1) % self.ports.len();
        (state == Quiet::Rests).then_some(port)
    }

    pub fn wake(&mut self, port: usize) {
        if self.ports[port] == Quiet::Rests {
            self.awake.push(port);
        }
        self.ports[port] = Quiet::For(0);
    }

    pub fn wake_all(&mut self) {
        (0..self.ports.len()).for_each(|port| self.wake(port));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One turn in which only `busy` has packets; the ports that were visited.
    fn turn(visits: &mut Visits, busy: usize) -> Vec<usize> {
        let (mut seen, mut at) = (Vec::new(), 0);
        while let Some(port) = visits.awake(at) {
            seen.push(port);
            at = visits.visited(at, port == busy);
        }
        for _ in 0..RESTING_VISITS_PER_TURN {
            if let Some(port) = visits.next_resting() {
                seen.push(port);
                if port == busy {
                    visits.wake(port);
                }
            }
        }
        seen
    }

    fn ports(count: usize) -> Visits {
        let mut visits = Visits::default();
        (0..count).for_each(|_| visits.add());
        visits
    }

    #[test]
    fn a_turn_visits_the_busy_port_and_a_few_that_rest_however_many_there_are() {
        for count in [16, 256] {
            let mut visits = ports(count);
            (0..=RESTS_AFTER).for_each(|_| drop(turn(&mut visits, 5)));
            for _ in 0..1_000 {
                let seen = turn(&mut visits, 5);
                assert!(seen.contains(&5) && seen.len() <= 1 + RESTING_VISITS_PER_TURN, "{seen:?}");
            }
        }
    }

    #[test]
    fn every_resting_port_has_its_turn_in_the_rotation() {
        let mut visits = ports(256);
        (0..=RESTS_AFTER).for_each(|_| drop(turn(&mut visits, 5)));
        let round = 256 / RESTING_VISITS_PER_TURN;
        let seen: std::collections::BTreeSet<usize> = (0..round).flat_map(|_| turn(&mut visits, 5)).collect();
        assert_eq!(seen.len(), 256);
    }

    #[test]
    fn a_resting_port_where_a_packet_is_found_is_visited_every_turn_again() {
        let mut visits = ports(64);
        (0..=RESTS_AFTER).for_each(|_| drop(turn(&mut visits, 5)));
        let turns = (1..).find(|_| turn(&mut visits, 40).contains(&40)).unwrap();
        assert!(turns <= 64 / RESTING_VISITS_PER_TURN);
        assert!((0..100).all(|_| turn(&mut visits, 40).contains(&40)));
    }

    #[test]
    fn a_port_that_is_woken_is_visited_at_once_and_once() {
        let mut visits = ports(64);
        (0..=RESTS_AFTER).for_each(|_| drop(turn(&mut visits, 5)));
        visits.wake(40);
        visits.wake(40);
        assert_eq!(turn(&mut visits, 5).iter().filter(|&&port| port == 40).count(), 1);
        visits.wake_all();
        let mut seen = turn(&mut visits, 5);
        seen.sort_unstable();
        assert_eq!(seen, (0..64).collect::<Vec<_>>());
    }
}
