//! Filters, compiled: header edits, rewrites of host and path, redirects.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{StatusCode, Uri};
use model::table::{self, HeaderEdit, HttpFilter, PathMatch, PathRewrite};

use super::route::RouteError;

/// What a route or backend does to a request and its response.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    pub request: Vec<Edit>,
    pub response: Vec<Edit>,
    pub hostname: Option<Hostname>,
    pub path: Option<PathEdit>,
    pub redirect: Option<Redirect>,
}

impl Filters {
    pub fn compile(from: &[HttpFilter], path: &PathMatch) -> Result<Self, RouteError> {
        let mut filters = Self::default();
        for filter in from {
            match filter {
                HttpFilter::RequestHeaders(edit) => {
                    if let Some(edit) = Edit::compile(edit, Some(&mut filters.hostname))? {
                        filters.request.push(edit);
                    }
                }
                HttpFilter::ResponseHeaders(edit) => {
                    filters.response.extend(Edit::compile(edit, None)?);
                }
                HttpFilter::Rewrite { hostname, path: rewrite } => {
                    if let Some(hostname) = hostname {
                        filters.hostname = Some(Hostname::compile(hostname)?);
                    }
                    if let Some(rewrite) = rewrite {
                        filters.path = Some(PathEdit::compile(rewrite, path)?);
                    }
                }
                HttpFilter::Redirect(redirect) => {
                    filters.redirect = Some(Redirect::compile(redirect, path)?);
                }
            }
        }
        Ok(filters)
    }
}

/// A host that replaces the request's, in the two shapes that the two HTTP versions want.
#[derive(Clone, Debug)]
pub(crate) struct Hostname {
    pub authority: Authority,
    pub value: HeaderValue,
}

impl Hostname {
    fn compile(name: &str) -> Result<Self, RouteError> {
        let bad = || RouteError::Hostname(name.into());
        let authority: Authority = name.parse().map_err(|_| bad())?;
        Ok(Self { authority, value: HeaderValue::from_str(name).map_err(|_| bad())? })
    }
}

/// Removes, then sets, then adds.
#[derive(Debug)]
pub(crate) struct Edit {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Edit {
    /// `None` when nothing is left to do. On requests, setting `host` is a rewrite of the host.
    fn compile(
        from: &HeaderEdit,
        mut hostname: Option<&mut Option<Hostname>>,
    ) -> Result<Option<Self>, RouteError> {
        let mut edit = Self { remove: Vec::new(), set: Vec::new(), add: Vec::new() };
        for (name, value) in &from.set {
            match &mut hostname {
                Some(hostname) if name.eq_ignore_ascii_case("host") => {
                    **hostname = Some(Hostname::compile(value)?);
                }
                _ => edit.set.push(parse_field(name, value)?),
            }
        }
        for (name, value) in &from.add {
            edit.add.push(parse_field(name, value)?);
        }
        for name in &from.remove {
            edit.remove.push(parse_name(name)?);
        }
        let empty = edit.remove.is_empty() && edit.set.is_empty() && edit.add.is_empty();
        Ok((!empty).then_some(edit))
    }

    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

fn parse_field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), RouteError> {
    let bad = || RouteError::HeaderValue(value.into());
    Ok((parse_name(name)?, HeaderValue::from_str(value).map_err(|_| bad())?))
}

fn parse_name(name: &str) -> Result<HeaderName, RouteError> {
    let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| RouteError::HeaderName(name.into()))?;
    let framing = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::UPGRADE,
        header::HOST,
    ];
    if framing.contains(&parsed) {
        return Err(RouteError::FramingHeader(name.into()));
    }
    Ok(parsed)
}

/// A change of the path; the query stays.
#[derive(Debug)]
pub(crate) enum PathEdit {
    Full(String),
    /// Bytes of the matched prefix without its trailing slash, and what stands there instead, without its own.
    Prefix {
        matched_bytes: usize,
        replacement: String,
    },
}

