//! Fragments that overlap (RFC 5722; teardrop) or never end (CVE-2018-5391), for IPv4 and IPv6; atomic ones (RFC 6946);
//! fragments within fragments; first fragments without their headers (RFC 7112).
//!
//! Figures: whatever comes, 256 packets wait, 64 of one sender, 128 fragments of each, with 4 MiB in all; a fragment holds
//! its own bytes and at most 400 more; a packet that is real is put together while 100,000 fragments a second are not.

use std::task::Poll;
use std::time::Duration;

use allocation_counter::measure;
use stack::{Discard, UdpKey, Verdict};

use crate::network::packets::{Spec, sum};
use crate::target::{OURS, Target};

const LIMIT: i64 = 4 << 20;

/// A target with a UDP socket on port 9 of both addresses.
fn victim() -> (Target, [UdpKey; 2]) {
    let mut target = Target::new();
    let sockets =
        ["10.0.0.1:9", "[2001:db8::1]:9"].map(|at| target.stack.udp_bind(at.parse().unwrap(), None).unwrap());
    (target, sockets)
}

/// What `spec` sends from `offset` on, as one fragment of the packet `identification`; `number` is that of the protocol.
fn fragment(spec: &Spec, identification: u32, (offset, more): (usize, bool), body: &[u8]) -> Vec<u8> {
    numbered_fragment(spec, 17, identification, (offset, more), body)
}

