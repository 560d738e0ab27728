//! The mesh, put together: a client, a node, two workloads, and the links between them.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use model::table::Table;
use sim::{Address, Host, LinkConfig, LinkEnd, LinkFaults, Network, Random, Router};
use stack::{Config, InterfaceConfig, InterfaceId, Prefix, Role, Route};

use crate::backend::Backend;
use crate::node::{Interface, MeshNode, Size};
use crate::table::table;
use crate::{accounts, seeds};

/// Packets that a replayed seed keeps for its pcapng file.
const KEPT_PACKETS: usize = 200_000;
const KEPT_BYTES: u32 = 128;

pub const BACKENDS: usize = 2;
/// Time for what was closed to be forgotten: unused upstream connections after 60 s, idle sessions too.
const FORGOTTEN_WITHIN_SECONDS: u32 = 900;

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const NODE_HOST: u8 = 80;
const CLIENT_HOST: u8 = 2;
const ROUTER_HOST: u8 = 1;

/// Subnets, by the second byte of IPv4 and the second half of the first group of IPv6.
const UPLINK: u8 = 77;
const BEHIND_ROUTER: u8 = 66;
const WORKLOADS: u8 = 88;

/// What a mesh is made of. Default: clean fast links, one worker, no router.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What all links are like; they are named "client", "uplink" (behind a router), "workload 1" and "workload 2".
    pub link: LinkConfig,
    pub size: Size,
    /// A router between client and node, whose link to the client has this MTU.
    pub router_mtu: Option<u16>,
}

#[derive(Debug)]
pub struct World {
    pub network: Network,
    pub client: Rc<RefCell<Host>>,
    pub backends: [Backend; BACKENDS],
    pub router: Option<Rc<RefCell<Router>>>,
    pub node: MeshNode,
    pub seed: u64,
    version: u64,
}

impl World {
    /// A mesh that serves the table of `tests/resources/sim.yaml`.
    pub fn new(seed: u64, plan: &Plan) -> Self {
        let mut network = Network::new(seed);
        if seeds::replayed().is_some() {
            network.trace_mut().keep(KEPT_PACKETS, KEPT_BYTES);
        }
        let (near, far) = network.link("client", plan.link.clone());
        let subnet = if plan.router_mtu.is_some() { BEHIND_ROUTER } else { UPLINK };
        let client = Rc::new(RefCell::new(client(seed, subnet, near)));
        network.add(Rc::clone(&client));
        let (router, uplink) = match plan.router_mtu {
            None => (None, far),
            Some(mtu) => {
                let (router_end, uplink) = network.link("uplink", plan.link.clone());
                let router = Rc::new(RefCell::new(router(far, mtu, router_end)));
                network.add(Rc::clone(&router));
                (Some(router), uplink)
            }
        };
        let (workload_ends, backends) = backends(&mut network, seed, &plan.link);
        let node =
            MeshNode::add(&mut network, seed, plan.size, &interfaces(uplink, workload_ends), &node_routes());
        let mut world = Self { network, client, backends, router, node, seed, version: 0 };
        world.publish(table(0));
        world.network.run_for(Duration::from_millis(1));
        world
    }

    /// Puts a table in force under the next version.
    pub fn publish(&mut self, table: Table) {
        self.version += 1;
        self.node.publish(Table { version: self.version, ..table });
    }

    /// Runs `client` on the client host to its end.
    ///
    /// # Panics
    /// When that takes longer than `limit` of virtual time.
    pub fn run(&mut self, limit: Duration, client: impl Future<Output = ()> + 'static) {
        let done = self.start(client);
        let ended = self.network.run_until(limit, || done.get());
        assert!(ended, "the client did not end within {limit:?}: {:?}", self.network);
    }

    /// Starts `client` on the client host, and says whether it has ended.
    pub fn start(&mut self, client: impl Future<Output = ()> + 'static) -> Rc<Cell<bool>> {
        let done = Rc::new(Cell::new(false));
        let flag = Rc::clone(&done);
        self.client.borrow_mut().spawn(async move {
            client.await;
            flag.set(true);
        });
        done
    }

