//! An authority behind gRPC (`ringway/ca.proto`): Vault, step-ca, an HSM. It signs; whom it signs for is decided here.

use std::time::{Duration, SystemTime};

use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use xds::proto::ca::certificate_authority_client::CertificateAuthorityClient;
use xds::proto::ca::{RootsRequest, SignRequest};

use super::{AuthorityError, CertificateAuthority, Chain, Order, Roots, Rotation};

/// An HSM or a Vault far away may take its time; a node that waits longer asks again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Plugin {
    client: CertificateAuthorityClient<Channel>,
}

impl Plugin {
    /// Connects when it is first asked, and again after it was away.
    pub fn new(endpoint: Endpoint) -> Plugin {
        Plugin { client: CertificateAuthorityClient::new(endpoint.connect_lazy()) }
    }
}

#[tonic::async_trait]
impl CertificateAuthority for Plugin {
    fn kind(&self) -> &'static str {
        "plug-in"
    }

    async fn sign(&self, order: &Order) -> Result<Chain, AuthorityError> {
        let request = SignRequest {
            csr: order.request.der.clone(),
            spiffe_id: order.id.to_string(),
            not_before_unix: unix(order.not_before),
            not_after_unix: unix(order.not_after),
        };
        let answer = self.client.clone().sign(timed(request)).await.map_err(failed)?.into_inner();
        Ok(answer.chain.into_iter().map(Into::into).collect())
    }

    async fn roots(&self) -> Result<Roots, AuthorityError> {
        let answer = self.client.clone().roots(timed(RootsRequest {})).await.map_err(failed)?.into_inner();
        let certificates = answer.roots.into_iter().map(Into::into).collect();
        Ok(Roots { certificates, generation: answer.generation })
    }

    async fn rotate(&self, _: Rotation) -> Result<(), AuthorityError> {
        let problem = "the CA is a plug-in: rotate it where it lives; nodes follow what its Roots answer within a minute";
        Err(AuthorityError::Rotation(problem.to_owned()))
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_WITHIN);
    request
}

fn failed(status: Status) -> AuthorityError {
    AuthorityError::Plugin(status.message().to_owned())
}

fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
