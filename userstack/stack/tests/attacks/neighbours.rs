//! ARP and NDP: somebody on the link claims an address that is another's, or ours; scans make us ask for neighbours that
//! do not exist.
//!
//! Figures: a neighbour that is there keeps its traffic, and a claim costs at most two questions in 100 ms; one that is
//! gone is followed in 100 ms. 4,096 neighbours and 1,024 packets wait at most, and who has answered keeps its place.

use std::time::Duration;

use allocation_counter::measure;
use stack::Discard;

use crate::network::packets::{Read, Spec};
use crate::peer::Peer;
use crate::target::{OURS, Target, options};

const FRIEND: [u8; 6] = [2, 0, 0, 0, 5, 5];
const THIEF: [u8; 6] = [2, 0, 0, 0, 6, 6];

/// An ARP message that says that `sender` is at `mac`.
fn arp(request: bool, mac: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let to = if request { [0xff; 6] } else { OURS };
    let operation = if request { 1 } else { 2 };
    let head = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
    [&to[..], &mac, &head, &mac, &sender, if request { &[0; 6] } else { &OURS }, &target].concat()
}

fn advertisement(mac: [u8; 6], address: &str, flags: u8) -> Vec<u8> {
    let octets = address.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &octets, &[2, 1], &mac].concat();
    Spec { hops: 255, link_source: mac, ..Spec::new(address, "2001:db8::1", OURS) }.icmp(&message)
}

/// A friend on the link, of either version of IP, who is known.
struct Link {
    target: Target,
    address: &'static str,
}

impl Link {
    fn new(address: &'static str) -> Self {
        let (target, _) = Target::listening(options());
        let mut link = Self { target, address };
        link.asks_for();
        link.says(FRIEND);
        assert_eq!(link.sends_to(), Some(FRIEND));
        link
    }

    fn is_v6(&self) -> bool {
        self.address.contains(':')
    }

    /// A question of the friend's to our address: a claim by the way.
    fn claims(&mut self, mac: [u8; 6]) {
        let frame = if self.is_v6() {
            advertisement(mac, self.address, 0x20)
        } else {
            arp(true, mac, [10, 0, 0, 2], [10, 0, 0, 2])
        };
        self.target.hear(frame);
    }

    /// An answer to us.
    fn says(&mut self, mac: [u8; 6]) {
        let frame = if self.is_v6() {
            advertisement(mac, self.address, 0x60)
        } else {
            arp(false, mac, [10, 0, 0, 2], [10, 0, 0, 1])
        };
        self.target.hear(frame);
    }

    /// A SYN from the friend, which we have to answer; every frame that goes out.
    fn provoke(&mut self) -> Vec<Vec<u8>> {
        let peer = Peer::new(self.address, 50_000);
        self.target.hear(Peer { to: 81, ..peer }.syn());
        self.target.frames()
    }

    fn asks_for(&mut self) {
        assert!(!self.provoke().is_empty());
    }

    /// Where the answer to the friend goes; `None`: it waits.
    fn sends_to(&mut self) -> Option<[u8; 6]> {
        let frames = self.provoke();
        let mut reads = frames.iter().filter_map(|frame| Read::new(frame));
        reads.find(|read| read.protocol == 6).map(|read| read.link_destination)
    }

    /// To whom questions went: those in `frames` that are ARP or NDP.
    fn asked(frames: &[Vec<u8>]) -> Vec<[u8; 6]> {
        let questions = frames.iter().filter(|frame| {
            frame[12..14] == [8, 6] || Read::new(frame).is_some_and(|read| read.protocol == 58)
        });
        questions.map(|frame| frame[..6].try_into().unwrap()).collect()
    }

    fn pass(&mut self, millis: u64) -> Vec<Vec<u8>> {
        let until = self.target.now + Duration::from_millis(millis);
        let mut frames = self.target.frames();
        while let Some(at) = self.target.stack.poll_timeout().filter(|at| *at <= until) {
            self.target.now = self.target.now.max(at);
            while self.target.stack.handle_timers(256, self.target.now) {}
            frames.append(&mut self.target.frames());
        }
        self.target.now = until;
        frames
    }
}

