//! Header prediction (Van Jacobson, 1990), from the frame's first byte on: nearly every packet of a busy stream is untagged
//! Ethernet, IP without options, and TCP with the timestamps option alone (RFC 7323, appendix A). One that is exactly so,
//! for a connection that expects it, goes there in one straight line. Any other is left as it was to `input`, which says
//! what it is: nothing is refused or counted here.

use std::net::IpAddr;

use crate::checksum::Sum;
use crate::recent::{Known, Shared, Way};
use crate::stack::Stack;
use crate::wire::{ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, ether_type, protocol, word};
use crate::{Chain, Instant, InterfaceId};

/// The TCP header with the timestamps option.
const TCP_BYTES: usize = 32;
const TCP_CHECKSUM_AT: usize = 16;
/// Both headers.
const V4_BYTES: usize = IPV4_BYTES + TCP_BYTES;
const V6_BYTES: usize = IPV6_BYTES + TCP_BYTES;
/// The mark of congestion (RFC 3168, section 5): not ordinary.
const CE: u8 = 0b11;
/// Version 4 and a header of five words.
const VERSION_AND_WORDS: u8 = 0x45;
/// More fragments, and the offset of this one (RFC 791, section 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;

/// What became of a packet that was looked at.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prediction {
    /// It was the next segment of an established stream, and its connection has it.
    Taken,
    /// It is for `input`, which need not sum the segment again.
    Correct,
    /// It is for `input`, and nothing is known of it.
    Unknown,
}

impl Stack {
    #[inline(always)]
    pub(crate) fn take_ordinary(
        &mut self,
        interface: InterfaceId,
        packet: &dyn Chain,
        now: Instant,
    ) -> Prediction {
        let Some(frame) = packet.in_one() else { return Prediction::Unknown };
        let way = Way { interface, generation: self.output.generation() };
        let Some((link, rest)) = frame.split_first_chunk() else { return Prediction::Unknown };
        match word(link, 12) {
            ether_type::IPV4 => {
                let Some((head, text)) = rest.split_first_chunk::<V4_BYTES>() else {
                    return Prediction::Unknown;
                };
                let ip = head.first_chunk().expect("the head has room for both");
                let tcp = head.last_chunk().expect("the head has room for both");
                if !is_plain_v4(ip, text.len()) {
                    return Prediction::Unknown;
                }
                let [addresses] = words(&ip[IPV4_BYTES - 8..]);
                let shared = Shared::new(way, link, [addresses, ports(tcp)]);
                let known = match self.recent.find(&shared) {
                    Some(known) => known,
                    None => match self.recognize_v4(shared, ip, link, tcp) {
                        Some(known) => known,
                        None => return Prediction::Unknown,
                    },
                };
                self.hand_over_ordinary(known, Sum::of_words([addresses]), (tcp, text), now)
            }
            ether_type::IPV6 => {
                let Some((head, text)) = rest.split_first_chunk::<V6_BYTES>() else {
                    return Prediction::Unknown;
                };
                let ip = head.first_chunk().expect("the head has room for both");
                let tcp = head.last_chunk().expect("the head has room for both");
                if !is_plain_v6(ip, text.len()) {
                    return Prediction::Unknown;
                }
                let [a, b, c, d] = words(&ip[IPV6_BYTES - 32..]);
                let shared = Shared::new(way, link, [a, b, c, d, ports(tcp)]);
                let known = match self.recent.find(&shared) {
                    Some(known) => known,
                    None => match self.recognize_v6(shared, ip, link, tcp) {
                        Some(known) => known,
                        None => return Prediction::Unknown,
                    },
                };
                self.hand_over_ordinary(known, Sum::of_words([a, b, c, d]), (tcp, text), now)
            }
            _ => Prediction::Unknown,
        }
    }

    /// `addresses` is their sum.
    #[inline(always)]
    fn hand_over_ordinary(
        &mut self,
        known: Known,
        addresses: Sum,
        (tcp, text): (&[u8; TCP_BYTES], &[u8]),
        now: Instant,
    ) -> Prediction {
        if !is_correct(addresses, tcp, text, known.unfinished_allowed) {
            return Prediction::Unknown;
        }
        if self.tcp.take_ordinary(known.flow, tcp, text, now) {
            Prediction::Taken
        } else {
            Prediction::Correct
        }
    }

