//! Packets of many frames, in both directions.

use nic::{Burst, Large, Packet, Pools, QueuePair, UmemSet, XdpMode, XskQueuePair};

use super::lab::{Lab, Namespace, OURS, PEER, ask, eventually, is_root, owned, peer_socket};
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

/// Both ends of a veth, each with a queue pair: what the near one transmits, the kernel hands to the far one.
struct Ends {
    near: XskQueuePair,
    far: XskQueuePair,
    macs: ([u8; 6], [u8; 6]),
    _redirects: [bpf::Redirect; 2],
    // Dropped last: the interfaces are in it.
    _lab: Lab,
}

/// Ethernet, IPv4 and TCP without options.
const HEADER_BYTES: usize = 54;

fn text(packet: &[u8]) -> &[u8] {
    &packet[HEADER_BYTES..]
}

impl Ends {
    /// None, with a word to the reader, without root.
    fn open(mtu: u32) -> Option<Self> {
        Self::open_after(mtu, |_lab| {})
    }

    fn open_after(mtu: u32, prepare: impl FnOnce(&Lab)) -> Option<Self> {
        let lab = is_root().then(|| Lab::with_queues(mtu, 1))?;
        prepare(&lab);
        let open = |namespace: &Namespace, interface, address| {
            namespace.enter();
            let umem = &mut [UmemSet::new(CHUNKS)];
            let mut opened =
                open_one(interface, XdpMode::Auto, &[owned(address)], umem).expect("a veth opens");
            let pair = Pools::new().start(opened.queues.remove(0)).expect("the region is free");
            (pair, opened.redirect, opened.report.mac)
        };
        let (far, far_redirect, far_mac) = open(&lab.peer, "p0", PEER);
        let (near, near_redirect, near_mac) = open(&lab.node, "n0", OURS);
        let _redirects = [near_redirect, far_redirect];
        Some(Self { near, far, macs: (far_mac, near_mac), _redirects, _lab: lab })
    }

