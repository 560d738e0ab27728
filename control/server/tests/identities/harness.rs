//! A control plane that asks who everybody is, in this process, and peers of each kind for it.

use std::sync::Arc;
use std::time::Duration;

use identity::tls::{self, Known};
use identity::{CertificateDer, CertifiedKey, Key, Pin};
use server::ca::KeySource;
use server::identities;
use server::store::{MemoryStore, Store};
use server::{AuthoritySource, Options, Secure, Security, run};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;
use xds::identity::IdentityError;
use xds::operator::{Administration, Bearer, Client};
use xds::proto::control as api;
use xds::proto::identity as ids;
use xds::target::Target;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const DOMAIN: &str = "mesh.local";

pub struct Guarded {
    pub address: String,
    pub directory: tempfile::TempDir,
    end: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

/// The built-in authority, under a key of this test.
pub fn built_in() -> AuthoritySource {
    AuthoritySource::BuiltIn(Some(KeySource::Text("5a".repeat(32))))
}

pub fn secure(authority: AuthoritySource, store: Arc<dyn Store>) -> Secure {
    let lifetime = identities::issuer::LIFETIME;
    let options =
        identities::Options { trust_domain: DOMAIN.parse().unwrap(), lifetime, federated: Vec::new() };
    Secure { options, authority, join_roots: Vec::new(), store }
}

impl Guarded {
    pub async fn start() -> Guarded {
        Guarded::start_with(secure(built_in(), Arc::new(MemoryStore::default()))).await
    }

    pub async fn start_with(secure: Secure) -> Guarded {
        let directory = tempfile::tempdir().unwrap();
        let prefixes = model::ServicePrefixes { v4: Some("10.96.0.0/16".parse().unwrap()), v6: None };
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            unix: Some(directory.path().join("control.sock")),
            insecure: false,
            prefixes,
            security: Security::Secure(secure),
            audit: Some(directory.path().to_owned()),
        };
        let (end, ended) = oneshot::channel::<()>();
        let (told, address) = oneshot::channel();
        let server = tokio::spawn(async move {
            let listening =
                |listening: &server::serve::Listening| told.send(listening.address().unwrap()).unwrap();
            let store = Arc::new(MemoryStore::default());
            run(options, store, listening, async { drop(ended.await) }).await.unwrap();
        });
        let address = address.await.unwrap().to_string();
        Guarded { address, directory, end: Some(end), server }
    }

    pub async fn end(mut self) {
        self.end.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.server).await.expect("the server ends").unwrap();
    }

    fn socket(&self) -> Target {
        Target::plain(&format!("unix:{}", self.directory.path().join("control.sock").display())).unwrap()
    }

    /// The host's own root, by the Unix socket.
    pub async fn admin(&self) -> Administration {
        xds::operator::administer(&self.socket(), Bearer::default()).await.unwrap()
    }

    pub async fn local(&self) -> Client {
        xds::operator::connect_to(&self.socket(), Bearer::default()).await.unwrap()
    }

    pub async fn roots(&self) -> Vec<CertificateDer<'static>> {
        let shown =
            self.admin().await.show_authority(ids::ShowAuthorityRequest {}).await.unwrap().into_inner();
        shown.bundle.unwrap().roots.into_iter().map(CertificateDer::from).collect()
    }

    /// By TLS, with a certificate of one's own or none.
    pub async fn target(&self, own: Option<Arc<CertifiedKey>>) -> Target {
        let config = tls::client_config(Known::Authority(self.roots().await), own).unwrap();
        Target::fixed_tls(&self.address, config).unwrap()
    }

    pub async fn apply(&self, yaml: &str) {
        apply(&mut self.local().await, yaml).await.unwrap();
    }

    pub async fn token(&self, node: &str) -> String {
        let request = ids::CreateNodeTokenRequest { node: node.to_owned() };
        self.admin().await.create_node_token(request).await.unwrap().into_inner().token
    }

    /// As a machine that knows nothing but its token.
    pub async fn try_join(&self, node: &str, token: &str) -> Result<Identity, IdentityError> {
        let pin = self.roots().await[0].clone();
        let config = tls::client_config(Known::Pinned(Pin::of(&pin)), None).unwrap();
        let target = Target::fixed_tls(&self.address, config).unwrap();
        let key = Key::generate().unwrap();
        let request =
            ids::JoinRequest { node: node.to_owned(), token: token.to_owned(), csr: key.request().unwrap() };
        let (certificate, _) = xds::identity::join(&target, request).await?;
        Ok(Identity::new(&key, certificate))
    }

    /// A node that has joined, and the way it speaks from then on.
    pub async fn node(&self, name: &str) -> Target {
        let joined = self.try_join(name, &self.token(name).await).await.unwrap();
        self.target(Some(joined.certified())).await
    }

    /// How often something was refused for this reason.
    pub async fn refused(&self, reason: &str) -> u64 {
        let status = self.local().await.status(api::StatusRequest {}).await.unwrap().into_inner();
        status.refusals.get(reason).copied().unwrap_or(0)
    }

    pub async fn audit(&self) -> Vec<serde_json::Value> {
        let lines =
            self.admin().await.audit(ids::AuditRequest { limit: 100 }).await.unwrap().into_inner().lines;
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A key and the certificate for it.
pub struct Identity {
    pub key: Key,
    pub chain: Vec<CertificateDer<'static>>,
}

impl Identity {
    pub fn new(key: &Key, certificate: ids::Certificate) -> Identity {
        let key = Key::from_pem(&key.to_pem()).unwrap();
        Identity { key, chain: certificate.chain.into_iter().map(CertificateDer::from).collect() }
    }

    pub fn certified(&self) -> Arc<CertifiedKey> {
        tls::certified(self.chain.clone(), self.key.to_der()).unwrap()
    }
}

pub async fn apply(operator: &mut Client, yaml: &str) -> Result<(), Status> {
    let objects = model::read_documents("test", yaml).unwrap();
    let objects_json = objects.iter().map(|one| serde_json::to_string(one).unwrap()).collect();
    operator.apply(api::ApplyRequest { objects_json, dry_run: false }).await.map(drop)
}

/// Asks again until `holds`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(mut holds: impl FnMut() -> F) -> T {
    timeout(PATIENCE, async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it holds in the end")
}

pub const WORKLOADS: &str = r#"
apiVersion: ringway.mesh/v1alpha1
kind: Node
metadata: { name: node-1 }
spec: { addresses: [10.77.0.80] }
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: web, namespace: shop }
spec: { node: node-1, interface: wl-web, addresses: [10.88.0.11], serviceAccount: front }
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: db, namespace: shop }
spec: { node: node-2, interface: wl-db, addresses: [10.88.0.12] }
"#;
