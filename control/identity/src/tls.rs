//! TLS for whoever shows an X.509-SVID or asks for one: TLS 1.3 only, no resumption, no tickets, no early data.

use std::sync::{Arc, RwLock};

use model::spiffe::Holder;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};

use crate::error::SvidError;
use crate::pin::Pin;
use crate::svid::Svid;
use crate::trust::{Peer, Trust, TrustStore, verify_machine, verify_pinned, verify_under};

/// gRPC speaks HTTP/2 and nothing else (RFC 9113, section 3.3).
const ALPN: &[u8] = b"h2";

/// The hybrid of X25519 and ML-KEM-768 first, so that what is recorded today stays closed to tomorrow's machines.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
        ..default_provider()
    })
}

/// A certificate chain and its key, as a handshake shows them.
pub fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, Error> {
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new)
}

/// The certificate that a server shows; a new one serves new connections.
#[derive(Debug)]
pub struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    pub fn new(key: Arc<CertifiedKey>) -> Shown {
        Shown(RwLock::new(key))
    }

    pub fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().expect("no holder of this lock panics") = key;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().expect("no holder of this lock panics").clone())
    }
}

/// A server that shows `shown`, and believes clients that `visitors` believes; a client without a certificate comes in too,
/// and may do what a stranger may.
pub fn server_config(shown: Arc<Shown>, visitors: Arc<Visitors>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(visitors)
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// How a client knows the control plane.
#[derive(Clone, Debug)]
pub enum Known {
    /// By the roots of its trust domain.
    Roots(Arc<TrustStore>),
    /// By these roots, whatever its trust domain is called.
    Authority(Vec<CertificateDer<'static>>),
    /// By the SHA-256 of its root, before it has met it.
    Pinned(Pin),
}

/// A client of the control plane, and of nobody else; with a certificate of its own, or without one.
pub fn client_config(known: Known, own: Option<Arc<CertifiedKey>>) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(ControlVerifier { known, algorithms: algorithms() });
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(own))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

/// Believes a server that is the control plane of the trust domain; its name on the network says nothing.
#[derive(Debug)]
struct ControlVerifier {
    known: Known,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ControlVerifier {
    fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Svid, SvidError> {
        let svid = match &self.known {
            Known::Roots(trust) => trust.current().verify(chain, Peer::Server, now)?,
            Known::Authority(roots) => verify_under(chain, roots, Peer::Server, now)?,
            Known::Pinned(pin) => verify_pinned(chain, *pin, Peer::Server, now)?,
        };
        if svid.id.holder() == Holder::Control { Ok(svid) } else { Err(SvidError::OtherHolder) }
    }
}

impl ServerCertVerifier for ControlVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(&join(end_entity, intermediates), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Believes clients of the trust domains, and machines whose certificates come from an authority that may let them join.
#[derive(Debug)]
pub struct Visitors {
    trust: Arc<TrustStore>,
    machines: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Who showed a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visitor {
    /// A holder of an X.509-SVID.
    Svid(Svid),
    /// A machine, by the names in its certificate.
    Machine(Vec<String>),
}

impl Visitors {
    /// `machines`: roots of whoever certifies machines, for x509 proof of possession.
    pub fn new(trust: Arc<TrustStore>, machines: Vec<CertificateDer<'static>>) -> Visitors {
        Visitors { trust, machines, algorithms: algorithms() }
    }

    /// Who the holder of this chain is.
    pub fn recognize(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<Visitor, SvidError> {
        let refused = match self.trust().verify(chain, Peer::Client, now) {
            Ok(svid) => return Ok(Visitor::Svid(svid)),
            Err(refused) => refused,
        };
        if self.machines.is_empty() {
            return Err(refused);
        }
        verify_machine(chain, &self.machines, now).map(Visitor::Machine).map_err(|_| refused)
    }

    fn trust(&self) -> Arc<Trust> {
        self.trust.current()
    }
}

impl ClientCertVerifier for Visitors {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.recognize(&join(end_entity, intermediates), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn join<'a>(leaf: &CertificateDer<'a>, rest: &[CertificateDer<'a>]) -> Vec<CertificateDer<'a>> {
    std::iter::once(leaf).chain(rest).cloned().collect()
}
