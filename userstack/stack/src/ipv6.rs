//! IPv6 headers and extension headers: read and check (RFC 8200), write.

use std::net::{IpAddr, Ipv6Addr};

use crate::Discard;
use crate::header::{Fragment, Header, check_addresses};
use crate::wire::{ICMP_BYTES, IPV6_BYTES, UDP_BYTES, protocol, set_word, word};

/// Extension headers that a packet may have: each kind once and destination options twice (RFC 8200, section 4.1),
/// and room for one that is out of order.
const MAX_EXTENSIONS: usize = 6;

/// Options of one header that are not padding, and padding bytes on end: seven align anything (RFC 8504, section 5.3;
/// Linux's max_dst_opts_number and max_hbh_opts_number).
const MAX_OPTIONS: usize = 8;
const MAX_PADDING: usize = 7;

pub(crate) const FRAGMENT_HEADER_BYTES: usize = 8;

/// Options that are padding, and the bits that say what to do with an unknown one (RFC 8200, section 4.2).
const OPTION_PAD1: u8 = 0;
const OPTION_PADN: u8 = 1;
const OPTION_UNKNOWN_ACTION_MASK: u8 = 0xc0;

/// Reads the header at `network` of the first chunk. `total_len` counts the whole packet, Ethernet included.
pub(crate) fn parse(chunk: &[u8], network: usize, total_len: usize) -> Result<Header, Discard> {
    let bytes = chunk.get(network..).unwrap_or(&[]);
    if bytes.len() < IPV6_BYTES {
        return Err(Discard::Ipv6Truncated);
    }
    if bytes[0] >> 4 != 6 {
        return Err(Discard::Ipv6Version);
    }
    let end = network + IPV6_BYTES + usize::from(word(bytes, 4));
    if end > total_len {
        return Err(Discard::Ipv6PayloadLength);
    }
    let (source, destination) = (address_at(bytes, 8), address_at(bytes, 24));
    check_addresses(source, destination)?;
    let mut header = Header {
        source,
        destination,
        protocol: bytes[6],
        hops: bytes[7],
        ecn: (bytes[1] >> 4) & 3,
        dont_fragment: true,
        network,
        protocol_at: network + 6,
        transport: network + IPV6_BYTES,
        end,
        fragment: None,
    };
    walk_extensions(chunk, &mut header)?;
    Ok(header)
}

/// Moves `header` past its extension headers, in their order, until the protocol or a fragment.
fn walk_extensions(chunk: &[u8], header: &mut Header) -> Result<(), Discard> {
    for index in 0.. {
        if !is_extension(header.protocol) {
            break;
        }
        if index == MAX_EXTENSIONS {
            return Err(Discard::Ipv6ExtensionsTooMany);
        }
        let at = header.transport;
        let extension = chunk.get(at..header.end.min(chunk.len())).unwrap_or(&[]);
        let len = extension_len(header.protocol, extension)?;
        match header.protocol {
            protocol::HOP_BY_HOP if index > 0 => return Err(Discard::Ipv6ExtensionOrder),
            protocol::HOP_BY_HOP | protocol::DESTINATION_OPTIONS => check_options(&extension[2..len])?,
            // Segments left: somebody is to be routed to further (RFC 5095 forbids type 0, we are no segment router).
            protocol::ROUTING if extension[3] != 0 => return Err(Discard::IpSourceRoute),
            _ => {}
        }
        let fragment =
            (header.protocol == protocol::FRAGMENT).then(|| read_fragment(extension, header.protocol_at));
        header.protocol = extension[0];
        header.transport = at + len;
        header.protocol_at = at;
        // An atomic fragment is whole (RFC 6946): what lies behind it is read on.
        if let Some(fragment) = fragment.filter(|fragment| fragment.more || fragment.offset > 0) {
            header.fragment = Some(fragment);
            if fragment.offset == 0 {
                check_first_fragment(chunk, header)?;
            }
            break;
        }
    }
    Ok(())
}

