//! A client, a node and an endpoint: datagrams go through the node by its sessions.
//!
//! ```text
//!   client 10.1.0.5 ----(1) node (0)---- endpoint 10.0.0.9
//!   2001:db8:1::5   169.254.1.1  10.0.0.1   2001:db8::9
//!                   fe80::1      2001:db8::1
//! ```

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod network;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use network::packets::{Read, Spec, pseudo_header, sum};
use network::{End, Network, interface};
use stack::{
    Admission, Config, Discard, FirstDatagram, Forward, Instant, InterfaceId, Prefix, Rewrite, Role, Route,
    SessionInfo, UdpKey, Verdict,
};

const CLIENT: usize = 0;
const NODE: usize = 1;
const ENDPOINT: usize = 2;
const UPLINK: InterfaceId = InterfaceId(0);
const VETH: InterfaceId = InterfaceId(1);
/// The node's hardware address on the veth.
const NODE_VETH_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const NODE_UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 1, 0];

/// Every service is the endpoint of its family, on the port that was asked for.
struct ToEndpoint {
    version: u64,
}

fn rewrite(destination: SocketAddr, version: u64) -> Rewrite {
    let endpoint = if destination.is_ipv4() { "10.0.0.9" } else { "2001:db8::9" };
    let endpoint = SocketAddr::new(endpoint.parse().unwrap(), destination.port());
    Rewrite { endpoint, idle: Duration::from_secs(60), version, tag: 7 }
}

impl Admission for ToEndpoint {
    fn admit(&mut self, first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        Forward::Rewrite(rewrite(first.destination, self.version))
    }
}

/// Answers what it is told to.
struct Fixed(Forward);

impl Admission for Fixed {
    fn admit(&mut self, _first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        self.0.clone()
    }
}

fn route(prefix: &str, via: Option<&str>, interface: u16) -> Route {
    let (address, len) = prefix.split_once('/').unwrap();
    Route {
        prefix: Prefix::new(address.parse().unwrap(), len.parse().unwrap()),
        via: via.map(|via| via.parse().unwrap()),
        interface: InterfaceId(interface),
        metric: 0,
    }
}

/// The drawing above. `uplink_mtu` and the two tags are the tests' to choose.
fn lab_with(config: Config, uplink_mtu: u16, vlans: (Option<u16>, Option<u16>)) -> Network {
    let mut network = Network::new();
    let mut client = interface(0, 0, Role::Uplink, &["10.1.0.5/32", "2001:db8:1::5/128", "fe80::5/64"]);
    let mut veth = interface(1, 1, Role::Workload, &["169.254.1.1/32", "fe80::1/64"]);
    veth.intercepted =
        vec![Prefix::new("10.96.0.0".parse().unwrap(), 16), Prefix::new("fd00:96::".parse().unwrap(), 32)];
    let mut uplink = interface(1, 0, Role::Uplink, &["10.0.0.1/24", "2001:db8::1/64"]);
    let mut endpoint = interface(2, 0, Role::Uplink, &["10.0.0.9/24", "2001:db8::9/64"]);
    (client.vlan, veth.vlan) = (vlans.0, vlans.0);
    (uplink.vlan, endpoint.vlan) = (vlans.1, vlans.1);
    (uplink.mtu, endpoint.mtu) = (uplink_mtu, uplink_mtu);

    network.host(vec![client]);
    network.host_with(config, vec![uplink, veth]);
    network.host(vec![endpoint]);
    network.hosts[CLIENT].stack.set_routes(&[
        route("169.254.1.1/32", None, 0),
        route("0.0.0.0/0", Some("169.254.1.1"), 0),
        route("::/0", Some("fe80::1"), 0),
    ]);
    network.hosts[NODE]
        .stack
        .set_routes(&[route("10.1.0.5/32", None, 1), route("2001:db8:1::5/128", None, 1)]);
    network.hosts[NODE].admission = Box::new(ToEndpoint { version: 1 });
    network.wire((CLIENT, 0), (NODE, 1));
    network.wire((NODE, 0), (ENDPOINT, 0));
    network.record = true;
    network
}

