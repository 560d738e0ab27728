//! Service: what a mesh without Kubernetes can carry out of it.

use std::net::IpAddr;

use super::report::Report;
use super::{gateway, names, tcp};
use crate::metadata::Metadata;
use crate::service::{
    AppProtocol, BALANCE_ANNOTATION, IpFamily, ServicePort, ServiceSpec, TargetPort, Transport, balance,
};

/// Kubernetes has no bound; each port is a listener for every source class of every node.
const MOST_PORTS: usize = 128;
const MOST_SELECTOR_LABELS: usize = 64;

pub(super) fn service(report: &mut Report, metadata: &Metadata, spec: &ServiceSpec) {
    if let Some(word) = metadata.annotations.get(BALANCE_ANNOTATION).filter(|word| balance(word).is_none()) {
        report.refuse(
            format!("metadata.annotations[{BALANCE_ANNOTATION}]"),
            format!("{word:?} is not supported; expected RoundRobin or LeastRequest"),
        );
    }
    tcp::settings(report, metadata);
    if let Some(kind) = spec.kind.as_deref().filter(|kind| *kind != "ClusterIP") {
        report.refuse("spec.type", format!("{kind:?} is not supported; expected ClusterIP"));
    }
    report.at_most(MOST_SELECTOR_LABELS, spec.selector.len(), "spec.selector");
    for (key, value) in &spec.selector {
        report.check(format!("spec.selector[{key}]"), names::label_key(key));
        report.check(format!("spec.selector[{key}]"), names::label_value(value));
    }
    addresses(report, spec);
    ports(report, spec);
}

fn addresses(report: &mut Report, spec: &ServiceSpec) {
    gateway::dual_stack(report, "spec.clusterIPs", &spec.cluster_ips);
    if let Some(text) = &spec.cluster_ip {
        match (text.parse::<IpAddr>(), spec.cluster_ips.first()) {
            _ if text == "None" => {
                report.refuse("spec.clusterIP", "None (a headless Service) is not supported")
            }
            (Err(_), _) => {
                report.refuse("spec.clusterIP", format!("{text:?}: expected an IPv4 or IPv6 address"))
            }
            (Ok(address), Some(first)) if address != *first => {
                report.refuse("spec.clusterIP", format!("expected {first}, the first of spec.clusterIPs"));
            }
            (Ok(address), _) => report.check("spec.clusterIP", names::unicast(address)),
        }
    }
    report.unique(
        spec.ip_families.iter().map(|family| *family == IpFamily::IPv4),
        "spec.ipFamilies",
        "family",
    );
    let asked =
        |address: &IpAddr| spec.ip_families.is_empty() || spec.ip_families.contains(&IpFamily::of(*address));
    for (index, address) in spec.cluster_ips.iter().enumerate() {
        report.check_when(
            asked(address),
            format!("spec.clusterIPs[{index}]"),
            format!("{address} is of a family that spec.ipFamilies does not name"),
        );
    }
}

fn ports(report: &mut Report, spec: &ServiceSpec) {
    report.check_when(!spec.ports.is_empty(), "spec.ports", "at least one port is needed");
    report.at_most(MOST_PORTS, spec.ports.len(), "spec.ports");
    for (index, entry) in spec.ports.iter().enumerate() {
        let at = format!("spec.ports[{index}]");
        port(report, &at, entry);
        report.check_when(
            entry.name.is_some() || spec.ports.len() == 1,
            format!("{at}.name"),
            "is missing; each of several ports needs one",
        );
    }
    report.unique(
        spec.ports.iter().map(|port| (port.port, port.protocol)),
        "spec.ports",
        "port and protocol",
    );
    if spec.ports.len() > 1 {
        report.unique(spec.ports.iter().map(|port| &port.name), "spec.ports", "name");
    }
}

fn port(report: &mut Report, at: &str, port: &ServicePort) {
    if let Some(name) = &port.name {
        report.check(format!("{at}.name"), names::label(name));
    }
    report.port(port.port, format!("{at}.port"));
    match &port.target_port {
        Some(TargetPort::Number(number)) => report.port(*number, format!("{at}.targetPort")),
        Some(TargetPort::Name(name)) => report.check(format!("{at}.targetPort"), names::port_name(name)),
        None => {}
    }
    if let Some(protocol) = &port.app_protocol {
        report.check(format!("{at}.appProtocol"), names::label_key(protocol));
        let stream = !matches!(port.app_protocol(), AppProtocol::Unsaid | AppProtocol::Other);
        report.check_when(
            port.protocol == Transport::Tcp || !stream,
            format!("{at}.appProtocol"),
            format!("{protocol} is not carried by UDP"),
        );
    }
}