fn is_extension(number: u8) -> bool {
    use protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(number, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

fn extension_len(number: u8, extension: &[u8]) -> Result<usize, Discard> {
    let len = match (number, extension) {
        (protocol::FRAGMENT, _) => FRAGMENT_HEADER_BYTES,
        (_, [_, units, ..]) => 8 + usize::from(*units) * 8,
        _ => return Err(Discard::Ipv6ExtensionTruncated),
    };
    if extension.len() < len { Err(Discard::Ipv6ExtensionTruncated) } else { Ok(len) }
}

fn read_fragment(extension: &[u8], named_at: usize) -> Fragment {
    let field = word(extension, 2);
    Fragment {
        identification: u32::from_be_bytes([extension[4], extension[5], extension[6], extension[7]]),
        offset: usize::from(field & !7),
        more: field & 1 == 1,
        named_at,
    }
}

/// Options are skipped when their number allows that, else the packet dies. A jumbo payload is such an option.
fn check_options(mut options: &[u8]) -> Result<(), Discard> {
    let (mut known, mut padding) = (0, 0);
    while let [kind, rest @ ..] = options {
        let len = match *kind {
            OPTION_PAD1 => 0,
            kind if kind & OPTION_UNKNOWN_ACTION_MASK != 0 => return Err(Discard::Ipv6OptionRefused),
            _ => 1 + usize::from(*rest.first().ok_or(Discard::Ipv6ExtensionTruncated)?),
        };
        options = rest.get(len..).ok_or(Discard::Ipv6ExtensionTruncated)?;
        (known, padding) = match *kind {
            OPTION_PAD1 | OPTION_PADN => (known, padding + 1 + len),
            _ => (known + 1, 0),
        };
        if known > MAX_OPTIONS || padding > MAX_PADDING {
            return Err(Discard::Ipv6OptionsTooMany);
        }
    }
    Ok(())
}

/// The first fragment has all headers (RFC 7112, section 5): what the others bring can then not change what the packet
/// is. `header` stands behind the fragment header.
fn check_first_fragment(chunk: &[u8], header: &Header) -> Result<(), Discard> {
    let (mut number, mut at) = (header.protocol, header.transport);
    let end = header.end.min(chunk.len());
    for _ in 0..MAX_EXTENSIONS {
        let rest = chunk.get(at..end).unwrap_or(&[]);
        if number == protocol::FRAGMENT {
            return Err(Discard::FragmentNested);
        }
        if !is_extension(number) {
            let least = match number {
                protocol::TCP => TCP_BYTES,
                protocol::UDP => UDP_BYTES,
                protocol::ICMPV6 => ICMP_BYTES,
                _ => 0,
            };
            return if rest.len() < least { Err(Discard::Ipv6FirstFragmentShort) } else { Ok(()) };
        }
        let len = extension_len(number, rest).map_err(|_| Discard::Ipv6FirstFragmentShort)?;
        (number, at) = (rest[0], at + len);
    }
    Err(Discard::Ipv6ExtensionsTooMany)
}

/// What a TCP header has at least (RFC 9293, section 3.1).
const TCP_BYTES: usize = 20;

fn address_at(header: &[u8], at: usize) -> IpAddr {
    let octets: [u8; 16] = header[at..at + 16].try_into().expect("sixteen bytes are an IPv6 address");
    IpAddr::V6(octets.into())
}

/// What a header that we write says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Fields {
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub protocol: u8,
    pub hops: u8,
    pub ecn: u8,
    /// Bytes behind the header.
    pub payload_len: usize,
}

/// Writes a header of [`IPV6_BYTES`].
pub(crate) fn write(into: &mut [u8], fields: Fields) {
    let header = &mut into[..IPV6_BYTES];
    header[..4].copy_from_slice(&[0x60, fields.ecn << 4, 0, 0]);
    set_word(header, 4, fields.payload_len as u16);
    header[6] = fields.protocol;
    header[7] = fields.hops;
    header[8..24].copy_from_slice(&fields.source.octets());
    header[24..40].copy_from_slice(&fields.destination.octets());
}

/// Writes a fragment header of [`FRAGMENT_HEADER_BYTES`].
pub(crate) fn write_fragment_header(
    into: &mut [u8],
    protocol: u8,
    offset: usize,
    more: bool,
    identification: u32,
) {
    into[0] = protocol;
    into[1] = 0;
    set_word(into, 2, offset as u16 | u16::from(more));
    into[4..8].copy_from_slice(&identification.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; IPV6_BYTES];
        write(
            &mut bytes,
            Fields {
                source: "2001:db8::2".parse().unwrap(),
                destination: "2001:db8::1".parse().unwrap(),
                protocol: next_header,
                hops: 64,
                ecn: 2,
                payload_len: rest.len(),
            },
        );
        bytes.extend_from_slice(rest);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Result<Header, Discard> {
        parse(bytes, 0, bytes.len())
    }

    /// An extension header of 8 bytes with one padding option.
    fn padding(next_header: u8) -> [u8; 8] {
        [next_header, 0, 1, 4, 0, 0, 0, 0]
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut bytes = packet(17, b"payload");
        bytes.extend_from_slice(&[0; 3]); // Ethernet padding
        let header = parsed(&bytes).unwrap();
        assert_eq!((header.transport, header.end, header.protocol), (40, 47, 17));
        assert_eq!((header.hops, header.ecn, header.fragment), (64, 2, None));
    }

    #[test]
    fn a_short_packet_is_ipv6_truncated() {
        assert_eq!(parsed(&packet(17, &[])[..39]), Err(Discard::Ipv6Truncated));
    }

    #[test]
    fn another_version_is_ipv6_version() {
        let mut bytes = packet(17, &[]);
        bytes[0] = 0x40;
        assert_eq!(parsed(&bytes), Err(Discard::Ipv6Version));
    }

    #[test]
    fn a_length_that_lies_is_ipv6_payload_length() {
        let mut bytes = packet(17, b"abc");
        bytes[5] += 1;
        assert_eq!(parsed(&bytes), Err(Discard::Ipv6PayloadLength));
    }

    #[test]
    fn extension_headers_are_walked_in_order() {
        let rest = [&padding(60)[..], &padding(43), &[17, 0, 4, 0, 0, 0, 0, 0], b"datagram"].concat();
        let header = parsed(&packet(0, &rest)).unwrap();
        assert_eq!((header.protocol, header.transport, header.end), (17, 64, 72));
    }

    #[test]
    fn hop_by_hop_options_later_than_first_are_ipv6_extension_order() {
        let rest = [padding(0), padding(17)].concat();
        assert_eq!(parsed(&packet(60, &rest)), Err(Discard::Ipv6ExtensionOrder));
    }

    #[test]
    fn a_long_chain_is_ipv6_extensions_too_many() {
        let rest = [padding(60); 9].concat();
        assert_eq!(parsed(&packet(60, &rest)), Err(Discard::Ipv6ExtensionsTooMany));
    }

    #[test]
    fn an_extension_that_overruns_is_ipv6_extension_truncated() {
        assert_eq!(parsed(&packet(60, &[17, 1, 1, 4, 0, 0, 0, 0])), Err(Discard::Ipv6ExtensionTruncated));
        assert_eq!(parsed(&packet(60, &[17])), Err(Discard::Ipv6ExtensionTruncated));
        assert_eq!(parsed(&packet(60, &[17, 0, 1, 9, 0, 0, 0, 0])), Err(Discard::Ipv6ExtensionTruncated));
        assert_eq!(parsed(&packet(44, &[17, 0, 0, 1])), Err(Discard::Ipv6ExtensionTruncated));
    }

    #[test]
    fn a_route_with_segments_left_is_ip_source_route() {
        assert_eq!(parsed(&packet(43, &[17, 0, 0, 1, 0, 0, 0, 0])), Err(Discard::IpSourceRoute));
    }

    #[test]
    fn an_unknown_option_that_must_be_understood_is_ipv6_option_refused() {
        // The jumbo payload option (RFC 2675) among them.
        for kind in [0xc2, 0x40, 0x80] {
            let rest = [17, 0, kind, 4, 0, 1, 0, 0];
            assert_eq!(parsed(&packet(0, &rest)), Err(Discard::Ipv6OptionRefused));
        }
        assert!(parsed(&packet(0, &[17, 0, 0x05, 2, 0, 0, 1, 0])).is_ok(), "router alert may be skipped");
    }

    #[test]
    fn more_options_or_padding_than_anything_needs_is_ipv6_options_too_many() {
        let header = |options: &[u8]| {
            let mut bytes = vec![17, (options.len() / 8) as u8];
            bytes.extend_from_slice(options);
            parsed(&packet(60, &bytes)).err()
        };
        // Router alerts of two bytes each.
        assert_eq!(header(&[&[5, 2, 0, 0].repeat(8)[..], &[1, 4, 0, 0, 0, 0]].concat()), None);
        let nine = [&[5, 2, 0, 0].repeat(9)[..], &[0, 0]].concat();
        assert_eq!(header(&nine), Some(Discard::Ipv6OptionsTooMany));
        assert_eq!(header(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Some(Discard::Ipv6OptionsTooMany));
        assert_eq!(header(&[0; 14]), Some(Discard::Ipv6OptionsTooMany));
    }

    #[test]
    fn a_first_fragment_without_all_headers_is_ipv6_first_fragment_short() {
        let first = |next_header: u8, rest: &[u8]| {
            let mut fragment = [0; FRAGMENT_HEADER_BYTES];
            write_fragment_header(&mut fragment, next_header, 0, true, 1);
            parsed(&packet(44, &[&fragment[..], rest].concat())).err()
        };
        assert_eq!(first(6, &[0; 16]), Some(Discard::Ipv6FirstFragmentShort));
        assert_eq!(first(60, &padding(6)), Some(Discard::Ipv6FirstFragmentShort));
        assert_eq!(first(60, &[6, 3, 1, 4, 0, 0, 0, 0]), Some(Discard::Ipv6FirstFragmentShort));
        assert_eq!(first(44, &[17, 0, 0, 0, 0, 0, 0, 1]), Some(Discard::FragmentNested));
        assert_eq!(first(6, &[0; 24]), None);
        assert_eq!(first(60, &[padding(17), [0; 8]].concat()), None);
    }

    #[test]
    fn a_fragment_says_which_part_it_is() {
        let mut fragment = [0; FRAGMENT_HEADER_BYTES];
        write_fragment_header(&mut fragment, 17, 1448, true, 0xdead_beef);
        let header = parsed(&packet(0, &[&padding(44)[..], &fragment, &[9; 8]].concat())).unwrap();
        assert_eq!((header.protocol, header.transport), (17, 56));
        let fragment = header.fragment.unwrap();
        assert_eq!((fragment.identification, fragment.offset, fragment.more), (0xdead_beef, 1448, true));
        assert_eq!(fragment.named_at, 40);
    }

    #[test]
    fn an_atomic_fragment_is_a_whole_packet() {
        let mut fragment = [0; FRAGMENT_HEADER_BYTES];
        write_fragment_header(&mut fragment, 60, 0, false, 1);
        let header = parsed(&packet(44, &[&fragment[..], &padding(17), b"x"].concat())).unwrap();
        assert_eq!((header.fragment, header.protocol, header.transport), (None, 17, 56));
    }
}
