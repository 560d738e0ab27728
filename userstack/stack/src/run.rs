//! Segments of one TCP stream that follow each other in a burst, seen as the one that they were cut from (generic receive
//! offload): the headers of the first, and the text of all where it lies.
//!
//! ```text
//!   burst:  [eth ip tcp | text 0..1448] [eth ip tcp | 1448..2896] [eth ip tcp | 2896..3000] [another]
//!   run:    [eth ip tcp | text 0..1448              | 1448..2896              | 2896..3000]
//! ```
//!
//! This only looks at headers: `burst` verifies what it finds and gives it to the connection. A run goes on while nothing
//! changes but what counts on, as in Linux (`tcp_gro_receive`): sequence number, a timestamp that may rise, the IPv4
//! identification, checksums. What says something by itself ends it or never begins one: flags other than ACK, a mark of
//! congestion, another acknowledgement or window, SACK blocks. A push ends it behind its segment, and so does a segment
//! shorter than the first.

use crate::wire::{ETHERNET_BYTES, IPV4_BYTES, IPV6_BYTES, VLAN_TAG_BYTES, ether_type, protocol, word};

/// Most segments that are taken as one: a queue pair's burst has no more.
pub const RUN_SEGMENTS: usize = 64;

/// A TCP header without options and one with timestamps alone, as nearly all have them (RFC 7323, appendix A).
const TCP_BYTES: usize = 20;
const TCP_WITH_TIMESTAMPS_BYTES: usize = 32;
/// NOP, NOP, kind 8, length 10.
const TIMESTAMPS: [u8; 4] = [1, 1, 8, 10];
const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
/// All headers that a segment of a run may have (a tag, IPv6, timestamps: 90 bytes), in whole words, and what is compared of
/// a packet at once. A packet shorter than that is of no run.
const HEAD_BYTES: usize = 96;
/// RFC 3168, section 5.
const ECN_MASK: u8 = 0b11;

/// Packets of a burst, oldest first, to look at.
pub trait Pieces {
    fn count(&self) -> usize;

    /// The `index`th packet from Ethernet onwards; empty where it does not lie in one piece.
    fn piece(&self, index: usize) -> &[u8];
}

/// The segments at the front of a burst that are one stretch of a stream: two at least.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    shape: Shape,
    packets: usize,
    text_bytes: usize,
}

/// Where a segment's parts are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Shape {
    ipv6: bool,
    network: usize,
    transport: usize,
    text: usize,
    end: usize,
    first_sequence: u32,
}

impl Run {
    /// `None`: the first two packets are not of one run.
    pub fn at_front_of(pieces: &dyn Pieces) -> Option<Self> {
        if pieces.count() < 2 {
            return None;
        }
        let first = pieces.piece(0);
        let shape = Shape::of(first)?;
        let (head, mask) = (first.first_chunk::<HEAD_BYTES>()?, shape.mask());
        if shape.pushes(head) {
            return None;
        }
        let mut run = Self { shape, packets: 1, text_bytes: shape.text_bytes() };
        let mut last = head;
        while run.packets < pieces.count().min(RUN_SEGMENTS) {
            let next = pieces.piece(run.packets);
            let Some(next_head) = next.first_chunk::<HEAD_BYTES>() else { break };
            if !same(head, next_head, &mask) || !run.counts_on(last, next_head, next.len()) {
                break;
            }
            run.packets += 1;
            run.text_bytes += next.len() - shape.text;
            if next.len() < first.len() || shape.pushes(next_head) {
                break;
            }
            last = next_head;
        }
        (run.packets > 1).then_some(run)
    }

    /// How many packets it is of.
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// Of the segments' text, all together.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// Of the text of the first, which none is longer than.
    pub(crate) fn segment_bytes(&self) -> usize {
        self.shape.text_bytes()
    }

    /// Where the text begins in each packet.
    pub(crate) fn text_at(&self) -> usize {
        self.shape.text
    }

