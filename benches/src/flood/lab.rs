//! Two namespaces joined by a veth, gone when the run ends; and threads pinned to a CPU in one of them.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{CpuSet, LinkNameSpaceType, move_into_link_name_space, sched_setaffinity};

pub const NEAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub const FAR: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
pub const NEAR_MAC: [u8; 6] = [2, 0, 10, 9, 0, 1];
pub const FAR_MAC: [u8; 6] = [2, 0, 10, 9, 0, 2];
pub const NEAR_INTERFACE: &str = "n0";
pub const FAR_INTERFACE: &str = "p0";

pub struct Lab {
    near: Namespace,
    far: Namespace,
}

impl Lab {
    /// # Panics
    /// Without root, or without iproute2.
    pub fn new() -> Self {
        let lab = Self { near: Namespace::new("near"), far: Namespace::new("far") };
        let far = lab.far.0.clone();
        lab.near.ip(&["link", "add", "n0", "type", "veth", "peer", "name", "p0", "netns", &far]);
        for (namespace, interface, mac) in
            [(&lab.near, NEAR_INTERFACE, "02:00:0a:09:00:01"), (&lab.far, FAR_INTERFACE, "02:00:0a:09:00:02")]
        {
            namespace.ip(&["link", "set", interface, "address", mac]);
            namespace.ip(&["link", "set", interface, "up"]);
        }
        lab
    }

    /// Moves the calling thread to its CPU in its namespace.
    pub fn near(&self) {
        self.near.enter(0);
    }

    pub fn far(&self) {
        self.far.enter(1);
    }
}

/// A network namespace that ends with this value.
struct Namespace(String);

impl Namespace {
    fn new(role: &str) -> Self {
        let name = format!("rw-flood-{}-{role}", std::process::id());
        run(&["netns", "add", &name]);
        Self(name)
    }

    fn ip(&self, arguments: &[&str]) {
        run(&[&["-n", &self.0], arguments].concat());
    }

    fn enter(&self, cpu: usize) {
        let file = File::open(format!("/run/netns/{}", self.0)).expect("the namespace exists");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may enter a namespace");
        let mut cpus = CpuSet::new();
        cpus.set(cpu);
        sched_setaffinity(None, &cpus).expect("the machine has two CPUs");
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
