//! Aggregated discovery (ADS), both ends, as state machines: a message comes in by `handle_*`, what to do about it comes
//! out by `poll_*`. No clock, no task, no transport; tonic is the shell, and the simulator another.
//!
//! The order of a publication is make before break: clusters, endpoints, listeners, routes; then what is no longer
//! named; then our own [`ResourceType::SourceClasses`], which tells our data plane that the publication is complete.

mod client;
mod delta;
mod state_of_the_world;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use prost::Name;

use crate::envoy::protobuf::Any;
use crate::envoy::{cluster, core, endpoint, listener, route};
use crate::proto::mesh;

pub use client::AdsClient;
pub use delta::DeltaStream;
pub use state_of_the_world::StateOfTheWorldStream;

/// Names that one stream may subscribe to, of one type: as many as the largest mesh that we mean to carry has services.
pub const MAX_NAMES: usize = 16_384;
/// Longest name of a resource; Kubernetes' longest names (253) twice, and room for what we put between.
pub const MAX_NAME_BYTES: usize = 1_024;
/// Resources go out in responses of about this size, far below every client's message limit (gRPC: 4 MiB).
pub const RESPONSE_BYTES: usize = 1 << 20;
/// Longest detail of a refusal that we keep.
pub const MAX_DETAIL_BYTES: usize = 4_096;

/// The wildcard name of xDS.
const WILDCARD: &str = "*";

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
    fn has_wildcard(self) -> bool {
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

/// What a client said to a response of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub kind: ResourceType,
    /// The snapshot that the response was made from.
    pub version: u64,
    /// Refused: the client's own words, clipped to [`MAX_DETAIL_BYTES`].
    pub outcome: Result<(), String>,
}

/// Why a stream must end; the other side broke a bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("more than {MAX_NAMES} names of type {0} in one stream")]
    TooManyNames(ResourceType),
    #[error("a resource name of {0} bytes, the longest allowed is {MAX_NAME_BYTES}")]
    NameTooLong(usize),
}

fn check_names(kind: ResourceType, names: &[String], already: usize) -> Result<(), StreamError> {
    if names.len() + already > MAX_NAMES {
        return Err(StreamError::TooManyNames(kind));
    }
    match names.iter().map(String::len).find(|length| *length > MAX_NAME_BYTES) {
        Some(length) => Err(StreamError::NameTooLong(length)),
        None => Ok(()),
    }
}

fn detail_of(status: crate::envoy::rpc::Status) -> String {
    let mut detail = status.message;
    let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
    detail.truncate(end);
    detail
}

fn control_plane() -> Option<core::ControlPlane> {
    Some(core::ControlPlane { identifier: concat!("ringway-control/", env!("CARGO_PKG_VERSION")).to_owned() })
}

/// A response that waits for its answer.
#[derive(Debug)]
struct InFlight {
    nonce: String,
    version: u64,
}

/// The answer to what was in flight, if `nonce` is its nonce.
fn settle(
    in_flight: &mut Option<InFlight>,
    kind: ResourceType,
    nonce: &str,
    error: Option<crate::envoy::rpc::Status>,
) -> Option<Acknowledgement> {
    let answered = in_flight.take_if(|sent| sent.nonce == nonce)?;
    let outcome = match error {
        None => Ok(()),
        Some(status) => Err(detail_of(status)),
    };
    Some(Acknowledgement { kind, version: answered.version, outcome })
}
