//! What the streams have in common: bounds, answers, the one response in flight.

use std::sync::Arc;

use crate::envoy::{core, rpc};
use crate::snapshot::{ResourceType, Snapshot};

/// Names that one stream may subscribe to, of one type: as many as the largest mesh that we mean to carry has services.
pub const MAX_NAMES: usize = 16_384;
/// Longest name of a resource; Kubernetes' longest names (253) twice, and room for what we put between.
pub const MAX_NAME_BYTES: usize = 1_024;
/// Resources go out in responses of about this size, far below every client's message limit (gRPC: 4 MiB).
pub const RESPONSE_BYTES: usize = 1 << 20;
/// Longest detail of a refusal that we keep.
pub const MAX_DETAIL_BYTES: usize = 4_096;

/// The wildcard name of xDS.
pub(super) const WILDCARD: &str = "*";

/// The server's end of one stream, in either dialect.
pub trait ServerStream: Default {
    type Request;
    type Response;
    /// Who asks; the first request of a stream says it.
    fn node(request: &Self::Request) -> Option<&core::Node>;
    /// What the client may see from now on. Older snapshots that it has not seen are skipped.
    fn handle_snapshot(&mut self, snapshot: Arc<Snapshot>);
    /// A request: answer to a response, change of subscription, or both. A type that we do not serve is ignored.
    fn handle_request(&mut self, request: Self::Request) -> Result<Option<Acknowledgement>, StreamError>;
    /// The next response to send, if there is one now.
    fn poll_response(&mut self) -> Option<Self::Response>;
}

/// What a client said to a response of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub kind: ResourceType,
    /// The snapshot that the response was made from.
    pub version: u64,
    /// Refused: the client's own words, clipped to [`MAX_DETAIL_BYTES`].
    pub outcome: Result<(), String>,
}

/// Why a stream must end; the other side broke a bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("more than {MAX_NAMES} names of type {0} in one stream")]
    TooManyNames(ResourceType),
    #[error("a resource name of {0} bytes, the longest allowed is {MAX_NAME_BYTES}")]
    NameTooLong(usize),
}

pub(super) fn check_names(kind: ResourceType, names: &[String], already: usize) -> Result<(), StreamError> {
    if names.len() + already > MAX_NAMES {
        return Err(StreamError::TooManyNames(kind));
    }
    match names.iter().map(String::len).find(|length| *length > MAX_NAME_BYTES) {
        Some(length) => Err(StreamError::NameTooLong(length)),
        None => Ok(()),
    }
}

fn detail_of(status: rpc::Status) -> String {
    let mut detail = status.message;
    let end = detail.floor_char_boundary(MAX_DETAIL_BYTES);
    detail.truncate(end);
    detail
}

pub(super) fn control_plane() -> Option<core::ControlPlane> {
    Some(core::ControlPlane { identifier: concat!("ringway-control/", env!("CARGO_PKG_VERSION")).to_owned() })
}

/// A response that waits for its answer.
#[derive(Debug)]
pub(super) struct InFlight {
    pub nonce: String,
    pub version: u64,
}

/// The answer to what was in flight, if `nonce` is its nonce.
pub(super) fn settle(
    in_flight: &mut Option<InFlight>,
    kind: ResourceType,
    nonce: &str,
    error: Option<rpc::Status>,
) -> Option<Acknowledgement> {
    let answered = in_flight.take_if(|sent| sent.nonce == nonce)?;
    let outcome = match error {
        None => Ok(()),
        Some(status) => Err(detail_of(status)),
    };
    Some(Acknowledgement { kind, version: answered.version, outcome })
}

/// Whether a response of `kind` must wait while `held` have more to send than their unanswered response.
///
/// Endpoints never wait: Envoy answers clusters only once it has the endpoints of those that it was sent. Listeners and
/// routes wait for what they use; what closes a publication waits for all.
pub(super) fn must_wait(kind: ResourceType, held: &[ResourceType]) -> bool {
    match kind {
        ResourceType::Cluster | ResourceType::Endpoints => false,
        ResourceType::Listener | ResourceType::Routes => {
            held.iter().any(|held| *held <= ResourceType::Endpoints)
        }
        ResourceType::SourceClasses => !held.is_empty(),
    }
}
