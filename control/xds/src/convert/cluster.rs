//! Cluster <-> Envoy's `Cluster`: endpoints by EDS, protocol options, balancing, health checks.

use std::collections::HashMap;
use std::time::Duration;

use model::table::{Balance, Cluster, HealthCheck, Probe, UpstreamProtocol};

use super::audience::Audience;
use super::error::FieldError;
use super::{tcp, wire};
use crate::envoy::cluster::{self as proto, cluster as part};
use crate::envoy::core::{self, health_check};
use crate::envoy::envoy_type;
use crate::envoy::upstream_http::{HttpProtocolOptions, http_protocol_options as options};
use crate::proto::mesh::{ClusterMetadata, DatagramHealthCheck};

/// Envoy's well-known key of HTTP options in a cluster.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

pub(super) fn encode(cluster: &Cluster, audience: Audience) -> proto::Cluster {
    let least_request = cluster.balance == Balance::LeastRequest && audience != Audience::Grpc;
    let policy = if least_request { part::LbPolicy::LeastRequest } else { part::LbPolicy::RoundRobin };
    let choices =
        proto::cluster::LeastRequestLbConfig { choice_count: wire::uint32(2), ..Default::default() };
    proto::Cluster {
        name: cluster.name.clone(),
        cluster_discovery_type: Some(part::ClusterDiscoveryType::Type(part::DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(part::EdsClusterConfig { eds_config: wire::ads(), ..Default::default() }),
        connect_timeout: Some(wire::duration(cluster.connect_timeout)),
        lb_policy: policy as i32,
        lb_config: least_request.then_some(part::LbConfig::LeastRequestLbConfig(choices)),
        typed_extension_protocol_options: protocol_options(cluster.protocol),
        health_checks: cluster
            .health_check
            .iter()
            .filter_map(|c| stream_check(c, cluster.protocol))
            .collect(),
        // An endpoint that the control plane took away is gone, whatever its last check said.
        ignore_health_on_host_removal: true,
        // Envoy would send to unhealthy endpoints once half of them are; here none ready means 503.
        common_lb_config: Some(part::CommonLbConfig {
            healthy_panic_threshold: Some(envoy_type::Percent { value: 0.0 }),
            ..Default::default()
        }),
        metadata: cluster_metadata(cluster),
        ..Default::default()
    }
}

fn protocol_options(protocol: UpstreamProtocol) -> HashMap<String, crate::envoy::protobuf::Any> {
    let config = match protocol {
        UpstreamProtocol::Http1 => {
            options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(Default::default())
        }
        UpstreamProtocol::Http2 => {
            options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Default::default())
        }
        UpstreamProtocol::Tcp | UpstreamProtocol::Udp => return HashMap::new(),
    };
    let explicit = options::ExplicitHttpConfig { protocol_config: Some(config) };
    let message = HttpProtocolOptions {
        upstream_protocol_options: Some(options::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), wire::pack(&message))])
}

/// What Envoy can check; a datagram check is in the metadata.
fn stream_check(check: &HealthCheck, protocol: UpstreamProtocol) -> Option<core::HealthCheck> {
    let checker = match &check.probe {
        Probe::Http { path, host } => {
            let http2 = protocol == UpstreamProtocol::Http2;
            let codec =
                if http2 { envoy_type::CodecClientType::Http2 } else { envoy_type::CodecClientType::Http1 };
            health_check::HealthChecker::HttpHealthCheck(health_check::HttpHealthCheck {
                host: host.clone().unwrap_or_default(),
                path: path.clone(),
                expected_statuses: vec![envoy_type::Int64Range { start: 200, end: 300 }],
                codec_client_type: codec as i32,
                ..Default::default()
            })
        }
        Probe::Grpc { service } => {
            health_check::HealthChecker::GrpcHealthCheck(health_check::GrpcHealthCheck {
                service_name: service.clone(),
                ..Default::default()
            })
        }
        Probe::Tcp => health_check::HealthChecker::TcpHealthCheck(Default::default()),
        Probe::UdpEcho { .. } => return None,
    };
    Some(core::HealthCheck {
        timeout: Some(wire::duration(check.timeout)),
        interval: Some(wire::duration(check.interval)),
        healthy_threshold: wire::uint32(check.healthy_threshold),
        unhealthy_threshold: wire::uint32(check.unhealthy_threshold),
        health_checker: Some(checker),
        ..Default::default()
    })
}

fn cluster_metadata(cluster: &Cluster) -> Option<core::Metadata> {
    let check = cluster.health_check.as_ref().and_then(|check| match &check.probe {
        Probe::UdpEcho { payload } => Some(DatagramHealthCheck {
            payload: payload.clone(),
            interval_ms: millis(check.interval),
            timeout_ms: millis(check.timeout),
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
        }),
        _ => None,
    });
    let datagram = cluster.protocol == UpstreamProtocol::Udp;
    let tcp = tcp::encode(cluster.tcp);
    let said = datagram || check.is_some() || tcp.is_some();
    said.then(|| wire::metadata(&ClusterMetadata { datagram, datagram_health_check: check, tcp }))
}

