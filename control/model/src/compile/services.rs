//! East-west: every Service's ports, as each class of sources sees them.
//!
//! A source's view differs from the common one only by the routes that its namespace has for other namespaces'
//! Services (consumer routes, GEP-1294). So a namespace with such routes has a class of its own and all others share
//! one; a class's name follows from the namespace alone and outlives every other change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::draft::Draft;
use super::rules;
use super::virtual_hosts::{self, HostGroup};
use crate::attach::{Attached, Here, PortView};
use crate::backend::{ClusterRef, Speaks, own_protocol};
use crate::defaults::UDP_SESSION_IDLE;
use crate::hostname::ANY;
use crate::kind::{Key, Kind};
use crate::mesh::WorkloadSpec;
use crate::metadata::Metadata;
use crate::service::{ServicePort, Transport};
use crate::table::{
    HttpAction, HttpMatch, HttpRoute, Listener, PathMatch, Protocol, RouteTable, SourceClass, Timeouts,
    VirtualHost, WeightedCluster,
};
use crate::tcp::TcpSettings;

/// The class of all sources whose namespace has no consumer route.
pub const MESH_CLASS: &str = "mesh";

/// The class of the sources of a namespace that has consumer routes.
pub fn consumer_class(namespace: &str) -> String {
    format!("{MESH_CLASS}@{namespace}")
}

/// Classes for the node's workloads, and the listeners of each.
pub(super) fn add_for_node(draft: &mut Draft<'_>, node: &str) {
    let attached = draft.attached;
    let consumers = attached.consumers();
    let mut classes: BTreeMap<Option<&str>, Vec<(&Metadata, &WorkloadSpec)>> = BTreeMap::new();
    for (metadata, workload) in attached.resources.workloads() {
        if workload.node.as_deref() == Some(node) {
            let consumer = consumers.get(metadata.namespace.as_str()).copied();
            classes.entry(consumer).or_default().push((metadata, workload));
        }
    }
    for (consumer, workloads) in classes {
        draft.table.classes.push(source_class(class_name(consumer), &workloads));
        add_services(draft, consumer);
    }
}

pub(super) fn add_for_namespace(draft: &mut Draft<'_>, namespace: &str) {
    let consumer = draft.attached.consumers().get(namespace).copied();
    add_services(draft, consumer);
}

fn class_name(consumer: Option<&str>) -> String {
    consumer.map_or_else(|| MESH_CLASS.to_owned(), consumer_class)
}

fn source_class(class: String, workloads: &[(&Metadata, &WorkloadSpec)]) -> SourceClass {
    let interfaces: BTreeSet<String> =
        workloads.iter().filter_map(|(_, workload)| workload.interface.clone()).collect();
    let addresses: BTreeSet<_> =
        workloads.iter().flat_map(|(_, workload)| workload.addresses.clone()).collect();
    SourceClass {
        class,
        interfaces: interfaces.into_iter().collect(),
        addresses: addresses.into_iter().collect(),
    }
}

fn add_services(draft: &mut Draft<'_>, consumer: Option<&str>) {
    let attached = draft.attached;
    for (metadata, service) in attached.resources.services() {
        let key = Key::new(Kind::Service, &metadata.namespace, &metadata.name);
        let addresses = attached.addresses_of(&key, service);
        // Without an address it cannot be called; it may still be a backend.
        let ports = if addresses.is_empty() { &[] } else { service.ports.as_slice() };
        for port in ports {
            let place = Place { metadata, addresses: &addresses, port, consumer };
            let listener = place.listener(draft);
            draft.table.listeners.insert(listener.name.clone(), listener);
        }
    }
}

/// One port of one Service, as one class sees it.
struct Place<'a> {
    metadata: &'a Metadata,
    addresses: &'a [IpAddr],
    port: &'a ServicePort,
    consumer: Option<&'a str>,
}

