//! A long TCP packet cut into the segments that it stands for, each finished: what a device with segmentation offload
//! does. For queue pairs in memory, and for whoever promised it and cannot just now (a capture wants to see frames).

use std::num::NonZeroU16;

use crate::merge::{CHECKSUM_AT, FLAGS_AT, PSH, fold, pseudo_header_sum, set_word, sum};

/// Ethernet with one tag at most, IPv6, TCP with all its options.
const HEADERS_MAX: usize = 18 + 40 + 60;
const LINK_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
const FIN: u8 = 0x01;
const CWR: u8 = 0x80;
/// Of the sequence number in a TCP header (RFC 9293, section 3.1).
const SEQUENCE_AT: usize = 4;

/// Segments that [`cut`] makes of so much text.
pub fn pieces(text: [&[u8]; 2], segment_bytes: NonZeroU16) -> usize {
    (text[0].len() + text[1].len()).div_ceil(segment_bytes.get().into())
}

/// Gives `each` every segment of `segment_bytes` of text, the last with what is left: its headers, Ethernet to TCP, and
/// its text. `headers` are those of the whole, without IP options or extensions. False, and nothing given: they are not.
///
/// FIN and PSH are the last segment's, CWR is the first one's (RFC 3168, section 6.1.2, as Linux's `tcp_gso_segment`).
pub fn cut(
    headers: &[u8],
    text: [&[u8]; 2],
    segment_bytes: NonZeroU16,
    mut each: impl FnMut(&[u8], [&[u8]; 2]),
) -> bool {
    let Some(shape) = Shape::of(headers) else { return false };
    let segment_bytes = usize::from(segment_bytes.get());
    let total = text[0].len() + text[1].len();
    let sequence = u32::from_be_bytes([0, 1, 2, 3].map(|at| headers[shape.transport + SEQUENCE_AT + at]));
    let mut at = 0;
    while at < total {
        let end = (at + segment_bytes).min(total);
        let mut own = [0; HEADERS_MAX];
        let own = &mut own[..headers.len()];
        own.copy_from_slice(headers);
        let tcp = &mut own[shape.transport..];
        tcp[SEQUENCE_AT..SEQUENCE_AT + 4].copy_from_slice(&sequence.wrapping_add(at as u32).to_be_bytes());
        tcp[FLAGS_AT] &= !(if end < total { FIN | PSH } else { 0 } | if at > 0 { CWR } else { 0 });
        let part = part_of(text, at, end);
        shape.finish(own, part);
        each(own, part);
        at = end;
    }
    true
}

/// Where the headers are.
#[derive(Copy, Clone, Debug)]
struct Shape {
    ipv6: bool,
    network: usize,
    transport: usize,
}

impl Shape {
    fn of(headers: &[u8]) -> Option<Self> {
        let tag = if headers.get(12..LINK_BYTES)? == [0x81, 0x00] { TAG_BYTES } else { 0 };
        let network = LINK_BYTES + tag;
        let (ipv6, transport) = match headers.get(network - 2..=network)? {
            [0x08, 0x00, 0x45] => (false, network + 20),
            [0x86, 0xdd, _] => (true, network + 40),
            _ => return None,
        };
        let tcp = headers.get(transport..)?;
        let fits = tcp.len() >= 20 && tcp.len() == usize::from(tcp[12] >> 4) * 4;
        (fits && headers.len() <= HEADERS_MAX).then_some(Self { ipv6, network, transport })
    }

    /// Lengths and checksums of the segment with this text.
    fn finish(&self, headers: &mut [u8], text: [&[u8]; 2]) {
        let tcp_len = headers.len() - self.transport + text[0].len() + text[1].len();
        let (before, tcp) = headers.split_at_mut(self.transport);
        let ip = &mut before[self.network..];
        let addresses = if self.ipv6 {
            set_word(ip, 4, tcp_len as u16);
            &ip[8..40]
        } else {
            set_word(ip, 2, (ip.len() + tcp_len) as u16);
            set_word(ip, 10, 0);
            set_word(ip, 10, !fold(sum(ip)));
            &ip[12..20]
        };
        set_word(tcp, CHECKSUM_AT, 0);
        let whole = pseudo_header_sum(addresses, tcp_len) + sum(tcp) + u32::from(sum_of_text(text));
        set_word(tcp, CHECKSUM_AT, !fold(whole));
    }
}

