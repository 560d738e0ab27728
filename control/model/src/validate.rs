//! What a resource must satisfy by itself: the Gateway API's CRD rules, Kubernetes' name formats, and Ringway's own.
//!
//! What depends on other resources is no error but a condition (`attach`, `compile`).

mod filter;
mod gateway;
mod mesh;
mod names;
mod route;
mod rule;
mod service;

use crate::kind::Kind;
use crate::metadata::Metadata;
use crate::resource::{FieldError, Resource, Spec};

/// Every rule that the resource breaks; empty: it is good.
pub fn validate(resource: &Resource) -> Vec<FieldError> {
    let mut report = Report::default();
    metadata(&mut report, resource.kind(), &resource.metadata);
    match &resource.spec {
        Spec::Namespace(_) => {}
        Spec::Node(spec) => mesh::node(&mut report, spec),
        Spec::Workload(spec) => mesh::workload(&mut report, spec),
        Spec::Service(spec) => service::service(&mut report, spec),
        Spec::GatewayClass(spec) => gateway::class(&mut report, spec),
        Spec::Gateway(spec) => gateway::gateway(&mut report, spec),
        Spec::HttpRoute(spec) => route::http(&mut report, spec),
        Spec::GrpcRoute(spec) => route::grpc(&mut report, spec),
        Spec::TcpRoute(spec) | Spec::UdpRoute(spec) => route::l4(&mut report, spec),
        Spec::ReferenceGrant(spec) => gateway::grant(&mut report, spec),
    }
    report.errors
}

fn metadata(report: &mut Report, kind: Kind, metadata: &Metadata) {
    let name = match kind {
        Kind::Service => names::label_from_letter(&metadata.name),
        Kind::Namespace => names::label(&metadata.name),
        _ => names::subdomain(&metadata.name),
    };
    report.check("metadata.name", name);
    if kind.namespaced() {
        report.check("metadata.namespace", names::label(&metadata.namespace));
    }
    for (key, value) in &metadata.labels {
        report.check(format!("metadata.labels[{key}]"), names::label_key(key));
        report.check(format!("metadata.labels[{key}]"), names::label_value(value));
    }
    for key in metadata.annotations.keys() {
        report.check(format!("metadata.annotations[{key}]"), names::label_key(key));
    }
    if let Some(time) = &metadata.creation_timestamp {
        report.check("metadata.creationTimestamp", names::timestamp(time));
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct Report {
    errors: Vec<FieldError>,
}

impl Report {
    fn refuse(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(FieldError::new(field, problem));
    }

    fn check(&mut self, field: impl Into<String>, result: Result<(), String>) {
        if let Err(problem) = result {
            self.refuse(field, problem);
        }
    }

    fn check_when(&mut self, holds: bool, field: impl Into<String>, problem: impl Into<String>) {
        if !holds {
            self.refuse(field, problem);
        }
    }

    fn at_most(&mut self, most: usize, count: usize, field: &str) {
        self.check_when(count <= most, field, format!("has {count} entries; at most {most} are allowed"));
    }

    fn port(&mut self, port: u16, field: impl Into<String>) {
        self.check_when(port != 0, field, "expected a port number from 1 to 65535");
    }

    /// Refuses each entry whose key an earlier one has.
    fn unique<K: Ord>(&mut self, keys: impl IntoIterator<Item = K>, list: &str, what: &str) {
        let mut seen = std::collections::BTreeSet::new();
        for (index, key) in keys.into_iter().enumerate() {
            self.check_when(
                seen.insert(key),
                format!("{list}[{index}]"),
                format!("an earlier entry has the same {what}"),
            );
        }
    }
}

#[cfg(test)]
mod tests;
