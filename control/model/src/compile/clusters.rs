//! Clusters and their endpoints, from Services and the Workloads that they select.

use std::net::{IpAddr, SocketAddr};

use super::HealthView;
use crate::backend::{ClusterRef, Speaks};
use crate::defaults;
use crate::mesh::{HealthCheckSpec, WorkloadPort, WorkloadSpec};
use crate::metadata::Metadata;
use crate::resources::Resources;
use crate::service::{ServiceSpec, TargetPort, Transport};
use crate::table::{Balance, Cluster, Endpoint, HealthCheck, Probe};

pub(super) fn describe(
    resources: &Resources,
    cluster: &ClusterRef,
    health: &HealthView,
) -> (Cluster, Vec<Endpoint>) {
    let name = cluster.name();
    let instances = instances(resources, cluster);
    let endpoints =
        instances.iter().flat_map(|instance| instance.endpoints(cluster.speaks, &name, health)).collect();
    let described = Cluster {
        protocol: cluster.speaks.upstream(),
        balance: balance(cluster.speaks),
        connect_timeout: defaults::CONNECT_TIMEOUT,
        // Workloads that ask for another check than the first of their Service are told so in their status.
        health_check: instances.iter().find_map(|instance| instance.check.map(health_check)),
        name,
    };
    (described, endpoints)
}

/// Requests and streams last, so the load that each endpoint has now counts; a datagram session's load is unknown.
fn balance(speaks: Speaks) -> Balance {
    if speaks == Speaks::Udp { Balance::RoundRobin } else { Balance::LeastRequest }
}

/// A Workload behind a Service's port.
pub(crate) struct Instance<'a> {
    pub metadata: &'a Metadata,
    pub spec: &'a WorkloadSpec,
    pub port: u16,
    pub check: Option<&'a HealthCheckSpec>,
}

/// In the order of the Workloads' names. A Workload that has no port of the name that `targetPort` asks for is none.
pub(crate) fn instances<'a>(resources: &'a Resources, cluster: &ClusterRef) -> Vec<Instance<'a>> {
    let transport = cluster.speaks.transport();
    let Some(service) = resources.service(&cluster.namespace, &cluster.service) else { return Vec::new() };
    let Some(port) = service.port(cluster.port, transport) else { return Vec::new() };
    let target = port.target_port.clone().unwrap_or(TargetPort::Number(port.port));
    let workloads = resources.workloads_of(&cluster.namespace);
    let selected = workloads.filter(|(metadata, _)| selects(service, metadata));
    selected
        .filter_map(|(metadata, spec)| {
            let (port, known) = target_port(spec, &target, transport)?;
            Some(Instance { metadata, spec, port, check: known.and_then(|port| port.health_check.as_ref()) })
        })
        .collect()
}

fn selects(service: &ServiceSpec, workload: &Metadata) -> bool {
    !service.selector.is_empty()
        && service.selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))
}

fn target_port<'a>(
    workload: &'a WorkloadSpec,
    target: &TargetPort,
    transport: Transport,
) -> Option<(u16, Option<&'a WorkloadPort>)> {
    let mut ports = workload.ports.iter().filter(|port| port.protocol == transport);
    match target {
        TargetPort::Number(number) => Some((*number, ports.find(|port| port.port == *number))),
        TargetPort::Name(name) => {
            ports.find(|port| port.name.as_ref() == Some(name)).map(|port| (port.port, Some(port)))
        }
    }
}

impl Instance<'_> {
    /// A stream ends in the proxy, so one address of the Workload is enough: its first. A datagram is forwarded in
    /// place and keeps its IP version, so every address is an endpoint, and a session takes one of its own version.
    fn endpoints(&self, speaks: Speaks, cluster: &str, health: &HealthView) -> Vec<Endpoint> {
        let all = self.spec.addresses.as_slice();
        let used = if speaks == Speaks::Udp { all } else { all.get(..1).unwrap_or_default() };
        let endpoint = |address: &IpAddr| {
            let address = SocketAddr::new(*address, self.port);
            Endpoint {
                address,
                weight: self.spec.weight.max(1),
                healthy: health.healthy(cluster, address),
                workload: format!("{}/{}", self.metadata.namespace, self.metadata.name),
            }
        };
        used.iter().map(endpoint).collect()
    }
}

pub(crate) fn health_check(spec: &HealthCheckSpec) -> HealthCheck {
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
