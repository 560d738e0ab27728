//! Two workers on real AF_XDP, with a queue each and with one queue between them: whichever queue a packet comes by,
//! the worker that owns its flow serves it.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use tests::lab::MESH;
use tests::mesh::{Tables, lab_resources};
use tests::{Lab, Mesh, Namespace, Process, eventually, is_root};

const PATIENCE: Duration = Duration::from_secs(5);
const TWO_WORKERS: &str = "workers: [0, 1]";
/// Datagram flows: that all of them steer to one of two workers has a chance of one in 2^40.
const FLOWS: usize = 40;

/// Every interface in native mode: in generic mode the kernel gives what a veth receives to its first queue alone.
const NATIVE: &str = r#"
interfaces:
  - { name: up0, role: uplink, addresses: [10.77.0.80/24, "fd77::80/64"], xdp_mode: native }
  - { name: wl-web-v1, role: workload, workloads: [10.88.0.11, "fd88::11"], xdp_mode: native }
  - { name: wl-web-v2, role: workload, workloads: [10.88.0.12, "fd88::12"], xdp_mode: native }
  - { name: wl-media, role: workload, workloads: [10.88.0.13, "fd88::13"], xdp_mode: native }
"#;

/// A mesh of two workers; `settings` are further lines of its configuration.
fn mesh(queues: u32, settings: &str) -> Mesh {
    let lab = Lab::up();
    set_queues(&lab, queues);
    lab.media.run("sysctl -qw net.ipv4.icmp_ratelimit=0");
    Mesh::start(lab, Tables::Files(&lab_resources()), &format!("{TWO_WORKERS}\n{settings}"))
}

fn set_queues(lab: &Lab, queues: u32) {
    for (near, far) in [
        ("up0", &lab.client),
        ("wl-web-v1", &lab.web_v1),
        ("wl-web-v2", &lab.web_v2),
        ("wl-media", &lab.media),
    ] {
        for (namespace, device) in [(&lab.node, near), (far, "eth0")] {
            let channels = namespace.run(&format!("ethtool -l {device}"));
            let now = channels.rsplit("Current").next().unwrap_or_default();
            if !now.contains(&format!("RX:\t\t{queues}\n")) || !now.contains(&format!("TX:\t\t{queues}\n")) {
                namespace.run(&format!("ethtool -L {device} rx {queues} tx {queues}"));
            }
        }
    }
}

/// The workers that own queues of a device.
fn owners(mesh: &Mesh, device: &str) -> Vec<u64> {
    let queues = mesh.admin("/queues");
    let all = queues.as_array().expect("a list of queues").iter();
    all.filter(|queue| queue["device"] == device).filter_map(|queue| queue["worker"].as_u64()).collect()
}

/// Packets of one worker, by what became of them.
fn packets(mesh: &Mesh, worker: usize, verdict: &str) -> f64 {
    let labels = [format!("worker=\"{worker}\""), format!("verdict=\"{verdict}\"")];
    mesh.metric("ringway_worker_packets_total", &[&labels[0], &labels[1]])
}

/// A socket of the namespace that answers each datagram with itself, until the test ends.
fn echo(namespace: &Namespace, address: &str) -> UdpSocket {
    let address = address.to_owned();
    let socket = namespace.within(move || UdpSocket::bind(address)).expect("the port is free");
    let server = socket.try_clone().expect("a socket can be cloned");
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = server.recv_from(&mut buffer) {
            let _ = server.send_to(&buffer[..length], from);
        }
    });
    socket
}

fn clients(mesh: &Mesh, count: usize, patience: Duration) -> Vec<UdpSocket> {
    let client = || {
        let socket = mesh.lab.client.within(|| UdpSocket::bind("10.77.0.2:0")).expect("a port is free");
        socket.set_read_timeout(Some(patience)).expect("a timeout can be set");
        socket.connect(format!("{MESH}:7000")).expect("a UDP socket connects");
        socket
    };
    (0..count).map(|_| client()).collect()
}

/// Whether the payload comes back.
fn echoes(socket: &UdpSocket, payload: &[u8]) -> bool {
    let mut buffer = vec![0; 65_536];
    socket.send(payload).expect("a datagram can be sent");
    socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *payload)
}

fn carry_http(mesh: &Mesh) {
    mesh.wait_for_answer(&format!("http://{MESH}/"), "web-v1");
    let said = mesh.lab.client.run(&format!("wrk -t 1 -c 64 -d 2s http://{MESH}/"));
    assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{said}");
    assert!(said.contains("requests in"), "{said}");
}

fn carry_sessions(mesh: &Mesh) {
    for (number, socket) in clients(mesh, FLOWS, PATIENCE).iter().enumerate() {
        for round in 0..3 {
            assert!(echoes(socket, format!("client {number} round {round}").as_bytes()), "client {number}");
        }
    }
}

/// Datagrams in fragments, both ways: these steer by their addresses, what they make by its ports.
fn carry_fragments(mesh: &Mesh) {
    let payload: Vec<u8> = (0..4000u32).map(|number| number as u8).collect();
    for socket in &clients(mesh, FLOWS, Duration::from_millis(300)) {
        // Linux sends the first echo with DF set, is told the MTU (RFC 1191), and cuts the next itself.
        eventually("the echo comes back whole", PATIENCE, || echoes(socket, &payload).then_some(()));
    }
}

/// Errors of the receiver's kernel, for datagrams to a port that nobody has, reach whoever sent them.
fn carry_errors(mesh: &Mesh) {
    for socket in &clients(mesh, FLOWS / 2, PATIENCE) {
        socket.send(b"anyone?").expect("a datagram can be sent");
        let refused = socket.recv(&mut [0; 16]).expect_err("nobody answers");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    }
}

