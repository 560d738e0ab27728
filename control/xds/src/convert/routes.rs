//! Route table <-> `RouteConfiguration`: virtual hosts, and what a request must look like to match.

use model::table::{HttpMatch, HttpRoute, PathMatch, RouteTable, ValueMatch, ValuePattern, VirtualHost};

use super::audience::Audience;
use super::error::FieldError;
use super::route_action;
use super::wire::{clip, encode_regex};
use crate::envoy::route::{
    self as proto, header_matcher::HeaderMatchSpecifier,
    query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
};
use crate::envoy::string_matcher::{StringMatcher, string_matcher::MatchPattern};

const METHOD_HEADER: &str = ":method";

pub(super) fn encode(
    table: &RouteTable,
    audience: Audience,
) -> Result<proto::RouteConfiguration, FieldError> {
    let mut virtual_hosts = Vec::with_capacity(table.virtual_hosts.len());
    for (outer, host) in table.virtual_hosts.iter().enumerate() {
        let mut routes = Vec::with_capacity(host.routes.len());
        for (inner, route) in host.routes.iter().enumerate() {
            let path = format!("virtual_hosts[{outer}].routes[{inner}] ({})", route.name);
            routes.push(encode_route(route, audience).map_err(|e| e.within(&path))?);
        }
        virtual_hosts.push(proto::VirtualHost {
            name: host.name.clone(),
            domains: host.domains.clone(),
            routes,
            ..Default::default()
        });
    }
    Ok(proto::RouteConfiguration {
        name: table.name.clone(),
        virtual_hosts,
        ignore_port_in_host_matching: true,
        ..Default::default()
    })
}

fn encode_route(route: &HttpRoute, audience: Audience) -> Result<proto::Route, FieldError> {
    let mut message = proto::Route {
        name: route.name.clone(),
        r#match: Some(encode_match(&route.matches, audience)),
        ..Default::default()
    };
    route_action::encode(route, audience, &mut message)?;
    Ok(message)
}

fn encode_match(matches: &HttpMatch, audience: Audience) -> proto::RouteMatch {
    let method = matches.method.as_ref().map(|method| {
        encode_header(&ValueMatch {
            name: METHOD_HEADER.to_owned(),
            value: ValuePattern::Exact(method.clone()),
        })
    });
    proto::RouteMatch {
        path_specifier: Some(encode_path(&matches.path, audience)),
        headers: method.into_iter().chain(matches.headers.iter().map(encode_header)).collect(),
        query_parameters: matches.query.iter().map(encode_query).collect(),
        ..Default::default()
    }
}

fn encode_path(path: &PathMatch, audience: Audience) -> PathSpecifier {
    match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        PathMatch::Prefix(prefix) => match (prefix.trim_end_matches('/'), audience) {
            ("", _) => PathSpecifier::Prefix("/".to_owned()),
            // gRPC knows no path_separated_prefix, and its paths always have a second element.
            (prefix, Audience::Grpc) => PathSpecifier::Prefix(format!("{prefix}/")),
            (prefix, _) => PathSpecifier::PathSeparatedPrefix(prefix.to_owned()),
        },
        PathMatch::Regex(regex) => PathSpecifier::SafeRegex(encode_regex(regex)),
    }
}

fn encode_header(header: &ValueMatch) -> proto::HeaderMatcher {
    proto::HeaderMatcher {
        name: header.name.clone(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(encode_value(&header.value))),
        ..Default::default()
    }
}

fn encode_query(query: &ValueMatch) -> proto::QueryParameterMatcher {
    proto::QueryParameterMatcher {
        name: query.name.clone(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(encode_value(
            &query.value,
        ))),
    }
}