    pub(crate) fn transport_at(&self) -> usize {
        self.shape.transport
    }

    /// The IPv4 header's place in each packet; IPv6 has no sum to check.
    pub(crate) fn ipv4_header(&self) -> Option<std::ops::Range<usize>> {
        (!self.shape.ipv6).then_some(self.shape.network..self.shape.transport)
    }

    /// Whether what differs from one segment to the next does so as it must: lengths, sequence number, a clock that does not
    /// go back.
    #[inline]
    fn counts_on(&self, last: &[u8; HEAD_BYTES], next: &[u8; HEAD_BYTES], len: usize) -> bool {
        let Shape { ipv6, network, transport, text, end, first_sequence } = self.shape;
        let said = if ipv6 {
            IPV6_BYTES + usize::from(word(next, network + 4))
        } else {
            word(next, network + 2).into()
        };
        let passed = || number(next, text - 8).wrapping_sub(number(last, text - 8)) as i32;
        len <= end
            && len > text
            && said == len - network
            && number(next, transport + 4) == first_sequence.wrapping_add(self.text_bytes as u32)
            && (text == transport + TCP_BYTES || passed() >= 0)
    }
}

impl Shape {
    /// At most one tag, an IP header without options or extensions, then TCP with text, no flag but ACK and PSH, and no
    /// option but timestamps.
    fn of(packet: &[u8]) -> Option<Self> {
        let tagged = word(packet.get(..ETHERNET_BYTES)?, 12) == ether_type::VLAN;
        let network = ETHERNET_BYTES + if tagged { VLAN_TAG_BYTES } else { 0 };
        let ip = packet.get(network..)?;
        let (ipv6, transport) = match word(packet, network - 2) {
            ether_type::IPV4 if is_plain_ipv4(ip) => (false, network + IPV4_BYTES),
            ether_type::IPV6 if is_plain_ipv6(ip) => (true, network + IPV6_BYTES),
            _ => return None,
        };
        let tcp = packet.get(transport..).filter(|tcp| tcp.len() > TCP_BYTES)?;
        let header = match tcp[12] {
            0x50 => TCP_BYTES,
            0x80 if tcp.get(TCP_BYTES..TCP_BYTES + 4)? == TIMESTAMPS => TCP_WITH_TIMESTAMPS_BYTES,
            _ => return None,
        };
        let is_text = tcp[13] & !PSH == ACK && tcp.len() > header;
        let (text, end) = (transport + header, packet.len());
        let first_sequence = number(packet, transport + 4);
        is_text.then_some(Self { ipv6, network, transport, text, end, first_sequence })
    }

    /// Ones where the headers of all segments are the same: but for lengths, the IPv4 identification, checksums, sequence
    /// number, PSH, the urgent pointer and the timestamp.
    fn mask(&self) -> [u8; HEAD_BYTES] {
        let mut mask = [0; HEAD_BYTES];
        mask[..self.text].fill(0xff);
        if self.ipv6 {
            mask[self.network + 4..self.network + 6].fill(0);
        } else {
            mask[self.network + 2..self.network + 6].fill(0);
            mask[self.network + 10..self.network + 12].fill(0);
        }
        let tcp = &mut mask[self.transport..self.text];
        tcp[4..8].fill(0);
        tcp[13] = !PSH;
        tcp[16..20].fill(0);
        if let Some(value) = tcp.get_mut(24..28) {
            value.fill(0);
        }
        mask
    }

    #[inline(always)]
    fn pushes(&self, head: &[u8; HEAD_BYTES]) -> bool {
        head[self.transport + 13] & PSH != 0
    }

    fn text_bytes(&self) -> usize {
        self.end - self.text
    }
}