    #[inline(never)]
    fn recognize_v4(
        &mut self,
        shared: Shared<2>,
        ip: &[u8; IPV4_BYTES],
        link: &[u8; ETHERNET_BYTES],
        tcp: &[u8; TCP_BYTES],
    ) -> Option<Known> {
        let address = |at: usize| {
            let octets: [u8; 4] = *ip[at..].first_chunk().expect("four bytes are an address");
            IpAddr::from(octets)
        };
        let unfinished_allowed = self.check_ends(shared.way(), link, (address(12), address(16)))?;
        let flow = self.tcp.look_up((address(16), word(tcp, 2)), (address(12), word(tcp, 0)))?;
        let known = Known { flow, unfinished_allowed };
        self.recent.remember(&shared, known);
        Some(known)
    }

    #[inline(never)]
    fn recognize_v6(
        &mut self,
        shared: Shared<5>,
        ip: &[u8; IPV6_BYTES],
        link: &[u8; ETHERNET_BYTES],
        tcp: &[u8; TCP_BYTES],
    ) -> Option<Known> {
        let address = |at: usize| {
            let octets: [u8; 16] = *ip[at..].first_chunk().expect("sixteen bytes are an address");
            IpAddr::from(octets)
        };
        let unfinished_allowed = self.check_ends(shared.way(), link, (address(8), address(24)))?;
        let flow = self.tcp.look_up((address(24), word(tcp, 2)), (address(8), word(tcp, 0)))?;
        let known = Known { flow, unfinished_allowed };
        self.recent.remember(&shared, known);
        Some(known)
    }

    /// An untagged frame from a host to us alone, whose addresses passed all checks lately. Whether its neighbour may
    /// leave a checksum unfinished.
    fn check_ends(
        &self,
        way: Way,
        link: &[u8; ETHERNET_BYTES],
        (source, destination): (IpAddr, IpAddr),
    ) -> Option<bool> {
        let interface = self.output.locals.find(way.interface)?;
        let ours = link[..6] == interface.mac && link[6] & 1 == 0 && interface.vlan.is_none();
        let taken = ours && self.output.locals.was_taken(way.interface, source, destination);
        taken.then_some(interface.unfinished_receive_checksum)
    }
}

#[inline(always)]
fn ports(tcp: &[u8; TCP_BYTES]) -> u64 {
    u64::from(u32::from_ne_bytes([tcp[0], tcp[1], tcp[2], tcp[3]]))
}

/// So many words of eight bytes, as they lie.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_ne_bytes(words[index]))
}

/// A packet that is whole, as long as its frame, unmarked, and whose header's sum is right.
#[inline(always)]
fn is_plain_v4(ip: &[u8; IPV4_BYTES], text_len: usize) -> bool {
    ip[0] == VERSION_AND_WORDS
        && ip[1] & CE != CE
        && usize::from(word(ip, 2)) == V4_BYTES + text_len
        && word(ip, 6) & FRAGMENT_BITS == 0
        && ip[9] == protocol::TCP
        && Sum::of_header(ip).is_complete()
}

/// The same without extension headers.
#[inline(always)]
fn is_plain_v6(ip: &[u8; IPV6_BYTES], text_len: usize) -> bool {
    ip[0] >> 4 == 6
        && (ip[1] >> 4) & CE != CE
        && usize::from(word(ip, 4)) == TCP_BYTES + text_len
        && ip[6] == protocol::TCP
}

/// What a neighbour left unfinished says nothing of the text, which need not be read to know that.
#[inline(always)]
fn is_correct(addresses: Sum, tcp: &[u8; TCP_BYTES], text: &[u8], unfinished_allowed: bool) -> bool {
    let mut sum = addresses;
    sum.add_length(protocol::TCP, TCP_BYTES + text.len());
    if unfinished_allowed && word(tcp, TCP_CHECKSUM_AT) == sum.fold() {
        return true;
    }
    sum.add_sum(Sum::of_header(tcp));
    sum.add_sum(Sum::of(text));
    sum.is_complete()
}
