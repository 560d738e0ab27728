//! One of the two hosts: its task, and what it says on the wire. Every byte is held against the pattern.

use std::collections::BTreeSet;
use std::ops::Range;
use std::task::Poll;

use stack::{FlowKey, Instant, ListenerKey, Stack};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// More than a task wants to write at once.
const MAX_PENDING: usize = 1 << 18;
/// A header without options (RFC 9293, section 3.1).
const HEADER_BYTES: usize = 20;

/// The byte at a sequence number, of either stream.
pub fn text_at(sequence: u32) -> u8 {
    (sequence.wrapping_mul(31) >> 3) as u8
}

/// Where a frame's TCP header begins. `None`: it has none.
pub fn transport_at(frame: &[u8]) -> Option<usize> {
    let (protocol, at) = match frame.get(12..14)? {
        [8, 0] => (*frame.get(23)?, 34),
        [0x86, 0xdd] => (*frame.get(20)?, 54),
        _ => return None,
    };
    (protocol == 6 && frame.len() >= at + HEADER_BYTES).then_some(at)
}

/// A TCP segment as it stands in a frame.
pub struct Segment<'a> {
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    /// Where its text stands, which may be nowhere.
    pub place: Range<usize>,
    frame: &'a [u8],
}

impl<'a> Segment<'a> {
    /// `None`: the frame has none, or the header does not lie in it.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let at = transport_at(frame)?;
        let word = |from: usize| u32::from_be_bytes(frame[from..from + 4].try_into().unwrap());
        let text = at + usize::from(frame[at + 12] >> 4) * 4;
        (text <= frame.len()).then(|| Self {
            sequence: word(at + 4),
            acknowledged: word(at + 8),
            flags: frame[at + 13],
            place: text..frame.len(),
            frame,
        })
    }

    /// Of the first byte of text. A SYN stands before its text (RFC 9293, section 3.4).
    pub fn text_sequence(&self) -> u32 {
        self.sequence.wrapping_add(u32::from(self.flags & SYN != 0))
    }
}

/// A connection as its task has it.
pub struct Stream {
    pub flow: FlowKey,
    /// Sequence numbers of the first byte of each direction.
    first_sent: u32,
    first_read: u32,
    pub written: u32,
    pub read: u32,
    shut: bool,
    /// The peer's stream came to its end.
    pub ended: bool,
    failed: bool,
}

#[derive(Default)]
pub struct Side {
    pub streams: Vec<Stream>,
    connecting: Option<FlowKey>,
    /// Whether the task reads, as it does at first.
    does_not_read: bool,
    pub wants_to_shut: bool,
    /// Bytes that the task still wants to write.
    pending: usize,
    /// Initial sequence numbers, ours and theirs, of the connection that opens.
    ours: Option<u32>,
    theirs: Option<u32>,
}

impl Side {
    pub fn connecting(flow: FlowKey) -> Self {
        Self { connecting: Some(flow), ..Self::default() }
    }

    pub fn toggle_reading(&mut self) {
        self.does_not_read ^= true;
    }

    pub fn wants_to_write(&mut self, bytes: usize) {
        self.pending = (self.pending + bytes).min(MAX_PENDING);
    }

    /// The last deed: everything is read, and the stream ends behind what is still to be written.
    pub fn finish(&mut self) {
        (self.does_not_read, self.wants_to_shut) = (false, true);
    }

    pub fn is_over(&self) -> bool {
        !self.streams.is_empty() && self.streams.iter().all(|stream| stream.ended || stream.failed)
    }

    /// A segment leaves this host: its text is the pattern's.
    pub fn on_sent(&mut self, segment: &Segment<'_>) {
        if segment.flags & SYN != 0 {
            self.ours = Some(segment.sequence);
        }
        // Which of several SYNs opens a connection is what the last SYN-ACK acknowledges; the side that connects says it
        // by its first acknowledgement.
        let says = segment.flags & (SYN | ACK) == SYN | ACK
            || segment.flags & (RST | ACK) == ACK && self.connecting.is_some() && self.theirs.is_none();
        if says {
            self.theirs = Some(segment.acknowledged.wrapping_sub(1));
        }
        let begin = segment.text_sequence();
        for (at, byte) in segment.frame[segment.place.clone()].iter().enumerate() {
            assert_eq!(*byte, text_at(begin.wrapping_add(at as u32)), "byte {at} of a segment's text");
        }
    }

    pub fn accept(&mut self, stack: &mut Stack, listener: ListenerKey) {
        while let Poll::Ready(Ok(flow)) = stack.tcp_accept(listener) {
            self.begin(flow);
        }
    }

    fn begin(&mut self, flow: FlowKey) {
        let (ours, theirs) =
            (self.ours.expect("a SYN went out"), self.theirs.expect("a SYN was acknowledged"));
        self.streams.push(Stream {
            flow,
            first_sent: ours.wrapping_add(1),
            first_read: theirs.wrapping_add(1),
            written: 0,
            read: 0,
            shut: false,
            ended: false,
            failed: false,
        });
    }

    /// The task writes, ends its stream and reads, as far as that goes now.
    pub fn run(&mut self, stack: &mut Stack, now: Instant, seen: &mut BTreeSet<String>) {
        if let Some(flow) = self.connecting.filter(|_| self.theirs.is_some())
            && stack.tcp_connected(flow) == Poll::Ready(Ok(()))
            && self.streams.is_empty()
        {
            self.begin(flow);
        }
        let Self { streams, pending, wants_to_shut, does_not_read, .. } = self;
        for stream in streams.iter_mut().filter(|stream| !stream.failed) {
            stream.write(stack, pending, now);
            if *wants_to_shut && *pending == 0 && !stream.shut {
                stream.shut = true;
                stack.tcp_shutdown(stream.flow, now);
            }
            if !*does_not_read && !stream.ended {
                stream.take(stack, now, seen);
            }
        }
    }
}

impl Stream {
    fn write(&mut self, stack: &mut Stack, pending: &mut usize, now: Instant) {
        while *pending > 0 && !self.shut {
            let from = self.first_sent.wrapping_add(self.written);
            let bytes: Vec<u8> = (0..*pending as u32).map(|at| text_at(from.wrapping_add(at))).collect();
            match stack.tcp_write(self.flow, &[&bytes], now) {
                Poll::Ready(Ok(written)) => {
                    self.written += written as u32;
                    *pending -= written;
                }
                Poll::Ready(Err(_)) => *pending = 0,
                Poll::Pending => break,
            }
        }
    }

    fn take(&mut self, stack: &mut Stack, now: Instant, seen: &mut BTreeSet<String>) {
        let mut buffer = [0; 4_096];
        while let Poll::Ready(end) = stack.tcp_read(self.flow, &mut buffer, now) {
            match end {
                Ok(read) if read > 0 => {
                    let from = self.first_read.wrapping_add(self.read);
                    for (at, byte) in buffer[..read].iter().enumerate() {
                        let sequence = from.wrapping_add(at as u32);
                        assert_eq!(
                            *byte,
                            text_at(sequence),
                            "byte {} of what is read",
                            self.read as usize + at
                        );
                    }
                    self.read += read as u32;
                    continue;
                }
                Ok(_) => self.ended = true,
                Err(error) => {
                    seen.insert(format!("{error:?}"));
                    self.failed = true;
                }
            }
            return;
        }
    }
}
