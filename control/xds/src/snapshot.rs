//! Everything that one kind of client may ask for, at one table version: what `convert` makes and `ads` sends.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use prost::Name;

use crate::envoy::protobuf::Any;
use crate::envoy::{cluster, endpoint, listener, route};
use crate::proto::mesh;

/// In the order in which a publication is sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    Cluster,
    Endpoints,
    Listener,
    Routes,
    SourceClasses,
}

impl ResourceType {
    pub const ALL: [ResourceType; 5] = [
        ResourceType::Cluster,
        ResourceType::Endpoints,
        ResourceType::Listener,
        ResourceType::Routes,
        ResourceType::SourceClasses,
    ];

    pub fn type_url(self) -> String {
        match self {
            ResourceType::Cluster => cluster::Cluster::type_url(),
            ResourceType::Endpoints => endpoint::ClusterLoadAssignment::type_url(),
            ResourceType::Listener => listener::Listener::type_url(),
            ResourceType::Routes => route::RouteConfiguration::type_url(),
            ResourceType::SourceClasses => mesh::SourceClasses::type_url(),
        }
    }

    pub fn from_type_url(url: &str) -> Option<ResourceType> {
        ResourceType::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Whether a request without names means all of them (xDS: listeners and clusters; and our own type).
    pub(crate) fn has_wildcard(self) -> bool {
        !matches!(self, ResourceType::Endpoints | ResourceType::Routes)
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ResourceType::Cluster => "cluster",
            ResourceType::Endpoints => "endpoints",
            ResourceType::Listener => "listener",
            ResourceType::Routes => "routes",
            ResourceType::SourceClasses => "source classes",
        })
    }
}

/// One resource of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    pub name: String,
    /// Equal for equal bodies, so that a reconnected client is sent only what differs.
    pub version: String,
    pub body: Any,
    /// Whether the wildcard has it; otherwise only who asks for it by name.
    pub listed: bool,
}

impl Resource {
    pub fn listed(name: &str, body: Any) -> Resource {
        Resource { name: name.to_owned(), version: fingerprint(&body), body, listed: true }
    }

    pub fn on_demand(name: &str, body: Any) -> Resource {
        Resource { listed: false, ..Resource::listed(name, body) }
    }
}

/// Bodies are encoded the same way each time (no map of ours has two entries), so bytes tell.
fn fingerprint(body: &Any) -> String {
    let mut hasher = DefaultHasher::new();
    body.value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Everything that one kind of client may ask for, at one table version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub version: u64,
    resources: BTreeMap<ResourceType, BTreeMap<String, Arc<Resource>>>,
}

impl Snapshot {
    pub fn new(version: u64) -> Snapshot {
        Snapshot { version, resources: BTreeMap::new() }
    }

    pub fn insert(&mut self, kind: ResourceType, resource: Resource) {
        self.resources.entry(kind).or_default().insert(resource.name.clone(), Arc::new(resource));
    }

    pub fn find(&self, kind: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(&kind)?.get(name)
    }

    pub fn of(&self, kind: ResourceType) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.get(&kind).into_iter().flat_map(BTreeMap::values)
    }

    /// Whether both have the same resources, whatever their versions as a whole. The resource that only closes a
    /// publication does not count.
    pub fn same_content(&self, other: &Snapshot) -> bool {
        let kinds = ResourceType::ALL.into_iter().filter(|kind| *kind != ResourceType::SourceClasses);
        kinds.into_iter().all(|kind| self.of(kind).eq(other.of(kind)))
    }
}
