//! What lies between the two: it does what a network may, and what none should.

use super::side::{FIN, SYN, Segment, text_at, transport_at};
use crate::network::packets::{Spec, pseudo_header, sum};

/// Frames that passed and may come again.
const MAX_HISTORY: usize = 64;
/// Frames that wait for their action.
const MAX_EXPECTED: usize = 64;
/// Bytes of a packet that an ICMP error quotes.
const QUOTED_BYTES: usize = 128;
const ETHERNET_BYTES: usize = 14;
/// ECT(0), ECT(1) and CE (RFC 3168, section 5).
const ECN: u8 = 0b11;

/// What becomes of a frame.
#[derive(Clone, Debug)]
pub enum Action {
    Pass,
    Lose,
    Double,
    /// It comes after so many more of its side.
    Hold(usize),
    /// Its text comes in two segments, cut there.
    CutInTwo(usize),
    /// Of its text only so much comes.
    Shorten(usize),
    /// Congestion experienced, where the sender can be told.
    Mark,
    /// A SYN loses these options: bits count as their kinds do.
    StripOptions(u16),
    /// It comes back to its sender, as if the other had sent it.
    Reflect,
    Change(Vec<Change>),
}

impl Action {
    /// Numbers that [`Action::of`] knows apart.
    pub const KINDS: u8 = 10;

    pub fn of(kind: u8, number: u16, changes: Vec<Change>) -> Self {
        let bytes = usize::from(number % 2_048);
        match kind % Self::KINDS {
            0 => Self::Lose,
            1 => Self::Double,
            2 => Self::Hold(1 + bytes % 16),
            3 => Self::CutInTwo(bytes),
            4 => Self::Shorten(bytes),
            5 => Self::Mark,
            6 => Self::StripOptions(number),
            7 => Self::Reflect,
            8 => Self::Change(changes),
            _ => Self::Pass,
        }
    }
}

/// A header field that becomes another.
#[derive(Clone, Debug)]
pub struct Change {
    field: u8,
    value: u16,
}

impl Change {
    pub fn of(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        Self { field: byte(0), value: u16::from_be_bytes([byte(1), byte(2)]) }
    }

    /// In the TCP header that begins at `at`.
    fn apply(&self, frame: &mut [u8], at: usize) {
        let [high, low] = self.value.to_be_bytes();
        let near = i32::from(self.value as i16) as u32;
        let far = u32::from(self.value) << 16;
        let is_v4 = frame[12..14] == [8, 0];
        let options = at + 20..(at + usize::from(frame[at + 12] >> 4) * 4).clamp(at + 20, frame.len());
        match self.field % 12 {
            0 => add(frame, at + 4, near),
            1 => add(frame, at + 8, near),
            2 => frame[at + 13] ^= low,
            3 => frame[at + 14..at + 16].copy_from_slice(&[high, low]),
            4 => frame[at + 12] = frame[at + 12] & 0xf | low << 4,
            5 if !options.is_empty() => frame[options.start + usize::from(high) % options.len()] = low,
            6 if is_v4 => frame[15] = low,
            7 => frame[if is_v4 { 22 } else { 21 }] = low,
            8 => frame[at + 18..at + 20].copy_from_slice(&[high, low]),
            9 => add(frame, at + 4, far),
            10 => add(frame, at + 8, far),
            _ => frame[at + 12] ^= low & 0xf,
        }
    }
}

fn add(frame: &mut [u8], at: usize, distance: u32) {
    let word = u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    frame[at..at + 4].copy_from_slice(&word.wrapping_add(distance).to_be_bytes());
}

struct Expected {
    side: usize,
    after: usize,
    action: Action,
}

struct Held {
    from: usize,
    frames: usize,
    frame: Vec<u8>,
}

pub struct Middlebox {
    expected: Vec<Expected>,
    held: Vec<Held>,
    history: Vec<(usize, Vec<u8>)>,
    passed: usize,
    /// Frames whose text did not all come.
    pub losses: usize,
    /// It did nothing that a network may not do.
    pub fair: bool,
}

impl Default for Middlebox {
    fn default() -> Self {
        Self { expected: vec![], held: vec![], history: vec![], passed: 0, losses: 0, fair: true }
    }
}

impl Middlebox {
    pub fn expect(&mut self, side: usize, after: usize, action: Action) {
        if self.expected.len() < MAX_EXPECTED {
            self.expected.push(Expected { side, after, action });
        }
    }

