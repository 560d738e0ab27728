//! `ringway node`, `operator`, `ca` and `audit` against a control plane that asks who everybody is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use server::ca::KeySource;
use server::store::MemoryStore;
use server::{AuthoritySource, Options, Secure, Security, identities};

struct Guarded {
    directory: tempfile::TempDir,
    address: String,
}

impl Guarded {
    /// Runs as long as the test's process.
    fn start() -> Guarded {
        let directory = tempfile::tempdir().unwrap();
        let secure = Secure {
            options: identities::Options {
                trust_domain: "mesh.local".parse().unwrap(),
                lifetime: identities::issuer::LIFETIME,
                federated: Vec::new(),
            },
            authority: AuthoritySource::BuiltIn(Some(KeySource::Text("5a".repeat(32)))),
            join_roots: Vec::new(),
            store: Arc::new(MemoryStore::default()),
        };
        let options = Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            unix: Some(directory.path().join("control.sock")),
            insecure: false,
            prefixes: model::ServicePrefixes { v4: Some("10.96.0.0/16".parse().unwrap()), v6: None },
            security: Security::Secure(secure),
            audit: None,
        };
        let (told, address) = std::sync::mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let listening = move |listening: &server::serve::Listening| {
                told.send(listening.address().unwrap()).unwrap();
            };
            let store = Arc::new(MemoryStore::default());
            runtime.block_on(server::run(options, store, listening, std::future::pending())).unwrap();
        });
        Guarded { directory, address: address.recv().unwrap().to_string() }
    }

    /// As the host's own root, by the Unix socket.
    fn admin(&self, arguments: &[&str]) -> Output {
        let socket = format!("unix:{}", self.path("control.sock"));
        ringway(&[&["--control", socket.as_str()], arguments].concat())
    }

    /// From elsewhere, by TLS.
    fn remote(&self, arguments: &[&str]) -> Output {
        ringway(&[&["--control", self.address.as_str()], arguments].concat())
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).to_str().unwrap().to_owned()
    }

    /// What a command printed, in a file.
    fn keep(&self, name: &str, output: &Output) -> String {
        expect(output, 0, &[]);
        std::fs::write(self.path(name), &output.stdout).unwrap();
        self.path(name)
    }
}

fn ringway(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringway")).args(arguments).output().unwrap()
}

#[track_caller]
fn expect(output: &Output, status: i32, parts: &[&str]) {
    let said = [output.stdout.as_slice(), &output.stderr].map(String::from_utf8_lossy).concat();
    assert_eq!(output.status.code(), Some(status), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

#[test]
fn tokens_are_made_for_nodes_and_nobody_has_joined_yet() {
    let mesh = Guarded::start();
    let token = mesh.admin(&["node", "token", "node-1"]);
    expect(&token, 0, &["rwj1.", ".node-1"]);
    expect(&mesh.admin(&["node", "list"]), 0, &["NODE", "JOINED BY", "EXPIRES IN"]);
    expect(&mesh.admin(&["node", "revoke", "node-1"]), 1, &["no node node-1 has joined"]);
    expect(&mesh.admin(&["node", "token", "a/b"]), 1, &["is no name"]);
    expect(&mesh.admin(&["audit"]), 0, &["\"what\":\"node token\"", "\"on\":[\"node node-1\"]"]);
}

#[test]
fn an_operator_elsewhere_works_by_token_or_certificate_as_the_role_allows() {
    let mesh = Guarded::start();
    let roots = mesh.keep("roots.pem", &mesh.admin(&["ca", "bundle"]));
    let token = mesh.keep("token", &mesh.admin(&["operator", "token", "vera", "--role", "viewer"]));
    let by_token = ["--ca", roots.as_str(), "--token-file", token.as_str()];
    expect(&mesh.remote(&[&by_token[..], &["status"]].concat()), 0, &["control plane"]);
    let refused = mesh.remote(&[&by_token[..], &["node", "token", "n"]].concat());
    expect(&refused, 1, &["node token asks for an operator of role admin"]);

    let certificate = mesh.path("ann.pem");
    let make = ["operator", "certificate", "ann", "--role", "admin", "-w", certificate.as_str()];
    expect(&mesh.admin(&make), 0, &[]);
    let mode = std::fs::metadata(Path::new(&certificate)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    expect(&mesh.admin(&make), 2, &["ann.pem"]);
    // Known by the SHA-256 of its root this time.
    let shown = mesh.admin(&["ca", "show"]);
    expect(&shown, 0, &["authority: built-in, generation 1", "mesh.local"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let pin = shown.split_whitespace().find(|word| word.starts_with("sha256:")).unwrap();
    let by_certificate = ["--ca", pin, "--certificate", certificate.as_str()];
    expect(&mesh.remote(&[&by_certificate[..], &["node", "token", "n"]].concat()), 0, &["rwj1."]);

    expect(
        &mesh.admin(&["operator", "list"]),
        0,
        &["vera", "viewer", "token", "ann", "admin", "certificate"],
    );
    expect(&mesh.admin(&["operator", "revoke", "ann"]), 0, &["with 1 certificates"]);
    let cut_off = mesh.remote(&[&by_certificate[..], &["status"]].concat());
    assert_ne!(cut_off.status.code(), Some(0));
    expect(&mesh.admin(&["status"]), 0, &["refused: ", "role 1", "svid_revoked"]);
}

#[test]
fn a_root_that_nobody_holds_is_replaced_at_once() {
    let mesh = Guarded::start();
    let before = mesh.admin(&["ca", "show"]).stdout;
    expect(&mesh.admin(&["ca", "rotate", "--wait", "30s"]), 0, &["1 of 3", "2 of 3", "3 of 3", "done"]);
    let after = mesh.admin(&["ca", "show"]);
    expect(&after, 0, &["generation 2"]);
    assert_ne!(before, after.stdout);
}

#[test]
fn who_has_no_credential_or_the_wrong_root_is_told_so() {
    let mesh = Guarded::start();
    let roots = mesh.keep("roots.pem", &mesh.admin(&["ca", "bundle"]));
    expect(&mesh.remote(&["--ca", &roots, "status"]), 1, &["asks for an operator"]);
    let other = format!("sha256:{}", "0".repeat(64));
    expect(&mesh.remote(&["--ca", &other, "status"]), 3, &["SHA-256"]);
    expect(&mesh.remote(&["status"]), 3, &["--ca"]);
    expect(&mesh.remote(&["--ca", "sha256:0", "status"]), 2, &["--ca: a pin is sha256:"]);
    expect(&mesh.remote(&["--token-file", "x", "status"]), 2, &["--ca"]);
}