impl PathEdit {
    fn compile(from: &PathRewrite, path: &PathMatch) -> Result<Self, RouteError> {
        match (from, path) {
            (PathRewrite::Full(full), _) => {
                check_path(full)?;
                Ok(Self::Full(full.clone()))
            }
            (PathRewrite::Prefix(to), PathMatch::Prefix(prefix)) => {
                let replacement = to.trim_end_matches('/');
                if !replacement.is_empty() {
                    check_path(replacement)?;
                }
                let matched_bytes = prefix.trim_end_matches('/').len();
                Ok(Self::Prefix { matched_bytes, replacement: replacement.into() })
            }
            (PathRewrite::Prefix(_), _) => Err(RouteError::PrefixWithoutMatch),
        }
    }

    /// Path and query of `uri` after the change. `None` when they make no valid target.
    pub fn apply(&self, uri: &Uri) -> Option<PathAndQuery> {
        let path = uri.path();
        let query = uri.query();
        let mut target = BytesMut::with_capacity(path.len() + query.map_or(0, str::len) + 64);
        match self {
            Self::Full(full) => target.put_slice(full.as_bytes()),
            Self::Prefix { matched_bytes, replacement } => {
                target.put_slice(replacement.as_bytes());
                target.put_slice(path.get(*matched_bytes..)?.as_bytes());
            }
        }
        if target.first() != Some(&b'/') {
            let rest = target.split();
            target.put_u8(b'/');
            target.put_slice(&rest);
        }
        if let Some(query) = query {
            target.put_u8(b'?');
            target.put_slice(query.as_bytes());
        }
        PathAndQuery::from_maybe_shared(target.freeze()).ok()
    }
}

fn check_path(path: &str) -> Result<(), RouteError> {
    let valid = path.starts_with('/') && !path.contains(['?', '#']);
    if valid && path.parse::<PathAndQuery>().is_ok() { Ok(()) } else { Err(RouteError::Path(path.into())) }
}

/// A redirect (Gateway API, `HTTPRequestRedirectFilter`).
#[derive(Debug)]
pub(crate) struct Redirect {
    scheme: Option<String>,
    hostname: Option<String>,
    path: Option<PathEdit>,
    port: Option<u16>,
    pub status: StatusCode,
}

/// What of the request a redirect builds on.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Origin<'a> {
    pub scheme: &'a str,
    /// The requested host, without port.
    pub host: &'a str,
    /// The listener's.
    pub port: u16,
}

impl Redirect {
    fn compile(from: &table::Redirect, path: &PathMatch) -> Result<Self, RouteError> {
        let status = StatusCode::from_u16(from.status).map_err(|_| RouteError::Status(from.status))?;
        if !matches!(from.status, 301 | 302 | 303 | 307 | 308) {
            return Err(RouteError::Status(from.status));
        }
        if let Some(hostname) = &from.hostname {
            Hostname::compile(hostname)?;
        }
        let path = from.path.as_ref().map(|rewrite| PathEdit::compile(rewrite, path)).transpose()?;
        let scheme = from.scheme.as_ref().map(|scheme| scheme.to_ascii_lowercase());
        Ok(Self { scheme, hostname: from.hostname.clone(), path, port: from.port, status })
    }

