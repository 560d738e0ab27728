//! The whole data plane of one core between a client and a backend: worker, stack, sockets and proxy. Client and
//! backend are workers of their own, beside it in the thread and not counted.
//!
//! ```text
//!   client 10.2.0.2 ──wire── 10.2.0.1 gateway 10.2.1.1 ──wire── 10.2.1.2 backend
//!   not counted              every turn is counted               not counted
//! ```

mod http;
mod idle;
mod streams;
mod waits;

pub use http::{http1, http1_connections, http2};
pub use idle::{after_one_request, before_the_first_byte};
pub use streams::relayed;
pub use waits::{CONNECTIONS_EVERY, Waits, beside_new_connections};

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::table::{
    Balance, Cluster, Endpoint, GATEWAY_CLASS, HttpAction, HttpMatch, HttpRoute, Listener, PathMatch,
    Protocol, RouteTable, Table, Timeouts, UpstreamProtocol, VirtualHost, WeightedCluster,
};
use proxy::{Proxy, ProxyConfig, Snapshot};
use socket::{FirstDatagram, Forward, InterfaceId, Role};
use worker::{Admission, Instant, Worker};

use crate::count::Meter;
use crate::scene::{HEAP_FRAME_BYTES, Keeper, Wire, attach, know, worker};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 2));
const GATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 0, 1));
const GATE_TO_BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 1, 1));
const BACKEND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 2, 1, 2));
const HTTP1_PORT: u16 = 8080;
const HTTP2_PORT: u16 = 8081;
const TCP_PORT: u16 = 8090;
const UDP_PORT: u16 = 8091;
/// Requests that the gateway answers itself.
const WAITS_PORT: u16 = 8092;
/// The default of a session.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// Virtual time of one round: about a busy worker's turn.
const ROUND: Duration = Duration::from_micros(20);
/// Rounds without any progress after which a case has failed.
const STALLED_ROUNDS: u32 = 100_000;

/// A host that only runs tasks.
#[derive(Copy, Clone, Debug)]
struct Host;

impl Admission for Host {
    fn admit(&mut self, _: &FirstDatagram<'_>, _: Instant) -> Forward {
        Forward::Deliver
    }
}

/// What client tasks count up: answers, MiB or connections.
type Progress = Rc<Cell<u64>>;

struct World {
    client: Worker<Host>,
    gateway: Worker<Proxy>,
    backend: Worker<Host>,
    keepers: Vec<Keeper>,
    /// The gateway's ends, of [`World::keepers`].
    gateway_ends: [usize; 2],
    gateway_busy: bool,
    now: Instant,
    meter: Meter,
}

impl World {
    fn new() -> Self {
        let now = Instant::from_nanos(1_000_000_000);
        let mut client = worker(Host, 1, now);
        let mut gateway = worker(Proxy::new(ProxyConfig::default()), 2, now);
        let mut backend = worker(Host, 3, now);
        let (client_end, front) = Wire::pair();
        let (back, backend_end) = Wire::pair();
        let keepers = [&client_end, &front, &back, &backend_end].map(Wire::keeper).into();
        attach(&mut client, 0, (CLIENT, 24), client_end, now);
        attach(&mut gateway, 0, (GATE, 24), front, now);
        attach(&mut gateway, 1, (GATE_TO_BACKEND, 24), back, now);
        attach(&mut backend, 0, (BACKEND, 24), backend_end, now);
        know(&mut client, 0, GATE, now);
        know(&mut gateway, 0, CLIENT, now);
        know(&mut gateway, 1, BACKEND, now);
        know(&mut backend, 0, GATE_TO_BACKEND, now);
        publish(&mut gateway, now);
        let meter = Meter::default();
        Self { client, gateway, backend, keepers, gateway_ends: [1, 2], gateway_busy: true, now, meter }
    }

    /// Everybody turns once. A turn of the gateway that would find nothing to do is left out, as its worker would
    /// sleep.
    fn round(&mut self) {
        self.now = self.now + ROUND;
        self.keepers.iter().for_each(Keeper::refill);
        self.client.turn(self.now, &mut || false);
        self.turn_gateway();
        self.backend.turn(self.now, &mut || false);
    }

