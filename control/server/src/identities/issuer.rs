//! Issues and revokes: every certificate of the mesh passes here, is checked, and is remembered until it expires.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::tls::{self, Shown};
use identity::trust::{Peer, TrustError};
use identity::{
    CertificateDer, CertifiedKey, Key, SigningRequest, Svid, SvidError, Trust, TrustStore, UnixTime,
};
use model::spiffe::{SpiffeId, TrustDomain};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};
use xds::proto::identity as api;

use super::records::{Issued, Records, unix};
use crate::ca::{AuthorityError, CertificateAuthority, Order};
use crate::refusal::{Refusal, Refusals};
use crate::store::StoreError;

/// DEFAULTS: identity, lifetime.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// A node whose clock is a little behind takes its certificate at once. Of a short life it is a tenth: half-life counts
/// from here, and must lie ahead.
const BACKDATED: Duration = Duration::from_secs(60);
/// How often a plug-in is asked for its roots, and the expired are forgotten.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a failed renewal of our own certificate.
const TRY_AGAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub struct Options {
    pub trust_domain: TrustDomain,
    pub lifetime: Duration,
    /// Other trust domains, with their roots.
    pub federated: Vec<(TrustDomain, Vec<CertificateDer<'static>>)>,
}

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error(transparent)]
    Request(#[from] SvidError),
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The authority signed something else than it was asked for.
    #[error("the certificate authority answered with a certificate that cannot be used: {0}")]
    Answer(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error("TLS: {0}")]
    Tls(String),
}

impl IssueError {
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            IssueError::Request(reason) => Some(Refusal::Svid(*reason)),
            IssueError::Authority(_) => Some(Refusal::AuthorityFailed),
            IssueError::Answer(_) => Some(Refusal::AuthorityAnswer),
            IssueError::Store(_) | IssueError::Trust(_) | IssueError::Tls(_) => None,
        }
    }
}

/// An issuer that has proven itself, and the certificate that it made of it.
#[derive(Debug)]
pub struct Started {
    pub issuer: Arc<Issuer>,
    pub shown: Arc<Shown>,
    pub svid: Svid,
}

#[derive(Debug)]
pub struct Issuer {
    pub options: Options,
    pub authority: Arc<dyn CertificateAuthority>,
    pub records: Arc<Records>,
    pub trust: Arc<TrustStore>,
    pub refusals: Arc<Refusals>,
    /// What nodes are told; its revision grows with each change.
    state: watch::Sender<api::TrustState>,
    /// One at a time makes a new state.
    refreshing: tokio::sync::Mutex<()>,
}

impl Issuer {
    /// Asks the authority for its roots, and proves by a certificate of our own that it signs under them.
    pub async fn start(
        options: Options,
        authority: Arc<dyn CertificateAuthority>,
        records: Arc<Records>,
        refusals: Arc<Refusals>,
    ) -> Result<Started, IssueError> {
        let issuer = Issuer {
            options,
            authority,
            records,
            trust: Arc::default(),
            refusals,
            state: watch::Sender::default(),
            refreshing: tokio::sync::Mutex::default(),
        };
        issuer.forget_expired().await?;
        issuer.refresh().await?;
        let (certified, svid) = issuer.own_certificate().await?;
        Ok(Started { issuer: Arc::new(issuer), shown: Arc::new(Shown::new(certified)), svid })
    }

    /// Signs for `id`, whose key stays with whoever made `csr`. Remembered as in use by `node`.
    pub async fn issue(
        &self,
        id: SpiffeId,
        csr: &[u8],
        node: Option<&str>,
    ) -> Result<api::Certificate, IssueError> {
        let issued = self.sign_and_check(id, csr, node).await;
        if let Some(refusal) = issued.as_ref().err().and_then(IssueError::refusal) {
            self.refusals.count(refusal);
        }
        issued
    }

    async fn sign_and_check(
        &self,
        id: SpiffeId,
        csr: &[u8],
        node: Option<&str>,
    ) -> Result<api::Certificate, IssueError> {
        let request = SigningRequest::read(csr)?;
        let now = SystemTime::now();
        let order = Order {
            id,
            request,
            not_before: now - BACKDATED.min(self.options.lifetime / 10),
            not_after: now + self.options.lifetime,
        };
        let generation = self.state.borrow().generation;
        let chain = self.authority.sign(&order).await?;
        let svid = self.check(&order, &chain)?;
        let issued = Issued {
            id: order.id.to_string(),
            node: node.map(str::to_owned),
            expires_unix: unix(svid.not_after),
            generation,
        };
        let (records, serial) = (self.records.clone(), svid.serial);
        blocking(move || records.put_issued(&serial, &issued)).await?;
        Ok(api::Certificate { chain: chain.iter().map(|part| part.to_vec()).collect(), generation })
    }