fn lab() -> Network {
    lab_with(Config { secret: [9; 32], ..Config::default() }, 1500, (None, None))
}

fn bind(network: &mut Network, host: usize, address: &str) -> UdpKey {
    network.hosts[host].stack.udp_bind(address.parse().unwrap(), None).unwrap()
}

fn send(network: &mut Network, host: usize, socket: UdpKey, payload: &[u8], to: SocketAddr) {
    let now = network.now;
    assert_eq!(network.hosts[host].stack.udp_send(socket, payload, to, now), Poll::Ready(Ok(())));
    network.settle();
}

fn receive(network: &mut Network, host: usize, socket: UdpKey) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = vec![0; 70_000];
    match network.hosts[host].stack.udp_receive(socket, &mut buffer) {
        Poll::Ready(received) => {
            let (len, from, _) = received.unwrap();
            buffer.truncate(len);
            Some((buffer, from))
        }
        Poll::Pending => None,
    }
}

/// A request through the node and its answer; every packet on the wires is read back and so verified.
fn round_trip(network: &mut Network, service: &str, payload: &[u8]) -> (UdpKey, UdpKey, SocketAddr) {
    let service: SocketAddr = service.parse().unwrap();
    let (any, endpoint) =
        if service.is_ipv4() { ("0.0.0.0:0", "10.0.0.9") } else { ("[::]:0", "2001:db8::9") };
    let client = bind(network, CLIENT, any);
    let endpoint = SocketAddr::new(endpoint.parse().unwrap(), service.port());
    let server = bind(network, ENDPOINT, &endpoint.to_string());
    send(network, CLIENT, client, payload, service);
    let (request, ours) = receive(network, ENDPOINT, server).expect("the request arrives");
    assert_eq!(request, payload);
    send(network, ENDPOINT, server, payload, ours);
    let (answer, from) = receive(network, CLIENT, client).expect("the answer arrives");
    assert_eq!((answer.as_slice(), from), (payload, service));
    check_wires(network);
    (client, server, ours)
}

fn check_wires(network: &Network) {
    for (_, frame) in network.hosts.iter().flat_map(|host| &host.sent) {
        Read::new(frame);
    }
    network.check_accounts();
}

fn sessions(network: &Network) -> Vec<SessionInfo> {
    network.hosts[NODE].stack.sessions().collect()
}

fn discarded(network: &Network, reason: Discard) -> u64 {
    network.hosts[NODE].stack.discards().of(reason)
}

/// The node's verdict on a frame from the veth.
fn from_client(network: &mut Network, frame: Vec<u8>) -> Verdict {
    let verdict = network.deliver(End { host: NODE, interface: VETH }, frame);
    network.settle();
    verdict
}

fn client_spec() -> Spec {
    Spec::new("10.1.0.5", "10.96.0.1", NODE_VETH_MAC)
}

/// The last IP packet that a host sent.
fn last_sent(network: &Network, host: usize) -> Read {
    network.hosts[host].sent.iter().rev().find_map(|(_, frame)| Read::new(frame)).expect("a packet was sent")
}

// ---- the way through ----

#[test]
fn a_workloads_datagram_goes_to_the_endpoint_and_the_answer_back() {
    let mut network = lab();
    let (_, _, ours) = round_trip(&mut network, "10.96.0.1:5004", b"voice");
    assert_eq!(ours.ip(), "10.0.0.1".parse::<IpAddr>().unwrap());
    let [session] = sessions(&network)[..] else { panic!("one session") };
    assert_eq!((session.service.to_string(), session.ours), ("10.96.0.1:5004".into(), ours));
    assert_eq!((session.tag, session.version, session.interface), (7, 1, VETH));
    assert_eq!((session.to_endpoint.packets, session.to_endpoint.bytes), (1, 5));
    assert_eq!((session.to_client.packets, session.to_client.bytes), (1, 5));
}

