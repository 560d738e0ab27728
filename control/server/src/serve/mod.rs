//! The gRPC face: operators' API, ADS, nodes' reports, identities; over TLS, and on a Unix socket for the host's own root.

mod accept;
mod administration;
mod ads;
mod identity;
mod listen;
mod node;
mod operator;

use std::sync::Arc;

use tokio::sync::watch;
use tonic::Status;

use crate::access::{Access, Caller};
use crate::fleet::Fleet;
use crate::identities::rotation::Followers;
use crate::identities::{Issuer, NodeTokens, Operators, Records};
use crate::publish::Publisher;
use crate::registry::Registry;
use crate::store::Store;

pub use accept::Tls;
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
    pub access: Arc<Access>,
    /// None when nobody is asked who he is.
    pub identities: Option<Identities>,
}

/// What the services of identities work on; cheap to clone.
#[derive(Clone, Debug)]
pub struct Identities {
    pub issuer: Arc<Issuer>,
    pub records: Arc<Records>,
    pub tokens: Arc<NodeTokens>,
    pub operators: Arc<Operators>,
    pub followers: Arc<Followers>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Shared {
    /// Returns when a stream of this caller must end, and with what status.
    async fn until_end(&self, caller: &Caller) -> Status {
        tokio::select! {
            () = self.ended() => Status::unavailable("the control plane is shutting down"),
            status = self.access.until_refused(caller) => status,
        }
    }

    fn identities(&self) -> Result<&Identities, Status> {
        let none = "this control plane runs with --plain: it has no certificate authority and knows nobody";
        self.identities.as_ref().ok_or_else(|| Status::failed_precondition(none))
    }

    /// Returns when the process ends.
    async fn ended(&self) {
        let mut ending = self.ending.clone();
        // That the sender is gone means the same.
        drop(ending.wait_for(|ending| *ending).await);
    }
}