fn encode_value(value: &ValuePattern) -> StringMatcher {
    let pattern = match value {
        ValuePattern::Exact(value) => MatchPattern::Exact(value.clone()),
        ValuePattern::Regex(regex) => MatchPattern::SafeRegex(encode_regex(regex)),
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

pub(super) fn decode(message: proto::RouteConfiguration) -> Result<RouteTable, FieldError> {
    let mut virtual_hosts = Vec::with_capacity(message.virtual_hosts.len());
    for (outer, host) in message.virtual_hosts.into_iter().enumerate() {
        let mut routes = Vec::with_capacity(host.routes.len());
        for (inner, route) in host.routes.into_iter().enumerate() {
            // With the name, by which the control plane knows whose it is.
            let path = format!("virtual_hosts[{outer}].routes[{inner}] ({})", clip(&route.name));
            routes.push(decode_route(route).map_err(|e| e.within(&path))?);
        }
        virtual_hosts.push(VirtualHost { name: host.name, domains: host.domains, routes });
    }
    Ok(RouteTable { name: message.name, virtual_hosts })
}

fn decode_route(message: proto::Route) -> Result<HttpRoute, FieldError> {
    let matches = message.r#match.as_ref().ok_or_else(|| FieldError::missing("match"))?;
    let matches = decode_match(matches).map_err(|e| e.within("match"))?;
    route_action::decode(message, matches)
}

fn decode_match(message: &proto::RouteMatch) -> Result<HttpMatch, FieldError> {
    let unsupported = [
        ("cookies", !message.cookies.is_empty()),
        ("dynamic_metadata", !message.dynamic_metadata.is_empty()),
        ("filter_state", !message.filter_state.is_empty()),
        ("runtime_fraction", message.runtime_fraction.is_some()),
        ("tls_context", message.tls_context.is_some()),
        ("grpc", message.grpc.is_some()),
        ("case_sensitive", message.case_sensitive.as_ref().is_some_and(|sensitive| !sensitive.value)),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, present)| *present) {
        return Err(FieldError::unsupported(field, "a match by it"));
    }
    let path = match &message.path_specifier {
        Some(PathSpecifier::Path(path)) => PathMatch::Exact(path.clone()),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => PathMatch::Prefix(prefix.clone()),
        Some(PathSpecifier::Prefix(prefix)) if prefix == "/" => PathMatch::Prefix(prefix.clone()),
        Some(PathSpecifier::Prefix(_)) => {
            return Err(FieldError::unsupported("prefix", "a prefix that may end within a path element"));
        }
        Some(PathSpecifier::SafeRegex(regex)) => PathMatch::Regex(regex.regex.clone()),
        Some(_) => return Err(FieldError::unsupported("path_specifier", "this way to match a path")),
        None => return Err(FieldError::missing("path_specifier")),
    };
    let mut matches = HttpMatch { path, method: None, headers: Vec::new(), query: Vec::new() };
    for (index, header) in message.headers.iter().enumerate() {
        let header = decode_header(header).map_err(|e| e.within(&format!("headers[{index}]")))?;
        match header {
            ValueMatch { name, value: ValuePattern::Exact(method) } if name == METHOD_HEADER => {
                matches.method = Some(method);
            }
            header => matches.headers.push(header),
        }
    }
    for (index, query) in message.query_parameters.iter().enumerate() {
        let query = decode_query(query).map_err(|e| e.within(&format!("query_parameters[{index}]")))?;
        matches.query.push(query);
    }
    Ok(matches)
}

fn decode_header(message: &proto::HeaderMatcher) -> Result<ValueMatch, FieldError> {
    if message.invert_match || message.treat_missing_header_as_empty {
        return Err(FieldError::unsupported("invert_match", "an inverted match"));
    }
    match &message.header_match_specifier {
        Some(HeaderMatchSpecifier::StringMatch(value)) => {
            Ok(ValueMatch { name: message.name.clone(), value: decode_value(value)? })
        }
        Some(_) => Err(FieldError::unsupported("header_match_specifier", "anything but string_match")),
        None => Err(FieldError::missing("header_match_specifier")),
    }
}

fn decode_query(message: &proto::QueryParameterMatcher) -> Result<ValueMatch, FieldError> {
    match &message.query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(value)) => {
            Ok(ValueMatch { name: message.name.clone(), value: decode_value(value)? })
        }
        Some(_) => Err(FieldError::unsupported("present_match", "a match by presence")),
        None => Err(FieldError::missing("query_parameter_match_specifier")),
    }
}

fn decode_value(message: &StringMatcher) -> Result<ValuePattern, FieldError> {
    if message.ignore_case {
        return Err(FieldError::unsupported("ignore_case", "a match without case"));
    }
    match &message.match_pattern {
        Some(MatchPattern::Exact(value)) => Ok(ValuePattern::Exact(value.clone())),
        Some(MatchPattern::SafeRegex(regex)) => Ok(ValuePattern::Regex(regex.regex.clone())),
        Some(_) => Err(FieldError::unsupported("match_pattern", "anything but exact and safe_regex")),
        None => Err(FieldError::missing("match_pattern")),
    }
}
