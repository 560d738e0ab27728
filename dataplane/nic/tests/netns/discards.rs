//! Every way in which a queue pair loses a packet, by its counter's name.

use nic::{
    Burst, FRAME_BYTES, Frame, MAX_FRAMES, Packet, Pools, QueueCounters, QueuePair, UmemSet, XdpMode,
    XskQueuePair,
};

use super::lab::{Lab, OURS, eventually, owned, peer_socket};
use super::node::open_one;

/// The least that a queue takes to its fill ring.
const FEW_CHUNKS: u32 = 64;

/// A pair with little memory, and the program's handle that keeps it attached.
fn poor_pair(lab: &Lab) -> (XskQueuePair, bpf::Redirect) {
    let mut opened =
        open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut [UmemSet::new(FEW_CHUNKS)]).expect("a veth opens");
    lab.tell_peer(opened.report.mac);
    (Pools::new().start(opened.queues.remove(0)).expect("the region is free"), opened.redirect)
}

fn transmit(pair: &mut XskQueuePair, packet: Packet) -> QueueCounters {
    let mut burst = Burst::new();
    burst.push(packet).expect("one packet");
    pair.transmit(&mut burst);
    assert!(burst.is_empty(), "a packet that cannot ever go does not wait");
    pair.counters()
}

fn heap_packet(bytes: usize) -> Packet {
    let mut frame = Frame::heap(bytes);
    frame.append(&vec![2; bytes]);
    Packet::new(frame)
}

#[test]
fn without_memory_packets_are_counted_as_nic_rx_dropped_and_nic_fill_ring_empty() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let (mut pair, _redirect) = poor_pair(&lab);
    let peer = peer_socket(&lab);
    let mut hoard = Burst::new();
    eventually("all memory is in packets that nobody lets go of", || {
        peer.send_to(b"more", (OURS, 7)).expect("the peer can send");
        pair.receive(&mut hoard);
        pair.counters().nic_rx_dropped > 0
    });
    let counters = pair.counters();
    assert!(counters.nic_fill_ring_empty > 0, "{counters:?}");
    // The receive ring has a place for every chunk that a queue gave the kernel.
    assert_eq!((counters.nic_rx_ring_full, hoard.len()), (0, FEW_CHUNKS as usize));

    drop(hoard);
    let mut burst = Burst::new();
    pair.receive(&mut burst);
    eventually("it receives again", || {
        peer.send_to(b"again", (OURS, 7)).expect("the peer can send");
        pair.receive(&mut burst) > 0
    });
}

#[test]
fn a_copy_without_a_free_frame_is_counted_as_nic_tx_no_frame() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let (mut pair, _redirect) = poor_pair(&lab);
    // All chunks wait on the fill ring.
    assert!(pair.frame().is_none());
    let counters = transmit(&mut pair, heap_packet(60));
    assert_eq!((counters.nic_tx_no_frame, counters.transmitted_packets, counters.copied_packets), (1, 0, 0));
}

#[test]
fn packets_that_no_ring_can_take_are_counted_as_nic_tx_invalid() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let (mut pair, _redirect) = poor_pair(&lab);
    assert_eq!(transmit(&mut pair, Packet::new(Frame::heap(60))).nic_tx_invalid, 1);
    assert_eq!(pair.offloads().max_packet_bytes, MAX_FRAMES * FRAME_BYTES);
    assert_eq!(transmit(&mut pair, heap_packet(MAX_FRAMES * FRAME_BYTES + 1)).nic_tx_invalid, 2);
}
