//! Which of several matching routes is it: the Gateway API's order, as a key that sorts the first before the rest.

use std::cmp::Reverse;

use crate::attach::RouteView;
use crate::route::{GrpcRuleMatch, HttpRuleMatch, MatchType, PathType, RulePath};

/// HTTPRouteRule: an exact path, then the longest prefix, then a method, then the most headers, then the most query
/// parameters. A regular expression's place is the implementation's choice: between exact and prefix, as in Envoy
/// Gateway. GRPCRouteRule: the longest service, then the longest method, then the most headers; regular expressions
/// after exact names. The two kinds never meet in one virtual host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Specificity {
    path: u8,
    length: usize,
    method: usize,
    headers: usize,
    query: usize,
}

/// Ties go to the older route, then by namespace and name, then to the earlier rule and match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    specificity: Reverse<Specificity>,
    created: Option<String>,
    namespace: String,
    name: String,
    rule: usize,
    entry: usize,
}

impl Rank {
    pub(super) fn new(specificity: Specificity, route: &RouteView<'_>, rule: usize, entry: usize) -> Rank {
        Rank {
            specificity: Reverse(specificity),
            created: route.metadata.creation_timestamp.clone(),
            namespace: route.key.namespace.clone(),
            name: route.key.name.clone(),
            rule,
            entry,
        }
    }
}

pub(super) fn of_http(entry: &HttpRuleMatch, path: &RulePath) -> Specificity {
    let kind = match path.kind {
        PathType::Exact => 2,
        PathType::RegularExpression => 1,
        PathType::PathPrefix => 0,
    };
    Specificity {
        path: kind,
        length: path.value.len(),
        method: usize::from(entry.method.is_some()),
        headers: entry.headers.len(),
        query: entry.query_params.len(),
    }
}

pub(super) fn of_grpc(entry: &GrpcRuleMatch) -> Specificity {
    let length = |text: Option<&String>| text.map_or(0, String::len);
    let method = entry.method.as_ref();
    let exact = method.is_some_and(|method| method.kind == MatchType::Exact);
    Specificity {
        path: u8::from(exact),
        length: length(method.and_then(|method| method.service.as_ref())),
        method: length(method.and_then(|method| method.method.as_ref())),
        headers: entry.headers.len(),
        query: 0,
    }
}
