//! The clock and what happens on it: packets arrive, nodes turn, wires take what they sent.

use std::fmt;
use std::io;
use std::time::Duration;

use stack::Instant;

use crate::link::{Link, Way};
use crate::{LinkConfig, LinkEnd, Trace};

/// A turn costs its node this much virtual time: a node that is always busy still lets the clock go on.
const TURN: Duration = Duration::from_micros(1);

/// Something that turns: a host, a router, a worker. It holds its [`LinkEnd`]s and owns no clock.
pub trait Node {
    /// Does what there is to do, within the node's own budgets.
    fn turn(&mut self, now: Instant);

    /// When the next turn is wanted; a moment that has passed means as soon as possible (packets have arrived, or
    /// the last turn left work). `None`: when a packet arrives.
    fn next_deadline(&self) -> Option<Instant>;
}

/// For a test that keeps a hand on its node.
impl<N: Node> Node for std::rc::Rc<std::cell::RefCell<N>> {
    fn turn(&mut self, now: Instant) {
        self.borrow_mut().turn(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.borrow().next_deadline()
    }
}

/// Names a node of a network.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NodeNumber(usize);

/// Nodes and links on one virtual clock.
pub struct Network {
    seed: u64,
    now: Instant,
    links: Vec<Link>,
    nodes: Vec<Seat>,
    trace: Trace,
}

struct Seat {
    node: Box<dyn Node>,
    /// Its last turn costs time until then.
    free_at: Instant,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("seed", &self.seed)
            .field("now", &self.now)
            .field("links", &self.links.len())
            .field("nodes", &self.nodes.len())
            .field("trace", &self.trace.hash())
            .finish()
    }
}

impl Network {
    /// An empty network; `seed` decides every fault on its links.
    pub fn new(seed: u64) -> Self {
        Self { seed, now: Instant::ZERO, links: Vec::new(), nodes: Vec::new(), trace: Trace::new() }
    }

    /// A link between two ends, one for each node.
    pub fn link(&mut self, name: &str, config: LinkConfig) -> (LinkEnd, LinkEnd) {
        let link = Link::new(name, self.links.len(), config, self.seed);
        let ends = link.ends();
        self.links.push(link);
        ends
    }

    /// Changes a link from now on, by its name; what is on the wire arrives as it was sent.
    ///
    /// # Panics
    /// When there is no such link.
    pub fn set_link(&mut self, name: &str, config: &LinkConfig) {
        let link = self.links.iter_mut().find(|link| link.name == name);
        link.expect("a test names a link that it made").set_config(config);
    }

    /// Nothing gets through a link that way for `duration`; the other way goes on.
    ///
    /// # Panics
    /// When there is no such link.
    pub fn darken(&mut self, name: &str, way: Way, duration: Duration) {
        let until = self.now + duration;
        let link = self.links.iter_mut().find(|link| link.name == name);
        link.expect("a test names a link that it made").darken(way, until);
    }

    /// Nodes take their turns in the order in which they were added.
    pub fn add(&mut self, node: impl Node + 'static) -> NodeNumber {
        self.nodes.push(Seat { node: Box::new(node), free_at: Instant::ZERO });
        NodeNumber(self.nodes.len() - 1)
    }

    /// A node takes no turn for `duration`, as when its core is taken away; packets wait in its rings.
    pub fn stall(&mut self, node: NodeNumber, duration: Duration) {
        self.nodes[node.0].free_at = self.now + duration;
    }

    pub fn now(&self) -> Instant {
        self.now
    }

    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    pub fn trace_mut(&mut self) -> &mut Trace {
        &mut self.trace
    }

    /// Writes the packets that the trace kept as a pcapng file: one interface a link, direction and fate.
    pub fn write_pcapng(&self, to: &mut dyn io::Write) -> io::Result<()> {
        let names: Vec<&str> = self.links.iter().map(|link| link.name.as_str()).collect();
        self.trace.write_pcapng(&names, to)
    }

    /// The packets that the trace kept, a line each.
    pub fn trace_text(&self) -> String {
        let names: Vec<&str> = self.links.iter().map(|link| link.name.as_str()).collect();
        self.trace.text(&names)
    }

