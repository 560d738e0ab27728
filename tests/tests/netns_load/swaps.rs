//! A thousand tables from the real control plane, one after another, under requests and open streams.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use model::Kind;
use serde_json::Value;
use tests::lab::MESH;
use tests::mesh::{Tables, demo_resources};
use tests::{Lab, Mesh, Namespace, Process, eventually, is_root};
use tokio::time::{sleep, timeout};
use xds::operator::Client;
use xds::proto::control::{ApplyRequest, NodeStatus, StatusRequest};

const TABLES: u64 = 1_000;
/// Tables before memory is first looked at: pools, series and the allocator have found their size by then.
const WARM_UP: u64 = 200;
const STREAMS: usize = 100;
const LOADS: usize = 2;
/// What a resident set may grow by during [`TABLES`] tables: pages that the allocator touches late. A table of the demo
/// that leaked would be some 20 KiB, a thousand of them 20 MiB.
const MEMORY_TOLERANCE_KIB: u64 = 4 << 10;
/// For a machine whose two cores others use too; alone, a thousand tables take less than ten seconds.
const LIMIT: Duration = Duration::from_secs(120);
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at what the node has acknowledged.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const CONTROL: &str = "127.0.0.1:15010";

#[test]
fn a_thousand_tables_disturb_no_request_stream_or_connection() {
    if !is_root() {
        return;
    }
    let lab = Lab::up();
    // nginx itself closes none of its connections.
    let lasting = "keepalive_requests 100000000; keepalive_timeout 600s;";
    let _web =
        [lab.start_nginx(&lab.web_v1, "web-v1", lasting), lab.start_nginx(&lab.web_v2, "web-v2", lasting)];
    serve_echo(&lab.media);
    let mesh = Mesh::start(lab, Tables::Control(&demo_resources()), "");
    wait_for_web(&mesh);
    let mut streams = Streams::open(&mesh.lab.client);
    let stop = mesh.lab.directory().join("stop");
    let loads: Vec<Process> = (0..LOADS).map(|_| start_load(&mesh.lab.client, &stop)).collect();

    push_tables(&mesh, WARM_UP, &mut streams);
    let memory_before = memory_kib(&mesh.ringwayd);
    let Pushed { applied, acknowledged, took } = push_tables(&mesh, TABLES, &mut streams);
    let memory_after = memory_kib(&mesh.ringwayd);

    fs::write(&stop, "").expect("a file can be written");
    let requests: usize = loads.into_iter().map(expect_all_good).sum();
    streams.echo();
    eprintln!(
        "{acknowledged} tables acknowledged, of {applied} changes, in {took:?} beside {requests} requests and {STREAMS} \
         streams; resident {memory_before} KiB, then {memory_after} KiB"
    );
    assert!(acknowledged >= TABLES);
    assert!(tables_in_force(&mesh.ringwayd) as u64 >= WARM_UP + acknowledged);
    assert!(memory_after <= memory_before + MEMORY_TOLERANCE_KIB, "{memory_before} KiB, {memory_after} KiB");
    // Nobody uses a connection now: every one that was ever opened lies in a pool.
    let http = ["/http1\""];
    let opened = mesh.metric("ringway_upstream_connects_total", &http);
    let pooled = mesh.metric("ringway_upstream_pooled", &http);
    assert!(opened > 0.0 && opened == pooled, "{opened} connections were opened, {pooled} are left");
    assert_eq!(mesh.metric("ringway_proxy_faults_total", &[]), 0.0);
}

fn wait_for_web(mesh: &Mesh) {
    eventually("both versions answer", PATIENCE, || {
        let said = mesh.lab.client.attempt(&format!("curl -fsS -m 5 'http://{MESH}/?[1-40]'")).stdout;
        ["web-v1", "web-v2"].iter().all(|version| said.contains(version)).then_some(())
    });
}

/// Echoes each stream in a thread, until the test ends.
fn serve_echo(namespace: &Namespace) {
    let listener = namespace.within(|| TcpListener::bind("10.88.0.13:9000")).expect("the port is free");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut copy = stream.try_clone().expect("a socket can be cloned");
                let _ = std::io::copy(&mut stream, &mut copy);
            });
        }
    });
}

/// Streams that stay open through everything.
struct Streams {
    open: Vec<TcpStream>,
    rounds: u32,
}

