//! The status of every resource, in the Gateway API's words.

mod programmed;

use std::collections::BTreeMap;

use self::programmed::Programmed;
use crate::answers::Answers;
use crate::attach::{Attached, Attachment, GatewayView, ListenerView, ParentView, RouteView};
use crate::gateway::{CONTROLLER_NAME, GatewayClassSpec, IP_ADDRESS_TYPE};
use crate::instances::Instances;
use crate::kind::{GATEWAY_GROUP, Key, Kind};
use crate::metadata::Metadata;
use crate::reason::{Reason, Refusal};
use crate::resource::{Resource, Spec};
use crate::resources::Resources;
use crate::route::ParentRef;
use crate::service::ServiceSpec;
use crate::status::{Condition, ListenerStatus, ParentStatus, Status, StatusAddress, SupportedKind, Truth};

/// The status of every resource that has one, without times.
pub(crate) fn statuses(
    attached: &Attached<'_>,
    instances: &Instances<'_>,
    answers: &Answers,
) -> BTreeMap<Key, Status> {
    let resources = attached.resources;
    let ignored = instances.ignored_health_checks();
    let programmed = Programmed::new(attached, answers);
    let mut all = BTreeMap::new();
    for (index, gateway) in attached.gateways.iter().enumerate() {
        let mut status = gateway_status(gateway, &programmed);
        for (number, listener) in status.listeners.iter_mut().enumerate() {
            listener.attached_routes =
                u32::try_from(attached.attached_routes(index, number)).unwrap_or(u32::MAX);
        }
        all.insert(gateway.key.clone(), status);
    }
    for route in &attached.routes {
        all.insert(route.key.clone(), route_status(resources, route, &programmed));
    }
    for resource in resources.iter() {
        let status = match &resource.spec {
            Spec::GatewayClass(spec) => class_status(&resource.metadata, spec),
            Spec::Service(spec) => service_status(attached, resource, spec),
            Spec::Node(_) => node_status(&resource.metadata, &programmed),
            Spec::Workload(spec) => {
                workload_status(resources, resource, spec.node.as_deref(), ignored.get(&resource.key()))
            }
            _ => continue,
        };
        all.insert(resource.key(), status);
    }
    all
}

/// Makes conditions of one resource's generation.
struct Observed(u64);

impl Observed {
    fn condition(&self, kind: &str, status: Truth, reason: &str, message: impl Into<String>) -> Condition {
        Condition {
            kind: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.into(),
            observed_generation: self.0,
            last_transition_time: None,
        }
    }

    /// True with the condition's own name as its reason, or False as refused.
    fn outcome(&self, kind: &str, outcome: &Result<(), Refusal>) -> Condition {
        match outcome {
            Ok(()) => self.condition(kind, Truth::True, kind, ""),
            Err(refusal) => self.condition(kind, Truth::False, refusal.reason.name(), &refusal.message),
        }
    }
}

fn class_status(metadata: &Metadata, spec: &GatewayClassSpec) -> Status {
    let observed = Observed(metadata.generation);
    let condition = if spec.controller_name != CONTROLLER_NAME {
        let message = format!("spec.controllerName is not {CONTROLLER_NAME}");
        observed.condition("Accepted", Truth::Unknown, Reason::Pending.name(), message)
    } else if spec.parameters_ref.is_some() {
        let message = "spec.parametersRef is not supported";
        observed.condition("Accepted", Truth::False, Reason::InvalidParameters.name(), message)
    } else {
        observed.outcome("Accepted", &Ok(()))
    };
    Status { conditions: vec![condition], ..Status::default() }
}

fn gateway_status(gateway: &GatewayView<'_>, programmed: &Programmed<'_>) -> Status {
    let observed = Observed(gateway.metadata.generation);
    if let Err(refusal) = &gateway.ours {
        let pending =
            |kind| observed.condition(kind, Truth::Unknown, refusal.reason.name(), &refusal.message);
        return Status { conditions: vec![pending("Accepted"), pending("Programmed")], ..Status::default() };
    }
    let programmed = programmed.gateway(gateway);
    let listeners =
        gateway.listeners.iter().map(|listener| listener_status(&observed, listener, &programmed));
    let addresses = gateway
        .nodes
        .values()
        .flatten()
        .map(|address| StatusAddress { kind: IP_ADDRESS_TYPE.to_owned(), value: address.to_string() });
    Status {
        conditions: vec![gateway_accepted(&observed, gateway), observed.outcome("Programmed", &programmed)],
        addresses: if gateway.serves() { addresses.collect() } else { Vec::new() },
        listeners: listeners.collect(),
        parents: Vec::new(),
    }
}

/// Accepted with the reason ListenersNotValid says that some listener is not.
fn gateway_accepted(observed: &Observed, gateway: &GatewayView<'_>) -> Condition {
    let bad = gateway.listeners.iter().find(|listener| !listener.serves() || listener.resolved.is_err());
    match (&gateway.accepted, bad) {
        (Ok(()), Some(listener)) => {
            let message = format!("listener {} is not valid; its conditions say why", listener.spec.name);
            observed.condition("Accepted", Truth::True, Reason::ListenersNotValid.name(), message)
        }
        (accepted, _) => observed.outcome("Accepted", accepted),
    }
}

