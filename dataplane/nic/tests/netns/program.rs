//! What the XDP program takes and what it leaves, and that it never outlives its process or blocks the host.

use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use bpf::{
    AttachError, AttachMode, Buffers, Claim, Link, OwnedPrefix, Redirect, RedirectConfig, Role, Verdict,
    VlanSet,
};
use nic::{Pools, UmemSet, XdpMode};

use super::lab::{KERNEL, Lab, OURS, PATIENCE, Running, ask, eventually, owned, peer_socket};
use super::node::{CHUNKS, Node, echo_udp, open_one};
use super::wire::{Wire, arp, ipv4, ipv6, neighbour_advertisement, neighbour_solicitation, tagged};

#[test]
fn a_closed_socket_gives_the_kernel_its_traffic_back() {
    let Some(lab) = Lab::entered(1_500) else { return };
    // The kernel's own address is claimed, so that both can be seen to answer.
    let opened =
        open_one("n0", XdpMode::Auto, &[owned(KERNEL)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let mac = opened.report.mac.map(|byte| format!("{byte:02x}")).join(":");
    lab.peer.ip(&["neigh", "replace", &KERNEL.to_string(), "lladdr", &mac, "dev", "p0"]);
    let kernel = UdpSocket::bind((KERNEL, 7)).expect("the kernel has its address");
    kernel.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout is a timeout");
    let (node, redirect) = Node::start(opened, echo_udp);
    let peer = peer_socket(&lab);
    assert_eq!(ask(&peer, (KERNEL, 7).into(), b"mesh").as_deref(), Some(&b"mesh"[..]));
    assert!(kernel.recv(&mut [0; 16]).is_err(), "the kernel saw nothing of it");

    node.stop();
    kernel.set_read_timeout(Some(PATIENCE)).expect("a timeout is a timeout");
    peer.send_to(b"kernel", (KERNEL, 7)).expect("the peer can send");
    assert_eq!(kernel.recv(&mut [0; 16]).expect("the kernel hears again"), 6);
    assert!(redirect.verdicts().expect("verdicts can be read").of(Verdict::PassedNoSocket) > 0);
}

/// Set by the test that runs the next one, so that whoever runs all ignored tests does not.
const HELD_FOR: &str = "RINGWAY_TEST_HOLDS_N0";

/// Not a test of its own: the process that the next test kills.
#[test]
#[ignore = "run by another test, in a namespace"]
fn holds_n0_until_it_is_killed() {
    if std::env::var_os(HELD_FOR).is_none() {
        return;
    }
    let opened =
        open_one("n0", XdpMode::Auto, &[owned(KERNEL)], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let (_node, _redirect) = Node::start(opened, |_| None);
    std::thread::sleep(3 * PATIENCE);
}

#[test]
fn sigkill_takes_the_program_off_and_the_kernel_answers() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let test = std::env::current_exe().expect("a test knows its file");
    let test = test.to_str().expect("the file's name is text");
    let name = "netns::program::holds_n0_until_it_is_killed";
    let mut holder = lab.node.exec(&[test, "--exact", name, "--ignored"]);
    let child = holder.env(HELD_FOR, "yes").spawn().expect("the test starts itself");
    let mut child = Running(child);
    let attached = || Link::by_name("n0").expect("the veth is there").xdp_program.is_some();
    eventually("the program is attached", attached);
    let kernel = UdpSocket::bind((KERNEL, 7)).expect("the kernel has its address");
    kernel.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout is a timeout");
    let peer = peer_socket(&lab);
    let heard = |question: &[u8]| {
        peer.send_to(question, (KERNEL, 7)).expect("the peer can send");
        kernel.recv(&mut [0; 16]).is_ok()
    };
    // ARP for the claimed address is taken, too: the peer is told where it is.
    let mac = Link::by_name("n0").expect("the veth is there").mac.map(|byte| format!("{byte:02x}")).join(":");
    lab.peer.ip(&["neigh", "replace", &KERNEL.to_string(), "lladdr", &mac, "dev", "p0"]);
    eventually("the mesh takes the address", || !heard(b"mesh"));

    child.0.kill().expect("it was running");
    child.0.wait().expect("it was ours");
    eventually("the program is gone", || !attached());
    eventually("the kernel hears", || heard(b"kernel"));
}

/// Every frame gets the verdict it should, and there are as many verdicts as frames.
#[test]
fn the_program_takes_what_is_owned_and_nothing_else() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let mut wire = Wire::open(&lab);
    lab.node.enter();
    let link = Link::by_name("n0").expect("the veth is there");
    let ours_v6: Ipv6Addr = "fd09::2".parse().expect("an address");
    let other_v6: Ipv6Addr = "fd09::3".parse().expect("an address");
    let service: Ipv6Addr = "fd77::1".parse().expect("an address");
    let vlans = VlanSet::untagged().with(100);
    let mut opened = open_one("n0", XdpMode::Auto, &[], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let redirect = &mut opened.redirect;
    redirect
        .set_config(&RedirectConfig { role: Role::Workload, vlans, deny_outbound: false })
        .expect("a config is set");
    let transport = |address: std::net::IpAddr, len| OwnedPrefix { address, len, claim: Claim::Transport };
    redirect
        .set_owned(&[
            owned(OURS),
            owned(ours_v6),
            transport("10.77.0.0".parse().expect("an address"), 16),
            transport("fd77::".parse().expect("an address"), 64),
        ])
        .expect("a few prefixes fit");
    // A socket that nobody reads has room for all of these.
    let _pair = Pools::new().start(opened.queues.remove(0)).expect("the region is free");

    let (tcp, udp, icmp) = (6, 17, 1);
    let ours = OURS.octets();
    let udp_segment = [0u8; 8];
    let fragment_of_udp = [17, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
    let destination_options_then_tcp = [6, 0, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let frames: Vec<(Verdict, Vec<u8>)> = vec![
        (Verdict::RedirectedAddress, ipv4(ours, udp)),
        (Verdict::RedirectedAddress, ipv4(ours, icmp)),
        (Verdict::RedirectedAddress, tagged(100, ipv4(ours, tcp))),
        (Verdict::PassedOtherVlan, tagged(101, ipv4(ours, tcp))),
        (Verdict::PassedOtherAddress, ipv4([10, 9, 0, 3], udp)),
        (Verdict::RedirectedIntercepted, ipv4([10, 77, 1, 1], tcp)),
        (Verdict::RedirectedIntercepted, ipv4([10, 77, 1, 1], udp)),
        (Verdict::PassedOtherProtocol, ipv4([10, 77, 1, 1], icmp)),
        (Verdict::PassedMalformed, ipv4(ours, udp)[..30].to_vec()),
        (Verdict::RedirectedArp, arp(1, [10, 9, 0, 9], ours)),
        (Verdict::RedirectedArp, arp(2, [10, 9, 0, 9], ours)),
        (Verdict::PassedOtherAddress, arp(1, [10, 9, 0, 9], [10, 77, 1, 1])),
        (Verdict::PassedOtherAddress, arp(1, [10, 9, 0, 1], [10, 9, 0, 1])),
        (Verdict::RedirectedAddress, ipv6(ours_v6, 58, &[128, 0, 0, 0])),
        (Verdict::RedirectedNdp, neighbour_solicitation(ours_v6)),
        (Verdict::PassedOtherAddress, neighbour_solicitation(other_v6)),
        (Verdict::PassedOtherAddress, neighbour_advertisement(other_v6)),
        (Verdict::RedirectedIntercepted, ipv6(service, 17, &udp_segment)),
        (Verdict::RedirectedIntercepted, ipv6(service, 44, &fragment_of_udp)),
        (Verdict::RedirectedIntercepted, ipv6(service, 60, &destination_options_then_tcp)),
        (Verdict::PassedMalformed, ipv6(service, 60, &[60, 9, 0, 0, 0, 0, 0, 0])),
        (Verdict::PassedOtherProtocol, [&[2; 12][..], &[0x88, 0xcc], &[0; 46]].concat()),
    ];
    expect_verdicts(redirect, &mut wire, &frames);
    let notices: Vec<_> = std::iter::from_fn(|| redirect.poll_notice()).collect();
    assert!(
        notices.iter().any(|notice| notice.address.to_string() == "10.9.0.1" && notice.vlan.is_none()),
        "{notices:?}"
    );
    assert!(notices.iter().any(|notice| notice.address == other_v6), "{notices:?}");
    assert_eq!(link.index, redirect.interface().index);
}

/// Sends each frame and waits for its verdict to be counted.
fn expect_verdicts(redirect: &Redirect, wire: &mut Wire, frames: &[(Verdict, Vec<u8>)]) {
    for (expected, frame) in frames {
        let before = redirect.verdicts().expect("verdicts can be read");
        wire.send(frame);
        // The namespaces' own chatter (router solicitations) is counted, too: wait for the expected one.
        eventually(&format!("{expected:?} of {frame:02x?}"), || {
            redirect.verdicts().expect("verdicts can be read").of(*expected) > before.of(*expected)
        });
    }
}

/// `outbound: deny` stops what the kernel would forward, and only that.
#[test]
fn a_workload_reaches_nothing_but_the_mesh_where_outbound_is_denied() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let mut wire = Wire::open(&lab);
    lab.node.enter();
    let mut opened = open_one("n0", XdpMode::Auto, &[], &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    let redirect = &mut opened.redirect;
    let denying = RedirectConfig { deny_outbound: true, ..RedirectConfig::untagged(Role::Workload) };
    redirect.set_config(&denying).expect("a config is set");
    redirect.set_owned(&[owned(OURS)]).expect("one address fits");
    let _pair = Pools::new().start(opened.queues.remove(0)).expect("the region is free");
    let (tcp, udp) = (6, 17);
    let elsewhere: Ipv6Addr = "fd09::3".parse().expect("an address");
    let router: Ipv6Addr = "fe80::9".parse().expect("an address");
    let frames = [
        (Verdict::RedirectedAddress, ipv4(OURS.octets(), tcp)),
        (Verdict::DeniedOutbound, ipv4([10, 9, 0, 3], udp)),
        (Verdict::DeniedOutbound, ipv4([192, 0, 2, 1], tcp)),
        (Verdict::PassedOtherAddress, ipv4([224, 0, 0, 251], udp)),
        (Verdict::PassedOtherAddress, ipv4([169, 254, 9, 9], udp)),
        (Verdict::DeniedOutbound, ipv6(elsewhere, tcp, &[0; 20])),
        (Verdict::PassedOtherAddress, ipv6(router, 58, &[128, 0, 0, 0])),
        (Verdict::PassedOtherAddress, arp(1, [10, 9, 0, 9], [10, 9, 0, 3])),
    ];
    expect_verdicts(redirect, &mut wire, &frames);
    redirect.set_config(&RedirectConfig { deny_outbound: false, ..denying }).expect("a config is set");
    expect_verdicts(redirect, &mut wire, &[(Verdict::PassedOtherAddress, ipv4([192, 0, 2, 1], tcp))]);
}

fn attach_native(link: &Link, buffers: Buffers) -> Result<Redirect, AttachError> {
    Redirect::attach(link.index, AttachMode::Native, buffers, &RedirectConfig::untagged(Role::Uplink))
}

#[test]
fn a_veth_whose_packets_do_not_fit_one_buffer_refuses_a_program_for_one_by_name() {
    let Some(_lab) = Lab::entered(9_000) else { return };
    let link = Link::by_name("n0").expect("the veth is there");
    let error = attach_native(&link, Buffers::One).expect_err("9,000 bytes do not fit a page");
    assert!(matches!(&error, AttachError::MtuTooLarge { interface, .. } if interface == "n0"), "{error}");
    attach_native(&link, Buffers::Several).expect("several buffers hold them");
}

#[test]
fn owned_prefixes_change_while_the_program_runs() {
    let Some(lab) = Lab::entered(1_500) else { return };
    let mut wire = Wire::open(&lab);
    lab.node.enter();
    let link = Link::by_name("n0").expect("the veth is there");
    let mut redirect = attach_native(&link, Buffers::Several).expect("native mode works on a veth");
    // Without sockets what is owned is passed, and counted as such.
    let mut verdict_of = |redirect: &Redirect| {
        let before = redirect.verdicts().expect("verdicts can be read");
        wire.send(&ipv4(OURS.octets(), 17));
        let mut owned = None;
        eventually("a verdict", || {
            let now = redirect.verdicts().expect("verdicts can be read");
            let passed = now.of(Verdict::PassedOtherAddress) > before.of(Verdict::PassedOtherAddress);
            let missed = now.of(Verdict::PassedNoSocket) > before.of(Verdict::PassedNoSocket);
            owned = missed.then_some(true).or(passed.then_some(false));
            owned.is_some()
        });
        owned == Some(true)
    };
    redirect.set_owned(&[owned(OURS)]).expect("one address fits");
    assert!(verdict_of(&redirect));
    redirect.set_owned(&[]).expect("none fits, too");
    assert!(!verdict_of(&redirect));
}
