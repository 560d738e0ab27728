//! How a media stream fares, seen from its RTP headers (RFC 3550): loss, reordering, duplicates, jitter.
//!
//! Nobody says which datagrams are RTP. A stream is believed when version and payload type are plausible and its
//! sequence numbers follow each other (appendix A.1's probation). The clock rate is that of the static payload types
//! (RFC 3551, section 6); dynamic ones are counted at 90 kHz, which is video's, since the rate is in a session
//! description that we do not see: their jitter in time is right for video and proportional for the rest.

use std::time::Duration;

use crate::Instant;

/// Streams that one session's statistics hold: audio, video, and their retransmissions.
pub(crate) const MAX_STREAMS: usize = 4;

/// RFC 3550, appendix A.1.
const MIN_SEQUENTIAL: u8 = 2;
const MAX_DROPOUT: u16 = 3000;
const MAX_MISORDER: u16 = 100;

/// Header without contributing sources (RFC 3550, section 5.1).
pub(crate) const HEADER_BYTES: usize = 12;

/// What is known of one stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RtpStream {
    pub ssrc: u32,
    pub payload_type: u8,
    /// Sent by the session's client; else by its endpoint.
    pub from_client: bool,
    /// Packets, duplicates not among them.
    pub received: u64,
    /// Packets that the sequence numbers say were sent (appendix A.3).
    pub expected: u64,
    /// Packets that came after one with a higher sequence number.
    pub reordered: u64,
    pub duplicates: u64,
    /// Interarrival jitter (section 6.4.1, appendix A.8).
    pub jitter: Duration,
}

impl RtpStream {
    /// Packets that never came (appendix A.3; more may come than are expected once it began again).
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }
}

/// The fields that statistics need.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rtp {
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
}

impl Rtp {
    /// `None`: it cannot be RTP. Payload types 64 to 95 are RTCP's (RFC 5761, section 4).
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let header = payload.get(..HEADER_BYTES)?;
        let contributing = usize::from(header[0] & 0xf);
        let payload_type = header[1] & 0x7f;
        if header[0] >> 6 != 2
            || payload.len() < HEADER_BYTES + contributing * 4
            || (64..96).contains(&payload_type)
        {
            return None;
        }
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let sequence = u16::from_be_bytes([header[2], header[3]]);
        Some(Self { payload_type, sequence, timestamp: word(4), ssrc: word(8) })
    }
}

/// Ticks a second of a payload type (RFC 3551, tables 4 and 5).
fn clock_rate(payload_type: u8) -> u32 {
    match payload_type {
        0 | 3 | 4 | 5 | 7 | 8 | 9 | 12 | 13 | 15 | 18 => 8_000,
        6 => 16_000,
        10 | 11 => 44_100,
        16 => 11_025,
        17 => 22_050,
        _ => 90_000,
    }
}

/// The streams of one session.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: [Option<Stream>; MAX_STREAMS],
}

impl Streams {
    /// A packet of the session that may be RTP.
    pub fn on_packet(&mut self, rtp: Rtp, from_client: bool, now: Instant) {
        let known = |stream: &Option<Stream>| {
            stream.as_ref().is_some_and(|stream| stream.ssrc == rtp.ssrc && stream.from_client == from_client)
        };
        if let Some(stream) = self.streams.iter_mut().find(|stream| known(stream)).and_then(Option::as_mut) {
            stream.on_packet(rtp, now);
            return;
        }
        // A new source takes a free place, or that of one that has not proved itself.
        let free = |stream: &Option<Stream>| stream.as_ref().is_none_or(|stream| stream.probation > 0);
        let place =
            self.streams.iter().position(Option::is_none).or_else(|| self.streams.iter().position(free));
        if let Some(place) = place {
            self.streams[place] = Some(Stream::new(rtp, from_client, now));
        }
    }

    /// Those that have proved to be RTP.
    pub fn list(&self) -> [Option<RtpStream>; MAX_STREAMS] {
        self.streams
            .each_ref()
            .map(|stream| stream.as_ref().filter(|stream| stream.probation == 0).map(Stream::report))
    }
}

