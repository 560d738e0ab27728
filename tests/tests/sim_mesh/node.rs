//! A node of the mesh on the simulator: real workers, each a [`sim::Node`] that takes its turns on the virtual clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use model::table::Table;
use proxy::{Proxy, ProxyConfig, Snapshot};
use sim::{LinkEnd, Network, Random};
use socket::Core;
use stack::{Config, Instant, InterfaceConfig, Route, Stack};
use worker::{Command, Doorbell, Exit, Place, Port, Sender, Worker, mailbox, ring};

use crate::card::{CardQueue, card};

/// One interface of the node, and the link that it is on.
#[derive(Debug)]
pub struct Interface {
    pub config: InterfaceConfig,
    pub end: LinkEnd,
}

/// How many workers a node has, and how many queues each of its interfaces.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Size {
    pub workers: usize,
    pub queues: usize,
}

impl Default for Size {
    fn default() -> Self {
        Self { workers: 1, queues: 1 }
    }
}

/// A worker and the queues that it owns.
#[derive(Debug)]
pub struct WorkerNode {
    pub worker: Worker<Proxy>,
    queues: Vec<CardQueue>,
    /// The last turn found work.
    busy: bool,
    now: Instant,
}

/// The node's workers, as the management thread sees them.
#[derive(Debug)]
pub struct MeshNode {
    pub workers: Vec<Rc<RefCell<WorkerNode>>>,
    pub ends: Vec<LinkEnd>,
    mailboxes: Vec<Sender<Command<Proxy>>>,
}

impl sim::Node for WorkerNode {
    fn turn(&mut self, now: Instant) {
        self.now = now;
        // A worker that sleeps is woken by its queues' descriptors, and visits all of them.
        if self.has_arrived() {
            self.worker.wake_ports();
        }
        self.busy = self.worker.turn(now, &mut || false);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let waits = !self.worker.is_idle() || self.worker.is_sending() || self.has_arrived();
        if self.busy || waits {
            return Some(self.now);
        }
        self.worker.core.poll_timeout()
    }
}

impl WorkerNode {
    fn has_arrived(&self) -> bool {
        self.queues.iter().any(CardQueue::has_arrived)
    }
}

impl MeshNode {
    /// A node on `network`. `seed` decides all that it chooses.
    pub fn add(
        network: &mut Network,
        seed: u64,
        size: Size,
        interfaces: &[Interface],
        routes: &[Route],
    ) -> Self {
        let bells: Vec<Doorbell> =
            (0..size.workers).map(|_| Doorbell::new().expect("a descriptor is free")).collect();
        let cards: Vec<Vec<CardQueue>> = interfaces.iter().map(|each| card(&each.end, size.queues)).collect();
        let ends = interfaces.iter().map(|each| each.end.clone()).collect();
        let mut node = Self { workers: Vec::new(), ends, mailboxes: Vec::new() };
        for place in places(&bells) {
            let number = place.number;
            let (sender, mailbox) = mailbox(bells[number].clone());
            let (core, proxy) =
                (core(seed, number, size.workers), self::proxy(number, size.workers, interfaces));
            let mut worker = Worker::new(core, proxy, mailbox, place);
            let mut queues = Vec::new();
            for (device, (interface, card)) in interfaces.iter().zip(&cards).enumerate() {
                let exit = match card.get(number) {
                    Some(queue) => {
                        queues.push(queue.clone());
                        let name = interface.config.name.clone();
                        let port = worker.add_port(Port::new(name, device, Box::new(queue.clone())));
                        Exit { ports: vec![port], owner: None }
                    }
                    None => Exit { ports: Vec::new(), owner: Some(number % size.queues) },
                };
                worker.set_interface(interface.config.clone(), exit, Instant::ZERO);
            }
            worker.set_routes(routes);
            let worker = WorkerNode { worker, queues, busy: false, now: Instant::ZERO };
            let worker = Rc::new(RefCell::new(worker));
            network.add(Rc::clone(&worker));
            node.workers.push(worker);
            node.mailboxes.push(sender);
        }
        node
    }

    /// Puts a table in force on every worker, as `ringwayd` does: by a command in each mailbox.
    pub fn publish(&self, table: Table) {
        let version = table.version;
        let snapshot = Arc::new(Snapshot::compile(table).expect("the table is consistent"));
        for mailbox in &self.mailboxes {
            let snapshot = Arc::clone(&snapshot);
            let swap = Command::new(move |worker: &mut Worker<Proxy>, now| {
                let Worker { core, application, .. } = worker;
                let former = core.enter(now, || application.set_table(snapshot));
                core.stack().set_table_version(version);
                drop(former);
            });
            mailbox.send(swap).expect("the worker takes its commands");
        }
    }

    /// A counter of the proxy, added up over workers and over the series whose labels contain `label`.
    pub fn sample(&self, name: &str, label: &str) -> f64 {
        let mut sum = 0.0;
        for each in &self.workers {
            each.borrow().worker.application.samples(&mut |sample| {
                if sample.name == name && sample.labels.iter().any(|(_, value)| value.contains(label)) {
                    sum += sample.value;
                }
            });
        }
        sum
    }
}

/// A ring from every worker to every other.
fn places(bells: &[Doorbell]) -> Vec<Place> {
    let count = bells.len();
    let mut places: Vec<Place> = (0..count)
        .map(|number| Place { number, to: (0..count).map(|_| None).collect(), from: Vec::new() })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|&to| to != from) {
            let (sender, receiver) = ring(bells[to].clone());
            places[from].to[to] = Some(sender);
            places[to].from.push(receiver);
        }
    }
    places
}

fn core(seed: u64, number: usize, workers: usize) -> Core {
    let mut random = Random::for_stream(seed, u64::from_be_bytes(*b"node\0\0\0\0"));
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    let config = Config {
        secret,
        worker: u16::try_from(number).expect("few workers"),
        workers: u16::try_from(workers).expect("few workers"),
        ..Config::default()
    };
    Core::new(Stack::new(config, Instant::ZERO), random.next() ^ number as u64)
}

fn proxy(number: usize, workers: usize, interfaces: &[Interface]) -> Proxy {
    let proxy = Proxy::new(ProxyConfig {
        worker: u16::try_from(number).expect("few workers"),
        workers: u16::try_from(workers).expect("few workers"),
        checks_health: number == 0,
        ..ProxyConfig::default()
    });
    let names = interfaces.iter().map(|each| (each.config.id, each.config.name.clone(), each.config.role));
    proxy.set_interfaces(names.collect());
    proxy
}
