//! Segments of one TCP stream that follow each other, seen as the one packet that they were cut from.
//!
//! ```text
//!   burst:  [eth ip tcp | text 0..1448] [eth ip tcp | text 1448..2896] [eth ip tcp | 2896..3000]
//!   run:    [eth ip tcp]  text 0..1448               text 1448..2896                2896..3000
//! ```
//! A kernel that copies anyway takes a run in one call and, on a veth, hands it to the other end uncut: what its own TCP
//! does there. Only looks at packets; the queue pair sends what this finds.

use std::num::NonZeroU16;

use xsk::Whole;

use crate::packet::{Burst, Packet};

/// Ethernet without a tag: tagged packets go one by one.
const LINK_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const TCP_MAX_BYTES: usize = 60;
const HEADERS_MAX: usize = LINK_BYTES + IPV6_BYTES + TCP_MAX_BYTES;

const TCP: u8 = 6;
const ACK: u8 = 0x10;
pub(crate) const PSH: u8 = 0x08;
/// The flags' place in a TCP header (RFC 9293, section 3.1).
pub(crate) const FLAGS_AT: usize = 13;
pub(crate) const CHECKSUM_AT: usize = 16;

/// Longest IP packet that a length field can say.
const IP_MAX_BYTES: usize = 65_535;

/// Where a segment's parts are.
#[derive(Copy, Clone, Debug)]
struct Shape {
    ipv6: bool,
    /// Bytes before the TCP header, and before the text.
    transport: usize,
    text: usize,
    end: usize,
}

impl Shape {
    /// A packet in one frame: an IP header without options or extensions, then TCP with text and no flag but ACK and PSH.
    fn of(packet: &Packet) -> Option<Self> {
        let bytes = packet.frame(0).filter(|_| packet.frames() == 1)?.bytes();
        let (ipv6, transport) = match bytes.get(12..LINK_BYTES)? {
            [0x08, 0x00] if is_plain_ipv4(bytes.get(LINK_BYTES..)?) => (false, LINK_BYTES + IPV4_BYTES),
            [0x86, 0xdd] if is_plain_ipv6(bytes.get(LINK_BYTES..)?) => (true, LINK_BYTES + IPV6_BYTES),
            _ => return None,
        };
        let tcp = bytes.get(transport..).filter(|tcp| tcp.len() > TCP_BYTES)?;
        let text = transport + usize::from(tcp[12] >> 4) * 4;
        let is_text = tcp[FLAGS_AT] & !PSH == ACK && text >= transport + TCP_BYTES && text < bytes.len();
        is_text.then_some(Self { ipv6, transport, text, end: bytes.len() })
    }

    fn text_bytes(&self) -> usize {
        self.end - self.text
    }
}

fn is_plain_ipv4(ip: &[u8]) -> bool {
    ip.len() > IPV4_BYTES
        && ip[0] == 0x45
        && usize::from(word(ip, 2)) == ip.len()
        // Neither a fragment nor followed by one.
        && word(ip, 6) & 0x3fff == 0
        && ip[9] == TCP
}

fn is_plain_ipv6(ip: &[u8]) -> bool {
    ip.len() > IPV6_BYTES
        && ip[0] >> 4 == 6
        && usize::from(word(ip, 4)) + IPV6_BYTES == ip.len()
        && ip[6] == TCP
}

/// The packets at the front of a burst that are one stretch of a stream.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Run {
    shape: Shape,
    pub packets: usize,
    text_bytes: usize,
    ends_in_push: bool,
}

