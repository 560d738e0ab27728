//! IPv4 headers: read and check (RFC 791, RFC 1122 section 3.2.1), write, change in place.

use std::net::{IpAddr, Ipv4Addr};

use crate::Discard;
use crate::checksum::{Sum, update};
use crate::header::{Fragment, Header, check_addresses};
use crate::wire::{IPV4_BYTES, set_word, word};

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// Options (RFC 791, section 3.1).
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// Reads the header at `network` of the first chunk. `total_len` counts the whole packet, Ethernet included.
pub(crate) fn parse(chunk: &[u8], network: usize, total_len: usize) -> Result<Header, Discard> {
    let bytes = chunk.get(network..).unwrap_or(&[]);
    if bytes.len() < IPV4_BYTES {
        return Err(Discard::Ipv4Truncated);
    }
    if bytes[0] >> 4 != 4 {
        return Err(Discard::Ipv4Version);
    }
    let header_len = usize::from(bytes[0] & 0xf) * 4;
    if header_len < IPV4_BYTES {
        return Err(Discard::Ipv4HeaderLength);
    }
    let header = bytes.get(..header_len).ok_or(Discard::Ipv4Truncated)?;
    let packet_len = usize::from(word(header, 2));
    if packet_len < header_len || network + packet_len > total_len {
        return Err(Discard::Ipv4TotalLength);
    }
    if Sum::of(header).fold() != 0xffff {
        return Err(Discard::Ipv4Checksum);
    }
    check_options(&header[IPV4_BYTES..])?;
    let (source, destination) = (address_at(header, 12), address_at(header, 16));
    check_addresses(source, destination)?;
    Ok(Header {
        source,
        destination,
        protocol: header[9],
        hops: header[8],
        ecn: header[1] & 3,
        dont_fragment: word(header, 6) & DONT_FRAGMENT != 0,
        network,
        protocol_at: network + 9,
        transport: network + header_len,
        end: network + packet_len,
        fragment: read_fragment(header),
    })
}

fn read_fragment(header: &[u8]) -> Option<Fragment> {
    let flags = word(header, 6);
    (flags & (MORE_FRAGMENTS | OFFSET_MASK) != 0).then(|| Fragment {
        identification: u32::from(word(header, 4)),
        offset: usize::from(flags & OFFSET_MASK) * 8,
        more: flags & MORE_FRAGMENTS != 0,
        named_at: 0,
    })
}

/// Options are skipped, but for source routes, which let a sender choose whom we trust (RFC 7126, section 4.3).
fn check_options(mut options: &[u8]) -> Result<(), Discard> {
    while let [kind, rest @ ..] = options {
        options = match *kind {
            OPTION_END => break,
            OPTION_NOP => rest,
            OPTION_LOOSE_SOURCE_ROUTE | OPTION_STRICT_SOURCE_ROUTE => return Err(Discard::IpSourceRoute),
            _ => {
                let len = usize::from(*rest.first().ok_or(Discard::Ipv4Options)?);
                if len < 2 {
                    return Err(Discard::Ipv4Options);
                }
                options.get(len..).ok_or(Discard::Ipv4Options)?
            }
        };
    }
    Ok(())
}

fn address_at(header: &[u8], at: usize) -> IpAddr {
    let octets: [u8; 4] = header[at..at + 4].try_into().expect("four bytes are an IPv4 address");
    IpAddr::V4(octets.into())
}

/// What a header that we write says.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Fields {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    pub protocol: u8,
    pub hops: u8,
    pub ecn: u8,
    pub identification: u16,
    pub dont_fragment: bool,
    /// Bytes behind the header.
    pub payload_len: usize,
}

/// Writes a header of [`IPV4_BYTES`] with its checksum.
pub(crate) fn write(into: &mut [u8], fields: Fields) {
    let header = &mut into[..IPV4_BYTES];
    header[0] = 0x45;
    header[1] = fields.ecn;
    set_word(header, 2, (IPV4_BYTES + fields.payload_len) as u16);
    set_word(header, 4, fields.identification);
    set_word(header, 6, if fields.dont_fragment { DONT_FRAGMENT } else { 0 });
    header[8] = fields.hops;
    header[9] = fields.protocol;
    header[12..16].copy_from_slice(&fields.source.octets());
    header[16..20].copy_from_slice(&fields.destination.octets());
    write_checksum(header);
}

/// Makes `header` (options included) that of one fragment.
pub(crate) fn set_fragment(header: &mut [u8], offset: usize, more: bool, payload_len: usize) {
    let total = header.len() + payload_len;
    set_word(header, 2, total as u16);
    set_word(header, 6, (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 });
    write_checksum(header);
}

/// Blanks the options that only the first fragment has: those without the copied flag (RFC 791, section 3.1).
pub(crate) fn keep_copied_options(header: &mut [u8]) {
    const COPIED: u8 = 0x80;
    let mut at = IPV4_BYTES;
    while at < header.len() {
        let len = match header[at] {
            OPTION_END => break,
            OPTION_NOP => 1,
            _ => header.get(at + 1).map_or(1, |len| usize::from(*len).max(1)),
        };
        let end = (at + len).min(header.len());
        if header[at] & COPIED == 0 {
            header[at..end].fill(OPTION_NOP);
        }
        at = end;
    }
}

