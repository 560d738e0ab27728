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
        let labelled = Labelled::new(resources);
        let mut ports = BTreeMap::new();
        for (metadata, service) in resources.services() {
            let selected = labelled.selected(&metadata.namespace, service);
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
fn behind<'a>(port: &ServicePort, selected: &[Found<'a>]) -> Vec<Instance<'a>> {
    let target = port.target_port.clone().unwrap_or(TargetPort::Number(port.port));
    let instance = |(metadata, spec): &Found<'a>| {
        let (port, known) = target_port(spec, &target, port.protocol)?;
        Some(Instance { metadata, spec, port, check: known.and_then(|port| port.health_check.as_ref()) })
    };
    selected.iter().filter_map(instance).collect()
}

/// Workloads by namespace and label: a Service looks at its rarest label's Workloads, not at all of them.
struct Labelled<'a> {
    workloads: BTreeMap<(&'a str, &'a str, &'a str), Vec<Found<'a>>>,
}

type Found<'a> = (&'a Metadata, &'a WorkloadSpec);

impl<'a> Labelled<'a> {
    fn new(resources: &'a Resources) -> Labelled<'a> {
        let mut workloads: BTreeMap<_, Vec<Found<'a>>> = BTreeMap::new();
        for (metadata, spec) in resources.workloads() {
            for (key, value) in &metadata.labels {
                let label = (metadata.namespace.as_str(), key.as_str(), value.as_str());
                workloads.entry(label).or_default().push((metadata, spec));
            }
        }
        Labelled { workloads }
    }

    /// A Service without a selector selects nothing.
    fn selected(&self, namespace: &str, service: &ServiceSpec) -> Vec<Found<'a>> {
        let each = service.selector.iter().map(|(key, value)| self.with((namespace, key, value)));
        let rarest = each.min_by_key(|found| found.len()).unwrap_or_default();
        let all = |metadata: &Metadata| {
            service.selector.iter().all(|(key, value)| metadata.labels.get(key) == Some(value))
        };
        rarest.iter().copied().filter(|(metadata, _)| all(metadata)).collect()
    }

    fn with<'s>(&'s self, label: (&'s str, &'s str, &'s str)) -> &'s [Found<'a>] {
        self.workloads.get(&label).map_or(&[], Vec::as_slice)
    }
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
