//! The server's end of one state-of-the-world ADS stream: what gRPC's own client speaks.
//!
//! Each response of a type has everything of that type that the client names. A cluster that is gone stays in the
//! responses until the client has acknowledged the routes that no longer name it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::stream::{
    Acknowledgement, InFlight, ServerStream, StreamError, WILDCARD, check_names, control_plane, must_wait,
    settle,
};
use crate::envoy::core;
use crate::envoy::discovery::{DiscoveryRequest, DiscoveryResponse};
use crate::snapshot::{Resource, ResourceType, Snapshot};

type Resources = BTreeMap<String, Arc<Resource>>;

/// One client's state-of-the-world stream.
#[derive(Debug, Default)]
pub struct StateOfTheWorldStream {
    snapshot: Option<Arc<Snapshot>>,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    responses: u64,
}

#[derive(Debug, Default)]
struct Subscription {
    wildcard: bool,
    names: BTreeSet<String>,
    told: Resources,
    in_flight: Option<InFlight>,
    /// Nonce of the last response; a request with another one is of the past.
    last_nonce: String,
    /// The names changed, so that even an unchanged answer is due: what it lacks does not exist.
    answer_due: bool,
}

impl ServerStream for StateOfTheWorldStream {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn node(request: &DiscoveryRequest) -> Option<&core::Node> {
        request.node.as_ref()
    }

    fn handle_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = Some(snapshot);
    }

    fn handle_request(&mut self, request: DiscoveryRequest) -> Result<Option<Acknowledgement>, StreamError> {
        let Some(kind) = ResourceType::from_type_url(&request.type_url) else { return Ok(None) };
        check_names(kind, &request.resource_names, 0)?;
        let known = self.subscriptions.contains_key(&kind);
        let subscription = self.subscriptions.entry(kind).or_default();
        if request.response_nonce != subscription.last_nonce {
            return Ok(None);
        }
        subscription.replace_names(kind, request.resource_names, !known);
        Ok(settle(&mut subscription.in_flight, kind, &request.response_nonce, request.error_detail))
    }

    fn poll_response(&mut self) -> Option<DiscoveryResponse> {
        let snapshot = self.snapshot.clone()?;
        for stage in [Stage::Make, Stage::Break] {
            let mut held = Vec::new();
            for kind in ResourceType::ALL {
                if must_wait(kind, &held) {
                    continue;
                }
                let Some(subscription) = self.subscriptions.get_mut(&kind) else { continue };
                let due = subscription.due(kind, &snapshot, stage);
                if due == subscription.told && !subscription.answer_due {
                    continue;
                }
                if subscription.in_flight.is_some() {
                    held.push(kind);
                    continue;
                }
                self.responses += 1;
                return Some(subscription.respond(kind, due, snapshot.version, self.responses));
            }
            // What is gone leaves when nothing that we sent waits for its answer.
            if self.subscriptions.values().any(|subscription| subscription.in_flight.is_some()) {
                return None;
            }
        }
        None
    }
}

#[derive(Copy, Clone, PartialEq)]
enum Stage {
    /// With what is gone, as it was.
    Make,
    Break,
}

impl Subscription {
    fn replace_names(&mut self, kind: ResourceType, names: Vec<String>, first: bool) {
        let mut names: BTreeSet<String> = names.into_iter().collect();
        let starred = names.remove(WILDCARD);
        // Legacy wildcard: no names in the first request, and as long as none is named.
        let unnamed = names.is_empty() && (first || self.wildcard);
        let wildcard = starred || kind.has_wildcard() && unnamed;
        if first || names != self.names || wildcard != self.wildcard {
            self.answer_due = kind.has_wildcard();
        }
        self.wildcard = wildcard;
        self.names = names;
        self.told.retain(|name, resource| (wildcard && resource.listed) || self.names.contains(name));
    }

    fn due(&self, kind: ResourceType, snapshot: &Snapshot, stage: Stage) -> Resources {
        let wanted = snapshot
            .of(kind)
            .filter(|resource| (self.wildcard && resource.listed) || self.names.contains(&resource.name))
            .map(|resource| (resource.name.clone(), resource.clone()));
        let used_by_routes = matches!(kind, ResourceType::Cluster | ResourceType::Endpoints);
        if stage == Stage::Break || !used_by_routes {
            return wanted.collect();
        }
        let mut due = self.told.clone();
        due.extend(wanted);
        due
    }

    fn respond(&mut self, kind: ResourceType, due: Resources, version: u64, nonce: u64) -> DiscoveryResponse {
        let nonce = nonce.to_string();
        self.answer_due = false;
        self.last_nonce = nonce.clone();
        self.in_flight = Some(InFlight { nonce: nonce.clone(), version });
        self.told = due;
        DiscoveryResponse {
            version_info: version.to_string(),
            resources: self.told.values().map(|resource| resource.body.clone()).collect(),
            type_url: kind.type_url(),
            nonce,
            control_plane: control_plane(),
            ..Default::default()
        }
    }
}
