//! What a resource must satisfy by itself: the Gateway API's CRD rules, Kubernetes' name formats, and Ringway's own.
//!
//! What depends on other resources is no error but a condition (`attach`, `compile`).

mod filter;
mod gateway;
mod mesh;
mod names;
mod report;
mod route;
mod rule;
mod service;
mod tcp;

use report::Report;

use crate::field::FieldError;
use crate::kind::Kind;
use crate::metadata::Metadata;
use crate::resource::{Resource, Spec};

/// Every rule that the resource breaks; empty: it is good.
pub fn validate(resource: &Resource) -> Vec<FieldError> {
    let mut report = Report::default();
    metadata(&mut report, resource.kind(), &resource.metadata);
    match &resource.spec {
        Spec::Namespace(_) => {}
        Spec::Node(spec) => mesh::node(&mut report, spec),
        Spec::Workload(spec) => mesh::workload(&mut report, spec),
        Spec::Service(spec) => service::service(&mut report, &resource.metadata, spec),
        Spec::GatewayClass(spec) => gateway::class(&mut report, spec),
        Spec::Gateway(spec) => {
            tcp::settings(&mut report, &resource.metadata);
            gateway::gateway(&mut report, spec);
        }
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

#[cfg(test)]
mod tests;
