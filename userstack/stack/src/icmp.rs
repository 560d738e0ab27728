//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, the errors that we send, and what the errors that we get say.

use std::net::{IpAddr, SocketAddr};

use crate::checksum::{Sum, update};
use crate::header::Header;
use crate::link::{self, Link};
use crate::wire::{
    HOPS, ICMP_BYTES, IPV4_BYTES, IPV6_BYTES, NDP_ADVERTISEMENT, NDP_SOLICITATION, protocol, set_word, word,
};
use crate::{Chain, Discard, InterfaceConfig, Verdict, ipv4};

/// Types of ICMP.
mod v4 {
    pub const ECHO_REPLY: u8 = 0;
    pub const UNREACHABLE: u8 = 3;
    pub const ECHO_REQUEST: u8 = 8;
    pub const TIME_EXCEEDED: u8 = 11;
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Types of ICMPv6; those under 128 are errors.
mod v6 {
    pub const UNREACHABLE: u8 = 1;
    pub const TOO_BIG: u8 = 2;
    pub const TIME_EXCEEDED: u8 = 3;
    pub const PARAMETER_PROBLEM: u8 = 4;
    pub const FIRST_INFORMATIONAL: u8 = 128;
    pub const ECHO_REQUEST: u8 = 128;
}

/// Longest error message, IP header included (RFC 1812, section 4.3.2.3; RFC 4443, section 2.4 (c)).
const MAX_ERROR_V4: usize = 576;
const MAX_ERROR_V6: usize = 1280;

/// What a message is to us.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    EchoRequest,
    Neighbour,
    Error,
}

/// Reads type and code, after the checksum is verified over all chunks.
pub(crate) fn check(packet: &dyn Chain, header: &Header) -> Result<Kind, Discard> {
    let chunk = packet.chunk(0);
    let Some([kind, code, ..]) = chunk.get(header.transport..header.end.min(chunk.len())) else {
        return Err(Discard::IcmpTruncated);
    };
    if chunk.len() < header.transport + ICMP_BYTES || header.transport_len() < ICMP_BYTES {
        return Err(Discard::IcmpTruncated);
    }
    let mut sum = if header.source.is_ipv4() {
        Sum::default()
    } else {
        Sum::pseudo_header(header.source, header.destination, protocol::ICMPV6, header.transport_len())
    };
    crate::chain::for_each_slice(packet, header.transport, header.end, |slice| sum.add(slice));
    if sum.fold() != 0xffff {
        return Err(Discard::IcmpChecksum);
    }
    match (header.source.is_ipv4(), *kind, *code) {
        (true, v4::ECHO_REQUEST, 0) | (false, v6::ECHO_REQUEST, 0) => Ok(Kind::EchoRequest),
        (true, v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM, _) => Ok(Kind::Error),
        (false, NDP_SOLICITATION | NDP_ADVERTISEMENT, _) => Ok(Kind::Neighbour),
        (false, kind, _) if kind < v6::FIRST_INFORMATIONAL => Ok(Kind::Error),
        _ => Err(Discard::IcmpUnsupported),
    }
}

/// Turns an echo request into its reply where it lies, whatever its length (RFC 1122, section 3.2.2.6; RFC 4443,
/// section 4.2), and sends it back to the neighbour that it came from.
pub(crate) fn answer_echo(
    packet: &mut dyn Chain,
    header: &Header,
    link: &Link,
    interface: &InterfaceConfig,
) -> Result<Verdict, Discard> {
    let chunk = packet.chunk_mut(0);
    let (network, transport) = (header.network, header.transport);
    // Exchanged addresses leave the pseudo-header's sum as it was.
    let reply = if header.source.is_ipv4() {
        swap(&mut chunk[network + 12..network + 20]);
        chunk[network + 8] = HOPS;
        ipv4::write_checksum(&mut chunk[network..transport]);
        u16::from(v4::ECHO_REPLY) << 8
    } else {
        swap(&mut chunk[network + 8..network + 40]);
        chunk[network + 7] = HOPS;
        u16::from(v6::ECHO_REQUEST + 1) << 8
    };
    let message = &mut chunk[transport..];
    let mut change = Sum::default();
    change.add_word(!word(message, 0));
    change.add_word(reply);
    let checksum = update(word(message, 2), change);
    set_word(message, 0, reply);
    set_word(message, 2, checksum);
    if !link::replace_header(packet, link, interface, link.source) {
        return Err(Discard::NoHeadroom);
    }
    Ok(Verdict::Forward(interface.id))
}