    /// Every test's end: connections, sessions and tasks go away by themselves, and what was received was answered
    /// for, frame by frame.
    pub fn finish(mut self) {
        for _ in 0..FORGOTTEN_WITHIN_SECONDS {
            if accounts::is_forgotten(&self) {
                break;
            }
            self.network.run_for(Duration::from_secs(1));
        }
        accounts::assert_forgotten(&self);
        self.publish(Table::default());
        self.network.run_for(Duration::from_secs(5));
        accounts::assert_at_rest(&self);
        accounts::assert_balance(&self);
    }
}

/// Says how to replay what failed, and leaves the packets of what is replayed.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {0}: RINGWAY_SEED={0} replays it", self.seed);
        }
        if seeds::replayed().is_none() {
            return;
        }
        let test = std::thread::current().name().unwrap_or("test").replace("::", "-");
        let path = std::env::temp_dir().join(format!("ringway-mesh-{test}-{}.pcapng", self.seed));
        let written =
            File::create(&path).and_then(|file| self.network.write_pcapng(&mut BufWriter::new(file)));
        match written {
            Ok(()) => eprintln!("seed {}: packets are in {}", self.seed, path.display()),
            Err(error) => eprintln!("seed {}: {}: {error}", self.seed, path.display()),
        }
    }
}

/// The mesh's address, as clients know it.
pub fn mesh(family: Address, port: u16) -> SocketAddr {
    SocketAddr::new(address(family, UPLINK, NODE_HOST), port)
}

/// An address of the client host when no router is before it.
pub fn client_socket(family: Address, port: u16) -> SocketAddr {
    SocketAddr::new(address(family, UPLINK, CLIENT_HOST), port)
}

/// A link over which ten megabytes take a while, with faults as given.
pub fn slow_link(faults: LinkFaults) -> LinkConfig {
    LinkConfig {
        bits_per_second: 1_000_000_000,
        delay: Duration::from_micros(200),
        queue_bytes: 256 * 1024,
        faults,
        ..LinkConfig::default()
    }
}

pub fn family_of(seed: u64) -> Address {
    if seed.is_multiple_of(2) { Address::V4 } else { Address::V6 }
}

fn address(family: Address, subnet: u8, host: u8) -> IpAddr {
    match family {
        Address::V4 => Ipv4Addr::new(10, subnet, 0, host).into(),
        Address::V6 => {
            // Written as the resources write it: fd77::80, fd88::11.
            let digits = |decimal: u8| u16::from(decimal / 10 * 16 + decimal % 10);
            Ipv6Addr::new(0xfd00 | digits(subnet), 0, 0, 0, 0, 0, 0, digits(host)).into()
        }
    }
}

/// Locally administered, and telling in a capture.
fn mac(subnet: u8, host: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, subnet, host]
}

fn interface(id: u16, name: &str, mac: [u8; 6], addresses: Vec<(IpAddr, u8)>) -> InterfaceConfig {
    InterfaceConfig {
        id: InterfaceId(id),
        name: name.to_owned(),
        role: Role::Uplink,
        mac,
        mtu: 1500,
        vlan: None,
        addresses,
        intercepted: Vec::new(),
        unfinished_receive_checksum: false,
    }
}

fn both(subnet: u8, host: u8) -> Vec<(IpAddr, u8)> {
    vec![(address(Address::V4, subnet, host), 24), (address(Address::V6, subnet, host), 64)]
}

fn route(prefix: Prefix, via: Option<IpAddr>, interface: u16) -> Route {
    Route { prefix, via, interface: InterfaceId(interface), metric: 0 }
}

fn host(seed: u64, interface: InterfaceConfig, end: LinkEnd, routes: &[Route]) -> Host {
    let mut random = Random::for_stream(seed, u64::from(interface.mac[4]) << 8 | u64::from(interface.mac[5]));
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    let mut host = Host::new(Config { secret, ..Config::default() }, random.next());
    host.attach(interface, end);
    host.set_routes(routes);
    host
}