    /// Lets time go on until `condition` holds, at most for `limit`. Whether it held.
    pub fn run_until(&mut self, limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if condition() {
                return true;
            }
            self.settle();
            match self.next_event() {
                Some(next) if next <= end => self.now = self.now.max(next),
                _ => {
                    self.now = end;
                    return condition();
                }
            }
        }
    }

    /// Lets `duration` go by.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, || false);
    }

    /// All that happens at this instant.
    fn settle(&mut self) {
        for (number, link) in self.links.iter_mut().enumerate() {
            link.deliver(number, self.now, &mut self.trace);
        }
        for seat in &mut self.nodes {
            if seat.due().is_some_and(|due| due <= self.now) {
                seat.node.turn(self.now);
                seat.free_at = self.now + TURN;
            }
        }
        for (number, link) in self.links.iter_mut().enumerate() {
            link.take(number, self.now, &mut self.trace);
        }
    }

    fn next_event(&self) -> Option<Instant> {
        let arrivals = self.links.iter().filter_map(Link::next_arrival);
        let turns = self.nodes.iter().filter_map(Seat::due);
        arrivals.chain(turns).min()
    }
}

impl Seat {
    fn due(&self) -> Option<Instant> {
        self.node.next_deadline().map(|due| due.max(self.free_at))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;
    use crate::LinkFaults;

    /// Sends a packet every millisecond and counts what arrives.
    struct Ticker {
        end: LinkEnd,
        next: Instant,
        received: Rc<Cell<u32>>,
    }

    impl Node for Ticker {
        fn turn(&mut self, now: Instant) {
            while self.end.receive_one().is_some() {
                self.received.set(self.received.get() + 1);
            }
            if now >= self.next {
                self.next = now + Duration::from_millis(1);
                self.end.send(&[0; 60]).expect("the ring is not full");
            }
        }

        fn next_deadline(&self) -> Option<Instant> {
            if self.end.has_arrived() { Some(Instant::ZERO) } else { Some(self.next) }
        }
    }

    fn run(seed: u64) -> (u32, u64) {
        let mut network = Network::new(seed);
        let (left, right) =
            network.link("link", LinkConfig { faults: LinkFaults::ROUGH, ..LinkConfig::default() });
        let received = Rc::new(Cell::new(0));
        for end in [left, right] {
            network.add(Ticker { end, next: Instant::ZERO, received: Rc::clone(&received) });
        }
        network.run_for(Duration::from_secs(1));
        (received.get(), network.trace().hash())
    }

    #[test]
    fn a_seed_gives_one_trace_and_another_seed_another() {
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).1, run(2).1);
        assert!((1_800..2_000).contains(&run(1).0), "{} of about 2,000", run(1).0);
    }

    #[test]
    fn a_condition_ends_the_run_and_the_limit_does_too() {
        let mut network = Network::new(1);
        let (left, right) = network.link("link", LinkConfig::default());
        let received = Rc::new(Cell::new(0));
        network.add(Ticker { end: left, next: Instant::ZERO, received: Rc::default() });
        network.add(Ticker { end: right, next: Instant::ZERO, received: Rc::clone(&received) });
        assert!(network.run_until(Duration::from_secs(1), || received.get() == 10));
        assert!(network.now() < Instant::ZERO + Duration::from_millis(11));
        assert!(!network.run_until(Duration::from_millis(5), || received.get() == 100));
    }

    #[test]
    fn a_stalled_node_takes_no_turn_until_its_time_is_over() {
        let mut network = Network::new(1);
        let (left, right) = network.link("link", LinkConfig::default());
        let received = Rc::new(Cell::new(0));
        network.add(Ticker { end: left, next: Instant::ZERO, received: Rc::default() });
        let node = network.add(Ticker { end: right, next: Instant::ZERO, received: Rc::clone(&received) });
        network.stall(node, Duration::from_millis(100));
        network.run_for(Duration::from_millis(99));
        assert_eq!(received.get(), 0);
        network.run_for(Duration::from_millis(2));
        assert!(received.get() >= 99);
    }

    /// Wants its turn at once, always.
    struct Busy;

    impl Node for Busy {
        fn turn(&mut self, _: Instant) {}

        fn next_deadline(&self) -> Option<Instant> {
            Some(Instant::ZERO)
        }
    }

    #[test]
    fn a_busy_node_does_not_stop_the_clock() {
        let mut network = Network::new(1);
        network.add(Busy);
        network.run_for(Duration::from_millis(1));
        assert_eq!(network.now(), Instant::ZERO + Duration::from_millis(1));
    }
}
