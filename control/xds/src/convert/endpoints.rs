//! Endpoints of one cluster <-> `ClusterLoadAssignment`.

use std::net::SocketAddr;

use model::table::Endpoint;

use super::error::FieldError;
use super::wire;
use crate::envoy::core::{self, HealthStatus, socket_address};
use crate::envoy::endpoint::{self as proto, lb_endpoint};
use crate::proto::mesh::EndpointMetadata;

pub(super) fn encode(cluster: &str, endpoints: &[Endpoint]) -> proto::ClusterLoadAssignment {
    // gRPC skips a locality without weight and refuses one without a name.
    let locality = proto::LocalityLbEndpoints {
        locality: Some(core::Locality { region: "mesh".to_owned(), ..Default::default() }),
        lb_endpoints: endpoints.iter().map(encode_one).collect(),
        load_balancing_weight: wire::uint32(1),
        ..Default::default()
    };
    proto::ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: if endpoints.is_empty() { Vec::new() } else { vec![locality] },
        ..Default::default()
    }
}

fn encode_one(endpoint: &Endpoint) -> proto::LbEndpoint {
    let address = wire::socket(endpoint.address.ip(), endpoint.address.port(), socket_address::Protocol::Tcp);
    let status = if endpoint.healthy { HealthStatus::Healthy } else { HealthStatus::Unhealthy };
    proto::LbEndpoint {
        health_status: status as i32,
        metadata: Some(wire::metadata(&EndpointMetadata { workload: endpoint.workload.clone() })),
        load_balancing_weight: wire::uint32(endpoint.weight.max(1)),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(proto::Endpoint {
            address: Some(address),
            ..Default::default()
        })),
    }
}

pub(super) fn decode(message: proto::ClusterLoadAssignment) -> Result<Vec<Endpoint>, FieldError> {
    let mut endpoints = Vec::new();
    for (outer, locality) in message.endpoints.iter().enumerate() {
        for (inner, endpoint) in locality.lb_endpoints.iter().enumerate() {
            let path = format!("endpoints[{outer}].lb_endpoints[{inner}]");
            endpoints.push(decode_one(endpoint).map_err(|e| e.within(&path))?);
        }
    }
    Ok(endpoints)
}

fn decode_one(message: &proto::LbEndpoint) -> Result<Endpoint, FieldError> {
    let host = match &message.host_identifier {
        Some(lb_endpoint::HostIdentifier::Endpoint(host)) => host,
        Some(_) => return Err(FieldError::unsupported("endpoint_name", "a named endpoint")),
        None => return Err(FieldError::missing("endpoint")),
    };
    let (ip, port) = wire::from_socket(host.address.as_ref(), "endpoint.address")?;
    let metadata: EndpointMetadata = wire::from_metadata(message.metadata.as_ref(), "metadata")?;
    let weight = message.load_balancing_weight.as_ref().map_or(1, |weight| weight.value);
    if weight == 0 {
        return Err(FieldError::out_of_range("load_balancing_weight", "must be at least 1"));
    }
    let healthy = matches!(message.health_status(), HealthStatus::Healthy | HealthStatus::Unknown);
    Ok(Endpoint { address: SocketAddr::new(ip, port), weight, healthy, workload: metadata.workload })
}
