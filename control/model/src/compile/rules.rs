//! Rules of an HTTPRoute or GRPCRoute to routes of the table, each with its rank.

use super::draft::Draft;
use super::filters;
use super::precedence::{self, Rank};
use crate::attach::{Here, RouteSpec, RouteView};
use crate::duration::Span;
use crate::route::{
    GrpcMethod, GrpcRuleMatch, HttpRuleMatch, MatchType, NamedMatch, PathType, RulePath, RuleTimeouts,
};
use crate::table::{
    HttpAction, HttpFilter, HttpMatch, HttpRoute, PathMatch, Timeouts, ValueMatch, ValuePattern,
    WeightedCluster,
};

/// What makes a request gRPC (gRPC over HTTP/2, section Requests): others must not match a GRPCRoute.
const GRPC_CONTENT_TYPE: &str = r"application/grpc([+;].*)?";

/// All routes of a route as they are at one place, whose port is `port`.
pub(super) fn routes(draft: &mut Draft<'_>, here: Here<'_>, port: u16) -> Vec<(Rank, HttpRoute)> {
    let route = here.route;
    match route.spec {
        RouteSpec::Http(spec) => {
            let mut routes = Vec::new();
            for (index, rule) in spec.rules.iter().enumerate() {
                let backends = draft.backends(here, &rule.backend_refs);
                let filters: Vec<HttpFilter> =
                    rule.filters.iter().filter_map(|one| filters::filter(one, port)).collect();
                let parts = Parts {
                    action: action(&filters, backends),
                    filters,
                    timeouts: timeouts(rule.timeouts.as_ref()),
                };
                routes.extend(parts.http(route, index, &rule.matches));
            }
            routes
        }
        RouteSpec::Grpc(spec) => {
            let mut routes = Vec::new();
            for (index, rule) in spec.rules.iter().enumerate() {
                let backends = draft.backends(here, &rule.backend_refs);
                let filters: Vec<HttpFilter> =
                    rule.filters.iter().filter_map(|one| filters::filter(one, port)).collect();
                let parts =
                    Parts { action: action(&filters, backends), filters, timeouts: Timeouts::default() };
                routes.extend(parts.grpc(route, index, &rule.matches));
            }
            routes
        }
        RouteSpec::L4(_) => Vec::new(),
    }
}

/// What all matches of one rule share.
struct Parts {
    filters: Vec<HttpFilter>,
    action: HttpAction,
    timeouts: Timeouts,
}

impl Parts {
    fn http(&self, route: &RouteView<'_>, rule: usize, matches: &[HttpRuleMatch]) -> Vec<(Rank, HttpRoute)> {
        let all = [HttpRuleMatch::default()];
        let matches = if matches.is_empty() { &all } else { matches };
        let each = matches.iter().enumerate().map(|(index, entry)| {
            let path = without_final_slash(entry.path.clone().unwrap_or_default());
            let rank = Rank::new(precedence::of_http(entry, &path), route, rule, index);
            (rank, self.route(route, rule, index, http_match(entry, path)))
        });
        each.collect()
    }

    fn grpc(&self, route: &RouteView<'_>, rule: usize, matches: &[GrpcRuleMatch]) -> Vec<(Rank, HttpRoute)> {
        let all = [GrpcRuleMatch::default()];
        let matches = if matches.is_empty() { &all } else { matches };
        let each = matches.iter().enumerate().map(|(index, entry)| {
            let rank = Rank::new(precedence::of_grpc(entry), route, rule, index);
            (rank, self.route(route, rule, index, grpc_match(entry)))
        });
        each.collect()
    }

    fn route(&self, route: &RouteView<'_>, rule: usize, entry: usize, matches: HttpMatch) -> HttpRoute {
        HttpRoute {
            name: format!("{}/{rule}/{entry}", route.key.path()),
            matches,
            filters: self.filters.clone(),
            action: self.action.clone(),
            timeouts: self.timeouts,
        }
    }
}