    /// The Location field. Without a port of its own the redirect goes to its scheme's well-known port, or with no
    /// scheme either to the listener's; the scheme's default port is left out.
    pub fn location(&self, uri: &Uri, origin: Origin<'_>) -> Option<HeaderValue> {
        let scheme = self.scheme.as_deref().unwrap_or(origin.scheme);
        let well_known = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = match (self.port, &self.scheme) {
            (Some(port), _) => Some(port),
            (None, Some(_)) => well_known,
            (None, None) => Some(origin.port),
        };
        let mut location = BytesMut::with_capacity(128);
        location.put_slice(scheme.as_bytes());
        location.put_slice(b"://");
        location.put_slice(self.hostname.as_deref().unwrap_or(origin.host).as_bytes());
        if let Some(port) = port.filter(|&port| Some(port) != well_known) {
            location.put_slice(format!(":{port}").as_bytes());
        }
        match &self.path {
            Some(edit) => location.put_slice(edit.apply(uri)?.as_str().as_bytes()),
            None => location.put_slice(uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes()),
        }
        HeaderValue::from_maybe_shared(Bytes::from(location)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix_edit(prefix: &str, to: &str) -> PathEdit {
        PathEdit::compile(&PathRewrite::Prefix(to.into()), &PathMatch::Prefix(prefix.into())).unwrap()
    }

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    /// The table in the Gateway API's documentation of `ReplacePrefixMatch`.
    #[test]
    fn a_prefix_is_replaced_as_the_gateway_api_tables_it() {
        for (path, prefix, to, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo?q=1", "/foo", "/", "/?q=1"),
            ("/a", "/", "/b", "/b/a"),
        ] {
            let edited = prefix_edit(prefix, to).apply(&uri(path)).unwrap();
            assert_eq!(edited.as_str(), expected, "{path} with {prefix} to {to:?}");
        }
    }

    #[test]
    fn a_full_path_keeps_the_query() {
        let edit =
            PathEdit::compile(&PathRewrite::Full("/new".into()), &PathMatch::Exact("/old".into())).unwrap();
        assert_eq!(edit.apply(&uri("/old?a=b")).unwrap().as_str(), "/new?a=b");
    }

    #[test]
    fn replacing_a_prefix_without_a_prefix_match_is_refused() {
        let error = PathEdit::compile(&PathRewrite::Prefix("/x".into()), &PathMatch::Exact("/".into()));
        assert!(matches!(error, Err(RouteError::PrefixWithoutMatch)));
    }

    fn location(redirect: table::Redirect, port: u16) -> String {
        let redirect = table::Redirect { status: 302, ..redirect };
        let compiled = Redirect::compile(&redirect, &PathMatch::Prefix("/a".into())).unwrap();
        let origin = Origin { scheme: "http", host: "h.example", port };
        compiled.location(&uri("/a/b?q"), origin).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_redirect_names_a_port_only_where_the_scheme_does_not_imply_it() {
        let redirect = table::Redirect::default;
        assert_eq!(location(redirect(), 80), "http://h.example/a/b?q");
        assert_eq!(location(redirect(), 8080), "http://h.example:8080/a/b?q");
        let https = || table::Redirect { scheme: Some("https".into()), ..redirect() };
        assert_eq!(location(https(), 8080), "https://h.example/a/b?q");
        assert_eq!(
            location(table::Redirect { port: Some(8443), ..https() }, 80),
            "https://h.example:8443/a/b?q"
        );
        assert_eq!(
            location(table::Redirect { port: Some(80), ..redirect() }, 8080),
            "http://h.example/a/b?q"
        );
        assert_eq!(location(table::Redirect { port: Some(443), ..https() }, 80), "https://h.example/a/b?q");
    }

    #[test]
    fn a_redirect_changes_host_and_path() {
        let redirect = table::Redirect {
            hostname: Some("other.example".into()),
            path: Some(PathRewrite::Prefix("/z".into())),
            ..Default::default()
        };
        assert_eq!(location(redirect, 80), "http://other.example/z/b?q");
    }

    #[test]
    fn edits_remove_then_set_then_add() {
        let edit = HeaderEdit {
            set: vec![("x-a".into(), "set".into())],
            add: vec![("x-a".into(), "added".into()), ("x-b".into(), "b".into())],
            remove: vec!["x-a".into(), "x-c".into()],
        };
        let edit = Edit::compile(&edit, None).unwrap().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("old"));
        headers.insert("x-c", HeaderValue::from_static("gone"));
        edit.apply(&mut headers);
        let values: Vec<_> = headers.get_all("x-a").iter().collect();
        assert_eq!(values, ["set", "added"]);
        assert_eq!(headers["x-b"], "b");
        assert!(!headers.contains_key("x-c"));
    }

    #[test]
    fn setting_host_is_a_rewrite_and_framing_headers_are_refused() {
        let set = |name: &str| {
            let edit = HeaderEdit { set: vec![(name.into(), "v.example".into())], ..Default::default() };
            Filters::compile(&[HttpFilter::RequestHeaders(edit)], &PathMatch::Prefix("/".into()))
        };
        let filters = set("Host").unwrap();
        assert!(filters.request.is_empty());
        assert_eq!(filters.hostname.unwrap().authority, "v.example");
        assert!(matches!(set("Content-Length"), Err(RouteError::FramingHeader(_))));
    }
}
