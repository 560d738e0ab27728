//! The smallest network with a hop in it: two hosts and a router, both families, from a seed.
//!
//! ```text
//!   client 10.1.0.2, fd00:1::2 ── link "client" ── router ── link "server" ── 10.2.0.2, fd00:2::2 server
//! ```

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use stack::{Config, InterfaceConfig, InterfaceId, Prefix, Role, Route};

use crate::{Host, LinkConfig, LinkEnd, Network, NodeNumber, Random, Router};

/// Which family a test speaks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Address {
    V4,
    V6,
}

impl Address {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];
}

/// Two hosts, a router between them, and the network that they are on.
#[derive(Debug)]
pub struct HostPair {
    pub network: Network,
    pub client: Rc<RefCell<Host>>,
    pub server: Rc<RefCell<Host>>,
    pub router: Rc<RefCell<Router>>,
    pub client_number: NodeNumber,
    pub server_number: NodeNumber,
}

/// What a [`HostPair`] is made of. Default: fast links, the stack's default limits.
#[derive(Clone, Debug, Default)]
pub struct PairConfig {
    /// What both links are like; they are named "client" and "server".
    pub link: LinkConfig,
    /// Limits of the stacks. The secrets are replaced by ones from the seed.
    pub client: Config,
    pub server: Config,
    /// The router's MTU towards both hosts, where it is less than the links': the hosts learn it by ICMP.
    pub router_mtu: Option<u16>,
}

const INTERFACE: InterfaceId = InterfaceId(0);
/// Subnets behind the router.
pub(crate) const CLIENT: u8 = 1;
pub(crate) const SERVER: u8 = 2;
/// Last part of an address in its subnet.
pub(crate) const ROUTER_HOST: u8 = 1;
pub(crate) const END_HOST: u8 = 2;

impl HostPair {
    /// Both links are like `link`; the hosts have the stack's default limits.
    pub fn new(seed: u64, link: LinkConfig) -> Self {
        Self::with(seed, PairConfig { link, ..PairConfig::default() })
    }

    pub fn with(seed: u64, config: PairConfig) -> Self {
        let mut network = Network::new(seed);
        let router = Rc::new(RefCell::new(Router::new()));
        let link = config.link;
        let mut join = |subnet: u8, name: &str, stack: Config| {
            let (near, far) = network.link(name, link.clone());
            join_router(&router, subnet, far, config.router_mtu.unwrap_or(link.mtu));
            let seed = Random::for_stream(seed, 0x0100 + u64::from(subnet)).next();
            Rc::new(RefCell::new(host(seed, subnet, near, link.mtu, stack)))
        };
        let client = join(CLIENT, "client", config.client);
        let server = join(SERVER, "server", config.server);
        let client_number = network.add(Rc::clone(&client));
        network.add(Rc::clone(&router));
        let server_number = network.add(Rc::clone(&server));
        Self { network, client, server, router, client_number, server_number }
    }

    pub fn client_address(&self, family: Address) -> IpAddr {
        address(family, CLIENT, END_HOST)
    }

    pub fn server_address(&self, family: Address) -> IpAddr {
        address(family, SERVER, END_HOST)
    }

    /// An address on the server, to connect to.
    pub fn server_socket(&self, family: Address, port: u16) -> SocketAddr {
        SocketAddr::new(self.server_address(family), port)
    }
}

/// An address in a subnet behind the router.
pub(crate) fn address(family: Address, subnet: u8, host: u8) -> IpAddr {
    match family {
        Address::V4 => Ipv4Addr::new(10, subnet, 0, host).into(),
        Address::V6 => Ipv6Addr::new(0xfd00, u16::from(subnet), 0, 0, 0, 0, 0, u16::from(host)).into(),
    }
}

/// Locally administered, and telling in a capture.
pub(crate) fn mac(subnet: u8, host: u8) -> [u8; 6] {
    [0x02, 0, 0, 0, subnet, host]
}

/// A subnet of one host behind the router.
pub(crate) fn join_router(router: &Rc<RefCell<Router>>, subnet: u8, end: LinkEnd, mtu: u16) {
    let mut router = router.borrow_mut();
    let addresses = Address::BOTH.map(|family| address(family, subnet, ROUTER_HOST));
    let port = router.attach(end, mac(subnet, ROUTER_HOST), &addresses, mtu);
    for family in Address::BOTH {
        router.set_neighbour(address(family, subnet, END_HOST), port, mac(subnet, END_HOST));
    }
}

fn host(seed: u64, subnet: u8, end: LinkEnd, mtu: u16, config: Config) -> Host {
    let mut random = Random::new(seed);
    let mut secret = [0; 32];
    for part in secret.chunks_exact_mut(8) {
        part.copy_from_slice(&random.next().to_be_bytes());
    }
    let mut host = Host::new(Config { secret, ..config }, random.next());
    let interface = InterfaceConfig {
        id: INTERFACE,
        name: "sim0".to_owned(),
        role: Role::Uplink,
        mac: mac(subnet, END_HOST),
        mtu,
        vlan: None,
        addresses: vec![
            (address(Address::V4, subnet, END_HOST), 24),
            (address(Address::V6, subnet, END_HOST), 64),
        ],
        intercepted: Vec::new(),
        unfinished_receive_checksum: false,
    };
    host.attach(interface, end);
    host.set_routes(&[
        default_route(Prefix::ANY_V4, address(Address::V4, subnet, ROUTER_HOST)),
        default_route(Prefix::ANY_V6, address(Address::V6, subnet, ROUTER_HOST)),
    ]);
    host
}

fn default_route(prefix: Prefix, via: IpAddr) -> Route {
    Route { prefix, via: Some(via), interface: INTERFACE, metric: 0 }
}