    /// Whatever signed, a node sees only what every peer of it will believe.
    fn check(&self, order: &Order, chain: &[CertificateDer<'static>]) -> Result<Svid, IssueError> {
        let wrong = |what: &str| Err(IssueError::Answer(what.to_owned()));
        let verified = self.trust.current().verify(chain, Peer::Server, UnixTime::now());
        let svid = verified.map_err(|reason| IssueError::Answer(reason.to_string()))?;
        if svid.id != order.id {
            return wrong("it names another SPIFFE ID");
        }
        if svid.public_key != order.request.public_key {
            return wrong("it has another public key");
        }
        // Certificates know whole seconds.
        if svid.not_after > order.not_after + Duration::from_secs(1) {
            return wrong("it is valid for longer than was asked for");
        }
        Ok(svid)
    }

    /// Takes back what `which` picks: every node hears of it, and streams of the holders end.
    pub async fn revoke(
        &self,
        which: impl Fn(&Issued) -> bool + Send + 'static,
    ) -> Result<Vec<String>, IssueError> {
        let records = self.records.clone();
        let serials = blocking(move || records.revoke(which)).await?;
        if !serials.is_empty() {
            self.refresh().await?;
        }
        Ok(serials)
    }

    /// Makes what the authority and the store say the trust in force, here and at the nodes.
    pub async fn refresh(&self) -> Result<(), IssueError> {
        let _turn = self.refreshing.lock().await;
        let roots = self.authority.roots().await?;
        let records = self.records.clone();
        let revoked = blocking(move || records.revoked()).await?;
        let revoked: Vec<String> = revoked.into_iter().map(|(serial, _)| serial).collect();
        let mut trust = Trust::default().with_roots(self.options.trust_domain.clone(), roots.certificates)?;
        for (domain, roots) in &self.options.federated {
            trust = trust.with_roots(domain.clone(), roots.clone())?;
        }
        let bundles = trust.domains().map(|(domain, roots)| to_bundle(domain, roots)).collect();
        self.trust.replace(trust.with_revoked(revoked.iter().cloned()));
        let fresh = api::TrustState { revision: 0, bundles, revoked, generation: roots.generation };
        self.state.send_if_modified(|state| {
            let changed = api::TrustState { revision: 0, ..state.clone() } != fresh;
            if changed {
                *state = api::TrustState { revision: state.revision + 1, ..fresh };
            }
            changed
        });
        Ok(())
    }

    async fn forget_expired(&self) -> Result<(), StoreError> {
        let records = self.records.clone();
        blocking(move || records.forget_expired(unix(SystemTime::now()))).await
    }

    /// The state that nodes shall have, and its changes.
    pub fn states(&self) -> watch::Receiver<api::TrustState> {
        self.state.subscribe()
    }

    /// The roots of our own trust domain.
    pub fn bundle(&self) -> api::Bundle {
        let trust = self.trust.current();
        to_bundle(&self.options.trust_domain, trust.roots(&self.options.trust_domain))
    }

    /// The certificate that we show, with the root behind it for those who only have its pin.
    async fn own_certificate(&self) -> Result<(Arc<CertifiedKey>, Svid), IssueError> {
        let key = Key::generate().map_err(|error| IssueError::Tls(error.to_string()))?;
        let csr = key.request().map_err(|error| IssueError::Tls(error.to_string()))?;
        let id = SpiffeId::control(&self.options.trust_domain);
        let certificate = self.issue(id, &csr, None).await?;
        let mut chain: Vec<CertificateDer<'static>> =
            certificate.chain.into_iter().map(CertificateDer::from).collect();
        let svid = Svid::read(&chain[0])?;
        chain.extend(self.trust.current().roots(&self.options.trust_domain).iter().cloned());
        let certified =
            tls::certified(chain, key.to_der()).map_err(|error| IssueError::Tls(error.to_string()))?;
        Ok((certified, svid))
    }

    /// Keeps our own certificate young, the roots current, and forgets the expired; for ever.
    pub async fn run(&self, shown: &Shown, first: &Svid) {
        let mut states = self.states();
        let (mut renew_at, mut generation) = (first.half_life(), states.borrow().generation);
        loop {
            let now = SystemTime::now();
            let signs = states.borrow_and_update().generation;
            if now >= renew_at || signs != generation {
                match self.own_certificate().await {
                    Ok((certified, svid)) => {
                        info!(serial = svid.serial, "own certificate renewed");
                        shown.replace(certified);
                        (renew_at, generation) = (svid.half_life(), signs);
                    }
                    Err(problem) => {
                        warn!(%problem, "own certificate cannot be renewed, the last one stays");
                        renew_at = now + TRY_AGAIN;
                    }
                }
            }
            let pause = renew_at.duration_since(now).unwrap_or_default().min(LOOK_EVERY);
            tokio::select! {
                () = sleep(pause) => {}
                _ = states.changed() => continue,
            }
            if let Err(problem) = self.forget_expired().await {
                warn!(%problem, "expired certificates cannot be forgotten");
            }
            if let Err(problem) = self.refresh().await {
                warn!(%problem, "the roots cannot be read, the last ones stay");
            }
        }
    }
}

fn to_bundle(domain: &TrustDomain, roots: &[CertificateDer<'static>]) -> api::Bundle {
    api::Bundle { trust_domain: domain.to_string(), roots: roots.iter().map(|root| root.to_vec()).collect() }
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(act).await.expect("a store does not panic")
}
