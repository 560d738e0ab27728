//! Filters of HTTPRoute and GRPCRoute.

use super::names;
use super::report::Report;
use crate::route::{
    FilterType, HeaderModifier, HttpRuleMatch, PathModifier, PathModifierType, PathType, RequestRedirect,
    RouteFilter,
};

/// The Gateway API's HTTPHeaderFilter.
const MOST_EDITS: usize = 16;

/// RFC 9110, section 15.4, as far as HTTPRouteFilter lists them.
const REDIRECT_STATUSES: [u16; 5] = [301, 302, 303, 307, 308];

/// Headers that say where a message ends or belong to one connection (RFC 9110, section 7.6.1, RFC 9112, section 6):
/// a route that changed one would make two readers of a message disagree.
const FRAMING_HEADERS: [&str; 7] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// Whether the rule has the one prefix match that ReplacePrefixMatch replaces. No match, or one without a path, is
/// the prefix `/`.
pub(super) fn one_prefix_match(matches: &[HttpRuleMatch]) -> bool {
    match matches {
        [] => true,
        [only] => only.path.as_ref().is_none_or(|path| path.kind == PathType::PathPrefix),
        _ => false,
    }
}

pub(super) fn http(report: &mut Report, list: &str, filters: &[RouteFilter], prefix: bool) {
    for (index, filter) in filters.iter().enumerate() {
        one(report, &format!("{list}[{index}]"), filter, prefix);
    }
    repeated(report, list, filters);
    let has = |kind| filters.iter().any(|filter| filter.kind == kind);
    report.check_when(
        !(has(FilterType::RequestRedirect) && has(FilterType::UrlRewrite)),
        list,
        "RequestRedirect and URLRewrite exclude each other",
    );
}

pub(super) fn grpc(report: &mut Report, list: &str, filters: &[RouteFilter]) {
    for (index, filter) in filters.iter().enumerate() {
        let allowed = matches!(
            filter.kind,
            FilterType::RequestHeaderModifier
                | FilterType::ResponseHeaderModifier
                | FilterType::RequestMirror
                | FilterType::ExtensionRef
        );
        let problem = format!(
            "{} is no filter of GRPCRoute; expected RequestHeaderModifier or ResponseHeaderModifier",
            filter.kind.name()
        );
        report.check_when(allowed, format!("{list}[{index}].type"), problem);
        one(report, &format!("{list}[{index}]"), filter, false);
    }
    repeated(report, list, filters);
}

fn repeated(report: &mut Report, list: &str, filters: &[RouteFilter]) {
    for (index, filter) in filters.iter().enumerate() {
        let repeatable = matches!(filter.kind, FilterType::RequestMirror | FilterType::ExtensionRef);
        let again = filters[..index].iter().any(|earlier| earlier.kind == filter.kind);
        let problem = format!("{} cannot be repeated", filter.kind.name());
        report.check_when(repeatable || !again, format!("{list}[{index}].type"), problem);
    }
}

