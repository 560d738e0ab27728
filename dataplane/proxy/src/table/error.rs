//! Why a route cannot be compiled.

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
