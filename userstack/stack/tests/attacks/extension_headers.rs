//! Chains of IPv6 extension headers: long ones, such full of options, routes, and those whose length lies.
//!
//! Figure: at most six headers, 8 options and 7 bytes of padding on end in each are looked at; nothing is allocated.

use allocation_counter::measure;
use stack::{Discard, Verdict};

use crate::network::DeliverAll;
use crate::network::Flat;
use crate::network::packets::Spec;
use crate::target::{LINK, OURS, Target};

fn spec() -> Spec {
    Spec::new("2001:db8:66::1", "2001:db8::1", OURS)
}

/// Destination options of 8 bytes, all padding.
fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// A datagram behind `count` headers.
fn behind(count: usize) -> Vec<u8> {
    let whole = spec().udp((7, 9), b"text");
    let mut body = vec![];
    for number in 1..=count {
        body.extend_from_slice(&padding(if number == count { 17 } else { 60 }));
    }
    body.extend_from_slice(&whole[54..]);
    Spec { protocol: if count == 0 { 17 } else { 60 }, ..spec() }.frame(&body)
}

fn victim() -> Target {
    let mut target = Target::new();
    target.stack.udp_bind("[2001:db8::1]:9".parse().unwrap(), None).unwrap();
    target
}

#[test]
fn a_long_chain_is_ipv6_extensions_too_many() {
    let mut target = victim();
    for count in [7, 20, 150] {
        target.refuses(behind(count), Discard::Ipv6ExtensionsTooMany);
    }
    // Control: what a packet has reason to have passes.
    for count in [0, 1, 2, 6] {
        assert_eq!(target.hear(behind(count)), Verdict::Consumed, "{count} headers");
    }
}

#[test]
fn a_chain_allocates_nothing() {
    let mut target = victim();
    let mut frames: Vec<Flat> = (0..100).map(|_| Flat(behind(150))).collect();
    let now = target.now;
    let counted = measure(|| {
        for frame in &mut frames {
            target.stack.handle_packet(LINK, frame, &mut DeliverAll, now);
        }
    });
    assert_eq!(counted.count_total, 0);
}

/// A hop-by-hop header of these options.
fn options(options: &[u8]) -> Vec<u8> {
    assert!((options.len() + 2).is_multiple_of(8));
    let whole = spec().udp((7, 9), b"text");
    let header = [17, ((options.len() + 2) / 8 - 1) as u8];
    Spec { protocol: 0, ..spec() }.frame(&[&header[..], options, &whole[54..]].concat())
}

#[test]
fn a_header_full_of_options_is_ipv6_options_too_many() {
    let mut target = victim();
    target.refuses(options(&[5, 2, 0, 0].repeat(255)[..1014]), Discard::Ipv6OptionsTooMany);
    target.refuses(options(&[0; 1398]), Discard::Ipv6OptionsTooMany);
    // Control: a router alert, and padding to align it.
    assert_eq!(target.hear(options(&[5, 2, 0, 0, 1, 0])), Verdict::Consumed);
}

#[test]
fn a_route_an_order_or_an_option_that_is_refused_has_its_name() {
    let mut target = victim();
    let routed = Spec { protocol: 43, ..spec() }.frame(&[17, 0, 0, 3, 0, 0, 0, 0]);
    target.refuses(routed, Discard::IpSourceRoute);
    let late = [&padding(0)[..], &padding(17)].concat();
    target.refuses(Spec { protocol: 60, ..spec() }.frame(&late), Discard::Ipv6ExtensionOrder);
    target.refuses(options(&[0xc2, 4, 0, 1, 0, 0]), Discard::Ipv6OptionRefused);
    let overrun = Spec { protocol: 60, ..spec() }.frame(&[17, 200, 1, 4, 0, 0, 0, 0]);
    target.refuses(overrun, Discard::Ipv6ExtensionTruncated);
}