    /// A TCP segment with 1,000 bytes of text from [`OURS`] to [`PEER`], its checksum left out.
    fn segment(&mut self, number: u32) -> Packet {
        let (to, from) = self.macs;
        let mut head = [&to[..], &from, &[8, 0], &[0x45, 0, 0x04, 0x10, 0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
        head.extend_from_slice(&[OURS.octets(), PEER.octets()].concat());
        let sum = checksum(0, &head[14..34]);
        head[24..26].copy_from_slice(&sum.to_be_bytes());
        head.extend_from_slice(&[0x1f, 0x90, 0x9c, 0x40]);
        head.extend_from_slice(&(number * 1_000).to_be_bytes());
        head.extend_from_slice(&[0, 0, 0, 1, 5 << 4, 0x10, 1, 0, 0, 0, 0, 0]);
        self.chain([&head, &[number as u8; 1_000]])
    }

    /// The headers of a packet with 60,000 bytes of text, of which the checksum says the pseudo-header's sum.
    fn headers_of_60_000(&mut self) -> Vec<u8> {
        let mut headers = self.segment(9).frame(0).expect("one frame").bytes()[..HEADER_BYTES].to_vec();
        headers[16..18].copy_from_slice(&60_040u16.to_be_bytes());
        headers[24..26].fill(0);
        let sum = checksum(0, &headers[14..34]);
        headers[24..26].copy_from_slice(&sum.to_be_bytes());
        let pseudo = [&headers[26..34], &[0, 6], &60_020u16.to_be_bytes()].concat();
        headers[50..52].copy_from_slice(&(!checksum(0, &pseudo)).to_be_bytes());
        headers
    }

    /// One packet of all `pieces`, in as many frames as it takes.
    fn chain(&mut self, pieces: [&[u8]; 2]) -> Packet {
        let mut chain = Packet::new(self.near.frame().expect("a frame is free"));
        for mut piece in pieces {
            while !piece.is_empty() {
                piece = &piece[chain.last_mut().append(piece)..];
                if !piece.is_empty() {
                    chain.push(self.near.frame().expect("a frame is free")).expect("17 frames are a packet");
                }
            }
        }
        chain
    }

    fn transmitted_and_merged(&mut self) -> (u64, u64) {
        let counters = self.near.counters();
        (counters.transmitted_packets, counters.merged_packets)
    }

    /// What arrives at the far end, until that is `all`.
    fn arrivals(&mut self, what: &str, all: impl Fn(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
        let (mut arrived, mut received) = (Vec::new(), Burst::new());
        eventually(what, || {
            self.far.receive(&mut received);
            while let Some(packet) = received.pop() {
                arrived.push(packet.to_heap().frame(0).expect("one frame").bytes().to_vec());
            }
            all(&arrived)
        });
        arrived
    }
}

#[test]
fn segments_of_one_stream_leave_in_one_piece_and_what_is_around_them_keeps_its_place() {
    let Some(mut ends) = Ends::open(1_500) else { return };
    let mut burst = Burst::new();
    // A gap after the first and after the fiftieth: one, 49, and ten segments.
    for number in (0..1).chain(10..59).chain(70..80) {
        burst.push(ends.segment(number)).expect("60 packets are a burst");
    }
    ends.near.transmit(&mut burst);
    assert!(burst.is_empty());
    assert_eq!(ends.transmitted_and_merged(), (60, 59));

    let arrived = ends.arrivals("all text arrives", |arrived| {
        arrived.iter().map(|packet| text(packet).len()).sum::<usize>() == 60_000
    });
    let lengths: Vec<usize> = arrived.iter().map(|packet| text(packet).len()).collect();
    assert_eq!(lengths, [1_000, 49_000, 10_000]);
    let came = arrived.iter().flat_map(|packet| text(packet)).copied();
    let sent = (0..1).chain(10..59).chain(70..80).flat_map(|number: u32| [number as u8; 1_000]);
    assert!(came.eq(sent));
}

#[test]
fn a_neighbour_without_large_segments_gets_the_run_in_segments_of_the_mtu_with_right_checksums() {
    let Some(mut ends) = Ends::open_after(1_500, |lab| {
        lab.node.run(&["ethtool", "-K", "n0", "tso", "off", "gso", "off", "tx", "off"]);
    }) else {
        return;
    };
    let mut burst = Burst::new();
    (0..10).for_each(|number| burst.push(ends.segment(number)).expect("ten are few"));
    ends.near.transmit(&mut burst);
    let arrived = ends.arrivals("all ten arrive", |arrived| arrived.len() == 10);
    for (number, packet) in arrived.iter().enumerate() {
        assert_eq!(packet[38..42], (number as u32 * 1_000).to_be_bytes());
        let pseudo = [&packet[26..34], &[0, 6], &((packet.len() - 34) as u16).to_be_bytes()].concat();
        assert_eq!(checksum(u32::from(!checksum(0, &pseudo)), &packet[34..]), 0, "segment {number}");
    }
}

#[test]
fn a_large_tcp_packet_leaves_from_where_it_lies_or_in_frames_behind_what_came_before() {
    let Some(mut ends) = Ends::open(65_535) else { return };
    let above = ends.near.offloads().finishes_tcp_above.expect("a veth takes large packets");

    let long: Vec<u8> = (0..60_000).map(|at: u32| (at * 7) as u8).collect();
    assert!(long.len() > above);
    let headers = ends.headers_of_60_000();
    let mut before = Burst::new();
    before.push(ends.segment(0)).expect("one packet");
    let taken = ends.near.transmit_large(&mut before, &headers, [&long[..10_000], &long[10_000..]], None);
    assert_eq!(taken, Large::Taken);
    before.push(ends.segment(1)).expect("one packet");
    before.push(ends.chain([&headers, &long])).expect("two packets");
    ends.near.transmit(&mut before);
    assert_eq!(ends.transmitted_and_merged(), (4, 2));

    let arrived = ends.arrivals("all four arrive", |arrived| arrived.len() == 4);
    let texts: Vec<&[u8]> = arrived.iter().map(|packet| text(packet)).collect();
    assert_eq!(texts, [&[0; 1_000][..], &long, &[1; 1_000], &long]);
}

#[test]
fn a_long_tcp_packet_is_cut_into_segments_where_the_neighbour_takes_no_large_ones() {
    let Some(mut ends) = Ends::open_after(1_500, |lab| {
        lab.node.run(&["ethtool", "-K", "n0", "tso", "off", "gso", "off", "tx", "off"]);
    }) else {
        return;
    };
    assert!(ends.near.offloads().cuts_tcp);
    let long: Vec<u8> = (0..60_000).map(|at: u32| (at * 7) as u8).collect();
    let headers = ends.headers_of_60_000();
    let (halves, segment) = ([&long[..10_000], &long[10_000..]], std::num::NonZeroU16::new(1_400));
    let taken = ends.near.transmit_large(&mut Burst::new(), &headers, halves, segment);
    assert_eq!(taken, Large::Taken);
    assert_eq!(ends.transmitted_and_merged(), (43, 43));
    let arrived = ends.arrivals("all segments arrive", |arrived| arrived.len() == 43);
    assert!(arrived.iter().flat_map(|packet| text(packet)).copied().eq(long.iter().copied()));
    assert!(arrived[..42].iter().all(|packet| text(packet).len() == 1_400));
    for packet in &arrived {
        let pseudo = [&packet[26..34], &[0, 6], &((packet.len() - 34) as u16).to_be_bytes()].concat();
        assert_eq!(checksum(u32::from(!checksum(0, &pseudo)), &packet[34..]), 0);
    }
}

#[test]
fn a_segment_on_the_ring_may_leave_its_checksum_to_the_kernel() {
    let Some(mut ends) = Ends::open_after(1_500, |lab| {
        lab.node.run(&["ethtool", "-K", "n0", "tso", "off", "gso", "off", "tx", "off"]);
    }) else {
        return;
    };
    if ends.near.offloads().finishes_tcp_above != Some(0) {
        println!("this kernel has no metadata of packets that are sent (Linux 6.11)");
        return;
    }
    let mut burst = Burst::new();
    for number in [3, 7] {
        let mut segment = ends.segment(number);
        let frame = segment.frame_mut(0).expect("one frame");
        let len = (frame.len() - 34) as u16;
        let pseudo = [&frame.bytes()[26..34], &[0, 6], &len.to_be_bytes()].concat();
        let sum = !checksum(0, &pseudo);
        frame.bytes_mut()[50..52].copy_from_slice(&sum.to_be_bytes());
        burst.push(segment).expect("two are few");
    }
    ends.near.transmit(&mut burst);
    assert_eq!(ends.transmitted_and_merged(), (2, 0));
    let arrived = ends.arrivals("both arrive", |arrived| arrived.len() == 2);
    for (packet, number) in arrived.iter().zip([3u8, 7]) {
        let pseudo = [&packet[26..34], &[0, 6], &((packet.len() - 34) as u16).to_be_bytes()].concat();
        assert_eq!(checksum(u32::from(!checksum(0, &pseudo)), &packet[34..]), 0, "segment {number}");
        assert_eq!(text(packet), [number; 1_000]);
    }
}
