//! The gRPC face: operators' API, ADS, nodes' reports; on TCP and a Unix socket.

mod ads;
mod listen;
mod node;
mod operator;

use std::sync::Arc;

use tokio::sync::watch;

use crate::fleet::Fleet;
use crate::publish::Publisher;
use crate::registry::Registry;
use crate::store::Store;

pub use listen::{Listening, ServeError, serve};

/// What every service needs; cheap to clone.
#[derive(Clone)]
pub struct Shared {
    pub registry: Arc<Registry>,
    pub publisher: Arc<Publisher>,
    pub fleet: Arc<Fleet>,
    pub store: Arc<dyn Store>,
    /// Turns true when the process ends; streams, which have no end of their own, end by it.
    pub ending: watch::Receiver<bool>,
    pub addresses: Arc<Vec<String>>,
    pub insecure: bool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns when the process ends.
    async fn ended(&self) {
        let mut ending = self.ending.clone();
        // That the sender is gone means the same.
        drop(ending.wait_for(|ending| *ending).await);
    }
}