/// Makes `header` that of a whole packet again.
pub(crate) fn set_whole(header: &mut [u8], payload_len: usize) {
    set_fragment(header, 0, false, payload_len);
}

/// Takes one hop off (RFC 1812, section 5.3.1), the checksum following along.
pub(crate) fn lower_hops(header: &mut [u8]) {
    let before = word(header, 8);
    header[8] = header[8].saturating_sub(1);
    let mut change = Sum::default();
    change.add_word(!before);
    change.add_word(word(header, 8));
    let checksum = update(word(header, 10), change);
    set_word(header, 10, checksum);
}

/// Computes the header's checksum anew.
pub(crate) fn write_checksum(header: &mut [u8]) {
    set_word(header, 10, 0);
    let checksum = Sum::of(header).checksum();
    set_word(header, 10, checksum);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; IPV4_BYTES];
        write(
            &mut bytes,
            Fields {
                source: [10, 0, 0, 2].into(),
                destination: [10, 0, 0, 1].into(),
                protocol: 17,
                hops: 64,
                ecn: 1,
                identification: 7,
                dont_fragment: true,
                payload_len: options.len() + payload.len(),
            },
        );
        bytes[0] = 0x45 + (options.len() / 4) as u8;
        bytes.extend_from_slice(options);
        write_checksum(&mut bytes);
        bytes.extend_from_slice(payload);
        bytes
    }

    fn parsed(bytes: &[u8]) -> Result<Header, Discard> {
        parse(bytes, 0, bytes.len())
    }

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        write_checksum(&mut bytes[..20]);
        bytes
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut bytes = packet(&[], b"payload");
        bytes.extend_from_slice(&[0; 9]); // Ethernet padding
        let header = parsed(&bytes).unwrap();
        assert_eq!((header.transport, header.end, header.protocol), (20, 27, 17));
        assert_eq!((header.hops, header.ecn, header.dont_fragment), (64, 1, true));
        assert_eq!(header.fragment, None);
    }

    #[test]
    fn a_short_packet_is_ipv4_truncated() {
        assert_eq!(parsed(&packet(&[], &[])[..19]), Err(Discard::Ipv4Truncated));
        assert_eq!(parsed(&packet(&[1; 8], &[])[..24]), Err(Discard::Ipv4Truncated));
    }

    #[test]
    fn another_version_is_ipv4_version() {
        let mut bytes = packet(&[], &[]);
        bytes[0] = 0x65;
        assert_eq!(parsed(&bytes), Err(Discard::Ipv4Version));
    }

    #[test]
    fn a_header_under_twenty_bytes_is_ipv4_header_length() {
        let mut bytes = packet(&[], &[]);
        bytes[0] = 0x44;
        assert_eq!(parsed(&bytes), Err(Discard::Ipv4HeaderLength));
    }

    #[test]
    fn a_length_that_lies_is_ipv4_total_length() {
        let mut bytes = packet(&[], b"abc");
        bytes[3] += 1;
        assert_eq!(parsed(&with_checksum(bytes.clone())), Err(Discard::Ipv4TotalLength));
        bytes[3] = 19;
        assert_eq!(parsed(&with_checksum(bytes)), Err(Discard::Ipv4TotalLength));
    }

    #[test]
    fn a_wrong_sum_is_ipv4_checksum() {
        let mut bytes = packet(&[], &[]);
        bytes[10] ^= 1;
        assert_eq!(parsed(&bytes), Err(Discard::Ipv4Checksum));
    }

    #[test]
    fn options_are_skipped() {
        let header = parsed(&packet(&[148, 4, 0, 0, 1, 1, 1, 0], b"x")).unwrap();
        assert_eq!((header.transport, header.end), (28, 29));
    }

    #[test]
    fn a_source_route_is_ip_source_route() {
        for kind in [131, 137] {
            let options = [1, kind, 7, 4, 10, 0, 0, 9];
            assert_eq!(parsed(&packet(&options, &[])), Err(Discard::IpSourceRoute));
        }
    }

    #[test]
    fn an_option_that_overruns_is_ipv4_options() {
        for options in [[7, 0, 0, 0], [7, 1, 0, 0], [7, 9, 0, 0], [1, 1, 1, 7]] {
            assert_eq!(parsed(&packet(&options, &[])), Err(Discard::Ipv4Options), "{options:?}");
        }
    }

    #[test]
    fn a_fragment_says_which_part_it_is() {
        let mut bytes = packet(&[], &[0; 8]);
        set_fragment(&mut bytes[..20], 1480, true, 8);
        let fragment = parsed(&bytes).unwrap().fragment.unwrap();
        assert_eq!((fragment.identification, fragment.offset, fragment.more), (7, 1480, true));
    }

    #[test]
    fn a_hop_less_keeps_the_checksum_right() {
        for hops in [1, 2, 64, 255] {
            let mut bytes = packet(&[], &[]);
            bytes[8] = hops;
            let mut bytes = with_checksum(bytes);
            lower_hops(&mut bytes);
            assert_eq!(parsed(&bytes).unwrap().hops, hops - 1);
        }
    }
}