/// Whether two packets begin the same where `mask` has ones.
#[inline(always)]
fn same(first: &[u8; HEAD_BYTES], next: &[u8; HEAD_BYTES], mask: &[u8; HEAD_BYTES]) -> bool {
    let words = |bytes: &[u8; HEAD_BYTES], at: usize| {
        u64::from_ne_bytes(std::array::from_fn(|byte| bytes[at * 8 + byte]))
    };
    let differs = |at: usize| (words(first, at) ^ words(next, at)) & words(mask, at);
    (0..HEAD_BYTES / 8).fold(0, |differences, at| differences | differs(at)) == 0
}

fn is_plain_ipv4(ip: &[u8]) -> bool {
    ip.len() > IPV4_BYTES
        && ip[0] == 0x45
        && ip[1] & ECN_MASK != ECN_MASK
        && usize::from(word(ip, 2)) == ip.len()
        // Neither a fragment nor followed by one.
        && word(ip, 6) & 0x3fff == 0
        && ip[9] == protocol::TCP
}

fn is_plain_ipv6(ip: &[u8]) -> bool {
    ip.len() > IPV6_BYTES
        && ip[0] >> 4 == 6
        && (ip[1] >> 4) & ECN_MASK != ECN_MASK
        && usize::from(word(ip, 4)) + IPV6_BYTES == ip.len()
        && ip[6] == protocol::TCP
}

