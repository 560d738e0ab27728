//! The compiled table: what one node's data plane needs, in the words of the proxy.
//!
//! `compile` makes it from resources; `xds` carries it as Envoy's types; `proxy` serves by it. It holds only what was
//! configured: health, in-flight counts and pools live beside it in the proxy, keyed by the names here.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::tcp::TcpSettings;

/// Everything one node serves. Immutable once published.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Grows with every publication by one control plane; what sessions and `/tables` name.
    pub version: u64,
    pub listeners: BTreeMap<String, Listener>,
    /// By name; several listeners may share one.
    pub routes: BTreeMap<String, RouteTable>,
    pub clusters: BTreeMap<String, Cluster>,
    /// By cluster name. A cluster without an entry has no endpoint. A datagram keeps its IP version, so that a
    /// workload with two addresses is two endpoints of a UDP cluster, and a session takes one of its own version.
    pub endpoints: BTreeMap<String, Vec<Endpoint>>,
    /// Which sources see which class. First match wins; none: [`GATEWAY_CLASS`].
    pub classes: Vec<SourceClass>,
}

/// The class of what arrives from outside (uplinks): Gateways' listeners have it.
pub const GATEWAY_CLASS: &str = "gateway";

/// Maps an interface or a source prefix to a class of workloads with equal views.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceClass {
    pub class: String,
    /// Interface names of the node that belong to it.
    pub interfaces: Vec<String>,
    /// Workload addresses that belong to it.
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    pub name: String,
    /// Whose traffic: a source class, or [`GATEWAY_CLASS`].
    pub class: String,
    pub addresses: Vec<IpAddr>,
    pub port: u16,
    pub protocol: Protocol,
    /// Of the connections that arrive; nothing for datagrams.
    #[serde(default)]
    pub tcp: TcpSettings,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge, told apart by the preface; `routes` names a [`RouteTable`].
    Http { routes: String },
    /// Streams, relayed.
    Tcp { backends: Vec<WeightedCluster> },
    /// Datagram sessions.
    Udp { backends: Vec<WeightedCluster>, idle: Duration },
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteTable {
    pub name: String,
    pub virtual_hosts: Vec<VirtualHost>,
}

/// Domains are exact (`a.example`), suffix (`*.example`: one or more labels) or `*`; the most exact wins.
/// A port in the Host header is ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VirtualHost {
    pub name: String,
    pub domains: Vec<String>,
    /// In order of precedence (Gateway API): the first that matches is it. None matches: 404.
    pub routes: Vec<HttpRoute>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRoute {
    /// `namespace/route/rule/match`, for logs, counters and `explain`; `service/namespace/name` where a Service without
    /// routes leads to its own endpoints.
    pub name: String,
    pub matches: HttpMatch,
    pub filters: Vec<HttpFilter>,
    pub action: HttpAction,
    pub timeouts: Timeouts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpMatch {
    pub path: PathMatch,
    pub method: Option<String>,
    pub headers: Vec<ValueMatch>,
    pub query: Vec<ValueMatch>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathMatch {
    Exact(String),
    /// Whole path elements: `/a` matches `/a` and `/a/b`, not `/ab`. `/` matches all.
    Prefix(String),
    /// Must match the whole path (without query).
    Regex(String),
}

/// A header (name in lower case) or query parameter (name as it is, case-sensitive).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueMatch {
    pub name: String,
    pub value: ValuePattern,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValuePattern {
    Exact(String),
    /// Must match the whole value.
    Regex(String),
}

/// Applied in order; a redirect ends the request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HttpFilter {
    RequestHeaders(HeaderEdit),
    ResponseHeaders(HeaderEdit),
    Rewrite { hostname: Option<String>, path: Option<PathRewrite> },
    Redirect(Redirect),
}

/// Remove first, then set, then add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdit {
    pub set: Vec<(String, String)>,
    pub add: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathRewrite {
    Full(String),
    /// Replaces the prefix that the route's [`PathMatch::Prefix`] matched.
    Prefix(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirect {
    pub scheme: Option<String>,
    pub hostname: Option<String>,
    pub path: Option<PathRewrite>,
    /// `compile` always sets it (given, the scheme's own, or the listener's). A Location leaves out the port that
    /// its scheme has anyway.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HttpAction {
    /// By weight; a weight of 0 gets nothing. All weights 0, or an invalid backend's share: 500.
    Forward(Vec<WeightedCluster>),
    /// Answered here. Gateway API: a rule without backends answers 500, a redirect needs no backend.
    Respond { status: u16, body: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightedCluster {
    /// `None`: an invalid backend reference; its share answers 500 (streams: reset, datagrams: dropped).
    pub cluster: Option<String>,
    pub weight: u32,
    /// Per-backend filters (Gateway API `backendRefs[].filters`).
    pub filters: Vec<HttpFilter>,
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// Whole request, from its first byte to the response's end; `None`: no limit.
    pub request: Option<Duration>,
    /// One try at a backend.
    pub backend_request: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: String,
    pub protocol: UpstreamProtocol,
    pub balance: Balance,
    pub connect_timeout: Duration,
    /// Of the connections to its endpoints; nothing for datagrams.
    #[serde(default)]
    pub tcp: TcpSettings,
    pub health_check: Option<HealthCheck>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamProtocol {
    Http1,
    /// `appProtocol: kubernetes.io/h2c`, or gRPC.
    Http2,
    Tcp,
    Udp,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    RoundRobin,
    /// The less loaded of two drawn at random (weights in proportion).
    LeastRequest,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// At least 1.
    pub weight: u32,
    /// Reported by the control plane's view; a node's own check may know better.
    pub healthy: bool,
    /// `namespace/name` of the Workload.
    pub workload: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    /// Consecutive results that turn an endpoint.
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// 200..=299 is healthy.
    Http {
        path: String,
        host: Option<String>,
    },
    /// grpc.health.v1.
    Grpc {
        service: String,
    },
    Tcp,
    /// A datagram with this payload is answered with the same payload.
    UdpEcho {
        payload: String,
    },
}
