//! Heads of messages: read (RFC 9112, sections 2 to 6; what two readers could take differently is refused), and written.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version, request, response};

use super::framing::{Framing, put_field};
use crate::limits::MAX_FIELDS;

/// Why a head was not taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not HTTP/1, or ambiguous.
    Malformed,
    /// Longer than the limit, or of too many fields.
    TooLarge,
}

/// A request's head, and what of it concerns the connection.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub parts: request::Parts,
    pub framing: Framing,
    /// The client would send another request on this connection.
    pub keep_alive: bool,
    pub expects_continue: bool,
    /// `TE: trailers`.
    pub takes_trailers: bool,
}

/// A response's head, and what of it concerns the connection.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub parts: response::Parts,
    pub framing: Framing,
    pub keep_alive: bool,
}

/// Finds where a head ends, looking at each byte once however the head arrives.
#[derive(Debug, Default)]
pub(crate) struct HeadFinder {
    seen: usize,
}

impl HeadFinder {
    /// Length of the head that `read` begins with, its empty line included. Empty lines before it are skipped (RFC
    /// 9112, section 2.2).
    pub fn find(&mut self, read: &mut BytesMut) -> Option<usize> {
        if self.seen == 0 {
            let blank = read.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            bytes::Buf::advance(read, blank);
        }
        // The two bytes before may be the end's first.
        let mut at = self.seen.saturating_sub(2);
        self.seen = read.len();
        while let Some(found) = memchr::memchr(b'\n', &read[at..]) {
            at += found + 1;
            let rest = &read[at..];
            let end = match rest {
                [b'\n', ..] => Some(at + 1),
                [b'\r', b'\n', ..] => Some(at + 2),
                _ => None,
            };
            if end.is_some() {
                self.seen = 0;
                return end;
            }
        }
        None
    }
}

/// Takes a request's head off `read`. `None`: more must be read. `spare` is a map to use again.
pub(crate) fn take_request(
    read: &mut BytesMut,
    finder: &mut HeadFinder,
    header_bytes: usize,
    spare: &mut HeaderMap,
) -> Result<Option<RequestHead>, Refusal> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    let fresh = finder.seen == 0;
    let Some(text) = take_text(read, finder, header_bytes)? else {
        // Whoever speaks something else is told at once, and not when it falls silent.
        let other = fresh && parsed.parse_with_uninit_headers(read, &mut fields).is_err();
        return if other { Err(Refusal::Malformed) } else { Ok(None) };
    };
    match parsed.parse_with_uninit_headers(&text, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length == text.len() => {}
        Ok(_) => return Err(Refusal::Malformed),
        Err(error) => return Err(refusal(error)),
    }
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::Malformed);
    };
    let mut parts = Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::Malformed)?;
    parts.uri = target_uri(&text, target)?;
    parts.version = version(minor);
    let noted = take_fields(&text, parsed.headers, std::mem::take(spare), &mut parts.headers)?;
    let framing = match (noted.codings, noted.length) {
        // HTTP/1.0 has no transfer codings: whoever sends one may frame it differently.
        (Codings::None, None) => Framing::None,
        (Codings::None, Some(0)) => Framing::None,
        (Codings::None, Some(length)) => Framing::Length(length),
        (Codings::EndInChunked, _) if minor == 1 => Framing::Chunked,
        _ => return Err(Refusal::Malformed),
    };
    // Both at once: the coding counts, the length goes, and nothing more is read here (RFC 9112, section 6.3).
    let both = noted.codings != Codings::None && noted.length.is_some();
    if both {
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(Some(RequestHead {
        parts,
        framing,
        keep_alive: noted.keep_alive(minor) && !both,
        expects_continue: noted.expects_continue && minor == 1,
        takes_trailers: noted.takes_trailers,
    }))
}

