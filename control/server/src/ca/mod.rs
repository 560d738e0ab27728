//! Certificate authorities: who signs. Whom a certificate may name was decided before, by `identity::issuer`, which also
//! checks what comes back.

pub mod built_in;
pub mod files;
pub mod plugin;
pub mod profile;
pub mod seal;

use std::time::SystemTime;

use identity::{CertificateDer, SigningRequest};
use model::spiffe::SpiffeId;

pub use built_in::BuiltIn;
pub use files::FromFiles;
pub use plugin::Plugin;
pub use seal::{KeySource, SealingKey};

/// One certificate to be signed.
#[derive(Clone, Debug)]
pub struct Order {
    pub id: SpiffeId,
    pub request: SigningRequest,
    pub not_before: SystemTime,
    pub not_after: SystemTime,
}

/// Leaf first, without the root.
pub type Chain = Vec<CertificateDer<'static>>;

/// The roots that nodes trust, the one that signs first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    pub certificates: Vec<CertificateDer<'static>>,
    /// Grows when another key signs.
    pub generation: u64,
}

/// A root's replacement, one step at a time; between them every node gets the new roots.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// A new root is made and trusted beside the one that signs.
    Prepare,
    /// The new root signs; the old one is still trusted.
    Activate,
    /// The old root is trusted no longer.
    Retire,
}

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("{0}")]
    Key(#[from] seal::SealError),
    #[error("the certificate authority's store: {0}")]
    Store(#[from] crate::store::StoreError),
    #[error(
        "the store's CA is of trust domain {found}, and --trust-domain is {wanted}: they must be the same"
    )]
    OtherDomain { found: String, wanted: String },
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("cannot sign: {0}")]
    Sign(String),
    #[error("the CA plug-in: {0}")]
    Plugin(String),
    #[error("{0}")]
    Rotation(String),
}

#[tonic::async_trait]
pub trait CertificateAuthority: std::fmt::Debug + Send + Sync + 'static {
    /// "built-in", "files" or "plug-in".
    fn kind(&self) -> &'static str;
    async fn sign(&self, order: &Order) -> Result<Chain, AuthorityError>;
    async fn roots(&self) -> Result<Roots, AuthorityError>;
    /// What comes next in a root's replacement; [`Rotation::Prepare`] when none is under way.
    fn next_step(&self) -> Rotation {
        Rotation::Prepare
    }
    async fn rotate(&self, step: Rotation) -> Result<(), AuthorityError>;
}