fn numbered_fragment(
    spec: &Spec,
    number: u8,
    identification: u32,
    (offset, more): (usize, bool),
    body: &[u8],
) -> Vec<u8> {
    if spec.source.is_ipv6() {
        let field = (offset as u16 | u16::from(more)).to_be_bytes();
        let header = [&[number, 0][..], &field, &identification.to_be_bytes()].concat();
        return Spec { protocol: 44, ..spec.clone() }.frame(&[&header[..], body].concat());
    }
    let mut frame = Spec { protocol: number, ..spec.clone() }.frame(body);
    frame[18..20].copy_from_slice(&(identification as u16).to_be_bytes());
    frame[20..22].copy_from_slice(&((offset / 8) as u16 | if more { 0x2000 } else { 0 }).to_be_bytes());
    frame[24..26].fill(0);
    let checksum = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn v4(host: u32) -> Spec {
    let [_, _, high, low] = host.to_be_bytes();
    Spec::new(&format!("198.18.{high}.{low}"), "10.0.0.1", OURS)
}

fn v6(host: u32) -> Spec {
    Spec::new(&format!("2001:db8:66::{host:x}"), "2001:db8::1", OURS)
}

/// A UDP datagram to port 9, cut in two.
fn halves(spec: &Spec, identification: u32) -> [Vec<u8>; 2] {
    let whole = spec.udp((7, 9), &[5; 24]);
    let body = &whole[if spec.source.is_ipv6() { 54 } else { 34 }..];
    [
        fragment(spec, identification, (0, true), &body[..16]),
        fragment(spec, identification, (16, false), &body[16..]),
    ]
}

fn is_delivered(target: &mut Target, socket: UdpKey) -> bool {
    matches!(target.stack.udp_receive(socket, &mut [0; 64]), Poll::Ready(Ok((24, ..))))
}

/// Single fragments of packets that nobody completes.
fn flood(target: &mut Target, spec: fn(u32) -> Spec, senders: u32, packets: std::ops::Range<u32>) {
    for number in packets {
        target.hear(fragment(
            &spec(1 + number % senders),
            number,
            (8 * (number as usize % 4000), true),
            &[0; 1_400],
        ));
    }
}

#[test]
fn fragments_that_never_end_hold_no_more_than_the_limit_and_give_way() {
    for spec in [v4, v6] {
        let (mut target, _) = victim();
        let held = measure(|| flood(&mut target, spec, 10_000, 0..20_000));
        assert!(held.bytes_max < LIMIT as u64, "{} bytes", held.bytes_max);
        assert!(target.count(Discard::ReassemblyEvicted) >= 20_000 - 256);
        target.pass(Duration::from_secs(31));
        assert!(target.count(Discard::ReassemblyTimeout) > 0);
        // Nothing is left of it; the tables keep their places.
        let again = measure(|| flood(&mut target, spec, 10_000, 0..200));
        assert!(again.bytes_current < 200 * 1_900, "{} bytes", again.bytes_current);
    }
}

#[test]
fn a_fragment_at_a_far_offset_holds_its_own_bytes_only() {
    let (mut target, _) = victim();
    flood(&mut target, v4, 1, 0..1);
    let held = measure(|| {
        for number in 2..62 {
            target.hear(fragment(&v4(1), number, (65_000, true), &[0; 8]));
        }
    });
    assert!(held.bytes_current < 60 * 700, "{} bytes of 60 packets", held.bytes_current);
}

#[test]
fn a_real_packet_is_put_together_in_the_midst_of_a_flood() {
    for (spec, index) in [(v4 as fn(u32) -> Spec, 0), (v6, 1)] {
        let (mut target, sockets) = victim();
        flood(&mut target, spec, 10_000, 0..1_000);
        // The flood has 100 fragments in the millisecond between the two halves.
        let [first, second] = halves(&spec(20_000), 77);
        target.hear(first.clone());
        flood(&mut target, spec, 10_000, 1_000..1_100);
        target.hear(second.clone());
        assert!(is_delivered(&mut target, sockets[index]));
        // Control: with more between them than there are places, it gives way too.
        target.hear(first);
        flood(&mut target, spec, 10_000, 2_000..2_300);
        target.hear(second);
        assert!(!is_delivered(&mut target, sockets[index]));
    }
}

#[test]
fn one_sender_cannot_have_all_places() {
    let (mut target, sockets) = victim();
    let [first, second] = halves(&v4(2), 77);
    target.hear(first);
    flood(&mut target, v4, 1, 0..5_000);
    target.hear(second);
    assert!(is_delivered(&mut target, sockets[0]), "another sender's packet is untouched");
    assert_eq!(target.count(Discard::ReassemblyEvicted), 5_000 - 64);
}

#[test]
fn an_overlap_is_fragment_overlap_and_nothing_of_the_packet_is_delivered() {
    for (spec, index) in [(v4(3), 0), (v6(3), 1)] {
        let (mut target, sockets) = victim();
        let [first, second] = halves(&spec, 5);
        target.hear(first.clone());
        target.refuses(fragment(&spec, 5, (8, true), &[0xee; 16]), Discard::FragmentOverlap);
        target.hear(second.clone());
        assert!(!is_delivered(&mut target, sockets[index]));
        // Control: the same two halves alone are a datagram.
        let [first, second] = halves(&spec, 6);
        target.hear(first);
        target.hear(second);
        assert!(is_delivered(&mut target, sockets[index]));
    }
}

#[test]
fn what_still_comes_of_a_refused_ipv6_packet_is_fragment_of_refused() {
    let (mut target, sockets) = victim();
    let spec = v6(3);
    let [first, second] = halves(&spec, 5);
    target.hear(first.clone());
    target.refuses(fragment(&spec, 5, (8, true), &[0xee; 16]), Discard::FragmentOverlap);
    target.refuses(first.clone(), Discard::FragmentOfRefused);
    target.refuses(second.clone(), Discard::FragmentOfRefused);
    assert!(!is_delivered(&mut target, sockets[1]));
    // Control: half a minute later it is forgotten.
    target.pass(Duration::from_secs(31));
    target.hear(first);
    target.hear(second);
    assert!(is_delivered(&mut target, sockets[1]));
}

#[test]
fn an_atomic_fragment_waits_for_nobody_and_meets_nobody() {
    let (mut target, sockets) = victim();
    let spec = v6(4);
    let [first, second] = halves(&spec, 5);
    let whole = spec.udp((7, 9), &[5; 24]);
    target.hear(first);
    // The same identification: RFC 6946, section 4 has it looked at by itself.
    target.hear(fragment(&spec, 5, (0, false), &whole[54..]));
    assert!(is_delivered(&mut target, sockets[1]));
    target.hear(second);
    assert!(is_delivered(&mut target, sockets[1]), "and the packet that waits is not touched");
}

#[test]
fn a_packet_in_crumbs_is_fragments_too_many() {
    let (mut target, _) = victim();
    let crumb = |number: usize| fragment(&v4(5), 5, (8 * number, true), &[0; 8]);
    (0..128).for_each(|number| assert_eq!(target.hear(crumb(number)), Verdict::Consumed));
    target.refuses(crumb(128), Discard::FragmentsTooMany);
}

#[test]
fn a_packet_of_more_than_64_kib_is_fragment_too_long() {
    // The ping of death.
    let (mut target, _) = victim();
    target.refuses(fragment(&v4(5), 5, (65_528, false), &[0; 16]), Discard::FragmentTooLong);
}

#[test]
fn fragments_of_a_fragment_are_fragment_nested() {
    let (mut target, sockets) = victim();
    let spec = v6(6);
    let whole = spec.udp((7, 9), &[5; 24]);
    let inner = [&[17, 0, 0, 1, 0, 0, 0, 9][..], &whole[54..]].concat();
    target.refuses(numbered_fragment(&spec, 44, 5, (0, true), &inner[..24]), Discard::FragmentNested);
    // Hidden behind destination options, which the first fragment's check passes but the whole's does not.
    let options = [&[44, 0, 1, 4, 0, 0, 0, 0][..], &inner].concat();
    target.refuses(numbered_fragment(&spec, 60, 6, (0, true), &options[..24]), Discard::FragmentNested);
    assert!(!is_delivered(&mut target, sockets[1]));
}

#[test]
fn a_first_fragment_without_its_header_is_ipv6_first_fragment_short() {
    let (mut target, _) = victim();
    let spec = v6(7);
    target.refuses(numbered_fragment(&spec, 6, 5, (0, true), &[0; 16]), Discard::Ipv6FirstFragmentShort);
    // Control: with all of the header it waits for the others.
    assert_eq!(target.hear(numbered_fragment(&spec, 6, 6, (0, true), &[0; 24])), Verdict::Consumed);
}
