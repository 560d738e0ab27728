//! Answers that Ringway gives itself: faults, redirects and fixed responses.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};

use crate::fault::Fault;

/// Says which fault it was, for people and programs.
const X_RINGWAY_REASON: HeaderName = HeaderName::from_static("x-ringway-reason");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether the request speaks gRPC and so must be answered in it.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    match kind.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// A fault's answer: status, sentence and reason; to gRPC a response of trailers only, with status 200.
pub(crate) fn fault(fault: Fault, grpc: bool) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(X_RINGWAY_REASON, HeaderValue::from_static(fault.name()));
    if grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(fault.grpc_status())));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(fault.text().trim_ascii()));
        return response;
    }
    text(&mut response, fault.status(), Bytes::from_static(fault.text().trim_ascii_start().as_bytes()));
    response
}

/// What a route answers by itself.
pub(crate) fn fixed(status: StatusCode, body: &Bytes) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    if body.is_empty() {
        *response.status_mut() = status;
    } else {
        text(&mut response, status, body.clone());
    }
    response
}

pub(crate) fn redirect(status: StatusCode, location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn text(response: &mut Response<Bytes>, status: StatusCode, body: Bytes) {
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    *response.body_mut() = body;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_told_by_its_content_type() {
        let with = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            is_grpc(&headers)
        };
        assert!(with("application/grpc") && with("application/grpc+proto") && with("application/grpc; x"));
        assert!(!with("application/grpc-web") && !with("application/json"));
    }

    #[test]
    fn a_fault_is_said_in_the_callers_words() {
        let plain = fault(Fault::NoEndpoint, false);
        assert_eq!(plain.status(), 503);
        assert_eq!(plain.body(), "No endpoint of the backend is ready.\n");
        assert_eq!(plain.headers()["x-ringway-reason"], "no_endpoint");
        let grpc = fault(Fault::NoEndpoint, true);
        assert_eq!(grpc.status(), 200);
        assert_eq!(grpc.headers()["grpc-status"], "14");
        assert_eq!(grpc.headers()["grpc-message"], "No endpoint of the backend is ready.");
        assert!(grpc.body().is_empty());
    }
}