impl Run {
    /// `None`: the first packet is no text of a stream. A run of one is none to send in one piece.
    pub fn at_front_of(burst: &Burst) -> Option<Self> {
        let mut packets = burst.iter();
        let first = packets.next()?;
        let shape = Shape::of(first)?;
        let head = first.frame(0)?.bytes();
        let pushes = |head: &[u8]| head[shape.transport + FLAGS_AT] & PSH != 0;
        let mut run = Self { shape, packets: 1, text_bytes: shape.text_bytes(), ends_in_push: pushes(head) };
        for packet in packets {
            let Some(next) = Shape::of(packet) else { break };
            let Some(bytes) = packet.frame(0).map(|frame| frame.bytes()) else { break };
            // All but the last are of one length, and only the last may push: so the kernel cuts.
            let full = run.text_bytes == run.packets * shape.text_bytes();
            let fits = shape.text - LINK_BYTES + run.text_bytes + next.text_bytes() <= IP_MAX_BYTES
                && next.text_bytes() <= shape.text_bytes();
            if run.ends_in_push || !full || !fits || !run.goes_on(head, bytes, &next) {
                break;
            }
            run.packets += 1;
            run.text_bytes += next.text_bytes();
            run.ends_in_push = pushes(bytes);
        }
        Some(run)
    }

    /// Whether `next` has the headers of `first` but for what counts on: lengths, checksums, sequence number, PSH.
    fn goes_on(&self, first: &[u8], next: &[u8], shape: &Shape) -> bool {
        let (tcp, text) = (self.shape.transport, self.shape.text);
        let same = |from: usize, to: usize| first[from..to] == next[from..to];
        let network = LINK_BYTES;
        let same_ip = match self.shape.ipv6 {
            true => same(0, network + 4) && same(network + 6, tcp),
            false => same(0, network + 2) && same(network + 4, network + 10) && same(network + 12, tcp),
        };
        (shape.transport, shape.text) == (tcp, text)
            && same_ip
            && same(tcp, tcp + 4)
            && sequence(next, tcp) == sequence(first, tcp).wrapping_add(self.text_bytes as u32)
            && same(tcp + 8, tcp + FLAGS_AT)
            && same(tcp + FLAGS_AT + 1, tcp + CHECKSUM_AT)
            && same(tcp + CHECKSUM_AT + 2, text)
    }

    /// How the kernel is to cut it.
    pub fn whole(&self) -> Whole {
        let segment_bytes = NonZeroU16::new(self.shape.text_bytes() as u16);
        Whole { ipv6: self.shape.ipv6, transport: self.shape.transport as u16, segment_bytes }
    }

    /// The text of every packet of the run, in order.
    pub fn texts<'a>(&self, burst: &'a Burst) -> impl Iterator<Item = &'a [u8]> {
        let text = self.shape.text;
        let frames = burst.iter().take(self.packets).filter_map(|packet| packet.frame(0));
        frames.map(move |frame| &frame.bytes()[text..])
    }

    /// The headers of the whole, its TCP checksum field holding the pseudo-header's sum alone.
    pub fn headers(&self, burst: &Burst) -> Headers {
        let mut headers = Headers { bytes: [0; HEADERS_MAX], len: self.shape.text };
        let first = burst.front().and_then(|packet| packet.frame(0)).map_or(&[][..], |frame| frame.bytes());
        let bytes = &mut headers.bytes[..self.shape.text];
        bytes.copy_from_slice(&first[..self.shape.text]);
        let (ip, tcp) = bytes[LINK_BYTES..].split_at_mut(self.shape.transport - LINK_BYTES);
        let tcp_len = tcp.len() + self.text_bytes;
        let addresses = if self.shape.ipv6 {
            set_word(ip, 4, tcp_len as u16);
            &ip[8..40]
        } else {
            set_word(ip, 2, (IPV4_BYTES + tcp_len) as u16);
            set_word(ip, 10, 0);
            set_word(ip, 10, !fold(sum(ip)));
            &ip[12..20]
        };
        let pseudo_header = pseudo_header(addresses, tcp_len);
        set_word(tcp, CHECKSUM_AT, pseudo_header);
        if self.ends_in_push {
            tcp[FLAGS_AT] |= PSH;
        }
        headers
    }
}

