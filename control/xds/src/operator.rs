//! The operator's client: what `ringway` uses to reach `ringway-control`.

use tonic::transport::Channel;

use crate::endpoint::{self, AddressError};
use crate::proto::control::control_client::ControlClient;

/// Answers may be large: all resources of a mesh in one.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot reach the control plane at {address}: {cause}")]
    Unreachable { address: String, cause: String },
}

/// Connects to the control plane at `address`.
pub async fn connect(address: &str) -> Result<ControlClient<Channel>, ConnectError> {
    let endpoint = endpoint::parse(address)?;
    let channel = endpoint.connect().await.map_err(|error| ConnectError::Unreachable {
        address: address.to_owned(),
        cause: endpoint::innermost(&error),
    })?;
    Ok(ControlClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES))
}
