//! `ringway-control`: resources in, per-node tables out.
//!
//! ```text
//! operator --Apply--> serve::operator -> registry -> store (durable) --mirror--> publish (compile, encode)
//!                                                                                   |  one view per client
//! node     --ADS----> serve::ads <-------------------------------------------------+
//!          --report-> serve::node -> fleet --answers, health--> publish
//! ```
#![forbid(unsafe_code)]

pub mod fleet;
mod grpc_view;
mod mirror;
pub mod publish;
pub mod registry;
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

use fleet::Fleet;
use publish::Publisher;
use registry::Registry;
use serve::{Listening, ServeError, Shared};
use store::{Store, StoreError};

/// Streams have ended by then; what is still open is cut off.
const END_WITHIN: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct Options {
    pub listen: SocketAddr,
    pub unix: Option<PathBuf>,
    /// Somebody has said that an address beyond loopback is meant.
    pub insecure: bool,
    pub prefixes: ServicePrefixes,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "{0} is not a loopback address, and until operators and nodes authenticate whoever reaches it may change \
         the mesh: listen on 127.0.0.1 or a Unix socket, or add --insecure"
    )]
    NotLoopback(SocketAddr),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Serves until `end` is ready, then ends cleanly. `on_listening` is told the address, once it answers.
pub async fn run(
    options: Options,
    store: Arc<dyn Store>,
    on_listening: impl FnOnce(&Listening),
    end: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let beyond_loopback = !options.listen.ip().is_loopback();
    if beyond_loopback && !options.insecure {
        return Err(RunError::NotLoopback(options.listen));
    }
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
        insecure: beyond_loopback,
    };
    let serving = serve::serve(listening, shared);
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return Ok(served?),
        published = publisher.run(store) => return Ok(published?),
        () = end => {}
    }
    ending.send_replace(true);
    match timeout(END_WITHIN, serving).await {
        Ok(served) => Ok(served?),
        Err(_) => Ok(()),
    }
}
