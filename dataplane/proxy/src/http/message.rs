//! What a proxy must do to every message: check its host and framing, drop what belongs to one hop, add its own fields.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{Method, Uri, Version};

use crate::fault::Fault;

pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const HOP_FIELDS: usize = 6;

/// Fields of one hop (RFC 9110, section 7.6.1), beside those that `Connection` names.
static HOP_BY_HOP: [HeaderName; HOP_FIELDS] = [
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Which of the fields that need work a message has. One pass over a few names costs less than a lookup for each.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Seen {
    connection: bool,
    /// By position in [`HOP_BY_HOP`].
    hop: [bool; HOP_FIELDS],
    expect: bool,
    forwarded_for: bool,
    request_id: bool,
}

impl Seen {
    pub fn in_fields(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            if *name == header::CONNECTION {
                seen.connection = true;
            } else if *name == header::EXPECT {
                seen.expect = true;
            } else if *name == X_FORWARDED_FOR {
                seen.forwarded_for = true;
            } else if *name == X_REQUEST_ID {
                seen.request_id = true;
            } else if let Some(at) = HOP_BY_HOP.iter().position(|hop| hop == name) {
                seen.hop[at] = true;
            }
        }
        seen
    }

    fn has_transfer_coding(&self) -> bool {
        const TRANSFER_ENCODING: usize = 1;
        debug_assert_eq!(HOP_BY_HOP[TRANSFER_ENCODING], header::TRANSFER_ENCODING);
        self.hop[TRANSFER_ENCODING]
    }
}

/// Refuses what two readers could understand differently. `http1::head` has already refused, with 400: a
/// `Content-Length` that is no number or differs from another, a transfer coding that does not end in chunked or stands
/// in HTTP/1.0, folded lines, space before a colon, control bytes in names and values. Where a request has both
/// `Transfer-Encoding` and `Content-Length` it drops the latter, and the connection closes after the answer (RFC 9112,
/// section 6.3).
pub(crate) fn check(head: &Parts, seen: &Seen) -> Result<(), Fault> {
    if head.method == Method::CONNECT {
        return Err(Fault::Connect);
    }
    if seen.has_transfer_coding() {
        check_transfer_coding(&head.headers)?;
    }
    check_host(head)
}

fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let first = codings.next().is_some_and(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if first && codings.next().is_none() { Ok(()) } else { Err(Fault::TransferCoding) }
}

/// RFC 9112, section 3.2: exactly one Host in HTTP/1.1. A target with an authority must name the same host: where the
/// RFC lets a server ignore one of two, the next server may ignore the other.
fn check_host(head: &Parts) -> Result<(), Fault> {
    let mut hosts = head.headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Fault::BadHost);
    }
    match (host, head.uri.authority()) {
        (Some(host), authority) => {
            if !is_host(host.as_bytes()) {
                return Err(Fault::BadHost);
            }
            match authority {
                Some(authority) if !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) => {
                    Err(Fault::HostMismatch)
                }
                _ => Ok(()),
            }
        }
        (None, Some(authority))
            if is_host(authority.as_str().as_bytes()) && head.version == Version::HTTP_2 =>
        {
            Ok(())
        }
        (None, None) if head.version == Version::HTTP_10 => Ok(()),
        _ => Err(Fault::BadHost),
    }
}

/// Characters of RFC 3986's `host [":" port]`; no user, no path, and an IPv6 address in brackets.
fn is_host(host: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:[]".contains(byte);
    !host.is_empty() && host.iter().all(allowed)
}

/// The host that was asked for, in lower case and without port; empty when HTTP/1.0 named none.
pub(crate) fn host(head: &Parts) -> Cow<'_, str> {
    let named = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
    };
    let host = without_port(named);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The last colon of a bracketed address may stand inside of the brackets.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// What of the hop's own fields must be known after they are gone.
#[derive(Debug, Default)]
pub(crate) struct Hop {
    /// The protocol to upgrade to, if the message asks for or grants one.
    pub upgrade: Option<HeaderValue>,
    /// The sender reads trailers.
    pub trailers: bool,
}

