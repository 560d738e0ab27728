//! Workload and Node.

use super::report::Report;
use super::{gateway, names};
use crate::defaults;
use crate::mesh::{HealthCheckSpec, NodeSpec, WorkloadPort, WorkloadSpec};
use crate::service::Transport;

const MOST_PORTS: usize = 128;
const MOST_NODE_ADDRESSES: usize = 64;
/// The Gateway API's bound for weights.
const MOST_WEIGHT: u32 = 1_000_000;
/// A probe more often than this is load, not a check.
const LEAST_INTERVAL_MS: u128 = 100;
const MOST_THRESHOLD: u32 = 100;
/// One datagram that fits every path (RFC 8200, section 5: 1280 bytes, less headers).
const MOST_ECHO_BYTES: usize = 1024;

pub(super) fn node(report: &mut Report, spec: &NodeSpec) {
    report.at_most(MOST_NODE_ADDRESSES, spec.addresses.len(), "spec.addresses");
    for (index, address) in spec.addresses.iter().enumerate() {
        report.check(format!("spec.addresses[{index}]"), names::unicast(*address));
    }
    report.unique(&spec.addresses, "spec.addresses", "address");
}

pub(super) fn workload(report: &mut Report, spec: &WorkloadSpec) {
    report.check_when(!spec.addresses.is_empty(), "spec.addresses", "at least one address is needed");
    gateway::dual_stack(report, "spec.addresses", &spec.addresses);
    if let Some(node) = &spec.node {
        report.check("spec.node", names::subdomain(node));
    }
    if let Some(interface) = &spec.interface {
        report.check("spec.interface", names::interface(interface));
        report.check_when(
            spec.node.is_some(),
            "spec.node",
            "is missing; spec.interface is an interface of a node",
        );
    }
    report.check("spec.serviceAccount", names::subdomain(&spec.service_account));
    let weight = (1..=MOST_WEIGHT).contains(&spec.weight);
    report.check_when(weight, "spec.weight", format!("expected 1 to {MOST_WEIGHT}"));
    report.at_most(MOST_PORTS, spec.ports.len(), "spec.ports");
    for (index, entry) in spec.ports.iter().enumerate() {
        port(report, &format!("spec.ports[{index}]"), entry);
    }
    report.unique(
        spec.ports.iter().map(|port| (port.port, port.protocol)),
        "spec.ports",
        "port and protocol",
    );
    let names: Vec<_> = spec.ports.iter().filter_map(|port| port.name.as_ref()).collect();
    report.unique(names, "spec.ports", "name");
}

fn port(report: &mut Report, at: &str, port: &WorkloadPort) {
    if let Some(name) = &port.name {
        report.check(format!("{at}.name"), names::port_name(name));
    }
    report.port(port.port, format!("{at}.port"));
    if let Some(check) = &port.health_check {
        health_check(report, &format!("{at}.healthCheck"), check, port.protocol);
    }
}

fn health_check(report: &mut Report, at: &str, check: &HealthCheckSpec, protocol: Transport) {
    let streams = [check.http.is_some(), check.grpc.is_some(), check.tcp.is_some()];
    let stream = streams.iter().filter(|set| **set).count();
    let datagram = usize::from(check.udp_echo.is_some());
    report.check_when(stream + datagram == 1, at, "set exactly one of http, grpc, tcp and udpEcho");
    let fits = if protocol == Transport::Udp { stream == 0 } else { datagram == 0 };
    report.check_when(fits, at, "udpEcho is for UDP ports; http, grpc and tcp are for TCP ports");
    if let Some(http) = &check.http {
        report.check(format!("{at}.http.path"), names::path(&http.path));
        if let Some(host) = &http.host {
            report.check(format!("{at}.http.host"), names::precise_hostname(host));
        }
    }
    if let Some(echo) = &check.udp_echo {
        let good = (1..=MOST_ECHO_BYTES).contains(&echo.payload.len());
        report.check_when(
            good,
            format!("{at}.udpEcho.payload"),
            format!("expected 1 to {MOST_ECHO_BYTES} bytes"),
        );
    }
    let interval = check.interval.map_or(defaults::HEALTH_CHECK_INTERVAL, |span| span.duration());
    let timeout = check.timeout.map_or(defaults::HEALTH_CHECK_TIMEOUT, |span| span.duration());
    report.check_when(
        interval.as_millis() >= LEAST_INTERVAL_MS,
        format!("{at}.interval"),
        "expected at least 100ms",
    );
    report.check_when(!timeout.is_zero(), format!("{at}.timeout"), "expected more than 0s");
    report.check_when(timeout <= interval, format!("{at}.timeout"), "must not be longer than the interval");
    for (field, threshold) in
        [("healthyThreshold", check.healthy_threshold), ("unhealthyThreshold", check.unhealthy_threshold)]
    {
        let good = threshold.is_none_or(|threshold| (1..=MOST_THRESHOLD).contains(&threshold));
        report.check_when(good, format!("{at}.{field}"), format!("expected 1 to {MOST_THRESHOLD}"));
    }
}
