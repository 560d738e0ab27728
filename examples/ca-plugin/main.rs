//! A certificate authority behind ringway-control: the smallest that works. Its root lives in this process's memory, so it
//! is for trying and for copying; where it signs, yours asks Vault, step-ca or an HSM.
//!
//!     cargo run -p ringway-control --example ca-plugin -- /run/ca.sock
//!     ringway-control --ca-plugin unix:/run/ca.sock
//!
//! What a plug-in answers is `control/xds/proto/ringway/ca.proto`. ringway-control decides who is certified, and verifies
//! whatever comes back before a node sees it.

use std::time::{Duration, SystemTime};

use identity::SigningRequest;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, SubjectPublicKeyInfo,
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};
use xds::proto::ca::certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer};
use xds::proto::ca::{RootsRequest, RootsResponse, SignRequest, SignResponse};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
}

#[tonic::async_trait]
impl CertificateAuthority for Authority {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let request = request.into_inner();
        // Who asks was decided by ringway-control; that he holds the key is checked here once more.
        let csr = SigningRequest::read(&request.csr)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let leaf = self.leaf(&request, &csr).map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(SignResponse { chain: vec![leaf] }))
    }

    async fn roots(&self, _: Request<RootsRequest>) -> Result<Response<RootsResponse>, Status> {
        Ok(Response::new(RootsResponse { roots: vec![self.root.clone()], generation: 1 }))
    }
}

impl Authority {
    fn new() -> Result<Authority, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Example CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_after = (SystemTime::now() + Duration::from_secs(365 * 86_400)).into();
        let root = params.self_signed(&key)?.der().to_vec();
        Ok(Authority { issuer: Issuer::new(params, key), root })
    }

    /// SPIFFE X.509-SVID: one URI, both ends of TLS, digital signature, no CA.
    fn leaf(&self, request: &SignRequest, csr: &SigningRequest) -> Result<Vec<u8>, rcgen::Error> {
        let time = |unix| SystemTime::UNIX_EPOCH + Duration::from_secs(unix);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(request.spiffe_id.clone().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = time(request.not_before_unix).into();
        params.not_after = time(request.not_after_unix).into();
        let key = SubjectPublicKeyInfo::from_der(&csr.public_key)?;
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).ok_or("usage: ca-plugin /PATH/OF/SOCKET")?;
    let listener = UnixListener::bind(&socket)?;
    println!("listening on unix:{socket}");
    Server::builder()
        .add_service(CertificateAuthorityServer::new(Authority::new()?))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await?;
    Ok(())
}
