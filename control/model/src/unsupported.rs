//! Fields that the kinds' specifications have and Ringway does not carry out: refused by name, never ignored.

use serde_json::Value;

use crate::field::FieldError;
use crate::kind::Kind;

/// The fields of each kind, below the document; `[]` is every entry of a list. What a specification adds later is
/// unknown instead, and refused as such.
fn known(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Gateway => &[
            "spec.allowedListeners",
            "spec.backendTLS",
            "spec.defaultScope",
            "spec.infrastructure",
            "spec.tls",
        ],
        Kind::HttpRoute => {
            &["spec.useDefaultGateways", "spec.rules[].retry", "spec.rules[].sessionPersistence"]
        }
        Kind::GrpcRoute => &["spec.useDefaultGateways", "spec.rules[].sessionPersistence"],
        Kind::TcpRoute | Kind::UdpRoute => &["spec.useDefaultGateways"],
        Kind::Service => &[
            "spec.allocateLoadBalancerNodePorts",
            "spec.externalIPs",
            "spec.externalName",
            "spec.externalTrafficPolicy",
            "spec.healthCheckNodePort",
            "spec.internalTrafficPolicy",
            "spec.ipFamilyPolicy",
            "spec.loadBalancerClass",
            "spec.loadBalancerIP",
            "spec.loadBalancerSourceRanges",
            "spec.ports[].nodePort",
            "spec.publishNotReadyAddresses",
            "spec.sessionAffinity",
            "spec.sessionAffinityConfig",
            "spec.trafficDistribution",
        ],
        Kind::Namespace => &["spec.finalizers"],
        Kind::GatewayClass | Kind::ReferenceGrant | Kind::Workload | Kind::Node => &[],
    }
}

/// Kubernetes' own bookkeeping, which has no meaning here.
const METADATA: [&str; 6] = [
    "metadata.deletionGracePeriodSeconds",
    "metadata.deletionTimestamp",
    "metadata.finalizers",
    "metadata.generateName",
    "metadata.managedFields",
    "metadata.ownerReferences",
];

/// One error for every such field that the document sets.
pub(crate) fn fields(kind: Kind, metadata: &Value, spec: Option<&Value>) -> Vec<FieldError> {
    let mut found = Vec::new();
    for pattern in METADATA {
        walk(metadata, "metadata", pattern.trim_start_matches("metadata."), &mut found);
    }
    for pattern in known(kind) {
        if let Some(spec) = spec {
            walk(spec, "spec", pattern.trim_start_matches("spec."), &mut found);
        }
    }
    found.into_iter().map(|field| FieldError::new(field, "is not supported yet; leave it out")).collect()
}

/// Recursion ends with the pattern, which is ours.
fn walk(value: &Value, path: &str, pattern: &str, found: &mut Vec<String>) {
    let (step, rest) = pattern.split_once('.').map_or((pattern, None), |(step, rest)| (step, Some(rest)));
    let (name, each) = step.strip_suffix("[]").map_or((step, false), |name| (name, true));
    let Some(child) = value.get(name) else { return };
    let path = format!("{path}.{name}");
    match (rest, each) {
        (None, _) => found.push(path),
        (Some(rest), false) => walk(child, &path, rest, found),
        (Some(rest), true) => {
            for (index, entry) in child.as_array().into_iter().flatten().enumerate() {
                walk(entry, &format!("{path}[{index}]"), rest, found);
            }
        }
    }
}