#[test]
fn the_same_over_ipv6() {
    round_trip(&mut lab(), "[fd00:96::1]:5004", b"voice");
}

#[test]
fn tags_go_on_and_come_off_between_the_wires() {
    for vlans in [(Some(5), None), (None, Some(6)), (Some(5), Some(6))] {
        let mut network = lab_with(Config::default(), 1500, vlans);
        round_trip(&mut network, "10.96.0.1:5004", b"voice");
        round_trip(&mut network, "[fd00:96::1]:5004", b"voice");
    }
}

#[test]
fn a_session_to_an_address_of_the_uplink_works_as_well() {
    let mut network = lab();
    let frame = Spec::new("10.0.0.77", "10.0.0.1", NODE_UPLINK_MAC).udp((4000, 53), b"query");
    let verdict = network.deliver(End { host: NODE, interface: UPLINK }, frame);
    assert_eq!(verdict, Verdict::Consumed, "it waits for the endpoint's hardware address");
    network.settle();
    let read = last_sent(&network, NODE);
    assert_eq!((read.source, read.to().to_string()), ("10.0.0.1".parse().unwrap(), "10.0.0.9:53".into()));
}

#[test]
fn the_second_datagram_is_rewritten_in_place() {
    let mut network = lab();
    let (client, _, _) = round_trip(&mut network, "10.96.0.1:5004", b"voice");
    let before = (network.hosts[NODE].forwarded, network.hosts[NODE].consumed);
    send(&mut network, CLIENT, client, b"again", "10.96.0.1:5004".parse().unwrap());
    assert_eq!((network.hosts[NODE].forwarded, network.hosts[NODE].consumed), (before.0 + 1, before.1));
    let read = last_sent(&network, NODE);
    assert_eq!((read.hops, read.udp_payload()), (63, &b"again"[..]));
    assert_eq!((read.link_source, read.link_destination), (NODE_UPLINK_MAC, [2, 0, 0, 0, 2, 0]));
}

#[test]
fn payload_in_several_chunks_is_verified_and_forwarded() {
    let mut network = lab_with(Config::default(), 9000, (None, None));
    network.chunk_bytes = 300;
    let (client, server, _) = round_trip(&mut network, "10.96.0.1:5004", &[3; 1001]);
    send(&mut network, CLIENT, client, &[4; 999], "10.96.0.1:5004".parse().unwrap());
    assert_eq!(receive(&mut network, ENDPOINT, server).unwrap().0, [4; 999]);
    check_wires(&network);
}

// ---- checksums ----

#[test]
fn an_absent_checksum_stays_absent() {
    let mut network = lab();
    round_trip(&mut network, "10.96.0.1:5004", b"x");
    let mut frame = client_spec().udp((40, 5004), b"none");
    frame[14 + 26..14 + 28].fill(0);
    assert_eq!(from_client(&mut network, frame), Verdict::Forward(UPLINK));
    assert_eq!(last_sent(&network, NODE).body[6..8], [0, 0]);
}

#[test]
fn an_unfinished_checksum_leaves_finished_where_it_may_come() {
    for (source, destination) in [("10.1.0.5", "10.96.0.1"), ("2001:db8:1::5", "fd00:96::1")] {
        for payload in [&b"odd"[..], b"even"] {
            let spec = Spec::new(source, destination, NODE_VETH_MAC);
            let mut frame = spec.udp((40, 5004), payload);
            let transport = frame.len() - 8 - payload.len();
            let pseudo = pseudo_header(spec.source, spec.destination, 17, 8 + payload.len());
            frame[transport + 6..transport + 8].copy_from_slice(&sum(&pseudo).to_be_bytes());

            let mut network = lab();
            assert_eq!(from_client(&mut network, frame.clone()), Verdict::Discarded(Discard::UdpChecksum));
            let mut veth = interface(1, 1, Role::Workload, &["169.254.1.1/32", "fe80::1/64"]);
            veth.intercepted = vec![Prefix::ANY_V4, Prefix::ANY_V6];
            veth.unfinished_receive_checksum = true;
            let now = network.now;
            network.hosts[NODE].stack.set_interface(veth, now);
            from_client(&mut network, frame);
            // Reading it back verifies the checksum.
            let sent = network.hosts[NODE].sent.iter().filter_map(|(_, frame)| Read::new(frame));
            let mut datagrams = sent.filter(|read| read.protocol == 17);
            assert_eq!(datagrams.next_back().unwrap().udp_payload(), payload);
        }
    }
}

