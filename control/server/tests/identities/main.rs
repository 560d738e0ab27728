//! Who is who, over real sockets: joining, certificates, roles, revocation, rotation; and each refusal by its counter.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod authorities;
mod harness;
mod refusals;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harness::{Guarded, Identity, PATIENCE, WORKLOADS, apply, eventually};
use identity::{Key, Svid};
use server::store::MemoryStore;
use tokio::sync::watch;
use tokio::time::timeout;
use xds::operator::Bearer;
use xds::proto::identity as ids;
use xds::proto::node::NodeReport;

#[tokio::test]
async fn a_node_joins_by_its_token_and_is_served_its_tables() {
    let mesh = Guarded::start().await;
    mesh.apply(WORKLOADS).await;
    let joined = mesh.try_join("node-1", &mesh.token("node-1").await).await.unwrap();
    let svid = Svid::read(&joined.chain[0]).unwrap();
    assert_eq!(svid.id.to_string(), "spiffe://mesh.local/ringway/node/node-1");
    let life = svid.not_after.duration_since(svid.not_before).unwrap();
    assert_eq!(life.as_secs(), 24 * 3_600 + 60);

    let target = mesh.target(Some(joined.certified())).await;
    let (_reports, state) = watch::channel(NodeReport::default());
    let (told, mut tables) = tokio::sync::mpsc::unbounded_channel();
    let follow =
        xds::node::run(&target, "node-1", async |table| told.send(table).map_err(|e| e.to_string()), state);
    tokio::select! {
        _ = follow => unreachable!("it runs for ever"),
        table = timeout(PATIENCE, tables.recv()) => drop(table.unwrap().unwrap()),
    }
    let nodes = mesh.admin().await.list_nodes(ids::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    assert_eq!((nodes[0].name.as_str(), nodes[0].joined_by.as_str()), ("node-1", "token"));
    assert_eq!(nodes[0].serial, svid.serial);
    mesh.end().await;
}

#[tokio::test]
async fn a_certificate_is_renewed_by_the_one_before_it() {
    let mesh = Guarded::start().await;
    let node = mesh.node("node-1").await;
    let key = Key::generate().unwrap();
    let renewed = xds::identity::renew(&node, key.request().unwrap()).await.unwrap();
    let next = mesh.target(Some(Identity::new(&key, renewed).certified())).await;
    let again = Key::generate().unwrap();
    assert!(xds::identity::renew(&next, again.request().unwrap()).await.is_ok());
    mesh.end().await;
}

#[tokio::test]
async fn a_short_life_has_its_half_ahead_of_it() {
    let mut short = harness::secure(harness::built_in(), Arc::new(MemoryStore::default()));
    short.options.lifetime = Duration::from_secs(20);
    let mesh = Guarded::start_with(short).await;
    let joined = mesh.try_join("node-1", &mesh.token("node-1").await).await.unwrap();
    let svid = Svid::read(&joined.chain[0]).unwrap();
    assert!(svid.half_life() > SystemTime::now());
    mesh.end().await;
}

#[tokio::test]
async fn a_workload_is_certified_for_the_node_that_the_registry_names() {
    let mesh = Guarded::start().await;
    mesh.apply(WORKLOADS).await;
    let node = mesh.node("node-1").await;
    let request = |workload: &str| ids::SignWorkloadRequest {
        namespace: "shop".to_owned(),
        workload: workload.to_owned(),
        csr: Key::generate().unwrap().request().unwrap(),
    };
    let signed = xds::identity::sign_workload(&node, request("web")).await.unwrap();
    let svid = Svid::read(&signed.chain[0]).unwrap();
    assert_eq!(svid.id.to_string(), "spiffe://mesh.local/ns/shop/sa/front");

    assert!(xds::identity::sign_workload(&node, request("db")).await.is_err());
    assert_eq!(mesh.refused("workload_elsewhere").await, 1);
    assert!(xds::identity::sign_workload(&node, request("nobody")).await.is_err());
    assert_eq!(mesh.refused("workload_unknown").await, 1);
    let stranger = mesh.target(None).await;
    assert!(xds::identity::sign_workload(&stranger, request("web")).await.is_err());
    assert_eq!(mesh.refused("no_credential").await, 1);
    mesh.end().await;
}

#[tokio::test]
async fn operators_do_what_their_role_lets_them_and_all_of_it_is_in_the_audit_log() {
    let mesh = Guarded::start().await;
    let target = mesh.target(None).await;
    let token = |name: &'static str, role: &'static str| {
        let mesh = &mesh;
        async move {
            let request = ids::CreateOperatorTokenRequest {
                name: name.to_owned(),
                role: role.to_owned(),
                lifetime_seconds: 60,
            };
            let made = mesh.admin().await.create_operator_token(request).await.unwrap().into_inner();
            Bearer::new(&made.token).unwrap()
        }
    };
    let (viewer, editor) = (token("vera", "viewer").await, token("ed", "editor").await);
    let list = || xds::proto::control::ListRequest::default();
    let mut as_viewer = xds::operator::connect_to(&target, viewer).await.unwrap();
    let mut as_editor = xds::operator::connect_to(&target, editor.clone()).await.unwrap();
    as_viewer.list(list()).await.unwrap();
    assert!(apply(&mut as_viewer, WORKLOADS).await.is_err());
    assert_eq!(mesh.refused("role").await, 1);
    apply(&mut as_editor, WORKLOADS).await.unwrap();
    let mut admin = xds::operator::administer(&target, editor).await.unwrap();
    assert!(admin.create_node_token(ids::CreateNodeTokenRequest { node: "n".to_owned() }).await.is_err());
    assert_eq!(mesh.refused("role").await, 2);

    let node = mesh.node("node-1").await;
    let mut as_node = xds::operator::connect_to(&node, Bearer::default()).await.unwrap();
    assert!(as_node.list(list()).await.is_err(), "a node is no operator");
    let mut nobody = xds::operator::connect_to(&target, Bearer::default()).await.unwrap();
    assert!(nobody.list(list()).await.is_err());
    assert_eq!(mesh.refused("no_credential").await, 1);
    let mut forger = xds::operator::connect_to(&target, Bearer::new("rwo1.00").unwrap()).await.unwrap();
    assert!(forger.list(list()).await.is_err());
    assert_eq!(mesh.refused("operator_token_unknown").await, 1);

    let log = mesh.audit().await;
    let has = |who: &str, what: &str, outcome: &str| {
        log.iter().any(|line| {
            line["who"].as_str().unwrap().starts_with(who)
                && line["what"] == what
                && line["outcome"] == outcome
        })
    };
    assert!(has("viewer vera", "apply", "refused: role"), "{log:#?}");
    assert!(has("editor ed", "apply", "done"));
    assert!(has("editor ed", "node token", "refused: role"));
    assert!(has("admin uid 0", "operator token", "done") || has("admin uid", "operator token", "done"));
    assert!(has("stranger", "join", "done"));
    assert!(log.iter().any(|line| line.to_string().contains("Workload shop/web Created")));
    mesh.end().await;
}

#[tokio::test]
async fn an_operators_certificate_does_as_its_role_until_it_is_revoked() {
    let mesh = Guarded::start().await;
    let key = Key::generate().unwrap();
    let request = ids::SignOperatorRequest {
        name: "ann".to_owned(),
        role: "editor".to_owned(),
        csr: key.request().unwrap(),
    };
    let signed = mesh.admin().await.sign_operator(request).await.unwrap().into_inner();
    let own = Identity::new(&key, signed.certificate.unwrap());
    let target = mesh.target(Some(own.certified())).await;
    let mut ann = xds::operator::connect_to(&target, Bearer::default()).await.unwrap();
    apply(&mut ann, WORKLOADS).await.unwrap();
    let revoked = mesh.admin().await.revoke_operator(ids::RevokeRequest { name: "ann".to_owned() }).await;
    assert_eq!(revoked.unwrap().into_inner().serials.len(), 1);
    eventually(|| async {
        let mut ann = xds::operator::connect_to(&target, Bearer::default()).await.ok();
        let refused = match &mut ann {
            None => true,
            Some(ann) => apply(ann, WORKLOADS).await.is_err(),
        };
        refused.then_some(())
    })
    .await;
    assert!(mesh.refused("svid_revoked").await > 0);
    mesh.end().await;
}

#[tokio::test]
async fn a_revoked_node_is_cut_off_within_seconds_and_the_others_hear_of_it() {
    let mesh = Guarded::start().await;
    let (first, second) = (mesh.node("node-1").await, mesh.node("node-2").await);
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let other =
        tokio::spawn(
            async move { xds::identity::follow_trust(&second, |state| drop(told.send(state))).await },
        );
    assert!(timeout(PATIENCE, heard.recv()).await.unwrap().unwrap().revoked.is_empty());
    let (own_told, mut own_heard) = tokio::sync::mpsc::unbounded_channel();
    let own = first.clone();
    let cut =
        tokio::spawn(
            async move { xds::identity::follow_trust(&own, |state| drop(own_told.send(state))).await },
        );
    own_heard.recv().await.unwrap();

    let asked = tokio::time::Instant::now();
    let revoked =
        mesh.admin().await.revoke_node(ids::RevokeRequest { name: "node-1".to_owned() }).await.unwrap();
    let serials = revoked.into_inner().serials;
    assert_eq!(serials.len(), 1);
    let state = timeout(PATIENCE, heard.recv()).await.unwrap().unwrap();
    assert_eq!(state.revoked, serials);
    let ended = timeout(PATIENCE, cut).await.unwrap().unwrap().unwrap_err();
    assert!(ended.to_string().contains("revoked"), "{ended}");
    assert!(asked.elapsed() < Duration::from_secs(10));

    assert!(xds::identity::renew(&first, Key::generate().unwrap().request().unwrap()).await.is_err());
    assert!(mesh.refused("svid_revoked").await > 0);
    // A new token is a new decision.
    assert!(mesh.try_join("node-1", &mesh.token("node-1").await).await.is_ok());
    other.abort();
    mesh.end().await;
}