impl Streams {
    fn open(client: &Namespace) -> Self {
        let connect = || -> Vec<TcpStream> {
            let each = (0..STREAMS).map(|_| TcpStream::connect((MESH, 9000)));
            each.map(|stream| stream.expect("the mesh accepts")).collect()
        };
        let open = client.within(connect);
        for stream in &open {
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
        }
        let mut streams = Self { open, rounds: 0 };
        streams.echo();
        streams
    }

    /// Says something on each, and hears it.
    fn echo(&mut self) {
        self.rounds += 1;
        let word = |at: usize| format!("round {:08} of stream {at:08}", self.rounds).into_bytes();
        for (at, stream) in self.open.iter_mut().enumerate() {
            stream.write_all(&word(at)).expect("the stream is open");
        }
        for (at, stream) in self.open.iter_mut().enumerate() {
            let mut came = vec![0; word(at).len()];
            stream.read_exact(&mut came).unwrap_or_else(|error| panic!("stream {at}: {error}"));
            assert_eq!(came, word(at));
        }
    }
}

/// Requests one after another, until `stop` exists.
fn start_load(client: &Namespace, stop: &Path) -> Process {
    Process::shell(
        client,
        &format!(
            "while [ ! -e {} ]; do curl -sS -m 50 -o /dev/null -w '%{{http_code}}\\n' 'http://{MESH}/?[1-200]' || \
             echo \"curl ended with $?\"; done",
            stop.display()
        ),
    )
}

fn expect_all_good(mut load: Process) -> usize {
    assert!(load.wait(PATIENCE).is_some(), "the load ends");
    let output = load.output();
    let bad: Vec<&str> = output.lines().filter(|line| *line != "200").take(20).collect();
    assert!(bad.is_empty(), "{}", bad.join(", "));
    output.lines().count()
}

/// What became of a series of changes.
struct Pushed {
    applied: u64,
    /// Distinct tables by which the node served, one after another.
    acknowledged: u64,
    took: Duration,
}

/// Changes the route's weights again and again until the node has acknowledged `tables` more tables.
fn push_tables(mesh: &Mesh, tables: u64, streams: &mut Streams) -> Pushed {
    let node = &mesh.lab.node;
    thread::scope(|scope| {
        let pushing = scope.spawn(|| node.within(|| push_until_acknowledged(tables)));
        while !pushing.is_finished() {
            streams.echo();
            thread::sleep(LOOK_EVERY);
        }
        pushing.join().expect("the node acknowledges the tables")
    })
}

fn push_until_acknowledged(tables: u64) -> Pushed {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let mut operator = xds::operator::connect(CONTROL).await.expect("the control plane answers");
        let before = status(&mut operator).await.acknowledged_tables;
        let mut applied = 0;
        let begun = Instant::now();
        let enough = timeout(LIMIT, acknowledge(operator.clone(), before + tables));
        let now = tokio::select! {
            now = enough => now.unwrap_or_else(|_| panic!("{tables} tables: not within {LIMIT:?}")),
            never = change_weights(&mut operator, &mut applied) => never,
        };
        let took = begun.elapsed();
        Pushed { applied, acknowledged: now - before, took }
    })
}

/// Waits until the node has acknowledged so many tables; how many it has.
async fn acknowledge(mut operator: Client, wanted: u64) -> u64 {
    loop {
        let acknowledged = status(&mut operator).await.acknowledged_tables;
        if acknowledged >= wanted {
            return acknowledged;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn status(operator: &mut Client) -> NodeStatus {
    let status = operator.status(StatusRequest {}).await.expect("the control plane answers");
    status.into_inner().nodes.pop().expect("the node has connected")
}

/// One durable change after another; counts them.
async fn change_weights(operator: &mut Client, applied: &mut u64) -> ! {
    let mut route = web_route();
    loop {
        route["spec"]["rules"][1]["backendRefs"][0]["weight"] = (1 + *applied % 99).into();
        let request = ApplyRequest { objects_json: vec![route.to_string()], dry_run: false };
        operator.apply(request).await.expect("the route is good");
        *applied += 1;
    }
}

/// The demo's HTTPRoute, which splits requests between the versions.
fn web_route() -> Value {
    let resources = model::read_documents("demo", &demo_resources()).expect("the demo is good");
    let route = resources.iter().find(|resource| resource.kind() == Kind::HttpRoute);
    serde_json::to_value(route.expect("the demo has an HTTPRoute")).expect("a resource is JSON")
}

fn tables_in_force(ringwayd: &Process) -> usize {
    ringwayd.output().matches("table in force").count()
}

fn memory_kib(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
}
