//! Every packet has an answer: each reason to discard at the stack's own level has a packet here that meets it, and
//! verdicts and discards add up. Reasons of one parser have their test beside it.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod network;

use std::task::Poll;
use std::time::Duration;

use network::packets::{Read, Spec};
use network::{DeliverAll, End, Flat, Network, Pieces, interface, pair};
use proptest::prelude::*;
use stack::{Config, Discard, InterfaceId, Prefix, Role, Stack, Verdict};

const LINK: InterfaceId = InterfaceId(0);
/// Host 0 of a pair: 10.0.0.1, 2001:db8::1.
const OURS: [u8; 6] = [2, 0, 0, 0, 1, 0];

fn spec_v4() -> Spec {
    Spec::new("10.0.0.2", "10.0.0.1", OURS)
}

fn spec_v6() -> Spec {
    Spec::new("2001:db8::2", "2001:db8::1", OURS)
}

fn hear(network: &mut Network, frame: Vec<u8>) -> Verdict {
    network.deliver(End { host: 0, interface: LINK }, frame)
}

/// The verdict of a fresh host on one frame.
fn verdict(frame: Vec<u8>) -> Verdict {
    let mut network = pair(None, 1500);
    let verdict = hear(&mut network, frame);
    network.check_accounts();
    verdict
}

fn dies(frame: Vec<u8>, reason: Discard) {
    assert_eq!(verdict(frame), Verdict::Discarded(reason));
}

fn echo_request(payload: &[u8], v6: bool) -> Vec<u8> {
    [&[if v6 { 128 } else { 8 }, 0, 0, 0, 0, 1, 0, 2][..], payload].concat()
}

// ---- link ----

#[test]
fn an_interface_that_is_not_there_is_interface_unknown() {
    let mut network = pair(None, 1500);
    let verdict = network.deliver(End { host: 0, interface: InterfaceId(9) }, spec_v4().udp((1, 2), b""));
    assert_eq!(verdict, Verdict::Discarded(Discard::InterfaceUnknown));
}

#[test]
fn another_ether_type_is_ethernet_unknown_type() {
    let mut frame = spec_v4().udp((1, 2), b"");
    frame[12..14].copy_from_slice(&[0x88, 0xcc]);
    dies(frame, Discard::EthernetUnknownType);
}

#[test]
fn a_unicast_packet_in_a_broadcast_frame_is_ethernet_group_unicast() {
    let spec = Spec { link_destination: [0xff; 6], ..spec_v4() };
    dies(spec.udp((1, 2), b""), Discard::EthernetGroupUnicast);
    dies(spec.tcp((1, 2)), Discard::EthernetGroupUnicast);
}

#[test]
fn no_room_for_a_tag_is_no_headroom() {
    struct ToTagged;
    impl stack::Admission for ToTagged {
        fn admit(&mut self, _first: &stack::FirstDatagram<'_>, _now: stack::Instant) -> stack::Forward {
            stack::Forward::Rewrite(stack::Rewrite {
                endpoint: "10.9.0.2:9".parse().unwrap(),
                idle: Duration::from_secs(60),
                version: 0,
                tag: 0,
            })
        }
    }

    let mut network = pair(None, 1500);
    let now = network.now;
    let mut tagged = interface(1, 1, Role::Uplink, &["10.9.0.1/24"]);
    tagged.vlan = Some(5);
    let stack = &mut network.hosts[0].stack;
    stack.set_interface(tagged, now);
    stack.set_neighbour(InterfaceId(1), "10.9.0.2".parse().unwrap(), Some([2, 9, 9, 9, 9, 9]), now);
    let mut packet = Flat(spec_v4().udp((1, 2), b""));
    let verdict = stack.handle_packet(LINK, &mut packet, &mut ToTagged, now);
    assert_eq!(verdict, Verdict::Discarded(Discard::NoHeadroom));
}

// ---- neighbours ----