/// Removes the fields of one hop, and those that `Connection` names. `seen` says what is there before and after.
pub(crate) fn strip_hop(headers: &mut HeaderMap, seen: &mut Seen) -> Hop {
    let mut hop = Hop::default();
    if seen.hop[0] {
        hop.trailers = headers.get(header::TE).is_some_and(|te| lists(te, "trailers"));
    }
    if seen.connection {
        if headers.get_all(header::CONNECTION).iter().any(|value| lists(value, "upgrade")) {
            // An upgrade to h2c is this hop's, and not offered.
            hop.upgrade = headers.get(header::UPGRADE).filter(|to| !lists(to, "h2c")).cloned();
        }
        if remove_named(headers) {
            *seen = Seen::in_fields(headers);
        }
        headers.remove(header::CONNECTION);
    }
    for (name, _) in HOP_BY_HOP.iter().zip(seen.hop).filter(|(_, is_there)| *is_there) {
        headers.remove(name);
    }
    if seen.expect {
        // The client is answered 100 Continue when the body is first read, which is once the backend takes it.
        headers.remove(header::EXPECT);
    }
    hop
}

/// Leaves one `Content-Length` if all that are there are the same number, else none. A filter may have set another.
pub(crate) fn settle_length(headers: &mut HeaderMap) {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return };
    let is_number = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
    let fits = is_number && first.to_str().is_ok_and(|digits| digits.parse::<u64>().is_ok());
    match (fits, lengths.next()) {
        (true, None) => {}
        (true, Some(second)) if second == first && lengths.all(|other| other == first) => {
            let one = first.clone();
            headers.insert(header::CONTENT_LENGTH, one);
        }
        _ => drop(headers.remove(header::CONTENT_LENGTH)),
    }
}

/// Removes what `Connection` names, and says whether there was anything. `close`, `keep-alive`, `te` and `upgrade` stand
/// in most and are dealt with anyway.
fn remove_named(headers: &mut HeaderMap) -> bool {
    let names = |value: &HeaderValue| -> Vec<HeaderName> {
        let Ok(text) = value.to_str() else { return Vec::new() };
        let tokens = text.split(',').map(str::trim);
        let unusual = tokens.filter(|token| {
            !["", "close", "keep-alive", "te", "upgrade"]
                .iter()
                .any(|usual| usual.eq_ignore_ascii_case(token))
        });
        unusual.filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok()).collect()
    };
    let named: Vec<HeaderName> = headers.get_all(header::CONNECTION).iter().flat_map(names).collect();
    for name in &named {
        // What frames the message and names its host is no option of a connection (RFC 9110, section 7.6.1).
        if *name != header::HOST && *name != header::CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    !named.is_empty()
}

/// Whether a comma-separated list has `token`; parameters after a semicolon do not count.
fn lists(value: &HeaderValue, token: &str) -> bool {
    let is_token = |item: &[u8]| {
        let name = item.split(|&byte| byte == b';').next().unwrap_or_default();
        name.trim_ascii().eq_ignore_ascii_case(token.as_bytes())
    };
    value.as_bytes().split(|&byte| byte == b',').any(is_token)
}

/// Adds what the backend wants to know of the client.
pub(crate) fn add_forwarded(
    headers: &mut HeaderMap,
    seen: &Seen,
    client: &HeaderValue,
    random: impl FnOnce() -> [u64; 2],
) {
    let chain = if seen.forwarded_for { extend_chain(headers, client) } else { client.clone() };
    headers.insert(X_FORWARDED_FOR, chain);
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    if !seen.request_id {
        headers.insert(X_REQUEST_ID, request_id(random()));
    }
}

fn extend_chain(headers: &HeaderMap, client: &HeaderValue) -> HeaderValue {
    let mut chain = BytesMut::with_capacity(128);
    for value in headers.get_all(&X_FORWARDED_FOR) {
        chain.put_slice(value.as_bytes());
        chain.put_slice(b", ");
    }
    chain.put_slice(client.as_bytes());
    HeaderValue::from_maybe_shared(chain.freeze()).expect("field values joined by a comma are a field value")
}

