//! Resources as they arrive, until they make a whole table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::table::WeightedCluster;
use model::table::{Cluster, Endpoint, HttpAction, Listener, Protocol, RouteTable, SourceClass, Table};

use super::error::{ConvertError, FieldError};
use super::{cluster, endpoints, listener, routes, source_classes, wire};
use crate::envoy::protobuf::Any;
use crate::snapshot::ResourceType;

/// A resource in the model's words.
#[derive(Debug)]
pub struct Decoded(Body);

#[derive(Debug)]
enum Body {
    Cluster(Cluster),
    Endpoints(String, Vec<Endpoint>),
    Listener(Listener),
    Routes(RouteTable),
    SourceClasses(u64, Vec<SourceClass>),
}

/// A name that something in the table uses and that has not arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub kind: ResourceType,
    pub name: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} has not arrived", self.kind, self.name)
    }
}

/// What has arrived so far.
#[derive(Debug, Default)]
pub struct Assembly {
    clusters: BTreeMap<String, Cluster>,
    endpoints: BTreeMap<String, Vec<Endpoint>>,
    listeners: BTreeMap<String, Listener>,
    routes: BTreeMap<String, RouteTable>,
    closing: Option<(u64, Vec<SourceClass>)>,
}

impl Assembly {
    /// Reads one resource; nothing changes until it is [`put`](Assembly::put).
    pub fn decode(kind: ResourceType, name: &str, any: &Any) -> Result<Decoded, ConvertError> {
        let (found, body) = decode_body(kind, any).map_err(|e| e.of(kind, name))?;
        if found != name {
            let wrong = format!("is {:?}, but it was sent as {:?}", wire::clip(&found), wire::clip(name));
            return Err(FieldError::out_of_range("name", wrong).of(kind, name));
        }
        Ok(Decoded(body))
    }

    pub fn put(&mut self, decoded: Decoded) {
        match decoded.0 {
            Body::Cluster(cluster) => drop(self.clusters.insert(cluster.name.clone(), cluster)),
            Body::Endpoints(name, endpoints) => drop(self.endpoints.insert(name, endpoints)),
            Body::Listener(listener) => drop(self.listeners.insert(listener.name.clone(), listener)),
            Body::Routes(routes) => drop(self.routes.insert(routes.name.clone(), routes)),
            Body::SourceClasses(version, classes) => self.closing = Some((version, classes)),
        }
    }

    pub fn remove(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Cluster => drop(self.clusters.remove(name)),
            ResourceType::Endpoints => drop(self.endpoints.remove(name)),
            ResourceType::Listener => drop(self.listeners.remove(name)),
            ResourceType::Routes => drop(self.routes.remove(name)),
            ResourceType::SourceClasses => self.closing = None,
        }
    }

    /// Names that have to be asked for, because what has arrived uses them.
    pub fn wanted(&self, kind: ResourceType) -> BTreeSet<String> {
        match kind {
            ResourceType::Endpoints => self.clusters.keys().cloned().collect(),
            ResourceType::Routes => self.listeners.values().filter_map(route_table).cloned().collect(),
            ResourceType::Cluster | ResourceType::Listener | ResourceType::SourceClasses => BTreeSet::new(),
        }
    }

    /// The whole table, once every name in it has arrived.
    pub fn table(&self) -> Result<Table, Missing> {
        let (version, classes) = self.closing.clone().ok_or_else(|| Missing {
            kind: ResourceType::SourceClasses,
            name: source_classes::NAME.to_owned(),
        })?;
        let wanted = self.wanted(ResourceType::Routes);
        let mut table = Table { version, classes, ..Table::default() };
        for name in &wanted {
            let routes = self.routes.get(name).ok_or_else(|| missing(ResourceType::Routes, name))?;
            self.check_routes(routes)?;
            table.routes.insert(name.clone(), routes.clone());
        }
        for listener in self.listeners.values() {
            self.check_listener(listener)?;
        }
        for name in self.clusters.keys() {
            let endpoints = self.endpoints.get(name).ok_or_else(|| missing(ResourceType::Endpoints, name))?;
            if !endpoints.is_empty() {
                table.endpoints.insert(name.clone(), endpoints.clone());
            }
        }
        table.clusters = self.clusters.clone();
        table.listeners = self.listeners.clone();
        Ok(table)
    }

    fn check_routes(&self, table: &RouteTable) -> Result<(), Missing> {
        let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
        routes.into_iter().try_for_each(|route| match &route.action {
            HttpAction::Forward(backends) => self.check_backends(backends),
            HttpAction::Respond { .. } => Ok(()),
        })
    }

    fn check_listener(&self, listener: &Listener) -> Result<(), Missing> {
        match &listener.protocol {
            Protocol::Http { .. } => Ok(()),
            Protocol::Tcp { backends } | Protocol::Udp { backends, .. } => self.check_backends(backends),
        }
    }

    fn check_backends(&self, backends: &[WeightedCluster]) -> Result<(), Missing> {
        let absent = backends
            .iter()
            .filter_map(|backend| backend.cluster.as_ref())
            .find(|name| !self.clusters.contains_key(*name));
        absent.map_or(Ok(()), |name| Err(missing(ResourceType::Cluster, name)))
    }
}

fn missing(kind: ResourceType, name: &str) -> Missing {
    Missing { kind, name: name.to_owned() }
}

fn route_table(listener: &Listener) -> Option<&String> {
    match &listener.protocol {
        Protocol::Http { routes } => Some(routes),
        Protocol::Tcp { .. } | Protocol::Udp { .. } => None,
    }
}

/// The resource, and the name that it says it has.
fn decode_body(kind: ResourceType, any: &Any) -> Result<(String, Body), FieldError> {
    const PATH: &str = "resource";
    Ok(match kind {
        ResourceType::Cluster => {
            let cluster = cluster::decode(wire::unpack(any, PATH)?)?;
            (cluster.name.clone(), Body::Cluster(cluster))
        }
        ResourceType::Endpoints => {
            let message: crate::envoy::endpoint::ClusterLoadAssignment = wire::unpack(any, PATH)?;
            let name = message.cluster_name.clone();
            (name.clone(), Body::Endpoints(name, endpoints::decode(message)?))
        }
        ResourceType::Listener => {
            let listener = listener::decode(wire::unpack(any, PATH)?)?;
            (listener.name.clone(), Body::Listener(listener))
        }
        ResourceType::Routes => {
            let routes = routes::decode(wire::unpack(any, PATH)?)?;
            (routes.name.clone(), Body::Routes(routes))
        }
        ResourceType::SourceClasses => {
            let (version, classes) = source_classes::decode(wire::unpack(any, PATH)?)?;
            (source_classes::NAME.to_owned(), Body::SourceClasses(version, classes))
        }
    })
}