    /// Nothing more happens to what passes.
    pub fn rest(&mut self) {
        self.expected.clear();
    }

    /// What comes of a frame: whom it reaches, and as what.
    pub fn pass(&mut self, from: usize, frame: Vec<u8>) -> Vec<(usize, Vec<u8>)> {
        match self.history.len() {
            MAX_HISTORY => self.history[self.passed % MAX_HISTORY] = (from, frame.clone()),
            _ => self.history.push((from, frame.clone())),
        }
        self.passed += 1;
        let action = self.due(from);
        let mut out = self.act(from, frame, action);
        out.extend(self.overtaken(from));
        out
    }

    fn due(&mut self, from: usize) -> Action {
        let of_side = self.expected.iter_mut().filter(|expected| expected.side == from);
        for expected in of_side {
            expected.after = expected.after.wrapping_sub(1);
        }
        let due =
            self.expected.iter().position(|expected| expected.side == from && expected.after == usize::MAX);
        due.map_or(Action::Pass, |due| self.expected.remove(due).action)
    }

    fn act(&mut self, from: usize, mut frame: Vec<u8>, action: Action) -> Vec<(usize, Vec<u8>)> {
        let to = 1 - from;
        match action {
            Action::Pass => {}
            Action::Lose => {
                self.losses += 1;
                return vec![];
            }
            Action::Double => return vec![(to, frame.clone()), (to, frame)],
            Action::Hold(frames) => {
                // One more, which is this one's own passing.
                self.held.push(Held { from, frames: frames + 1, frame });
                return vec![];
            }
            Action::CutInTwo(at) => {
                if let Some((first, second)) = cut(&frame, at) {
                    return vec![(to, first), (to, second)];
                }
            }
            Action::Shorten(at) => {
                if let Some((first, _)) = cut(&frame, at) {
                    self.losses += 1;
                    frame = first;
                }
            }
            Action::Mark => mark(&mut frame),
            Action::StripOptions(kinds) => strip_options(&mut frame, kinds),
            Action::Reflect => {
                self.fair = false;
                return reflect(frame).map(|frame| (from, frame)).into_iter().collect();
            }
            Action::Change(changes) => {
                self.fair &= changes.is_empty();
                change(&mut frame, &changes);
            }
        }
        vec![(to, frame)]
    }

    /// What was held until so many more had passed.
    fn overtaken(&mut self, from: usize) -> Vec<(usize, Vec<u8>)> {
        for held in self.held.iter_mut().filter(|held| held.from == from) {
            held.frames -= 1;
        }
        let (due, held) = self.held.drain(..).partition(|held| held.frames == 0);
        self.held = held;
        due.into_iter().map(|held: Held| (1 - held.from, held.frame)).collect()
    }

    /// All that is held.
    pub fn release(&mut self) -> Vec<(usize, Vec<u8>)> {
        self.held.drain(..).map(|held| (1 - held.from, held.frame)).collect()
    }

    pub fn repeat(&mut self, which: usize, changes: &[Change]) -> Option<(usize, Vec<u8>)> {
        let (from, mut frame) = self.history.get(which % self.history.len().max(1))?.clone();
        self.fair &= changes.is_empty();
        change(&mut frame, changes);
        Some((1 - from, frame))
    }

    /// For the sender of a frame that passed.
    pub fn complain(&mut self, which: usize, mtu: u16, unreachable: bool) -> Option<(usize, Vec<u8>)> {
        self.fair = false;
        let (from, frame) = self.history.get(which % self.history.len().max(1))?;
        let is_v4 = frame[12..14] == [8, 0];
        let mtu = mtu.to_be_bytes();
        let header = match (is_v4, unreachable) {
            // RFC 792 and RFC 1191: fragmentation needed, or port unreachable.
            (true, false) => [3, 4, 0, 0, 0, 0, mtu[0], mtu[1]],
            (true, true) => [3, 3, 0, 0, 0, 0, 0, 0],
            // RFC 4443: packet too big, or port unreachable.
            (false, false) => [2, 0, 0, 0, 0, 0, mtu[0], mtu[1]],
            (false, true) => [1, 4, 0, 0, 0, 0, 0, 0],
        };
        let packet = &frame[ETHERNET_BYTES..];
        let message = [&header[..], &packet[..packet.len().min(QUOTED_BYTES)]].concat();
        let (source, destination) = match (is_v4, *from) {
            (true, 0) => ("10.0.0.9", "10.0.0.1"),
            (true, _) => ("10.0.0.9", "10.0.0.2"),
            (false, 0) => ("2001:db8::9", "2001:db8::1"),
            (false, _) => ("2001:db8::9", "2001:db8::2"),
        };
        let mac = frame[6..12].try_into().ok()?;
        Some((*from, Spec::new(source, destination, mac).icmp(&message)))
    }
}