/// A random UUID: RFC 9562, section 5.4 (version 4).
fn request_id(random: [u64; 2]) -> HeaderValue {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = [0_u8; 16];
    bytes[..8].copy_from_slice(&random[0].to_be_bytes());
    bytes[8..].copy_from_slice(&random[1].to_be_bytes());
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (position, byte) in bytes.iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 0x0f)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).expect("hexadecimal digits are a field value")
}

/// The request in HTTP/1.1's form: origin-form target, Host, one Cookie field.
pub(crate) fn into_http1(head: &mut Parts, host: Option<HeaderValue>) {
    if let Some(authority) = head.uri.authority() {
        let host = host.or_else(|| HeaderValue::from_str(authority.as_str()).ok());
        if let Some(host) = host {
            head.headers.insert(header::HOST, host);
        }
        head.uri = head.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    } else if let Some(host) = host {
        head.headers.insert(header::HOST, host);
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    head.version = Version::HTTP_11;
}

/// RFC 9113, section 8.2.3: HTTP/2 may split Cookie into several fields, HTTP/1.1 must not see that.
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let mut joined = BytesMut::with_capacity(256);
    for (position, crumb) in headers.get_all(header::COOKIE).iter().enumerate() {
        if position > 0 {
            joined.put_slice(b"; ");
        }
        joined.put_slice(crumb.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(joined.freeze())
        .expect("field values joined by a semicolon are a field value");
    headers.insert(header::COOKIE, joined);
}

/// The request in HTTP/2's form: the host is the target's authority, and there is no Host.
pub(crate) fn into_http2(head: &mut Parts, host: Option<Authority>) -> Result<(), Fault> {
    let named = head.headers.remove(header::HOST);
    let authority = match (host, head.uri.authority(), named) {
        (Some(host), ..) => host,
        (None, Some(authority), _) => authority.clone(),
        (None, None, Some(named)) => {
            Authority::from_maybe_shared(bytes::Bytes::copy_from_slice(named.as_bytes()))
                .map_err(|_| Fault::BadHost)?
        }
        (None, None, None) => return Err(Fault::BadHost),
    };
    let mut parts = std::mem::take(&mut head.uri).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    parts.path_and_query.get_or_insert_with(|| http::uri::PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(parts).map_err(|_| Fault::BadRewrite)?;
    head.version = Version::HTTP_2;
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().uri(uri);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    fn checked(head: &Parts) -> Result<(), Fault> {
        check(head, &Seen::in_fields(&head.headers))
    }

    fn stripped(headers: &mut HeaderMap) -> Hop {
        let mut seen = Seen::in_fields(headers);
        strip_hop(headers, &mut seen)
    }

    fn forward(headers: &mut HeaderMap, client: &HeaderValue, random: impl FnOnce() -> [u64; 2]) {
        let seen = Seen::in_fields(headers);
        add_forwarded(headers, &seen, client, random);
    }

    #[test]
    fn a_host_is_needed_once_and_must_be_one() {
        assert_eq!(checked(&head("/", &[("host", "a.example:80")])), Ok(()));
        assert_eq!(checked(&head("/", &[])), Err(Fault::BadHost));
        assert_eq!(checked(&head("/", &[("host", "a"), ("host", "a")])), Err(Fault::BadHost));
        for bad in ["a/b", "user@a", "a b", "", "a,b\\"] {
            assert_eq!(checked(&head("/", &[("host", bad)])), Err(Fault::BadHost), "{bad:?}");
        }
        let mut old = head("/", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(checked(&old), Ok(()));
    }

    #[test]
    fn a_target_that_names_another_host_is_refused() {
        assert_eq!(checked(&head("http://a.example/", &[("host", "A.example")])), Ok(()));
        assert_eq!(checked(&head("http://a.example/", &[("host", "b.example")])), Err(Fault::HostMismatch));
        let mut two = head("http://a.example/", &[]);
        assert_eq!(checked(&two), Err(Fault::BadHost), "HTTP/1.1 needs Host beside an absolute target too");
        two.version = Version::HTTP_2;
        assert_eq!(checked(&two), Ok(()));
    }

    #[test]
    fn only_chunked_alone_is_a_transfer_coding() {
        let with =
            |coding: &'static str| checked(&head("/", &[("host", "a"), ("transfer-encoding", coding)]));
        assert_eq!(with("Chunked"), Ok(()));
        assert_eq!(with("gzip, chunked"), Err(Fault::TransferCoding));
        assert_eq!(with("chunked, chunked"), Err(Fault::TransferCoding));
        let twice =
            head("/", &[("host", "a"), ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]);
        assert_eq!(checked(&twice), Err(Fault::TransferCoding));
    }

    #[test]
    fn the_host_loses_its_port_and_case() {
        for (named, expected) in
            [("A.example:8080", "a.example"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("a", "a")]
        {
            assert_eq!(host(&head("/", &[("host", named)])), expected);
        }
    }

    #[test]
    fn fields_of_one_hop_go_and_named_ones_with_them() {
        let mut parts = head(
            "/",
            &[
                ("connection", "close, X-Private"),
                ("connection", "upgrade, content-length"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("te", "trailers, deflate;q=0.5"),
                ("upgrade", "websocket"),
                ("content-length", "3"),
                ("trailer", "x-sum"),
                ("x-kept", "1"),
            ],
        );
        let hop = stripped(&mut parts.headers);
        assert_eq!(hop.upgrade.unwrap(), "websocket");
        assert!(hop.trailers);
        let mut left: Vec<_> = parts.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "trailer", "x-kept"]);
    }

    #[test]
    fn an_upgrade_to_h2c_or_without_connection_is_none() {
        let mut parts = head(
            "/",
            &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")],
        );
        assert!(stripped(&mut parts.headers).upgrade.is_none());
        assert!(parts.headers.is_empty());
        let mut parts = head("/", &[("upgrade", "websocket")]);
        assert!(stripped(&mut parts.headers).upgrade.is_none());
    }

    #[test]
    fn the_forwarded_chain_grows_and_a_request_id_is_made_once() {
        let client = HeaderValue::from_static("10.0.0.9");
        let mut parts = head(
            "/",
            &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-for", "2.2.2.2"), ("x-forwarded-proto", "https")],
        );
        forward(&mut parts.headers, &client, || [u64::MAX, 0]);
        assert_eq!(parts.headers[X_FORWARDED_FOR], "1.1.1.1, 2.2.2.2, 10.0.0.9");
        assert_eq!(parts.headers[X_FORWARDED_PROTO], "http");
        assert_eq!(parts.headers[X_REQUEST_ID], "ffffffff-ffff-4fff-8000-000000000000");
        forward(&mut parts.headers, &client, || unreachable!("it has one"));
        assert_eq!(parts.headers[X_FORWARDED_FOR], "1.1.1.1, 2.2.2.2, 10.0.0.9, 10.0.0.9");
    }

    #[test]
    fn a_request_changes_between_the_versions() {
        let mut parts = head("http://a.example/p?q", &[("cookie", "a=1"), ("cookie", "b=2")]);
        parts.version = Version::HTTP_2;
        into_http1(&mut parts, None);
        assert_eq!(parts.uri, "/p?q");
        assert_eq!(parts.headers[header::HOST], "a.example");
        assert_eq!(parts.headers[header::COOKIE], "a=1; b=2");
        assert_eq!(parts.headers.get_all(header::COOKIE).iter().count(), 1);
        into_http2(&mut parts, None).unwrap();
        assert_eq!(parts.uri, "http://a.example/p?q");
        assert!(!parts.headers.contains_key(header::HOST));
        into_http2(&mut parts, Some(Authority::from_static("b.example"))).unwrap();
        assert_eq!(parts.uri, "http://b.example/p?q");
    }
}
