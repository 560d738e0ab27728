//! One route and its parentRefs: where it may attach, by the specification's checks in their order.

use super::gateways::{GatewayView, ListenerView};
use super::views::{AtListener, Attachment, ParentView, RouteView};
use crate::gateway::FromNamespaces;
use crate::hostname;
use crate::kind::{CORE_GROUP, GATEWAY_GROUP, Kind};
use crate::reason::{Reason, Refusal};
use crate::resources::Resources;
use crate::route::{FilterType, ParentRef, RouteFilter};
use crate::service::{AppProtocol, ServicePort, Transport};

pub(super) fn attach<'a>(
    resources: &Resources,
    gateways: &[GatewayView<'_>],
    route: &RouteView<'a>,
) -> Vec<ParentView<'a>> {
    let unsupported = unsupported_filter(route);
    let outcome = |parent: &ParentRef| match &unsupported {
        Some(refusal) => Err(refusal.clone()),
        None => attach_one(resources, gateways, route, parent),
    };
    route.spec.parent_refs().iter().map(|parent| ParentView { parent, outcome: outcome(parent) }).collect()
}

/// A filter that Ringway does not carry out makes the whole route unfit: to leave the filter out could let through
/// what it was to stop.
fn unsupported_filter(route: &RouteView<'_>) -> Option<Refusal> {
    let refuse = |path: String, filter: &RouteFilter| {
        let message = format!("{path}: a filter of type {} is not supported yet", filter.kind.name());
        Refusal::new(Reason::UnsupportedValue, message)
    };
    for (path, filter) in route.spec.rule_filters() {
        if !filter.kind.supported() {
            return Some(refuse(path, filter));
        }
    }
    for (path, backend) in route.spec.backends() {
        for (index, filter) in backend.filters.iter().enumerate() {
            // A redirect answers by itself, so there is nothing that a choice of backends could mean.
            if !filter.kind.supported() || filter.kind == FilterType::RequestRedirect {
                return Some(refuse(format!("{path}.filters[{index}]"), filter));
            }
        }
    }
    None
}

fn attach_one(
    resources: &Resources,
    gateways: &[GatewayView<'_>],
    route: &RouteView<'_>,
    parent: &ParentRef,
) -> Result<Attachment, Refusal> {
    match (parent.group.as_str(), parent.kind.as_str()) {
        (GATEWAY_GROUP, "Gateway") => attach_to_gateway(resources, gateways, route, parent),
        (CORE_GROUP, "Service") => attach_to_service(resources, route, parent),
        (group, kind) => {
            let message =
                format!("a parent of kind {group}/{kind} is not supported; expected a Gateway or Service");
            Err(Refusal::new(Reason::NoMatchingParent, message))
        }
    }
}

fn namespace<'a>(route: &'a RouteView<'_>, parent: &'a ParentRef) -> &'a str {
    parent.namespace.as_deref().unwrap_or(&route.key.namespace)
}

