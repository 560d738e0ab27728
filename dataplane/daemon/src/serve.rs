//! From a configuration to a node that serves, and to its orderly end.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host::{Netlink, Watcher};
use proxy::{Limits, Proxy, ProxyConfig};
use socket::Core;
use tokio::signal::unix::{SignalKind, signal};
use worker::{
    Command, Doorbell, Exit, Idle, Mailbox, Place, Port, Sender, Stack, StackConfig, Worker, mailbox, ring,
};

use crate::attach::{self, OpenQueue, Seed};
use crate::config::{NodeConfig, NodeLimits, Poll};
use crate::error::StartError;
use crate::identity::NodeIdentity;
use crate::interfaces::{self, Plan};
use crate::node::{Handle, Node};
use crate::pinned::{self, Clock};
use crate::{admin, housekeeping, mirror, saved, secrets, shares, tables};

/// Validates what can be validated without touching the host.
pub fn check(config: &NodeConfig) -> Result<(), StartError> {
    if let Some(directory) = &config.resources {
        let table = tables::from_directory(directory, config)?;
        proxy::Snapshot::compile(table).map_err(|error| StartError::Table(error.to_string()))?;
    }
    Ok(())
}

/// Runs the node until SIGTERM or SIGINT, then drains it. Must run on a `LocalSet`.
pub async fn serve(config: NodeConfig) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|source| StartError::Runtime { source })?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|source| StartError::Runtime { source })?;
    let state = |source| StartError::State { path: config.state.clone(), source };
    std::fs::create_dir_all(&config.state).map_err(state)?;
    let secret = secrets::load(&config.state).map_err(state)?;
    let identity = NodeIdentity::open(&config)?;
    let listener = tokio::net::TcpListener::bind(config.admin)
        .await
        .map_err(|source| StartError::Admin { address: config.admin, source })?;

    let netlink = Netlink::open()?;
    let plan = Rc::new(interfaces::plan(&netlink, &config).await?);
    let mut attached = attach::attach(&plan, config.workers.len())?;
    for queue in &attached.queues {
        tracing::info!(
            device = queue.device,
            queue = queue.queue,
            mode = queue.mode,
            why_not_better = queue.why_not_better,
            "queue pair"
        );
    }
    let stop = Arc::new(AtomicBool::new(false));
    let crew = start_workers(&config, &plan, attached.seeds, secret, &stop)?;
    for attachment in &mut attached.attachments {
        attachment.open()?;
    }
    let node = Rc::new(Node::new(config, identity, crew.handles, attached.queues, attached.attachments));

    let routes: Arc<[_]> = plan.workload_routes().into();
    node.tell_all(move |worker, _now| worker.set_routes(&routes));
    // The kernel's routes name the interfaces of the configuration; a bond's members are known by their own names.
    let named = node.config.interfaces.iter().map(|named| &named.name);
    let devices = plan.devices.iter().map(|device| &device.link.name);
    let watcher = Watcher::start(&netlink, named.chain(devices)).await?;
    tokio::task::spawn_local(mirror::follow(watcher, Rc::clone(&node), Rc::clone(&plan)));
    tokio::task::spawn_local(mirror::notices(Rc::clone(&node), Rc::clone(&plan)));
    tokio::task::spawn_local(housekeeping::run(Rc::clone(&node)));
    tokio::task::spawn_local(shares::run(Rc::clone(&node)));
    let saving = Rc::clone(&node);
    tokio::task::spawn_local(async move { saving.saver.run().await });
    tokio::task::spawn_local(admin::serve(listener, Rc::clone(&node)));
    start_tables(&node).await?;
    tracing::info!(node = node.config.node, admin = %node.config.admin, "serving");

    tokio::select! {
        _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
        _ = interrupt.recv() => tracing::info!("SIGINT: draining"),
    }
    node.drain(Duration::from_secs(node.config.drain_seconds)).await;
    node.saver.finish().await;
    stop.store(true, Ordering::Relaxed);
    node.tell_all(|_worker, _now| {});
    for thread in crew.threads {
        if thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
    Ok(())
}

