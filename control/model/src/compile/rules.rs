//! Rules of an HTTPRoute or GRPCRoute to routes of the table, each with its rank.

use super::precedence::{self, Rank};
use super::{Draft, referrer};
use crate::attach::{RouteSpec, RouteView};
use crate::defaults::REDIRECT_STATUS;
use crate::route::{
    GrpcMethod, GrpcRuleMatch, HeaderModifier, HeaderValue, HttpRuleMatch, MatchType, NamedMatch, ParentRef,
    PathModifier, PathModifierType, PathType, RouteFilter, RulePath, RuleTimeouts, Scheme,
};
use crate::table::{
    HeaderEdit, HttpAction, HttpFilter, HttpMatch, HttpRoute, PathMatch, PathRewrite, Redirect, Timeouts,
    ValueMatch, ValuePattern, WeightedCluster,
};

/// What makes a request gRPC (gRPC over HTTP/2, section Requests): others must not match a GRPCRoute.
const GRPC_CONTENT_TYPE: &str = r"application/grpc([+;].*)?";

/// All routes of `route` as they are below one parent, whose port is `port`.
pub(super) fn routes(
    draft: &mut Draft<'_>,
    route: &RouteView<'_>,
    parent: &ParentRef,
    port: u16,
) -> Vec<(Rank, HttpRoute)> {
    match route.spec {
        RouteSpec::Http(spec) => {
            let mut routes = Vec::new();
            for (index, rule) in spec.rules.iter().enumerate() {
                let backends = draft.backends(route, parent, &rule.backend_refs);
                let filters: Vec<HttpFilter> =
                    rule.filters.iter().filter_map(|one| filter(one, port)).collect();
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
                let backends = draft.backends(route, parent, &rule.backend_refs);
                let filters: Vec<HttpFilter> =
                    rule.filters.iter().filter_map(|one| filter(one, port)).collect();
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
    let limit =
        |span: Option<crate::duration::Span>| span.map(|span| span.duration()).filter(|time| !time.is_zero());
    Timeouts { request: limit(timeouts.request), backend_request: limit(timeouts.backend_request) }
}

/// Filters that Ringway does not carry out never come here: their routes are not attached.
fn filter(filter: &RouteFilter, port: u16) -> Option<HttpFilter> {
    let Some(redirect) = &filter.request_redirect else { return modifier(filter) };
    Some(HttpFilter::Redirect(Redirect {
        scheme: redirect.scheme.map(|scheme| scheme_name(scheme).to_owned()),
        hostname: redirect.hostname.clone(),
        path: redirect.path.as_ref().and_then(path_rewrite),
        port: Some(redirect_port(redirect.port, redirect.scheme, port)),
        status: redirect.status_code.unwrap_or(REDIRECT_STATUS),
    }))
}

/// The filters that may stand beside a backend too.
pub(super) fn modifier(filter: &RouteFilter) -> Option<HttpFilter> {
    if let Some(edits) = &filter.request_header_modifier {
        return Some(HttpFilter::RequestHeaders(edit(edits)));
    }
    if let Some(edits) = &filter.response_header_modifier {
        return Some(HttpFilter::ResponseHeaders(edit(edits)));
    }
    let rewrite = filter.url_rewrite.as_ref()?;
    Some(HttpFilter::Rewrite {
        hostname: rewrite.hostname.clone(),
        path: rewrite.path.as_ref().and_then(path_rewrite),
    })
}

fn edit(modifier: &HeaderModifier) -> HeaderEdit {
    let pairs = |list: &[HeaderValue]| {
        list.iter().map(|header| (header.name.to_ascii_lowercase(), header.value.clone())).collect()
    };
    HeaderEdit {
        set: pairs(&modifier.set),
        add: pairs(&modifier.add),
        remove: modifier.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}

fn path_rewrite(modifier: &PathModifier) -> Option<PathRewrite> {
    match modifier.kind {
        PathModifierType::ReplaceFullPath => modifier.replace_full_path.clone().map(PathRewrite::Full),
        PathModifierType::ReplacePrefixMatch => {
            modifier.replace_prefix_match.clone().map(PathRewrite::Prefix)
        }
    }
}

fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

/// HTTPRequestRedirectFilter.port: what is given; else the scheme's own; else the listener's.
fn redirect_port(given: Option<u16>, scheme: Option<Scheme>, listener: u16) -> u16 {
    given.unwrap_or(match scheme {
        Some(Scheme::Http) => 80,
        Some(Scheme::Https) => 443,
        None => listener,
    })
}

/// The problems of the route's backends below this parent, in their order.
pub(crate) fn unresolved(
    resources: &crate::resources::Resources,
    route: &RouteView<'_>,
    parent: &ParentRef,
) -> Vec<(String, crate::reason::Refusal)> {
    let referrer = referrer(route, parent);
    let backends = route.spec.backends().into_iter();
    backends
        .filter_map(|(path, backend)| {
            crate::backend::resolve(resources, referrer, backend).err().map(|refusal| (path, refusal))
        })
        .collect()
}
