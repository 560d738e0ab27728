//! What a route does with a request: filters, backends, redirects, answers of its own, timeouts.

use std::time::Duration;

use model::table::{
    HeaderEdit, HttpAction, HttpFilter, HttpMatch, HttpRoute, Redirect, Timeouts, WeightedCluster,
};

use super::audience::Audience;
use super::error::FieldError;
use super::rewrite::{self, EnvoyRewrite};
use super::wire;
use super::wire::{INVALID_BACKEND, NO_WEIGHT};
use crate::envoy::core::{self, data_source, header_value_option::HeaderAppendAction};
use crate::envoy::route::{
    self as proto, redirect_action as redirect, route::Action, route_action, weighted_cluster,
};

/// A route's or backend's filters, sorted by kind: each kind occurs once at most (Gateway API).
#[derive(Default)]
struct Filters<'a> {
    request_headers: Option<&'a HeaderEdit>,
    response_headers: Option<&'a HeaderEdit>,
    rewrite: Option<(&'a Option<String>, &'a Option<model::table::PathRewrite>)>,
    redirect: Option<&'a Redirect>,
}

impl<'a> Filters<'a> {
    fn sort(filters: &'a [HttpFilter]) -> Result<Self, FieldError> {
        let mut sorted = Filters::default();
        for filter in filters {
            let repeated = match filter {
                HttpFilter::RequestHeaders(edit) => sorted.request_headers.replace(edit).is_some(),
                HttpFilter::ResponseHeaders(edit) => sorted.response_headers.replace(edit).is_some(),
                HttpFilter::Rewrite { hostname, path } => sorted.rewrite.replace((hostname, path)).is_some(),
                HttpFilter::Redirect(redirect) => sorted.redirect.replace(redirect).is_some(),
            };
            if repeated {
                return Err(FieldError::unsupported("filters", "two filters of one kind in one rule"));
            }
        }
        Ok(sorted)
    }
}

pub(super) fn encode(
    route: &HttpRoute,
    audience: Audience,
    message: &mut proto::Route,
) -> Result<(), FieldError> {
    let filters = Filters::sort(&route.filters)?;
    if let Some(edit) = filters.request_headers {
        message.request_headers_to_add = encode_added(edit);
        message.request_headers_to_remove = edit.remove.clone();
    }
    if let Some(edit) = filters.response_headers {
        message.response_headers_to_add = encode_added(edit);
        message.response_headers_to_remove = edit.remove.clone();
    }
    message.action = Some(match (filters.redirect, &route.action) {
        (Some(redirect), _) => Action::Redirect(encode_redirect(redirect, route, audience)?),
        (None, HttpAction::Respond { status, body }) => Action::DirectResponse(encode_answer(*status, body)),
        (None, HttpAction::Forward(backends)) => Action::Route(encode_forward(backends, &filters, route)?),
    });
    Ok(())
}

