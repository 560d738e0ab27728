//! Listener <-> Envoy's `Listener`: HTTP connection manager, TCP proxy or UDP proxy on one port.

use std::net::IpAddr;

use model::table::{Listener, Protocol, WeightedCluster};

use super::error::FieldError;
use super::tcp as settings;
use super::wire;
use super::wire::{INVALID_BACKEND, NO_WEIGHT};
use crate::envoy::core::socket_address;
use crate::envoy::http::{self, http_connection_manager as hcm, http_filter};
use crate::envoy::listener::{self as proto, filter, listener_filter};
use crate::envoy::tcp_proxy::{self, tcp_proxy as tcp};
use crate::envoy::udp_proxy::{self, udp_proxy_config};
use crate::envoy::xds_core::TypedExtensionConfig;
use crate::envoy::xds_matcher::{Matcher, matcher};
use crate::envoy::{protobuf, router};
use crate::proto::mesh::{ListenerMetadata, WeightedBackend};
use crate::snapshot::Resource;

// Envoy finds filters by the type of their configuration; these names are the well-known ones.
const HTTP_FILTER: &str = "envoy.filters.network.http_connection_manager";
const ROUTER_FILTER: &str = "envoy.filters.http.router";
const TCP_FILTER: &str = "envoy.filters.network.tcp_proxy";
const UDP_FILTER: &str = "envoy.filters.udp_listener.udp_proxy";

/// Under this name a gRPC client finds a service: `xds:///NAME`.
pub fn encode_api_listener(name: &str, route_table: &str) -> Resource {
    let manager = connection_manager(name, route_table);
    let listener = proto::Listener {
        name: name.to_owned(),
        api_listener: Some(proto::ApiListener { api_listener: Some(wire::pack(&manager)) }),
        ..Default::default()
    };
    Resource::on_demand(name, wire::pack(&listener))
}

pub(super) fn encode(listener: &Listener) -> Result<proto::Listener, FieldError> {
    let (first, others) = listener.addresses.split_first().ok_or_else(|| FieldError::missing("address"))?;
    let transport = match listener.protocol {
        Protocol::Udp { .. } => socket_address::Protocol::Udp,
        _ => socket_address::Protocol::Tcp,
    };
    let socket = |address: &IpAddr| wire::socket(*address, listener.port, transport);
    let mut message = proto::Listener {
        name: listener.name.clone(),
        address: Some(socket(first)),
        additional_addresses: others
            .iter()
            .map(|a| proto::AdditionalAddress { address: Some(socket(a)), ..Default::default() })
            .collect(),
        // The mesh's addresses need not be an interface's.
        freebind: wire::boolean(true),
        ..Default::default()
    };
    let mut metadata = ListenerMetadata {
        class: listener.class.clone(),
        tcp: settings::encode(listener.tcp),
        ..Default::default()
    };
    match &listener.protocol {
        Protocol::Http { routes } => {
            let manager = connection_manager(&listener.name, routes);
            message.filter_chains = vec![chain(HTTP_FILTER, wire::pack(&manager))];
        }
        Protocol::Tcp { backends } => {
            let proxy = encode_tcp(&listener.name, backends);
            message.filter_chains = vec![chain(TCP_FILTER, wire::pack(&proxy))];
        }
        Protocol::Udp { backends, idle } => {
            let backends = with_weight(backends);
            let proxy = udp_proxy::UdpProxyConfig {
                stat_prefix: listener.name.clone(),
                idle_timeout: Some(wire::duration(*idle)),
                route_specifier: Some(always(heaviest(&backends))),
                ..Default::default()
            };
            metadata.datagram_backends = backends;
            message.listener_filters = vec![proto::ListenerFilter {
                name: UDP_FILTER.to_owned(),
                config_type: Some(listener_filter::ConfigType::TypedConfig(wire::pack(&proxy))),
                ..Default::default()
            }];
        }
    }
    message.metadata = Some(wire::metadata(&metadata));
    Ok(message)
}

fn chain(name: &str, config: protobuf::Any) -> proto::FilterChain {
    let filter =
        proto::Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) };
    proto::FilterChain { filters: vec![filter], ..Default::default() }
}

fn connection_manager(stat_prefix: &str, route_table: &str) -> http::HttpConnectionManager {
    // Backends see what we send them, not how Envoy came to it.
    let router = router::Router { suppress_envoy_headers: true, ..Default::default() };
    let router = http::HttpFilter {
        name: ROUTER_FILTER.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(wire::pack(&router))),
        ..Default::default()
    };
    http::HttpConnectionManager {
        codec_type: hcm::CodecType::Auto as i32,
        stat_prefix: stat_prefix.to_owned(),
        http_filters: vec![router],
        // The peer's address is the client's, and is appended to x-forwarded-for.
        use_remote_address: wire::boolean(true),
        upgrade_configs: vec![hcm::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        server_header_transformation: hcm::ServerHeaderTransformation::PassThrough as i32,
        route_specifier: Some(hcm::RouteSpecifier::Rds(http::Rds {
            config_source: wire::ads(),
            route_config_name: route_table.to_owned(),
        })),
        ..Default::default()
    }
}

fn encode_tcp(stat_prefix: &str, backends: &[WeightedCluster]) -> tcp_proxy::TcpProxy {
    let clusters = with_weight(backends)
        .into_iter()
        .map(|backend| tcp::weighted_cluster::ClusterWeight {
            name: if backend.cluster.is_empty() { INVALID_BACKEND.to_owned() } else { backend.cluster },
            weight: backend.weight,
            ..Default::default()
        })
        .collect::<Vec<_>>();
    let nothing = || tcp::weighted_cluster::ClusterWeight {
        name: NO_WEIGHT.to_owned(),
        weight: 1,
        ..Default::default()
    };
    let clusters = if clusters.is_empty() { vec![nothing()] } else { clusters };
    tcp_proxy::TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(tcp::ClusterSpecifier::WeightedClusters(tcp::WeightedCluster { clusters })),
        ..Default::default()
    }
}