fn solicitation(target: &str) -> Vec<u8> {
    let target: std::net::Ipv6Addr = target.parse().unwrap();
    [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1, 2, 0, 0, 0, 0xee, 0xee]].concat()
}

fn advertisement(target: &str, flags: u8, mac: [u8; 6]) -> Vec<u8> {
    let target: std::net::Ipv6Addr = target.parse().unwrap();
    [&[136, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[2, 1], &mac].concat()
}

fn ndp() -> Spec {
    Spec { hops: 255, ..spec_v6() }
}

#[test]
fn a_solicitation_for_our_address_is_answered() {
    let mut network = pair(None, 1500);
    network.record = true;
    assert_eq!(hear(&mut network, ndp().icmp(&solicitation("2001:db8::1"))), Verdict::Consumed);
    network.settle();
    let answer = Read::new(&network.hosts[0].sent[0].1).unwrap();
    assert_eq!((answer.hops, answer.body[0], answer.body[4]), (255, 136, 0x60));
    assert_eq!((answer.link_destination, &answer.body[26..32]), ([2, 0, 0, 0, 0xee, 0xee], &OURS[..]));
}

#[test]
fn duplicate_address_detection_is_answered_to_all() {
    let mut network = pair(None, 1500);
    network.record = true;
    let group = Spec {
        link_destination: [0x33, 0x33, 0xff, 0, 0, 1],
        ..Spec { hops: 255, ..Spec::new("::", "ff02::1:ff00:1", OURS) }
    };
    let probe = &solicitation("2001:db8::1")[..24];
    assert_eq!(hear(&mut network, group.icmp(probe)), Verdict::Consumed);
    network.settle();
    let answer = Read::new(&network.hosts[0].sent[0].1).unwrap();
    assert_eq!((answer.destination.to_string(), answer.body[4]), ("ff02::1".into(), 0x20));
}

#[test]
fn neighbour_discovery_from_afar_is_ndp_hop_limit() {
    dies(Spec { hops: 64, ..ndp() }.icmp(&solicitation("2001:db8::1")), Discard::NdpHopLimit);
}

#[test]
fn what_rfc_4861_calls_invalid_is_ndp_malformed() {
    let mut coded = solicitation("2001:db8::1");
    coded[1] = 1;
    dies(ndp().icmp(&coded), Discard::NdpMalformed);
    dies(ndp().icmp(&solicitation("ff02::1")), Discard::NdpMalformed);
    let mut endless = solicitation("2001:db8::1");
    endless[25] = 0;
    dies(ndp().icmp(&endless), Discard::NdpMalformed);
    let from_nowhere = Spec { hops: 255, ..Spec::new("::", "ff02::1", [0x33, 0x33, 0, 0, 0, 1]) };
    dies(from_nowhere.icmp(&solicitation("2001:db8::1")), Discard::NdpMalformed);
}

#[test]
fn an_advertisement_of_our_address_is_neighbour_claims_our_address() {
    let theft = advertisement("2001:db8::1", 0x20, [2, 9, 9, 9, 9, 9]);
    dies(ndp().icmp(&theft), Discard::NeighbourClaimsOurAddress);
}

#[test]
fn an_advertised_group_is_neighbour_bad_mac() {
    let group = advertisement("2001:db8::2", 0x60, [0x33, 0x33, 0, 0, 0, 1]);
    dies(ndp().icmp(&group), Discard::NeighbourBadMac);
}

#[test]
fn nobody_answering_is_neighbour_unresolved_and_too_many_waiting_is_neighbour_queue_full() {
    let mut network = pair(None, 1500);
    network.lose = Box::new(|_| true);
    let socket = network.hosts[0].stack.udp_bind("0.0.0.0:0".parse().unwrap(), None).unwrap();
    for _ in 0..20 {
        let now = network.now;
        let sent = network.hosts[0].stack.udp_send(socket, b"x", "10.0.0.2:9".parse().unwrap(), now);
        assert_eq!(sent, Poll::Ready(Ok(())));
    }
    let late = |network: &Network, reason| network.hosts[0].stack.late_discards().of(reason);
    assert_eq!(late(&network, Discard::NeighbourQueueFull), 4);
    network.advance(Duration::from_secs(4));
    assert_eq!(late(&network, Discard::NeighbourUnresolved), 16);
}

#[test]
fn a_neighbour_table_that_overflows_is_neighbour_evicted_for_who_waited() {
    let mut network = pair(None, 1500);
    let now = network.now;
    let wide = interface(1, 0, Role::Uplink, &["10.0.0.1/8"]);
    network.hosts[0].stack.set_interface(wide, now);
    let socket = network.hosts[0].stack.udp_bind("0.0.0.0:0".parse().unwrap(), None).unwrap();
    let stack = &mut network.hosts[0].stack;
    for host in 0..4097u32 {
        let address = std::net::Ipv4Addr::from(0x0a01_0000 + host);
        let _ = stack.udp_send(socket, b"x", (address, 9).into(), now);
    }
    assert!(stack.late_discards().of(Discard::NeighbourEvicted) > 0);
}

#[test]
fn an_interface_that_goes_is_interface_gone_for_who_waited() {
    let mut network = pair(None, 1500);
    let now = network.now;
    let stack = &mut network.hosts[0].stack;
    let socket = stack.udp_bind("0.0.0.0:0".parse().unwrap(), None).unwrap();
    let _ = stack.udp_send(socket, b"x", "10.0.0.2:9".parse().unwrap(), now);
    stack.remove_interface(LINK, now);
    assert_eq!(stack.late_discards().of(Discard::InterfaceGone), 1);
}

#[test]
fn no_ipv6_address_to_ask_from_is_no_source_address() {
    let mut network = pair(None, 1500);
    let now = network.now;
    let stack = &mut network.hosts[0].stack;
    stack.set_interface(interface(1, 1, Role::Uplink, &["10.9.0.1/24"]), now);
    stack.set_routes(&[stack::Route {
        prefix: Prefix::ANY_V6,
        via: Some("fe80::9".parse().unwrap()),
        interface: InterfaceId(1),
        metric: 0,
    }]);
    let socket = stack.udp_bind("[2001:db8::1]:9".parse().unwrap(), None).unwrap();
    let _ = stack.udp_send(socket, b"x", "[2001:db8:9::9]:9".parse().unwrap(), now);
    assert_eq!(stack.late_discards().of(Discard::NoSourceAddress), 1);
}

#[test]
fn more_packets_than_the_outbox_holds_are_outbox_full() {
    let mut network = pair(None, 1500);
    let solicitation = ndp().icmp(&solicitation("2001:db8::1"));
    for _ in 0..1100 {
        hear(&mut network, solicitation.clone());
    }
    assert_eq!(network.hosts[0].stack.late_discards().of(Discard::OutboxFull), 1100 - 1024);
}

// ---- IP ----

#[test]
fn from_an_address_of_ours_is_ip_source_ours() {
    let mut network = pair(None, 1500);
    let now = network.now;
    network.hosts[0].stack.set_interface(interface(1, 1, Role::Uplink, &["10.9.0.1/24"]), now);
    let frame = Spec::new("10.9.0.1", "10.0.0.1", OURS).tcp((1, 2));
    assert_eq!(hear(&mut network, frame), Verdict::Discarded(Discard::IpSourceOurs));
}

#[test]
fn to_somebody_else_is_ip_not_ours() {
    dies(Spec::new("10.0.0.2", "10.0.0.3", OURS).tcp((1, 2)), Discard::IpNotOurs);
    dies(Spec::new("10.0.0.2", "10.0.0.3", OURS).icmp(&echo_request(b"", false)), Discard::IpNotOurs);
}

#[test]
fn to_a_group_is_ip_group() {
    for group in ["10.0.0.255", "255.255.255.255", "224.0.0.5"] {
        dies(Spec::new("10.0.0.2", group, [0xff; 6]).udp((1, 2), b""), Discard::IpGroup);
    }
}

#[test]
fn another_protocol_is_ip_unknown_protocol_and_reported() {
    for spec in [spec_v4(), spec_v6()] {
        let mut network = pair(None, 1500);
        network.record = true;
        let frame = Spec { protocol: 132, ..spec }.frame(&[0; 12]);
        assert_eq!(hear(&mut network, frame), Verdict::Discarded(Discard::IpUnknownProtocol));
        network.settle();
        let report = Read::new(&network.hosts[0].sent[0].1).unwrap();
        let codes = if report.protocol == 1 { [3, 2, 0] } else { [4, 1, 6] };
        assert_eq!([report.body[0], report.body[1], report.body[7]], codes);
    }
}

#[test]
fn ports_that_nobody_has_are_udp_port_unreachable_and_reported() {
    for (spec, codes) in [(spec_v4(), [3, 3]), (spec_v6(), [1, 4])] {
        let mut network = pair(None, 1500);
        network.record = true;
        let verdict = hear(&mut network, spec.udp((1, 2), b"hello"));
        assert_eq!(verdict, Verdict::Discarded(Discard::UdpPortUnreachable));
        network.settle();
        let report = Read::new(&network.hosts[0].sent[0].1).unwrap();
        assert_eq!((&report.body[..2], report.source), (&codes[..], spec.destination));
    }
}

#[test]
fn reports_are_limited_and_never_answer_errors_or_groups() {
    let mut network = pair(None, 1500);
    network.record = true;
    for _ in 0..200 {
        hear(&mut network, spec_v4().udp((1, 2), b""));
    }
    network.settle();
    let burst = network.hosts[0].sent.len();
    assert!((30..=50).contains(&burst), "{burst}: one burst");
    let error = Spec { protocol: 132, source: "10.0.0.2".parse().unwrap(), ..spec_v4() };
    assert_eq!(error.frame(&[]).len(), 34);
    network.advance(Duration::from_secs(1));
    let quoted = spec_v4().udp((1, 2), b"");
    let message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted[14..]].concat();
    network.hosts[0].sent.clear();
    assert_eq!(hear(&mut network, spec_v4().icmp(&message)), Verdict::Discarded(Discard::IcmpUnknownFlow));
    network.settle();
    assert!(network.hosts[0].sent.is_empty());
}

