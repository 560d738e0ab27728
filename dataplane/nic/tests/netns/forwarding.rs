//! Two interfaces of one worker: what comes in at one goes out at the other, in the same memory.

use nic::{Burst, OpenRequest, Packet, Pools, QueueAssignment, QueuePair, UmemSet, XdpMode};

use super::lab::{FAR, Lab, OURS, PATIENCE, eventually, far_socket, is_root, owned, peer_socket};
use super::node::{CHUNKS, checksum, open_one, reopen_one};

/// To the far peer: MAC and IPv4 destination rewritten, no UDP checksum.
fn redirect_to(mut packet: Packet, mac: [u8; 6]) -> Option<Packet> {
    let head = packet.frame_mut(0)?.bytes_mut();
    if head.len() < 42 || head[12..14] != [8, 0] || head[23] != 17 {
        return None;
    }
    head[..6].copy_from_slice(&mac);
    head[30..34].copy_from_slice(&FAR.octets());
    head[24..26].fill(0);
    let sum = checksum(0, &head[14..34]);
    head[24..26].copy_from_slice(&sum.to_be_bytes());
    head[40..42].fill(0);
    Some(packet)
}

#[test]
fn forwarding_between_two_veths_copies_nothing() {
    let Some(lab) = Lab::entered(65_535) else { return };
    let far_mac = lab.add_far(65_535);
    let mut umems = [UmemSet::new(CHUNKS)];
    let mut near = open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut umems).expect("a veth opens");
    let mut far =
        open_one("n1", XdpMode::Auto, &[], &mut umems).expect("a second veth opens on the same memory");
    lab.tell_peer(near.report.mac);
    let mut pools = Pools::new();
    let mut near_pair = pools.start(near.queues.remove(0)).expect("the region is free");
    let mut far_pair = pools.start(far.queues.remove(0)).expect("the region is this thread's");

    let (peer, receiver) = (peer_socket(&lab), far_socket(&lab));
    receiver.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    let (mut burst, mut out) = (Burst::new(), Burst::new());
    for (round, bytes) in [64, 1_400, 28_000, 60_000].into_iter().cycle().take(200).enumerate() {
        let sent = vec![round as u8; bytes];
        peer.send_to(&sent, (OURS, 7)).expect("the peer can send");
        eventually("the packet arrives", || {
            near_pair.receive(&mut burst);
            while let Some(packet) = burst.pop() {
                redirect_to(packet, far_mac).into_iter().for_each(|packet| out.push(packet).expect("room"));
            }
            !out.is_empty()
        });
        far_pair.transmit(&mut out);
        let mut received = vec![0; 65_536];
        let len = receiver.recv(&mut received).expect("the far peer hears");
        assert_eq!(&received[..len], &sent);
    }
    let counters = far_pair.counters();
    assert_eq!((counters.transmitted_packets, counters.copied_packets, counters.nic_tx_invalid), (200, 0, 0));
    drop((near_pair, far_pair));
    assert_eq!((pools.free_frames(), pools.stranded_frames()), (CHUNKS as usize, 0));
}

/// libxdp would keep the first socket of shared memory open, and its queue busy, until the last one closed.
#[test]
fn an_interface_can_leave_and_come_back_while_others_share_its_memory() {
    let Some(lab) = Lab::entered(1_500) else { return };
    lab.add_far(1_500);
    let mut umems = [UmemSet::new(CHUNKS)];
    let mut pools = Pools::new();
    let mut near = open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut umems).expect("a veth opens");
    let near_pair = pools.start(near.queues.remove(0)).expect("the region is free");
    let mut far = open_one("n1", XdpMode::Auto, &[], &mut umems).expect("a second veth opens");
    let far_pair = pools.start(far.queues.remove(0)).expect("the region is this thread's");

    drop((near, near_pair));
    let mut near = reopen_one("n0", &[owned(OURS)], &mut umems);
    let near_pair = pools.start(near.queues.remove(0)).expect("the region is this thread's");
    drop((far, far_pair, near, near_pair));
    let mut near = reopen_one("n0", &[owned(OURS)], &mut umems);
    lab.tell_peer(near.report.mac);
    let mut near_pair = pools.start(near.queues.remove(0)).expect("the region is this thread's");
    peer_socket(&lab).send_to(b"again", (OURS, 7)).expect("the peer can send");
    eventually("it still receives", || near_pair.receive(&mut Burst::new()) > 0);
    assert_eq!(pools.stranded_frames(), 0);
}

#[test]
fn every_queue_of_an_interface_gets_a_socket_of_its_worker() {
    if !is_root() {
        return;
    }
    let lab = Lab::with_queues(1_500, 2);
    lab.node.enter();
    let mut umems = [UmemSet::new(CHUNKS), UmemSet::new(CHUNKS)];
    let opened = nic::open(
        &OpenRequest {
            interface: "n0",
            mode: XdpMode::Auto,
            redirect: bpf::RedirectConfig::untagged(bpf::Role::Uplink),
            queues: &[QueueAssignment { queue: 0, worker: 0 }, QueueAssignment { queue: 1, worker: 1 }],
        },
        &mut umems,
    )
    .expect("both queues open");
    assert_eq!(
        opened.queues.iter().map(|queue| (queue.queue(), queue.worker())).collect::<Vec<_>>(),
        [(0, 0), (1, 1)]
    );
    let workers: Vec<_> = opened
        .queues
        .into_iter()
        .map(|bound| {
            std::thread::spawn(move || Pools::new().start(bound).expect("each worker has its own").counters())
        })
        .collect();
    workers.into_iter().for_each(|worker| assert_eq!(worker.join().expect("no panic").nic_tx_invalid, 0));
}