/// Envoy refuses a stream's backend of weight 0, which gets nothing anyway.
fn with_weight(backends: &[WeightedCluster]) -> Vec<WeightedBackend> {
    let weighted = backends.iter().filter(|backend| backend.weight > 0);
    weighted
        .map(|backend| WeightedBackend {
            cluster: backend.cluster.clone().unwrap_or_default(),
            weight: backend.weight,
        })
        .collect()
}

/// Envoy sends datagrams to one cluster only: the one with most weight.
fn heaviest(backends: &[WeightedBackend]) -> &str {
    let valid = backends.iter().filter(|backend| !backend.cluster.is_empty());
    valid.max_by_key(|backend| backend.weight).map_or(INVALID_BACKEND, |backend| &backend.cluster)
}

/// The UDP proxy's route: a matcher without conditions.
fn always(cluster: &str) -> udp_proxy_config::RouteSpecifier {
    let action = TypedExtensionConfig {
        name: "route".to_owned(),
        typed_config: Some(wire::pack(&udp_proxy::Route { cluster: cluster.to_owned() })),
    };
    let on_no_match =
        matcher::OnMatch { on_match: Some(matcher::on_match::OnMatch::Action(action)), ..Default::default() };
    udp_proxy_config::RouteSpecifier::Matcher(Matcher {
        on_no_match: Some(Box::new(on_no_match)),
        matcher_type: None,
    })
}

pub(super) fn decode(message: proto::Listener) -> Result<Listener, FieldError> {
    let (first, port) = wire::from_socket(message.address.as_ref(), "address")?;
    let mut addresses = vec![first];
    for (index, additional) in message.additional_addresses.iter().enumerate() {
        let path = format!("additional_addresses[{index}]");
        let (address, its_port) = wire::from_socket(additional.address.as_ref(), &path)?;
        if its_port != port {
            return Err(FieldError::unsupported(&path, "a port other than the first address's"));
        }
        addresses.push(address);
    }
    let metadata: ListenerMetadata = wire::from_metadata(message.metadata.as_ref(), "metadata")?;
    if metadata.class.is_empty() {
        return Err(FieldError::missing("metadata.class"));
    }
    let tcp = settings::decode(metadata.tcp)?;
    let protocol = decode_protocol(&message, metadata.datagram_backends)?;
    Ok(Listener { name: message.name, class: metadata.class, addresses, port, protocol, tcp })
}

fn decode_protocol(
    message: &proto::Listener,
    datagram_backends: Vec<WeightedBackend>,
) -> Result<Protocol, FieldError> {
    if let Some(filter) = message.listener_filters.first() {
        let Some(listener_filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
            return Err(FieldError::missing("listener_filters[0].typed_config"));
        };
        let proxy: udp_proxy::UdpProxyConfig = wire::unpack(any, "listener_filters[0]")?;
        let idle = wire::positive_duration(proxy.idle_timeout.as_ref(), "listener_filters[0].idle_timeout")?;
        let backends = datagram_backends.into_iter().map(|b| backend(b.cluster, b.weight)).collect();
        return Ok(Protocol::Udp { backends, idle });
    }
    let filter = match message.filter_chains.as_slice() {
        [chain] => chain.filters.last().ok_or_else(|| FieldError::missing("filter_chains[0].filters"))?,
        [] => return Err(FieldError::missing("filter_chains")),
        _ => return Err(FieldError::unsupported("filter_chains", "more than one filter chain")),
    };
    let Some(filter::ConfigType::TypedConfig(any)) = &filter.config_type else {
        return Err(FieldError::missing("filter_chains[0].filters[0].typed_config"));
    };
    const PATH: &str = "filter_chains[0].filters[0]";
    if any.type_url.ends_with(".TcpProxy") {
        return decode_tcp(wire::unpack(any, PATH)?).map_err(|e| e.within(PATH));
    }
    let manager: http::HttpConnectionManager = wire::unpack(any, PATH)?;
    match manager.route_specifier {
        Some(hcm::RouteSpecifier::Rds(rds)) if !rds.route_config_name.is_empty() => {
            Ok(Protocol::Http { routes: rds.route_config_name })
        }
        Some(hcm::RouteSpecifier::Rds(_)) | None => {
            Err(FieldError::missing("rds.route_config_name").within(PATH))
        }
        Some(_) => Err(FieldError::unsupported("route_specifier", "anything but rds").within(PATH)),
    }
}

fn decode_tcp(proxy: tcp_proxy::TcpProxy) -> Result<Protocol, FieldError> {
    let backends = match proxy.cluster_specifier {
        Some(tcp::ClusterSpecifier::Cluster(name)) => vec![backend(name, 1)],
        Some(tcp::ClusterSpecifier::WeightedClusters(weighted)) => weighted
            .clusters
            .into_iter()
            .filter(|cluster| cluster.name != NO_WEIGHT)
            .map(|cluster| backend(cluster.name, cluster.weight))
            .collect(),
        None => return Err(FieldError::missing("cluster_specifier")),
    };
    Ok(Protocol::Tcp { backends })
}

fn backend(cluster: String, weight: u32) -> WeightedCluster {
    let cluster = Some(cluster).filter(|name| !name.is_empty() && name != INVALID_BACKEND);
    WeightedCluster { cluster, weight, filters: Vec::new() }
}
