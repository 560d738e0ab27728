//! Queue pairs on real veths in namespaces of their own. Needs root and iproute2; skips, and says so, without root.

mod netns {
    pub mod lab;
    pub mod node;
}

use std::net::{SocketAddr, UdpSocket};

use nic::{ModeGot, UmemSet, XdpMode};

use netns::lab::{KERNEL, Lab, OURS, PATIENCE, PEER, is_root, owned};
use netns::node::{CHUNKS, Node, echo_udp, open_one};

/// A UDP socket of the peer. Sockets stay in the namespace that they were made in.
fn peer_socket(lab: &Lab) -> UdpSocket {
    std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            lab.peer.enter();
            UdpSocket::bind(SocketAddr::from((PEER, 0))).expect("the peer has its address")
        });
        made.join().expect("binding does not panic")
    })
}

fn ask(socket: &UdpSocket, to: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    socket.send_to(question, to).expect("the peer can send");
    let mut answer = vec![0; 65_536];
    let len = socket.recv(&mut answer).ok()?;
    answer.truncate(len);
    Some(answer)
}

#[test]
fn udp_to_our_address_comes_back_and_the_kernels_address_is_the_kernels() {
    if !is_root() {
        return;
    }
    let lab = Lab::new(1_500);
    lab.node.enter();
    let mut umems = [UmemSet::new(CHUNKS)];
    let opened = open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut umems).expect("a veth opens");
    assert_eq!(opened.report.queues[0].mode, ModeGot::Generic);
    lab.tell_peer(opened.report.mac);
    println!("{}", opened.report.queues[0]);

    let kernel = UdpSocket::bind((KERNEL, 7)).expect("the kernel has its address");
    let (node, redirect) = Node::start(&lab.node, opened, echo_udp);
    let peer = peer_socket(&lab);
    for round in 0..100u32 {
        let question = round.to_be_bytes();
        assert_eq!(ask(&peer, (OURS, 7).into(), &question).as_deref(), Some(&question[..]));
    }
    peer.send_to(b"kernel", (KERNEL, 7)).expect("the peer can send");
    kernel.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    let mut heard = [0; 16];
    assert_eq!(kernel.recv(&mut heard).expect("the kernel still hears"), 6);

    let verdicts = redirect.verdicts().expect("verdicts can be read");
    assert_eq!(verdicts.of(bpf::Verdict::RedirectedAddress), 100);
    let counters = node.stop();
    assert_eq!((counters.received_packets, counters.transmitted_packets), (100, 100));
    assert_eq!(counters.copied_packets, 0);
}