/// The first table: from the directory, or the saved one until the control plane sends its own.
async fn start_tables(node: &Rc<Node>) -> Result<(), StartError> {
    if let Some(directory) = &node.config.resources {
        let table = tables::from_directory(directory, &node.config)?;
        return node.publish(table).await.map_err(StartError::Table);
    }
    match saved::load(&node.config.state) {
        Ok(Some(table)) => {
            tracing::info!(version = table.version, "starting from the saved table");
            if let Err(error) = node.publish(table).await {
                tracing::error!(error, "the saved table is not usable: waiting for the control plane");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::error!(%error, "no saved table: waiting for the control plane"),
    }
    let identified = Rc::clone(node);
    tokio::task::spawn_local(async move {
        if let Some(identity) = &identified.identity {
            identity.run().await;
        }
    });
    tokio::task::spawn_local(tables::follow(Rc::clone(node)));
    Ok(())
}

struct Crew {
    handles: Vec<Handle>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

/// What a worker's thread is built from. Everything in it may change threads; what is made of it stays.
struct Recruit {
    number: usize,
    cpu: usize,
    seed: Seed,
    place: Place,
    doorbell: Doorbell,
    mailbox: Mailbox<Command<Proxy>>,
    secret: [u8; 32],
    poll: Poll,
    spin: Duration,
    limits: NodeLimits,
    plan: Plan,
}

fn start_workers(
    config: &NodeConfig,
    plan: &Plan,
    seeds: Vec<Seed>,
    secret: [u8; 32],
    stop: &Arc<AtomicBool>,
) -> Result<Crew, StartError> {
    let no_bell = |source| StartError::Runtime { source };
    let bells: Vec<Doorbell> =
        seeds.iter().map(|_| Doorbell::new()).collect::<Result<_, _>>().map_err(no_bell)?;
    let places = places(&bells);
    let clock = Clock::start();
    let mut crew = Crew { handles: Vec::new(), threads: Vec::new() };
    let recruits = config.workers.iter().zip(seeds).zip(places).zip(&bells).enumerate();
    for (number, (((&cpu, seed), place), doorbell)) in recruits {
        let (sender, mailbox): (Sender<Command<Proxy>>, _) = mailbox(doorbell.clone());
        let recruit = Recruit {
            number,
            cpu,
            seed,
            place,
            doorbell: doorbell.clone(),
            mailbox,
            secret,
            poll: config.poll,
            spin: config.spin(),
            limits: config.limits,
            plan: plan.clone(),
        };
        let (ready, readiness) = std::sync::mpsc::channel();
        let stop = Arc::clone(stop);
        let thread = std::thread::Builder::new()
            .name(format!("ringway-{number}"))
            .spawn(move || recruit.serve(clock, &stop, &ready))
            .map_err(|source| StartError::Runtime { source })?;
        let failed = |message: String| StartError::Worker { cpu, message };
        readiness.recv().map_err(|_| failed("its thread ended".into()))?.map_err(failed)?;
        crew.handles.push(Handle { cpu, mailbox: sender });
        crew.threads.push(thread);
    }
    Ok(crew)
}

/// A ring from every worker to every other.
fn places(bells: &[Doorbell]) -> Vec<Place> {
    let mut places: Vec<Place> = (0..bells.len())
        .map(|number| Place { number, to: (0..bells.len()).map(|_| None).collect(), from: Vec::new() })
        .collect();
    for from in 0..bells.len() {
        for to in (0..bells.len()).filter(|&to| to != from) {
            let (sender, receiver) = ring(bells[to].clone());
            places[from].to[to] = Some(sender);
            places[to].from.push(receiver);
        }
    }
    places
}

impl Recruit {
    /// Runs on the worker's own thread, until `stop`.
    fn serve(
        self,
        clock: Clock,
        stop: &Arc<AtomicBool>,
        ready: &std::sync::mpsc::Sender<Result<(), String>>,
    ) {
        if !core_affinity::set_for_current(core_affinity::CoreId { id: self.cpu }) {
            let _ = ready
                .send(Err("cannot be pinned there: is the CPU online and allowed to this process?".into()));
            return;
        }
        let idle = match self.poll {
            Poll::Busy => Ok(Idle::busy(self.doorbell.clone())),
            Poll::Adaptive => Idle::adaptive(self.spin, self.doorbell.clone()),
        };
        let idle = idle.map_err(|error| format!("no descriptor to sleep on: {error}"));
        match idle.and_then(|idle| Ok((idle, self.enlist(clock)?))) {
            Ok((idle, mut worker)) => {
                let _ = ready.send(Ok(()));
                pinned::run(&mut worker, idle, clock, stop);
            }
            Err(message) => {
                let _ = ready.send(Err(message));
            }
        }
    }

    fn enlist(self, clock: Clock) -> Result<Worker<Proxy>, String> {
        let now = clock.now();
        let workers = self.place.to.len();
        let config = StackConfig {
            secret: self.secret,
            worker: u16::try_from(self.number).unwrap_or(u16::MAX),
            workers: u16::try_from(workers).unwrap_or(u16::MAX),
            max_sessions: self.limits.datagram_sessions,
            ..StackConfig::default()
        };
        let seed = u64::from_le_bytes(self.secret[..8].try_into().expect("eight bytes of thirty-two"));
        let mut core = Core::new(Stack::new(config.clone(), now), seed ^ self.number as u64);
        let bell = self.doorbell.clone();
        core.set_doorbell(Arc::new(move || bell.ring()));
        let proxy = Proxy::new(ProxyConfig {
            worker: config.worker,
            workers: config.workers,
            checks_health: self.number == 0,
            limits: Limits {
                connections_per_listener: self.limits.connections_per_listener,
                ..Limits::default()
            },
        });
        let names = self.plan.interfaces.iter();
        proxy.set_interfaces(names.map(|l| (l.config.id, l.config.name.clone(), l.config.role)).collect());
        let mut worker = Worker::new(core, proxy, self.mailbox, self.place);
        worker.set_epoch(clock.epoch_nanos());
        let mut ports_of_device = vec![Vec::new(); self.plan.devices.len()];
        for OpenQueue { device, pair } in self.seed.open()? {
            let name = self.plan.devices[device].link.name.clone();
            ports_of_device[device].push(worker.add_port(Port::new(name, device, pair)));
        }
        for logical in &self.plan.interfaces {
            let ports: Vec<usize> =
                logical.devices.iter().flat_map(|&device| ports_of_device[device].clone()).collect();
            let owner = ports.is_empty().then(|| owner_of(&self.plan, logical, self.number));
            worker.set_interface(logical.config.clone(), Exit { ports, owner }, now);
        }
        Ok(worker)
    }
}

/// Which worker transmits for one that has no queue of an interface: those that have one take turns.
fn owner_of(plan: &Plan, logical: &interfaces::Logical, number: usize) -> usize {
    let queues =
        logical.devices.iter().map(|&device| plan.devices[device].queues as usize).min().unwrap_or(1);
    number % queues.max(1)
}
