//! An intermediate from files: its chain and its key, from an authority that is looked after elsewhere. Read once, and
//! proven by a certificate that is signed and verified before anybody is served.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use identity::{CertificateDer, encode};
use rcgen::{Issuer, KeyPair};

use super::{AuthorityError, CertificateAuthority, Chain, Order, Roots, Rotation, profile};

#[derive(Debug)]
pub struct FromFiles {
    issuer: Arc<Issuer<'static, KeyPair>>,
    /// What goes behind each leaf.
    intermediates: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
}

/// Where they are, PEM each.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The certificate that signs first, then those above it, without the root.
    pub chain: PathBuf,
    pub key: PathBuf,
    pub roots: PathBuf,
}

impl FromFiles {
    /// Blocking.
    pub fn open(paths: &Paths) -> Result<FromFiles, AuthorityError> {
        let intermediates = certificates(&paths.chain)?;
        let roots = certificates(&paths.roots)?;
        let wrong = |path: &Path, error: rcgen::Error| AuthorityError::File {
            path: path.display().to_string(),
            problem: error.to_string(),
        };
        let pair = KeyPair::from_pem(&read(&paths.key)?).map_err(|error| wrong(&paths.key, error))?;
        let issuer =
            Issuer::from_ca_cert_der(&intermediates[0], pair).map_err(|error| wrong(&paths.chain, error))?;
        Ok(FromFiles { issuer: Arc::new(issuer), intermediates, roots })
    }
}

#[tonic::async_trait]
impl CertificateAuthority for FromFiles {
    fn kind(&self) -> &'static str {
        "files"
    }

    async fn sign(&self, order: &Order) -> Result<Chain, AuthorityError> {
        let leaf = profile::sign(order, &self.issuer)?;
        Ok(std::iter::once(leaf).chain(self.intermediates.iter().cloned()).collect())
    }

    async fn roots(&self) -> Result<Roots, AuthorityError> {
        Ok(Roots { certificates: self.roots.clone(), generation: 1 })
    }

    async fn rotate(&self, _: Rotation) -> Result<(), AuthorityError> {
        let problem = "the CA is an intermediate from files: replace the files, with both roots in the roots' file, and \
                       restart ringway-control";
        Err(AuthorityError::Rotation(problem.to_owned()))
    }
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    std::fs::read_to_string(path).map_err(|error| AuthorityError::File {
        path: path.display().to_string(),
        problem: error.to_string(),
    })
}

/// At least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    encode::certificates_from_pem(&read(path)?).map_err(|error| AuthorityError::File {
        path: path.display().to_string(),
        problem: error.to_string(),
    })
}
