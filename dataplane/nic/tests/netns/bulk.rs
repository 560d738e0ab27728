//! Packets of many frames, in both directions.

use nic::{Burst, Packet, Pools, QueuePair, XdpMode};

use super::lab::{Lab, OURS, ask, eventually, peer_socket};
use super::node::{Node, checksum, echo_udp, open_ours};

#[test]
fn large_packets_come_back_whole() {
    let Some(lab) = Lab::entered(65_535) else { return };
    let opened = open_ours(&lab, XdpMode::Auto);
    assert!(opened.report.queues[0].multi_buffer);
    let (node, _redirect) = Node::start(opened, echo_udp);
    let peer = peer_socket(&lab);
    // 65,507 is the longest UDP payload of IPv4; 3,798 fills the first frame to the last byte.
    for bytes in [3_797, 3_798, 3_799, 9_000, 28_000, 61_000, 65_507] {
        let question: Vec<u8> = (0..bytes).map(|at: u32| (at * 7) as u8).collect();
        assert_eq!(ask(&peer, (OURS, 7).into(), &question), Some(question), "{bytes} bytes");
    }
    let counters = node.stop();
    assert_eq!((counters.transmitted_packets, counters.copied_packets), (7, 0));
    assert_eq!((counters.nic_rx_dropped, counters.nic_tx_invalid, counters.nic_chain_broken), (0, 0, 0));
}

/// The SYN-ACK to a SYN, with an MSS of 2,960: enough of TCP to make Linux send its first window.
fn accept(syn: &Packet) -> Packet {
    let mut answer = syn.to_heap();
    let frame = answer.frame_mut(0).expect("a packet has a first frame");
    frame.truncate(58);
    let head = frame.bytes_mut();
    for (left, right, len) in [(0, 6, 6), (26, 30, 4), (34, 36, 2)] {
        (0..len).for_each(|at| head.swap(left + at, right + at));
    }
    let sequence = u32::from_be_bytes(head[38..42].try_into().expect("four bytes"));
    head[16..18].copy_from_slice(&44u16.to_be_bytes());
    head[24..26].fill(0);
    let sum = checksum(0, &head[14..34]);
    head[24..26].copy_from_slice(&sum.to_be_bytes());
    head[38..42].copy_from_slice(&1_000u32.to_be_bytes());
    head[42..46].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    head[46] = 6 << 4;
    head[47] = 0x12;
    head[48..50].copy_from_slice(&u16::MAX.to_be_bytes());
    head[50..52].fill(0);
    head[54..58].copy_from_slice(&[2, 4, 0x0b, 0x90]);
    let pseudo = [&head[26..34], &[0, 6, 0, 24]].concat();
    let sum = checksum(u32::from(!checksum(0, &pseudo)), &head[34..58]);
    head[50..52].copy_from_slice(&sum.to_be_bytes());
    answer
}

#[test]
fn a_neighbours_merged_tcp_segments_arrive_as_one_packet() {
    let Some(lab) = Lab::entered(3_000) else { return };
    let mut opened = open_ours(&lab, XdpMode::Auto);
    let mut pools = Pools::new();
    let mut pair = pools.start(opened.queues.remove(0)).expect("the region is free");
    assert!(pair.offloads().unfinished_receive_checksum);

    let _client = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            lab.peer.enter();
            let mut client = std::net::TcpStream::connect((OURS, 80)).expect("the SYN is answered");
            std::io::Write::write_all(&mut client, &[7; 60_000]).expect("the send buffer takes it");
            client
        });
        let (mut burst, mut longest, mut frames) = (Burst::new(), 0, 0);
        eventually("a segment longer than the MTU arrives", || {
            pair.receive(&mut burst);
            let mut answers = Burst::new();
            while let Some(packet) = burst.pop() {
                let flags = packet.frame(0).map_or(0, |frame| frame.bytes()[47]);
                if flags & 0x12 == 0x02 {
                    answers.push(accept(&packet)).expect("one SYN has one answer");
                }
                if packet.len() > longest {
                    (longest, frames) = (packet.len(), packet.frames());
                }
            }
            pair.transmit(&mut answers);
            longest > 4_096
        });
        // Linux merges at least two segments, and more on a fast path.
        println!("longest packet: {longest} bytes in {frames} frames");
        assert!(frames > 1);
        client.join().expect("the client does not panic")
    });
    // The SYN-ACK was made in heap memory.
    assert_eq!(pair.counters().copied_packets, pair.counters().transmitted_packets);
}