/// Exchanges the two halves.
fn swap(pair: &mut [u8]) {
    let (source, destination) = pair.split_at_mut(pair.len() / 2);
    source.swap_with_slice(destination);
}

/// Why a packet is sent back to its sender.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    PortUnreachable,
    ProtocolUnreachable,
    NoRoute,
    /// It may not be fragmented, and only this many IP bytes fit.
    TooBig {
        mtu: u16,
    },
    TimeExceeded,
}

/// Whether an error may be sent about a packet at all (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e)): not about
/// errors, groups, later fragments, or senders that are no host. The caller has refused martian sources.
pub(crate) fn may_report(packet: &dyn Chain, header: &Header, link: &Link) -> bool {
    let about_icmp = match header.protocol {
        protocol::ICMP => packet.chunk(0).get(header.transport).is_none_or(|kind| *kind != v4::ECHO_REQUEST),
        protocol::ICMPV6 => {
            packet.chunk(0).get(header.transport).is_none_or(|kind| *kind < v6::FIRST_INFORMATIONAL)
        }
        _ => false,
    };
    !about_icmp
        && !link.group
        && header.fragment.is_none_or(|fragment| fragment.offset == 0)
        && !header.destination.is_multicast()
        && !header.source.is_unspecified()
}

/// An error message about `packet`, quoting as much of it as fits, with its checksum.
pub(crate) fn write_error(
    into: &mut Vec<u8>,
    problem: Problem,
    header: &Header,
    packet: &dyn Chain,
    source: IpAddr,
) {
    let is_v4 = header.source.is_ipv4();
    let (kind, code, value) = error_codes(problem, is_v4, header);
    into.extend_from_slice(&[kind, code, 0, 0]);
    into.extend_from_slice(&value.to_be_bytes());
    let room = if is_v4 { MAX_ERROR_V4 - IPV4_BYTES } else { MAX_ERROR_V6 - IPV6_BYTES } - ICMP_BYTES;
    let end = header.end.min(header.network + room);
    crate::chain::for_each_slice(packet, header.network, end, |slice| into.extend_from_slice(slice));
    let mut sum = if is_v4 {
        Sum::default()
    } else {
        Sum::pseudo_header(source, header.source, protocol::ICMPV6, into.len())
    };
    sum.add(into);
    set_word(into, 2, sum.checksum());
}

/// Type, code, and the four bytes behind the checksum.
fn error_codes(problem: Problem, is_v4: bool, header: &Header) -> (u8, u8, u32) {
    match (problem, is_v4) {
        (Problem::NoRoute, true) => (v4::UNREACHABLE, 0, 0),
        (Problem::ProtocolUnreachable, true) => (v4::UNREACHABLE, 2, 0),
        (Problem::PortUnreachable, true) => (v4::UNREACHABLE, 3, 0),
        // RFC 1191, section 4.
        (Problem::TooBig { mtu }, true) => (v4::UNREACHABLE, 4, u32::from(mtu)),
        (Problem::TimeExceeded, true) => (v4::TIME_EXCEEDED, 0, 0),
        (Problem::NoRoute, false) => (v6::UNREACHABLE, 0, 0),
        (Problem::PortUnreachable, false) => (v6::UNREACHABLE, 4, 0),
        (Problem::TooBig { mtu }, false) => (v6::TOO_BIG, 0, u32::from(mtu)),
        (Problem::TimeExceeded, false) => (v6::TIME_EXCEEDED, 0, 0),
        // An unrecognized next header, and where its number is.
        (Problem::ProtocolUnreachable, false) => {
            (v6::PARAMETER_PROBLEM, 1, (header.protocol_at - header.network) as u32)
        }
    }
}

/// What an error that we got says of the packet that it quotes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Port or protocol unreachable.
    Refused,
    /// Network or host unreachable, time exceeded, parameter problem.
    Unreachable,
    TooBig {
        mtu: u16,
    },
}

/// The packet that an error quotes: as we, or a session's other end, sent it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    pub report: Report,
    pub protocol: u8,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    /// The first four bytes behind the ports: TCP's sequence number.
    pub sequence: u32,
    /// Where the quoted IP header and the quoted protocol's header begin.
    pub network: usize,
    pub transport: usize,
    /// IP bytes of the quoted packet when it was whole.
    pub packet_len: usize,
}

