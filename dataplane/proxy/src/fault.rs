//! Why the proxy answered a request itself, or cut a stream: who is at fault, which status, which counter.

use http::StatusCode;

/// Whose doing it was.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
    Ringway,
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal, $status:ident, $side:ident;)*) => {
        /// One counter a reason.
        #[derive(Copy, Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Fault { $($(#[doc = $doc])* $variant,)* }

        impl Fault {
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in counters and in the answer's `x-ringway-reason`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The sentence in the answer's body.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)* "\n"),)* }
            }

            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            pub const fn side(self) -> Side {
                match self { $(Self::$variant => Side::$side,)* }
            }
        }
    };
}

faults! {
    /// The request is not valid HTTP.
    Malformed = "malformed", BAD_REQUEST, Downstream;
    /// The request's head is longer than the limit, or has too many fields.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE, Downstream;
    /// The request has no valid Host, or more than one.
    BadHost = "bad_host", BAD_REQUEST, Downstream;
    /// The request's target and its Host name different hosts.
    HostMismatch = "host_mismatch", BAD_REQUEST, Downstream;
    /// Only chunked is understood as a transfer coding.
    TransferCoding = "transfer_coding", NOT_IMPLEMENTED, Downstream;
    /// CONNECT is not offered here.
    Connect = "connect", NOT_IMPLEMENTED, Downstream;
    /// The request's body stopped arriving.
    RequestBodyIdle = "request_body_idle", REQUEST_TIMEOUT, Downstream;
    /// The client went away.
    ClientGone = "client_gone", BAD_REQUEST, Downstream;
    /// No route matches the request.
    NoRoute = "no_route", NOT_FOUND, Ringway;
    /// The route's backend is not valid.
    InvalidBackend = "invalid_backend", INTERNAL_SERVER_ERROR, Ringway;
    /// The rewritten request has no valid target.
    BadRewrite = "bad_rewrite", BAD_REQUEST, Ringway;
    /// No endpoint of the backend is ready.
    NoEndpoint = "no_endpoint", SERVICE_UNAVAILABLE, Ringway;
    /// All streams and connections to the backend that the limits allow are in use.
    Overflow = "upstream_overflow", SERVICE_UNAVAILABLE, Ringway;
    /// The backend refused the connection or could not be reached.
    ConnectFailed = "connect_failed", SERVICE_UNAVAILABLE, Upstream;
    /// The backend did not take the connection in time.
    ConnectTimeout = "connect_timeout", SERVICE_UNAVAILABLE, Upstream;
    /// The backend ended the connection before its response.
    UpstreamClosed = "upstream_closed", BAD_GATEWAY, Upstream;
    /// The backend's response is not valid HTTP.
    UpstreamProtocol = "upstream_protocol", BAD_GATEWAY, Upstream;
    /// The response did not come in the time that the route allows.
    RequestTimeout = "request_timeout", GATEWAY_TIMEOUT, Upstream;
    /// The response's body stopped arriving.
    ResponseBodyIdle = "response_body_idle", GATEWAY_TIMEOUT, Upstream;
}

impl Fault {
    /// The gRPC status that says the same (gRPC's mapping of HTTP statuses; a deadline that we set is theirs too).
    pub const fn grpc_status(self) -> u8 {
        const UNKNOWN: u8 = 2;
        const DEADLINE_EXCEEDED: u8 = 4;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Self::RequestTimeout | Self::ResponseBodyIdle => DEADLINE_EXCEEDED,
            Self::NoRoute | Self::Connect | Self::TransferCoding => UNIMPLEMENTED,
            _ => match self.status().as_u16() {
                400 => INTERNAL,
                502..=504 => UNAVAILABLE,
                _ => UNKNOWN,
            },
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own_and_a_sentence() {
        for (at, fault) in Fault::ALL.iter().enumerate() {
            assert!(Fault::ALL[..at].iter().all(|other| other.name() != fault.name()));
            assert!(fault.text().trim().ends_with('.'));
            assert!(fault.status().is_client_error() || fault.status().is_server_error());
        }
    }

    #[test]
    fn grpc_learns_whether_to_try_again() {
        assert_eq!(Fault::NoEndpoint.grpc_status(), 14);
        assert_eq!(Fault::UpstreamClosed.grpc_status(), 14);
        assert_eq!(Fault::RequestTimeout.grpc_status(), 4);
        assert_eq!(Fault::NoRoute.grpc_status(), 12);
        assert_eq!(Fault::InvalidBackend.grpc_status(), 2);
    }
}
