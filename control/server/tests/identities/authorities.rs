//! Each certificate authority: that it signs what is believed, that it survives a restart, and how its roots are replaced.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::{CertificateDer, Key, Svid, encode};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use server::AuthoritySource;
use server::ca::KeySource;
use server::ca::files::Paths;
use server::refusal::Refusals;
use server::store::{MemoryStore, Store};
use tokio::sync::mpsc;
use xds::proto::identity as ids;

use crate::harness::{Guarded, Identity, built_in, eventually, secure};

/// An authority of the test's own.
pub struct TestRoot {
    pub issuer: Issuer<'static, KeyPair>,
    pub der: CertificateDer<'static>,
    key: String,
}

impl TestRoot {
    pub fn new(name: &str) -> TestRoot {
        let key = KeyPair::generate().unwrap();
        let params = TestRoot::params(name);
        let der = params.self_signed(&key).unwrap().der().clone();
        TestRoot { key: key.serialize_pem(), der, issuer: Issuer::new(params, key) }
    }

    fn below(&self, name: &str) -> TestRoot {
        let key = KeyPair::generate().unwrap();
        let params = TestRoot::params(name);
        let der = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        TestRoot { key: key.serialize_pem(), der, issuer: Issuer::new(params, key) }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }
}

/// An intermediate below `root`, in files.
pub fn from_files(root: &TestRoot, directory: &Path) -> AuthoritySource {
    let between = root.below("between");
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    AuthoritySource::Files(Paths {
        chain: write("chain.pem", &encode::certificates_to_pem(std::slice::from_ref(&between.der))),
        key: write("key.pem", &between.key),
        roots: write("roots.pem", &encode::certificates_to_pem(std::slice::from_ref(&root.der))),
    })
}

async fn refused(authority: AuthoritySource, store: Arc<dyn Store>) -> String {
    let started = secure(authority, store).start(Arc::new(Refusals::default())).await;
    started.expect_err("it does not start").to_string()
}

#[tokio::test]
async fn the_built_in_authority_survives_a_restart_under_the_same_key_only() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let mesh = Guarded::start_with(secure(built_in(), store.clone())).await;
    let roots = mesh.roots().await;
    let node = mesh.try_join("node-1", &mesh.token("node-1").await).await.unwrap();
    mesh.end().await;

    let mesh = Guarded::start_with(secure(built_in(), store.clone())).await;
    assert_eq!(mesh.roots().await, roots);
    let again = mesh.target(Some(node.certified())).await;
    assert!(xds::identity::renew(&again, Key::generate().unwrap().request().unwrap()).await.is_ok());
    mesh.end().await;

    let other = AuthoritySource::BuiltIn(Some(KeySource::Text("a5".repeat(32))));
    assert!(refused(other, store.clone()).await.contains("sealed with another key"));
    assert!(refused(AuthoritySource::BuiltIn(None), store.clone()).await.contains("--ca-key-file"));
    let mut elsewhere = secure(built_in(), store);
    elsewhere.options.trust_domain = "other.local".parse().unwrap();
    let told = elsewhere.start(Arc::new(Refusals::default())).await.err().unwrap().to_string();
    assert!(told.contains("trust domain mesh.local"), "{told}");
}

