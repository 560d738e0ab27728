//! The server's end of one incremental ADS stream.
//!
//! ```text
//!   handle_request -> names, wildcard      per type: told { name -> version | absent }, in_flight
//!   handle_snapshot -> snapshot            poll_response = snapshot (what is subscribed) - told, in order
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::stream::{
    Acknowledgement, InFlight, MAX_NAMES, RESPONSE_BYTES, ServerStream, StreamError, WILDCARD, check_names,
    control_plane, must_wait, settle,
};
use crate::envoy::core;
use crate::envoy::discovery::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::snapshot::{Resource, ResourceType, Snapshot};

/// New and changed resources go out in this order.
const MAKE: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Routes];
/// What is gone goes out after all of [`MAKE`], users before what they used.
const BREAK: [ResourceType; 4] =
    [ResourceType::Listener, ResourceType::Routes, ResourceType::Cluster, ResourceType::Endpoints];

/// One client's incremental stream.
#[derive(Debug, Default)]
pub struct DeltaStream {
    snapshot: Option<Arc<Snapshot>>,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    responses: u64,
}

/// What the client wants of one type, and what it was told. At most one response is in flight.
#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    told: BTreeMap<String, Told>,
    in_flight: Option<InFlight>,
    /// The client refused the last response: what it holds may be what we would now take away.
    refused: bool,
}

#[derive(Debug, PartialEq)]
enum Told {
    Version(String),
    Absent,
}

impl ServerStream for DeltaStream {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn node(request: &DeltaDiscoveryRequest) -> Option<&core::Node> {
        request.node.as_ref()
    }

    fn handle_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = Some(snapshot);
    }

    fn handle_request(
        &mut self,
        request: DeltaDiscoveryRequest,
    ) -> Result<Option<Acknowledgement>, StreamError> {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else { return Ok(None) };
        let known = self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        check_names(kind, &request.resource_names_subscribe, subscription.names.len())?;
        if !known {
            subscription.start(kind, &request)?;
        }
        subscription.subscribe(request.resource_names_subscribe, &request.initial_resource_versions);
        subscription.unsubscribe(&request.resource_names_unsubscribe);
        let answer = settle(&mut subscription.in_flight, kind, &request.response_nonce, request.error_detail);
        if let Some(answer) = &answer {
            subscription.refused = answer.outcome.is_err();
        }
        Ok(answer)
    }

    fn poll_response(&mut self) -> Option<DeltaDiscoveryResponse> {
        let snapshot = self.snapshot.clone()?;
        let mut held = Vec::new();
        for kind in MAKE {
            if must_wait(kind, &held) {
                continue;
            }
            match self.poll(kind, |subscription| subscription.news(kind, &snapshot)) {
                Some(Some(response)) => return Some(response),
                Some(None) => held.push(kind),
                None => {}
            }
        }
        if !held.is_empty() {
            return None;
        }
        // A client that refused something still works with what it had.
        if !self.subscriptions.values().any(|subscription| subscription.refused) {
            for kind in BREAK {
                if let Some(poll) = self.poll(kind, |subscription| subscription.gone(kind, &snapshot)) {
                    return poll;
                }
            }
        }
        let last = ResourceType::SourceClasses;
        self.poll(last, |subscription| subscription.news(last, &snapshot)).flatten()
    }
}

impl DeltaStream {
    /// `None`: nothing to say of this type. `Some(None)`: something, but the client owes an answer first.
    fn poll(
        &mut self,
        kind: ResourceType,
        changes: impl FnOnce(&Subscription) -> Changes,
    ) -> Option<Option<DeltaDiscoveryResponse>> {
        let version = self.snapshot.as_ref()?.version;
        let subscription = self.subscriptions.get_mut(&kind)?;
        let changes = changes(subscription);
        if changes.is_empty() {
            return None;
        }
        if subscription.in_flight.is_some() {
            return Some(None);
        }
        self.responses += 1;
        let nonce = self.responses.to_string();
        subscription.in_flight = Some(InFlight { nonce: nonce.clone(), version });
        for resource in &changes.resources {
            subscription.told.insert(resource.name.clone(), Told::Version(resource.version.clone()));
        }
        for name in &changes.removed {
            // Only who asks by name must be remembered as answered.
            if subscription.names.contains(name) {
                subscription.told.insert(name.clone(), Told::Absent);
            } else {
                subscription.told.remove(name);
            }
        }
        Some(Some(changes.into_response(kind, version, nonce)))
    }
}

impl Subscription {
    /// The first request of a type: no names means all, and the client says what it holds from an earlier stream.
    fn start(&mut self, kind: ResourceType, request: &DeltaDiscoveryRequest) -> Result<(), StreamError> {
        self.wildcard = kind.has_wildcard() && request.resource_names_subscribe.is_empty();
        if request.initial_resource_versions.len() > MAX_NAMES {
            return Err(StreamError::TooManyNames(kind));
        }
        for (name, version) in &request.initial_resource_versions {
            self.told.insert(name.clone(), Told::Version(version.clone()));
        }
        Ok(())
    }

    fn subscribe(&mut self, names: Vec<String>, held: &HashMap<String, String>) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = true;
                continue;
            }
            // Whoever asks again wants it again, even if it has not changed.
            if !held.contains_key(&name) {
                self.told.remove(&name);
            }
            self.names.insert(name);
        }
    }

    fn unsubscribe(&mut self, names: &[String]) {
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
            } else {
                self.names.remove(name);
            }
        }
        if !names.is_empty() && !self.wildcard {
            self.told.retain(|name, _| self.names.contains(name));
        }
    }

    fn wants(&self, resource: &Resource) -> bool {
        self.wildcard && resource.listed || self.names.contains(&resource.name)
    }

    /// New or changed, up to a response full.
    fn news(&self, kind: ResourceType, snapshot: &Snapshot) -> Changes {
        let mut changes = Changes::default();
        let mut bytes = 0;
        for resource in snapshot.of(kind).filter(|resource| self.wants(resource)) {
            match self.told.get(&resource.name) {
                Some(Told::Version(version)) if *version == resource.version => continue,
                _ => {}
            }
            bytes += resource.body.value.len() + resource.name.len();
            changes.resources.push(resource.clone());
            if bytes >= RESPONSE_BYTES {
                break;
            }
        }
        changes
    }

    /// Told before, or asked for by name, and not there.
    fn gone(&self, kind: ResourceType, snapshot: &Snapshot) -> Changes {
        let told = self.told.iter().filter(|(_, told)| **told != Told::Absent).map(|(name, _)| name);
        let asked = self.names.iter().filter(|name| !self.told.contains_key(*name));
        let removed = told.chain(asked).filter(|name| snapshot.find(kind, name).is_none());
        Changes { resources: Vec::new(), removed: removed.cloned().collect() }
    }
}

#[derive(Default)]
struct Changes {
    resources: Vec<Arc<Resource>>,
    removed: Vec<String>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.resources.is_empty() && self.removed.is_empty()
    }

    fn into_response(self, kind: ResourceType, version: u64, nonce: String) -> DeltaDiscoveryResponse {
        let resources = self.resources.iter().map(|resource| discovery::Resource {
            name: resource.name.clone(),
            version: resource.version.clone(),
            resource: Some(resource.body.clone()),
            ..Default::default()
        });
        DeltaDiscoveryResponse {
            system_version_info: version.to_string(),
            resources: resources.collect(),
            type_url: kind.type_url(),
            removed_resources: self.removed,
            nonce,
            control_plane: control_plane(),
            ..Default::default()
        }
    }
}
