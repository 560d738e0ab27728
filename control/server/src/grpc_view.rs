//! What gRPC's own xDS client sees: every Service under the names that its targets may have.
//!
//! A gRPC client is a workload of the mesh that nobody wrote down. So the table is compiled for a node of our own
//! making, with one workload on it, which sees what a workload without consumer routes sees. Targets are
//! `xds:///NAME[:PORT]`, where NAME is `SERVICE.NAMESPACE`, `SERVICE.NAMESPACE.svc`, or `SERVICE` alone in the
//! namespace `default`; the port may be left out where the Service has one TCP port only.

use std::net::IpAddr;

use model::mesh::{NodeSpec, WorkloadSpec};
use model::metadata::{DEFAULT_NAMESPACE, Metadata};
use model::resource::Spec;
use model::service::{ServiceSpec, Transport};
use model::table::{
    HttpAction, HttpMatch, HttpRoute, Listener, PathMatch, Protocol, RouteTable, Table, Timeouts, VirtualHost,
};
use model::{HealthView, Resource, Resources, Status};
use xds::ads::{ResourceType, Snapshot};
use xds::convert::encode_api_listener;

/// No resource may have this name: `validate` wants names without capitals.
const NODE: &str = "gRPC";
/// Never routed: from the block for documentation (RFC 5737).
const WORKLOAD_ADDRESS: &str = "192.0.2.1";

pub fn compile(resources: &Resources, health: &HealthView) -> Table {
    let mut seen = resources.clone();
    let address: IpAddr = WORKLOAD_ADDRESS.parse().expect("the constant is an address");
    seen.insert(of_our_own(Spec::Node(NodeSpec { addresses: Vec::new() }), ""));
    let workload = WorkloadSpec {
        addresses: vec![address],
        node: Some(NODE.to_owned()),
        interface: Some(NODE.to_owned()),
        ports: Vec::new(),
        weight: 1,
    };
    seen.insert(of_our_own(Spec::Workload(workload), NODE));
    let mut table = model::compile(&seen, NODE, health);
    add_stream_routes(&mut table);
    table
}

fn of_our_own(spec: Spec, namespace: &str) -> Resource {
    let metadata = Metadata { name: NODE.to_owned(), namespace: namespace.to_owned(), ..Metadata::default() };
    Resource { metadata, spec, status: Status::default() }
}

/// A Service port without `appProtocol` is a stream to us; a gRPC client knows that it speaks gRPC.
fn add_stream_routes(table: &mut Table) {
    let streams = table.listeners.values().filter_map(|listener| match &listener.protocol {
        Protocol::Tcp { backends } => Some((stream_routes(listener), backends.clone())),
        Protocol::Http { .. } | Protocol::Udp { .. } => None,
    });
    let routes = streams.map(|(name, backends)| {
        let route = HttpRoute {
            name: name.clone(),
            matches: HttpMatch {
                path: PathMatch::Prefix("/".to_owned()),
                method: None,
                headers: Vec::new(),
                query: Vec::new(),
            },
            filters: Vec::new(),
            action: HttpAction::Forward(backends),
            timeouts: Timeouts::default(),
        };
        let host = VirtualHost { name: name.clone(), domains: vec!["*".to_owned()], routes: vec![route] };
        (name.clone(), RouteTable { name, virtual_hosts: vec![host] })
    });
    let routes: Vec<(String, RouteTable)> = routes.collect();
    table.routes.extend(routes);
}

fn stream_routes(listener: &Listener) -> String {
    format!("{}/grpc", listener.name)
}

/// Adds an API listener for each name of each Service.
pub fn add_targets(resources: &Resources, table: &Table, snapshot: &mut Snapshot) {
    for (metadata, service) in resources.services() {
        let streams = service.ports.iter().filter(|port| port.protocol == Transport::Tcp);
        let alone = streams.clone().count() == 1;
        for port in streams {
            let Some(routes) = routes_of(table, service, port.port) else { continue };
            for name in names(metadata) {
                let with_port = format!("{name}:{}", port.port);
                snapshot.insert(ResourceType::Listener, encode_api_listener(&with_port, &routes));
                if alone {
                    snapshot.insert(ResourceType::Listener, encode_api_listener(&name, &routes));
                }
            }
        }
    }
}

fn routes_of(table: &Table, service: &ServiceSpec, port: u16) -> Option<String> {
    let addresses = service.addresses();
    let listens = |listener: &&Listener| {
        listener.port == port && listener.addresses.iter().any(|address| addresses.contains(address))
    };
    table.listeners.values().filter(listens).find_map(|listener| match &listener.protocol {
        Protocol::Http { routes } => Some(routes.clone()),
        Protocol::Tcp { .. } => Some(stream_routes(listener)),
        Protocol::Udp { .. } => None,
    })
}

fn names(metadata: &Metadata) -> Vec<String> {
    let Metadata { name, namespace, .. } = metadata;
    let mut names = vec![format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")];
    if namespace == DEFAULT_NAMESPACE {
        names.push(name.clone());
    }
    names
}