fn millis(value: Duration) -> u64 {
    u64::try_from(value.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn decode(message: proto::Cluster) -> Result<Cluster, FieldError> {
    match message.cluster_discovery_type {
        Some(part::ClusterDiscoveryType::Type(kind)) if kind == part::DiscoveryType::Eds as i32 => {}
        _ => return Err(FieldError::unsupported("type", "a cluster type other than EDS")),
    }
    let balance = match part::LbPolicy::try_from(message.lb_policy) {
        Ok(part::LbPolicy::RoundRobin) => Balance::RoundRobin,
        Ok(part::LbPolicy::LeastRequest) => Balance::LeastRequest,
        Ok(other) => return Err(FieldError::unsupported("lb_policy", other.as_str_name())),
        Err(_) => return Err(FieldError::unsupported("lb_policy", message.lb_policy.to_string())),
    };
    let metadata: ClusterMetadata = wire::from_metadata(message.metadata.as_ref(), "metadata")?;
    Ok(Cluster {
        protocol: decode_protocol(&message, &metadata)?,
        balance,
        connect_timeout: wire::positive_duration(message.connect_timeout.as_ref(), "connect_timeout")?,
        tcp: tcp::decode(metadata.tcp)?,
        health_check: decode_check(&message.health_checks, metadata.datagram_health_check)?,
        name: message.name,
    })
}

fn decode_protocol(
    message: &proto::Cluster,
    metadata: &ClusterMetadata,
) -> Result<UpstreamProtocol, FieldError> {
    const PATH: &str = "typed_extension_protocol_options";
    let Some(any) = message.typed_extension_protocol_options.get(HTTP_OPTIONS) else {
        return Ok(if metadata.datagram { UpstreamProtocol::Udp } else { UpstreamProtocol::Tcp });
    };
    let options: HttpProtocolOptions = wire::unpack(any, PATH)?;
    let Some(options::UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) =
        options.upstream_protocol_options
    else {
        return Err(FieldError::unsupported(PATH, "anything but explicit_http_config"));
    };
    match explicit.protocol_config {
        Some(options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(_)) => {
            Ok(UpstreamProtocol::Http1)
        }
        Some(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(_)) => {
            Ok(UpstreamProtocol::Http2)
        }
        Some(_) => Err(FieldError::unsupported(PATH, "HTTP/3")),
        None => Err(FieldError::missing(PATH)),
    }
}

fn decode_check(
    checks: &[core::HealthCheck],
    datagram: Option<DatagramHealthCheck>,
) -> Result<Option<HealthCheck>, FieldError> {
    if let Some(check) = datagram {
        return Ok(Some(HealthCheck {
            probe: Probe::UdpEcho { payload: check.payload },
            interval: Duration::from_millis(check.interval_ms),
            timeout: Duration::from_millis(check.timeout_ms),
            healthy_threshold: check.healthy_threshold,
            unhealthy_threshold: check.unhealthy_threshold,
        }));
    }
    match checks {
        [] => Ok(None),
        [check] => decode_stream_check(check).map(Some).map_err(|e| e.within("health_checks[0]")),
        _ => Err(FieldError::unsupported("health_checks", "more than one health check")),
    }
}

fn decode_stream_check(check: &core::HealthCheck) -> Result<HealthCheck, FieldError> {
    let probe = match &check.health_checker {
        Some(health_check::HealthChecker::HttpHealthCheck(http)) => Probe::Http {
            path: http.path.clone(),
            host: Some(http.host.clone()).filter(|host| !host.is_empty()),
        },
        Some(health_check::HealthChecker::GrpcHealthCheck(grpc)) => {
            Probe::Grpc { service: grpc.service_name.clone() }
        }
        Some(health_check::HealthChecker::TcpHealthCheck(tcp)) if tcp.send.is_none() => Probe::Tcp,
        Some(health_check::HealthChecker::TcpHealthCheck(_)) => {
            return Err(FieldError::unsupported("tcp_health_check.send", "a payload"));
        }
        Some(health_check::HealthChecker::CustomHealthCheck(custom)) => {
            return Err(FieldError::unsupported("custom_health_check", wire::clip(&custom.name)));
        }
        None => return Err(FieldError::missing("health_checker")),
    };
    Ok(HealthCheck {
        probe,
        interval: wire::positive_duration(check.interval.as_ref(), "interval")?,
        timeout: wire::positive_duration(check.timeout.as_ref(), "timeout")?,
        healthy_threshold: threshold(check.healthy_threshold.as_ref(), "healthy_threshold")?,
        unhealthy_threshold: threshold(check.unhealthy_threshold.as_ref(), "unhealthy_threshold")?,
    })
}

fn threshold(value: Option<&crate::envoy::protobuf::UInt32Value>, path: &str) -> Result<u32, FieldError> {
    value.map(|value| value.value).ok_or_else(|| FieldError::missing(path))
}