#[inline(always)]
fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Burst(Vec<Vec<u8>>);

    impl Pieces for Burst {
        fn count(&self) -> usize {
            self.0.len()
        }

        fn piece(&self, index: usize) -> &[u8] {
            &self.0[index]
        }
    }

    /// Text of so many bytes at a place of the stream, behind headers with timestamps.
    fn segment(ipv6: bool, at: u32, len: usize) -> Vec<u8> {
        let tcp_len = TCP_WITH_TIMESTAMPS_BYTES + len;
        let mut bytes = vec![2; 12];
        if ipv6 {
            bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, (tcp_len >> 8) as u8, tcp_len as u8, protocol::TCP, 64]);
            bytes.extend([7; 32]);
        } else {
            let ip_len = IPV4_BYTES + tcp_len;
            bytes.extend([0x08, 0, 0x45, 2, (ip_len >> 8) as u8, ip_len as u8, 0, 0, 0x40, 0]);
            bytes.extend([64, protocol::TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        bytes.extend([0, 80, 19, 136]);
        bytes.extend(at.to_be_bytes());
        bytes.extend([0, 0, 0, 9, 0x80, ACK, 1, 0, 0, 0, 0, 0]);
        bytes.extend(TIMESTAMPS);
        bytes.extend([0, 0, 0, 5, 0, 0, 0, 6]);
        bytes.resize(bytes.len() + len, 0);
        bytes
    }

    fn packets(burst: Vec<Vec<u8>>) -> usize {
        Run::at_front_of(&Burst(burst)).map_or(1, |run| run.packets())
    }

    #[test]
    fn segments_that_follow_each_other_are_one_run_up_to_the_first_that_is_shorter() {
        for ipv6 in [false, true] {
            let places = [(u32::MAX - 50, 100), (49, 100), (149, 60), (209, 60)];
            let burst = Burst(places.iter().map(|&(at, len)| segment(ipv6, at, len)).collect());
            let run = Run::at_front_of(&burst).unwrap();
            assert_eq!((run.packets(), run.text_bytes(), run.segment_bytes()), (3, 260, 100));
            assert_eq!(run.ipv4_header().is_some(), !ipv6);
            assert_eq!(burst.piece(0).len() - run.text_at(), 100);
        }
    }

    #[test]
    fn what_does_not_follow_or_is_longer_is_of_another_run() {
        for (at, len) in [(101, 100), (99, 100), (0, 100), (100, 101), (100, 0)] {
            assert_eq!(packets(vec![segment(false, 0, 100), segment(false, at, len)]), 1, "{at} {len}");
        }
        assert_eq!(packets(vec![segment(false, 0, 100), segment(true, 100, 100)]), 1);
        assert_eq!(packets(vec![segment(false, 0, 100), vec![]]), 1);
        assert_eq!(packets(vec![segment(false, 0, 100)]), 1);
        assert_eq!(packets(vec![]), 1);
    }

    /// Place in the packet, by what it is.
    const IPV4_AT: usize = 14;
    const TCP_AT: usize = 34;

    #[test]
    fn a_byte_that_differs_in_what_is_the_same_all_along_ends_a_run() {
        let same = [
            ("hardware address", 0),
            ("class and ECN", IPV4_AT + 1),
            ("flags and fragment", IPV4_AT + 6),
            ("hops", IPV4_AT + 8),
            ("protocol", IPV4_AT + 9),
            ("source", IPV4_AT + 15),
            ("destination", IPV4_AT + 19),
            ("source port", TCP_AT + 1),
            ("destination port", TCP_AT + 3),
            ("acknowledgement", TCP_AT + 11),
            ("data offset", TCP_AT + 12),
            ("flags", TCP_AT + 13),
            ("window", TCP_AT + 15),
            ("kind of option", TCP_AT + 22),
            ("echo", TCP_AT + 31),
        ];
        for (what, at) in same {
            let (first, mut second) = (segment(false, 0, 100), segment(false, 100, 100));
            second[at] ^= 1;
            assert_eq!(packets(vec![first, second]), 1, "{what}");
        }
        for at in [IPV4_AT + 4, IPV4_AT + 10, TCP_AT + 16, TCP_AT + 60] {
            let (first, mut second) = (segment(false, 0, 100), segment(false, 100, 100));
            second[at] ^= 1;
            assert_eq!(packets(vec![first, second]), 2, "byte {at} may differ");
        }
    }

    #[test]
    fn a_push_ends_a_run_behind_its_segment() {
        let mut burst: Vec<_> = (0..4).map(|n| segment(false, n * 100, 100)).collect();
        burst[1][TCP_AT + 13] |= PSH;
        assert_eq!(packets(burst.clone()), 2);
        burst.remove(0);
        assert_eq!(packets(burst), 1);
    }

    #[test]
    fn a_timestamp_may_rise_and_not_fall() {
        let stamped = |at, value| {
            let mut segment = segment(false, at, 100);
            segment[TCP_AT + 27] = value;
            segment
        };
        assert_eq!(packets(vec![stamped(0, 5), stamped(100, 6), stamped(200, 6), stamped(300, 5)]), 3);
    }

    #[test]
    fn what_says_something_by_itself_begins_no_run() {
        for (at, value) in [
            (TCP_AT + 13, ACK | 0x01),
            (TCP_AT + 13, ACK | 0x20),
            (TCP_AT + 13, ACK | 0x40),
            (TCP_AT + 13, ACK | 0x80),
            (TCP_AT + 12, 0x81),
            (TCP_AT + 22, 5),
            (IPV4_AT, 0x46),
            (IPV4_AT + 1, 0b11),
            (IPV4_AT + 6, 0x20),
            (IPV4_AT + 9, protocol::UDP),
        ] {
            let burst = (0..2).map(|n| {
                let mut segment = segment(false, n * 100, 100);
                segment[at] = value;
                segment
            });
            assert_eq!(packets(burst.collect()), 1, "byte {at} is {value}");
        }
        let marked = (0..2).map(|n| {
            let mut segment = segment(true, n * 100, 100);
            segment[IPV4_AT + 1] = 0x30;
            segment
        });
        assert_eq!(packets(marked.collect()), 1);
    }

    #[test]
    fn a_tag_is_part_of_what_is_the_same() {
        let tagged = |at, vlan| {
            let plain = segment(false, at, 100);
            [&plain[..12], &[0x81, 0, 0, vlan], &plain[12..]].concat()
        };
        assert_eq!(packets(vec![tagged(0, 7), tagged(100, 7), tagged(200, 8)]), 2);
    }

    #[test]
    fn a_run_has_an_end() {
        let burst = (0..100).map(|n| segment(false, n * 100, 100)).collect();
        assert_eq!(packets(burst), RUN_SEGMENTS);
    }
}
