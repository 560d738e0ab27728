//! What must not come in, each by the counter that shows it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use identity::tls::{self, Known};
use identity::{CertifiedKey, Key, Pin, PrivateKeyDer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use server::store::MemoryStore;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use xds::operator::Bearer;
use xds::proto::identity as ids;
use xds::proto::node::NodeReport;
use xds::target::Target;

use crate::authorities::{TestRoot, from_files};
use crate::harness::{Guarded, Identity, WORKLOADS, eventually, secure};

/// A good node's certificate, which a test spoils.
fn leaf(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = (SystemTime::now() - Duration::from_secs(3_600)).into();
    params.not_after = (SystemTime::now() + Duration::from_secs(3_600)).into();
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.to_owned().try_into().unwrap())
}

fn show(params: &CertificateParams, issuer: Option<&Issuer<'_, KeyPair>>) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    tls::certified(vec![certificate.der().clone()], der).unwrap()
}

const NODE: &str = "spiffe://mesh.local/ringway/node/node-1";

#[tokio::test]
async fn a_certificate_that_is_not_to_be_believed_ends_the_handshake() {
    let root = TestRoot::new("root");
    let directory = tempfile::tempdir().unwrap();
    let mesh =
        Guarded::start_with(secure(from_files(&root, directory.path()), Arc::new(MemoryStore::default())))
            .await;
    let foreign = TestRoot::new("foreign");
    let spoil = |by: &dyn Fn(&mut CertificateParams)| {
        let mut params = leaf(NODE);
        by(&mut params);
        params
    };
    let hour = Duration::from_secs(3_600);
    let now = SystemTime::now();
    let cases: [(&str, CertificateParams, Option<&TestRoot>); 12] = [
        ("svid_unknown_issuer", leaf(NODE), Some(&foreign)),
        ("svid_unknown_issuer", spoil(&|p| p.distinguished_name.push(DnType::CommonName, "self")), None),
        ("svid_expired", spoil(&|p| p.not_after = (now - hour / 2).into()), Some(&root)),
        ("svid_not_yet_valid", spoil(&|p| p.not_before = (now + hour / 2).into()), Some(&root)),
        ("svid_foreign_trust_domain", leaf("spiffe://other.local/ringway/node/node-1"), Some(&root)),
        ("svid_no_san", spoil(&|p| p.subject_alt_names.clear()), Some(&root)),
        (
            "svid_several_uri_sans",
            spoil(&|p| p.subject_alt_names.push(uri("spiffe://mesh.local/b"))),
            Some(&root),
        ),
        ("svid_bad_id", leaf("spiffe://mesh.local/ringway/node/node-1\0x"), Some(&root)),
        ("svid_root_path", leaf("spiffe://mesh.local"), Some(&root)),
        ("svid_extended_key_usage", spoil(&|p| p.extended_key_usages.truncate(1)), Some(&root)),
        ("svid_key_usage", spoil(&|p| p.key_usages = vec![KeyUsagePurpose::KeyAgreement]), Some(&root)),
        (
            "svid_signs_certificates",
            spoil(&|p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            Some(&root),
        ),
    ];
    for (reason, params, issuer) in cases {
        let before = mesh.refused(reason).await;
        let target = mesh.target(Some(show(&params, issuer.map(|issuer| &issuer.issuer)))).await;
        let key = Key::generate().unwrap();
        let answer = xds::identity::renew(&target, key.request().unwrap()).await;
        assert!(answer.is_err(), "{reason}");
        let counted = || async { (mesh.refused(reason).await > before).then_some(()) };
        eventually(counted).await;
    }
    // The control: the same certificate unspoilt is a node's.
    let good = mesh.target(Some(show(&leaf(NODE), Some(&root.issuer)))).await;
    assert!(xds::identity::renew(&good, Key::generate().unwrap().request().unwrap()).await.is_ok());
    mesh.end().await;
}

#[tokio::test]
async fn plain_text_and_other_protocols_end_the_handshake() {
    let mesh = Guarded::start().await;
    let mut plain = TcpStream::connect(&mesh.address).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    eventually(|| async { (mesh.refused("handshake_failed").await == 1).then_some(()) }).await;
    // ALPN confusion: a client that wants to speak HTTP/1.1 to a port of gRPC.
    let mut config = tls::client_config(Known::Authority(mesh.roots().await), None).unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(Target::fixed_tls(&mesh.address, config).unwrap().connect().await.is_err());
    eventually(|| async { (mesh.refused("handshake_failed").await == 2).then_some(()) }).await;
    mesh.end().await;
}

#[tokio::test]
async fn a_client_believes_its_control_plane_and_no_other() {
    let (ours, theirs) = (Guarded::start().await, Guarded::start().await);
    let config = tls::client_config(Known::Authority(theirs.roots().await), None).unwrap();
    let target = Target::fixed_tls(&ours.address, config).unwrap();
    let refused = target.connect().await.unwrap_err();
    assert!(refused.contains("certificate"), "{refused}");
    let config = tls::client_config(Known::Pinned(Pin::of(b"another root")), None).unwrap();
    let refused = Target::fixed_tls(&ours.address, config).unwrap().connect().await.unwrap_err();
    assert!(refused.contains("SHA-256"), "{refused}");
    // With a plain target the handshake is missed at the server.
    assert!(
        xds::operator::connect(&ours.address).await.is_err() || ours.refused("handshake_failed").await > 0
    );
    ours.end().await;
    theirs.end().await;
}

#[tokio::test]
async fn join_tokens_that_are_used_unknown_or_anothers_are_refused() {
    let mesh = Guarded::start().await;
    let token = mesh.token("node-1").await;
    assert!(mesh.try_join("node-2", &token).await.is_err());
    assert_eq!(mesh.refused("join_token_other_node").await, 1);
    assert!(mesh.try_join("node-1", &token).await.is_ok());
    assert!(mesh.try_join("node-1", &token).await.is_err());
    assert_eq!(mesh.refused("join_token_used").await, 1);
    assert!(mesh.try_join("node-1", "rwj1.00.00.node-1").await.is_err());
    assert_eq!(mesh.refused("join_token_unknown").await, 1);
    assert!(mesh.try_join("node-1", "").await.is_err());
    assert_eq!(mesh.refused("no_credential").await, 1);
    let log = mesh.audit().await;
    let refused: Vec<_> =
        log.iter().filter(|line| line["what"] == "join").map(|line| &line["outcome"]).collect();
    assert_eq!(refused.len(), 5, "{log:#?}");
    mesh.end().await;
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_is_refused_and_costs_no_token() {
    let mesh = Guarded::start().await;
    let target = mesh.target(None).await;
    let token = mesh.token("node-1").await;
    let join = |csr: Vec<u8>| {
        let request = ids::JoinRequest { node: "node-1".to_owned(), token: token.clone(), csr };
        let target = target.clone();
        async move { xds::identity::join(&target, request).await }
    };
    let mut forged = Key::generate().unwrap().request().unwrap();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let odd = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let odd = CertificateParams::default().serialize_request(&odd).unwrap().der().to_vec();
    for (csr, reason) in
        [(b"hello".to_vec(), "csr_encoding"), (forged, "csr_signature"), (odd, "svid_weak_key")]
    {
        assert!(join(csr).await.is_err());
        assert_eq!(mesh.refused(reason).await, 1, "{reason}");
    }
    assert!(mesh.try_join("node-1", &token).await.is_ok(), "the token is still good");
    mesh.end().await;
}

#[tokio::test]
async fn a_rogue_data_plane_gets_no_tables_and_reports_for_nobody_but_itself() {
    let mesh = Guarded::start().await;
    let node = mesh.node("node-1").await;
    let (_reports, state) = watch::channel(NodeReport::default());
    let rogue = xds::node::run(&node, "node-2", async |_| panic!("a table of another node"), state);
    let both = || async {
        let tables = mesh.refused("tables_of_another").await;
        let reports = mesh.refused("report_of_another").await;
        (tables > 0 && reports > 0).then_some(())
    };
    tokio::select! {
        _ = rogue => unreachable!("it runs for ever"),
        () = eventually(both) => {}
    }
    let log = mesh.audit().await;
    assert!(
        log.iter()
            .any(|line| line["who"] == "node node-1" && line["outcome"] == "refused: tables_of_another")
    );
    mesh.end().await;
}

#[tokio::test]
async fn a_machine_joins_by_its_certificate_as_the_node_of_its_name_only() {
    let machines = TestRoot::new("machines");
    let mut secure = secure(crate::harness::built_in(), Arc::new(MemoryStore::default()));
    secure.join_roots = vec![machines.der.clone()];
    let mesh = Guarded::start_with(secure).await;
    mesh.apply(WORKLOADS).await;
    let machine = |name: &str| {
        let mut params = leaf(NODE);
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, name);
        show(&params, Some(&machines.issuer))
    };
    let join = |shown: Arc<CertifiedKey>, node: &str| {
        let (mesh, node) = (&mesh, node.to_owned());
        async move {
            let key = Key::generate().unwrap();
            let csr = key.request().unwrap();
            let target = mesh.target(Some(shown)).await;
            let joined =
                xds::identity::join(&target, ids::JoinRequest { node, token: String::new(), csr }).await;
            joined.map(|(certificate, _)| Identity::new(&key, certificate))
        }
    };
    assert!(join(machine("node-1"), "node-1").await.is_ok());
    assert!(join(machine("node-1"), "node-2").await.is_err(), "another name");
    assert!(join(machine("node-9"), "node-9").await.is_err(), "no Node of that name");
    assert_eq!(mesh.refused("join_machine").await, 2);
    mesh.admin().await.revoke_node(ids::RevokeRequest { name: "node-1".to_owned() }).await.unwrap();
    assert!(join(machine("node-1"), "node-1").await.is_err(), "revoked");
    assert_eq!(mesh.refused("join_machine").await, 3);
    let stranger = TestRoot::new("strangers");
    let mut params = leaf(NODE);
    params.subject_alt_names.clear();
    assert!(join(show(&params, Some(&stranger.issuer)), "node-1").await.is_err());
    // A machine is no operator either.
    let target = mesh.target(Some(machine("node-1"))).await;
    let mut operator = xds::operator::connect_to(&target, Bearer::default()).await.unwrap();
    assert!(operator.list(xds::proto::control::ListRequest::default()).await.is_err());
    mesh.end().await;
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_let_go() {
    let mesh = Guarded::start().await;
    let silent = TcpStream::connect(&mesh.address).await.unwrap();
    eventually(|| async { (mesh.refused("handshake_timeout").await == 1).then_some(()) }).await;
    drop(silent);
    mesh.end().await;
}