/// Bytes of a quoted transport header that must be there (RFC 792): ports and four more.
const QUOTED_TRANSPORT_BYTES: usize = 8;

/// Reads the packet that an error quotes. Nothing in it is trusted but as a name for something that we know.
pub(crate) fn read_quote(chunk: &[u8], header: &Header) -> Result<Quote, Discard> {
    let message = chunk.get(header.transport..header.end.min(chunk.len())).ok_or(Discard::IcmpTruncated)?;
    let quoted = message.get(ICMP_BYTES..).ok_or(Discard::IcmpTruncated)?;
    let is_v4 = header.source.is_ipv4();
    let (source, destination, protocol, header_len, packet_len) =
        if is_v4 { quoted_v4(quoted)? } else { quoted_v6(quoted)? };
    let transport = quoted.get(header_len..header_len + QUOTED_TRANSPORT_BYTES).ok_or(Discard::IcmpQuote)?;
    Ok(Quote {
        report: read_report(message, is_v4),
        protocol,
        source: SocketAddr::new(source, word(transport, 0)),
        destination: SocketAddr::new(destination, word(transport, 2)),
        sequence: u32::from_be_bytes([transport[4], transport[5], transport[6], transport[7]]),
        network: header.transport + ICMP_BYTES,
        transport: header.transport + ICMP_BYTES + header_len,
        packet_len,
    })
}

pub(crate) fn read_report(message: &[u8], is_v4: bool) -> Report {
    let value = u32::from_be_bytes([message[4], message[5], message[6], message[7]]);
    match (is_v4, message[0], message[1]) {
        (true, v4::UNREACHABLE, 2 | 3) | (false, v6::UNREACHABLE, 4) => Report::Refused,
        (true, v4::UNREACHABLE, 4) => Report::TooBig { mtu: value as u16 },
        (false, v6::TOO_BIG, _) => Report::TooBig { mtu: u16::try_from(value).unwrap_or(u16::MAX) },
        _ => Report::Unreachable,
    }
}

type Quoted = (IpAddr, IpAddr, u8, usize, usize);

/// A first fragment, or a whole packet, is what ports can be read from.
fn quoted_v4(quoted: &[u8]) -> Result<Quoted, Discard> {
    let header_len = usize::from(quoted.first().ok_or(Discard::IcmpQuote)? & 0xf) * 4;
    if quoted[0] >> 4 != 4
        || header_len < IPV4_BYTES
        || quoted.len() < header_len
        || word(quoted, 6) & 0x1fff != 0
    {
        return Err(Discard::IcmpQuote);
    }
    let address = |at: usize| IpAddr::from([quoted[at], quoted[at + 1], quoted[at + 2], quoted[at + 3]]);
    Ok((address(12), address(16), quoted[9], header_len, usize::from(word(quoted, 2))))
}

/// What we send has no extension header but a fragment's.
fn quoted_v6(quoted: &[u8]) -> Result<Quoted, Discard> {
    if quoted.len() < IPV6_BYTES || quoted[0] >> 4 != 6 {
        return Err(Discard::IcmpQuote);
    }
    let address = |at: usize| {
        let octets: [u8; 16] = quoted[at..at + 16].try_into().expect("sixteen bytes are an IPv6 address");
        IpAddr::from(octets)
    };
    let packet_len = IPV6_BYTES + usize::from(word(quoted, 4));
    let (mut protocol, mut header_len) = (quoted[6], IPV6_BYTES);
    if protocol == protocol::FRAGMENT {
        let fragment = quoted.get(IPV6_BYTES..IPV6_BYTES + 8).ok_or(Discard::IcmpQuote)?;
        if word(fragment, 2) & !7 != 0 {
            return Err(Discard::IcmpQuote);
        }
        (protocol, header_len) = (fragment[0], IPV6_BYTES + 8);
    }
    Ok((address(8), address(24), protocol, header_len, packet_len))
}

/// What fits, by a router that says so. One that says zero knows no better (before RFC 1191): then the next lower of
/// the usual MTUs (RFC 1191, section 7.1). One that says no less than the packet had does not concern it: `None`.
pub(crate) fn believable_mtu(mtu: u16, packet_len: usize) -> Option<u16> {
    const PLATEAUS: [u16; 10] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 576, 552, 508];
    let mtu = match mtu {
        0 => *PLATEAUS.iter().find(|plateau| usize::from(**plateau) < packet_len)?,
        mtu => mtu,
    };
    (usize::from(mtu) < packet_len).then_some(mtu)
}