// ---- hops and lengths ----

#[test]
fn the_last_hop_is_ip_hops_exceeded_and_reported() {
    let mut network = lab();
    round_trip(&mut network, "10.96.0.1:5004", b"x");
    let frame = Spec { hops: 1, ..client_spec() }.udp((40, 5004), b"dying");
    assert_eq!(from_client(&mut network, frame), Verdict::Discarded(Discard::IpHopsExceeded));
    let report = last_sent(&network, NODE);
    assert_eq!((report.protocol, &report.body[..2]), (1, &[11, 0][..]));
    assert_eq!(report.destination, "10.1.0.5".parse::<IpAddr>().unwrap());
}

#[test]
fn what_may_be_fragmented_is() {
    let mut network = lab_with(Config::default(), 576, (None, None));
    let (_, _, _) = round_trip(&mut network, "10.96.0.1:5004", &[5; 1200]);
    let fragments = network.hosts[NODE].sent.iter().filter_map(|(_, frame)| Read::new(frame));
    assert_eq!(fragments.filter(|read| read.fragment.is_some()).count(), 3);
}

#[test]
fn what_may_not_is_ip_too_big_and_its_sender_is_told_what_fits() {
    let mut network = lab_with(Config::default(), 1300, (None, None));
    let frame = Spec { dont_fragment: true, ..client_spec() }.udp((40, 5004), &[5; 1400]);
    assert_eq!(from_client(&mut network, frame), Verdict::Discarded(Discard::IpTooBig));
    let report = last_sent(&network, NODE);
    assert_eq!(
        (report.protocol, &report.body[..8]),
        (1, &[3, 4, report.body[2], report.body[3], 0, 0, 5, 20][..])
    );
}

#[test]
fn an_ipv6_sender_learns_what_fits_and_fragments() {
    let mut network = lab_with(Config::default(), 1300, (None, None));
    let client = bind(&mut network, CLIENT, "[::]:0");
    let server = bind(&mut network, ENDPOINT, "[2001:db8::9]:5004");
    let service = "[fd00:96::1]:5004".parse().unwrap();
    send(&mut network, CLIENT, client, &[6; 1400], service);
    assert_eq!((receive(&mut network, ENDPOINT, server), discarded(&network, Discard::IpTooBig)), (None, 1));
    send(&mut network, CLIENT, client, &[6; 1400], service);
    assert_eq!(receive(&mut network, ENDPOINT, server).unwrap().0, [6; 1400]);
    check_wires(&network);
}

#[test]
fn fragments_are_forwarded_whole_and_cut_again_where_they_must() {
    let mut network = lab();
    for service in ["10.96.0.1:5004", "[fd00:96::1]:5004"] {
        round_trip(&mut network, service, &(0..6000).map(|byte| byte as u8).collect::<Vec<_>>());
    }
}

#[test]
fn a_datagram_longer_than_the_mtu_is_udp_merged() {
    let mut network = lab();
    let frame = client_spec().udp((40, 5004), &[1; 1473]);
    assert_eq!(from_client(&mut network, frame), Verdict::Discarded(Discard::UdpMerged));
}

// ---- errors of the other side ----