/// Two segments of one, where the text has bytes on both sides of the place. What goes with the last byte (PSH, FIN)
/// goes with the second.
fn cut(frame: &[u8], at: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    const PSH: u8 = 8;
    let segment = Segment::of(frame)?;
    let text = segment.place.len();
    // A SYN's text would be moved by it.
    if text < 2 || segment.flags & SYN != 0 {
        return None;
    }
    let at = 1 + at % (text - 1);
    let transport = transport_at(frame)?;
    let mut first = frame[..segment.place.start + at].to_vec();
    first[transport + 13] &= !(FIN | PSH);
    let mut second = [&frame[..segment.place.start], &frame[segment.place.start + at..]].concat();
    add(&mut second, transport + 4, at as u32);
    for piece in [&mut first, &mut second] {
        let len = piece.len() - ETHERNET_BYTES;
        match piece[12..14] {
            [8, 0] => piece[16..18].copy_from_slice(&(len as u16).to_be_bytes()),
            _ => piece[18..20].copy_from_slice(&((len - 40) as u16).to_be_bytes()),
        }
        put_right(piece);
    }
    Some((first, second))
}

fn mark(frame: &mut [u8]) {
    let (at, shift) = if frame[12..14] == [8, 0] { (15, 0) } else { (15, 4) };
    if frame[at] >> shift & ECN != 0 {
        frame[at] |= ECN << shift;
        put_right(frame);
    }
}

/// NOPs in the place of a first SYN's options. In a SYN-ACK they are an agreement already.
fn strip_options(frame: &mut [u8], kinds: u16) {
    let Some(segment) = Segment::of(frame) else { return };
    if segment.flags & (SYN | 16) != SYN {
        return;
    }
    let end = segment.place.start;
    let Some(transport) = transport_at(frame) else { return };
    let mut at = transport + 20;
    while at + 1 < end {
        let len = match frame[at] {
            0 => break,
            1 => 1,
            _ => usize::from(frame[at + 1]).max(2),
        };
        let option = at..(at + len).min(end);
        if frame[at] < 16 && kinds >> frame[at] & 1 == 1 {
            frame[option].fill(1);
        }
        at += len;
    }
    put_right(frame);
}

/// As if the other had sent it; addresses and ports change places.
fn reflect(mut frame: Vec<u8>) -> Option<Vec<u8>> {
    let transport = transport_at(&frame)?;
    let (source, len) = if frame[12..14] == [8, 0] { (26, 4) } else { (22, 16) };
    for (at, len) in [(0, 6), (source, len), (transport, 2)] {
        frame[at..at + 2 * len].rotate_left(len);
    }
    put_right(&mut frame);
    Some(frame)
}

fn change(frame: &mut [u8], changes: &[Change]) {
    let Some(transport) = transport_at(frame) else { return };
    changes.iter().for_each(|change| change.apply(frame, transport));
    let text = Segment::of(frame).map(|segment| (segment.text_sequence(), segment.place));
    if let Some((sequence, place)) = text {
        for (at, byte) in frame[place].iter_mut().enumerate() {
            *byte = text_at(sequence.wrapping_add(at as u32));
        }
    }
    put_right(frame);
}

/// The checksums of IPv4 and TCP.
fn put_right(frame: &mut [u8]) {
    let Some(transport) = transport_at(frame) else { return };
    let (source, destination) = if frame[12..14] == [8, 0] {
        frame[24..26].fill(0);
        let checksum = !sum(&frame[ETHERNET_BYTES..34]);
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
        let four = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into();
        (four(26), four(30))
    } else {
        let sixteen = |at: usize| <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap().into();
        (sixteen(22), sixteen(38))
    };
    let body = &mut frame[transport..];
    body[16..18].fill(0);
    let pseudo = pseudo_header(source, destination, 6, body.len());
    let checksum = !sum(&[&pseudo, &*body].concat());
    body[16..18].copy_from_slice(&checksum.to_be_bytes());
}
