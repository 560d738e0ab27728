//! Clusters and their endpoints, from Services and the Workloads that they select.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::backend::{ClusterRef, Speaks};
use crate::defaults;
use crate::instances::{Instance, Instances};
use crate::kind::{Key, Kind};
use crate::mesh::HealthCheckSpec;
use crate::resources::Resources;
use crate::service::{self, BALANCE_ANNOTATION};
use crate::table::{Balance, Cluster, Endpoint, HealthCheck, Probe};
use crate::tcp::TcpSettings;

/// Results of active health checks, by cluster and endpoint. What is not named is healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    pub endpoints: BTreeMap<(String, SocketAddr), bool>,
}

impl HealthView {
    fn healthy(&self, cluster: &str, address: SocketAddr) -> bool {
        self.endpoints.get(&(cluster.to_owned(), address)).copied().unwrap_or(true)
    }
}

pub(super) fn describe(
    resources: &Resources,
    instances: &Instances<'_>,
    cluster: &ClusterRef,
    health: &HealthView,
) -> (Cluster, Vec<Endpoint>) {
    let name = cluster.name();
    let service = resources.find(&Key::new(Kind::Service, &cluster.namespace, &cluster.service));
    let annotations = service.map(|service| &service.metadata.annotations);
    let asked = annotations.and_then(|annotations| annotations.get(BALANCE_ANNOTATION));
    let instances = instances.of(cluster);
    let endpoints =
        instances.iter().flat_map(|instance| endpoints(instance, cluster.speaks, &name, health)).collect();
    let described = Cluster {
        protocol: cluster.speaks.upstream(),
        balance: asked.and_then(|word| service::balance(word)).unwrap_or_else(|| usual(cluster.speaks)),
        connect_timeout: defaults::CONNECT_TIMEOUT,
        tcp: annotations.map(TcpSettings::of).unwrap_or_default(),
        // Workloads that ask for another check than the first of their Service are told so in their status.
        health_check: instances.iter().find_map(|instance| instance.check.map(health_check)),
        name,
    };
    (described, endpoints)
}

/// Requests and streams end, so what each endpoint carries now tells its load. Datagram sessions only fall silent: how
/// many an endpoint has says little of its load, and turns spread new ones most evenly.
fn usual(speaks: Speaks) -> Balance {
    if speaks == Speaks::Udp { Balance::RoundRobin } else { Balance::LeastRequest }
}

/// A stream ends in the proxy, so one address of the Workload is enough: its first. A datagram is forwarded in place
/// and keeps its IP version, so every address is an endpoint, and a session takes one of its own version.
fn endpoints(instance: &Instance<'_>, speaks: Speaks, cluster: &str, health: &HealthView) -> Vec<Endpoint> {
    let all = instance.spec.addresses.as_slice();
    let used = if speaks == Speaks::Udp { all } else { all.get(..1).unwrap_or_default() };
    let endpoint = |address: &IpAddr| {
        let address = SocketAddr::new(*address, instance.port);
        Endpoint {
            address,
            weight: instance.spec.weight.max(1),
            healthy: health.healthy(cluster, address),
            workload: format!("{}/{}", instance.metadata.namespace, instance.metadata.name),
        }
    };
    used.iter().map(endpoint).collect()
}

fn health_check(spec: &HealthCheckSpec) -> HealthCheck {
    let probe = if let Some(http) = &spec.http {
        Probe::Http { path: http.path.clone(), host: http.host.clone() }
    } else if let Some(grpc) = &spec.grpc {
        Probe::Grpc { service: grpc.service.clone() }
    } else if let Some(echo) = &spec.udp_echo {
        Probe::UdpEcho { payload: echo.payload.clone() }
    } else {
        Probe::Tcp
    };
    HealthCheck {
        probe,
        interval: spec.interval.map_or(defaults::HEALTH_CHECK_INTERVAL, |span| span.duration()),
        timeout: spec.timeout.map_or(defaults::HEALTH_CHECK_TIMEOUT, |span| span.duration()),
        healthy_threshold: spec.healthy_threshold.unwrap_or(defaults::HEALTHY_THRESHOLD),
        unhealthy_threshold: spec.unhealthy_threshold.unwrap_or(defaults::UNHEALTHY_THRESHOLD),
    }
}
