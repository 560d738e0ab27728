//! The small change of protobuf (wrappers, durations, addresses, `Any`), and names that stand for what has none.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use prost::Name;

use super::error::FieldError;
use crate::envoy::core::{self, address, config_source, socket_address};
use crate::envoy::protobuf;
use crate::envoy::string_matcher::RegexMatcher;

/// Key of our typed metadata on Envoy's resources.
const METADATA_KEY: &str = "ringway.mesh";

/// Stands for a backend that does not exist. No cluster has this name, so Envoy answers with the route's
/// `cluster_not_found_response_code`: 500.
pub(super) const INVALID_BACKEND: &str = "ringway.mesh/invalid-backend";

/// Stands for "all weights are 0", which Envoy refuses to hear; answers as [`INVALID_BACKEND`] does.
pub(super) const NO_WEIGHT: &str = "ringway.mesh/no-weight";

pub(super) fn pack<M: Name>(message: &M) -> protobuf::Any {
    protobuf::Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(super) fn unpack<M: Name + Default>(any: &protobuf::Any, path: &str) -> Result<M, FieldError> {
    if any.type_url != M::type_url() {
        return Err(FieldError::unsupported(path, format!("type {}", any.type_url)));
    }
    M::decode(any.value.as_slice()).map_err(|e| FieldError::undecodable(path, e))
}

pub(super) fn metadata<M: Name>(message: &M) -> core::Metadata {
    let typed = HashMap::from([(METADATA_KEY.to_owned(), pack(message))]);
    core::Metadata { typed_filter_metadata: typed, ..Default::default() }
}

/// Absent metadata reads as the message's default.
pub(super) fn from_metadata<M: Name + Default>(
    metadata: Option<&core::Metadata>,
    path: &str,
) -> Result<M, FieldError> {
    match metadata.and_then(|metadata| metadata.typed_filter_metadata.get(METADATA_KEY)) {
        Some(any) => unpack(any, path),
        None => Ok(M::default()),
    }
}

pub(super) fn duration(value: Duration) -> protobuf::Duration {
    let seconds = i64::try_from(value.as_secs()).unwrap_or(i64::MAX);
    let nanos = i32::try_from(value.subsec_nanos()).expect("fewer than 1e9 nanoseconds fit an i32");
    protobuf::Duration { seconds, nanos }
}

pub(super) fn from_duration(
    value: Option<&protobuf::Duration>,
    path: &str,
) -> Result<Option<Duration>, FieldError> {
    let Some(value) = value else { return Ok(None) };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(value.seconds), u32::try_from(value.nanos)) else {
        return Err(FieldError::out_of_range(path, "a duration must not be negative"));
    };
    if nanos >= 1_000_000_000 {
        return Err(FieldError::out_of_range(path, "nanoseconds of a duration must be below 1e9"));
    }
    Ok(Some(Duration::new(seconds, nanos)))
}

/// A duration that must be there and longer than nothing.
pub(super) fn positive_duration(
    value: Option<&protobuf::Duration>,
    path: &str,
) -> Result<Duration, FieldError> {
    let value = from_duration(value, path)?.ok_or_else(|| FieldError::missing(path))?;
    if value.is_zero() {
        return Err(FieldError::out_of_range(path, "must be longer than zero"));
    }
    Ok(value)
}

pub(super) fn uint32(value: u32) -> Option<protobuf::UInt32Value> {
    Some(protobuf::UInt32Value { value })
}

pub(super) fn boolean(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

/// "Ask me on this same stream."
pub(super) fn ads() -> Option<core::ConfigSource> {
    Some(core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(
            core::AggregatedConfigSource {},
        )),
        ..Default::default()
    })
}

pub(super) fn socket(address: IpAddr, port: u16, protocol: socket_address::Protocol) -> core::Address {
    let socket = core::SocketAddress {
        protocol: protocol as i32,
        address: address.to_string(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
        ..Default::default()
    };
    core::Address { address: Some(address::Address::SocketAddress(socket)) }
}

pub(super) fn from_socket(address: Option<&core::Address>, path: &str) -> Result<(IpAddr, u16), FieldError> {
    let socket = match address.and_then(|address| address.address.as_ref()) {
        None => return Err(FieldError::missing(path)),
        Some(address::Address::SocketAddress(socket)) => socket,
        Some(_) => return Err(FieldError::unsupported(path, "an address other than socket_address")),
    };
    let ip = socket.address.parse().map_err(|_| {
        FieldError::out_of_range(path, format!("{:?} is not an IP address", clip(&socket.address)))
    })?;
    match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => match u16::try_from(port) {
            Ok(port) => Ok((ip, port)),
            Err(_) => Err(FieldError::out_of_range(path, format!("port {port} is above 65535"))),
        },
        _ => Err(FieldError::missing(&format!("{path}.port_value"))),
    }
}

pub(super) fn encode_regex(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), ..Default::default() }
}

/// Peers' text in our errors is bounded.
pub(super) fn clip(text: &str) -> String {
    const LONGEST: usize = 120;
    text.chars().take(LONGEST).collect()
}
