//! The Workloads behind each Service's ports: found once, used by every node's table.

use std::collections::BTreeMap;

use crate::backend::ClusterRef;
use crate::kind::{Key, Kind};
use crate::mesh::{HealthCheckSpec, WorkloadPort, WorkloadSpec};
use crate::metadata::Metadata;
use crate::resources::Resources;
use crate::service::{ServicePort, ServiceSpec, TargetPort, Transport};

/// A Workload behind a Service's port.
#[derive(Debug)]
pub(crate) struct Instance<'a> {
    pub metadata: &'a Metadata,
    pub spec: &'a WorkloadSpec,
    pub port: u16,
    pub check: Option<&'a HealthCheckSpec>,
}

/// By Service and port.
#[derive(Debug)]
pub(crate) struct Instances<'a> {
    ports: BTreeMap<(Key, u16, Transport), Vec<Instance<'a>>>,
}

impl<'a> Instances<'a> {
    pub(crate) fn new(resources: &'a Resources) -> Instances<'a> {
        let mut ports = BTreeMap::new();
        for (metadata, service) in resources.services() {
            let workloads = resources.workloads_of(&metadata.namespace);
            let selected: Vec<_> = workloads.filter(|(workload, _)| selects(service, workload)).collect();
            for port in &service.ports {
                let key = Key::new(Kind::Service, &metadata.namespace, &metadata.name);
                ports.insert((key, port.port, port.protocol), behind(port, &selected));
            }
        }
        Instances { ports }
    }

    /// In the order of the Workloads' names.
    pub(crate) fn of(&self, cluster: &ClusterRef) -> &[Instance<'a>] {
        let key = Key::new(Kind::Service, &cluster.namespace, &cluster.service);
        self.ports.get(&(key, cluster.port, cluster.speaks.transport())).map_or(&[], Vec::as_slice)
    }

    /// A cluster has one health check: what the first Workload of a Service's port asks for. A message for every
    /// Workload that asks for another.
    pub(crate) fn ignored_health_checks(&self) -> BTreeMap<Key, String> {
        let mut ignored = BTreeMap::new();
        for ((service, port, _), instances) in &self.ports {
            let Some(first) = instances.iter().find(|instance| instance.check.is_some()) else { continue };
            for other in instances.iter().filter(|other| other.check.is_some() && other.check != first.check)
            {
                let key = Key::new(Kind::Workload, &other.metadata.namespace, &other.metadata.name);
                let message = format!(
                    "{service}, port {port}: the health check of Workload {} is used for all its Workloads",
                    first.metadata.name
                );
                ignored.insert(key, message);
            }
        }
        ignored
    }
}

/// A Workload that has no port of the name that `targetPort` asks for is not behind the port.
fn behind<'a>(port: &ServicePort, selected: &[(&'a Metadata, &'a WorkloadSpec)]) -> Vec<Instance<'a>> {
    let target = port.target_port.clone().unwrap_or(TargetPort::Number(port.port));
    let instance = |(metadata, spec): &(&'a Metadata, &'a WorkloadSpec)| {
        let (port, known) = target_port(spec, &target, port.protocol)?;
        Some(Instance { metadata, spec, port, check: known.and_then(|port| port.health_check.as_ref()) })
    };
    selected.iter().filter_map(instance).collect()
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
