//! `ringway-control`: resources in, per-node tables out.
//!
//! ```text
//! operator --Apply--> serve::operator -> registry -> store (durable) --mirror--> publish (compile, encode)
//!                                                                                   |  one view per client
//! node     --ADS----> serve::ads <-------------------------------------------------+
//!          --report-> serve::node -> fleet --answers, health--> publish
//!          --join, renew, sign--> serve::identity -> identities::issuer -> ca
//! ```
//!
//! Who may do what is `access`, who did what `audit`, and why somebody was refused `refusal`.
#![forbid(unsafe_code)]

pub mod access;
pub mod audit;
pub mod ca;
pub mod fleet;
mod grpc_view;
pub mod identities;
mod mirror;
pub mod publish;
pub mod refusal;
pub mod registry;
mod secure;
pub mod serve;
pub mod store;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::ServicePrefixes;
use tokio::sync::watch;
use tokio::time::timeout;

use access::Access;
use audit::Audit;
use fleet::Fleet;
use publish::Publisher;
use refusal::Refusals;
use registry::Registry;
use serve::{Listening, ServeError, Shared};
use store::{Store, StoreError};

pub use secure::{AuthoritySource, Secure};

/// Streams have ended by then; what is still open is cut off.
const END_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub unix: Option<PathBuf>,
    /// Somebody has said that an address beyond loopback is meant.
    pub insecure: bool,
    pub prefixes: ServicePrefixes,
    pub security: Security,
    /// Where the audit log is kept; without it, in memory only.
    pub audit: Option<PathBuf>,
}

/// Whether peers are asked who they are.
#[derive(Clone, Debug)]
pub enum Security {
    /// No TLS, and nobody is asked: for one host, its loopback, and tests.
    Plain,
    Secure(Secure),
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "{0} is not a loopback address, and with --plain whoever reaches it may change the mesh: leave --plain away, \
         listen on 127.0.0.1 or a Unix socket, or add --insecure"
    )]
    NotLoopback(SocketAddr),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("identities: {0}")]
    Identities(#[from] identities::IssueError),
    #[error("the audit log: {0}")]
    Audit(std::io::Error),
}

/// Serves until `end` is ready, then ends cleanly. `on_listening` is told the address, once it answers.
pub async fn run(
    options: Options,
    store: Arc<dyn Store>,
    on_listening: impl FnOnce(&Listening),
    end: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let plain = matches!(options.security, Security::Plain);
    let beyond_loopback = !options.listen.ip().is_loopback();
    if plain && beyond_loopback && !options.insecure {
        return Err(RunError::NotLoopback(options.listen));
    }
    let audit = Arc::new(Audit::open(options.audit.as_deref()).map_err(RunError::Audit)?);
    let refusals = Arc::new(Refusals::default());
    let secured = match options.security {
        Security::Plain => None,
        Security::Secure(secure) => Some(secure.start(refusals.clone()).await?),
    };
    let listening = Listening::open(options.listen, options.unix.as_deref()).await?;
    on_listening(&listening);
    let fleet = Arc::new(Fleet::default());
    let publisher = Arc::new(Publisher::new(fleet.clone()));
    let (ending, is_ending) = watch::channel(false);
    let shared = Shared {
        registry: Arc::new(Registry::new(store.clone(), options.prefixes)),
        publisher: publisher.clone(),
        fleet,
        store: store.clone(),
        ending: is_ending,
        addresses: Arc::new(listening.names()),
        insecure: plain && beyond_loopback,
        access: Arc::new(Access::new(refusals, audit, secured.as_ref().map(secure::Secured::known))),
        identities: secured.as_ref().map(|secured| secured.identities.clone()),
    };
    let serving = serve::serve(listening, shared, secured.as_ref().map(|secured| secured.tls.clone()));
    let issuing = async {
        match &secured {
            Some(secured) => secured.run().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return Ok(served?),
        published = publisher.run(store) => return Ok(published?),
        () = issuing => {}
        () = end => {}
    }
    ending.send_replace(true);
    match timeout(END_WITHIN, serving).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}
