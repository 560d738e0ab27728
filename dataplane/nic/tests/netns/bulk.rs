//! Packets of many frames, in both directions.

use nic::{Burst, Large, Packet, Pools, QueuePair, UmemSet, XdpMode};

use super::lab::{Lab, OURS, PEER, ask, eventually, is_root, owned, peer_socket};
use super::node::{CHUNKS, Node, checksum, echo_udp, open_one, open_ours};

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

/// A TCP segment with 1,000 bytes of text from [`OURS`] to [`PEER`], its checksum left out.
fn segment(pair: &mut impl QueuePair, macs: ([u8; 6], [u8; 6]), number: u32) -> Packet {
    let (to, from) = macs;
    let mut head = [&to[..], &from, &[8, 0], &[0x45, 0, 0x04, 0x10, 0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
    head.extend_from_slice(&[OURS.octets(), PEER.octets()].concat());
    let sum = checksum(0, &head[14..34]);
    head[24..26].copy_from_slice(&sum.to_be_bytes());
    head.extend_from_slice(&[0x1f, 0x90, 0x9c, 0x40]);
    head.extend_from_slice(&(number * 1_000).to_be_bytes());
    head.extend_from_slice(&[0, 0, 0, 1, 5 << 4, 0x10, 1, 0, 0, 0, 0, 0]);
    let mut packet = Packet::new(pair.frame().expect("a frame is free"));
    packet.last_mut().append(&head);
    packet.last_mut().append(&[number as u8; 1_000]);
    packet
}

#[test]
fn segments_of_one_stream_leave_in_one_piece_and_what_is_around_them_keeps_its_place() {
    if !is_root() {
        return;
    }
    let lab = Lab::with_queues(1_500, 1);
    lab.peer.enter();
    let mut far =
        open_one("p0", XdpMode::Auto, &[owned(PEER)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mut far_pair = Pools::new().start(far.queues.remove(0)).expect("the region is free");
    lab.node.enter();
    let mut near =
        open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mut pair = Pools::new().start(near.queues.remove(0)).expect("the region is free");
    let macs = (far.report.mac, near.report.mac);

    let mut burst = Burst::new();
    // A gap after the first and after the fiftieth: one, 49, and ten segments.
    for number in (0..1).chain(10..59).chain(70..80) {
        burst.push(segment(&mut pair, macs, number)).expect("60 packets are a burst");
    }
    pair.transmit(&mut burst);
    assert!(burst.is_empty());
    assert_eq!((pair.counters().transmitted_packets, pair.counters().merged_packets), (60, 59));

    let (mut arrived, mut received) = (Vec::new(), Burst::new());
    eventually("all text arrives", || {
        far_pair.receive(&mut received);
        while let Some(packet) = received.pop() {
            arrived.push(packet.to_heap().frame(0).expect("one frame").bytes().to_vec());
        }
        arrived.iter().map(|packet| packet.len() - 54).sum::<usize>() == 60_000
    });
    let texts: Vec<usize> = arrived.iter().map(|packet| packet.len() - 54).collect();
    assert_eq!(texts, [1_000, 49_000, 10_000]);
    let text = arrived.iter().flat_map(|packet| &packet[54..]).copied();
    let sent = (0..1).chain(10..59).chain(70..80).flat_map(|number: u32| [number as u8; 1_000]);
    assert!(text.eq(sent));
}

#[test]
fn a_neighbour_without_large_segments_gets_the_run_in_segments_of_the_mtu_with_right_checksums() {
    if !is_root() {
        return;
    }
    let lab = Lab::with_queues(1_500, 1);
    lab.node.run(&["ethtool", "-K", "n0", "tso", "off", "gso", "off", "tx", "off"]);
    lab.peer.enter();
    let mut far =
        open_one("p0", XdpMode::Auto, &[owned(PEER)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mut far_pair = Pools::new().start(far.queues.remove(0)).expect("the region is free");
    lab.node.enter();
    let mut near =
        open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mut pair = Pools::new().start(near.queues.remove(0)).expect("the region is free");
    let macs = (far.report.mac, near.report.mac);
    let mut burst = Burst::new();
    (0..10).for_each(|number| burst.push(segment(&mut pair, macs, number)).expect("ten are few"));
    pair.transmit(&mut burst);
    let (mut arrived, mut received) = (Vec::new(), Burst::new());
    eventually("all ten arrive", || {
        far_pair.receive(&mut received);
        while let Some(packet) = received.pop() {
            arrived.push(packet.to_heap().frame(0).expect("one frame").bytes().to_vec());
        }
        arrived.len() == 10
    });
    for (number, packet) in arrived.iter().enumerate() {
        assert_eq!(packet[38..42], (number as u32 * 1_000).to_be_bytes());
        let pseudo = [&packet[26..34], &[0, 6], &((packet.len() - 34) as u16).to_be_bytes()].concat();
        assert_eq!(checksum(u32::from(!checksum(0, &pseudo)), &packet[34..]), 0, "segment {number}");
    }
}

#[test]
fn a_large_tcp_packet_leaves_from_where_it_lies_or_in_frames_behind_what_came_before() {
    if !is_root() {
        return;
    }
    let lab = Lab::with_queues(65_535, 1);
    lab.peer.enter();
    let mut far =
        open_one("p0", XdpMode::Auto, &[owned(PEER)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mut far_pair = Pools::new().start(far.queues.remove(0)).expect("the region is free");
    lab.node.enter();
    let mut near =
        open_one("n0", XdpMode::Auto, &[owned(OURS)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mut pair = Pools::new().start(near.queues.remove(0)).expect("the region is free");
    let macs = (far.report.mac, near.report.mac);
    let above = pair.offloads().finishes_tcp_above.expect("a veth takes large packets");

    // The headers of a packet with 60,000 bytes of text, of which the checksum says the pseudo-header's sum.
    let text: Vec<u8> = (0..60_000).map(|at: u32| (at * 7) as u8).collect();
    assert!(text.len() > above);
    let mut headers = segment(&mut pair, macs, 9).frame(0).expect("one frame").bytes()[..54].to_vec();
    headers[16..18].copy_from_slice(&60_040u16.to_be_bytes());
    headers[24..26].fill(0);
    let sum = checksum(0, &headers[14..34]);
    headers[24..26].copy_from_slice(&sum.to_be_bytes());
    let pseudo = [&headers[26..34], &[0, 6], &60_020u16.to_be_bytes()].concat();
    headers[50..52].copy_from_slice(&(!checksum(0, &pseudo)).to_be_bytes());

    let mut before = Burst::new();
    before.push(segment(&mut pair, macs, 0)).expect("one packet");
    assert_eq!(pair.transmit_large(&mut before, &headers, [&text[..10_000], &text[10_000..]]), Large::Taken);
    let mut chain = Packet::new(pair.frame().expect("a frame is free"));
    for mut piece in [&headers[..], &text] {
        while !piece.is_empty() {
            piece = &piece[chain.last_mut().append(piece)..];
            if !piece.is_empty() {
                chain.push(pair.frame().expect("a frame is free")).expect("17 frames are a packet");
            }
        }
    }
    before.push(segment(&mut pair, macs, 1)).expect("one packet");
    before.push(chain).expect("two packets");
    pair.transmit(&mut before);
    assert_eq!((pair.counters().transmitted_packets, pair.counters().merged_packets), (4, 2));

    let (mut arrived, mut received) = (Vec::new(), Burst::new());
    eventually("all four arrive", || {
        far_pair.receive(&mut received);
        while let Some(packet) = received.pop() {
            arrived.push(packet.to_heap().frame(0).expect("one frame").bytes()[54..].to_vec());
        }
        arrived.len() == 4
    });
    assert_eq!(arrived, [vec![0; 1_000], text.clone(), vec![1; 1_000], text]);
}
