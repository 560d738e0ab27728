//! Namespaces, veths and processes of one test, gone when it ends, however it ends.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
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

impl Lab {
    pub fn new(mtu: u32) -> Self {
        let lab = format!("{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let lab = Self { node: Namespace::new(&lab, "node"), peer: Namespace::new(&lab, "peer") };
        let mtu = mtu.to_string();
        lab.node.ip(&[
            "link",
            "add",
            "n0",
            "mtu",
            &mtu,
            "type",
            "veth",
            "peer",
            "name",
            "p0",
            "mtu",
            &mtu,
            "netns",
            &lab.peer.name,
        ]);
        lab.node.ip(&["addr", "add", "10.9.0.1/24", "dev", "n0"]);
        lab.node.ip(&["link", "set", "n0", "up"]);
        lab.peer.ip(&["addr", "add", "10.9.0.9/24", "dev", "p0"]);
        lab.peer.ip(&["link", "set", "p0", "up"]);
        lab
    }

    /// The peer takes `mac` for the owner of our address, so that nobody need answer ARP.
    pub fn tell_peer(&self, mac: [u8; 6]) {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        self.peer.ip(&["neigh", "replace", &OURS.to_string(), "lladdr", &mac, "dev", "p0"]);
    }
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