/// Takes a response's head off `read`; interim ones (1xx, but not 101) are dropped. `None`: more must be read.
pub(crate) fn take_response(
    read: &mut BytesMut,
    finder: &mut HeadFinder,
    header_bytes: usize,
    to_head: bool,
    spare: &mut HeaderMap,
) -> Result<Option<ResponseHead>, Refusal> {
    loop {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let fresh = finder.seen == 0;
        let Some(text) = take_text(read, finder, header_bytes)? else {
            let other =
                fresh && config.parse_response_with_uninit_headers(&mut parsed, read, &mut fields).is_err();
            return if other { Err(Refusal::Malformed) } else { Ok(None) };
        };
        match config.parse_response_with_uninit_headers(&mut parsed, &text, &mut fields) {
            Ok(httparse::Status::Complete(length)) if length == text.len() => {}
            Ok(_) => return Err(Refusal::Malformed),
            Err(error) => return Err(refusal(error)),
        }
        let (Some(code), Some(minor)) = (parsed.code, parsed.version) else { return Err(Refusal::Malformed) };
        let status = StatusCode::from_u16(code).map_err(|_| Refusal::Malformed)?;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            continue;
        }
        let mut parts = Response::new(()).into_parts().0;
        (parts.status, parts.version) = (status, version(minor));
        let noted = take_fields(&text, parsed.headers, std::mem::take(spare), &mut parts.headers)?;
        let framing = if to_head || !may_have_body(status) {
            Framing::None
        } else {
            match (noted.codings, noted.length) {
                (Codings::None, Some(length)) => Framing::Length(length),
                (Codings::EndInChunked, _) if minor == 1 => Framing::Chunked,
                (Codings::None, None) | (Codings::EndOtherwise, _) => Framing::UntilClose,
                (Codings::EndInChunked, _) => return Err(Refusal::Malformed),
            }
        };
        if noted.codings != Codings::None {
            parts.headers.remove(header::CONTENT_LENGTH);
        }
        let keep_alive = noted.keep_alive(minor) && framing != Framing::UntilClose;
        return Ok(Some(ResponseHead { parts, framing, keep_alive }));
    }
}

fn take_text(
    read: &mut BytesMut,
    finder: &mut HeadFinder,
    header_bytes: usize,
) -> Result<Option<Bytes>, Refusal> {
    match finder.find(read) {
        Some(length) if length <= header_bytes => Ok(Some(read.split_to(length).freeze())),
        None if read.len() <= header_bytes => Ok(None),
        _ => Err(Refusal::TooLarge),
    }
}

fn refusal(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::TooLarge,
        _ => Refusal::Malformed,
    }
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

/// Origin form, which nearly all are, without a copy.
fn target_uri(text: &Bytes, target: &str) -> Result<Uri, Refusal> {
    Uri::from_maybe_shared(text.slice_ref(target.as_bytes())).map_err(|_| Refusal::Malformed)
}

/// RFC 9110, section 6.4.1.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// What `Transfer-Encoding` says.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Codings {
    #[default]
    None,
    EndInChunked,
    EndOtherwise,
}

/// What fields say of framing and connection.
#[derive(Debug, Default)]
struct Noted {
    length: Option<u64>,
    codings: Codings,
    close: bool,
    stay: bool,
    expects_continue: bool,
    takes_trailers: bool,
}

impl Noted {
    /// RFC 9112, section 9.3.
    fn keep_alive(&self, minor: u8) -> bool {
        !self.close && (minor == 1 || self.stay)
    }
}

/// Takes the fields over, their values as parts of `text`.
fn take_fields(
    text: &Bytes,
    fields: &[httparse::Header<'_>],
    spare: HeaderMap,
    headers: &mut HeaderMap,
) -> Result<Noted, Refusal> {
    debug_assert!(spare.is_empty(), "a spare map is handed over empty");
    *headers = spare;
    headers.reserve(fields.len() + ADDED_FIELDS);
    let mut noted = Noted::default();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Refusal::Malformed)?;
        if note(&mut noted, &name, field.value)? {
            // An empty value lies nowhere.
            let value = if field.value.is_empty() { Bytes::new() } else { text.slice_ref(field.value) };
            let value = HeaderValue::from_maybe_shared(value).map_err(|_| Refusal::Malformed)?;
            headers.try_append(name, value).map_err(|_| Refusal::TooLarge)?;
        }
    }
    Ok(noted)
}

/// Room for what a proxy adds: forwarded-for, forwarded-proto, request id, and one to spare.
const ADDED_FIELDS: usize = 4;

