//! Whom to believe: the roots of each trust domain, ours and federated ones, and the serial numbers that are revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, RwLock};

use model::spiffe::TrustDomain;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::error::SvidError;
use crate::pin::Pin;
use crate::svid::Svid;

/// Certificates that a peer may send: a leaf, intermediates, and a root for whoever only has its pin.
const MOST_CHAIN: usize = 8;

/// Which end of TLS the peer is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Client,
    Server,
}

/// A whole state of trust; replaced, never changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    roots: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
    revoked: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("trust domain {0}: has no root")]
    NoRoot(TrustDomain),
    #[error("trust domain {0}: a certificate is not a root that can be trusted: {1}")]
    NotARoot(TrustDomain, String),
}

impl Trust {
    /// With these roots for `domain`, in place of any before.
    pub fn with_roots(
        mut self,
        domain: TrustDomain,
        roots: Vec<CertificateDer<'static>>,
    ) -> Result<Trust, TrustError> {
        if roots.is_empty() {
            return Err(TrustError::NoRoot(domain));
        }
        for root in &roots {
            webpki::anchor_from_trusted_cert(root)
                .map_err(|error| TrustError::NotARoot(domain.clone(), error.to_string()))?;
        }
        self.roots.insert(domain, roots);
        Ok(self)
    }

    /// With exactly these serial numbers revoked, as [`Svid::serial`] writes them.
    pub fn with_revoked(mut self, serials: impl IntoIterator<Item = String>) -> Trust {
        self.revoked = serials.into_iter().collect();
        self
    }

    pub fn roots(&self, domain: &TrustDomain) -> &[CertificateDer<'static>] {
        self.roots.get(domain).map_or(&[], Vec::as_slice)
    }

    pub fn domains(&self) -> impl Iterator<Item = (&TrustDomain, &[CertificateDer<'static>])> {
        self.roots.iter().map(|(domain, roots)| (domain, roots.as_slice()))
    }

    pub fn is_revoked(&self, serial: &str) -> bool {
        self.revoked.contains(serial)
    }

    /// A peer's chain, leaf first: who it is, if it is to be believed.
    pub fn verify(&self, chain: &[CertificateDer<'_>], peer: Peer, now: UnixTime) -> Result<Svid, SvidError> {
        let (leaf, rest) = chain.split_first().ok_or(SvidError::Encoding)?;
        let svid = Svid::read(leaf)?;
        let roots = self.roots.get(svid.id.trust_domain()).ok_or(SvidError::ForeignTrustDomain)?;
        verify_path(leaf, rest, roots, peer, now)?;
        if self.is_revoked(&svid.serial) { Err(SvidError::Revoked) } else { Ok(svid) }
    }
}

/// A chain under one of `roots`, of any trust domain.
pub(crate) fn verify_under(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    peer: Peer,
    now: UnixTime,
) -> Result<Svid, SvidError> {
    let (leaf, rest) = chain.split_first().ok_or(SvidError::Encoding)?;
    let svid = Svid::read(leaf)?;
    verify_path(leaf, rest, roots, peer, now)?;
    Ok(svid)
}

/// A chain whose root is in it and has the SHA-256 `pin`.
pub fn verify_pinned(
    chain: &[CertificateDer<'_>],
    pin: Pin,
    peer: Peer,
    now: UnixTime,
) -> Result<Svid, SvidError> {
    let (_, rest) = chain.split_first().ok_or(SvidError::Encoding)?;
    let root = rest.iter().find(|certificate| Pin::of(certificate) == pin).ok_or(SvidError::Pin)?;
    verify_under(chain, &[root.clone().into_owned()], peer, now)
}

/// The names of a machine whose certificate comes from one of `roots`: its common name and its DNS names.
pub(crate) fn verify_machine(
    chain: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    now: UnixTime,
) -> Result<Vec<String>, SvidError> {
    let (leaf, rest) = chain.split_first().ok_or(SvidError::Encoding)?;
    verify_path(leaf, rest, roots, Peer::Client, now)?;
    crate::svid::machine_names(leaf)
}

/// RFC 5280, section 6, by webpki: signatures, times, constraints, and a bound on all three.
fn verify_path(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    peer: Peer,
    now: UnixTime,
) -> Result<(), SvidError> {
    if intermediates.len() >= MOST_CHAIN {
        return Err(SvidError::Chain);
    }
    let anchors: Vec<_> =
        roots.iter().filter_map(|root| webpki::anchor_from_trusted_cert(root).ok()).collect();
    let usage = match peer {
        Peer::Client => KeyUsage::client_auth(),
        Peer::Server => KeyUsage::server_auth(),
    };
    let leaf = EndEntityCert::try_from(leaf).map_err(reason)?;
    leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, now, usage, None, None)
        .map_err(reason)?;
    Ok(())
}

fn reason(error: webpki::Error) -> SvidError {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => SvidError::Expired,
        Error::CertNotValidYet { .. } => SvidError::NotYetValid,
        Error::UnknownIssuer => SvidError::UnknownIssuer,
        Error::CaUsedAsEndEntity => SvidError::SignsCertificates,
        Error::InvalidSignatureForPublicKey => SvidError::BadSignature,
        Error::RequiredEkuNotFoundContext(_) => SvidError::ExtendedKeyUsage,
        Error::BadDer | Error::BadDerTime | Error::TrailingData(_) => SvidError::Encoding,
        _ => SvidError::Chain,
    }
}

/// The trust in force, for those who share it: read at each handshake, replaced when it changes. Not for workers, which
/// hold a state of trust of their own.
#[derive(Debug, Default)]
pub struct TrustStore(RwLock<Arc<Trust>>);

impl TrustStore {
    pub fn new(trust: Trust) -> TrustStore {
        TrustStore(RwLock::new(Arc::new(trust)))
    }

