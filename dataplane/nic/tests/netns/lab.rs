//! Namespaces, veths and processes of one test, gone when it ends, however it ends.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Most that any step of a test may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Tests of one process run side by side, each in namespaces of its own.
static LABS: AtomicU32 = AtomicU32::new(0);

/// A network namespace that ends with this value.
#[derive(Debug)]
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    fn new(lab: &str, role: &str) -> Self {
        let name = format!("rw-packets-{lab}-{role}");
        run(&["ip", "netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    pub fn ip(&self, arguments: &[&str]) {
        run(&[&["ip", "-n", &self.name], arguments].concat());
    }

    /// Runs a command inside to its end.
    pub fn run(&self, arguments: &[&str]) {
        let output = self.exec(arguments).output().expect("iproute2 is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A command's words, to run inside.
    pub fn exec(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(arguments);
        command
    }

    /// Moves the calling thread inside.
    pub fn enter(&self) {
        let file = File::open(format!("/run/netns/{}", self.name)).expect("the namespace exists");
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// One veth between `node`, where the program runs, and `peer`, which speaks Linux.
///
/// ```text
///   node n0 10.9.0.1 (kernel), 10.9.0.2 (ours)  <--- veth --->  p0 10.9.0.9 peer
/// ```
#[derive(Debug)]
pub struct Lab {
    pub node: Namespace,
    pub peer: Namespace,
}

pub const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 9);

/// The address of a second peer, behind the node's n1.
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 9);

impl Lab {
    /// A lab, with the calling thread in its node; none, with a word to the reader, without root.
    pub fn entered(mtu: u32) -> Option<Self> {
        let lab = is_root().then(|| Self::with_queues(mtu, 1))?;
        lab.node.enter();
        Some(lab)
    }

    /// With as many receive and transmit queues at each end.
    pub fn with_queues(mtu: u32, queues: u32) -> Self {
        let lab = format!("{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let lab = Self { node: Namespace::new(&lab, "node"), peer: Namespace::new(&lab, "peer") };
        let (mtu, queues) = (mtu.to_string(), queues.to_string());
        let queues = ["numrxqueues", &queues, "numtxqueues", &queues];
        let near = [&["link", "add", "n0", "mtu", &mtu][..], &queues, &["type", "veth"]].concat();
        let far = [&["peer", "name", "p0", "mtu", &mtu][..], &queues, &["netns", &lab.peer.name]].concat();
        lab.node.ip(&[near, far].concat());
        lab.node.ip(&["addr", "add", "10.9.0.1/24", "dev", "n0"]);
        lab.node.ip(&["link", "set", "n0", "up"]);
        lab.peer.ip(&["addr", "add", "10.9.0.9/24", "dev", "p0"]);
        lab.peer.ip(&["link", "set", "p0", "up"]);
        lab
    }

    /// A second veth, n1 to p1, whose end has [`FAR`]; gives that end's MAC address.
    pub fn add_far(&self, mtu: u32) -> [u8; 6] {
        let (mtu, mac) = (mtu.to_string(), [2, 0, 0, 0, 1, 9]);
        let peer = &self.peer.name;
        self.node.ip(&[
            "link", "add", "n1", "mtu", &mtu, "type", "veth", "peer", "name", "p1", "mtu", &mtu, "netns",
            peer,
        ]);
        self.node.ip(&["link", "set", "n1", "up"]);
        self.peer.ip(&["link", "set", "p1", "address", "02:00:00:00:01:09"]);
        self.peer.ip(&["addr", "add", "10.9.1.9/24", "dev", "p1"]);
        self.peer.ip(&["link", "set", "p1", "up"]);
        // Forwarded packets keep their source, which this peer has itself.
        self.peer.run(&["sysctl", "-qw", "net.ipv4.conf.p1.accept_local=1", "net.ipv4.conf.all.rp_filter=0"]);
        self.peer.run(&["sysctl", "-qw", "net.ipv4.conf.p1.rp_filter=0"]);
        mac
    }

    /// The peer takes `mac` for the owner of our address, so that nobody need answer ARP.
    pub fn tell_peer(&self, mac: [u8; 6]) {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        self.peer.ip(&["neigh", "replace", &OURS.to_string(), "lladdr", &mac, "dev", "p0"]);
    }
}

/// A UDP socket of the peer. Sockets stay in the namespace that they were made in.
pub fn peer_socket(lab: &Lab) -> UdpSocket {
    socket_at(lab, (PEER, 0).into())
}

/// Where what is sent to [`FAR`], port 7, arrives.
pub fn far_socket(lab: &Lab) -> UdpSocket {
    socket_at(lab, (FAR, 7).into())
}

fn socket_at(lab: &Lab, address: SocketAddr) -> UdpSocket {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            lab.peer.enter();
            UdpSocket::bind(address).expect("the peer has its address")
        });
        made.join().expect("binding does not panic")
    })
}

pub fn ask(socket: &UdpSocket, to: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    socket.send_to(question, to).expect("the peer can send");
    let mut answer = vec![0; 65_536];
    let len = socket.recv(&mut answer).ok()?;
    answer.truncate(len);
    Some(answer)
}

/// A process that ends with this value.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn run(words: &[&str]) {
    let status = Command::new(words[0]).args(&words[1..]).status().expect("iproute2 is installed");
    assert!(status.success(), "{words:?}: {status}");
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: namespaces and AF_XDP need root");
    }
    root
}

pub fn owned(address: impl Into<IpAddr>) -> bpf::OwnedPrefix {
    bpf::OwnedPrefix::address(address.into())
}
