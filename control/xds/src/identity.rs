//! The node's client for identities: joining, renewing, and the state of trust.

use std::convert::Infallible;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::proto::identity as api;
use crate::proto::identity::identity_client::IdentityClient;
use crate::target::Target;

/// Roots of some trust domains, and revoked serial numbers: 100,000 of them and room.
const MAX_STATE_BYTES: usize = 16 << 20;
/// One answer for each state that is read.
const TAKEN_QUEUE: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Asking again changes nothing.
    #[error("refused: {0}")]
    Refused(String),
    #[error("{0}")]
    Unreachable(String),
}

impl From<Status> for IdentityError {
    fn from(status: Status) -> IdentityError {
        let message = status.message().to_owned();
        match status.code() {
            Code::PermissionDenied
            | Code::Unauthenticated
            | Code::InvalidArgument
            | Code::FailedPrecondition => IdentityError::Refused(message),
            _ => IdentityError::Unreachable(message),
        }
    }
}

/// Becomes a node. With an empty token, by the machine's certificate that `control` shows.
pub async fn join(
    control: &Target,
    request: api::JoinRequest,
) -> Result<(api::Certificate, api::TrustState), IdentityError> {
    let answer = connect(control).await?.join(request).await?.into_inner();
    Ok((answer.certificate.unwrap_or_default(), answer.trust.unwrap_or_default()))
}

pub async fn renew(control: &Target, csr: Vec<u8>) -> Result<api::Certificate, IdentityError> {
    Ok(connect(control).await?.renew(api::RenewRequest { csr }).await?.into_inner())
}

pub async fn sign_workload(
    control: &Target,
    request: api::SignWorkloadRequest,
) -> Result<api::Certificate, IdentityError> {
    Ok(connect(control).await?.sign_workload(request).await?.into_inner())
}

/// One stream of the state of trust, until it ends: `on_state` puts each in force before it is answered.
pub async fn follow_trust(
    control: &Target,
    mut on_state: impl FnMut(api::TrustState),
) -> Result<Infallible, IdentityError> {
    let closed = || IdentityError::Unreachable("the control plane closed the stream".to_owned());
    let mut client = connect(control).await?;
    let (sender, receiver) = mpsc::channel(TAKEN_QUEUE);
    let tell = async |revision| sender.send(api::TrustTaken { revision }).await.map_err(|_| closed());
    tell(0).await?;
    let mut states = client.trust(ReceiverStream::new(receiver)).await?.into_inner();
    loop {
        let state = states.message().await?.ok_or_else(closed)?;
        let revision = state.revision;
        on_state(state);
        tell(revision).await?;
    }
}

async fn connect(control: &Target) -> Result<IdentityClient<Channel>, IdentityError> {
    let channel = control.connect().await.map_err(IdentityError::Unreachable)?;
    Ok(IdentityClient::new(channel).max_decoding_message_size(MAX_STATE_BYTES))
}