#[test]
fn fragments_that_stay_alone_are_reassembly_timeout() {
    let mut network = pair(None, 1500);
    let mut frame = spec_v4().udp((1, 2), &[0; 16]);
    frame[20] = 0x20;
    let checksum = !network::packets::sum(&[&frame[14..24], &[0, 0], &frame[26..34]].concat());
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(hear(&mut network, frame), Verdict::Consumed);
    network.advance(Duration::from_secs(31));
    assert_eq!(network.hosts[0].stack.late_discards().of(Discard::ReassemblyTimeout), 1);
}

// ---- ICMP ----

#[test]
fn an_echo_request_comes_back_with_all_its_bytes() {
    for (spec, v6) in [(spec_v4(), false), (spec_v6(), true)] {
        for (chunk_bytes, len) in [(usize::MAX, 56), (256, 1201)] {
            let mut network = pair(None, 1500);
            (network.chunk_bytes, network.record) = (chunk_bytes, true);
            let payload: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let mut frame = spec.icmp(&echo_request(&payload, v6));
            frame.extend_from_slice(&[0; 3]); // Ethernet padding must not come back.
            assert_eq!(hear(&mut network, frame), Verdict::Forward(LINK));
            let reply = Read::new(&network.hosts[0].sent[0].1).unwrap();
            assert_eq!((reply.source, reply.destination), (spec.destination, spec.source));
            assert_eq!((reply.body[0], &reply.body[4..8]), (if v6 { 129 } else { 0 }, &[0, 1, 0, 2][..]));
            assert_eq!((&reply.body[8..], reply.hops), (&payload[..], 64));
            assert_eq!(reply.link_destination, spec.link_source);
        }
    }
}