/// Ethernet, one tag at most, IP without options or extensions, TCP: where the TCP header of such a packet begins, if its
/// checksum field holds the sum of the pseudo-header alone. `len` is the packet's, of which `head` is the beginning.
pub(crate) fn unfinished_tcp(head: &[u8], len: usize) -> Option<Whole> {
    let tag = if head.get(12..14)? == [0x81, 0x00] { 4 } else { 0 };
    let network = LINK_BYTES + tag;
    let (ipv6, transport) = match head.get(12 + tag..network)? {
        [0x08, 0x00] if *head.get(network)? == 0x45 => (false, network + IPV4_BYTES),
        [0x86, 0xdd] => (true, network + IPV6_BYTES),
        _ => return None,
    };
    let ip = head.get(network..transport)?;
    let (kind, addresses) = if ipv6 { (ip[6], &ip[8..40]) } else { (ip[9], &ip[12..20]) };
    let field = word(head.get(transport..transport + TCP_BYTES)?, CHECKSUM_AT);
    let unfinished = kind == TCP && field == pseudo_header(addresses, len.checked_sub(transport)?);
    unfinished.then_some(Whole { ipv6, transport: transport as u16, segment_bytes: None })
}

/// RFC 9293, section 3.1; RFC 8200, section 8.1.
fn pseudo_header(addresses: &[u8], tcp_len: usize) -> u16 {
    fold(pseudo_header_sum(addresses, tcp_len))
}

/// The same, not folded.
pub(crate) fn pseudo_header_sum(addresses: &[u8], tcp_len: usize) -> u32 {
    sum(addresses) + u32::from(TCP) + tcp_len as u32
}

/// Ethernet to TCP.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Headers {
    bytes: [u8; HEADERS_MAX],
    len: usize,
}

impl Headers {
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn sequence(bytes: &[u8], tcp: usize) -> u32 {
    u32::from(word(bytes, tcp + 4)) << 16 | u32::from(word(bytes, tcp + 6))
}

/// Of an even number of bytes, few enough not to overflow.
pub(crate) fn sum(bytes: &[u8]) -> u32 {
    bytes.as_chunks::<2>().0.iter().map(|&pair| u32::from(u16::from_be_bytes(pair))).sum()
}

pub(crate) fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Frame;

    /// Text bytes, flags and sequence number of a segment.
    type Spec = (usize, u8, u32);

    fn segment(ipv6: bool, (text, flags, sequence): Spec) -> Packet {
        let network = if ipv6 { IPV6_BYTES } else { IPV4_BYTES };
        let mut bytes = vec![2; LINK_BYTES + network + TCP_BYTES + 12];
        let ip_len = bytes.len() - LINK_BYTES + text;
        let ip = &mut bytes[LINK_BYTES..];
        if ipv6 {
            ip[0] = 0x60;
            set_word(ip, 4, (ip_len - IPV6_BYTES) as u16);
            ip[6] = TCP;
        } else {
            ip[0] = 0x45;
            set_word(ip, 2, ip_len as u16);
            set_word(ip, 6, 0x4000);
            ip[9] = TCP;
        }
        bytes[12..14].copy_from_slice(if ipv6 { &[0x86, 0xdd] } else { &[8, 0] });
        let tcp = &mut bytes[LINK_BYTES + network..];
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[12] = 8 << 4;
        tcp[FLAGS_AT] = flags;
        bytes.extend((0..text).map(|at| (sequence as usize + at) as u8));
        let mut frame = Frame::heap(bytes.len());
        frame.append(&bytes);
        Packet::new(frame)
    }

    fn burst(ipv6: bool, specs: &[Spec]) -> Burst {
        let mut burst = Burst::new();
        specs.iter().for_each(|&spec| burst.push(segment(ipv6, spec)).unwrap());
        burst
    }

    fn run_length(specs: &[Spec]) -> Option<usize> {
        let both = [false, true].map(|ipv6| Run::at_front_of(&burst(ipv6, specs)).map(|run| run.packets));
        assert_eq!(both[0], both[1]);
        both[0]
    }

    #[test]
    fn a_run_ends_with_the_first_segment_that_is_shorter_pushes_or_does_not_follow() {
        assert_eq!(run_length(&[(100, ACK, 0), (100, ACK, 100), (40, ACK, 200), (40, ACK, 240)]), Some(3));
        assert_eq!(run_length(&[(100, ACK, 0), (100, ACK | PSH, 100), (100, ACK, 200)]), Some(2));
        assert_eq!(run_length(&[(100, ACK, 0), (100, ACK, 101)]), Some(1));
        assert_eq!(run_length(&[(100, ACK, 0), (101, ACK, 100)]), Some(1));
        assert_eq!(run_length(&[(100, ACK, u32::MAX - 49), (100, ACK, 50)]), Some(2));
    }