#[tokio::test]
async fn an_intermediate_from_files_signs_below_its_root() {
    let root = TestRoot::new("root");
    let directory = tempfile::tempdir().unwrap();
    let authority = from_files(&root, directory.path());
    let mesh = Guarded::start_with(secure(authority, Arc::new(MemoryStore::default()))).await;
    let joined = mesh.try_join("node-1", &mesh.token("node-1").await).await.unwrap();
    assert_eq!(joined.chain.len(), 2, "leaf and intermediate");
    assert_eq!(mesh.roots().await, std::slice::from_ref(&root.der));
    let mut steps = mesh
        .admin()
        .await
        .rotate_authority(ids::RotateAuthorityRequest { wait_seconds: 1 })
        .await
        .unwrap()
        .into_inner();
    let told = steps.message().await.unwrap().unwrap();
    assert!(told.last && told.text.contains("replace the files"), "{told:?}");
    mesh.end().await;
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused_at_start() {
    let (root, other) = (TestRoot::new("root"), TestRoot::new("other"));
    let directory = tempfile::tempdir().unwrap();
    let store = || Arc::new(MemoryStore::default());
    let AuthoritySource::Files(paths) = from_files(&root, directory.path()) else { unreachable!() };
    std::fs::write(&paths.key, &other.key).unwrap();
    let told = refused(AuthoritySource::Files(paths.clone()), store()).await;
    assert!(told.contains("cannot be used"), "another key: {told}");
    std::fs::write(&paths.roots, "no PEM").unwrap();
    let told = refused(AuthoritySource::Files(paths), store()).await;
    assert!(told.contains("roots.pem"), "{told}");
}

/// `examples/ca-plugin`, on a socket of its own.
struct ExamplePlugin(Child);

impl ExamplePlugin {
    fn start(socket: &Path) -> ExamplePlugin {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(Path::parent).unwrap().join("examples/ca-plugin");
        let child = Command::new(program).arg(socket).stdout(Stdio::null()).spawn().unwrap();
        ExamplePlugin(child)
    }
}

impl Drop for ExamplePlugin {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn the_example_plug_in_signs_and_its_absence_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("ca.sock");
    let authority = AuthoritySource::Plugin(format!("unix:{}", socket.display()));
    let told = refused(authority.clone(), Arc::new(MemoryStore::default())).await;
    assert!(told.contains("plug-in"), "{told}");

    let plugin = ExamplePlugin::start(&socket);
    eventually(|| async { tokio::net::UnixStream::connect(&socket).await.ok() }).await;
    let mesh = Guarded::start_with(secure(authority, Arc::new(MemoryStore::default()))).await;
    let joined = mesh.try_join("node-1", &mesh.token("node-1").await).await.unwrap();
    let svid = Svid::read(&joined.chain[0]).unwrap();
    assert_eq!(svid.id.to_string(), "spiffe://mesh.local/ringway/node/node-1");
    drop(plugin);
    assert!(mesh.try_join("node-2", &mesh.token("node-2").await).await.is_err());
    assert_eq!(mesh.refused("authority_failed").await, 1);
    mesh.end().await;
}

#[tokio::test]
async fn a_root_is_replaced_while_two_are_trusted_and_nodes_renew_between() {
    let mesh = Guarded::start().await;
    let old = mesh.roots().await;
    let joined = mesh.try_join("node-1", &mesh.token("node-1").await).await.unwrap();
    let node = mesh.target(Some(joined.certified())).await;

    // A node that follows trust, and renews when another root signs.
    let (told, mut states) = mpsc::unbounded_channel();
    let following = node.clone();
    let following =
        tokio::spawn(
            async move { xds::identity::follow_trust(&following, |state| drop(told.send(state))).await },
        );
    // Before that it is connected to nobody, and the rotation would not wait for it to take the new root.
    let first = states.recv().await.unwrap().generation;
    let renewing = node.clone();
    let renewing = tokio::spawn(async move {
        let mut most_roots = 0;
        while let Some(state) = states.recv().await {
            most_roots = most_roots.max(state.bundles[0].roots.len());
            if state.generation > first {
                let key = Key::generate().unwrap();
                let next = xds::identity::renew(&renewing, key.request().unwrap()).await.unwrap();
                return (Identity::new(&key, next), most_roots);
            }
        }
        panic!("the stream of trust ended");
    });

    let request = ids::RotateAuthorityRequest { wait_seconds: 30 };
    let mut steps = mesh.admin().await.rotate_authority(request).await.unwrap().into_inner();
    let mut said = Vec::new();
    while let Some(step) = steps.message().await.unwrap() {
        said.push(step.text);
    }
    assert_eq!(said.len(), 3, "{said:#?}");
    assert!(said[2].ends_with("done"), "{said:#?}");
    let (renewed, most_roots) = renewing.await.unwrap();
    assert_eq!(most_roots, 2, "both roots were trusted in the overlap");
    let new = mesh.roots().await;
    assert_eq!(new.len(), 1);
    assert_ne!(new, old);
    let next = mesh.target(Some(renewed.certified())).await;
    assert!(xds::identity::renew(&next, Key::generate().unwrap().request().unwrap()).await.is_ok());
    let late = mesh.target(Some(joined.certified())).await;
    assert!(xds::identity::renew(&late, Key::generate().unwrap().request().unwrap()).await.is_err());
    following.abort();
    mesh.end().await;
}

#[tokio::test]
async fn a_rotation_that_a_node_does_not_follow_stops_and_goes_on_later() {
    let mesh = Guarded::start().await;
    let node = mesh.node("node-1").await;
    let rotate = || async {
        let request = ids::RotateAuthorityRequest { wait_seconds: 1 };
        let mut steps = mesh.admin().await.rotate_authority(request).await.unwrap().into_inner();
        let mut last = String::new();
        while let Some(step) = steps.message().await.unwrap() {
            last = step.text;
        }
        last
    };
    let stopped = rotate().await;
    assert!(stopped.contains("node-1") && stopped.contains("old root"), "{stopped}");
    assert_eq!(mesh.roots().await.len(), 2, "both stay trusted");
    xds::identity::renew(&node, Key::generate().unwrap().request().unwrap()).await.unwrap();
    assert!(rotate().await.ends_with("done"));
    assert_eq!(mesh.roots().await.len(), 1);
    mesh.end().await;
}

#[tokio::test]
async fn other_trust_domains_are_told_to_nodes_and_give_no_rights_here() {
    let theirs = TestRoot::new("theirs");
    let mut options = secure(built_in(), Arc::new(MemoryStore::default()));
    options.options.federated = vec![("other.local".parse().unwrap(), vec![theirs.der.clone()])];
    let mesh = Guarded::start_with(options).await;
    let shown = mesh.admin().await.show_authority(ids::ShowAuthorityRequest {}).await.unwrap().into_inner();
    assert_eq!(shown.federated[0].trust_domain, "other.local");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(
        "spiffe://other.local/ringway/operator/admin/eve".to_owned().try_into().unwrap(),
    )];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &theirs.issuer).unwrap().der().clone();
    let der = identity::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let target = mesh.target(Some(identity::tls::certified(vec![leaf], der).unwrap())).await;
    let mut eve = xds::operator::administer(&target, xds::operator::Bearer::default()).await.unwrap();
    assert!(eve.create_node_token(ids::CreateNodeTokenRequest { node: "n".to_owned() }).await.is_err());
    assert_eq!(mesh.refused("role").await, 1);
    mesh.end().await;
}