fn one(report: &mut Report, at: &str, filter: &RouteFilter, prefix: bool) {
    let members = [
        (
            FilterType::RequestHeaderModifier,
            "requestHeaderModifier",
            filter.request_header_modifier.is_some(),
        ),
        (
            FilterType::ResponseHeaderModifier,
            "responseHeaderModifier",
            filter.response_header_modifier.is_some(),
        ),
        (FilterType::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
        (FilterType::UrlRewrite, "urlRewrite", filter.url_rewrite.is_some()),
        (FilterType::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        (FilterType::Cors, "cors", filter.cors.is_some()),
        (FilterType::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
        (FilterType::ExternalAuth, "externalAuth", filter.external_auth.is_some()),
    ];
    for (kind, field, set) in members {
        let name = filter.kind.name();
        if kind == filter.kind {
            report.check_when(set, format!("{at}.{field}"), format!("is missing; type: {name} needs it"));
        } else {
            report.check_when(!set, format!("{at}.{field}"), format!("must not be set with type: {name}"));
        }
    }
    if let Some(modifier) = &filter.request_header_modifier {
        edits(report, &format!("{at}.requestHeaderModifier"), modifier);
    }
    if let Some(modifier) = &filter.response_header_modifier {
        edits(report, &format!("{at}.responseHeaderModifier"), modifier);
    }
    if let Some(redirect) = &filter.request_redirect {
        self::redirect(report, &format!("{at}.requestRedirect"), redirect, prefix);
    }
    if let Some(rewrite) = &filter.url_rewrite {
        hostname_and_path(report, &format!("{at}.urlRewrite"), &rewrite.hostname, &rewrite.path, prefix);
    }
}

fn edits(report: &mut Report, at: &str, modifier: &HeaderModifier) {
    for (field, list) in [("set", &modifier.set), ("add", &modifier.add)] {
        let at = format!("{at}.{field}");
        report.at_most(MOST_EDITS, list.len(), &at);
        for (index, header) in list.iter().enumerate() {
            header_name(report, format!("{at}[{index}].name"), &header.name);
            report.check(format!("{at}[{index}].value"), names::header_value(&header.value));
        }
        report.unique(list.iter().map(|header| header.name.to_ascii_lowercase()), &at, "name");
    }
    let at = format!("{at}.remove");
    report.at_most(MOST_EDITS, modifier.remove.len(), &at);
    for (index, name) in modifier.remove.iter().enumerate() {
        header_name(report, format!("{at}[{index}]"), name);
    }
    report.unique(modifier.remove.iter().map(|name| name.to_ascii_lowercase()), &at, "name");
}

fn header_name(report: &mut Report, at: String, name: &str) {
    report.check(&at, names::token(name));
    let framing = FRAMING_HEADERS.contains(&name.to_ascii_lowercase().as_str());
    report.check_when(!framing, at, format!("{name} frames the message; a route must not change it"));
}

fn redirect(report: &mut Report, at: &str, redirect: &RequestRedirect, prefix: bool) {
    hostname_and_path(report, at, &redirect.hostname, &redirect.path, prefix);
    if let Some(port) = redirect.port {
        report.port(port, format!("{at}.port"));
    }
    let good = redirect.status_code.is_none_or(|status| REDIRECT_STATUSES.contains(&status));
    report.check_when(good, format!("{at}.statusCode"), "expected 301, 302, 303, 307 or 308");
}

fn hostname_and_path(
    report: &mut Report,
    at: &str,
    hostname: &Option<String>,
    path: &Option<PathModifier>,
    prefix: bool,
) {
    if let Some(hostname) = hostname {
        report.check(format!("{at}.hostname"), names::precise_hostname(hostname));
    }
    if let Some(path) = path {
        path_modifier(report, &format!("{at}.path"), path, prefix);
    }
}

fn path_modifier(report: &mut Report, at: &str, modifier: &PathModifier, prefix: bool) {
    let full = (format!("{at}.replaceFullPath"), &modifier.replace_full_path);
    let part = (format!("{at}.replacePrefixMatch"), &modifier.replace_prefix_match);
    let (wanted, other) = match modifier.kind {
        PathModifierType::ReplaceFullPath => (&full, &part),
        PathModifierType::ReplacePrefixMatch => (&part, &full),
    };
    report.check_when(
        wanted.1.is_some(),
        &wanted.0,
        format!("is missing; type: {:?} needs it", modifier.kind),
    );
    report.check_when(other.1.is_none(), &other.0, format!("must not be set with type: {:?}", modifier.kind));
    if let Some(path) = full.1 {
        report.check(full.0, names::path(path));
    }
    if let Some(path) = part.1 {
        report.check(&part.0, names::replacement_prefix(path));
        report.check_when(
            prefix,
            part.0,
            "the rule must have exactly one match, and its path of type PathPrefix",
        );
    }
}