/// The bytes `from..until` of the two slices.
fn part_of([first, second]: [&[u8]; 2], from: usize, until: usize) -> [&[u8]; 2] {
    let border = first.len();
    [
        &first[from.min(border)..until.min(border)],
        &second[from.saturating_sub(border)..until.saturating_sub(border)],
    ]
}

/// RFC 1071 over both slices, whatever their lengths: behind an odd one, bytes change places (section 2, part B).
fn sum_of_text([first, second]: [&[u8]; 2]) -> u16 {
    let second_sum = folded(second);
    let second_sum = if first.len() % 2 == 1 { second_sum.swap_bytes() } else { second_sum };
    fold(u32::from(folded(first)) + u32::from(second_sum))
}

/// In words of 32 bits, whose one's complement sum folds to that of 16 (part C).
fn folded(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let total: u64 = words.iter().chain([&last]).map(|word| u64::from(u32::from_be_bytes(*word))).sum();
    let low = (total & 0xffff) + (total >> 16 & 0xffff) + (total >> 32 & 0xffff) + (total >> 48);
    fold(low as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merge::word;

    const SEGMENT: NonZeroU16 = NonZeroU16::new(101).unwrap();

    /// Headers of a packet with so much text, in every field that a cut has to write something wrong.
    fn headers(ipv6: bool, tagged: bool) -> Vec<u8> {
        let mut bytes = vec![2; 12];
        if tagged {
            bytes.extend([0x81, 0, 0, 7]);
        }
        if ipv6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 9, 9, 6, 64]);
            bytes.extend((0..32).map(|byte| byte * 7));
        } else {
            bytes.extend([0x08, 0, 0x45, 2, 9, 9, 0, 0, 0x40, 0, 64, 6, 9, 9, 10, 0, 0, 1, 10, 200, 0, 255]);
        }
        bytes.extend([0, 80, 19, 136, 255, 255, 255, 0, 0, 0, 0, 9]);
        bytes.extend([0x80, 0x10 | PSH | FIN | CWR, 1, 0, 9, 9, 0, 0, 1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6]);
        bytes
    }

    #[test]
    fn every_piece_is_a_segment_with_right_numbers_lengths_and_sums() {
        let text: Vec<u8> = (0..450u32).map(|byte| (byte * 13) as u8).collect();
        for (ipv6, tagged, border) in
            [(false, false, 0), (false, true, 77), (true, false, 150), (true, true, 450), (false, false, 202)]
        {
            let whole = headers(ipv6, tagged);
            let halves = [&text[..border], &text[border..]];
            let (mut count, mut joined) = (0, Vec::new());
            assert!(cut(&whole, halves, SEGMENT, |own, [first, second]| {
                let (transport, network) = (own.len() - 32, 14 + if tagged { 4 } else { 0 });
                let (ip, tcp) = (&own[network..transport], &own[transport..]);
                let tcp_len = tcp.len() + first.len() + second.len();
                assert_eq!(usize::from(if ipv6 { word(ip, 4) } else { word(ip, 2) - 20 }), tcp_len);
                assert!(ipv6 || fold(sum(ip)) == 0xffff);
                let addresses = if ipv6 { &ip[8..40] } else { &ip[12..20] };
                let mut all = [tcp, first, second].concat();
                all.resize(all.len().next_multiple_of(2), 0);
                assert_eq!(fold(pseudo_header_sum(addresses, tcp_len) + sum(&all)), 0xffff, "{border}");
                let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
                assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(joined.len() as u32));
                let flags = match count {
                    0 => 0x10 | CWR,
                    4 => 0x10 | PSH | FIN,
                    _ => 0x10,
                };
                assert_eq!(tcp[FLAGS_AT], flags);
                joined.extend_from_slice(first);
                joined.extend_from_slice(second);
                count += 1;
            }));
            assert_eq!((count, pieces(halves, SEGMENT)), (5, 5));
            assert_eq!(joined, text);
        }
    }

    #[test]
    fn what_is_no_tcp_behind_a_plain_ip_header_is_not_cut() {
        let whole = headers(false, false);
        let mut with_options = whole.clone();
        with_options[14] = 0x46;
        for headers in [&whole[..40], &whole[..60], &with_options, &[]] {
            assert!(!cut(headers, [&[7; 300], &[]], SEGMENT, |_, _| panic!("nothing is given")));
        }
    }
}
