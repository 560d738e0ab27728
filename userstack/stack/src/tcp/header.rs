//! The TCP header and its options, read and written by hand (RFC 9293, section 3.1).
//!
//! Reading never fails on options: what is malformed ends the list (RFC 9293, MUST-7), what is unknown is skipped.

use super::sequence::Seq;
use crate::Discard;

/// The header without options (RFC 9293, section 3.1).
pub(crate) const MIN_HEADER: usize = 20;
/// Data offset is four bits of 32-bit words.
pub(crate) const MAX_HEADER: usize = 60;
/// Two NOPs and the option: what a timestamp costs each segment (RFC 7323, appendix A).
pub(crate) const TIMESTAMPS_LEN: usize = 12;
/// Blocks that fit beside nothing else (RFC 2018, section 3).
pub(crate) const MAX_SACK_BLOCKS: usize = 4;
/// A shift above 14 is taken as 14 (RFC 7323, section 2.3).
pub(crate) const MAX_WINDOW_SCALE: u8 = 14;

/// How the timestamps option begins where it is the only one (RFC 7323, appendix A).
pub(crate) const TIMESTAMPS_PATTERN: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// Control bits.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u8);

impl Flags {
    pub(crate) const FIN: Self = Self(0x01);
    pub(crate) const SYN: Self = Self(0x02);
    pub(crate) const RST: Self = Self(0x04);
    pub(crate) const PSH: Self = Self(0x08);
    pub(crate) const ACK: Self = Self(0x10);
    /// RFC 3168, section 6.1.
    pub(crate) const ECE: Self = Self(0x40);
    pub(crate) const CWR: Self = Self(0x80);

    pub(crate) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// TSval and TSecr (RFC 7323, section 3.2).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamps {
    pub value: u32,
    pub echo: u32,
}

/// SACK blocks, left edge and right edge, the first received most recently (RFC 2018, section 4).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SackBlocks {
    len: u8,
    blocks: [(Seq, Seq); MAX_SACK_BLOCKS],
}

impl SackBlocks {
    /// Adds a block; beyond the fourth there is no room.
    pub(crate) fn push(&mut self, left: Seq, right: Seq) {
        if let Some(block) = self.blocks.get_mut(usize::from(self.len)) {
            *block = (left, right);
            self.len += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// In the order of the left edges, counted from `origin`.
    pub(crate) fn sort(&mut self, origin: Seq) {
        self.blocks[..usize::from(self.len)].sort_unstable_by_key(|(left, _)| left.since(origin));
    }

    /// The first block, where it reports what arrived twice: it lies before the acknowledgement, or within the second
    /// block (RFC 2883, section 4).
    pub(crate) fn duplicate(&self, ack: Seq) -> Option<(Seq, Seq)> {
        let [(left, right), rest @ ..] = self.as_slice() else { return None };
        let acknowledged = right.at_or_before(ack);
        let within =
            rest.first().is_some_and(|(start, end)| left.at_or_after(*start) && right.at_or_before(*end));
        (left.before(*right) && (acknowledged || within)).then_some((*left, *right))
    }

    pub(crate) fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.len)]
    }
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub mss: Option<u16>,
    pub window_scale: Option<u8>,
    pub sack_permitted: bool,
    pub timestamps: Option<Timestamps>,
    pub sack: SackBlocks,
}

/// A parsed header. The urgent pointer is left out: urgent bytes are ordinary bytes here (RFC 6093, section 6).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: Seq,
    pub ack: Seq,
    pub flags: Flags,
    pub window: u16,
    pub options: Options,
}

impl Header {
    /// Reads a header; the second value is its length with options.
    pub(crate) fn parse(bytes: &[u8]) -> Result<(Self, usize), Discard> {
        let fixed: &[u8; MIN_HEADER] = bytes.first_chunk().ok_or(Discard::TcpTruncated)?;
        let length = usize::from(fixed[12] >> 4) * 4;
        if length < MIN_HEADER {
            return Err(Discard::TcpBadDataOffset);
        }
        let options = bytes.get(MIN_HEADER..length).ok_or(Discard::TcpBadDataOffset)?;
        let header = Self {
            source_port: u16::from_be_bytes([fixed[0], fixed[1]]),
            destination_port: u16::from_be_bytes([fixed[2], fixed[3]]),
            seq: Seq(u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]])),
            ack: Seq(u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]])),
            flags: Flags(fixed[13]),
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            options: Options::parse(options),
        };
        Ok((header, length))
    }

    /// Writes the header with a zero checksum and gives its length, a multiple of four.
    pub(crate) fn write(&self, into: &mut [u8; MAX_HEADER]) -> usize {
        into[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        into[4..8].copy_from_slice(&self.seq.0.to_be_bytes());
        into[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        into[14..16].copy_from_slice(&self.window.to_be_bytes());
        into[16..20].fill(0);
        let length = self.options.write(into);
        into[12] = ((length / 4) as u8) << 4;
        into[13] = self.flags.0;
        length
    }
}

/// What the segments have in common that a connection sends while it hears nothing, but for their window.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Plain {
    pub source_port: u16,
    pub destination_port: u16,
    pub ack: Seq,
    pub timestamps: Option<Timestamps>,
}

