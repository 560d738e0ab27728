//! Staying a node: the next certificate before the last one ends, and the state of trust as it changes.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, SystemTime};

use ::identity::Key;
use tokio::time::sleep;

use super::NodeIdentity;
use super::held::{Held, IdentityError};

/// DESIGN, section 7: at half-life; nodes that joined together do not renew together.
const JITTER: f64 = 0.1;
/// First wait after a failure; doubles up to [`LONGEST_PAUSE`], each time with jitter of half of it.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// When another root signs, nodes come within this time.
const SPREAD: Duration = Duration::from_secs(5);
/// A stream of trust that ended is opened again after this, and jitter.
const REOPEN: Duration = Duration::from_secs(1);

impl NodeIdentity {
    pub(super) async fn renew_for_ever(&self) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            // However short its life, a certificate is not renewed in a loop.
            let due = self.due().max(SHORTEST_PAUSE);
            tokio::select! {
                () = sleep(due) => {}
                () = self.renewal_due.notified() => sleep(SPREAD.min(due).mul_f64(random_fraction())).await,
            }
            while let Err(error) = self.renew().await {
                self.failures.set(self.failures.get() + 1);
                let left = self.left();
                tracing::warn!(%error, ?left, "identity: the certificate cannot be renewed, the last one stays in use");
                // Short-lived certificates are tried for more often.
                let wait = pause.min(left / 8).max(SHORTEST_PAUSE);
                sleep(wait.mul_f64(0.5 + 0.5 * random_fraction())).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            pause = SHORTEST_PAUSE;
        }
    }

    pub(super) async fn follow_trust_for_ever(&self) {
        loop {
            if let Ok(control) = self.target().await {
                let Err(error) = xds::identity::follow_trust(&control, |state| self.take_trust(state)).await;
                tracing::warn!(%error, "identity: the stream of trust ended, opening it again");
            }
            sleep(REOPEN.mul_f64(1.0 + random_fraction())).await;
        }
    }

    /// A new key each time; the last certificate shows who asks. One that has expired shows nothing any more.
    async fn renew(&self) -> Result<(), IdentityError> {
        if self.left() == Duration::ZERO {
            return self.join().await;
        }
        let Some(held) = self.held.borrow().clone() else { return self.join().await };
        let failed = |error: &dyn std::fmt::Display| IdentityError::Unusable(error.to_string());
        let control = self.target().await.map_err(|error| failed(&error))?;
        let key = Key::generate().map_err(|error| failed(&error))?;
        let csr = key.request().map_err(|error| failed(&error))?;
        let certificate = xds::identity::renew(&control, csr).await.map_err(|error| failed(&error))?;
        // What arrived in between, of trust, is kept.
        let held = self.held.borrow().clone().unwrap_or(held).renewed(&key, certificate)?;
        held.save(&self.state)?;
        tracing::info!(serial = held.svid().serial, "identity: certificate renewed");
        self.hold(held)?;
        self.renewals.set(self.renewals.get() + 1);
        Ok(())
    }

    /// Until half-life, give or take the jitter.
    fn due(&self) -> Duration {
        let held = self.held.borrow();
        let Some(svid) = held.as_ref().map(Held::svid) else { return Duration::ZERO };
        let half = svid.half_life().duration_since(svid.not_before).unwrap_or_default();
        let at = svid.not_before + half.mul_f64(1.0 - JITTER * random_fraction());
        at.duration_since(SystemTime::now()).unwrap_or_default()
    }

    fn left(&self) -> Duration {
        let held = self.held.borrow();
        let end = held.as_ref().map_or(SystemTime::UNIX_EPOCH, Held::not_after);
        end.duration_since(SystemTime::now()).unwrap_or_default()
    }
}

/// In `0.0..1.0`; each `RandomState` is keyed anew, which is random enough to spread nodes.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