    pub fn current(&self) -> Arc<Trust> {
        self.0.read().expect("no holder of this lock panics").clone()
    }

    pub fn replace(&self, trust: Trust) {
        *self.0.write().expect("no holder of this lock panics") = Arc::new(trust);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::{Root, leaf};

    const WEB: &str = "spiffe://mesh.local/ns/default/sa/web";

    fn trust(root: &Root) -> Trust {
        Trust::default().with_roots("mesh.local".parse().unwrap(), vec![root.der.clone()]).unwrap()
    }

    fn verify(trust: &Trust, chain: &[CertificateDer<'static>]) -> Result<Svid, SvidError> {
        trust.verify(chain, Peer::Client, UnixTime::now())
    }

    #[test]
    fn a_leaf_under_its_root_is_believed_directly_and_by_an_intermediate() {
        let root = Root::new("root");
        let trust = trust(&root);
        assert_eq!(verify(&trust, &[root.sign(&leaf(WEB))]).unwrap().id.to_string(), WEB);
        let between = root.intermediate("between");
        let chain = [between.sign(&leaf(WEB)), between.der.clone()];
        assert!(verify(&trust, &chain).is_ok());
        assert_eq!(verify(&trust, &chain[..1]), Err(SvidError::UnknownIssuer), "the intermediate is missing");
    }

    #[test]
    fn a_foreign_root_and_a_foreign_trust_domain_are_refused() {
        let root = Root::new("root");
        let trust = trust(&root);
        // The same name with another key.
        let foreign = Root::new("root").sign(&leaf(WEB));
        let refused = verify(&trust, &[foreign]).unwrap_err();
        assert!(matches!(refused, SvidError::BadSignature | SvidError::UnknownIssuer), "{refused}");
        assert_eq!(verify(&trust, &[Root::new("other").sign(&leaf(WEB))]), Err(SvidError::UnknownIssuer));
        let elsewhere = root.sign(&leaf("spiffe://other.local/ns/default/sa/web"));
        assert_eq!(verify(&trust, &[elsewhere]), Err(SvidError::ForeignTrustDomain));
        assert_eq!(verify(&trust, &[]), Err(SvidError::Encoding));
    }

    #[test]
    fn each_trust_domain_answers_for_its_own_ids_only() {
        let (ours, theirs) = (Root::new("ours"), Root::new("theirs"));
        let trust =
            trust(&ours).with_roots("other.local".parse().unwrap(), vec![theirs.der.clone()]).unwrap();
        let good = theirs.sign(&leaf("spiffe://other.local/ns/a/sa/b"));
        assert!(verify(&trust, &[good]).is_ok());
        assert_eq!(verify(&trust, &[theirs.sign(&leaf(WEB))]), Err(SvidError::UnknownIssuer));
    }

    #[test]
    fn times_are_held_to() {
        let root = Root::new("root");
        let trust = trust(&root);
        let chain = [root.sign(&leaf(WEB))];
        let at = |offset: i64| {
            let now = UnixTime::now().as_secs();
            UnixTime::since_unix_epoch(Duration::from_secs(now.checked_add_signed(offset).unwrap()))
        };
        assert_eq!(trust.verify(&chain, Peer::Client, at(90_000)), Err(SvidError::Expired));
        assert_eq!(trust.verify(&chain, Peer::Client, at(-7_200)), Err(SvidError::NotYetValid));
    }

    #[test]
    fn a_self_signed_leaf_is_refused() {
        let mut params = leaf(WEB);
        params.distinguished_name.push(rcgen::DnType::CommonName, "self");
        let own = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone();
        assert_eq!(verify(&trust(&Root::new("root")), &[own]), Err(SvidError::UnknownIssuer));
    }

    #[test]
    fn chains_that_are_long_or_loop_end() {
        let root = Root::new("root");
        let trust = trust(&root);
        let mut last = root.intermediate("0");
        let mut chain = vec![last.der.clone()];
        for depth in 1..7 {
            last = last.intermediate(&depth.to_string());
            chain.insert(0, last.der.clone());
        }
        chain.insert(0, last.sign(&leaf(WEB)));
        let refused = verify(&trust, &chain).unwrap_err();
        assert!(matches!(refused, SvidError::Chain | SvidError::UnknownIssuer), "{refused}");
        let many: Vec<_> = std::iter::repeat_n(chain[0].clone(), MOST_CHAIN + 1).collect();
        assert_eq!(verify(&trust, &many), Err(SvidError::Chain));
        // Two that name each other as issuer.
        let (a, b) = (Root::new("a"), Root::new("b"));
        let loops = [a.sign(&leaf(WEB)), b.intermediate("a").der, a.intermediate("b").der];
        assert!(verify(&trust, &loops).is_err());
    }

    #[test]
    fn a_revoked_serial_is_refused() {
        let root = Root::new("root");
        let chain = [root.sign(&leaf(WEB))];
        let serial = verify(&trust(&root), &chain).unwrap().serial;
        let trust = trust(&root).with_revoked([serial]);
        assert_eq!(verify(&trust, &chain), Err(SvidError::Revoked));
    }

    #[test]
    fn two_roots_are_trusted_in_the_overlap_of_a_rotation() {
        let (old, new) = (Root::new("old"), Root::new("new"));
        let both = Trust::default()
            .with_roots("mesh.local".parse().unwrap(), vec![new.der.clone(), old.der.clone()])
            .unwrap();
        for root in [&old, &new] {
            assert!(verify(&both, &[root.sign(&leaf(WEB))]).is_ok());
        }
        assert!(verify(&trust(&new), &[old.sign(&leaf(WEB))]).is_err());
    }

    #[test]
    fn a_pinned_root_is_believed_and_another_is_not() {
        let root = Root::new("root");
        let chain = [root.sign(&leaf(WEB)), root.der.clone()];
        let now = UnixTime::now();
        assert!(verify_pinned(&chain, Pin::of(&root.der), Peer::Server, now).is_ok());
        assert_eq!(verify_pinned(&chain, Pin::of(b"x"), Peer::Server, now), Err(SvidError::Pin));
        // The pinned root stands in the chain, but did not sign the leaf.
        let strange = [Root::new("other").sign(&leaf(WEB)), root.der.clone()];
        assert_eq!(
            verify_pinned(&strange, Pin::of(&root.der), Peer::Server, now),
            Err(SvidError::UnknownIssuer)
        );
    }

    #[test]
    fn what_is_no_root_cannot_be_trusted() {
        let domain = || "mesh.local".parse().unwrap();
        assert!(Trust::default().with_roots(domain(), vec![]).is_err());
        assert!(Trust::default().with_roots(domain(), vec![CertificateDer::from(vec![1, 2, 3])]).is_err());
    }
}
