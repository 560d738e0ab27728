//! From options to a control plane that knows who is who: the authority, what it issues, and TLS with its certificate.

use std::sync::Arc;

use ::identity::tls::{self, Shown, Visitors};
use ::identity::{CertificateDer, Svid};
use tokio::task::spawn_blocking;
use tokio_rustls::TlsAcceptor;

use crate::access;
use crate::ca::files::Paths;
use crate::ca::{AuthorityError, BuiltIn, CertificateAuthority, FromFiles, KeySource, Plugin, SealingKey};
use crate::identities::rotation::Followers;
use crate::identities::{self, IssueError, Issuer, NodeTokens, Operators, Records, Started};
use crate::refusal::Refusals;
use crate::serve::{Identities, Tls};
use crate::store::Store;

/// Which authority signs.
#[derive(Clone, Debug)]
pub enum AuthoritySource {
    /// A root of our own, its key sealed under this one.
    BuiltIn(Option<KeySource>),
    Files(Paths),
    /// The address of a plug-in.
    Plugin(String),
}

#[derive(Clone)]
pub struct Secure {
    pub options: identities::Options,
    pub authority: AuthoritySource,
    /// Roots of whoever certifies machines that may join by their certificate.
    pub join_roots: Vec<CertificateDer<'static>>,
    /// Of identities; the resources' store is another.
    pub store: Arc<dyn Store>,
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure")
            .field("options", &self.options)
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}

/// All of it, started.
#[derive(Debug)]
pub struct Secured {
    pub tls: Tls,
    pub identities: Identities,
    shown: Arc<Shown>,
    first: Svid,
}

impl Secure {
    pub async fn start(self, refusals: Arc<Refusals>) -> Result<Secured, IssueError> {
        let records = Arc::new(Records::new(self.store.clone()));
        let authority = self.open_authority(records.clone()).await?;
        let Started { issuer, shown, svid } =
            Issuer::start(self.options, authority, records.clone(), refusals.clone()).await?;
        let visitors = Arc::new(Visitors::new(issuer.trust.clone(), self.join_roots));
        let config = tls::server_config(shown.clone(), visitors.clone())
            .map_err(|error| IssueError::Tls(error.to_string()))?;
        Ok(Secured {
            tls: Tls { acceptor: TlsAcceptor::from(Arc::new(config)), visitors, refusals },
            identities: Identities {
                issuer,
                tokens: Arc::new(NodeTokens::new(records.clone())),
                operators: Arc::new(Operators::new(records.clone())),
                followers: Arc::new(Followers::default()),
                records,
            },
            shown,
            first: svid,
        })
    }

    async fn open_authority(
        &self,
        records: Arc<Records>,
    ) -> Result<Arc<dyn CertificateAuthority>, AuthorityError> {
        let (source, domain) = (self.authority.clone(), self.options.trust_domain.clone());
        if let AuthoritySource::Plugin(address) = &source {
            let endpoint = xds::endpoint::parse(address);
            return Ok(Arc::new(Plugin::new(
                endpoint.map_err(|error| AuthorityError::Plugin(error.to_string()))?,
            )));
        }
        let opened = spawn_blocking(move || -> Result<Arc<dyn CertificateAuthority>, AuthorityError> {
            Ok(match source {
                AuthoritySource::BuiltIn(key) => {
                    Arc::new(BuiltIn::open(records, domain, SealingKey::load(key.as_ref())?)?)
                }
                AuthoritySource::Files(paths) => Arc::new(FromFiles::open(&paths)?),
                AuthoritySource::Plugin(_) => unreachable!("a plug-in is no file"),
            })
        });
        opened.await.expect("opening an authority does not panic")
    }
}

impl Secured {
    /// What access is decided by.
    pub fn known(&self) -> access::Identities {
        access::Identities {
            domain: self.identities.issuer.options.trust_domain.clone(),
            operators: self.identities.operators.clone(),
            issuer: self.identities.issuer.clone(),
        }
    }

    /// Keeps certificates and trust current, for ever.
    pub async fn run(&self) {
        self.identities.issuer.run(&self.shown, &self.first).await;
    }
}
