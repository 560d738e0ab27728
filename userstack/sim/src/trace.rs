//! What went over the wires: a hash that two runs of one seed share, and on request the packets themselves.
//!
//! The hash takes times, links, fates, lengths and headers, never payload: ciphertext may differ between two runs that
//! are otherwise the same.

use std::collections::VecDeque;
use std::io;

use nic::Packet;
use nic::pcapng::{Direction, PacketHead, push_interface, push_packet, push_section_header};
use stack::Instant;

use crate::line;
use crate::wire;

/// What became of a packet on a link.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Carried,
    /// Arrives late, so that others overtake it.
    Late,
    /// Arrives twice.
    Duplicated,
    /// Arrives with one bit flipped.
    Corrupted,
    /// Arrives with the mark "congestion experienced".
    Marked,
    /// The same, because the queue was long.
    MarkedByQueue,
    Lost,
    /// Lost in a burst.
    LostInBurst,
    /// The one of so many that is always lost.
    LostByCount,
    /// The direction is dark.
    Dark,
    /// The link's queue was full.
    QueueFull,
    /// Longer than the link's MTU.
    TooLong,
    /// The receiving node's ring was full.
    RingFull,
}

impl Fate {
    pub(crate) fn arrives(self) -> bool {
        matches!(
            self,
            Self::Carried
                | Self::Late
                | Self::Duplicated
                | Self::Corrupted
                | Self::Marked
                | Self::MarkedByQueue
        )
    }

    /// As a capture and the table of what was reached name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Late => "late",
            Self::Duplicated => "duplicated",
            Self::Corrupted => "corrupted",
            Self::Marked => "marked",
            Self::MarkedByQueue => "marked by a queue",
            Self::Lost => "lost",
            Self::LostInBurst => "lost in a burst",
            Self::LostByCount => "lost by count",
            Self::Dark => "dark",
            Self::QueueFull => "queue full",
            Self::TooLong => "too long",
            Self::RingFull => "ring full",
        }
    }

    pub const ALL: [Self; 13] = [
        Self::Carried,
        Self::Late,
        Self::Duplicated,
        Self::Corrupted,
        Self::Marked,
        Self::MarkedByQueue,
        Self::Lost,
        Self::LostInBurst,
        Self::LostByCount,
        Self::Dark,
        Self::QueueFull,
        Self::TooLong,
        Self::RingFull,
    ];
}

/// A packet on its way: when, on which link, from which of its ends.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Passage {
    pub(crate) at: Instant,
    pub(crate) link: usize,
    pub(crate) direction: usize,
}

impl Passage {
    /// A trace has one pcapng interface a link, direction and fate: so Wireshark shows and filters all three.
    fn interface(&self, fate: Fate) -> u32 {
        let place = (self.link * 2 + self.direction) * Fate::ALL.len() + fate as usize;
        u32::try_from(place).expect("a network has few links")
    }

    /// Seen from the link's first end.
    fn seen(&self) -> Direction {
        if self.direction == 0 { Direction::Transmitted } else { Direction::Received }
    }
}

/// The hash, the counts, and the last packets.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: u64,
    fates: [u64; Fate::ALL.len()],
    keep_packets: usize,
    snap_bytes: u32,
    kept: VecDeque<Kept>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    /// A pcapng block.
    block: Vec<u8>,
    link: usize,
    /// What a person reads.
    text: String,
}