/// Without a router its routes lead to nobody, and are not needed.
fn client(seed: u64, subnet: u8, end: LinkEnd) -> Host {
    let interface = interface(0, "sim0", mac(subnet, CLIENT_HOST), both(subnet, CLIENT_HOST));
    let via = |family| Some(address(family, subnet, ROUTER_HOST));
    let routes = [route(Prefix::ANY_V4, via(Address::V4), 0), route(Prefix::ANY_V6, via(Address::V6), 0)];
    host(seed, interface, end, &routes)
}

fn router(to_client: LinkEnd, mtu: u16, to_node: LinkEnd) -> Router {
    let mut router = Router::new();
    let own = |subnet| Address::BOTH.map(|family| address(family, subnet, ROUTER_HOST));
    router.attach(to_client, mac(BEHIND_ROUTER, ROUTER_HOST), &own(BEHIND_ROUTER), mtu);
    router.attach(to_node, mac(UPLINK, ROUTER_HOST), &own(UPLINK), 1500);
    router
}

fn backends(
    network: &mut Network,
    seed: u64,
    link: &LinkConfig,
) -> ([LinkEnd; BACKENDS], [Backend; BACKENDS]) {
    let joined = [0, 1].map(|number: u8| {
        let (node_end, end) = network.link(&format!("workload {}", number + 1), link.clone());
        let own = 11 + number;
        let interface = interface(0, "sim0", mac(WORKLOADS, own), both(WORKLOADS, own));
        let routes = [
            route(Prefix::new(GATEWAY_V4.into(), 32), None, 0),
            route(Prefix::new(GATEWAY_V6.into(), 128), None, 0),
            route(Prefix::ANY_V4, Some(GATEWAY_V4.into()), 0),
            route(Prefix::ANY_V6, Some(GATEWAY_V6.into()), 0),
        ];
        let host = Rc::new(RefCell::new(host(seed, interface, end, &routes)));
        network.add(Rc::clone(&host));
        (node_end, Backend::serve(host, number, seed))
    });
    let [(first_end, first), (second_end, second)] = joined;
    ([first_end, second_end], [first, second])
}

/// As `ringwayd` plans them: an uplink with the mesh's addresses, and a workload interface a workload, whose gateway
/// addresses are alone on their link.
fn interfaces(uplink: LinkEnd, workloads: [LinkEnd; BACKENDS]) -> Vec<Interface> {
    let uplink_config = interface(0, "up0", mac(UPLINK, NODE_HOST), both(UPLINK, NODE_HOST));
    let mut all = vec![Interface { config: uplink_config, end: uplink }];
    for (number, end) in (1..).zip(workloads) {
        let gateways = vec![(GATEWAY_V4.into(), 32), (GATEWAY_V6.into(), 128)];
        let mut config = interface(number, &format!("wl-{number}"), mac(WORKLOADS, number as u8), gateways);
        config.role = Role::Workload;
        config.intercepted =
            ["10.96.0.0", "fd96::"].map(|net| net.parse().expect("an address")).map(service_prefix).to_vec();
        all.push(Interface { config, end });
    }
    all
}

fn service_prefix(address: IpAddr) -> Prefix {
    Prefix::new(address, if address.is_ipv4() { 16 } else { 112 })
}

fn node_routes() -> Vec<Route> {
    let mut routes = vec![
        route(Prefix::ANY_V4, Some(address(Address::V4, UPLINK, ROUTER_HOST)), 0),
        route(Prefix::ANY_V6, Some(address(Address::V6, UPLINK, ROUTER_HOST)), 0),
    ];
    for number in 1..=BACKENDS as u16 {
        for family in Address::BOTH {
            let address = address(family, WORKLOADS, 10 + number as u8);
            routes.push(route(Prefix::new(address, if address.is_ipv4() { 32 } else { 128 }), None, number));
        }
    }
    routes
}