impl Place<'_> {
    fn listener(&self, draft: &mut Draft<'_>) -> Listener {
        let class = class_name(self.consumer);
        let (owner, routes) = self.routes(draft.attached);
        let protocol = match routes.first() {
            None => self.to_itself(draft),
            Some(first) if matches!(first.route.key.kind, Kind::HttpRoute | Kind::GrpcRoute) => {
                self.http(draft, &class_name(owner), &routes)
            }
            Some(first) => {
                let backends = draft.l4_backends(*first).unwrap_or_default();
                self.l4(backends)
            }
        };
        Listener {
            name: self.name(&class),
            class,
            addresses: self.addresses.to_vec(),
            port: self.port.port,
            protocol,
            tcp: TcpSettings::of(&self.metadata.annotations),
        }
    }

    fn name(&self, class: &str) -> String {
        let Metadata { namespace, name, .. } = self.metadata;
        format!("{class}/{namespace}/{name}/{}/{}", self.port.port, self.port.protocol.lower())
    }

    /// The consumer's routes where it has any to this port, else the producer's; and whose they are.
    fn routes<'d>(&self, attached: &'d Attached<'d>) -> (Option<&str>, Vec<Here<'d>>) {
        if let Some(consumer) = self.consumer.filter(|consumer| *consumer != self.metadata.namespace) {
            let routes = self.routes_of(attached, consumer);
            if !routes.is_empty() {
                return (Some(consumer), routes);
            }
        }
        (None, self.routes_of(attached, &self.metadata.namespace))
    }

    fn routes_of<'d>(&self, attached: &'d Attached<'d>, namespace: &str) -> Vec<Here<'d>> {
        attached.at_port(&PortView {
            namespace: self.metadata.namespace.clone(),
            service: self.metadata.name.clone(),
            port: self.port.port,
            transport: self.port.protocol,
            routes_of: namespace.to_owned(),
        })
    }

    /// Classes with the same routes to this port share one route table: it has the name of its owner's class.
    fn http(&self, draft: &mut Draft<'_>, owner: &str, routes: &[Here<'_>]) -> Protocol {
        let name = self.name(owner);
        if !draft.table.routes.contains_key(&name) {
            let mut group = HostGroup::new(None);
            for here in routes {
                let routes = rules::routes(draft, *here, self.port.port);
                group.add(&[ANY.to_owned()], &routes);
            }
            let virtual_hosts = virtual_hosts::build(&[group]);
            draft.table.routes.insert(name.clone(), RouteTable { name: name.clone(), virtual_hosts });
        }
        Protocol::Http { routes: name }
    }

    fn l4(&self, backends: Vec<WeightedCluster>) -> Protocol {
        match self.port.protocol {
            Transport::Tcp => Protocol::Tcp { backends },
            Transport::Udp => Protocol::Udp { backends, idle: UDP_SESSION_IDLE },
        }
    }

    /// Without routes a Service leads to its own endpoints, by what its port speaks.
    fn to_itself(&self, draft: &mut Draft<'_>) -> Protocol {
        let speaks = own_protocol(self.port);
        let Metadata { namespace, name: service, .. } = self.metadata;
        let cluster = draft.cluster(ClusterRef {
            namespace: namespace.clone(),
            service: service.clone(),
            port: self.port.port,
            speaks,
        });
        let backends = vec![WeightedCluster { cluster: Some(cluster), weight: 1, filters: Vec::new() }];
        if matches!(speaks, Speaks::Tcp | Speaks::Udp) {
            return self.l4(backends);
        }
        let name = self.name(MESH_CLASS);
        let route = HttpRoute {
            // No route has such a name: theirs begin with their namespace and have four parts.
            name: format!("service/{namespace}/{service}"),
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
        let host = VirtualHost { name: ANY.to_owned(), domains: vec![ANY.to_owned()], routes: vec![route] };
        let routes = RouteTable { name: name.clone(), virtual_hosts: vec![host] };
        draft.table.routes.insert(name.clone(), routes);
        Protocol::Http { routes: name }
    }
}