#[test]
fn an_endpoints_port_unreachable_reaches_the_client_in_its_own_words() {
    for (service, quoted_at) in [("10.96.0.1:5004", 28), ("[fd00:96::1]:5004", 48)] {
        let mut network = lab();
        let service: SocketAddr = service.parse().unwrap();
        let client = bind(&mut network, CLIENT, if service.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
        send(&mut network, CLIENT, client, b"anyone?", service);
        let report = last_sent(&network, NODE);
        assert_eq!((report.source, report.link_destination), (service.ip(), [2, 0, 0, 0, 0, 0]));
        let session = sessions(&network)[0];
        assert_eq!(report.destination, session.client.ip());
        let quoted = &report.body[8..];
        let ports = &quoted[quoted_at - 8..][..4];
        assert_eq!(ports, [session.client.port().to_be_bytes(), service.port().to_be_bytes()].concat());
        // The client's own stack finds its socket by it.
        assert_eq!(network.hosts[CLIENT].stack.discards().total(), 0);
        check_wires(&network);
    }
}

#[test]
fn a_translated_quote_has_the_checksum_that_the_client_computed() {
    let mut network = lab();
    let frame = client_spec().udp((40, 5004), b"anyone?");
    let sent = frame[34..].to_vec();
    from_client(&mut network, frame);
    let report = last_sent(&network, NODE);
    assert_eq!(&report.body[28..], &sent[..]);
    assert_eq!(sum(&report.body[8..28]), 0xffff, "the quoted header");
}

#[test]
fn a_router_beyond_that_says_too_big_is_believed_and_heard() {
    let mut network = lab();
    let (_, _, ours) = round_trip(&mut network, "10.96.0.1:5004", &[1; 1000]);
    let quoted = Spec::new("10.0.0.1", "10.0.0.9", [0; 6]).udp((ours.port(), 5004), &[1; 1400]);
    let message = [&[3, 4, 0, 0, 0, 0, 4, 176][..], &quoted[14..14 + 28]].concat();
    let frame = Spec::new("10.0.0.254", "10.0.0.1", NODE_UPLINK_MAC).icmp(&message);
    assert_eq!(network.deliver(End { host: NODE, interface: UPLINK }, frame), Verdict::Consumed);
    network.settle();
    let report = last_sent(&network, NODE);
    assert_eq!(
        (report.source.to_string(), report.destination.to_string()),
        ("10.0.0.254".into(), "10.1.0.5".into())
    );
    assert_eq!(report.body[..2], [3, 4]);
    let frame = Spec { dont_fragment: true, ..client_spec() }.udp((40, 5004), &[5; 1300]);
    assert_eq!(from_client(&mut network, frame), Verdict::Discarded(Discard::IpTooBig));
}

#[test]
fn an_error_about_no_session_is_icmp_unknown_flow() {
    let mut network = lab();
    let quoted = Spec::new("10.0.0.1", "10.0.0.9", [0; 6]).udp((1, 2), &[]);
    let message = [&[3, 3, 0, 0, 0, 0, 0, 0][..], &quoted[14..]].concat();
    let frame = Spec::new("10.0.0.9", "10.0.0.1", NODE_UPLINK_MAC).icmp(&message);
    let verdict = network.deliver(End { host: NODE, interface: UPLINK }, frame);
    assert_eq!(verdict, Verdict::Discarded(Discard::IcmpUnknownFlow));
}

// ---- a session's life ----

#[test]
fn an_idle_session_ends_and_tells_what_it_carried() {
    let mut network = lab();
    let (client, _, _) = round_trip(&mut network, "10.96.0.1:5004", b"x");
    network.advance(Duration::from_secs(40));
    send(&mut network, CLIENT, client, b"y", "10.96.0.1:5004".parse().unwrap());
    network.advance(Duration::from_secs(40));
    assert_eq!(sessions(&network).len(), 1, "it was used 40 s ago");
    network.advance(Duration::from_secs(21));
    assert_eq!(sessions(&network).len(), 0);
    let ended = network.hosts[NODE].stack.poll_ended_session().unwrap();
    assert_eq!((ended.to_endpoint.packets, ended.to_client.packets), (2, 1));
}

/// Notes how many sessions the endpoint has whenever it is asked.
struct Counting(Rc<RefCell<Vec<u32>>>);

impl Admission for Counting {
    fn admit(&mut self, first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        let rewrite = rewrite(first.destination, 1);
        self.0.borrow_mut().push(first.load.of(rewrite.endpoint));
        Forward::Rewrite(rewrite)
    }
}

#[test]
fn who_admits_is_told_how_many_sessions_an_endpoint_has() {
    let mut network = lab();
    let told = Rc::new(RefCell::new(Vec::new()));
    network.hosts[NODE].admission = Box::new(Counting(Rc::clone(&told)));
    for port in 5001..5004_u16 {
        let client = bind(&mut network, CLIENT, &format!("10.1.0.5:{port}"));
        send(&mut network, CLIENT, client, b"x", "10.96.0.1:5004".parse().unwrap());
    }
    network.advance(Duration::from_secs(61));
    let client = bind(&mut network, CLIENT, "10.1.0.5:6000");
    send(&mut network, CLIENT, client, b"x", "10.96.0.1:5004".parse().unwrap());
    assert_eq!(*told.borrow(), [0, 1, 2, 0], "and sessions that ended count no more");
}

#[test]
fn a_new_table_judges_again_and_what_stays_keeps_its_port() {
    let mut network = lab();
    let (client, server, ours) = round_trip(&mut network, "10.96.0.1:5004", b"x");
    network.hosts[NODE].stack.set_table_version(2);
    network.hosts[NODE].admission = Box::new(ToEndpoint { version: 2 });
    send(&mut network, CLIENT, client, b"y", "10.96.0.1:5004".parse().unwrap());
    assert_eq!(receive(&mut network, ENDPOINT, server).unwrap().1, ours);
    let [session] = sessions(&network)[..] else { panic!("one session") };
    assert_eq!((session.version, session.to_endpoint.packets), (2, 2));
}

#[test]
fn a_session_whose_policy_changed_ends_with_its_next_datagram() {
    let mut network = lab();
    let (client, _, _) = round_trip(&mut network, "10.96.0.1:5004", b"x");
    network.hosts[NODE].stack.set_table_version(2);
    network.hosts[NODE].admission = Box::new(Fixed(Forward::Drop(Discard::NoRoute)));
    send(&mut network, CLIENT, client, b"y", "10.96.0.1:5004".parse().unwrap());
    assert_eq!((sessions(&network).len(), discarded(&network, Discard::NoRoute)), (0, 1));
}

#[test]
fn an_answer_of_an_endpoint_that_lost_the_session_is_session_moved() {
    let mut network = lab();
    let (_, server, ours) = round_trip(&mut network, "10.96.0.1:5004", b"x");
    network.hosts[NODE].stack.set_table_version(2);
    let elsewhere = Rewrite { endpoint: "10.0.0.8:1".parse().unwrap(), ..rewrite(ours, 2) };
    network.hosts[NODE].admission = Box::new(Fixed(Forward::Rewrite(elsewhere)));
    send(&mut network, ENDPOINT, server, b"late", ours);
    assert_eq!((sessions(&network).len(), discarded(&network, Discard::SessionMoved)), (0, 1));
}

// ---- limits ----

fn verdict_with(config: Config, admission: Forward, frames: &[Vec<u8>]) -> Verdict {
    let mut network = lab_with(config, 1500, (None, None));
    network.hosts[NODE].admission = Box::new(Fixed(admission));
    let mut verdict = Verdict::Consumed;
    for frame in frames {
        verdict = from_client(&mut network, frame.clone());
    }
    network.check_accounts();
    verdict
}

fn to(endpoint: &str) -> Forward {
    let endpoint = endpoint.parse().unwrap();
    Forward::Rewrite(Rewrite { endpoint, idle: Duration::from_secs(60), version: 1, tag: 0 })
}

#[test]
fn one_session_too_many_is_sessions_full() {
    let config = Config { max_sessions: 1, ..Config::default() };
    let frames = [client_spec().udp((40, 5004), b""), client_spec().udp((41, 5004), b"")];
    assert_eq!(verdict_with(config, to("10.0.0.9:1"), &frames), Verdict::Discarded(Discard::SessionsFull));
}

#[test]
fn no_free_port_is_session_ports_exhausted() {
    let config = Config { ports: (40_000, 40_000), ..Config::default() };
    let frames = [client_spec().udp((40, 5004), b""), client_spec().udp((41, 5004), b"")];
    let verdict = verdict_with(config, to("10.0.0.9:1"), &frames);
    assert_eq!(verdict, Verdict::Discarded(Discard::SessionPortsExhausted));
}

#[test]
fn an_endpoint_of_another_family_is_session_family() {
    let verdict =
        verdict_with(Config::default(), to("[2001:db8::9]:1"), &[client_spec().udp((40, 5004), b"")]);
    assert_eq!(verdict, Verdict::Discarded(Discard::SessionFamily));
}

#[test]
fn an_endpoint_that_is_us_is_session_to_ourselves() {
    let verdict = verdict_with(Config::default(), to("10.0.0.1:1"), &[client_spec().udp((40, 5004), b"")]);
    assert_eq!(verdict, Verdict::Discarded(Discard::SessionToOurselves));
}

#[test]
fn an_endpoint_that_nobody_routes_to_is_no_route() {
    let verdict = verdict_with(Config::default(), to("192.0.2.1:1"), &[client_spec().udp((40, 5004), b"")]);
    assert_eq!(verdict, Verdict::Discarded(Discard::NoRoute));
}

#[test]
fn another_workload_that_uses_the_clients_address_is_session_interface() {
    let mut network = lab();
    from_client(&mut network, client_spec().udp((40, 5004), b""));
    let mut other = interface(1, 2, Role::Workload, &["169.254.1.1/32"]);
    other.intercepted = vec![Prefix::ANY_V4];
    let now = network.now;
    network.hosts[NODE].stack.set_interface(other, now);
    let frame = Spec { link_destination: [2, 0, 0, 0, 1, 2], ..client_spec() }.udp((40, 5004), b"");
    let verdict = network.deliver(End { host: NODE, interface: InterfaceId(2) }, frame);
    assert_eq!(verdict, Verdict::Discarded(Discard::SessionInterface));
}

#[test]
fn source_ports_steer_answers_to_the_worker_that_chose_them() {
    for worker in 0..3 {
        let config = Config { worker, workers: 3, ..Config::default() };
        let mut network = lab_with(config, 1500, (None, None));
        for port in 0..50 {
            from_client(&mut network, client_spec().udp((1000 + port, 5004), b""));
        }
        for session in sessions(&network) {
            assert!(stack::steer::steers_home(session.ours, session.endpoint, worker, 3));
        }
    }
}

// ---- media ----

#[test]
fn an_rtp_stream_is_watched() {
    let mut network = lab();
    let client = bind(&mut network, CLIENT, "0.0.0.0:0");
    for sequence in (0..50u16).filter(|sequence| sequence % 10 != 5) {
        let mut packet = vec![0x80, 96];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&(u32::from(sequence) * 1800).to_be_bytes());
        packet.extend_from_slice(&0xfeed_beefu32.to_be_bytes());
        packet.extend_from_slice(&[0; 160]);
        send(&mut network, CLIENT, client, &packet, "10.96.0.1:5004".parse().unwrap());
        network.advance(Duration::from_millis(20));
    }
    let stream = sessions(&network)[0].rtp[0].unwrap();
    assert_eq!((stream.ssrc, stream.received, stream.lost()), (0xfeed_beef, 45, 5));
    assert!(stream.from_client);
}
