//! Routes with the outcome of each of their parentRefs.

use crate::backend::{self, Referrer};
use crate::kind::{CORE_GROUP, Key, Kind};
use crate::metadata::Metadata;
use crate::reason::Refusal;
use crate::resource::{Resource, Spec};
use crate::resources::Resources;
use crate::route::{BackendRef, GrpcRouteSpec, HttpRouteSpec, L4RouteSpec, ParentRef, RouteFilter};
use crate::service::Transport;

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

impl<'a> RouteView<'a> {
    pub(super) fn new(resource: &'a Resource) -> Option<RouteView<'a>> {
        let spec = match &resource.spec {
            Spec::HttpRoute(spec) => RouteSpec::Http(spec),
            Spec::GrpcRoute(spec) => RouteSpec::Grpc(spec),
            Spec::TcpRoute(spec) | Spec::UdpRoute(spec) => RouteSpec::L4(spec),
            _ => return None,
        };
        Some(RouteView { key: resource.key(), metadata: &resource.metadata, spec, parents: Vec::new() })
    }

    /// Sorts the oldest first; equals by namespace, name and at last kind.
    pub(super) fn age(&self) -> (Option<&'a str>, &str, &str, Kind) {
        let time = self.metadata.creation_timestamp.as_deref();
        (time, &self.key.namespace, &self.key.name, self.key.kind)
    }
}

impl RouteView<'_> {
    /// Who refers, below `parent`.
    pub(crate) fn referrer<'b>(&'b self, parent: &'b ParentRef) -> Referrer<'b> {
        let service = parent.group == CORE_GROUP && parent.kind == Kind::Service.name();
        let namespace = parent.namespace.as_deref().unwrap_or(&self.key.namespace);
        Referrer {
            kind: self.key.kind,
            namespace: &self.key.namespace,
            parent_service: service.then_some((namespace, parent.name.as_str())),
        }
    }

    /// The problems of its backends below `parent`, each with the field's path, in their order.
    pub(crate) fn unresolved(&self, resources: &Resources, parent: &ParentRef) -> Vec<(String, Refusal)> {
        let referrer = self.referrer(parent);
        let resolved = |backend| backend::resolve(resources, referrer, backend);
        let backends = self.spec.backends().into_iter();
        backends
            .filter_map(|(path, backend)| resolved(backend).err().map(|refusal| (path, refusal)))
            .collect()
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