impl Plain {
    /// As [`Header::write`], into zeros.
    #[inline]
    pub(crate) fn write(&self, seq: Seq, flags: Flags, window: u16, into: &mut [u8; MAX_HEADER]) -> usize {
        into[0..2].copy_from_slice(&self.source_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        into[8..12].copy_from_slice(&self.ack.0.to_be_bytes());
        into[14..16].copy_from_slice(&window.to_be_bytes());
        let mut length = MIN_HEADER;
        if let Some(Timestamps { value, echo }) = self.timestamps {
            into[20..24].copy_from_slice(&TIMESTAMPS_PATTERN);
            into[24..28].copy_from_slice(&value.to_be_bytes());
            into[28..32].copy_from_slice(&echo.to_be_bytes());
            length += TIMESTAMPS_LEN;
        }
        into[12] = ((length / 4) as u8) << 4;
        set_number_and_flags(into, seq, flags);
        length
    }
}

/// What differs between the segments of one moment.
#[inline]
pub(crate) fn set_number_and_flags(header: &mut [u8; MAX_HEADER], seq: Seq, flags: Flags) {
    header[4..8].copy_from_slice(&seq.0.to_be_bytes());
    header[13] = flags.0;
}

impl Options {
    fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        // What nearly every segment carries (RFC 7323, appendix A).
        if let [NOP, NOP, TIMESTAMPS, 10, value @ ..] = bytes
            && let Some(value) = value.first_chunk::<8>()
            && bytes.len() == TIMESTAMPS_LEN
        {
            options.timestamps = Some(Timestamps::parse(value));
            return options;
        }
        let mut rest = bytes;
        while let [kind, tail @ ..] = rest {
            match *kind {
                END => break,
                NOP => rest = tail,
                kind => {
                    let Some((body, next)) = split_option(rest) else { break };
                    options.take(kind, body);
                    rest = next;
                }
            }
        }
        options
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (MSS, &[high, low]) => self.mss = Some(u16::from_be_bytes([high, low])),
            (WINDOW_SCALE, &[shift]) => self.window_scale = Some(shift.min(MAX_WINDOW_SCALE)),
            (SACK_PERMITTED, &[]) => self.sack_permitted = true,
            (TIMESTAMPS, body) => {
                if let Ok(value) = <&[u8; 8]>::try_from(body) {
                    self.timestamps = Some(Timestamps::parse(value));
                }
            }
            (SACK, body) if body.len().is_multiple_of(8) => {
                for block in body.as_chunks::<8>().0 {
                    let [a, b, c, d, e, f, g, h] = *block;
                    self.sack
                        .push(Seq(u32::from_be_bytes([a, b, c, d])), Seq(u32::from_be_bytes([e, f, g, h])));
                }
            }
            _ => {}
        }
    }

    /// Writes the options behind the fixed header; the length of both. What would not fit is left out: with all of a
    /// SYN's options there is room for two SACK blocks, with timestamps for three.
    fn write(&self, into: &mut [u8; MAX_HEADER]) -> usize {
        let mut cursor = Cursor { into, at: MIN_HEADER };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            cursor.put(&[MSS, 4, high, low]);
        }
        if self.sack_permitted {
            cursor.put(&[NOP, NOP, SACK_PERMITTED, 2]);
        }
        if let Some(Timestamps { value, echo }) = self.timestamps {
            cursor.put(&TIMESTAMPS_PATTERN);
            cursor.put(&value.to_be_bytes());
            cursor.put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            cursor.put(&[NOP, WINDOW_SCALE, 3, shift]);
        }
        let blocks = self.sack.as_slice();
        let fitting = blocks.len().min((MAX_HEADER - cursor.at).saturating_sub(4) / 8);
        if fitting > 0 {
            cursor.put(&[NOP, NOP, SACK, (2 + 8 * fitting) as u8]);
            for (left, right) in &blocks[..fitting] {
                cursor.put(&left.0.to_be_bytes());
                cursor.put(&right.0.to_be_bytes());
            }
        }
        cursor.at
    }
}

impl Timestamps {
    fn parse(body: &[u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = *body;
        Self { value: u32::from_be_bytes([a, b, c, d]), echo: u32::from_be_bytes([e, f, g, h]) }
    }
}

struct Cursor<'a> {
    into: &'a mut [u8; MAX_HEADER],
    at: usize,
}

