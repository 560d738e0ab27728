//! Which kinds of resources there are, their API groups and versions, and the key that names one resource.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The Gateway API's group.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The group of the kinds that are Ringway's own.
pub const MESH_GROUP: &str = "ringway.mesh";
/// Kubernetes' core group has no name.
pub const CORE_GROUP: &str = "";

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    Namespace,
    Node,
    Workload,
    Service,
    GatewayClass,
    Gateway,
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
    #[serde(rename = "TCPRoute")]
    TcpRoute,
    #[serde(rename = "UDPRoute")]
    UdpRoute,
    ReferenceGrant,
}

impl Kind {
    /// In the order in which a set of files is best applied: what is referred to comes first.
    pub const ALL: [Kind; 11] = [
        Kind::Namespace,
        Kind::Node,
        Kind::Workload,
        Kind::Service,
        Kind::GatewayClass,
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TcpRoute,
        Kind::UdpRoute,
        Kind::ReferenceGrant,
    ];

    pub const ROUTES: [Kind; 4] = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute, Kind::UdpRoute];

    /// As it is written in `kind:`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Namespace => "Namespace",
            Kind::Node => "Node",
            Kind::Workload => "Workload",
            Kind::Service => "Service",
            Kind::GatewayClass => "GatewayClass",
            Kind::Gateway => "Gateway",
            Kind::HttpRoute => "HTTPRoute",
            Kind::GrpcRoute => "GRPCRoute",
            Kind::TcpRoute => "TCPRoute",
            Kind::UdpRoute => "UDPRoute",
            Kind::ReferenceGrant => "ReferenceGrant",
        }
    }

    pub fn group(self) -> &'static str {
        match self {
            Kind::Namespace | Kind::Service => CORE_GROUP,
            Kind::Node | Kind::Workload => MESH_GROUP,
            _ => GATEWAY_GROUP,
        }
    }

    /// The versions that are read, the one that is written first. The Gateway API serves the same shape in each.
    pub fn versions(self) -> &'static [&'static str] {
        match self {
            Kind::Namespace | Kind::Service => &["v1"],
            Kind::Node | Kind::Workload => &["v1alpha1"],
            Kind::GatewayClass | Kind::Gateway | Kind::HttpRoute => &["v1", "v1beta1"],
            Kind::GrpcRoute | Kind::TcpRoute | Kind::UdpRoute => &["v1", "v1alpha2"],
            Kind::ReferenceGrant => &["v1", "v1beta1", "v1alpha2"],
        }
    }

    /// As it is written in `apiVersion:`.
    pub fn api_version(self) -> String {
        join_version(self.group(), self.versions()[0])
    }

    /// Whether its resources live in a namespace; the others have an empty one in their [`Key`].
    pub fn namespaced(self) -> bool {
        !matches!(self, Kind::Namespace | Kind::Node | Kind::GatewayClass)
    }

    pub fn is_route(self) -> bool {
        Kind::ROUTES.contains(&self)
    }

    /// What an operator types: `httproute`, `httproutes`, `HTTPRoute`.
    pub fn from_word(word: &str) -> Option<Kind> {
        let word = word.to_ascii_lowercase();
        Kind::ALL.into_iter().find(|kind| {
            let name = kind.name().to_ascii_lowercase();
            word == name || word == kind.plural()
        })
    }

    pub fn plural(self) -> String {
        let name = self.name().to_ascii_lowercase();
        if name.ends_with("class") { format!("{name}es") } else { format!("{name}s") }
    }

    pub fn from_group_and_name(group: &str, name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.group() == group && kind.name() == name)
    }

    /// What `apiVersion` and `kind` of a document say together.
    pub fn from_document(api_version: &str, name: &str) -> Result<Kind, String> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or((CORE_GROUP, api_version));
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name && kind.group() == group)
        else {
            return Err(unknown_kind(api_version, name));
        };
        if kind.versions().contains(&version) {
            return Ok(kind);
        }
        let known: Vec<String> = kind.versions().iter().map(|version| join_version(group, version)).collect();
        Err(format!("apiVersion {api_version} of kind {name} is not supported; use {}", known.join(" or ")))
    }
}

fn unknown_kind(api_version: &str, name: &str) -> String {
    match Kind::ALL.into_iter().find(|kind| kind.name().eq_ignore_ascii_case(name)) {
        Some(kind) => format!(
            "kind {name} of apiVersion {api_version} is not supported; {} is of apiVersion {}",
            kind.name(),
            kind.api_version()
        ),
        None => format!("kind {name} is not supported"),
    }
}

fn join_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Names one resource among all. Ordered by kind (as [`Kind::ALL`]), then namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: Kind,
    /// Empty for kinds that are not [`Kind::namespaced`].
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// The namespace is dropped where the kind has none.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Key {
        let namespace = if kind.namespaced() { namespace.to_owned() } else { String::new() };
        Key { kind, namespace, name: name.to_owned() }
    }

    /// `namespace/name`, or the name alone.
    pub fn path(&self) -> String {
        if self.namespace.is_empty() {
            self.name.clone()
        } else {
            format!("{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_own_document_form() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_document(&kind.api_version(), kind.name()), Ok(kind));
            assert_eq!(Kind::from_word(&kind.plural()), Some(kind));
        }
    }

    #[test]
    fn an_unknown_kind_version_or_group_is_named() {
        let error = |api_version, name| Kind::from_document(api_version, name).unwrap_err();
        assert_eq!(error("gateway.networking.k8s.io/v1", "TLSRoute"), "kind TLSRoute is not supported");
        assert!(
            error("gateway.networking.k8s.io/v2", "Gateway").contains("use gateway.networking.k8s.io/v1 or")
        );
        assert!(error("v1", "Gateway").contains("is of apiVersion gateway.networking.k8s.io/v1"));
    }
}
