//! Segments of a script against segments on the wire, both ways.

use std::net::{IpAddr, SocketAddr};

use super::Outcome;
use super::notation::{Bits, Endpoint, OptionList, Segment, Window};
use super::runner::{BEGINNING, LISTENING_PORT, Runner, expect_equal};
use crate::Instant;
use crate::tcp::header::{Flags, Header, MAX_HEADER, MAX_SACK_BLOCKS, Timestamps};
use crate::tcp::sequence::Seq;
use crate::tcp::tests::link::Packet;

/// How a packet is cut into chunks on its way in: more than one for a full segment.
const CHUNK: usize = 512;

/// What the script knows of the connection with one end of the peer's.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Our port, when it is not that of the listener.
    pub local_port: Option<u16>,
    /// Our initial sequence, known when our SYN was seen.
    pub initial: Option<Seq>,
    pub first_timestamp: Option<u32>,
    pub last_timestamp: u32,
    /// The shifts in the last SYNs, ours and theirs.
    our_scale: Option<u8>,
    their_scale: Option<u8>,
}

impl Peer {
    /// Both sides scale or none does (RFC 7323, section 2.2); a SYN's window is never scaled.
    fn scale(&self, bits: Bits, scale: Option<u8>) -> u8 {
        let agreed = self.our_scale.is_some() && self.their_scale.is_some() && !bits.has(Bits::SYN);
        if agreed { scale.unwrap_or(0) } else { 0 }
    }
}

impl Runner {
    // ---- out ----

    pub fn compare(&mut self, expected: &Segment, packet: &Packet) -> Outcome {
        let (header, length) = Header::parse(&packet.bytes).map_err(|reason| reason.name().to_string())?;
        let text = &packet.bytes[length..];
        let bits = Bits::of(&packet.bytes);
        let endpoint = endpoint_of(packet.destination);
        expect_equal("host and port", endpoint, expected.peer)?;
        expect_equal("flags", bits, expected.bits)?;
        self.note_sent(endpoint, bits, &header);
        let peer = self.peers.entry(endpoint).or_default().clone();
        let at = expected.at.or(peer.local_port).unwrap_or(LISTENING_PORT);
        expect_equal("our port", packet.source.port(), at)?;
        expect_equal("sequence", header.seq.since(peer.initial.unwrap_or_default()), expected.start)?;
        expect_equal("length", text.len() as u32, expected.len)?;
        if let Some(ack) = expected.ack {
            expect_equal("ack", header.ack.0.wrapping_sub(self.peer_initial), ack)?;
        }
        match expected.window {
            Some(Window::Field(field)) => expect_equal("win", header.window, field)?,
            Some(Window::Bytes(bytes)) => {
                let scaled = u32::from(header.window) << peer.scale(bits, peer.our_scale);
                expect_equal("window", scaled, bytes)?;
            }
            None => {}
        }
        let urgent = u16::from_be_bytes([packet.bytes[18], packet.bytes[19]]);
        expect_equal("urg", urgent, expected.urgent)?;
        expect_equal("ecn", packet.ecn, expected.ecn)?;
        for (offset, byte) in text.iter().enumerate() {
            expect_equal("text", *byte, pattern(expected.start.wrapping_sub(1).wrapping_add(offset as u32)))?;
        }
        self.compare_options(expected, &header, &peer)
    }

    /// Learns from a segment that nobody asked for.
    pub fn note(&mut self, packet: &Packet) {
        if let Ok((header, _)) = Header::parse(&packet.bytes) {
            self.note_sent(endpoint_of(packet.destination), Bits::of(&packet.bytes), &header);
        }
    }

    fn note_sent(&mut self, endpoint: Endpoint, bits: Bits, header: &Header) {
        let peer = self.peers.entry(endpoint).or_default();
        if bits.has(Bits::SYN) {
            (peer.initial, peer.our_scale) = (Some(header.seq), header.options.window_scale);
        }
        if let Some(Timestamps { value, .. }) = header.options.timestamps {
            peer.first_timestamp.get_or_insert(value);
            peer.last_timestamp = value;
        }
    }

    fn compare_options(&self, expected: &Segment, header: &Header, peer: &Peer) -> Outcome {
        let (Some(expected), sent) = (&expected.options, &header.options) else { return Ok(()) };
        expect_open("mss", sent.mss, expected.mss)?;
        expect_open("wscale", sent.window_scale, expected.window_scale)?;
        expect_equal("sackOK", sent.sack_permitted, expected.sack_permitted)?;
        let number = |seq: Seq| seq.0.wrapping_sub(self.peer_initial);
        let blocks = sent.sack.as_slice().iter().map(|(left, right)| (number(*left), number(*right)));
        expect_equal("sack", blocks.collect::<Vec<_>>(), expected.sack.clone())?;
        expect_equal("TS present", sent.timestamps.is_some(), expected.timestamps.is_some())?;
        if let (Some(sent), Some((value, echo))) = (sent.timestamps, expected.timestamps) {
            let first = peer.first_timestamp.unwrap_or_default();
            expect_open("TS val", Some(sent.value.wrapping_sub(first)), Some(value))?;
            expect_open("TS ecr", Some(sent.echo), Some(echo))?;
        }
        Ok(())
    }

    // ---- in ----

