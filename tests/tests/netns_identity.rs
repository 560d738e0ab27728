//! A node that joins a control plane which asks who everybody is: real programs, real sockets, AF_XDP traffic beside it.

use std::fs;
use std::time::Duration;

use tests::lab::MESH;
use tests::mesh::{Tables, demo_resources};
use tests::{Lab, Mesh, eventually, is_root};

/// Certificates live for 20 s here: a renewal is due within ten.
const RENEWAL_LIMIT: Duration = Duration::from_secs(60);
const REVOCATION_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_node_joins_serves_renews_restarts_and_is_revoked() {
    if !is_root() {
        return;
    }
    let mut mesh = Mesh::start(Lab::up(), Tables::Guarded(&demo_resources()), "");
    let serves = |mesh: &Mesh| mesh.lab.client.run(&format!("curl -fsS -m 5 http://{MESH}/"));
    serves(&mesh);
    let listed = mesh.ringway("node list");
    assert!(listed.contains("node-1") && listed.contains("token"), "{listed}");

    let renewals = |mesh: &Mesh, outcome: &str| {
        mesh.metric("ringway_identity_renewals_total", &[&format!("outcome=\"{outcome}\"")])
    };
    eventually("the certificate is renewed", RENEWAL_LIMIT, || {
        (renewals(&mesh, "done") >= 1.0).then_some(())
    });
    assert!(mesh.metric("ringway_identity_certificate_expires_seconds", &[]) > 0.0);
    serves(&mesh);

    // The token is used up and gone; what the node holds is enough.
    fs::remove_file(mesh.lab.directory().join("token")).expect("the token was written");
    mesh.restart();
    serves(&mesh);
    let state = mesh.lab.directory().join("state/identity.json");
    let mode = mesh.lab.node.run(&format!("stat -c %a {}", state.display()));
    assert_eq!(mode.trim(), "600");

    // Without a control plane the node goes on, and counts what it could not do.
    mesh.control = None;
    eventually("a renewal fails", RENEWAL_LIMIT, || (renewals(&mesh, "failed") >= 1.0).then_some(()));
    serves(&mesh);
    mesh.restart_guarded_control();
    let before = renewals(&mesh, "done");
    eventually("the node is certified again", RENEWAL_LIMIT, || {
        (renewals(&mesh, "done") > before).then_some(())
    });

    let revoked = mesh.ringway("node revoke node-1");
    assert!(revoked.contains("revoked"), "{revoked}");
    fs::remove_file(mesh.lab.directory().join("token")).expect("a new token was written");
    eventually("the revoked node is cut off", REVOCATION_LIMIT, || {
        let status = mesh.ringway("status");
        (status.contains("svid_revoked") && status.contains(" no ")).then_some(())
    });
    assert!(mesh.ringway("audit").contains("node revoke"));
    // Its tables stay: what it serves is not taken from clients.
    serves(&mesh);
}
