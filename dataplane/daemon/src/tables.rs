//! Where tables come from: a directory of resources, or the control plane.

use std::path::Path;
use std::rc::Rc;

use model::table::Table;
use model::{HealthView, Resources, ServicePrefixes, compile};
use proxy::HealthReport;
use tokio::sync::watch;
use xds::proto::node::{Build, HealthResult, Interface, NodeReport, Queue};
use xds::target::Target;

use crate::attach::QueueStatus;
use crate::config::{self, InterfaceRole, NodeConfig};
use crate::error::StartError;
use crate::node::Node;

/// Compiles the resources of a directory (`*.yaml`, `*.yml`, `*.json`, in the order of their names) for this node.
pub fn from_directory(directory: &Path, config: &NodeConfig) -> Result<Table, StartError> {
    let mut resources = Vec::new();
    for file in files(directory)? {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(&file)
            .map_err(|error| StartError::Resources(format!("{name}: {error}")))?;
        let read = model::read_documents(&name, &text).map_err(|errors| {
            StartError::Resources(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        })?;
        resources.extend(read);
    }
    let mut resources: Resources = resources.into_iter().collect();
    // Without a control plane Services get their addresses here: the same files always give the same ones.
    let prefixes = service_prefixes(config)?;
    model::assign(&mut resources, &prefixes).map_err(|error| StartError::Resources(error.to_string()))?;
    let mut table = compile(&resources, &config.node, &HealthView::default());
    table.version = 1;
    Ok(table)
}

fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>, StartError> {
    let unreadable =
        |error: std::io::Error| StartError::Resources(format!("{}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml" || kind == "json") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(StartError::Resources(format!(
            "{}: holds no .yaml, .yml or .json file",
            directory.display()
        )));
    }
    files.sort();
    Ok(files)
}

fn service_prefixes(config: &NodeConfig) -> Result<ServicePrefixes, StartError> {
    let of_family = |v4: bool| {
        let cidr = config.service_prefixes.iter().find(|cidr| cidr.address.is_ipv4() == v4);
        let refused = |error| StartError::Resources(format!("service_prefixes: {error}"));
        cidr.map(|cidr| cidr.to_string().parse().map_err(refused)).transpose()
    };
    Ok(ServicePrefixes { v4: of_family(true)?, v6: of_family(false)? })
}

/// Takes tables from the control plane for ever, and tells it how the node is.
pub async fn follow(node: Rc<Node>) {
    let target = match (&node.identity, &node.config.control) {
        (Some(identity), _) => identity.target().await,
        (None, Some(control)) => Target::plain(control),
        (None, None) => return,
    };
    let control = match target {
        Ok(control) => control,
        Err(error) => {
            tracing::error!(%error, "control: tables are not followed");
            return;
        }
    };
    let (sender, reports) = watch::channel(report(&node));
    let teller = Rc::clone(&node);
    tokio::task::spawn_local(async move {
        loop {
            teller.news().await;
            if sender.send(report(&teller)).is_err() {
                return;
            }
        }
    });
    let publisher = Rc::clone(&node);
    let on_table = async move |table: Table| publisher.publish(table).await;
    let never = xds::node::run(&control, &node.config.node, on_table, reports).await;
    match never {}
}

fn report(node: &Node) -> NodeReport {
    NodeReport {
        node: node.config.node.clone(),
        table_version: node.table_version().unwrap_or_default(),
        queues: node.queues().iter().map(queue).collect(),
        interfaces: node.config.interfaces.iter().map(interface).collect(),
        health: node.health().into_iter().map(health).collect(),
        build: Some(Build { version: env!("CARGO_PKG_VERSION").to_owned(), ..Build::default() }),
        ..NodeReport::default()
    }
}

fn queue(queue: &QueueStatus) -> Queue {
    Queue {
        interface: queue.device.clone(),
        queue: queue.queue,
        worker: u32::try_from(queue.worker).unwrap_or(u32::MAX),
        mode: queue.mode.clone(),
        reason: queue.why_not_better.clone(),
        ..Queue::default()
    }
}

fn interface(named: &config::Interface) -> Interface {
    Interface {
        name: named.name.clone(),
        role: match named.role {
            InterfaceRole::Uplink => "uplink".to_owned(),
            InterfaceRole::Workload => "workload".to_owned(),
        },
        up: true,
        addresses: named
            .addresses
            .iter()
            .map(ToString::to_string)
            .chain(named.workloads.iter().map(ToString::to_string))
            .collect(),
        ..Interface::default()
    }
}

fn health(report: HealthReport) -> HealthResult {
    HealthResult {
        cluster: report.cluster,
        endpoint: report.endpoint.to_string(),
        healthy: report.healthy,
        reason: report.reason.unwrap_or_default().to_owned(),
    }
}
