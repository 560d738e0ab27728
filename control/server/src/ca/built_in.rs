//! The built-in authority: a root of our own, made at first start and kept in the store, its key sealed.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::CertificateDer;
use model::spiffe::TrustDomain;
use rcgen::{Issuer, KeyPair};
use serde::{Deserialize, Serialize};

use super::{AuthorityError, CertificateAuthority, Chain, Order, Roots, Rotation, SealingKey, profile};
use crate::identities::Records;

const KEY: &str = "ca";
/// As Kuma's own authority (DEFAULTS: identity, lifetimes).
const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Clocks of nodes may be behind ours.
const BACKDATED: Duration = Duration::from_secs(3_600);

/// One root as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Held {
    generation: u64,
    /// DER in base64.
    certificate: String,
    sealed_key: String,
    /// The same name and key, signed by the root before it: whoever trusts only that one still believes what this one
    /// signs, until the old root is retired.
    cross: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    trust_domain: String,
    signs: Held,
    /// Made and trusted, not signing yet.
    next: Option<Held>,
    /// Trusted, signing no longer.
    old: Vec<Held>,
}

#[derive(Debug)]
pub struct BuiltIn {
    domain: TrustDomain,
    records: Arc<Records>,
    key: SealingKey,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    stored: Stored,
    issuer: Arc<Issuer<'static, KeyPair>>,
}

impl BuiltIn {
    /// Opens the authority in the store, or makes it. Blocking.
    pub fn open(
        records: Arc<Records>,
        domain: TrustDomain,
        key: SealingKey,
    ) -> Result<BuiltIn, AuthorityError> {
        let stored = match records.read::<Stored>(KEY)? {
            Some(stored) => stored,
            None => {
                let signs = make(&domain, 1, &key)?;
                let stored = Stored { trust_domain: domain.to_string(), signs, next: None, old: Vec::new() };
                records.write(KEY, &stored)?;
                stored
            }
        };
        if stored.trust_domain != domain.as_str() {
            let wanted = domain.to_string();
            return Err(AuthorityError::OtherDomain { found: stored.trust_domain, wanted });
        }
        let issuer = open(&stored, &key)?;
        Ok(BuiltIn { domain, records, key, state: Mutex::new(State { stored, issuer }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// What `step` makes of `stored`.
    fn step(&self, mut stored: Stored, step: Rotation) -> Result<Stored, AuthorityError> {
        let refuse = |problem: &str| Err(AuthorityError::Rotation(problem.to_owned()));
        match step {
            Rotation::Prepare if stored.next.is_some() => {}
            Rotation::Prepare => {
                stored.next = Some(make(&self.domain, stored.signs.generation + 1, &self.key)?)
            }
            Rotation::Activate => {
                let Some(mut next) = stored.next.take() else { return refuse("no next root has been made") };
                let pair = open_key(&stored.trust_domain, &next, &self.key)?;
                let old = open(&stored, &self.key)?;
                let cross = profile::cross(&self.domain, next.generation, &pair, &old, validity())?;
                next.cross = Some(STANDARD.encode(&cross));
                stored.old.insert(0, std::mem::replace(&mut stored.signs, next));
            }
            Rotation::Retire => {
                stored.old.clear();
                stored.signs.cross = None;
            }
        }
        Ok(stored)
    }
}

#[tonic::async_trait]
impl CertificateAuthority for BuiltIn {
    fn kind(&self) -> &'static str {
        "built-in"
    }

    async fn sign(&self, order: &Order) -> Result<Chain, AuthorityError> {
        let (issuer, cross) = {
            let state = self.state();
            (state.issuer.clone(), state.stored.signs.cross.clone())
        };
        let leaf = profile::sign(order, &issuer)?;
        let cross = cross.as_deref().map(decode).transpose()?;
        Ok(std::iter::once(leaf).chain(cross).collect())
    }

    async fn roots(&self) -> Result<Roots, AuthorityError> {
        let stored = self.state().stored.clone();
        let all = std::iter::once(&stored.signs).chain(&stored.next).chain(&stored.old);
        let certificates = all.map(certificate).collect::<Result<_, _>>()?;
        Ok(Roots { certificates, generation: stored.signs.generation })
    }

    fn next_step(&self) -> Rotation {
        let state = self.state();
        match (&state.stored.next, state.stored.old.is_empty()) {
            (Some(_), _) => Rotation::Activate,
            (None, false) => Rotation::Retire,
            (None, true) => Rotation::Prepare,
        }
    }

    async fn rotate(&self, step: Rotation) -> Result<(), AuthorityError> {
        let stored = self.step(self.state().stored.clone(), step)?;
        let issuer = open(&stored, &self.key)?;
        let (records, kept) = (self.records.clone(), stored.clone());
        tokio::task::spawn_blocking(move || records.write(KEY, &kept))
            .await
            .expect("a store does not panic")?;
        *self.state() = State { stored, issuer };
        Ok(())
    }
}

fn make(domain: &TrustDomain, generation: u64, key: &SealingKey) -> Result<Held, AuthorityError> {
    let pair = KeyPair::generate().map_err(|error| AuthorityError::Sign(error.to_string()))?;
    let der = profile::root(domain, generation, &pair, validity())?;
    let sealed_key = key.seal(&pair.serialize_der(), &about(domain.as_str(), generation))?;
    Ok(Held { generation, certificate: STANDARD.encode(&der), sealed_key, cross: None })
}

fn validity() -> (SystemTime, SystemTime) {
    let now = SystemTime::now();
    (now - BACKDATED, now + ROOT_LIFETIME)
}

fn open(stored: &Stored, key: &SealingKey) -> Result<Arc<Issuer<'static, KeyPair>>, AuthorityError> {
    let pair = open_key(&stored.trust_domain, &stored.signs, key)?;
    let issuer = Issuer::from_ca_cert_der(&certificate(&stored.signs)?, pair);
    Ok(Arc::new(issuer.map_err(|error| AuthorityError::Sign(error.to_string()))?))
}

fn open_key(domain: &str, held: &Held, key: &SealingKey) -> Result<KeyPair, AuthorityError> {
    let der = key.open(&held.sealed_key, &about(domain, held.generation))?;
    KeyPair::try_from(der.as_slice()).map_err(|error| AuthorityError::Sign(error.to_string()))
}

fn certificate(held: &Held) -> Result<CertificateDer<'static>, AuthorityError> {
    decode(&held.certificate)
}

fn decode(text: &str) -> Result<CertificateDer<'static>, AuthorityError> {
    let der = STANDARD.decode(text);
    Ok(der.map_err(|error| AuthorityError::Sign(format!("the stored root: {error}")))?.into())
}

fn about(domain: &str, generation: u64) -> String {
    format!("ringway ca {domain} {generation}")
}