    #[test]
    fn what_is_not_plain_text_of_a_stream_starts_no_run_and_ends_one() {
        let fin = (100, ACK | 1, 0);
        assert_eq!(run_length(&[fin, (100, ACK, 100)]), None);
        assert_eq!(run_length(&[(0, ACK, 0)]), None);
        assert_eq!(run_length(&[(100, ACK, 0), (100, ACK | 1, 100)]), Some(1));
    }

    #[test]
    fn a_segment_of_another_stream_or_window_ends_a_run() {
        for at in [0, 15, LINK_BYTES + 8, LINK_BYTES + 19, 34, 37, 42, 49, 55, 60] {
            let mut burst = burst(false, &[(100, ACK, 0)]);
            let mut other = segment(false, (100, ACK, 100));
            other.frame_mut(0).unwrap().bytes_mut()[at] ^= 1;
            burst.push(other).unwrap();
            assert_eq!(Run::at_front_of(&burst).unwrap().packets, 1, "byte {at}");
        }
    }

    #[test]
    fn a_run_is_no_longer_than_an_ip_packet() {
        let specs: Vec<Spec> = (0..60).map(|number| (1_448, ACK, number * 1_448)).collect();
        assert_eq!(run_length(&specs), Some(45));
    }

    #[test]
    fn the_whole_has_the_lengths_the_sums_and_the_push_of_its_parts() {
        for ipv6 in [false, true] {
            let burst = burst(ipv6, &[(100, ACK, 7), (100, ACK, 107), (30, ACK | PSH, 207)]);
            let run = Run::at_front_of(&burst).unwrap();
            let text: Vec<u8> = run.texts(&burst).flatten().copied().collect();
            assert_eq!(text, (0..230).map(|at| (7 + at) as u8).collect::<Vec<_>>());
            let headers = run.headers(&burst);
            let (ip, tcp) = headers.bytes()[LINK_BYTES..].split_at(run.shape.transport - LINK_BYTES);
            let tcp_len = 32 + 230;
            let (said, addresses) =
                if ipv6 { (word(ip, 4), &ip[8..40]) } else { (word(ip, 2) - 20, &ip[12..20]) };
            assert_eq!((said, run.whole().segment_bytes), (tcp_len, NonZeroU16::new(100)));
            assert!(ipv6 || fold(sum(ip)) == 0xffff);
            assert_eq!(word(tcp, CHECKSUM_AT), fold(sum(addresses) + 6 + u32::from(tcp_len)));
            assert_eq!((tcp[FLAGS_AT], sequence(tcp, 0)), (ACK | PSH, 7));
        }
    }

    #[test]
    fn a_checksum_is_unfinished_if_the_pseudo_headers_sum_is_all_that_it_is() {
        for ipv6 in [false, true] {
            let burst = burst(ipv6, &[(100, ACK, 0), (100, ACK, 100)]);
            let run = Run::at_front_of(&burst).unwrap();
            let mut head = run.headers(&burst).bytes().to_vec();
            let len = head.len() + 200;
            let uncut = Whole { segment_bytes: None, ..run.whole() };
            assert_eq!(unfinished_tcp(&head, len), Some(uncut));
            let tagged = [&head[..12], &[0x81, 0, 0, 7], &head[12..]].concat();
            let behind_tag = Whole { transport: uncut.transport + 4, ..uncut };
            assert_eq!(unfinished_tcp(&tagged, len + 4), Some(behind_tag));
            assert_eq!(unfinished_tcp(&head, len + 1), None);
            assert_eq!(unfinished_tcp(&head[..40], len), None);
            head[run.shape.transport + CHECKSUM_AT] ^= 1;
            assert_eq!(unfinished_tcp(&head, len), None);
        }
    }
}