/// FNV-1a, 64 bit (draft-eastlake-fnv): the trace is compared with itself, not defended.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl Trace {
    pub(crate) fn new() -> Self {
        Self {
            hash: FNV_OFFSET,
            fates: [0; Fate::ALL.len()],
            keep_packets: 0,
            snap_bytes: 0,
            kept: VecDeque::new(),
        }
    }

    /// The same for two runs of one seed.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Packets that met this fate.
    pub fn count(&self, fate: Fate) -> u64 {
        self.fates[fate as usize]
    }

    /// Packets that were sent, whatever became of them.
    pub fn packets(&self) -> u64 {
        self.fates.iter().sum::<u64>() - self.count(Fate::RingFull)
    }

    /// Keeps the last `packets` packets from now on, `bytes` of each, for
    /// [`Network::write_pcapng`](crate::Network::write_pcapng).
    pub fn keep(&mut self, packets: usize, bytes: u32) {
        (self.keep_packets, self.snap_bytes) = (packets, bytes);
    }

    pub(crate) fn note(&mut self, passage: &Passage, fate: Fate, packet: &Packet) {
        self.fates[fate as usize] += 1;
        self.mix(&passage.at.as_nanos().to_be_bytes());
        self.mix(&[passage.link as u8, passage.direction as u8, fate as u8]);
        self.mix(&(packet.len() as u64).to_be_bytes());
        self.mix(wire::headers(packet.frame(0).map_or(&[], |frame| frame.bytes())));
        if self.keep_packets > 0 {
            self.keep_one(passage, fate, packet);
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    fn keep_one(&mut self, passage: &Passage, fate: Fate, packet: &Packet) {
        if self.kept.len() == self.keep_packets {
            self.kept.pop_front();
        }
        let mut block = Vec::new();
        let head = PacketHead {
            interface: passage.interface(fate),
            nanos: passage.at.as_nanos(),
            direction: passage.seen(),
            snap_bytes: self.snap_bytes,
        };
        push_packet(&mut block, head, packet);
        let way = if passage.direction == 0 { '>' } else { '<' };
        let bytes = packet.frame(0).map_or(&[][..], |frame| frame.bytes());
        let text = format!("{way} {:<15} {}", fate.name(), line::describe(bytes, packet.len()));
        let at = passage.at.as_micros();
        let text = format!("{:>5}.{:06} {{}} {text}", at / 1_000_000, at % 1_000_000);
        self.kept.push_back(Kept { block, link: passage.link, text });
    }

    /// Writes what was kept as a pcapng file: one interface a link, direction and fate.
    pub(crate) fn write_pcapng(&self, links: &[&str], to: &mut dyn io::Write) -> io::Result<()> {
        let mut head = Vec::new();
        push_section_header(&mut head);
        for link in links {
            for direction in [">", "<"] {
                for fate in Fate::ALL {
                    push_interface(
                        &mut head,
                        &format!("{link} {direction} {}", fate.name()),
                        self.snap_bytes,
                    );
                }
            }
        }
        to.write_all(&head)?;
        self.kept.iter().try_for_each(|kept| to.write_all(&kept.block))?;
        to.flush()
    }

    /// What was kept, a line a packet: when, on which link, which way, what became of it, and its headers.
    pub(crate) fn text(&self, links: &[&str]) -> String {
        let name = |kept: &Kept| links.get(kept.link).copied().unwrap_or("?");
        self.kept.iter().map(|kept| kept.text.replacen("{}", name(kept), 1) + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::end::packet_of;

    const AT: Passage = Passage { at: Instant::ZERO, link: 0, direction: 0 };

    fn hash_of(fate: Fate, packet: &[u8]) -> u64 {
        let mut trace = Trace::new();
        trace.note(&AT, fate, &packet_of(&[packet]));
        trace.hash()
    }

    /// An IPv4 UDP packet with eight bytes of payload.
    fn packet() -> Vec<u8> {
        let mut bytes = vec![0; 14 + 20 + 8 + 8];
        bytes[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        bytes[23] = wire::PROTOCOL_UDP;
        bytes
    }

    #[test]
    fn the_hash_takes_headers_and_not_payload() {
        let mut other_payload = packet();
        *other_payload.last_mut().expect("not empty") = 1;
        let mut other_header = packet();
        other_header[35] = 1;
        assert_eq!(hash_of(Fate::Carried, &packet()), hash_of(Fate::Carried, &other_payload));
        assert_ne!(hash_of(Fate::Carried, &packet()), hash_of(Fate::Carried, &other_header));
        assert_ne!(hash_of(Fate::Carried, &packet()), hash_of(Fate::Lost, &packet()));
    }

    #[test]
    fn keeps_the_last_packets_and_writes_them_as_pcapng_blocks() {
        let mut trace = Trace::new();
        trace.keep(2, 16);
        for _ in 0..3 {
            trace.note(&AT, Fate::Late, &packet_of(&[&packet()]));
        }
        let mut file = Vec::new();
        trace.write_pcapng(&["a"], &mut file).expect("memory takes all bytes");
        let mut kinds = Vec::new();
        let mut rest = &file[..];
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().expect("four bytes"));
            let (kind, len) = (word(0), word(4) as usize);
            assert_eq!(word(len - 4) as usize, len, "a block ends with its length");
            kinds.push(kind);
            rest = &rest[len..];
        }
        let interfaces = 2 * Fate::ALL.len();
        let count = |wanted| kinds.iter().filter(|kind| **kind == wanted).count();
        assert_eq!((count(0x0a0d_0d0a), count(1), count(6)), (1, interfaces, 2));
    }
}
