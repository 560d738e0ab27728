//! Matches and timeouts of one rule.

use super::names;
use super::report::Report;
use crate::pattern;
use crate::route::{
    GrpcMethod, GrpcRuleMatch, HttpRuleMatch, MatchType, NamedMatch, PathType, RulePath, RuleTimeouts,
};

/// Bounds of the Gateway API's CRDs.
const MOST_NAMED_MATCHES: usize = 16;
const MOST_METHOD_BYTES: usize = 1024;

pub(super) fn http_match(report: &mut Report, at: &str, entry: &HttpRuleMatch) {
    if let Some(path) = &entry.path {
        self::path(report, &format!("{at}.path.value"), path);
    }
    named(report, &format!("{at}.headers"), &entry.headers, names::MOST_HEADER_VALUE_BYTES);
    // RFC 9110, section 5.1: header names differ in case alone are one name.
    let headers = entry.headers.iter().map(|header| header.name.to_ascii_lowercase());
    report.unique(headers, &format!("{at}.headers"), "name");
    named(report, &format!("{at}.queryParams"), &entry.query_params, names::MOST_PATH_BYTES);
    let parameters = entry.query_params.iter().map(|parameter| &parameter.name);
    report.unique(parameters, &format!("{at}.queryParams"), "name");
}

fn path(report: &mut Report, at: &str, path: &RulePath) {
    match path.kind {
        PathType::Exact | PathType::PathPrefix => report.check(at, names::match_path(&path.value)),
        PathType::RegularExpression => {
            let length = path.value.len();
            report.check_when((1..=names::MOST_PATH_BYTES).contains(&length), at, "expected 1 to 1024 bytes");
            report.check(at, pattern::whole(&path.value).map(drop));
        }
    }
}

fn named(report: &mut Report, list: &str, matches: &[NamedMatch], most_bytes: usize) {
    report.at_most(MOST_NAMED_MATCHES, matches.len(), list);
    for (index, entry) in matches.iter().enumerate() {
        report.check(format!("{list}[{index}].name"), names::token(&entry.name));
        let at = format!("{list}[{index}].value");
        let good = (1..=most_bytes).contains(&entry.value.len());
        report.check_when(good, &at, format!("expected 1 to {most_bytes} bytes"));
        if entry.kind == MatchType::RegularExpression {
            report.check(at, pattern::whole(&entry.value).map(drop));
        }
    }
}

pub(super) fn grpc_match(report: &mut Report, at: &str, entry: &GrpcRuleMatch) {
    if let Some(method) = &entry.method {
        grpc_method(report, &format!("{at}.method"), method);
    }
    named(report, &format!("{at}.headers"), &entry.headers, names::MOST_HEADER_VALUE_BYTES);
    let headers = entry.headers.iter().map(|header| header.name.to_ascii_lowercase());
    report.unique(headers, &format!("{at}.headers"), "name");
}

fn grpc_method(report: &mut Report, at: &str, method: &GrpcMethod) {
    let said = method.service.is_some() || method.method.is_some();
    report.check_when(said, at, "set service, method or both");
    for (field, value, dotted) in [("service", &method.service, true), ("method", &method.method, false)] {
        let Some(value) = value else { continue };
        let at = format!("{at}.{field}");
        let good = (1..=MOST_METHOD_BYTES).contains(&value.len());
        report.check_when(good, &at, format!("expected 1 to {MOST_METHOD_BYTES} bytes"));
        match method.kind {
            MatchType::RegularExpression => report.check(at, pattern::whole(value).map(drop)),
            MatchType::Exact if dotted => {
                let name = value.strip_prefix('.').unwrap_or(value);
                let good = name.split('.').all(is_identifier);
                report.check_when(
                    good,
                    at,
                    format!("{value:?}: expected a service such as com.example.User"),
                );
            }
            MatchType::Exact => {
                report.check_when(
                    is_identifier(value),
                    at,
                    format!("{value:?}: expected a method such as Login"),
                );
            }
        }
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A request of no limit (0s) may have backend requests of any.
pub(super) fn timeouts(report: &mut Report, at: &str, timeouts: &RuleTimeouts) {
    let (Some(request), Some(backend)) = (timeouts.request, timeouts.backend_request) else { return };
    report.check_when(
        backend <= request || request.duration().is_zero(),
        format!("{at}.backendRequest"),
        format!("{backend} must not be longer than the request's {request}"),
    );
}