/// Envoy removes first, then overwrites, then appends, which is the table's order.
fn encode_added(edit: &HeaderEdit) -> Vec<core::HeaderValueOption> {
    let option = |(name, value): &(String, String), action: HeaderAppendAction| core::HeaderValueOption {
        header: Some(core::HeaderValue { key: name.clone(), value: escape(value), ..Default::default() }),
        append_action: action as i32,
        keep_empty_value: true,
        ..Default::default()
    };
    let set = edit.set.iter().map(|header| option(header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let added = edit.add.iter().map(|header| option(header, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(added).collect()
}

/// Envoy substitutes `%NAME%` in header values; `%%` is a percent sign.
fn escape(value: &str) -> String {
    value.replace('%', "%%")
}

fn unescape(value: &str) -> String {
    value.replace("%%", "%")
}

fn encode_redirect(
    redirect: &Redirect,
    route: &HttpRoute,
    audience: Audience,
) -> Result<proto::RedirectAction, FieldError> {
    use redirect::RedirectResponseCode as Code;
    let code = match redirect.status {
        301 => Code::MovedPermanently,
        302 => Code::Found,
        303 => Code::SeeOther,
        307 => Code::TemporaryRedirect,
        308 => Code::PermanentRedirect,
        other => {
            let wrong = format!("{other} is none of 301, 302, 303, 307, 308");
            return Err(FieldError::out_of_range("redirect.status", wrong));
        }
    };
    let path = match &redirect.path {
        None => None,
        Some(path) => Some(match rewrite::encode(path, &route.matches.path)? {
            EnvoyRewrite::Prefix(prefix) => redirect::PathRewriteSpecifier::PrefixRewrite(prefix),
            EnvoyRewrite::Regex(regex) => redirect::PathRewriteSpecifier::RegexRewrite(regex),
        }),
    };
    // Envoy would write a scheme's own port into the Location, where the Gateway API wants none.
    let written = |port: &u16| audience == Audience::Ringway || *port != own_port(redirect.scheme.as_deref());
    Ok(proto::RedirectAction {
        host_redirect: redirect.hostname.clone().unwrap_or_default(),
        port_redirect: redirect.port.filter(written).map_or(0, u32::from),
        response_code: code as i32,
        scheme_rewrite_specifier: redirect
            .scheme
            .clone()
            .map(redirect::SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        ..Default::default()
    })
}

/// Listeners are plain HTTP, so that is the scheme where none is said.
fn own_port(scheme: Option<&str>) -> u16 {
    if scheme == Some("https") { 443 } else { 80 }
}

fn encode_answer(status: u16, body: &str) -> proto::DirectResponseAction {
    let body = (!body.is_empty()).then(|| core::DataSource {
        specifier: Some(data_source::Specifier::InlineString(body.to_owned())),
        ..Default::default()
    });
    proto::DirectResponseAction { status: u32::from(status), body, ..Default::default() }
}

fn encode_forward(
    backends: &[WeightedCluster],
    filters: &Filters<'_>,
    route: &HttpRoute,
) -> Result<proto::RouteAction, FieldError> {
    let mut clusters = Vec::with_capacity(backends.len() + 1);
    for (index, backend) in backends.iter().enumerate() {
        clusters.push(encode_backend(backend).map_err(|e| e.within(&format!("backends[{index}]")))?);
    }
    if backends.iter().all(|backend| backend.weight == 0) {
        clusters.push(weighted_cluster::ClusterWeight {
            name: NO_WEIGHT.to_owned(),
            weight: wire::uint32(1),
            ..Default::default()
        });
    }
    let mut action = proto::RouteAction {
        cluster_not_found_response_code: route_action::ClusterNotFoundResponseCode::InternalServerError
            as i32,
        cluster_specifier: Some(route_action::ClusterSpecifier::WeightedClusters(proto::WeightedCluster {
            clusters,
            ..Default::default()
        })),
        // Envoy's own default would be 15 s; zero is "no limit".
        timeout: Some(wire::duration(route.timeouts.request.unwrap_or_default())),
        // Without retry_on this is a limit of the one try, not a retry.
        retry_policy: route.timeouts.backend_request.map(|limit| proto::RetryPolicy {
            per_try_timeout: Some(wire::duration(limit)),
            ..Default::default()
        }),
        ..Default::default()
    };
    if let Some((hostname, path)) = filters.rewrite {
        action.host_rewrite_specifier =
            hostname.clone().map(route_action::HostRewriteSpecifier::HostRewriteLiteral);
        match path.as_ref().map(|path| rewrite::encode(path, &route.matches.path)).transpose()? {
            Some(EnvoyRewrite::Prefix(prefix)) => action.prefix_rewrite = prefix,
            Some(EnvoyRewrite::Regex(regex)) => action.regex_rewrite = Some(regex),
            None => {}
        }
    }
    Ok(action)
}

fn encode_backend(backend: &WeightedCluster) -> Result<weighted_cluster::ClusterWeight, FieldError> {
    let filters = Filters::sort(&backend.filters)?;
    if filters.redirect.is_some() {
        return Err(FieldError::unsupported("filters", "a redirect of one backend's share"));
    }
    let mut message = weighted_cluster::ClusterWeight {
        name: backend.cluster.clone().unwrap_or_else(|| INVALID_BACKEND.to_owned()),
        weight: wire::uint32(backend.weight),
        ..Default::default()
    };
    if let Some(edit) = filters.request_headers {
        message.request_headers_to_add = encode_added(edit);
        message.request_headers_to_remove = edit.remove.clone();
    }
    if let Some(edit) = filters.response_headers {
        message.response_headers_to_add = encode_added(edit);
        message.response_headers_to_remove = edit.remove.clone();
    }
    match filters.rewrite {
        Some((_, Some(_))) => {
            return Err(FieldError::unsupported("filters", "a path rewrite of one backend's share"));
        }
        Some((Some(hostname), None)) => {
            message.host_rewrite_specifier = Some(
                weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(hostname.clone()),
            );
        }
        Some((None, None)) | None => {}
    }
    Ok(message)
}

pub(super) fn decode(message: proto::Route, matches: HttpMatch) -> Result<HttpRoute, FieldError> {
    let mut filters = Vec::new();
    filters.extend(
        decode_edit(&message.request_headers_to_add, &message.request_headers_to_remove)?
            .map(HttpFilter::RequestHeaders),
    );
    filters.extend(
        decode_edit(&message.response_headers_to_add, &message.response_headers_to_remove)?
            .map(HttpFilter::ResponseHeaders),
    );
    let mut timeouts = Timeouts::default();
    let action = match message.action {
        Some(Action::Route(action)) => {
            filters.extend(decode_rewrite(&action)?);
            timeouts = decode_timeouts(&action)?;
            HttpAction::Forward(decode_backends(action.cluster_specifier)?)
        }
        Some(Action::Redirect(redirect)) => {
            filters.push(HttpFilter::Redirect(decode_redirect(redirect)?));
            HttpAction::Forward(Vec::new())
        }
        Some(Action::DirectResponse(answer)) => decode_answer(answer)?,
        Some(_) => return Err(FieldError::unsupported("action", "this action")),
        None => return Err(FieldError::missing("action")),
    };
    Ok(HttpRoute { name: message.name, matches, filters, action, timeouts })
}

fn decode_edit(
    added: &[core::HeaderValueOption],
    removed: &[String],
) -> Result<Option<HeaderEdit>, FieldError> {
    let mut edit = HeaderEdit { remove: removed.to_vec(), ..Default::default() };
    for option in added {
        let header = option.header.as_ref().ok_or_else(|| FieldError::missing("headers_to_add.header"))?;
        let header = (header.key.clone(), unescape(&header.value));
        match option.append_action() {
            HeaderAppendAction::OverwriteIfExistsOrAdd => edit.set.push(header),
            HeaderAppendAction::AppendIfExistsOrAdd => edit.add.push(header),
            other => {
                return Err(FieldError::unsupported("headers_to_add.append_action", other.as_str_name()));
            }
        }
    }
    Ok((edit != HeaderEdit::default()).then_some(edit))
}

fn decode_rewrite(action: &proto::RouteAction) -> Result<Option<HttpFilter>, FieldError> {
    let hostname = match &action.host_rewrite_specifier {
        None => None,
        Some(route_action::HostRewriteSpecifier::HostRewriteLiteral(name)) => Some(name.clone()),
        Some(_) => return Err(FieldError::unsupported("host_rewrite", "anything but a literal")),
    };
    let path = match &action.regex_rewrite {
        Some(regex) => Some(rewrite::decode_regex(regex)?),
        None if action.prefix_rewrite.is_empty() => None,
        None => Some(rewrite::decode_prefix(&action.prefix_rewrite)),
    };
    let rewrites = hostname.is_some() || path.is_some();
    Ok(rewrites.then_some(HttpFilter::Rewrite { hostname, path }))
}

fn decode_timeouts(action: &proto::RouteAction) -> Result<Timeouts, FieldError> {
    /// What Envoy reads into an absent timeout.
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);
    let request = wire::from_duration(action.timeout.as_ref(), "timeout")?.unwrap_or(DEFAULT_TIMEOUT);
    let retry = action.retry_policy.as_ref();
    if retry.is_some_and(|retry| !retry.retry_on.is_empty()) {
        return Err(FieldError::unsupported("retry_policy.retry_on", "a retry"));
    }
    let per_try = retry.and_then(|retry| retry.per_try_timeout.as_ref());
    let per_try = wire::from_duration(per_try, "retry_policy.per_try_timeout")?;
    let limit = |value: Duration| (!value.is_zero()).then_some(value);
    Ok(Timeouts { request: limit(request), backend_request: per_try.and_then(limit) })
}

fn decode_backends(
    specifier: Option<route_action::ClusterSpecifier>,
) -> Result<Vec<WeightedCluster>, FieldError> {
    match specifier {
        Some(route_action::ClusterSpecifier::Cluster(name)) => {
            Ok(vec![WeightedCluster { cluster: Some(name), weight: 1, filters: Vec::new() }])
        }
        Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) => weighted
            .clusters
            .into_iter()
            .filter(|cluster| cluster.name != NO_WEIGHT)
            .map(decode_backend)
            .collect(),
        Some(_) => Err(FieldError::unsupported("cluster_specifier", "anything but names")),
        None => Err(FieldError::missing("cluster_specifier")),
    }
}

fn decode_backend(message: weighted_cluster::ClusterWeight) -> Result<WeightedCluster, FieldError> {
    use weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let mut filters = Vec::new();
    filters.extend(
        decode_edit(&message.request_headers_to_add, &message.request_headers_to_remove)?
            .map(HttpFilter::RequestHeaders),
    );
    filters.extend(
        decode_edit(&message.response_headers_to_add, &message.response_headers_to_remove)?
            .map(HttpFilter::ResponseHeaders),
    );
    filters.extend(message.host_rewrite_specifier.map(|HostRewriteSpecifier::HostRewriteLiteral(name)| {
        HttpFilter::Rewrite { hostname: Some(name), path: None }
    }));
    let cluster = Some(message.name).filter(|name| name != INVALID_BACKEND);
    let weight = message.weight.map_or(0, |weight| weight.value);
    Ok(WeightedCluster { cluster, weight, filters })
}

fn decode_redirect(message: proto::RedirectAction) -> Result<Redirect, FieldError> {
    use redirect::RedirectResponseCode as Code;
    let status = match message.response_code() {
        Code::MovedPermanently => 301,
        Code::Found => 302,
        Code::SeeOther => 303,
        Code::TemporaryRedirect => 307,
        Code::PermanentRedirect => 308,
    };
    let scheme = match message.scheme_rewrite_specifier {
        None => None,
        Some(redirect::SchemeRewriteSpecifier::SchemeRedirect(scheme)) => Some(scheme),
        Some(redirect::SchemeRewriteSpecifier::HttpsRedirect(https)) => https.then(|| "https".to_owned()),
    };
    let path = match &message.path_rewrite_specifier {
        None => None,
        Some(redirect::PathRewriteSpecifier::PrefixRewrite(prefix)) => Some(rewrite::decode_prefix(prefix)),
        Some(redirect::PathRewriteSpecifier::RegexRewrite(regex)) => Some(rewrite::decode_regex(regex)?),
        Some(_) => return Err(FieldError::unsupported("redirect.path_redirect", "this path rewrite")),
    };
    if message.strip_query {
        return Err(FieldError::unsupported("redirect.strip_query", "dropping the query"));
    }
    let port = u16::try_from(message.port_redirect)
        .map_err(|_| FieldError::out_of_range("redirect.port_redirect", "a port is at most 65535"))?;
    Ok(Redirect {
        scheme,
        hostname: Some(message.host_redirect).filter(|name| !name.is_empty()),
        path,
        port: Some(port).filter(|port| *port != 0),
        status,
    })
}

fn decode_answer(message: proto::DirectResponseAction) -> Result<HttpAction, FieldError> {
    const PATH: &str = "direct_response.status";
    let status = match u16::try_from(message.status) {
        Ok(status) if (200..600).contains(&status) => status,
        _ => return Err(FieldError::out_of_range(PATH, "must be 200 to 599")),
    };
    let body = match message.body.and_then(|body| body.specifier) {
        None => String::new(),
        Some(data_source::Specifier::InlineString(body)) => body,
        Some(_) => return Err(FieldError::unsupported("direct_response.body", "anything but inline_string")),
    };
    Ok(HttpAction::Respond { status, body })
}
