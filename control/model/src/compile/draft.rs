//! A table in the making, and the clusters that it names so far.

use std::collections::BTreeSet;

use super::clusters::{self, HealthView};
use super::filters;
use crate::attach::{Attached, Here, RouteSpec};
use crate::backend::{self, ClusterRef};
use crate::instances::Instances;
use crate::route::BackendRef;
use crate::table::{HttpAction, Protocol, Table, WeightedCluster};

pub(super) struct Draft<'a> {
    pub attached: &'a Attached<'a>,
    pub table: Table,
    clusters: BTreeSet<ClusterRef>,
}

impl<'a> Draft<'a> {
    pub fn new(attached: &'a Attached<'a>) -> Draft<'a> {
        Draft { attached, table: Table::default(), clusters: BTreeSet::new() }
    }

    pub fn finish(mut self, instances: &Instances<'_>, health: &HealthView) -> Table {
        // A rule that is not carried out, and a host that a narrower listener has, leave theirs unnamed.
        let named: BTreeSet<String> = backends(&self.table).filter_map(|one| one.cluster.clone()).collect();
        for cluster in self.clusters.iter().filter(|cluster| named.contains(&cluster.name())) {
            let (described, endpoints) =
                clusters::describe(self.attached.resources, instances, cluster, health);
            self.table.endpoints.insert(described.name.clone(), endpoints);
            self.table.clusters.insert(described.name.clone(), described);
        }
        self.table
    }

    /// The cluster's name, for a listener or route of the table: the table has it if one of these stays.
    pub fn cluster(&mut self, cluster: ClusterRef) -> String {
        let name = cluster.name();
        self.clusters.insert(cluster);
        name
    }

    /// The backends of a route's rule. What a reference does not lead to keeps its share.
    pub fn backends(&mut self, here: Here<'_>, backends: &[BackendRef]) -> Vec<WeightedCluster> {
        let referrer = here.route.referrer(here.parent.parent);
        let mut weighted = Vec::new();
        for backend in backends {
            let resolved = backend::resolve(self.attached.resources, referrer, backend).ok();
            weighted.push(WeightedCluster {
                cluster: resolved.map(|cluster| self.cluster(cluster)),
                weight: backend.weight,
                filters: backend.filters.iter().filter_map(filters::modifier).collect(),
            });
        }
        weighted
    }

    /// The one backend list of a TCPRoute or UDPRoute.
    pub fn l4_backends(&mut self, here: Here<'_>) -> Option<Vec<WeightedCluster>> {
        let RouteSpec::L4(spec) = here.route.spec else { return None };
        let rule = spec.rules.first()?;
        Some(self.backends(here, &rule.backend_refs))
    }
}

/// All backends of the table's listeners and routes.
fn backends(table: &Table) -> impl Iterator<Item = &WeightedCluster> {
    let of_listeners = table.listeners.values().map(|listener| match &listener.protocol {
        Protocol::Tcp { backends } | Protocol::Udp { backends, .. } => &backends[..],
        Protocol::Http { .. } => &[],
    });
    let hosts = table.routes.values().flat_map(|routes| &routes.virtual_hosts);
    let of_routes = hosts.flat_map(|host| &host.routes).map(|route| match &route.action {
        HttpAction::Forward(backends) => &backends[..],
        HttpAction::Respond { .. } => &[],
    });
    of_listeners.chain(of_routes).flatten()
}