#[test]
fn an_echo_request_in_fragments_comes_back_in_fragments() {
    let mut network = pair(None, 1500);
    network.record = true;
    let whole = spec_v4().icmp(&echo_request(&[7; 2992], false));
    for (offset, more) in [(0usize, true), (1480, true), (2960, false)] {
        let body = &whole[34..][offset..(offset + 1480).min(3000)];
        let mut frame = Spec { protocol: 1, ..spec_v4() }.frame(body);
        frame[20..22].copy_from_slice(&((offset / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
        let checksum = !network::packets::sum(&[&frame[14..24], &[0, 0], &frame[26..34]].concat());
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(hear(&mut network, frame), Verdict::Consumed);
    }
    network.settle();
    let parts: Vec<_> =
        network.hosts[0].sent.iter().map(|(_, frame)| Read::new(frame).unwrap().fragment).collect();
    assert_eq!(parts, [Some((0, true)), Some((1480, true)), Some((2960, false))]);
}

#[test]
fn a_flood_of_echo_requests_is_icmp_echo_limited() {
    let mut network = pair(None, 1500);
    let frame = spec_v4().icmp(&echo_request(b"", false));
    for _ in 0..1001 {
        hear(&mut network, frame.clone());
    }
    assert_eq!(network.hosts[0].stack.discards().of(Discard::IcmpEchoLimited), 1);
}

#[test]
fn what_is_wrong_with_icmp_has_a_name() {
    dies(Spec { protocol: 1, ..spec_v4() }.frame(&[8, 0, 0, 0]), Discard::IcmpTruncated);
    let mut wrong = spec_v4().icmp(&echo_request(b"x", false));
    *wrong.last_mut().unwrap() ^= 1;
    dies(wrong, Discard::IcmpChecksum);
    dies(spec_v4().icmp(&[13, 0, 0, 0, 0, 0, 0, 0]), Discard::IcmpUnsupported);
    dies(spec_v6().icmp(&[134, 0, 0, 0, 0, 0, 0, 0]), Discard::IcmpUnsupported);
    dies(spec_v4().icmp(&[3, 3, 0, 0, 0, 0, 0, 0, 0x45]), Discard::IcmpQuote);
}

#[test]
fn a_flood_of_errors_about_a_session_is_icmp_error_limited() {
    struct Away;
    impl stack::Admission for Away {
        fn admit(&mut self, _first: &stack::FirstDatagram<'_>, _now: stack::Instant) -> stack::Forward {
            stack::Forward::Rewrite(stack::Rewrite {
                endpoint: "10.0.0.9:9".parse().unwrap(),
                idle: Duration::from_secs(60),
                version: 0,
                tag: 0,
            })
        }
    }
    let mut network = pair(None, 1500);
    network.hosts[0].admission = Box::new(Away);
    hear(&mut network, spec_v4().udp((1, 2), b""));
    let ours = network.hosts[0].stack.sessions().next().unwrap().ours;
    let quoted = Spec::new("10.0.0.1", "10.0.0.9", [0; 6]).udp((ours.port(), 9), b"");
    let message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted[14..]].concat();
    let frame = Spec::new("10.0.0.9", "10.0.0.1", OURS).icmp(&message);
    for _ in 0..60 {
        hear(&mut network, frame.clone());
    }
    let limited = network.hosts[0].stack.discards().of(Discard::IcmpErrorLimited);
    assert!((10..=30).contains(&limited), "{limited} of 60 beyond one burst");
}

// ---- TCP and UDP ----

#[test]
fn what_is_wrong_with_a_segment_at_first_sight_has_a_name() {
    dies(Spec { protocol: 6, ..spec_v4() }.frame(&[0; 19]), Discard::TcpTruncated);
    let mut wrong = spec_v6().tcp((1, 2));
    *wrong.last_mut().unwrap() ^= 1;
    dies(wrong, Discard::TcpChecksum);
}

#[test]
fn an_unfinished_tcp_checksum_is_taken_where_it_may_come() {
    let spec = spec_v4();
    let mut frame = spec.tcp((1, 2));
    let pseudo = network::packets::pseudo_header(spec.source, spec.destination, 6, 20);
    frame[50..52].copy_from_slice(&network::packets::sum(&pseudo).to_be_bytes());
    dies(frame.clone(), Discard::TcpChecksum);
    let mut network = pair(None, 1500);
    let now = network.now;
    let mut veth = interface(1, 0, Role::Uplink, &["10.0.0.1/24"]);
    veth.unfinished_receive_checksum = true;
    network.hosts[0].stack.set_interface(veth, now);
    assert_eq!(hear(&mut network, frame), Verdict::Discarded(Discard::TcpNoFlow), "it got as far as TCP");
}

#[test]
fn what_is_wrong_with_a_datagram_has_a_name() {
    dies(Spec { protocol: 17, ..spec_v4() }.frame(&[0; 7]), Discard::UdpTruncated);
    for len in [7u8, 10] {
        let mut frame = spec_v4().udp((1, 2), b"x");
        frame[39] = len;
        dies(frame, Discard::UdpLength);
    }
    let mut wrong = spec_v4().udp((1, 2), b"xyz");
    wrong[42] ^= 1;
    dies(wrong, Discard::UdpChecksum);
    let mut none = spec_v6().udp((1, 2), b"xyz");
    none[60..62].fill(0);
    dies(none, Discard::UdpChecksumMissing);
}

#[test]
fn a_socket_that_nobody_reads_is_udp_queue_full() {
    let mut network = pair(None, 1500);
    network.hosts[0].stack.udp_bind("10.0.0.1:9".parse().unwrap(), None).unwrap();
    let frame = spec_v4().udp((1, 9), &[0; 1400]);
    for _ in 0..200 {
        hear(&mut network, frame.clone());
    }
    assert_eq!(network.hosts[0].stack.discards().of(Discard::UdpQueueFull), 200 - 212_992 / 1496);
    network.check_accounts();
}

// ---- several workers ----

#[test]
fn a_reassembled_packet_goes_to_the_worker_of_its_flow() {
    for worker in 0..2 {
        let config = Config { worker, workers: 2, ..Config::default() };
        let mut network = Network::new();
        network.host_with(config, vec![interface(1, 0, Role::Uplink, &["10.0.0.1/24"])]);
        let socket = network.hosts[0].stack.udp_bind("10.0.0.1:9".parse().unwrap(), None).unwrap();
        let whole = spec_v4().udp((7, 9), &[5; 24]);
        for (offset, more) in [(0usize, true), (16, false)] {
            let mut frame = spec_v4().frame(&whole[34..][offset..(offset + 16).min(32)]);
            frame[20..22]
                .copy_from_slice(&((offset / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
            let checksum = !network::packets::sum(&[&frame[14..24], &[0, 0], &frame[26..34]].concat());
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
            assert_eq!(hear(&mut network, frame), Verdict::Consumed);
        }
        let ends = ("10.0.0.2:7".parse().unwrap(), "10.0.0.1:9".parse().unwrap());
        let home = stack::steer::worker_of(stack::steer::flow_hash(ends.0, ends.1), 2);
        let now = network.now;
        let stack = &mut network.hosts[0].stack;
        let steered = stack.poll_steered();
        assert_eq!(steered.as_ref().map(|steered| steered.worker), (worker != home).then_some(home));
        if let Some(steered) = steered {
            assert_eq!(stack.handle_steered(LINK, &steered.packet, &mut DeliverAll, now), Verdict::Consumed);
        }
        assert!(matches!(stack.udp_receive(socket, &mut [0; 64]), Poll::Ready(Ok((24, ..)))));
    }
}

// ---- whatever comes ----

/// A stack with everything on: sockets, a listener, a workload interface, sessions to come.
fn busy_stack() -> Stack {
    let mut network = pair(None, 1500);
    let now = network.now;
    let mut veth = interface(1, 1, Role::Workload, &["169.254.1.1/32", "fe80::1/64"]);
    veth.intercepted = vec![Prefix::ANY_V4, Prefix::ANY_V6];
    veth.unfinished_receive_checksum = true;
    let stack = &mut network.hosts[0].stack;
    stack.set_interface(veth, now);
    stack.udp_bind("10.0.0.1:9".parse().unwrap(), None).unwrap();
    let spec = stack::ListenSpec { addresses: Prefix::ANY_V4, port: None, interface: None };
    stack.tcp_listen(spec, stack::TcpOptions::default()).unwrap();
    network.hosts.swap_remove(0).stack
}

/// Valid packets to begin with: a few bytes of each are then changed, and the checksums mended again.
fn seeds() -> Vec<Vec<u8>> {
    let quoted = Spec::new("10.0.0.1", "10.0.0.2", [0; 6]).tcp((1, 2));
    let error = [&[3, 4, 0, 0, 0, 0, 5, 0][..], &quoted[14..]].concat();
    let v6_options = [17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 9, 0, 8, 0, 0];
    vec![
        spec_v4().udp((1, 9), b"payload"),
        spec_v6().udp((1, 9), b"payload"),
        spec_v4().tcp((1, 80)),
        spec_v6().tcp((1, 80)),
        spec_v4().icmp(&echo_request(b"abc", false)),
        spec_v4().icmp(&error),
        ndp().icmp(&solicitation("2001:db8::1")),
        ndp().icmp(&advertisement("2001:db8::2", 0x60, [2, 0, 0, 0, 0, 9])),
        Spec { protocol: 0, ..spec_v6() }.frame(&v6_options),
        Spec { protocol: 44, ..spec_v6() }.frame(&[17, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]),
    ]
}

/// Makes the IPv4 header checksum right, so that what lies behind it is reached.
fn mend(frame: &mut [u8]) {
    if frame.len() >= 34 && frame[12..14] == [8, 0] {
        let len = (usize::from(frame[14] & 0xf) * 4).clamp(20, frame.len() - 14);
        frame[24..26].fill(0);
        let checksum = !network::packets::sum(&frame[14..14 + len]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut stack = busy_stack();
        for mut frame in frames {
            if frame.len() > 14 {
                frame[..6].copy_from_slice(&OURS);
                frame[6] &= 0xfe;
            }
            let mut packet = Pieces::cut(&frame, 64, 64);
            stack.handle_packet(LINK, &mut packet, &mut DeliverAll, stack::Instant::from_nanos(1));
        }
    }

    #[test]
    fn packets_with_changed_bytes_never_panic_and_have_one_verdict(
        changes in proptest::collection::vec((0usize..10, proptest::collection::vec((0usize..120, any::<u8>()), 0..4), 0usize..150), 1..30),
        chunk_bytes in 20usize..400,
        interface in 0u16..2,
    ) {
        let mut stack = busy_stack();
        let (mut received, mut answered) = (0, 0);
        for (seed, bytes, cut) in changes {
            let mut frame = seeds().swap_remove(seed);
            for (at, byte) in bytes {
                let at = 12 + at % (frame.len() - 12);
                frame[at] = byte;
            }
            frame.truncate(frame.len().max(20) - cut % 20);
            frame[5] = interface as u8;
            mend(&mut frame);
            let mut packet = Pieces::cut(&frame, chunk_bytes, 50);
            received += 1;
            let now = stack::Instant::from_nanos(received * 1_000_000);
            let verdict = stack.handle_packet(InterfaceId(interface), &mut packet, &mut DeliverAll, now);
            answered += u64::from(!matches!(verdict, Verdict::Discarded(_)));
        }
        prop_assert_eq!(received, answered + stack.discards().total());
    }
}