fn listener_status(
    observed: &Observed,
    listener: &ListenerView<'_>,
    gateway_programmed: &Result<(), Refusal>,
) -> ListenerStatus {
    let accepted = match (&listener.accepted, &listener.conflicted) {
        (Ok(()), Some(conflict)) => &Err(conflict.clone()),
        (accepted, _) => accepted,
    };
    let conflicted = match &listener.conflicted {
        Some(refusal) => {
            observed.condition("Conflicted", Truth::True, refusal.reason.name(), &refusal.message)
        }
        None => observed.condition("Conflicted", Truth::False, "NoConflicts", ""),
    };
    let programmed = match accepted {
        Ok(()) => gateway_programmed.clone(),
        Err(_) => Err(Refusal::new(Reason::Invalid, "the listener is not Accepted")),
    };
    let kinds = listener
        .kinds
        .iter()
        .map(|kind| SupportedKind { group: GATEWAY_GROUP.to_owned(), kind: kind.name().to_owned() });
    ListenerStatus {
        name: listener.spec.name.clone(),
        supported_kinds: kinds.collect(),
        attached_routes: 0,
        conditions: vec![
            observed.outcome("Accepted", accepted),
            conflicted,
            observed.outcome("ResolvedRefs", &listener.resolved),
            observed.outcome("Programmed", &programmed),
        ],
    }
}

fn route_status(resources: &Resources, route: &RouteView<'_>, programmed: &Programmed<'_>) -> Status {
    let observed = Observed(route.metadata.generation);
    let parents = route.parents.iter().map(|parent| {
        let mut conditions = vec![
            route_accepted(&observed, route, parent),
            observed.outcome("ResolvedRefs", &resolved_refs(resources, route, parent.parent)),
            observed.outcome("Programmed", &programmed.route(route, parent)),
        ];
        conditions.extend(partially_invalid(&observed, route, parent));
        ParentStatus {
            parent_ref: parent.parent.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions,
        }
    });
    Status { parents: parents.collect(), ..Status::default() }
}

/// Only ever True, and only beside Accepted; its message has the specification's prefix.
fn partially_invalid(
    observed: &Observed,
    route: &RouteView<'_>,
    parent: &ParentView<'_>,
) -> Option<Condition> {
    if parent.outcome.is_err() || route.dropped.is_empty() {
        return None;
    }
    let reasons: Vec<&str> = route.dropped.values().map(String::as_str).collect();
    let message = format!("Dropped Rule: {}; such requests are answered with 500", reasons.join("; "));
    Some(observed.condition("PartiallyInvalid", Truth::True, Reason::UnsupportedValue.name(), message))
}

fn route_accepted(observed: &Observed, route: &RouteView<'_>, parent: &ParentView<'_>) -> Condition {
    let outcome = parent.outcome.as_ref().map(drop).map_err(Clone::clone);
    let mut condition = observed.outcome("Accepted", &outcome);
    let service = matches!(parent.outcome, Ok(Attachment::Service { .. }));
    if service && !route.spec.hostnames().is_empty() {
        "spec.hostnames has no say below a Service, which is the host itself"
            .clone_into(&mut condition.message);
    }
    condition
}

/// The first problem's reason, and all problems' messages.
fn resolved_refs(resources: &Resources, route: &RouteView<'_>, parent: &ParentRef) -> Result<(), Refusal> {
    let problems = route.unresolved(resources, parent);
    let Some((_, first)) = problems.first() else { return Ok(()) };
    let messages: Vec<String> =
        problems.iter().map(|(path, refusal)| format!("{path}: {}", refusal.message)).collect();
    Err(Refusal::new(first.reason, messages.join("; ")))
}

/// A Service of which another has an address is called at what is left, if anything.
fn service_status(attached: &Attached<'_>, service: &Resource, spec: &ServiceSpec) -> Status {
    let key = service.key();
    let lost = spec.addresses().into_iter().find_map(|address| {
        let holder = attached.service_addresses.get(&address).filter(|holder| **holder != key)?;
        let message = format!("spec.clusterIPs: {address} is {holder}'s, which is older");
        Some(Refusal::new(Reason::AddressNotUsable, message))
    });
    let unassigned = || Refusal::new(Reason::Pending, "no address has been given to it yet");
    let outcome = match lost {
        Some(refusal) => Err(refusal),
        None if spec.addresses().is_empty() => Err(unassigned()),
        None => Ok(()),
    };
    let accepted = Observed(service.metadata.generation).outcome("Accepted", &outcome);
    Status { conditions: vec![accepted], ..Status::default() }
}

fn node_status(metadata: &Metadata, programmed: &Programmed<'_>) -> Status {
    let condition = Observed(metadata.generation).outcome("Programmed", &programmed.node(&metadata.name));
    Status { conditions: vec![condition], ..Status::default() }
}

fn workload_status(
    resources: &Resources,
    workload: &Resource,
    node: Option<&str>,
    ignored: Option<&String>,
) -> Status {
    let observed = Observed(workload.metadata.generation);
    let accepted = match node {
        Some(node) if resources.find(&Key::new(Kind::Node, "", node)).is_none() => {
            Err(Refusal::new(Reason::NodeNotFound, format!("spec.node: Node {node} does not exist")))
        }
        _ => Ok(()),
    };
    let mut conditions = vec![observed.outcome("Accepted", &accepted)];
    conditions.extend(ignored.map(|message| {
        observed.condition("HealthChecked", Truth::False, Reason::HealthCheckDiffers.name(), message)
    }));
    Status { conditions, ..Status::default() }
}

#[cfg(test)]
mod tests;