    pub fn inject(&mut self, segment: &Segment) -> Outcome {
        let peer = self.peers.entry(segment.peer).or_default();
        if segment.bits.has(Bits::SYN) {
            let options = segment.options.as_ref();
            peer.their_scale = options.and_then(|options| options.window_scale).flatten();
        }
        let peer = peer.clone();
        let local_port = segment.at.or(peer.local_port).unwrap_or(LISTENING_PORT);
        let initial = peer.initial.unwrap_or_default();
        let mut header = Header {
            source_port: segment.peer.port,
            destination_port: local_port,
            seq: Seq(self.peer_initial.wrapping_add(segment.start)),
            ack: segment.ack.map_or(Seq(0), |ack| initial + ack),
            flags: Flags(segment.bits.0 as u8),
            window: window_field(segment, &peer)?,
            ..Header::default()
        };
        let nothing = OptionList::default();
        let options = segment.options.as_ref().unwrap_or(&nothing);
        fill_options(&mut header, options, &peer)?;
        let mut bytes = write(&header, segment, &options.raw)?;
        let syn = u32::from(segment.bits.has(Bits::SYN));
        let first = segment.start.wrapping_add(syn).wrapping_sub(1);
        let other = if segment.other_text { OTHER } else { 0 };
        bytes.extend((0..segment.len).map(|offset| pattern(first.wrapping_add(offset)) ^ other));
        let packet = Packet {
            source: SocketAddr::new(self.peer_address(segment.peer.host), segment.peer.port),
            destination: SocketAddr::new(self.host.address, local_port),
            bytes,
            ecn: segment.ecn,
        };
        match &mut self.burst {
            Some(burst) => burst.push(packet),
            None => self.host.receive(&packet, CHUNK, self.now),
        }
        Ok(())
    }

    /// A segment as a script would write it.
    pub fn describe(&self, at: Instant, packet: &Packet) -> String {
        let Ok((header, length)) = Header::parse(&packet.bytes) else { return "not a segment".into() };
        let endpoint = endpoint_of(packet.destination);
        let initial = self.peers.get(&endpoint).and_then(|peer| peer.initial).unwrap_or(header.seq);
        let (start, len) = (header.seq.since(initial), (packet.bytes.len() - length) as u32);
        let ack = header.ack.0.wrapping_sub(self.peer_initial);
        let since = at.since(BEGINNING);
        format!(
            "at {since:?}: > {:?} {start}:{}({len}) ack {ack} win {} {:?} {endpoint:?} ecn {}",
            Bits::of(&packet.bytes),
            start.wrapping_add(len),
            header.window,
            header.options,
            packet.ecn,
        )
    }
}

fn window_field(segment: &Segment, peer: &Peer) -> Result<u16, String> {
    match segment.window {
        None => Ok(u16::MAX),
        Some(Window::Field(field)) => Ok(field),
        Some(Window::Bytes(bytes)) => {
            let scale = peer.scale(segment.bits, peer.their_scale);
            let field = u16::try_from(bytes >> scale).map_err(|_| "the window does not fit its field")?;
            let exact = u32::from(field) << scale == bytes;
            if exact { Ok(field) } else { Err(format!("a window in steps of {} bytes", 1 << scale)) }
        }
    }
}

fn fill_options(header: &mut Header, options: &OptionList, peer: &Peer) -> Outcome {
    let open = "a peer's option needs a number";
    let initial = peer.initial.unwrap_or_default();
    header.options.mss = options.mss.map(|mss| mss.ok_or(open)).transpose()?;
    header.options.window_scale = options.window_scale.map(|scale| scale.ok_or(open)).transpose()?;
    header.options.sack_permitted = options.sack_permitted;
    if options.sack.len() > MAX_SACK_BLOCKS {
        return Err("an option of more blocks than fit is written `raw`".into());
    }
    for (left, right) in &options.sack {
        header.options.sack.push(initial + *left, initial + *right);
    }
    header.options.timestamps = options.timestamps.map(|(value, echo)| Timestamps {
        value: value.unwrap_or_default(),
        echo: echo.map_or(peer.last_timestamp, |echo| peer.first_timestamp.unwrap_or(0).wrapping_add(echo)),
    });
    Ok(())
}

/// The header with what [`Header::write`] does not know: raw options, NS, the urgent pointer, a false data offset.
fn write(header: &Header, segment: &Segment, raw: &[u8]) -> Result<Vec<u8>, String> {
    let mut buffer = [0; MAX_HEADER];
    let length = header.write(&mut buffer);
    let mut bytes = buffer[..length].to_vec();
    bytes.extend(raw);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    if bytes.len() > MAX_HEADER {
        return Err("the options do not fit a header".into());
    }
    let words = segment.data_offset.unwrap_or(bytes.len() as u8 / 4);
    bytes[12] = words << 4 | (segment.bits.0 >> 8) as u8;
    bytes[18..20].copy_from_slice(&segment.urgent.to_be_bytes());
    Ok(bytes)
}

fn endpoint_of(remote: SocketAddr) -> Endpoint {
    let host = match remote.ip() {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    };
    Endpoint { host, port: remote.port() }
}

/// An option's number against one that may be open.
fn expect_open<T: PartialEq + std::fmt::Debug + Copy>(
    what: &str,
    found: Option<T>,
    expected: Option<Option<T>>,
) -> Outcome {
    match expected {
        Some(None) if found.is_some() => Ok(()),
        Some(None) => Err(format!("{what} is missing")),
        Some(expected) => expect_equal(what, found, expected),
        None => expect_equal(what, found, None),
    }
}

/// The byte at a place of a stream, the same for both directions.
pub(super) fn pattern(place: u32) -> u8 {
    (place % 251) as u8
}

/// What `text other` differs by from the pattern, in every byte.
pub(super) const OTHER: u8 = 0xff;
