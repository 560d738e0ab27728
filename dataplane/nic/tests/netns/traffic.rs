//! Single packets: ours, the kernel's, in every mode, over a TAP device, and seen by a capture.

use std::net::UdpSocket;
use std::process::Command;

use nic::{
    Burst, Capture, CaptureFilter, CaptureLimits, CaptureTarget, ModeGot, Pools, QueuePair, TapQueuePair,
    XdpMode, capture_channel,
};

use super::lab::{KERNEL, Lab, OURS, PATIENCE, ask, eventually, peer_socket};
use super::node::{Node, echo_arrived, echo_udp, open_ours};

#[test]
fn udp_to_our_address_comes_back_and_the_kernels_address_is_the_kernels() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let opened = open_ours(&lab, XdpMode::Auto);
    assert_eq!(opened.report.queues[0].mode, ModeGot::Generic);
    assert!(opened.report.queues[0].to_string().contains("a veth has no zero-copy"), "{:?}", opened.report);

    let kernel = UdpSocket::bind((KERNEL, 7)).expect("the kernel has its address");
    kernel.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    let (node, redirect) = Node::start(opened, echo_udp);
    let peer = peer_socket(&lab);
    for round in 0..100u32 {
        let question = round.to_be_bytes();
        let answer = ask(&peer, (OURS, 7).into(), &question);
        assert_eq!(answer.as_deref(), Some(&question[..]), "{:?}", redirect.verdicts());
    }
    peer.send_to(b"kernel", (KERNEL, 7)).expect("the peer can send");
    assert_eq!(kernel.recv(&mut [0; 16]).expect("the kernel still hears"), 6);
    lab.peer.run(&["ping", "-c", "1", "-W", "5", &KERNEL.to_string()]);

    let verdicts = redirect.verdicts().expect("verdicts can be read");
    assert_eq!(verdicts.of(bpf::Verdict::RedirectedAddress), 100);
    let counters = node.stop();
    assert_eq!((counters.received_packets, counters.transmitted_packets), (100, 100));
    assert_eq!((counters.copied_packets, counters.nic_tx_no_frame, counters.nic_tx_invalid), (0, 0, 0));
}

#[test]
fn native_mode_carries_the_same() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let opened = open_ours(&lab, XdpMode::Native);
    assert_eq!(opened.report.queues[0].mode, ModeGot::Native);
    let (node, _redirect) = Node::start(opened, echo_udp);
    let peer = peer_socket(&lab);
    for round in 0..100u32 {
        let question = round.to_be_bytes();
        assert_eq!(ask(&peer, (OURS, 7).into(), &question).as_deref(), Some(&question[..]));
    }
    assert_eq!(node.stop().received_packets, 100);
}

#[test]
fn a_pair_sleeps_on_its_descriptor_until_a_packet_comes() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let mut opened = open_ours(&lab, XdpMode::Auto);
    let mut pools = Pools::new();
    let mut pair = pools.start(opened.queues.remove(0)).expect("the region is free");
    let readable = |pair: &dyn QueuePair, milliseconds: i64| {
        let descriptor = pair.descriptor().expect("AF_XDP has a descriptor");
        let mut polled = [rustix::event::PollFd::from_borrowed_fd(descriptor, rustix::event::PollFlags::IN)];
        let timeout = rustix::event::Timespec {
            tv_sec: milliseconds / 1_000,
            tv_nsec: milliseconds % 1_000 * 1_000_000,
        };
        rustix::event::poll(&mut polled, Some(&timeout)).expect("poll works") > 0
    };
    assert!(!readable(&pair, 50));
    peer_socket(&lab).send_to(b"wake", (OURS, 7)).expect("the peer can send");
    assert!(readable(&pair, 5_000));
    assert_eq!(pair.receive(&mut Burst::new()), 1);
    assert!(!readable(&pair, 0));
}

#[test]
fn a_tap_device_carries_frames_between_kernel_and_pair() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let mut pair = TapQueuePair::open("tap0").expect("root makes a TAP device");
    lab.node.ip(&["addr", "add", "10.9.7.1/24", "dev", "tap0"]);
    lab.node.ip(&["link", "set", "tap0", "up"]);
    lab.node.ip(&["neigh", "replace", "10.9.7.2", "lladdr", "02:00:00:00:00:02", "dev", "tap0"]);
    let kernel = UdpSocket::bind("10.9.7.1:0").expect("the kernel has its address");
    kernel.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    kernel.send_to(b"tap", "10.9.7.2:7").expect("the kernel can send");
    eventually("the frame comes out of the device", || echo_arrived(&mut pair));
    let mut heard = [0; 16];
    assert_eq!(kernel.recv(&mut heard).expect("the kernel hears the echo"), 3);
    assert!(
        TapQueuePair::open("tap0")
            .is_err_and(|error| matches!(error, nic::TapError::Busy(name) if name == "tap0"))
    );
}

#[test]
fn wireshark_reads_what_a_capture_wrote() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let mut opened = open_ours(&lab, XdpMode::Auto);
    let mut pools = Pools::new();
    let mut pair = Capture::new(pools.start(opened.queues.remove(0)).expect("the region is free"));
    let (writer, reader) = capture_channel(64);
    pair.set_time(1_700_000_000_123_456_789);
    let filter = CaptureFilter { address: Some(OURS.into()), port: Some(7) };
    let target = CaptureTarget { writer: Box::new(writer), interface: 0, own_file: Some("n0".to_string()) };
    pair.start(filter, CaptureLimits::default(), target);

    let peer = peer_socket(&lab);
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    for (question, port) in [("wanted", 7), ("unwanted", 8)] {
        peer.send_to(question.as_bytes(), (OURS, port)).expect("the peer can send");
        eventually("the question arrives and goes back", || echo_arrived(&mut pair));
        peer.recv(&mut [0; 16]).expect("the echo comes back");
    }
    assert_eq!(pair.stop().packets, 2);
    let file = std::env::temp_dir().join(format!("rw-packets-{}.pcapng", std::process::id()));
    std::fs::write(&file, reader.flatten().collect::<Vec<u8>>())
        .expect("the temporary directory is writable");
    let output = Command::new("tshark")
        .args(["-n", "-T", "fields", "-e", "frame.time_epoch", "-e", "frame.packet_flags_direction"])
        .args(["-e", "frame.interface_name", "-e", "ip.src", "-e", "udp.dstport", "-r"])
        .arg(&file)
        .output();
    std::fs::remove_file(&file).expect("the file was just written");
    let Ok(output) = output else { return eprintln!("skipped: tshark is not installed") };
    let read = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<&str> = read.lines().collect();
    assert_eq!(lines.len(), 2, "{read} {}", String::from_utf8_lossy(&output.stderr));
    assert!(
        lines[0].starts_with("1700000000.123456789\t") && lines[0].contains("\tn0\t10.9.0.9\t7"),
        "{read}"
    );
    assert!(lines[1].contains("\tn0\t10.9.0.2\t"), "{read}");
}
