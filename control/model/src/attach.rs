//! Which routes belong to which Gateway listeners and Services, and why others do not: one view of all resources,
//! made once, from which both tables and conditions are read.

mod conflicts;
mod gateways;
mod parents;

use crate::kind::Key;
use crate::metadata::Metadata;
use crate::reason::Refusal;
use crate::resource::{Resource, Spec};
use crate::resources::Resources;
use crate::route::{BackendRef, GrpcRouteSpec, HttpRouteSpec, L4RouteSpec, ParentRef, RouteFilter};
use crate::service::Transport;

pub(crate) use gateways::{GatewayView, ListenerView};

/// Every Gateway and route with its outcome.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    pub resources: &'a Resources,
    /// In the order of their keys.
    pub gateways: Vec<GatewayView<'a>>,
    /// Oldest first, then by namespace and name: the Gateway API's order wherever routes compete.
    pub routes: Vec<RouteView<'a>>,
}

#[derive(Debug)]
pub(crate) struct RouteView<'a> {
    pub key: Key,
    pub metadata: &'a Metadata,
    pub spec: RouteSpec<'a>,
    pub parents: Vec<ParentView<'a>>,
}

#[derive(Copy, Clone, Debug)]
pub(crate) enum RouteSpec<'a> {
    Http(&'a HttpRouteSpec),
    Grpc(&'a GrpcRouteSpec),
    L4(&'a L4RouteSpec),
}

#[derive(Debug)]
pub(crate) struct ParentView<'a> {
    pub parent: &'a ParentRef,
    pub outcome: Result<Attachment, Refusal>,
}

/// Where a route has its place.
#[derive(Clone, Debug)]
pub(crate) enum Attachment {
    Gateway { gateway: usize, listeners: Vec<AtListener> },
    Service { namespace: String, name: String, ports: Vec<(u16, Transport)> },
}

#[derive(Clone, Debug)]
pub(crate) struct AtListener {
    /// Its place in the Gateway's `spec.listeners`.
    pub listener: usize,
    /// What the listener's and the route's host names have in common; never empty.
    pub hostnames: Vec<String>,
}

impl<'a> Attached<'a> {
    pub(crate) fn new(resources: &'a Resources) -> Attached<'a> {
        let gateways = gateways::views(resources);
        let mut routes: Vec<RouteView<'a>> = resources.iter().filter_map(RouteView::new).collect();
        routes.sort_by(|one, other| one.age().cmp(&other.age()));
        for route in &mut routes {
            route.parents = parents::attach(resources, &gateways, route);
        }
        let mut attached = Attached { resources, gateways, routes };
        conflicts::settle(&mut attached);
        attached.count_attached_routes();
        attached
    }

    /// The specification counts each route once at each listener, Accepted ones only.
    fn count_attached_routes(&mut self) {
        for route in &self.routes {
            let mut places = std::collections::BTreeSet::new();
            for parent in &route.parents {
                if let Ok(Attachment::Gateway { gateway, listeners }) = &parent.outcome {
                    places.extend(listeners.iter().map(|at| (*gateway, at.listener)));
                }
            }
            for (gateway, listener) in places {
                self.gateways[gateway].listeners[listener].attached_routes += 1;
            }
        }
    }
}

impl<'a> RouteView<'a> {
    fn new(resource: &'a Resource) -> Option<RouteView<'a>> {
        let spec = match &resource.spec {
            Spec::HttpRoute(spec) => RouteSpec::Http(spec),
            Spec::GrpcRoute(spec) => RouteSpec::Grpc(spec),
            Spec::TcpRoute(spec) | Spec::UdpRoute(spec) => RouteSpec::L4(spec),
            _ => return None,
        };
        Some(RouteView { key: resource.key(), metadata: &resource.metadata, spec, parents: Vec::new() })
    }

    /// Sorts the oldest first; equals by namespace, name and at last kind.
    fn age(&self) -> (Option<&'a str>, &str, &str, crate::kind::Kind) {
        let time = self.metadata.creation_timestamp.as_deref();
        (time, &self.key.namespace, &self.key.name, self.key.kind)
    }
}

impl<'a> RouteSpec<'a> {
    pub(crate) fn parent_refs(self) -> &'a [ParentRef] {
        match self {
            RouteSpec::Http(spec) => &spec.parent_refs,
            RouteSpec::Grpc(spec) => &spec.parent_refs,
            RouteSpec::L4(spec) => &spec.parent_refs,
        }
    }

    pub(crate) fn hostnames(self) -> &'a [String] {
        match self {
            RouteSpec::Http(spec) => &spec.hostnames,
            RouteSpec::Grpc(spec) => &spec.hostnames,
            RouteSpec::L4(_) => &[],
        }
    }

    /// Each rule's backends, with the field's path.
    pub(crate) fn backends(self) -> Vec<(String, &'a BackendRef)> {
        let rules: Vec<&'a [BackendRef]> = match self {
            RouteSpec::Http(spec) => spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect(),
            RouteSpec::Grpc(spec) => spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect(),
            RouteSpec::L4(spec) => spec.rules.iter().map(|rule| rule.backend_refs.as_slice()).collect(),
        };
        let mut backends = Vec::new();
        for (rule, list) in rules.into_iter().enumerate() {
            let path = |index| format!("spec.rules[{rule}].backendRefs[{index}]");
            backends.extend(list.iter().enumerate().map(|(index, backend)| (path(index), backend)));
        }
        backends
    }

    /// Each rule's own filters, with the field's path.
    pub(crate) fn rule_filters(self) -> Vec<(String, &'a RouteFilter)> {
        let rules: Vec<&'a [RouteFilter]> = match self {
            RouteSpec::Http(spec) => spec.rules.iter().map(|rule| rule.filters.as_slice()).collect(),
            RouteSpec::Grpc(spec) => spec.rules.iter().map(|rule| rule.filters.as_slice()).collect(),
            RouteSpec::L4(_) => Vec::new(),
        };
        let mut filters = Vec::new();
        for (rule, list) in rules.into_iter().enumerate() {
            let path = |index| format!("spec.rules[{rule}].filters[{index}]");
            filters.extend(list.iter().enumerate().map(|(index, filter)| (path(index), filter)));
        }
        filters
    }
}