fn carry_everything(mesh: &Mesh) {
    let _web = mesh.lab.start_web();
    carry_http(mesh);
    carry_errors(mesh);
    let _echo = echo(&mesh.lab.media, "10.88.0.13:7000");
    carry_sessions(mesh);
    carry_fragments(mesh);
    for worker in 0..2 {
        for verdict in ["consumed", "forwarded"] {
            // Which flows are whose is chance: of FLOWS, a quarter is far below what one worker ever has.
            let least = f64::from(FLOWS as u32) * 1.5;
            assert!(packets(mesh, worker, verdict) > least, "worker {worker}: {verdict}");
        }
    }
    assert_eq!(mesh.metric("ringway_discards_total", &["reason=\"ring_full\""]), 0.0);
    let wholes = packets(mesh, 0, "wholes_steered") + packets(mesh, 1, "wholes_steered");
    assert!(wholes >= 1.0, "no reassembled datagram was steered again");
}

#[test]
fn two_workers_with_a_queue_each_carry_every_kind_of_traffic() {
    if !is_root() {
        return;
    }
    let mesh = mesh(2, NATIVE);
    assert_eq!(owners(&mesh, "up0"), [0, 1]);
    assert_eq!(owners(&mesh, "wl-media"), [0, 1]);
    carry_everything(&mesh);
    for worker in 0..2 {
        // The kernel spreads flows over a veth's queues by its own hash: about half come by the other's.
        for verdict in ["received", "steered", "from_rings"] {
            assert!(packets(&mesh, worker, verdict) > 100.0, "worker {worker}: {verdict}");
        }
    }
}

#[test]
fn two_workers_with_one_queue_between_them_carry_every_kind_of_traffic() {
    if !is_root() {
        return;
    }
    let mesh = mesh(1, "");
    assert_eq!(owners(&mesh, "up0"), [0]);
    carry_everything(&mesh);
    assert!(packets(&mesh, 0, "steered") > 100.0, "its owner gives the other what is the other's");
    assert!(packets(&mesh, 1, "from_rings") > 100.0);
    assert_eq!(packets(&mesh, 1, "received"), 0.0, "it has no queue");
}

#[test]
fn a_capture_holds_what_passes_every_queue_of_a_device() {
    if !is_root() {
        return;
    }
    let mesh = mesh(2, NATIVE);
    let _echo = echo(&mesh.lab.media, "10.88.0.13:7000");
    let sockets = clients(&mesh, FLOWS, PATIENCE);
    let file = mesh.lab.directory().join("capture.pcapng");
    let url = "http://127.0.0.1:15000/capture?port=7000&seconds=3";
    let mut capture =
        Process::shell(&mesh.lab.node, &format!("exec curl -fsS -m 20 -o {} '{url}'", file.display()));
    let mut rounds = 0;
    while capture.wait(Duration::from_millis(500)).is_none() {
        assert!(sockets.iter().all(|socket| echoes(socket, b"captured")));
        rounds += 1;
    }
    assert!(rounds > 2 && fs::metadata(&file).is_ok_and(|file| file.len() > 0), "{}", capture.output());
    let fields = "-T fields -e frame.interface_name -e udp.srcport";
    let said = mesh.lab.node.run(&format!("tshark -n -r {} {fields}", file.display()));
    let seen: BTreeSet<(&str, &str)> = said.lines().filter_map(|line| line.split_once('\t')).collect();
    for socket in &sockets {
        let port = socket.local_addr().expect("it is bound").port().to_string();
        assert!(seen.contains(&("up0", &port)), "the client's port {port}, by whichever queue: {seen:?}");
    }
    assert!(seen.contains(&("wl-media", "7000")), "{seen:?}");
}

#[test]
fn a_limit_is_the_nodes_and_moves_to_the_worker_that_needs_it() {
    if !is_root() {
        return;
    }
    let mesh = mesh(1, &format!("limits: {{ datagram_sessions: {FLOWS}, connections_per_listener: 8 }}"));
    let _echo = echo(&mesh.lab.media, "10.88.0.13:7000");
    // However the sessions steer, as many as the limit says are served once the workers' shares have moved.
    let sockets = clients(&mesh, FLOWS, Duration::from_millis(100));
    for socket in &sockets {
        eventually("the session is admitted", PATIENCE, || echoes(socket, b"mine").then_some(()));
    }
    let late = &clients(&mesh, 1, Duration::from_millis(700))[0];
    assert!(!echoes(late, b"one too many") && !echoes(late, b"also later"));
    assert!(sockets.iter().all(|socket| echoes(socket, b"still mine")));
    assert_eq!(mesh.metric("ringway_datagram_sessions", &[]), FLOWS as f64);

    // The Gateway's listener is the only one that anybody connects to.
    let most = |name: &str| {
        let metrics = mesh.metrics();
        let all = metrics.iter().filter(|(series, _)| series.starts_with(&format!("{name}{{")));
        all.map(|(_, value)| *value).fold(0.0, f64::max)
    };
    let connect = || {
        let hold = format!("exec 3<>/dev/tcp/{MESH}/80; read -t 30 -u 3");
        Process::shell(&mesh.lab.client, &hold)
    };
    let mut held = Vec::new();
    eventually("as many connections as the limit says are open", PATIENCE, || {
        held.push(connect());
        (most("ringway_connections_open") >= 8.0).then_some(())
    });
    held.extend((0..8).map(|_| connect()));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((most("ringway_connections_open"), most("ringway_connections_share")), (8.0, 8.0));
}