/// Notes what a field says. False: it repeats what another said, and is dropped.
fn note(noted: &mut Noted, name: &HeaderName, value: &[u8]) -> Result<bool, Refusal> {
    if *name == header::CONTENT_LENGTH {
        let length = decimal(value).ok_or(Refusal::Malformed)?;
        match noted.length.replace(length) {
            None => {}
            Some(former) if former == length => return Ok(false),
            Some(_) => return Err(Refusal::Malformed),
        }
    } else if *name == header::TRANSFER_ENCODING {
        let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
        let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
        noted.codings = if chunked { Codings::EndInChunked } else { Codings::EndOtherwise };
    } else if *name == header::CONNECTION {
        for option in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            noted.close |= option.eq_ignore_ascii_case(b"close");
            noted.stay |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    } else if *name == header::EXPECT {
        noted.expects_continue |= value.eq_ignore_ascii_case(b"100-continue");
    } else if *name == header::TE {
        let mut codings = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        noted.takes_trailers |= codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    }
    Ok(true)
}

/// 1*DIGIT that fits (RFC 9110, section 8.6).
fn decimal(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| all)?.parse().ok()
}

// ---- writing ----

/// Writes a request's head. The body's framing is `framing`'s word alone.
pub(crate) fn put_request(text: &mut BytesMut, parts: &request::Parts, framing: Framing) {
    text.put_slice(parts.method.as_str().as_bytes());
    text.put_u8(b' ');
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    text.put_slice(target.as_bytes());
    text.put_slice(b" HTTP/1.1\r\n");
    put_fields(text, &parts.headers);
    // A method that usually has a body says when it has none (RFC 9110, section 8.6).
    let usually = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    let said = usually || parts.headers.contains_key(header::CONTENT_LENGTH);
    put_framing(text, if framing == Framing::None && said { Framing::Length(0) } else { framing });
    text.put_slice(b"\r\n");
}

/// Writes a response's head. `connection` is what it says of this connection.
pub(crate) fn put_response(
    text: &mut BytesMut,
    parts: &response::Parts,
    framing: Framing,
    connection: Option<&'static str>,
) {
    let version: &[u8] = if parts.version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " };
    text.put_slice(version);
    text.put_slice(parts.status.as_str().as_bytes());
    text.put_u8(b' ');
    text.put_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
    text.put_slice(b"\r\n");
    put_fields(text, &parts.headers);
    if framing == Framing::None
        && parts.status != StatusCode::NO_CONTENT
        && let Some(length) = parts.headers.get(header::CONTENT_LENGTH)
    {
        put_field(text, b"content-length", length.as_bytes());
    }
    put_framing(text, framing);
    if let Some(option) = connection {
        put_field(text, b"connection", option.as_bytes());
    }
    text.put_slice(b"\r\n");
}

fn put_fields(text: &mut BytesMut, headers: &HeaderMap) {
    for (name, value) in headers {
        if *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING {
            put_field(text, name.as_str().as_bytes(), value.as_bytes());
        }
    }
}

