//! What the node holds, as it stands in the state directory: one file, readable by its owner alone, replaced whole.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ::identity::{CertificateDer, Key, Svid, Trust, encode};
use model::spiffe::{Holder, TrustDomain};
use serde::{Deserialize, Serialize};
use xds::proto::identity as api;

const FILE: &str = "identity.json";
/// Grows when a file written before can no longer be read.
const FORMAT: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "{state} holds no certificate of this node, and there is no `join`: give `join: {{ token_file: FILE }}` with a token of `ringway node token NODE`, or `plain: true` if the control plane runs with --plain"
    )]
    NoWay { state: PathBuf },
    #[error("{path}: {problem}: remove it and join again")]
    File { path: PathBuf, problem: String },
    #[error("the state directory: {0}")]
    State(#[from] io::Error),
    #[error("{0}")]
    Unusable(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    node: String,
    key: String,
    chain: String,
    generation: u64,
    revision: u64,
    /// Roots in PEM, by trust domain.
    roots: BTreeMap<String, String>,
    revoked: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Held {
    stored: Stored,
    svid: Svid,
}

impl Held {
    /// `None`: the node has not joined yet.
    pub fn load(state: &Path, node: &str) -> Result<Option<Held>, IdentityError> {
        let path = state.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let wrong = |problem: String| IdentityError::File { path: path.clone(), problem };
        let stored: Stored = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if stored.format != FORMAT {
            return Err(wrong(format!(
                "is of format {}, this ringwayd reads format {FORMAT}",
                stored.format
            )));
        }
        Held::of(stored, node).map(Some).map_err(|error| wrong(error.to_string()))
    }

    /// A certificate that was just issued for `key`.
    pub fn issued(
        node: &str,
        key: &Key,
        certificate: api::Certificate,
        trust: api::TrustState,
    ) -> Result<Held, IdentityError> {
        let chain: Vec<CertificateDer<'_>> =
            certificate.chain.into_iter().map(CertificateDer::from).collect();
        let mut stored = Stored {
            format: FORMAT,
            node: node.to_owned(),
            key: key.to_pem(),
            chain: encode::certificates_to_pem(&chain),
            generation: certificate.generation,
            revision: 0,
            roots: BTreeMap::new(),
            revoked: Vec::new(),
        };
        stored.set_trust(trust);
        Held::of(stored, node)
    }

    /// The same trust with a new key and certificate.
    pub fn renewed(&self, key: &Key, certificate: api::Certificate) -> Result<Held, IdentityError> {
        let mut next = Held::issued(&self.stored.node, key, certificate, api::TrustState::default())?;
        next.stored.revision = self.stored.revision;
        next.stored.roots.clone_from(&self.stored.roots);
        next.stored.revoked.clone_from(&self.stored.revoked);
        Ok(next)
    }

    fn of(stored: Stored, node: &str) -> Result<Held, IdentityError> {
        let chain = certificates(&stored.chain)?;
        let svid = Svid::read(&chain[0]).map_err(|reason| IdentityError::Unusable(reason.to_string()))?;
        if svid.id.holder() != Holder::Node(node) {
            return Err(IdentityError::Unusable(format!(
                "the certificate is for {}, not for node {node}",
                svid.id
            )));
        }
        Ok(Held { stored, svid })
    }

    pub fn set_trust(&mut self, state: api::TrustState) {
        self.stored.set_trust(state);
    }

    pub fn trust(&self) -> Result<Trust, IdentityError> {
        let mut trust = Trust::default();
        for (domain, roots) in &self.stored.roots {
            let unusable =
                |error: &dyn std::fmt::Display| IdentityError::Unusable(format!("{domain}: {error}"));
            let name = domain.parse::<TrustDomain>().map_err(|error| unusable(&error))?;
            trust = trust.with_roots(name, certificates(roots)?).map_err(|error| unusable(&error))?;
        }
        Ok(trust.with_revoked(self.stored.revoked.iter().cloned()))
    }

    pub fn chain(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        certificates(&self.stored.chain)
    }

    pub fn key(&self) -> Result<Key, IdentityError> {
        Key::from_pem(&self.stored.key).map_err(|error| IdentityError::Unusable(error.to_string()))
    }

    pub fn svid(&self) -> &Svid {
        &self.svid
    }

    pub fn not_after(&self) -> SystemTime {
        self.svid.not_after
    }

    pub fn generation(&self) -> u64 {
        self.stored.generation
    }

    pub fn revision(&self) -> u64 {
        self.stored.revision
    }

    /// A crash leaves the old or the new one, never a part.
    pub fn save(&self, state: &Path) -> io::Result<()> {
        let fresh = state.join("identity.json.new");
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(&self.stored)?)?;
        file.sync_all()?;
        std::fs::rename(fresh, state.join(FILE))
    }
}

impl Stored {
    fn set_trust(&mut self, state: api::TrustState) {
        let pem = |roots: Vec<Vec<u8>>| {
            let roots: Vec<CertificateDer<'_>> = roots.into_iter().map(CertificateDer::from).collect();
            encode::certificates_to_pem(&roots)
        };
        self.roots =
            state.bundles.into_iter().map(|bundle| (bundle.trust_domain, pem(bundle.roots))).collect();
        self.revoked = state.revoked;
        self.revision = state.revision;
    }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    encode::certificates_from_pem(pem).map_err(|error| IdentityError::Unusable(error.to_string()))
}
