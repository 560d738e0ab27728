//! Header prediction (Van Jacobson, 1990), from the frame's first byte on: nearly every packet of a busy stream is untagged
//! Ethernet, IP without options, and TCP with the timestamps option alone (RFC 7323, appendix A). One that is exactly so,
//! for a connection that expects it, goes there in one straight line. Any other is left as it was to `input`, which says
//! what it is: nothing is refused or counted here.

use std::net::Ipv4Addr;

use crate::checksum::Sum;
use crate::hash::bits;
use crate::stack::Stack;
use crate::tcp::boundary::{Ordinary, Tuple};
use crate::wire::{ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, ether_type, protocol, word};
use crate::{Chain, Instant, InterfaceConfig, InterfaceId};

/// The TCP header with the timestamps option.
const TCP_BYTES: usize = 32;
const TCP_CHECKSUM_AT: usize = 16;
const V4_BYTES: usize = ETHERNET_BYTES + IPV4_BYTES + TCP_BYTES;
const V6_BYTES: usize = ETHERNET_BYTES + IPV6_BYTES + TCP_BYTES;
/// The mark of congestion (RFC 3168, section 5): not ordinary.
const CE: u8 = 0b11;
/// Version 4 and a header of five words.
const VERSION_AND_WORDS: u8 = 0x45;
/// More fragments, and the offset of this one (RFC 791, section 3.1).
const FRAGMENT_BITS: u16 = 0x3fff;

/// What the two versions of IP say, each in its own header.
struct Ends {
    /// As [`bits`] has them.
    source: u128,
    destination: u128,
    tuple: Tuple,
    /// The addresses' part of the pseudo-header.
    addresses: Sum,
}

/// Where a packet comes from, and what its neighbour may leave to us.
#[derive(Copy, Clone)]
struct Way {
    interface: InterfaceId,
    unfinished_allowed: bool,
}

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
    #[inline]
    pub(crate) fn take_ordinary(
        &mut self,
        interface: InterfaceId,
        packet: &dyn Chain,
        now: Instant,
    ) -> Prediction {
        let Some(frame) = packet.in_one() else { return Prediction::Unknown };
        let Some(config) = self.output.locals.find(interface) else { return Prediction::Unknown };
        let way = Way { interface, unfinished_allowed: config.unfinished_receive_checksum };
        match link_of(frame, config) {
            Some(ether_type::IPV4) => {
                let Some((head, text)) = frame.split_first_chunk() else { return Prediction::Unknown };
                let (ip, tcp) = split_v4(head);
                let Some(ends) = read_v4(ip, tcp, text.len()) else { return Prediction::Unknown };
                self.hand_to_connection(way, ends, (tcp, text), now)
            }
            Some(ether_type::IPV6) => {
                let Some((head, text)) = frame.split_first_chunk() else { return Prediction::Unknown };
                let (ip, tcp) = split_v6(head);
                let Some(ends) = read_v6(ip, tcp, text.len()) else { return Prediction::Unknown };
                self.hand_to_connection(way, ends, (tcp, text), now)
            }
            _ => Prediction::Unknown,
        }
    }

    /// Inlined for each version of IP, so that neither waits for what the other needs.
    #[inline(always)]
    fn hand_to_connection(
        &mut self,
        way: Way,
        ends: Ends,
        (tcp, text): (&[u8; TCP_BYTES], &[u8]),
        now: Instant,
    ) -> Prediction {
        if !self.output.locals.were_taken(way.interface, ends.source, ends.destination) {
            return Prediction::Unknown;
        }
        let Some(segment) = Ordinary::read(tcp, text) else { return Prediction::Unknown };
        if !is_correct(ends.addresses, tcp, text, way.unfinished_allowed) {
            return Prediction::Unknown;
        }
        if self.tcp.take_ordinary(&ends.tuple, &segment, now) {
            Prediction::Taken
        } else {
            Prediction::Correct
        }
    }
}

/// The EtherType of an untagged frame from a host to us alone.
#[inline(always)]
fn link_of(frame: &[u8], interface: &InterfaceConfig) -> Option<u16> {
    let head: &[u8; ETHERNET_BYTES] = frame.first_chunk()?;
    let [a, b, c, d, e, f, from, ..] = *head;
    let ours = [a, b, c, d, e, f] == interface.mac && from & 1 == 0 && interface.vlan.is_none();
    ours.then(|| word(head, 12))
}

#[inline(always)]
fn split_v4(head: &[u8; V4_BYTES]) -> (&[u8; IPV4_BYTES], &[u8; TCP_BYTES]) {
    let ip = head[ETHERNET_BYTES..].first_chunk().expect("the head has room for both");
    (ip, head.last_chunk().expect("the head has room for both"))
}

#[inline(always)]
fn split_v6(head: &[u8; V6_BYTES]) -> (&[u8; IPV6_BYTES], &[u8; TCP_BYTES]) {
    let ip = head[ETHERNET_BYTES..].first_chunk().expect("the head has room for both");
    (ip, head.last_chunk().expect("the head has room for both"))
}

/// A packet that is whole, as long as its frame, and whose header's sum is right.
#[inline(always)]
fn read_v4(ip: &[u8; IPV4_BYTES], tcp: &[u8; TCP_BYTES], text_len: usize) -> Option<Ends> {
    let plain = ip[0] == VERSION_AND_WORDS
        && ip[1] & CE != CE
        && usize::from(word(ip, 2)) == IPV4_BYTES + TCP_BYTES + text_len
        && word(ip, 6) & FRAGMENT_BITS == 0
        && ip[9] == protocol::TCP
        && Sum::of_header(ip).fold() == 0xffff;
    if !plain {
        return None;
    }
    let addresses: &[u8; 8] = ip.last_chunk().expect("two addresses end the header");
    let address =
        |at: usize| u32::from_be_bytes(*addresses[at..].first_chunk().expect("four bytes are an address"));
    let (source, destination) = (address(0), address(4));
    Some(Ends {
        source: bits(Ipv4Addr::from_bits(source).into()),
        destination: bits(Ipv4Addr::from_bits(destination).into()),
        tuple: Tuple::v4(destination, source, word(tcp, 2), word(tcp, 0)),
        addresses: Sum::of_header(addresses),
    })
}

/// The same without extension headers.
#[inline(always)]
fn read_v6(ip: &[u8; IPV6_BYTES], tcp: &[u8; TCP_BYTES], text_len: usize) -> Option<Ends> {
    let plain = ip[0] >> 4 == 6
        && (ip[1] >> 4) & CE != CE
        && usize::from(word(ip, 4)) == TCP_BYTES + text_len
        && ip[6] == protocol::TCP;
    if !plain {
        return None;
    }
    let addresses: &[u8; 32] = ip.last_chunk().expect("two addresses end the header");
    let address = |at: usize| {
        u128::from_be_bytes(*addresses[at..].first_chunk().expect("sixteen bytes are an address"))
    };
    let (source, destination) = (address(0), address(16));
    let tuple = Tuple::v6(destination, source, word(tcp, 2), word(tcp, 0));
    Some(Ends { source, destination, tuple, addresses: Sum::of_header(addresses) })
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
    sum.fold() == 0xffff
}
