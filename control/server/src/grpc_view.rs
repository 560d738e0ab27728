//! What gRPC's own xDS client sees: every Service under the names that its targets may have.
//!
//! Targets are `xds:///NAME[:PORT]`, where NAME is `SERVICE.NAMESPACE`, `SERVICE.NAMESPACE.svc`, or `SERVICE` alone in
//! the client's own namespace; the port may be left out where the Service has one TCP port only. The client's namespace
//! is `namespace` in the metadata of its bootstrap file's node, `default` if it says nothing.

use model::Resources;
use model::metadata::Metadata;
use model::service::{ServiceSpec, Transport};
use model::table::{
    HttpAction, HttpMatch, HttpRoute, Listener, PathMatch, Protocol, RouteTable, Table, Timeouts, VirtualHost,
};
use xds::convert::encode_api_listener;
use xds::snapshot::{ResourceType, Snapshot};

/// A Service port without `appProtocol` is a stream to us; a gRPC client knows that it speaks gRPC.
pub fn add_stream_routes(table: &mut Table) {
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
pub fn add_targets(resources: &Resources, namespace: &str, table: &Table, snapshot: &mut Snapshot) {
    for (metadata, service) in resources.services() {
        let streams = service.ports.iter().filter(|port| port.protocol == Transport::Tcp);
        let alone = streams.clone().count() == 1;
        for port in streams {
            let Some(routes) = routes_of(table, service, port.port) else { continue };
            for name in names(metadata, namespace) {
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

fn names(metadata: &Metadata, own_namespace: &str) -> Vec<String> {
    let Metadata { name, namespace, .. } = metadata;
    let mut names = vec![format!("{name}.{namespace}"), format!("{name}.{namespace}.svc")];
    if namespace == own_namespace {
        names.push(name.clone());
    }
    names
}
