//! Every way in which opening an interface fails, by name.

use bpf::{AttachError, Link};
use nic::{ModeGot, OpenError, Pools, StartError, UmemSet, XdpMode};
use xsk::{BindError, CopyMode, OtherRegion, Region, Socket};

use super::lab::Lab;
use super::node::{CHUNKS, open_one, reopen_one};

fn open(interface: &str, mode: XdpMode) -> Result<nic::Opened, OpenError> {
    open_one(interface, mode, &[], &mut [UmemSet::new(CHUNKS)])
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let error = open("rw-absent", XdpMode::Auto).expect_err("there is none");
    assert!(
        matches!(&error, OpenError::NoSuchInterface { interface } if interface == "rw-absent"),
        "{error}"
    );
}

#[test]
fn somebody_elses_program_is_left_alone_and_its_id_is_named() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    let held = open("n0", XdpMode::Auto).expect("a veth opens");
    let id = Link::by_name("n0").expect("the veth is there").xdp_program.expect("a program is attached");
    let error = open("n0", XdpMode::Auto).expect_err("one program is enough");
    let OpenError::Attach { source: AttachError::ForeignProgram { interface, program_id }, .. } = &error
    else {
        panic!("{error}")
    };
    assert_eq!((interface.as_str(), *program_id), ("n0", id));
    assert!(error.to_string().contains("ip link set dev n0 xdp off"), "{error}");
    drop(held);
    reopen_one("n0", &[], &mut [UmemSet::new(CHUNKS)]);
}

#[test]
fn a_queue_that_another_socket_holds_is_named() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    let index = Link::by_name("n0").expect("the veth is there").index;
    let region = Region::new(64).expect("a small region");
    let held = Socket::bind(&region, index, 0, CopyMode::Copy).expect("the queue is free");
    let error = open("n0", XdpMode::Auto).expect_err("the queue is busy");
    assert!(matches!(&error, OpenError::Bind { source: BindError::Busy { queue: 0 }, .. }), "{error}");
    drop(held);
    reopen_one("n0", &[], &mut [UmemSet::new(CHUNKS)]);
}

#[test]
fn a_queue_that_the_interface_does_not_have_is_named() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    let index = Link::by_name("n0").expect("the veth is there").index;
    let region = Region::new(64).expect("a small region");
    let error = Socket::bind(&region, index, 9, CopyMode::Copy).expect_err("a veth has one queue");
    assert!(matches!(error, BindError::NoSuchQueue { queue: 9 }), "{error}");
}

#[test]
fn zero_copy_on_a_veth_is_refused_when_asked_for_by_name() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    let error = open("n0", XdpMode::ZeroCopy).expect_err("a veth has none");
    assert!(
        matches!(&error, OpenError::Bind { source: BindError::NoZeroCopy { queue: 0, .. }, .. }),
        "{error}"
    );
    // The refusal left nothing behind.
    reopen_one("n0", &[], &mut [UmemSet::new(CHUNKS)]);
}

/// Loopback has neither zero-copy nor native XDP.
#[test]
fn auto_falls_back_and_says_why() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    let error = open("lo", XdpMode::Native).expect_err("loopback has no native XDP");
    assert!(
        matches!(&error, OpenError::Attach { source: AttachError::UnsupportedMode { .. }, .. }),
        "{error}"
    );
    let opened = open("lo", XdpMode::Auto).expect("generic XDP runs everywhere");
    let queue = &opened.report.queues[0];
    assert_eq!(queue.mode, ModeGot::Generic);
    let text = queue.to_string();
    assert!(text.contains("not zero_copy: ") && text.contains("not native: "), "{text}");
}

#[test]
fn without_privilege_the_missing_capability_is_named() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    // Capabilities are a thread's own, and this one ends with the test.
    let none = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    let error = std::thread::spawn(move || {
        rustix::thread::set_capabilities(None, sets).expect("giving up is always allowed");
        open("n0", XdpMode::Auto).expect_err("AF_XDP is a privilege")
    })
    .join()
    .expect("no panic");
    assert!(matches!(&error, OpenError::Bind { source: BindError::NoPrivilege { .. }, .. }), "{error}");
    assert!(error.to_string().contains("CAP_NET_RAW"), "{error}");
}

#[test]
fn a_worker_that_does_not_exist_is_named() {
    let error = open_one("lo", XdpMode::Auto, &[], &mut []).expect_err("there is no worker 0");
    assert!(matches!(&error, OpenError::NoSuchWorker { worker: 0, workers: 0, .. }), "{error}");
}

#[test]
fn memory_belongs_to_the_worker_that_started_first() {
    let Some(lab) = Lab::entered(1_500) else { return };
    lab.add_far(1_500);
    let mut umems = [UmemSet::new(CHUNKS)];
    let mut near = open_one("n0", XdpMode::Auto, &[], &mut umems).expect("a veth opens");
    let mut far = open_one("n1", XdpMode::Auto, &[], &mut umems).expect("a veth opens");
    let (mut here, mut elsewhere) = (Pools::new(), Pools::new());
    let _pair = here.start(near.queues.remove(0)).expect("the region is free");
    let error = elsewhere.start(far.queues.remove(0)).expect_err("another owns the region");
    assert!(matches!(error, StartError::OwnedElsewhere { queue: 0 }), "{error}");
}

#[test]
fn a_socket_of_other_memory_is_not_started() {
    let Some(_lab) = Lab::entered(1_500) else { return };
    let index = Link::by_name("n0").expect("the veth is there").index;
    let (region, other) = (Region::new(64).expect("small"), Region::new(64).expect("small"));
    let socket = Socket::bind(&region, index, 0, CopyMode::Copy).expect("the queue is free");
    let pool = other.claim().expect("nobody owns it");
    assert_eq!(pool.start(socket).expect_err("the memory is another's"), OtherRegion);
    // The refused socket is closed.
    reopen_one("n0", &[], &mut [UmemSet::new(CHUNKS)]);
}