#[derive(Debug)]
struct Stream {
    ssrc: u32,
    from_client: bool,
    payload_type: u8,
    /// Highest sequence number, and how often it has wrapped.
    highest: u16,
    wraps: u64,
    base: u16,
    /// Consecutive packets still to come before it is believed.
    probation: u8,
    /// The sequence number that would prove that the sender began anew.
    restart: Option<u16>,
    /// Bit `i`: number `highest - i` has come.
    seen: u128,
    received: u64,
    /// What was expected and received before the sender began anew.
    expected_before: u64,
    reordered: u64,
    duplicates: u64,
    transit: Option<u32>,
    /// In sixteenths of a clock tick.
    jitter_scaled: u32,
}

impl Stream {
    fn new(rtp: Rtp, from_client: bool, now: Instant) -> Self {
        let mut stream = Self {
            ssrc: rtp.ssrc,
            from_client,
            payload_type: rtp.payload_type,
            highest: rtp.sequence,
            wraps: 0,
            base: rtp.sequence,
            probation: MIN_SEQUENTIAL - 1,
            restart: None,
            seen: 1,
            received: 1,
            expected_before: 0,
            reordered: 0,
            duplicates: 0,
            transit: None,
            jitter_scaled: 0,
        };
        stream.measure_jitter(rtp, now);
        stream
    }

    /// Appendix A.1, `update_seq`, with a window of numbers seen to tell duplicates from stragglers.
    fn on_packet(&mut self, rtp: Rtp, now: Instant) {
        let ahead = rtp.sequence.wrapping_sub(self.highest);
        if self.probation > 0 {
            if ahead != 1 {
                *self = Self::new(rtp, self.from_client, now);
                return;
            }
            self.probation -= 1;
        }
        if ahead == 0 {
            self.duplicates += 1;
            return;
        }
        if ahead < MAX_DROPOUT {
            self.wraps += u64::from(rtp.sequence < self.highest);
            self.highest = rtp.sequence;
            self.seen = self.seen.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        } else if ahead <= u16::MAX - MAX_MISORDER {
            if self.restart != Some(rtp.sequence) {
                self.restart = Some(rtp.sequence.wrapping_add(1));
                return;
            }
            self.begin_anew(rtp.sequence);
        } else {
            let bit = 1 << (self.highest.wrapping_sub(rtp.sequence) & 0x7f);
            if self.seen & bit != 0 {
                self.duplicates += 1;
                return;
            }
            self.seen |= bit;
            self.reordered += 1;
        }
        self.restart = None;
        self.received += 1;
        self.payload_type = rtp.payload_type;
        self.measure_jitter(rtp, now);
    }

    /// The sender jumped, and its next packet confirmed it. The packet before this one was not counted.
    fn begin_anew(&mut self, sequence: u16) {
        self.expected_before = self.expected();
        self.base = sequence;
        self.highest = sequence;
        self.wraps = 0;
        self.seen = 1;
        self.transit = None;
    }

    fn expected(&self) -> u64 {
        self.expected_before + (self.wraps << 16) + u64::from(self.highest) - u64::from(self.base) + 1
    }

    /// Appendix A.8, in its integer form.
    fn measure_jitter(&mut self, rtp: Rtp, now: Instant) {
        let rate = u128::from(clock_rate(rtp.payload_type));
        let arrival = (u128::from(now.as_nanos()) * rate / 1_000_000_000) as u32;
        let transit = arrival.wrapping_sub(rtp.timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let difference = (transit.wrapping_sub(before) as i32).unsigned_abs();
            self.jitter_scaled =
                self.jitter_scaled.saturating_add(difference) - ((self.jitter_scaled + 8) >> 4);
        }
    }

