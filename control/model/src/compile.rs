//! Resources to one node's table.
//!
//! ```text
//! Resources --attach--> Attached --gateways--> listeners of class `gateway`   (north-south)
//!                                --services--> listeners of each source class (east-west)
//!                                                `--rules--> routes --clusters--> clusters, endpoints
//! ```
//!
//! Total and deterministic: whatever the resources are, there is a table, and the same resources give the same table.

mod clusters;
mod gateways;
mod precedence;
mod rules;
mod services;
mod virtual_hosts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::attach::{Attached, ParentView, RouteSpec, RouteView};
use crate::backend::{self, ClusterRef, Referrer};
use crate::kind::{Key, Kind};
use crate::resources::Resources;
use crate::route::ParentRef;
use crate::table::{HttpFilter, Table, WeightedCluster};

pub(crate) use rules::unresolved;
pub use services::{MESH_CLASS, consumer_class};

/// Results of active health checks, by cluster and endpoint. What is not named is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    pub endpoints: BTreeMap<(String, SocketAddr), bool>,
}

impl HealthView {
    fn healthy(&self, cluster: &str, address: SocketAddr) -> bool {
        self.endpoints.get(&(cluster.to_owned(), address)).copied().unwrap_or(true)
    }
}

/// The table of `node`: its Gateways, and what its workloads may call. `version` is 0; the publisher sets it.
pub fn compile(resources: &Resources, node: &str, health: &HealthView) -> Table {
    let attached = Attached::new(resources);
    let mut draft = Draft::new(&attached);
    gateways::add(&mut draft, node);
    services::add_for_node(&mut draft, node);
    draft.finish(health)
}

/// What a client in `namespace` that speaks xDS itself may call: every Service's listeners as that namespace sees
/// them, without Gateways or sources.
pub fn compile_client(resources: &Resources, namespace: &str, health: &HealthView) -> Table {
    let attached = Attached::new(resources);
    let mut draft = Draft::new(&attached);
    services::add_for_namespace(&mut draft, namespace);
    draft.finish(health)
}

/// A table in the making, and the clusters that it names so far.
struct Draft<'a> {
    attached: &'a Attached<'a>,
    table: Table,
    clusters: BTreeSet<ClusterRef>,
}

impl<'a> Draft<'a> {
    fn new(attached: &'a Attached<'a>) -> Draft<'a> {
        Draft { attached, table: Table::default(), clusters: BTreeSet::new() }
    }

    fn finish(mut self, health: &HealthView) -> Table {
        for cluster in &self.clusters {
            let (described, endpoints) = clusters::describe(self.attached.resources, cluster, health);
            self.table.endpoints.insert(described.name.clone(), endpoints);
            self.table.clusters.insert(described.name.clone(), described);
        }
        self.table
    }

    /// The cluster's name, which from now on the table has.
    fn cluster(&mut self, cluster: ClusterRef) -> String {
        let name = cluster.name();
        self.clusters.insert(cluster);
        name
    }

    fn backends(
        &mut self,
        route: &RouteView<'_>,
        parent: &ParentRef,
        backends: &[crate::route::BackendRef],
    ) -> Vec<WeightedCluster> {
        let referrer = referrer(route, parent);
        backends
            .iter()
            .map(|backend| {
                let resolved = backend::resolve(self.attached.resources, referrer, backend).ok();
                let cluster = resolved.map(|cluster| self.cluster(cluster));
                let filters = backend.filters.iter().filter_map(rules::modifier).collect::<Vec<HttpFilter>>();
                WeightedCluster { cluster, weight: backend.weight, filters }
            })
            .collect()
    }

    /// The one backend list of a TCPRoute or UDPRoute.
    fn l4_backends(
        &mut self,
        route: &RouteView<'_>,
        parent: &ParentView<'_>,
    ) -> Option<Vec<WeightedCluster>> {
        let RouteSpec::L4(spec) = route.spec else { return None };
        let rule = spec.rules.first()?;
        Some(self.backends(route, parent.parent, &rule.backend_refs))
    }
}

/// Who refers, for [`backend::resolve`].
pub(crate) fn referrer<'a>(route: &'a RouteView<'_>, parent: &'a ParentRef) -> Referrer<'a> {
    let service = parent.group == crate::kind::CORE_GROUP && parent.kind == "Service";
    let namespace = parent.namespace.as_deref().unwrap_or(&route.key.namespace);
    Referrer {
        kind: route.key.kind,
        namespace: &route.key.namespace,
        parent_service: service.then_some((namespace, parent.name.as_str())),
    }
}

/// A cluster has one health check: what the first Workload of a Service's port asks for. A message for every Workload
/// that asks for another.
pub(crate) fn ignored_health_checks(resources: &Resources) -> BTreeMap<Key, String> {
    let mut ignored = BTreeMap::new();
    for (metadata, service) in resources.services() {
        for port in &service.ports {
            let cluster = ClusterRef {
                namespace: metadata.namespace.clone(),
                service: metadata.name.clone(),
                port: port.port,
                speaks: backend::own_protocol(port),
            };
            let instances = clusters::instances(resources, &cluster);
            let Some(first) = instances.iter().find(|instance| instance.check.is_some()) else { continue };
            for other in instances.iter().filter(|other| other.check.is_some() && other.check != first.check)
            {
                let key = Key::new(Kind::Workload, &other.metadata.namespace, &other.metadata.name);
                let message = format!(
                    "Service {}, port {}: the health check of Workload {} is used for all its Workloads",
                    metadata.name, port.port, first.metadata.name
                );
                ignored.insert(key, message);
            }
        }
    }
    ignored
}

#[cfg(test)]
mod tests;
