//! Who this node is: its key, made here and never sent; its certificate, renewed at half of its life; and whom it believes.
//!
//! ```text
//! start ──state directory has a certificate──────────────┐
//!   └──none──▶ join (token, or a machine's certificate) ─┴─▶ held ──half-life, or another root signs──▶ renew ─┐
//!                                                              ▲───────────────────────────────────────────────┘
//! ```
//! While a renewal fails the certificate that is held stays in use, a counter grows and the log warns. Connections live
//! on across a renewal; new ones show the new certificate.

mod held;
mod join;
mod renew;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use ::identity::tls::{self, Known};
use ::identity::{ClientConfig, TrustStore};
use tokio::sync::{Notify, watch};
use xds::endpoint::AddressError;
use xds::proto::identity as api;
use xds::target::Target;

use crate::config::{Join, NodeConfig};
use crate::metrics::Exposition;

use held::Held;
pub use held::IdentityError;

/// The node's own identity, from the start of the process.
#[derive(Debug)]
pub struct NodeIdentity {
    node: String,
    control: String,
    state: PathBuf,
    join: Option<Join>,
    held: RefCell<Option<Held>>,
    trust: Arc<TrustStore>,
    /// How connections to the control plane are made from now on; none before the node has joined.
    tls: watch::Sender<Option<Arc<ClientConfig>>>,
    /// Rung when another root signs.
    renewal_due: Notify,
    renewals: Cell<u64>,
    failures: Cell<u64>,
}

impl NodeIdentity {
    /// What was held before, or the way to join. `None`: there is no control plane, or a plain one.
    pub fn open(config: &NodeConfig) -> Result<Option<NodeIdentity>, IdentityError> {
        let Some(control) = &config.control else { return Ok(None) };
        if config.plain || xds::endpoint::is_unix(control) {
            return Ok(None);
        }
        let held = Held::load(&config.state, &config.node)?;
        if held.is_none() && config.join.is_none() {
            return Err(IdentityError::NoWay { state: config.state.clone() });
        }
        let identity = NodeIdentity {
            node: config.node.clone(),
            control: control.clone(),
            state: config.state.clone(),
            join: config.join.clone(),
            held: RefCell::new(None),
            trust: Arc::default(),
            tls: watch::Sender::default(),
            renewal_due: Notify::new(),
            renewals: Cell::new(0),
            failures: Cell::new(0),
        };
        if let Some(held) = held {
            identity.hold(held)?;
        }
        Ok(Some(identity))
    }

    /// Joins if that has not happened, then keeps certificate and trust current; for ever.
    pub async fn run(&self) {
        if self.held.borrow().is_none() {
            self.join_for_ever().await;
        }
        tokio::join!(self.renew_for_ever(), self.follow_trust_for_ever());
    }

    /// The control plane by mutual TLS, once the node has joined.
    pub async fn target(&self) -> Result<Target, AddressError> {
        let mut joined = self.tls.subscribe();
        // The sender lives as long as this.
        drop(joined.wait_for(Option::is_some).await);
        Target::tls(&self.control, joined)
    }

    /// Puts an identity in force for connections from now on.
    fn hold(&self, held: Held) -> Result<(), IdentityError> {
        self.trust.replace(held.trust()?);
        let own = tls::certified(held.chain()?, held.key()?.to_der())
            .map_err(|error| IdentityError::Unusable(error.to_string()))?;
        let config = tls::client_config(Known::Roots(self.trust.clone()), Some(own))
            .map_err(|error| IdentityError::Unusable(error.to_string()))?;
        self.tls.send_replace(Some(Arc::new(config)));
        *self.held.borrow_mut() = Some(held);
        Ok(())
    }

    /// Takes a state of trust; one that cannot be read leaves the last in force.
    fn take_trust(&self, state: api::TrustState) {
        let Some(mut held) = self.held.borrow().clone() else { return };
        let rotated = state.generation != held.generation();
        held.set_trust(state);
        let trust = match held.trust() {
            Ok(trust) => trust,
            Err(error) => {
                tracing::error!(%error, "identity: the control plane's state of trust is not usable, the last one stays");
                return;
            }
        };
        self.trust.replace(trust);
        if let Err(error) = held.save(&self.state) {
            tracing::error!(%error, "identity: cannot be saved");
        }
        *self.held.borrow_mut() = Some(held);
        if rotated {
            self.renewal_due.notify_one();
        }
    }

    pub fn expose(&self, exposition: &mut Exposition) {
        let held = self.held.borrow();
        let expires = held.as_ref().map_or(SystemTime::UNIX_EPOCH, Held::not_after);
        let expires = expires.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        exposition.gauge(
            "ringway_identity_certificate_expires_seconds",
            "When the node's certificate expires, in seconds since 1970; 0 before it has joined.",
            &[],
            expires.as_secs() as f64,
        );
        let help = "Renewals of the node's certificate.";
        for (outcome, count) in [("done", &self.renewals), ("failed", &self.failures)] {
            exposition.counter("ringway_identity_renewals_total", help, &[("outcome", outcome)], count.get());
        }
        exposition.gauge(
            "ringway_identity_trust_revision",
            "The state of trust (roots, revoked certificates) that is in force.",
            &[],
            held.as_ref().map_or(0, Held::revision) as f64,
        );
    }
}
