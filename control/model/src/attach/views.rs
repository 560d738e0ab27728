//! Routes with the outcome of each of their parentRefs.

use std::collections::BTreeMap;

use crate::backend::{self, Referrer};
use crate::kind::{CORE_GROUP, Key, Kind};
use crate::metadata::Metadata;
use crate::reason::Refusal;
use crate::resource::{Resource, Spec};
use crate::resources::Resources;
use crate::route::{
    BackendRef, FilterType, GrpcRouteSpec, HttpRouteSpec, L4RouteSpec, ParentRef, RouteFilter,
};
use crate::service::Transport;

#[derive(Debug)]
pub(crate) struct RouteView<'a> {
    pub key: Key,
    pub metadata: &'a Metadata,
    pub spec: RouteSpec<'a>,
    /// By rule's number: why Ringway does not carry the rule out.
    pub dropped: BTreeMap<usize, String>,
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
        Some(RouteView {
            key: resource.key(),
            metadata: &resource.metadata,
            spec,
            dropped: spec.dropped(),
            parents: Vec::new(),
        })
    }

    /// Sorts the oldest first; equals by namespace, name and at last kind.
    pub(super) fn age(&self) -> (Option<&'a str>, &str, &str, Kind) {
        let time = self.metadata.creation_timestamp.as_deref();
        (time, &self.key.namespace, &self.key.name, self.key.kind)
    }
}

impl RouteView<'_> {
    /// Who refers, below `parent`.
    pub(crate) fn referrer(&self, parent: &ParentRef) -> Referrer<'_> {
        let below_service = parent.group == CORE_GROUP && parent.kind == Kind::Service.name();
        Referrer { kind: self.key.kind, namespace: &self.key.namespace, below_service }
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

    pub(crate) fn rules(self) -> usize {
        match self {
            RouteSpec::Http(spec) => spec.rules.len(),
            RouteSpec::Grpc(spec) => spec.rules.len(),
            RouteSpec::L4(spec) => spec.rules.len(),
        }
    }

    /// Rules with a filter that Ringway does not carry out: to leave the filter out could let through what it was to
    /// stop.
    fn dropped(self) -> BTreeMap<usize, String> {
        let rules: Vec<(&[RouteFilter], &[BackendRef])> = match self {
            RouteSpec::Http(spec) => spec
                .rules
                .iter()
                .map(|rule| (rule.filters.as_slice(), rule.backend_refs.as_slice()))
                .collect(),
            RouteSpec::Grpc(spec) => spec
                .rules
                .iter()
                .map(|rule| (rule.filters.as_slice(), rule.backend_refs.as_slice()))
                .collect(),
            RouteSpec::L4(_) => Vec::new(),
        };
        let each = rules.into_iter().enumerate();
        each.filter_map(|(rule, (filters, backends))| Some((rule, unsupported(rule, filters, backends)?)))
            .collect()
    }
}

fn unsupported(rule: usize, filters: &[RouteFilter], backends: &[BackendRef]) -> Option<String> {
    let said = |path: String, filter: &RouteFilter| {
        format!("spec.rules[{rule}].{path}: a filter of type {} is not supported yet", filter.kind.name())
    };
    let own = filters.iter().enumerate().find(|(_, filter)| !filter.kind.supported());
    if let Some((index, filter)) = own {
        return Some(said(format!("filters[{index}]"), filter));
    }
    backends.iter().enumerate().find_map(|(backend, entry)| {
        // A redirect answers by itself, so there is nothing that a choice of backends could mean.
        let fits =
            |filter: &RouteFilter| filter.kind.supported() && filter.kind != FilterType::RequestRedirect;
        let (index, filter) = entry.filters.iter().enumerate().find(|(_, filter)| !fits(filter))?;
        Some(said(format!("backendRefs[{backend}].filters[{index}]"), filter))
    })
}
