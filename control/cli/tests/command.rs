//! The command against a control plane in this process: what it prints, and its exit status.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::thread;

use server::store::MemoryStore;

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: { name: web, labels: { team: a } }
spec:
  selector: { app: web }
  ports: [{ port: 80 }]
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: web-v1, labels: { app: web } }
spec: { node: node-1, addresses: [10.88.0.11] }
";

/// Runs as long as the test's process.
fn control() -> SocketAddr {
    let (told, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let prefixes = model::ServicePrefixes { v4: Some("10.96.0.0/16".parse().unwrap()), v6: None };
        let options = server::Options {
            listen: "127.0.0.1:0".parse().unwrap(),
            unix: None,
            insecure: false,
            prefixes,
            security: server::Security::Plain,
            audit: None,
        };
        let listening =
            move |listening: &server::serve::Listening| told.send(listening.address().unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime
            .block_on(server::run(
                options,
                Arc::new(MemoryStore::default()),
                listening,
                std::future::pending(),
            ))
            .unwrap();
    });
    address.recv().unwrap()
}

fn ringway(control: SocketAddr, arguments: &[&str]) -> Output {
    with_input(control, arguments, "")
}

fn with_input(control: SocketAddr, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .args(arguments)
        .env("RINGWAY_CONTROL", control.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[track_caller]
fn expect(output: &Output, status: i32, parts: &[&str]) {
    assert_eq!(output.status.code(), Some(status), "{}", said(output));
    for part in parts {
        assert!(said(output).contains(part), "{part:?} is not in:\n{}", said(output));
    }
}

#[test]
fn resources_are_applied_shown_described_and_deleted() {
    let control = control();
    let applied = with_input(control, &["apply", "-f", "-"], WEB);
    expect(&applied, 0, &["Service default/web: created", "Workload default/web-v1: created"]);
    expect(&with_input(control, &["apply", "-f", "-"], WEB), 0, &["Service default/web: unchanged"]);

    expect(
        &ringway(control, &["get", "services"]),
        0,
        &["SERVICE", "ADDRESSES", "10.96.", "80/TCP", "app=web"],
    );
    expect(&ringway(control, &["get", "all", "-A"]), 0, &["NAMESPACE", "WORKLOAD", "web-v1"]);
    expect(&ringway(control, &["get", "service", "web", "-o", "yaml"]), 0, &["kind: Service", "clusterIPs:"]);
    let json = ringway(control, &["get", "service", "web", "-o", "json"]);
    let object: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(object["metadata"]["generation"], 1);
    expect(&ringway(control, &["describe", "service", "web"]), 0, &["Service web", "team=a", "Spec:"]);

    expect(
        &ringway(control, &["delete", "service", "web", "other"]),
        1,
        &["web: deleted", "other does not exist"],
    );
    expect(&ringway(control, &["get", "service", "web"]), 1, &["Service default/web does not exist"]);
    expect(&with_input(control, &["delete", "-f", "-"], WEB), 1, &["Workload default/web-v1: deleted"]);
}

#[test]
fn what_was_printed_can_be_applied_again() {
    let control = control();
    with_input(control, &["apply", "-f", "-"], WEB);
    let yaml = ringway(control, &["get", "all", "-o", "yaml"]);
    let again = with_input(control, &["apply", "-f", "-"], &String::from_utf8_lossy(&yaml.stdout));
    expect(&again, 0, &["Service default/web: unchanged", "Workload default/web-v1: unchanged"]);
}

#[test]
fn a_wrong_field_is_told_with_file_document_and_right_form() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("mesh.yaml");
    std::fs::write(&file, WEB.replace("port: 80", "port: eighty")).unwrap();
    let refused = ringway(control(), &["apply", "-f", directory.path().to_str().unwrap()]);
    expect(&refused, 1, &["mesh.yaml: document 1: Service web: spec.ports[0].port", "eighty"]);
}

#[test]
fn what_the_server_refuses_is_told_with_the_file() {
    let control = control();
    let service = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIPs: [10.96.0.7], ports: [{{port: 80}}]}}}}"
        )
    };
    expect(&with_input(control, &["apply", "-f", "-"], &service("a")), 0, &["created"]);
    let refused = with_input(control, &["apply", "-f", "-"], &service("b"));
    expect(&refused, 1, &["-: Service default/b: spec.clusterIPs: 10.96.0.7 belongs to Service default/a"]);
}

#[test]
fn a_dry_run_stores_nothing() {
    let control = control();
    expect(&with_input(control, &["apply", "--dry-run", "-f", "-"], WEB), 0, &["created (dry run)"]);
    expect(&ringway(control, &["get", "service", "web"]), 1, &["does not exist"]);
}

#[test]
fn usage_and_absence_of_the_control_plane_have_their_own_exit_status() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    expect(&ringway(nobody, &["get", "services"]), 3, &["cannot reach the control plane at 127.0.0.1:1"]);
    expect(&ringway(nobody, &["get", "pods"]), 2, &["no kind \"pods\"; there are namespace"]);
    expect(&ringway(nobody, &["apply", "-f", "/nowhere.yaml"]), 2, &["/nowhere.yaml"]);
    expect(&ringway(nobody, &["frobnicate"]), 2, &["frobnicate"]);
    expect(&ringway(nobody, &["--control", "ftp://x", "status"]), 2, &["HOST:PORT or unix:/PATH"]);
}

#[test]
fn status_and_defaults_are_printed() {
    expect(
        &ringway(control(), &["status"]),
        0,
        &["control plane", "listening on 127.0.0.1", "no node has connected"],
    );
    expect(&ringway(control(), &["status", "-o", "json"]), 0, &["\"insecure\": false"]);
    expect(&ringway("127.0.0.1:1".parse().unwrap(), &["defaults"]), 0, &["connectTimeout", "5 s"]);
}

#[test]
fn a_capture_asks_for_what_was_said_and_writes_what_comes() {
    let admin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = admin.local_addr().unwrap().to_string();
    let asked = thread::spawn(move || {
        let (mut stream, _) = admin.accept().unwrap();
        let mut request = vec![0; 4_096];
        let length = stream.read(&mut request).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6\r\npcapng\r\n0\r\n\r\n")
            .unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("out.pcapng");
    let arguments =
        ["capture", "--admin", &address, "--port", "80", "--packets", "5", "-w", file.to_str().unwrap()];
    let done = ringway("127.0.0.1:1".parse().unwrap(), &arguments);
    expect(&done, 0, &["6 bytes of pcapng"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"pcapng");
    assert!(asked.join().unwrap().starts_with("GET /capture?port=80&packets=5 HTTP/1.1"));
    let nobody = ringway("127.0.0.1:1".parse().unwrap(), &["capture", "--admin", "127.0.0.1:1"]);
    expect(&nobody, 3, &["cannot reach the data plane's admin address"]);
}
