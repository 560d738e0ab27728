//! The data plane's end of one incremental ADS stream after another.
//!
//! It asks for all listeners and clusters of its node, then for the routes and endpoints that those name, and yields a
//! table once a publication is closed (`SourceClasses`) and every name in it has arrived. The closing resource is
//! acknowledged when the table is applied, so the control plane's acknowledged version is what the node serves by.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use model::table::Table;

use super::stream::{MAX_NAMES, WILDCARD};
use crate::convert::{Assembly, Missing};
use crate::envoy::core;
use crate::envoy::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::envoy::rpc;
use crate::snapshot::ResourceType;

/// gRPC's INVALID_ARGUMENT, the code of a refusal.
const INVALID_ARGUMENT: i32 = 3;

/// The client. It outlives streams: what was received stays, and a new stream asks only for what differs.
#[derive(Debug)]
pub struct AdsClient {
    node: core::Node,
    assembly: Assembly,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    requests: VecDeque<DeltaDiscoveryRequest>,
    /// A publication was closed and its table has not been taken.
    due: bool,
    /// Nonce of the closing resource, until the table is applied.
    unapplied: Option<String>,
    node_said: bool,
}

#[derive(Debug, Default)]
struct Subscription {
    names: BTreeSet<String>,
    /// Of what arrived and was accepted.
    versions: HashMap<String, String>,
    /// Whether this stream has heard of this type.
    opened: bool,
}

impl AdsClient {
    pub fn new(node: core::Node) -> AdsClient {
        let subscriptions = ResourceType::ALL.map(|kind| (kind, Subscription::default()));
        AdsClient {
            node,
            assembly: Assembly::default(),
            subscriptions: subscriptions.into_iter().collect(),
            requests: VecDeque::new(),
            due: false,
            unapplied: None,
            node_said: false,
        }
    }

    /// A new stream is open: what was asked on the last one is asked again, with the versions that are here.
    pub fn handle_connected(&mut self) {
        self.requests.clear();
        self.unapplied = None;
        self.node_said = false;
        for kind in ResourceType::ALL {
            let subscription = self.subscription(kind);
            subscription.opened = false;
            subscription.names = match kind.has_wildcard() {
                true => BTreeSet::from([WILDCARD.to_owned()]),
                false => subscription.names.clone(),
            };
            let names = subscription.names.iter().cloned().collect();
            self.change_subscription(kind, names, Vec::new());
        }
    }

    /// Takes in one response, whole or not at all: a resource that cannot be read refuses the response, and what was
    /// here before stays.
    pub fn handle_response(&mut self, response: DeltaDiscoveryResponse) {
        let refusal = match ResourceType::from_type_url(&response.type_url) {
            None => Err(format!("type {} was not asked for", response.type_url)),
            Some(kind) => self.take(kind, &response),
        };
        let closes = response.type_url == ResourceType::SourceClasses.type_url();
        if refusal.is_ok() && closes {
            self.due = true;
            self.unapplied = Some(response.nonce);
            return;
        }
        self.answer(response.type_url, response.nonce, refusal);
    }

    fn take(&mut self, kind: ResourceType, response: &DeltaDiscoveryResponse) -> Result<(), String> {
        let mut decoded = Vec::with_capacity(response.resources.len());
        for resource in &response.resources {
            let body = resource.resource.as_ref();
            let body =
                body.ok_or_else(|| format!("{kind} {:?}: resource: required, but absent", resource.name))?;
            decoded.push(Assembly::decode(kind, &resource.name, body).map_err(|e| e.to_string())?);
        }
        let subscription = self.subscription(kind);
        let new = response.resources.iter().filter(|one| !subscription.versions.contains_key(&one.name));
        if subscription.versions.len() + new.count() > MAX_NAMES {
            return Err(format!("{kind}: more than {MAX_NAMES} resources"));
        }
        for resource in &response.resources {
            subscription.versions.insert(resource.name.clone(), resource.version.clone());
        }
        for name in &response.removed_resources {
            self.forget(kind, name);
        }
        decoded.into_iter().for_each(|decoded| self.assembly.put(decoded));
        self.follow_names();
        Ok(())
    }

    /// Asks for what has become named, and no longer for what is not.
    fn follow_names(&mut self) {
        for kind in [ResourceType::Endpoints, ResourceType::Routes] {
            let wanted = self.assembly.wanted(kind);
            let subscription = self.subscription(kind);
            let added: Vec<String> = wanted.difference(&subscription.names).cloned().collect();
            let dropped: Vec<String> = subscription.names.difference(&wanted).cloned().collect();
            subscription.names = wanted;
            for name in &dropped {
                self.forget(kind, name);
            }
            self.change_subscription(kind, added, dropped);
        }
    }

    fn forget(&mut self, kind: ResourceType, name: &str) {
        self.subscription(kind).versions.remove(name);
        self.assembly.remove(kind, name);
    }

    fn change_subscription(&mut self, kind: ResourceType, added: Vec<String>, dropped: Vec<String>) {
        if added.is_empty() && dropped.is_empty() {
            return;
        }
        let subscription = self.subscription(kind);
        let opening = !std::mem::replace(&mut subscription.opened, true);
        let held = if opening { subscription.versions.clone() } else { HashMap::new() };
        self.push(DeltaDiscoveryRequest {
            type_url: kind.type_url(),
            resource_names_subscribe: added,
            resource_names_unsubscribe: if opening { Vec::new() } else { dropped },
            initial_resource_versions: held,
            ..Default::default()
        });
    }

    /// The table of the publication that was closed last, once. It must be answered by [`handle_applied`].
    ///
    /// [`handle_applied`]: AdsClient::handle_applied
    pub fn poll_table(&mut self) -> Option<Table> {
        if !self.due {
            return None;
        }
        let table = self.assembly.table().ok()?;
        self.due = false;
        Some(table)
    }

    /// What a table waits for.
    pub fn missing(&self) -> Option<Missing> {
        self.assembly.table().err()
    }

    /// The workers serve by the table that was polled, or they cannot.
    pub fn handle_applied(&mut self, outcome: Result<(), String>) {
        if let Some(nonce) = self.unapplied.take() {
            if outcome.is_err() {
                // Asked for again on the next stream.
                self.subscription(ResourceType::SourceClasses).versions.clear();
            }
            self.answer(ResourceType::SourceClasses.type_url(), nonce, outcome);
        }
    }

    /// The next request to send.
    pub fn poll_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        self.requests.pop_front()
    }

    fn answer(&mut self, type_url: String, nonce: String, outcome: Result<(), String>) {
        let error_detail = outcome.err().map(|message| rpc::Status {
            code: INVALID_ARGUMENT,
            message,
            ..Default::default()
        });
        self.push(DeltaDiscoveryRequest {
            type_url,
            response_nonce: nonce,
            error_detail,
            ..Default::default()
        });
    }

    fn push(&mut self, mut request: DeltaDiscoveryRequest) {
        // The first request of a stream says who asks.
        if !std::mem::replace(&mut self.node_said, true) {
            request.node = Some(self.node.clone());
        }
        self.requests.push_back(request);
    }

    fn subscription(&mut self, kind: ResourceType) -> &mut Subscription {
        self.subscriptions.get_mut(&kind).expect("every type has a subscription from the start")
    }
}
