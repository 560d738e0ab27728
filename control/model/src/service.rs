//! Kubernetes' Service and Namespace, as far as a mesh without Kubernetes has use for them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::table::Balance;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceSpec {
    /// Selects Workloads of the same namespace by their labels. Empty: the Service has no endpoint.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub selector: BTreeMap<String, String>,
    pub ports: Vec<ServicePort>,
    /// `ClusterIP` is the only type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The first of `clusterIPs`, as Kubernetes has it. `None` (headless) is refused.
    #[serde(rename = "clusterIP", default, skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<String>,
    /// At most one of each family. Empty: `control` gives one of each from the mesh's service prefixes.
    #[serde(rename = "clusterIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<IpAddr>,
    /// Which families get an address. Empty: all that the mesh has a prefix for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<IpFamily>,
}

impl ServiceSpec {
    /// `clusterIPs`, or `clusterIP` alone where only that is given.
    pub fn addresses(&self) -> Vec<IpAddr> {
        if !self.cluster_ips.is_empty() {
            return self.cluster_ips.clone();
        }
        self.cluster_ip.as_deref().and_then(|text| text.parse().ok()).into_iter().collect()
    }

    pub fn port(&self, number: u16, protocol: Transport) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number && port.protocol == protocol)
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IpFamily {
    IPv4,
    IPv6,
}

impl IpFamily {
    pub fn of(address: IpAddr) -> IpFamily {
        if address.is_ipv4() { IpFamily::IPv4 } else { IpFamily::IPv6 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePort {
    /// Required, and unique, where there are several ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default)]
    pub protocol: Transport,
    pub port: u16,
    /// None: the same as `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_port: Option<TargetPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    #[default]
    Tcp,
    Udp,
}

impl Transport {
    /// As names of listeners and clusters have it.
    pub fn lower(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        }
    }
}

/// A number, or the name of a Workload's port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a port number from 1 to 65535 or the name of a port")]
pub enum TargetPort {
    Number(u16),
    Name(String),
}

/// What `appProtocol` says about a port, in the values that Kubernetes and the Gateway API (GEP-1911) define.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AppProtocol {
    /// No `appProtocol`: nothing is known, so bytes are relayed as they come.
    Unsaid,
    Http,
    /// HTTP/2 with prior knowledge: `kubernetes.io/h2c`.
    H2c,
    Grpc,
    WebSocket,
    /// Anything else: a stream that HTTP routes cannot carry.
    Other,
}

impl ServicePort {
    pub fn app_protocol(&self) -> AppProtocol {
        match self.app_protocol.as_deref() {
            None => AppProtocol::Unsaid,
            Some("http") => AppProtocol::Http,
            Some("kubernetes.io/h2c" | "h2c" | "http2") => AppProtocol::H2c,
            Some("grpc") => AppProtocol::Grpc,
            Some("kubernetes.io/ws" | "ws") => AppProtocol::WebSocket,
            Some(_) => AppProtocol::Other,
        }
    }
}

/// On a Service, how requests, streams and datagram sessions are spread over its endpoints. The Gateway API has no word
/// for it yet.
pub const BALANCE_ANNOTATION: &str = "ringway.mesh/balance";

/// What [`BALANCE_ANNOTATION`] may say.
pub fn balance(word: &str) -> Option<Balance> {
    match word {
        "RoundRobin" => Some(Balance::RoundRobin),
        "LeastRequest" => Some(Balance::LeastRequest),
        _ => None,
    }
}

/// A Namespace is known by its labels alone; `kubernetes.io/metadata.name` is always among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSpec {}

/// Given to every namespace by Kubernetes; Ringway's has it too.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";