    fn report(&self) -> RtpStream {
        let ticks = u64::from(self.jitter_scaled >> 4);
        RtpStream {
            ssrc: self.ssrc,
            payload_type: self.payload_type,
            from_client: self.from_client,
            received: self.received,
            expected: self.expected(),
            reordered: self.reordered,
            duplicates: self.duplicates,
            jitter: Duration::from_nanos(ticks * 1_000_000_000 / u64::from(clock_rate(self.payload_type))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload_type: u8, sequence: u16, timestamp: u32) -> Rtp {
        let mut bytes = vec![0x80, payload_type];
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&timestamp.to_be_bytes());
        bytes.extend_from_slice(&7u32.to_be_bytes());
        Rtp::parse(&bytes).unwrap()
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    /// Feeds 20 ms audio packets with these numbers, on time.
    fn heard(numbers: impl IntoIterator<Item = u16>) -> Option<RtpStream> {
        let mut streams = Streams::default();
        for number in numbers {
            let index = u64::from(number);
            streams.on_packet(packet(0, number, number as u32 * 160), true, at(index * 20));
        }
        streams.list()[0]
    }

    #[test]
    fn what_cannot_be_rtp_is_not() {
        assert_eq!(Rtp::parse(&[0x80; 11]), None);
        assert_eq!(Rtp::parse(&[0x40; 12]), None, "version 1");
        assert_eq!(Rtp::parse(&[0x80, 72, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "RTCP");
        assert_eq!(Rtp::parse(&[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None, "no room for its source");
    }

    #[test]
    fn a_stream_is_believed_after_two_in_sequence() {
        assert_eq!(heard([5]), None);
        assert_eq!(heard([5, 9, 20]), None);
        let stream = heard([3, 5, 6]).unwrap();
        assert_eq!((stream.received, stream.expected, stream.lost()), (2, 2, 0));
    }

    #[test]
    fn a_gap_is_loss() {
        let stream = heard((0..10).chain(15..20)).unwrap();
        assert_eq!((stream.received, stream.expected, stream.lost()), (15, 20, 5));
    }

    #[test]
    fn a_straggler_is_reordered_and_not_lost() {
        let stream = heard([0, 1, 2, 4, 3, 5]).unwrap();
        assert_eq!((stream.lost(), stream.reordered, stream.duplicates), (0, 1, 0));
    }

    #[test]
    fn the_same_number_again_is_a_duplicate() {
        let stream = heard([0, 1, 2, 2, 3, 1, 4]).unwrap();
        assert_eq!((stream.received, stream.lost(), stream.duplicates, stream.reordered), (5, 0, 2, 0));
    }

    #[test]
    fn sequence_numbers_wrap() {
        let mut streams = Streams::default();
        for index in 0..100u16 {
            streams.on_packet(packet(0, index.wrapping_sub(50), 0), true, at(0));
        }
        let stream = streams.list()[0].unwrap();
        assert_eq!((stream.received, stream.expected), (100, 100));
    }

    #[test]
    fn a_sender_that_begins_anew_is_followed() {
        let stream = heard((0..10).chain(30_000..30_010)).unwrap();
        assert_eq!((stream.received, stream.expected), (19, 19));
    }

    #[test]
    fn an_even_stream_has_no_jitter_and_an_uneven_one_the_rfcs() {
        assert_eq!(heard(0..100).unwrap().jitter, Duration::ZERO);
        let mut streams = Streams::default();
        for index in 0..1000u64 {
            let late = if index % 2 == 0 { 0 } else { 5 };
            streams.on_packet(packet(0, index as u16, index as u32 * 160), false, at(index * 20 + late));
        }
        let jitter = streams.list()[0].unwrap().jitter;
        assert!((4_000..6_000).contains(&jitter.as_micros()), "{jitter:?} for packets 5 ms off in turn");
    }

    #[test]
    fn a_fifth_source_finds_no_place_once_four_are_believed() {
        let mut streams = Streams::default();
        for ssrc in 0..6 {
            for sequence in 0..3 {
                streams.on_packet(Rtp { ssrc, ..packet(96, sequence, 0) }, true, at(0));
            }
        }
        let known: Vec<_> = streams.list().iter().flatten().map(|stream| stream.ssrc).collect();
        assert_eq!(known, [0, 1, 2, 3]);
    }
}
