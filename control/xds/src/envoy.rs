//! Short names for the Envoy packages that we speak.

pub use envoy_types::pb::envoy::config::cluster::v3 as cluster;
pub use envoy_types::pb::envoy::config::core::v3 as core;
pub use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
pub use envoy_types::pb::envoy::config::listener::v3 as listener;
pub use envoy_types::pb::envoy::config::route::v3 as route;
pub use envoy_types::pb::envoy::extensions::filters::http::router::v3 as router;
pub use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as http;
pub use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp_proxy;
pub use envoy_types::pb::envoy::extensions::filters::udp::udp_proxy::v3 as udp_proxy;
pub use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
pub use envoy_types::pb::envoy::service::discovery::v3 as discovery;
pub use envoy_types::pb::envoy::r#type::matcher::v3 as string_matcher;
pub use envoy_types::pb::envoy::r#type::v3 as envoy_type;
pub use envoy_types::pb::google::protobuf;
pub use envoy_types::pb::google::rpc;
pub use envoy_types::pb::xds::core::v3 as xds_core;
pub use envoy_types::pb::xds::r#type::matcher::v3 as xds_matcher;