fn attach_to_gateway(
    resources: &Resources,
    gateways: &[GatewayView<'_>],
    route: &RouteView<'_>,
    parent: &ParentRef,
) -> Result<Attachment, Refusal> {
    let namespace = namespace(route, parent);
    let name = format!("Gateway {namespace}/{}", parent.name);
    let refuse = |reason, problem: &str| Err(Refusal::new(reason, format!("{name} {problem}")));
    let found = gateways
        .iter()
        .position(|gateway| gateway.key.namespace == namespace && gateway.key.name == parent.name);
    let Some(index) = found else {
        return refuse(Reason::NoMatchingParent, "does not exist");
    };
    let gateway = &gateways[index];
    if let Err(refusal) = &gateway.ours {
        return refuse(Reason::NoMatchingParent, &format!("is not Ringway's: {}", refusal.message));
    }
    let meant: Vec<(usize, &ListenerView<'_>)> =
        gateway.listeners.iter().enumerate().filter(|(_, listener)| means(parent, listener)).collect();
    if meant.is_empty() {
        return refuse(Reason::NoMatchingParent, "has no listener with that sectionName and port");
    }
    let allowed: Vec<_> =
        meant.into_iter().filter(|(_, listener)| allows(resources, gateway, listener, route)).collect();
    if allowed.is_empty() {
        let problem = format!(
            "has no listener whose allowedRoutes take {} of namespace {}",
            route.key.kind, route.key.namespace
        );
        return refuse(Reason::NotAllowedByListeners, &problem);
    }
    let named = allowed.into_iter().map(|(listener, view)| {
        let hostnames = hostname::attached(view.spec.hostname.as_deref(), route.spec.hostnames());
        AtListener { listener, hostnames }
    });
    let listeners: Vec<AtListener> = named.filter(|at| !at.hostnames.is_empty()).collect();
    if listeners.is_empty() {
        return refuse(
            Reason::NoMatchingListenerHostname,
            "has no listener whose hostname meets the route's",
        );
    }
    Ok(Attachment::Gateway { gateway: index, listeners })
}

fn means(parent: &ParentRef, listener: &ListenerView<'_>) -> bool {
    parent.section_name.as_ref().is_none_or(|section| *section == listener.spec.name)
        && parent.port.is_none_or(|port| port == listener.spec.port)
}

fn allows(
    resources: &Resources,
    gateway: &GatewayView<'_>,
    listener: &ListenerView<'_>,
    route: &RouteView<'_>,
) -> bool {
    let namespaces = &listener.spec.allowed_routes.namespaces;
    let from = match namespaces.from {
        FromNamespaces::All => true,
        FromNamespaces::None => false,
        FromNamespaces::Same => route.key.namespace == gateway.key.namespace,
        FromNamespaces::Selector => namespaces
            .selector
            .as_ref()
            .is_some_and(|selector| selector.selects(&resources.namespace_labels(&route.key.namespace))),
    };
    from && listener.kinds.contains(&route.key.kind)
}

/// GAMMA: a route whose parent is a Service shapes the calls to it. Its host names have no say there: the Service is
/// the host.
fn attach_to_service(
    resources: &Resources,
    route: &RouteView<'_>,
    parent: &ParentRef,
) -> Result<Attachment, Refusal> {
    let namespace = namespace(route, parent);
    let name = format!("Service {namespace}/{}", parent.name);
    let refuse = |reason, problem: &str| Err(Refusal::new(reason, format!("{name} {problem}")));
    let Some(service) = resources.service(namespace, &parent.name) else {
        return refuse(Reason::NoMatchingParent, "does not exist");
    };
    let means = |port: &&ServicePort| {
        parent.port.is_none_or(|number| number == port.port)
            && parent.section_name.as_ref().is_none_or(|section| port.name.as_ref() == Some(section))
    };
    let meant: Vec<&ServicePort> = service.ports.iter().filter(means).collect();
    if meant.is_empty() {
        return refuse(Reason::NoMatchingParent, "has no such port");
    }
    let carried = meant.into_iter().filter(|port| carries(route.key.kind, port));
    let ports: Vec<(u16, Transport)> = carried.map(|port| (port.port, port.protocol)).collect();
    if ports.is_empty() {
        let problem = format!("has no such port whose protocol and appProtocol fit {}", route.key.kind);
        return refuse(Reason::NotAllowedByListeners, &problem);
    }
    Ok(Attachment::Service { namespace: namespace.to_owned(), name: parent.name.clone(), ports })
}

/// A route says more about a port than a missing `appProtocol`.
fn carries(kind: Kind, port: &ServicePort) -> bool {
    match (kind, port.protocol) {
        (Kind::UdpRoute, Transport::Udp) | (Kind::TcpRoute, Transport::Tcp) => true,
        (Kind::HttpRoute, Transport::Tcp) => port.app_protocol() != AppProtocol::Other,
        (Kind::GrpcRoute, Transport::Tcp) => {
            !matches!(port.app_protocol(), AppProtocol::Other | AppProtocol::WebSocket)
        }
        _ => false,
    }
}
