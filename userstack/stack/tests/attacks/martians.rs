//! LAND, martian and source-routed packets: none is answered, each has its name.
//!
//! Figure: nothing is sent and nothing is held for one.

use allocation_counter::measure;
use stack::{Discard, Verdict};

use crate::network::DeliverAll;
use crate::network::Flat;
use crate::network::packets::{Spec, sum};
use crate::peer::Peer;
use crate::target::{LINK, OURS, PORT, Target, options};

fn syn_from(source: &str) -> Vec<u8> {
    Peer::new(source, 50_000).syn()
}

#[track_caller]
fn is_refused_in_silence(frame: Vec<u8>, reason: Discard) {
    let (mut target, _) = Target::listening(options());
    target.refuses(frame, reason);
    assert!(target.frames().is_empty(), "it is not answered");
    assert_eq!(target.stack.tcp_connections(), 0);
}

#[test]
fn a_syn_from_our_own_address_and_port_is_ip_land() {
    for address in ["10.0.0.1", "2001:db8::1"] {
        is_refused_in_silence(Peer { port: PORT, ..Peer::new(address, 0) }.syn(), Discard::IpLand);
    }
}

#[test]
fn a_syn_from_an_address_that_no_host_has_is_ip_martian_source() {
    let sources = [
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "239.1.2.3",
        "240.0.0.1",
        "255.255.255.255",
        "10.0.0.255",
        "::1",
        "ff02::1",
        "::ffff:192.0.2.1",
        "::",
    ];
    for source in sources {
        is_refused_in_silence(syn_from(source), Discard::IpMartianSource);
    }
}

/// Control: from a host it is answered.
#[test]
fn a_syn_from_a_host_is_answered() {
    for source in ["192.0.2.1", "10.0.0.254", "2001:db8:9::9"] {
        let (mut target, _) = Target::listening(options());
        assert_eq!(target.hear(syn_from(source)), Verdict::Consumed);
        assert_eq!((target.segments().len(), target.stack.tcp_connections()), (1, 1), "{source}");
    }
}

#[test]
fn a_syn_to_an_address_that_no_wire_has_is_ip_martian_destination() {
    for (source, destination) in
        [("192.0.2.1", "127.0.0.1"), ("192.0.2.1", "0.0.0.7"), ("2001:db8:9::9", "::1")]
    {
        let mut peer = Peer::new(source, 50_000);
        peer.spec.destination = destination.parse().unwrap();
        is_refused_in_silence(peer.syn(), Discard::IpMartianDestination);
    }
}

#[test]
fn a_syn_to_a_group_is_ip_group() {
    for destination in ["10.0.0.255", "255.255.255.255", "224.0.0.1"] {
        let mut peer = Peer::new("192.0.2.1", 50_000);
        peer.spec.destination = destination.parse().unwrap();
        is_refused_in_silence(peer.syn(), Discard::IpGroup);
    }
}

#[test]
fn a_source_route_is_ip_source_route() {
    let mut frame = syn_from("192.0.2.1");
    // Room for a loose source route of one address.
    frame.splice(34..34, [131, 7, 4, 198, 51, 100, 1, 0]);
    frame[14] = 0x47;
    let len = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    frame[24..26].fill(0);
    let checksum = !sum(&frame[14..42]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    is_refused_in_silence(frame, Discard::IpSourceRoute);
}

#[test]
fn a_flood_of_them_holds_nothing() {
    let (mut target, _) = Target::listening(options());
    let mut frames: Vec<Flat> = (0..500u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            Flat(
                Spec { protocol: 6, ..Spec::new(&format!("127.0.{high}.{low}"), "10.0.0.1", OURS) }
                    .tcp((1, PORT)),
            )
        })
        .collect();
    let now = target.now;
    let counted = measure(|| {
        for frame in &mut frames {
            target.stack.handle_packet(LINK, frame, &mut DeliverAll, now);
        }
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(target.count(Discard::IpMartianSource), 500);
}
