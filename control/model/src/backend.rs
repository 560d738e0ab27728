//! What a route's backendRef leads to: a Service's port as one protocol speaks to it, or the reason why it does not.

use crate::kind::{CORE_GROUP, GATEWAY_GROUP, Kind};
use crate::reason::{Reason, Refusal};
use crate::resources::Resources;
use crate::route::BackendRef;
use crate::service::{AppProtocol, ServicePort, ServiceSpec, Transport};
use crate::table::UpstreamProtocol;

/// A Service's port in one protocol: what becomes a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterRef {
    pub namespace: String,
    pub service: String,
    pub port: u16,
    pub speaks: Speaks,
}

/// [`UpstreamProtocol`], ordered so that it can be part of a key.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    Tcp,
    Udp,
}

impl Speaks {
    pub(crate) fn transport(self) -> Transport {
        if self == Speaks::Udp { Transport::Udp } else { Transport::Tcp }
    }

    pub(crate) fn upstream(self) -> UpstreamProtocol {
        match self {
            Speaks::Http1 => UpstreamProtocol::Http1,
            Speaks::Http2 => UpstreamProtocol::Http2,
            Speaks::Tcp => UpstreamProtocol::Tcp,
            Speaks::Udp => UpstreamProtocol::Udp,
        }
    }
}

impl ClusterRef {
    /// The cluster's name: `namespace/service/port/protocol`.
    pub(crate) fn name(&self) -> String {
        let protocol = match self.speaks {
            Speaks::Http1 => "http1",
            Speaks::Http2 => "http2",
            Speaks::Tcp => "tcp",
            Speaks::Udp => "udp",
        };
        format!("{}/{}/{}/{protocol}", self.namespace, self.service, self.port)
    }
}

/// The route that refers, and the Service it is attached to, if that is its parent.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Referrer<'a> {
    pub kind: Kind,
    pub namespace: &'a str,
    pub parent_service: Option<(&'a str, &'a str)>,
}

/// In the order of the specification's checks: kind, permission, existence, protocol.
pub(crate) fn resolve(
    resources: &Resources,
    referrer: Referrer<'_>,
    backend: &BackendRef,
) -> Result<ClusterRef, Refusal> {
    if !backend.is_service() {
        let kind = format!("{}/{}", backend.group, backend.kind);
        let message = format!("backend {}: kind {kind} is not supported; expected a Service", backend.name);
        return Err(Refusal::new(Reason::InvalidKind, message));
    }
    let namespace = backend.namespace.as_deref().unwrap_or(referrer.namespace);
    let name = backend.name.as_str();
    if !permitted(resources, referrer, namespace, name) {
        let message = format!(
            "Service {namespace}/{name}: no ReferenceGrant in namespace {namespace} lets {} of namespace {} refer to it",
            referrer.kind, referrer.namespace
        );
        return Err(Refusal::new(Reason::RefNotPermitted, message));
    }
    let Some(service) = resources.service(namespace, name) else {
        return Err(Refusal::new(
            Reason::BackendNotFound,
            format!("Service {namespace}/{name} does not exist"),
        ));
    };
    let number = backend.port.unwrap_or_default();
    let port = backend_port(service, number, referrer.kind).ok_or_else(|| {
        Refusal::new(Reason::BackendNotFound, format!("Service {namespace}/{name} has no port {number}"))
    })?;
    let speaks = speaks(referrer.kind, port).map_err(|problem| {
        let message = format!("Service {namespace}/{name}, port {number}: {problem}");
        Refusal::new(Reason::UnsupportedProtocol, message)
    })?;
    Ok(ClusterRef { namespace: namespace.to_owned(), service: name.to_owned(), port: number, speaks })
}

/// One number may be a TCP and a UDP port of a Service; the route's kind says which is meant.
fn backend_port(service: &ServiceSpec, number: u16, kind: Kind) -> Option<&ServicePort> {
    let wanted = if kind == Kind::UdpRoute { Transport::Udp } else { Transport::Tcp };
    let any = || service.ports.iter().find(|port| port.port == number);
    service.port(number, wanted).or_else(any)
}

/// A Service's own namespace and its routes' parents need no grant: a consumer's route shapes only its own calls to a
/// Service that it may call anyway.
fn permitted(resources: &Resources, referrer: Referrer<'_>, namespace: &str, name: &str) -> bool {
    namespace == referrer.namespace
        || referrer.parent_service == Some((namespace, name))
        || resources.grants().any(|(metadata, grant)| {
            metadata.namespace == namespace
                && grant.from.iter().any(|from| {
                    from.group == GATEWAY_GROUP
                        && from.kind == referrer.kind.name()
                        && from.namespace == referrer.namespace
                })
                && grant.to.iter().any(|to| {
                    to.group == CORE_GROUP
                        && to.kind == Kind::Service.name()
                        && to.name.as_deref().is_none_or(|granted| granted == name)
                })
        })
}

fn speaks(kind: Kind, port: &ServicePort) -> Result<Speaks, String> {
    let app = port.app_protocol.as_deref().unwrap_or_default();
    let wanted = if kind == Kind::UdpRoute { Transport::Udp } else { Transport::Tcp };
    if port.protocol != wanted {
        return Err(format!("{kind} cannot be carried by {:?}", port.protocol));
    }
    let unsupported = || Err(format!("appProtocol {app} is not supported for {kind}"));
    match (kind, port.app_protocol()) {
        (Kind::UdpRoute, _) => Ok(Speaks::Udp),
        (Kind::TcpRoute, _) => Ok(Speaks::Tcp),
        (Kind::GrpcRoute, AppProtocol::WebSocket | AppProtocol::Other) => unsupported(),
        (Kind::GrpcRoute, _) => Ok(Speaks::Http2),
        (_, AppProtocol::Unsaid | AppProtocol::Http | AppProtocol::WebSocket) => Ok(Speaks::Http1),
        (_, AppProtocol::H2c | AppProtocol::Grpc) => Ok(Speaks::Http2),
        (_, AppProtocol::Other) => unsupported(),
    }
}

/// How a Service's port is spoken to where no route says: by its own `appProtocol`, else as the bytes come.
pub(crate) fn own_protocol(port: &ServicePort) -> Speaks {
    match (port.protocol, port.app_protocol()) {
        (Transport::Udp, _) => Speaks::Udp,
        (Transport::Tcp, AppProtocol::Http | AppProtocol::WebSocket) => Speaks::Http1,
        (Transport::Tcp, AppProtocol::H2c | AppProtocol::Grpc) => Speaks::Http2,
        (Transport::Tcp, AppProtocol::Unsaid | AppProtocol::Other) => Speaks::Tcp,
    }
}
