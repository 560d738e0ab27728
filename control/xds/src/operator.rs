//! The operator's client: what `ringway` uses to reach `ringway-control`.

use std::fmt;

use prost::{Message, Name};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::endpoint::AddressError;
use crate::envoy::{protobuf, rpc};
use crate::proto::control::control_client::ControlClient;
use crate::proto::control::{FieldError, ObjectKey, Refusal};
use crate::proto::identity::administration_client::AdministrationClient;
use crate::target::Target;

/// Answers may be large: all resources of a mesh in one.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// HTTP/2 peers take header lists of 16 KiB by default; the details are base64 in one.
const MAX_DETAILS_BYTES: usize = 8 << 10;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("cannot reach the control plane at {address}: {cause}")]
    Unreachable { address: String, cause: String },
}

/// Speaks to a control plane as its operators do.
pub type Client = ControlClient<InterceptedService<Channel, Bearer>>;
/// Looks after identities.
pub type Administration = AdministrationClient<InterceptedService<Channel, Bearer>>;

/// An operator's token, sent with each request; or none.
#[derive(Clone, Default)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer" } else { "no Bearer" })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("an operator's token is one word of plain letters")]
pub struct TokenError;

impl Bearer {
    pub fn new(token: &str) -> Result<Bearer, TokenError> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| TokenError)?;
        value.set_sensitive(true);
        Ok(Bearer(Some(value)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// Connects, plain and without a credential, to the control plane at `address`.
pub async fn connect(address: &str) -> Result<Client, ConnectError> {
    connect_to(&Target::plain(address)?, Bearer::default()).await
}

pub async fn connect_to(target: &Target, bearer: Bearer) -> Result<Client, ConnectError> {
    let channel = open(target).await?;
    Ok(ControlClient::with_interceptor(channel, bearer).max_decoding_message_size(MAX_MESSAGE_BYTES))
}

pub async fn administer(target: &Target, bearer: Bearer) -> Result<Administration, ConnectError> {
    Ok(AdministrationClient::with_interceptor(open(target).await?, bearer))
}

async fn open(target: &Target) -> Result<Channel, ConnectError> {
    let unreachable = |cause| ConnectError::Unreachable { address: target.address().to_owned(), cause };
    target.connect().await.map_err(unreachable)
}

/// The refusal of a request, with each field that is wrong, in `grpc-status-details-bin`.
pub fn refusal(code: Code, errors: Vec<FieldError>) -> Status {
    let lines: Vec<String> = errors.iter().map(FieldError::to_string).collect();
    let message = clip(lines.join("\n"));
    let detail = Refusal { errors };
    let any = protobuf::Any { type_url: Refusal::type_url(), value: detail.encode_to_vec() };
    let details = rpc::Status { code: code as i32, message: message.clone(), details: vec![any] };
    let details = details.encode_to_vec();
    // Beyond what peers take in their trailers, the message alone has to do.
    if details.len() > MAX_DETAILS_BYTES {
        return Status::new(code, message);
    }
    Status::with_details(code, message, details.into())
}

/// What [`refusal`] put into a status.
pub fn read_refusal(status: &Status) -> Option<Refusal> {
    let details = rpc::Status::decode(status.details()).ok()?;
    let any = details.details.into_iter().find(|any| any.type_url == Refusal::type_url())?;
    Refusal::decode(any.value.as_slice()).ok()
}

fn clip(mut message: String) -> String {
    message.truncate(message.floor_char_boundary(MAX_DETAILS_BYTES / 4));
    message
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}
