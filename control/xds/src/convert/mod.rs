//! The compiled table as xDS resources, and back.
//!
//! Envoy's own types say whatever they can; `ringway.mesh` metadata says the rest. A table that [`encode_table`] took
//! comes back equal from [`Assembly::table`] but for what has no meaning: an explicitly empty list of endpoints, the
//! order of filters of different kinds, backends of weight 0 of streams and datagrams, a slash at the end of a prefix.

mod assembly;
mod cluster;
mod endpoints;
mod error;
mod listener;
mod rewrite;
mod route_action;
mod routes;
mod source_classes;
mod wire;

#[cfg(test)]
mod tests;

pub use assembly::{Assembly, Missing};
pub use error::{ConvertError, Problem};
pub use listener::encode_api_listener;

use model::table::{GATEWAY_CLASS, Table};

use crate::ads::{Resource, ResourceType, Snapshot};

/// Who reads the resources. They differ in what they accept, not in what the table means.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Audience {
    /// Our data plane: everything.
    Ringway,
    /// Envoy: what arrives from outside ([`GATEWAY_CLASS`]), because one address and port can be bound once only.
    Envoy,
    /// gRPC's own client: no listener but API listeners, prefixes that end with a slash, round robin.
    Grpc,
}

impl Audience {
    /// By the `user_agent_name` of the client's `Node` message.
    pub fn of(user_agent_name: &str) -> Audience {
        match user_agent_name {
            crate::node::USER_AGENT => Audience::Ringway,
            name if name.starts_with("gRPC") => Audience::Grpc,
            _ => Audience::Envoy,
        }
    }
}

/// All resources of `table`, as `audience` reads them.
pub fn encode_table(table: &Table, audience: Audience) -> Result<Snapshot, ConvertError> {
    let mut snapshot = Snapshot::new(table.version);
    for cluster in table.clusters.values() {
        let body = cluster::encode(cluster, audience);
        snapshot.insert(ResourceType::Cluster, Resource::listed(&cluster.name, wire::pack(&body)));
        let of_cluster = table.endpoints.get(&cluster.name).map(Vec::as_slice).unwrap_or_default();
        let body = endpoints::encode(&cluster.name, of_cluster);
        snapshot.insert(ResourceType::Endpoints, Resource::listed(&cluster.name, wire::pack(&body)));
    }
    for listener in table.listeners.values().filter(|listener| audience.listens(&listener.class)) {
        let body = listener::encode(listener).map_err(|e| e.of(ResourceType::Listener, &listener.name))?;
        snapshot.insert(ResourceType::Listener, Resource::listed(&listener.name, wire::pack(&body)));
    }
    for routes in table.routes.values() {
        let body = routes::encode(routes, audience).map_err(|e| e.of(ResourceType::Routes, &routes.name))?;
        snapshot.insert(ResourceType::Routes, Resource::listed(&routes.name, wire::pack(&body)));
    }
    if audience == Audience::Ringway {
        let body = source_classes::encode(table.version, &table.classes);
        let resource = Resource::listed(source_classes::NAME, wire::pack(&body));
        snapshot.insert(ResourceType::SourceClasses, resource);
    }
    Ok(snapshot)
}

impl Audience {
    fn listens(self, class: &str) -> bool {
        match self {
            Audience::Ringway => true,
            Audience::Envoy => class == GATEWAY_CLASS,
            Audience::Grpc => false,
        }
    }
}
