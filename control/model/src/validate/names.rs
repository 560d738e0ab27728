//! Formats of names and values, each answering with the right form. The patterns are Kubernetes' and the Gateway
//! API's; they are plain loops because a pattern in an error message helps nobody.

use std::net::IpAddr;

/// RFC 1123 label and subdomain lengths.
const MOST_LABEL_BYTES: usize = 63;
const MOST_NAME_BYTES: usize = 253;
/// Kubernetes' `IANA_SVC_NAME`, RFC 6335, section 5.1.
const MOST_PORT_NAME_BYTES: usize = 15;
/// The Gateway API's HTTPHeaderName and HTTPHeader.value.
const MOST_HEADER_NAME_BYTES: usize = 256;
pub(super) const MOST_HEADER_VALUE_BYTES: usize = 4096;
/// The Gateway API's path and query parameter values.
pub(super) const MOST_PATH_BYTES: usize = 1024;

type Check = Result<(), String>;

fn require(holds: bool, text: &str, right: &str) -> Check {
    if holds { Ok(()) } else { Err(format!("{text:?}: expected {right}")) }
}

fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty()
        && text.len() <= MOST_LABEL_BYTES
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= MOST_NAME_BYTES && text.split('.').all(is_label)
}

/// RFC 1123 label.
pub(super) fn label(text: &str) -> Check {
    require(is_label(text), text, "1 to 63 lower-case letters, digits and '-', such as my-name")
}

/// RFC 1035 label: what Kubernetes wants of Services, whose names are DNS names.
pub(super) fn label_from_letter(text: &str) -> Check {
    let good = is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase());
    require(good, text, "1 to 63 lower-case letters, digits and '-', beginning with a letter")
}

pub(super) fn subdomain(text: &str) -> Check {
    require(
        is_subdomain(text),
        text,
        "lower-case letters, digits, '-' and '.', such as my-name, of at most 253 bytes",
    )
}

/// The Gateway API's Hostname: a DNS name, perhaps with `*.` before it; never an address.
pub(super) fn hostname(text: &str) -> Check {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let good = text.len() <= MOST_NAME_BYTES && is_subdomain(name) && name.parse::<IpAddr>().is_err();
    require(good, text, "a host name such as www.example.com or *.example.com, in lower case, not an address")
}

/// The Gateway API's PreciseHostname: without a wildcard.
pub(super) fn precise_hostname(text: &str) -> Check {
    let good = is_subdomain(text) && text.parse::<IpAddr>().is_err();
    require(good, text, "a host name such as www.example.com, in lower case, without '*'")
}

pub(super) fn group(text: &str) -> Check {
    require(
        text.is_empty() || is_subdomain(text),
        text,
        "an API group such as gateway.networking.k8s.io, or \"\"",
    )
}

pub(super) fn kind(text: &str) -> Check {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let good = text.len() <= MOST_LABEL_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !text.ends_with('-')
        && text.bytes().all(inside);
    require(good, text, "a kind such as Service")
}

/// `domain/path`, the Gateway API's GatewayController.
pub(super) fn controller(text: &str) -> Check {
    let good = text.len() <= MOST_NAME_BYTES
        && text.split_once('/').is_some_and(|(domain, path)| {
            is_subdomain(domain) && !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_graphic())
        });
    require(good, text, "a name such as ringway.mesh/gateway")
}

/// A label's key: `[prefix/]name`.
pub(super) fn label_key(text: &str) -> Check {
    let good = match text.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_label_word(name),
        None => is_label_word(text),
    };
    require(good, text, "a label's key such as app or example.com/app")
}

pub(super) fn label_value(text: &str) -> Check {
    let good = text.is_empty() || is_label_word(text);
    require(good, text, "a label's value: at most 63 letters, digits, '-', '_' and '.', or nothing")
}

fn is_label_word(text: &str) -> bool {
    let edge = |character: char| character.is_ascii_alphanumeric();
    text.len() <= MOST_LABEL_BYTES
        && text.starts_with(edge)
        && text.ends_with(edge)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// RFC 3339, UTC, whole seconds.
pub(super) fn timestamp(text: &str) -> Check {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let good = text.len() == FORM.len()
        && text.bytes().zip(FORM).all(
            |(byte, form)| {
                if *form == b'0' { byte.is_ascii_digit() } else { byte == *form }
            },
        );
    require(good, text, "a time such as 2026-01-31T12:00:00Z")
}

/// RFC 6335, section 5.1: what `targetPort` may name.
pub(super) fn port_name(text: &str) -> Check {
    let good = is_label(text)
        && text.len() <= MOST_PORT_NAME_BYTES
        && !text.contains("--")
        && text.bytes().any(|byte| byte.is_ascii_lowercase());
    require(
        good,
        text,
        "a port's name: at most 15 lower-case letters, digits and '-', with a letter, such as http",
    )
}

/// A header's or query parameter's name: RFC 9110, section 5.6.2, a token.
pub(super) fn token(text: &str) -> Check {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let good = !text.is_empty() && text.len() <= MOST_HEADER_NAME_BYTES && text.bytes().all(inside);
    require(good, text, "a name of letters, digits and !#$%&'*+-.^_`|~, of 1 to 256 bytes")
}

/// A value that can be sent in a header: RFC 9110, section 5.5, without control characters.
pub(super) fn header_value(text: &str) -> Check {
    let good = (1..=MOST_HEADER_VALUE_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
    require(good, text, "1 to 4096 bytes without control characters")
}

/// A path without query, in the characters that the Gateway API allows. It begins with `/`.
pub(super) fn path(text: &str) -> Check {
    require(text.starts_with('/'), text, "a path that begins with '/'")?;
    require(text.len() <= MOST_PATH_BYTES, text, "at most 1024 bytes")?;
    require(is_path_text(text), text, "a path of URL characters (others as %XX), without '?' and '#'")
}

fn is_path_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(&byte);
    bytes.iter().enumerate().all(|(index, byte)| {
        let escape =
            || bytes.get(index + 1..index + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        plain(*byte) || (*byte == b'%' && escape())
    })
}

/// As the Gateway API's rules for exact and prefix matches: nothing that normalization would change.
pub(super) fn match_path(text: &str) -> Check {
    path(text)?;
    let refused = ["//", "/./", "/../", "%2f", "%2F"].into_iter().find(|part| text.contains(part));
    if let Some(part) = refused {
        return Err(format!("{text:?}: must not contain {part:?}"));
    }
    let refused = ["/..", "/."].into_iter().find(|end| text.ends_with(end));
    refused.map_or(Ok(()), |end| Err(format!("{text:?}: must not end with {end:?}")))
}

/// What may be in the place of a matched prefix: a path, or nothing.
pub(super) fn replacement_prefix(text: &str) -> Check {
    if text.is_empty() { Ok(()) } else { path(text) }
}

/// An address that one host can have.
pub(super) fn unicast(address: IpAddr) -> Check {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    let good = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() && !broadcast;
    require(good, &address.to_string(), "a unicast address that other hosts can reach")
}

/// Linux: IFNAMSIZ is 16 with the final zero; no '/' and no blanks (`dev_valid_name`).
pub(super) fn interface(text: &str) -> Check {
    let good = (1..16).contains(&text.len())
        && text != "."
        && text != ".."
        && !text
            .contains(|character: char| character == '/' || character == ':' || character.is_whitespace());
    require(good, text, "an interface's name of 1 to 15 bytes, such as veth-web")
}