fn put_framing(text: &mut BytesMut, framing: Framing) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Length(length) => put_field(text, b"content-length", HeaderValue::from(length).as_bytes()),
        Framing::Chunked => put_field(text, b"transfer-encoding", b"chunked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Result<Option<RequestHead>, Refusal> {
        let mut read = BytesMut::from(text);
        take_request(&mut read, &mut HeadFinder::default(), 60 << 10, &mut HeaderMap::new())
    }

    fn response(text: &str, to_head: bool) -> Result<Option<ResponseHead>, Refusal> {
        let mut read = BytesMut::from(text);
        take_response(&mut read, &mut HeadFinder::default(), 60 << 10, to_head, &mut HeaderMap::new())
    }

    fn framing(fields: &str) -> Result<Framing, Refusal> {
        request(&format!("POST / HTTP/1.1\r\n{fields}\r\n")).map(|head| head.expect("whole").framing)
    }

    #[test]
    fn a_head_is_found_once_whole_however_it_arrives() {
        let text = "\r\n\r\nGET /a HTTP/1.1\r\nHost: b\r\n\r\nrest";
        let mut read = BytesMut::new();
        let (mut finder, mut spare) = (HeadFinder::default(), HeaderMap::new());
        let mut heads = 0;
        for byte in text.bytes() {
            read.put_u8(byte);
            if let Some(head) = take_request(&mut read, &mut finder, 1000, &mut spare).unwrap() {
                assert_eq!((head.parts.uri.path(), head.parts.headers.len()), ("/a", 1));
                heads += 1;
            }
        }
        assert_eq!((heads, &read[..]), (1, &b"rest"[..]));
    }

    #[test]
    fn a_request_body_is_framed_as_rfc_9112_says_or_refused() {
        assert_eq!(framing("Host: a\r\n"), Ok(Framing::None));
        assert_eq!(framing("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(framing("Content-Length: 5\r\ncontent-length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(framing("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(
            framing("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
            Ok(Framing::Chunked)
        );
        for bad in [
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 5\r\n",
            "Content-Length: +5\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert_eq!(framing(bad), Err(Refusal::Malformed), "{bad:?}");
        }
        let old = request("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.err(), Some(Refusal::Malformed));
    }

    #[test]
    fn a_length_beside_a_coding_goes_and_takes_the_connection_with_it() {
        let head = request("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
        let head = head.unwrap().unwrap();
        assert_eq!((head.framing, head.keep_alive), (Framing::Chunked, false));
        assert!(!head.parts.headers.contains_key(header::CONTENT_LENGTH));
    }

    #[test]
    fn connections_stay_as_version_and_options_say() {
        for (line, field, stays) in [
            ("HTTP/1.1", "X: y", true),
            ("HTTP/1.1", "Connection: x, Close", false),
            ("HTTP/1.0", "X: y", false),
            ("HTTP/1.0", "Connection: Keep-Alive", true),
            ("HTTP/1.1", "Connection: keep-alive, close", false),
        ] {
            let head = request(&format!("GET / {line}\r\n{field}\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.keep_alive, stays, "{line} {field}");
        }
    }

    #[test]
    fn a_response_ends_where_its_request_status_and_fields_say() {
        let of = |text: &str, to_head| response(text, to_head).unwrap().map(|head| head.framing);
        assert_eq!(of("HTTP/1.1 200 OK\r\n\r\n", false), Some(Framing::UntilClose));
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false), Some(Framing::Length(3)));
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true), Some(Framing::None));
        assert_eq!(of("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n", false), Some(Framing::None));
        assert_eq!(of("HTTP/1.1 204 x\r\n\r\n", false), Some(Framing::None));
        assert_eq!(of("HTTP/1.1 200\r\nTransfer-Encoding: gzip\r\n\r\n", false), Some(Framing::UntilClose));
        assert_eq!(of("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n", false), None);
        assert_eq!(of("HTTP/1.1 100 x\r\n\r\nHTTP/1.1 204 x\r\n\r\n", false), Some(Framing::None));
        assert_eq!(of("HTTP/1.1 101 x\r\nUpgrade: y\r\n\r\nearly", false), Some(Framing::None));
        assert!(response("HTTP/1.1 200\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false).is_err());
        assert!(response("HTTP/1.0 200\r\nTransfer-Encoding: chunked\r\n\r\n", false).is_err());
        assert!(response("SSH-2.0-OpenSSH_9.2\r\n\r\n", false).is_err());
    }

    #[test]
    fn heads_are_written_with_the_framing_that_is_true() {
        let head = request("POST /a?b HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\n").unwrap().unwrap();
        let mut text = BytesMut::new();
        put_request(&mut text, &head.parts, Framing::Chunked);
        assert_eq!(text, "POST /a?b HTTP/1.1\r\nhost: c\r\ntransfer-encoding: chunked\r\n\r\n");
        let head = response("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nA: b\r\n\r\n", true).unwrap().unwrap();
        text.clear();
        put_response(&mut text, &head.parts, Framing::None, Some("close"));
        assert_eq!(text, "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 9\r\nconnection: close\r\n\r\n");
    }

    #[test]
    fn a_head_beyond_the_limits_is_too_large() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(60 << 10));
        assert_eq!(request(&long).err(), Some(Refusal::TooLarge));
        let endless = "a".repeat((60 << 10) + 1);
        assert_eq!(request(&endless).err(), Some(Refusal::TooLarge));
        let fields = |count: usize| "a: b\r\n".repeat(count);
        assert!(request(&format!("GET / HTTP/1.1\r\n{}\r\n", fields(MAX_FIELDS))).is_ok());
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", fields(MAX_FIELDS + 1));
        assert_eq!(request(&many).err(), Some(Refusal::TooLarge));
    }
}
