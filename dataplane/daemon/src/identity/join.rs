//! Becoming a node: a key is made, and its request sent to a control plane that is known by the SHA-256 of its root.

use std::time::Duration;

use ::identity::tls::{self, Known};
use ::identity::{Key, Pin, encode};
use tokio::time::sleep;
use xds::proto::identity as api;
use xds::target::Target;

use super::NodeIdentity;
use super::held::{Held, IdentityError};
use crate::config::Join;

/// A token file may be written anew at any time; a control plane may be started later.
const TRY_AGAIN: Duration = Duration::from_secs(5);

impl NodeIdentity {
    /// Until it has succeeded.
    pub(super) async fn join_for_ever(&self) {
        while let Err(error) = self.join().await {
            tracing::error!(control = self.control, %error, "identity: cannot join, trying again in {TRY_AGAIN:?}");
            sleep(TRY_AGAIN).await;
        }
    }

    pub(super) async fn join(&self) -> Result<(), IdentityError> {
        let no_way = || IdentityError::NoWay { state: self.state.clone() };
        let (known, token, own) = means(self.join.as_ref().ok_or_else(no_way)?)?;
        let failed = |error: &dyn std::fmt::Display| IdentityError::Unusable(error.to_string());
        let config = tls::client_config(known, own).map_err(|error| failed(&error))?;
        let control = Target::fixed_tls(&self.control, config).map_err(|error| failed(&error))?;
        let key = Key::generate().map_err(|error| failed(&error))?;
        let csr = key.request().map_err(|error| failed(&error))?;
        let request = api::JoinRequest { node: self.node.clone(), token, csr };
        let (certificate, trust) =
            xds::identity::join(&control, request).await.map_err(|error| failed(&error))?;
        let held = Held::issued(&self.node, &key, certificate, trust)?;
        held.save(&self.state)?;
        tracing::info!(id = %held.svid().id, serial = held.svid().serial, "identity: joined");
        self.hold(held)
    }
}

type Own = Option<std::sync::Arc<::identity::CertifiedKey>>;

/// How the control plane is known, the token, and what we show.
fn means(join: &Join) -> Result<(Known, String, Own), IdentityError> {
    if let Some(path) = &join.certificate {
        let text = read(path)?;
        let wrong =
            |error: &dyn std::fmt::Display| IdentityError::Unusable(format!("{}: {error}", path.display()));
        let chain = encode::certificates_from_pem(&text).map_err(|error| wrong(&error))?;
        let key = Key::from_pem(&text).map_err(|error| wrong(&error))?;
        let own = tls::certified(chain, key.to_der()).map_err(|error| wrong(&error))?;
        let pin = join.control_ca.as_deref().unwrap_or_default();
        let pin = pin
            .parse::<Pin>()
            .map_err(|error| IdentityError::Unusable(format!("join.control_ca: {error}")))?;
        return Ok((Known::Pinned(pin), String::new(), Some(own)));
    }
    let token = match (&join.token, &join.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => read(path)?.trim().to_owned(),
        (None, None) => String::new(),
    };
    // rwj1.SECRET.PIN.NODE: the control plane reads the rest.
    let pin = token.split('.').nth(2).map(|pin| format!("sha256:{pin}")).unwrap_or_default();
    let pin = pin.parse::<Pin>().map_err(|_| {
        IdentityError::Unusable("the join token is not one that `ringway node token` prints".to_owned())
    })?;
    Ok((Known::Pinned(pin), token, None))
}

fn read(path: &std::path::Path) -> Result<String, IdentityError> {
    std::fs::read_to_string(path)
        .map_err(|error| IdentityError::Unusable(format!("{}: {error}", path.display())))
}
