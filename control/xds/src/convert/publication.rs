//! A whole table as a snapshot.

use model::table::Table;

use super::audience::Audience;
use super::error::ConvertError;
use super::{cluster, endpoints, listener, routes, source_classes, wire};
use crate::snapshot::{Resource, ResourceType, Snapshot};

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
