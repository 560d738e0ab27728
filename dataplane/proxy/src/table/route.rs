//! One HTTP route, compiled: whether a request matches, and what then happens to it.

use std::borrow::Cow;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderName, Method, StatusCode};
use model::table::{HttpAction, HttpMatch, HttpRoute, PathMatch, Timeouts, ValueMatch, ValuePattern};
use regex::{Regex, RegexBuilder};

use super::filter::Filters;

/// Memory that one compiled expression may take: Envoy warns at programs of 100 instructions; this is generous.
const REGEX_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct Route {
    pub name: String,
    path: PathRule,
    method: Option<Method>,
    headers: Vec<(HeaderName, Pattern)>,
    query: Vec<(String, Pattern)>,
    pub filters: Filters,
    pub action: Action,
    pub timeouts: Timeouts,
}

#[derive(Debug)]
pub(crate) enum Action {
    Forward(Vec<Backend>),
    Respond { status: StatusCode, body: Bytes },
}

#[derive(Debug)]
pub(crate) struct Backend {
    /// `None`: an invalid reference.
    pub cluster: Option<String>,
    pub weight: u32,
    pub filters: Filters,
}

/// Which field of a route cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error("expression {expression:?}: {error}")]
    Regex { expression: String, error: String },
    #[error("{0:?} is not a method")]
    Method(String),
    #[error("{0:?} is not a header name")]
    HeaderName(String),
    #[error("{0:?} is not a header value")]
    HeaderValue(String),
    #[error("header {0:?} frames the message and cannot be edited")]
    FramingHeader(String),
    #[error("{0:?} is not a host name")]
    Hostname(String),
    #[error("{0:?} is not a path")]
    Path(String),
    #[error("replacing a prefix needs a prefix match")]
    PrefixWithoutMatch,
    #[error("{0} is not a status for this action")]
    Status(u16),
    #[error("a redirect cannot stand at a backend")]
    RedirectAtBackend,
}

impl Route {
    pub fn compile(from: &HttpRoute) -> Result<Self, RouteError> {
        let HttpMatch { path, method, headers, query } = &from.matches;
        Ok(Self {
            name: from.name.clone(),
            path: PathRule::compile(path)?,
            method: method.as_deref().map(parse_method).transpose()?,
            headers: headers.iter().map(compile_header).collect::<Result<_, _>>()?,
            query: query
                .iter()
                .map(|rule| Ok((rule.name.clone(), Pattern::compile(&rule.value)?)))
                .collect::<Result<_, RouteError>>()?,
            filters: Filters::compile(&from.filters, path)?,
            action: Action::compile(&from.action, path)?,
            timeouts: from.timeouts,
        })
    }

    pub fn matches(&self, request: &Parts) -> bool {
        self.path.matches(request.uri.path())
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.headers.iter().all(|(name, pattern)| matches_header(request, name, pattern))
            && self.query.iter().all(|(name, pattern)| matches_query(request.uri.query(), name, pattern))
    }
}

impl Action {
    fn compile(from: &HttpAction, path: &PathMatch) -> Result<Self, RouteError> {
        match from {
            HttpAction::Respond { status, body } => {
                let code = StatusCode::from_u16(*status).map_err(|_| RouteError::Status(*status))?;
                if code.is_informational() {
                    return Err(RouteError::Status(*status));
                }
                Ok(Self::Respond { status: code, body: Bytes::from(body.clone()) })
            }
            HttpAction::Forward(backends) => {
                let compile = |backend: &model::table::WeightedCluster| {
                    let filters = Filters::compile(&backend.filters, path)?;
                    if filters.redirect.is_some() {
                        return Err(RouteError::RedirectAtBackend);
                    }
                    Ok(Backend { cluster: backend.cluster.clone(), weight: backend.weight, filters })
                };
                Ok(Self::Forward(backends.iter().map(compile).collect::<Result<_, _>>()?))
            }
        }
    }
}

#[derive(Debug)]
enum PathRule {
    Exact(String),
    /// Without its trailing slash; empty matches all.
    Prefix(String),
    Regex(Regex),
}

impl PathRule {
    fn compile(from: &PathMatch) -> Result<Self, RouteError> {
        Ok(match from {
            PathMatch::Exact(path) => Self::Exact(path.clone()),
            PathMatch::Prefix(prefix) => Self::Prefix(prefix.trim_end_matches('/').into()),
            PathMatch::Regex(expression) => Self::Regex(compile_regex(expression)?),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => match path.strip_prefix(prefix.as_str()) {
                Some(rest) => rest.is_empty() || rest.starts_with('/') || prefix.is_empty(),
                None => false,
            },
            Self::Regex(regex) => regex.is_match(path),
        }
    }
}

#[derive(Debug)]
enum Pattern {
    Exact(String),
    Regex(Regex),
}

impl Pattern {
    fn compile(from: &ValuePattern) -> Result<Self, RouteError> {
        Ok(match from {
            ValuePattern::Exact(value) => Self::Exact(value.clone()),
            ValuePattern::Regex(expression) => Self::Regex(compile_regex(expression)?),
        })
    }

    fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|value| regex.is_match(value)),
        }
    }
}

/// The whole text must match, as the table says.
fn compile_regex(expression: &str) -> Result<Regex, RouteError> {
    RegexBuilder::new(&format!("^(?:{expression})$"))
        .size_limit(REGEX_BYTES)
        .build()
        .map_err(|error| RouteError::Regex { expression: expression.into(), error: error.to_string() })
}

fn parse_method(name: &str) -> Result<Method, RouteError> {
    Method::from_bytes(name.as_bytes()).map_err(|_| RouteError::Method(name.into()))
}

fn compile_header(rule: &ValueMatch) -> Result<(HeaderName, Pattern), RouteError> {
    let name = HeaderName::from_bytes(rule.name.as_bytes())
        .map_err(|_| RouteError::HeaderName(rule.name.clone()))?;
    Ok((name, Pattern::compile(&rule.value)?))
}

/// A field that stands several times is its values joined by commas (RFC 9110, section 5.3).
fn matches_header(request: &Parts, name: &HeaderName, pattern: &Pattern) -> bool {
    let mut values = request.headers.get_all(name).iter();
    let Some(first) = values.next() else { return false };
    let Some(second) = values.next() else { return pattern.matches(first.as_bytes()) };
    let mut joined = first.as_bytes().to_vec();
    for value in std::iter::once(second).chain(values) {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    pattern.matches(&joined)
}

/// The first parameter of that name decides (Gateway API, `HTTPQueryParamMatch`).
fn matches_query(query: Option<&str>, name: &str, pattern: &Pattern) -> bool {
    let pairs = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    for (key, value) in pairs {
        if percent_decode(key).as_ref() == name.as_bytes() {
            return pattern.matches(&percent_decode(value));
        }
    }
    false
}

/// RFC 3986, section 2.1. A `%` that starts no escape stands for itself.
fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn route(matches: HttpMatch) -> Route {
        Route::compile(&HttpRoute {
            name: "r".into(),
            matches,
            filters: vec![],
            action: HttpAction::Forward(vec![]),
            timeouts: Timeouts::default(),
        })
        .unwrap()
    }

    fn path(path: PathMatch) -> HttpMatch {
        HttpMatch { path, method: None, headers: vec![], query: vec![] }
    }

    fn request(uri: &str) -> Parts {
        Request::builder().uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_prefix_matches_whole_elements() {
        for prefix in ["/a", "/a/"] {
            let route = route(path(PathMatch::Prefix(prefix.into())));
            assert!(route.matches(&request("/a")));
            assert!(route.matches(&request("/a/")));
            assert!(route.matches(&request("/a/b?q")));
            assert!(!route.matches(&request("/ab")));
            assert!(!route.matches(&request("/")));
        }
        assert!(route(path(PathMatch::Prefix("/".into()))).matches(&request("/any/thing")));
    }

    #[test]
    fn an_exact_path_ignores_the_query_and_nothing_else() {
        let route = route(path(PathMatch::Exact("/a".into())));
        assert!(route.matches(&request("/a?x=1")));
        assert!(!route.matches(&request("/a/")));
        assert!(!route.matches(&request("/A")));
    }

    #[test]
    fn an_expression_must_match_the_whole_path() {
        let route = route(path(PathMatch::Regex("/v[0-9]+|/w".into())));
        assert!(route.matches(&request("/v12")));
        assert!(route.matches(&request("/w")));
        assert!(!route.matches(&request("/v12/x")));
        assert!(!route.matches(&request("/x/w")));
    }

    #[test]
    fn method_headers_and_query_all_must_match() {
        let header = |name: &str, value| ValueMatch { name: name.into(), value };
        let route = route(HttpMatch {
            path: PathMatch::Prefix("/".into()),
            method: Some("POST".into()),
            headers: vec![
                header("x-a", ValuePattern::Exact("1,2".into())),
                header("x-b", ValuePattern::Regex("b.*".into())),
            ],
            query: vec![header("Q", ValuePattern::Exact("a b".into()))],
        });
        let build = |method: &str, uri: &str| {
            let builder = Request::builder().method(method).uri(uri);
            builder
                .header("x-a", "1")
                .header("x-a", "2")
                .header("x-b", "bee")
                .body(())
                .unwrap()
                .into_parts()
                .0
        };
        assert!(route.matches(&build("POST", "/?Q=a%20b&Q=other")));
        assert!(!route.matches(&build("POST", "/?Q=other&Q=a%20b")), "the first parameter decides");
        assert!(!route.matches(&build("POST", "/?q=a%20b")), "names of parameters are case-sensitive");
        assert!(!route.matches(&build("GET", "/?Q=a%20b")));
        let mut without = build("POST", "/?Q=a%20b");
        without.headers.remove("x-b");
        assert!(!route.matches(&without));
    }

    #[test]
    fn a_percent_sign_that_escapes_nothing_stands_for_itself() {
        assert_eq!(percent_decode("100%25%zz%").as_ref(), b"100%%zz%");
    }
}