/// HTTPPathMatch: a prefix matches whole elements, so a slash at its end says nothing.
fn without_final_slash(mut path: RulePath) -> RulePath {
    if path.kind == PathType::PathPrefix && path.value.len() > 1 && path.value.ends_with('/') {
        path.value.pop();
    }
    path
}

fn http_match(entry: &HttpRuleMatch, path: RulePath) -> HttpMatch {
    HttpMatch {
        path: match path.kind {
            PathType::Exact => PathMatch::Exact(path.value),
            PathType::PathPrefix => PathMatch::Prefix(path.value),
            PathType::RegularExpression => PathMatch::Regex(path.value),
        },
        method: entry.method.map(|method| method.as_str().to_owned()),
        headers: headers(&entry.headers),
        query: entry.query_params.iter().map(|entry| value_match(entry, entry.name.clone())).collect(),
    }
}

fn headers(matches: &[NamedMatch]) -> Vec<ValueMatch> {
    matches.iter().map(|entry| value_match(entry, entry.name.to_ascii_lowercase())).collect()
}

fn value_match(entry: &NamedMatch, name: String) -> ValueMatch {
    let value = match entry.kind {
        MatchType::Exact => ValuePattern::Exact(entry.value.clone()),
        MatchType::RegularExpression => ValuePattern::Regex(entry.value.clone()),
    };
    ValueMatch { name, value }
}

/// A gRPC call is an HTTP/2 request to `/service/method`. Its method is always POST, which therefore is not matched:
/// gRPC's own xDS clients have no `:method` to match.
fn grpc_match(entry: &GrpcRuleMatch) -> HttpMatch {
    let mut all = headers(&entry.headers);
    let value = ValuePattern::Regex(GRPC_CONTENT_TYPE.to_owned());
    all.push(ValueMatch { name: "content-type".to_owned(), value });
    let path = entry.method.as_ref().map_or_else(|| PathMatch::Prefix("/".to_owned()), grpc_path);
    HttpMatch { path, method: None, headers: all, query: Vec::new() }
}

fn grpc_path(method: &GrpcMethod) -> PathMatch {
    let exact = method.kind == MatchType::Exact;
    // A service's name may be written fully qualified, with a dot before it; on the wire it never is.
    let service =
        method.service.as_deref().map(|name| if exact { name.trim_start_matches('.') } else { name });
    match (service, method.method.as_deref()) {
        (None, None) => PathMatch::Prefix("/".to_owned()),
        (Some(service), Some(method)) if exact => PathMatch::Exact(format!("/{service}/{method}")),
        (Some(service), None) if exact => PathMatch::Prefix(format!("/{service}")),
        (service, name) => {
            let name = name.map(|name| if exact { regex::escape(name) } else { name.to_owned() });
            let part =
                |text: Option<&str>| text.map_or_else(|| "[^/]+".to_owned(), |text| format!("(?:{text})"));
            PathMatch::Regex(format!("/{}/{}", part(service), part(name.as_deref())))
        }
    }
}

/// HTTPRouteRule: a rule without backends answers 500. A redirect answers before that.
fn action(filters: &[HttpFilter], backends: Vec<WeightedCluster>) -> HttpAction {
    let redirect = filters.iter().find_map(|filter| match filter {
        HttpFilter::Redirect(redirect) => Some(redirect.status),
        _ => None,
    });
    match redirect {
        Some(status) => HttpAction::Respond { status, body: String::new() },
        None if backends.is_empty() => {
            HttpAction::Respond { status: 500, body: "the route's rule has no backend\n".to_owned() }
        }
        None => HttpAction::Forward(backends),
    }
}

/// 0s is no limit (HTTPRouteTimeouts).
fn timeouts(timeouts: Option<&RuleTimeouts>) -> Timeouts {
    let Some(timeouts) = timeouts else { return Timeouts::default() };
    let limit = |span: Option<Span>| span.map(|span| span.duration()).filter(|time| !time.is_zero());
    Timeouts { request: limit(timeouts.request), backend_request: limit(timeouts.backend_request) }
}