    fn turn_gateway(&mut self) {
        let Self { gateway, now, gateway_busy, .. } = self;
        let received: usize = self.gateway_ends.iter().map(|&end| self.keepers[end].waiting()).sum();
        let due = gateway.core.poll_timeout().is_some_and(|deadline| deadline <= *now);
        if !(*gateway_busy || due || received > 0 || gateway.core.has_ready()) {
            return;
        }
        gateway.wake_ports();
        let before = gateway.counters().packets_received;
        self.meter.run(&mut || *gateway_busy = gateway.turn(*now, &mut || false));
        // Received frames were made outside and are freed inside.
        let freed = i64::try_from(gateway.counters().packets_received - before).expect("a turn's packets");
        self.meter.correct_bytes(freed * HEAP_FRAME_BYTES);
    }

    fn run_until(&mut self, progress: &Progress, reached: u64) {
        let (mut last, mut stalled) = (progress.get(), 0);
        while progress.get() < reached {
            self.round();
            stalled = if progress.get() == last { stalled + 1 } else { 0 };
            last = progress.get();
            assert!(stalled < STALLED_ROUNDS, "nothing moves: {last} of {reached}");
        }
    }

    /// Lets what is under way come to its end.
    fn settle(&mut self) {
        for _ in 0..5_000 {
            self.round();
        }
    }
}

fn publish(gateway: &mut Worker<Proxy>, now: Instant) {
    let names = [0, 1].map(|number| (InterfaceId(number), format!("bench{number}"), Role::Uplink));
    gateway.application.set_interfaces(names.into());
    let snapshot = Arc::new(Snapshot::compile(table()).expect("the table is valid"));
    let Worker { core, application, .. } = gateway;
    core.enter(now, || application.set_table(snapshot));
}

fn gate(port: u16) -> SocketAddr {
    SocketAddr::new(GATE, port)
}

/// One listener a protocol, each with a cluster of one endpoint behind it.
fn table() -> Table {
    let mut table = Table::default();
    for (name, port, protocol, upstream) in [
        ("h1", HTTP1_PORT, Protocol::Http { routes: "h1".into() }, UpstreamProtocol::Http1),
        ("h2", HTTP2_PORT, Protocol::Http { routes: "h2".into() }, UpstreamProtocol::Http2),
        ("tcp", TCP_PORT, Protocol::Tcp { backends: vec![all_to("tcp")] }, UpstreamProtocol::Tcp),
        (
            "udp",
            UDP_PORT,
            Protocol::Udp { backends: vec![all_to("udp")], idle: UDP_IDLE },
            UpstreamProtocol::Udp,
        ),
        ("many", WAITS_PORT, Protocol::Http { routes: "many".into() }, UpstreamProtocol::Http1),
    ] {
        let class = GATEWAY_CLASS.into();
        let (name_of, tcp) = (name.into(), Default::default());
        let listener = Listener { name: name_of, class, addresses: vec![GATE], port, protocol, tcp };
        table.listeners.insert(name.into(), listener);
        let backends = if name == "many" { vec![] } else { vec![all_to(name)] };
        table.routes.insert(name.into(), routes(name, backends));
        table.clusters.insert(name.into(), cluster(name, upstream));
        let address = SocketAddr::new(BACKEND, port);
        let endpoint = Endpoint { address, weight: 1, healthy: true, workload: "default/backend".into() };
        table.endpoints.insert(name.into(), vec![endpoint]);
    }
    table
}

fn all_to(cluster: &str) -> WeightedCluster {
    WeightedCluster { cluster: Some(cluster.into()), weight: 1, filters: vec![] }
}

fn cluster(name: &str, protocol: UpstreamProtocol) -> Cluster {
    Cluster {
        name: name.into(),
        protocol,
        balance: Balance::RoundRobin,
        connect_timeout: Duration::from_secs(5),
        tcp: Default::default(),
        health_check: None,
    }
}

fn routes(name: &str, backends: Vec<WeightedCluster>) -> RouteTable {
    let matches =
        HttpMatch { path: PathMatch::Prefix("/".into()), method: None, headers: vec![], query: vec![] };
    let route = HttpRoute {
        name: format!("default/{name}/0/0"),
        matches,
        filters: vec![],
        action: HttpAction::Forward(backends),
        timeouts: Timeouts::default(),
    };
    let host = VirtualHost { name: name.into(), domains: vec!["*".into()], routes: vec![route] };
    RouteTable { name: name.into(), virtual_hosts: vec![host] }
}