impl Cursor<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.into[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

/// The body of the option at the front and what follows it; `None` when its length is impossible.
fn split_option(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(*bytes.get(1)?);
    let body = bytes.get(2..length)?;
    Some((body, &bytes[length..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header_with(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; MIN_HEADER + options.len().div_ceil(4) * 4];
        bytes[12] = ((bytes.len() / 4) as u8) << 4;
        bytes[MIN_HEADER..MIN_HEADER + options.len()].copy_from_slice(options);
        bytes
    }

    fn options_of(bytes: &[u8]) -> Options {
        Header::parse(&header_with(bytes)).unwrap().0.options
    }

    #[test]
    fn a_header_cut_short_is_tcp_truncated() {
        assert_eq!(Header::parse(&[0; 19]).unwrap_err(), Discard::TcpTruncated);
    }

    #[test]
    fn a_data_offset_below_five_words_or_past_the_segment_is_tcp_bad_data_offset() {
        let mut bytes = [0; 20];
        bytes[12] = 4 << 4;
        assert_eq!(Header::parse(&bytes).unwrap_err(), Discard::TcpBadDataOffset);
        bytes[12] = 6 << 4;
        assert_eq!(Header::parse(&bytes).unwrap_err(), Discard::TcpBadDataOffset);
    }

    #[test]
    fn the_first_block_reports_a_duplicate_below_the_acknowledgement_or_within_the_second() {
        let duplicate = |blocks: &[(u32, u32)]| {
            let mut option = SackBlocks::default();
            blocks.iter().for_each(|(left, right)| option.push(Seq(*left), Seq(*right)));
            option.duplicate(Seq(1000)).map(|(left, right)| (left.0, right.0))
        };
        assert_eq!(duplicate(&[(500, 1000)]), Some((500, 1000)));
        assert_eq!(duplicate(&[(2000, 2100), (1900, 2100)]), Some((2000, 2100)));
        assert_eq!(duplicate(&[(2000, 2200), (1900, 2100)]), None);
        assert_eq!(duplicate(&[(2000, 2100)]), None);
        assert_eq!(duplicate(&[(900, 500)]), None);
        assert_eq!(duplicate(&[]), None);
    }

    #[test]
    fn an_option_of_length_zero_ends_the_list() {
        let options = options_of(&[MSS, 4, 5, 180, WINDOW_SCALE, 0, TIMESTAMPS, 10]);
        assert_eq!(options.mss, Some(1460));
        assert_eq!((options.window_scale, options.timestamps), (None, None));
    }

    #[test]
    fn an_unknown_option_is_skipped() {
        assert_eq!(options_of(&[253, 4, 1, 2, MSS, 4, 2, 0]).mss, Some(512));
    }

    #[test]
    fn a_window_scale_above_14_is_taken_as_14() {
        assert_eq!(options_of(&[WINDOW_SCALE, 3, 200]).window_scale, Some(14));
    }

    #[test]
    fn a_syn_with_all_options_and_four_sack_blocks_fits_the_header() {
        let mut header = Header { source_port: 1, destination_port: 2, ..Header::default() };
        header.options.mss = Some(1460);
        header.options.window_scale = Some(7);
        header.options.sack_permitted = true;
        header.options.timestamps = Some(Timestamps { value: 1, echo: 2 });
        (0..4).for_each(|n| header.options.sack.push(Seq(n), Seq(n + 1)));
        let mut bytes = [0; MAX_HEADER];
        assert!(header.write(&mut bytes) <= MAX_HEADER);
    }

    proptest! {
        #[test]
        fn a_plain_header_is_written_as_any(
            seq: u32, ack: u32, flags: u8, window: u16, timestamps: Option<(u32, u32)>,
        ) {
            let timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
            let options = Options { timestamps, ..Options::default() };
            let (seq, ack, flags) = (Seq(seq), Seq(ack), Flags(flags));
            let header = Header { source_port: 80, destination_port: 8080, seq, ack, flags, window, options };
            let plain = Plain { source_port: 80, destination_port: 8080, ack, timestamps };
            let (mut one, mut other) = ([0; MAX_HEADER], [0; MAX_HEADER]);
            prop_assert_eq!(header.write(&mut one), plain.write(seq, flags, window, &mut other));
            prop_assert_eq!(one, other);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::parse(&bytes);
        }

        #[test]
        fn any_options_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..=40)) {
            let _ = options_of(&bytes);
        }

        #[test]
        fn what_is_written_is_read_back(
            seq: u32, ack: u32, flags: u8, window: u16, mss: Option<u16>, scale in prop::option::of(0u8..15),
            timestamps: Option<(u32, u32)>, blocks in prop::collection::vec(any::<(u32, u32)>(), 0..3),
        ) {
            let mut header = Header {
                source_port: 80, destination_port: 8080, seq: Seq(seq), ack: Seq(ack), flags: Flags(flags), window,
                options: Options { mss, window_scale: scale, ..Options::default() },
            };
            header.options.timestamps = timestamps.map(|(value, echo)| Timestamps { value, echo });
            blocks.iter().for_each(|(left, right)| header.options.sack.push(Seq(*left), Seq(*right)));
            let mut bytes = [0; MAX_HEADER];
            let length = header.write(&mut bytes);
            prop_assert_eq!(Header::parse(&bytes[..length]).unwrap(), (header, length));
        }
    }
}