fn a_false_claim_is_denied(address: &'static str) {
    let mut link = Link::new(address);
    for as_answer in [false, true] {
        if as_answer {
            link.says(THIEF)
        } else {
            link.claims(THIEF)
        }
        let questions = Link::asked(&link.pass(1));
        assert_eq!(questions, [FRIEND], "who has it is asked, and nobody else");
        assert_eq!(link.sends_to(), Some(FRIEND));
        link.says(FRIEND);
        assert_eq!(link.sends_to(), Some(FRIEND));
        link.pass(1_000);
        assert_eq!(link.sends_to(), Some(FRIEND));
    }
    assert_eq!(link.target.count(Discard::NeighbourClaimDenied), 2);
}

#[test]
fn a_false_arp_is_neighbour_claim_denied_and_moves_no_traffic() {
    a_false_claim_is_denied("10.0.0.2");
}

#[test]
fn a_false_advertisement_is_neighbour_claim_denied_and_moves_no_traffic() {
    a_false_claim_is_denied("2001:db8::2");
}

/// Control: the same claim of an address whose owner is gone is followed.
#[test]
fn a_true_claim_is_followed_within_a_tenth_of_a_second() {
    for address in ["10.0.0.2", "2001:db8::2"] {
        let mut link = Link::new(address);
        link.claims(THIEF);
        let questions = Link::asked(&link.pass(110));
        assert_eq!(questions, [FRIEND, FRIEND], "asked twice");
        assert_eq!(link.sends_to(), Some(THIEF));
        assert_eq!(link.target.count(Discard::NeighbourClaimDenied), 0);
    }
}

#[test]
fn a_flood_of_claims_makes_no_flood_of_questions() {
    let mut link = Link::new("10.0.0.2");
    let mut questions = 0;
    for _ in 0..1_000 {
        link.claims(THIEF);
        let asked = Link::asked(&link.pass(1)).len();
        questions += asked;
        if asked > 0 {
            link.says(FRIEND);
        }
    }
    assert!(questions <= 11, "{questions} questions in a second");
    assert_eq!(link.sends_to(), Some(FRIEND));
}

#[test]
fn claims_to_an_address_of_ours_are_named() {
    let (mut target, _) = Target::listening(options());
    target.refuses(arp(true, THIEF, [10, 0, 0, 1], [10, 0, 0, 1]), Discard::NeighbourClaimsOurAddress);
    target.refuses(advertisement(THIEF, "2001:db8::1", 0x20).clone(), Discard::IpLand);
    let octets = "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &octets, &[2, 1], &THIEF].concat();
    let frame = Spec { hops: 255, ..Spec::new("fe80::66", "2001:db8::1", OURS) }.icmp(&message);
    target.refuses(frame, Discard::NeighbourClaimsOurAddress);
    let mut group = arp(false, [1, 0, 0x5e, 0, 0, 1], [10, 0, 0, 9], [10, 0, 0, 1]);
    group[6..12].copy_from_slice(&THIEF);
    target.refuses(group, Discard::NeighbourBadMac);
}

#[test]
fn claims_that_nobody_asked_for_hold_nothing() {
    let (mut target, _) = Target::listening(options());
    let held = measure(|| {
        for number in 0..5_000u32 {
            let [_, _, high, low] = number.to_be_bytes();
            target.hear(arp(true, THIEF, [10, 1, high, low], [10, 0, 0, 3]));
        }
    });
    assert_eq!(held.bytes_current, 0);
}

#[test]
fn a_scan_by_forged_senders_on_the_link_costs_no_known_neighbour_its_place() {
    let mut link = Link::new("2001:db8::2");
    // SYNs from 10,000 addresses of the link that nobody has: each answer wants a neighbour.
    let held = measure(|| {
        for number in 0..10_000u32 {
            let peer = Peer { to: 81, ..Peer::new(&format!("2001:db8::66:{number:x}"), 50_000) };
            link.target.hear(peer.syn());
            link.target.now = link.target.now + Duration::from_micros(10);
            if number % 100 == 0 {
                link.target.flush();
            }
        }
        link.target.flush();
    });
    assert!(held.bytes_current < 4 << 20, "{} bytes", held.bytes_current);
    assert_eq!(link.sends_to(), Some(FRIEND), "who has answered is still known");
    assert!(
        link.target.count(Discard::NeighbourEvicted) + link.target.count(Discard::NeighbourQueueFull) > 0
    );
    // Control: a neighbour that never answered is among those that went.
    let asked = Link::asked(&{
        let peer = Peer { to: 81, ..Peer::new("2001:db8::66:1", 50_000) };
        link.target.hear(peer.syn());
        link.target.frames()
    });
    assert_eq!(asked.len(), 1, "it is asked for anew");
}
