//! A stream of bytes in which every misplaced one shows: random, with a period that is prime.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use sim::Random;

const PERIOD: usize = 65_521;

/// Bytes of one frame of a body.
const FRAME_BYTES: usize = 16 << 10;

#[derive(Clone, Debug)]
pub struct Pattern {
    /// The period twice, so that a slice may begin anywhere in it.
    bytes: Bytes,
    offset: usize,
}

impl Pattern {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::for_stream(seed, 0x7061);
        let once: Vec<u8> = (0..PERIOD).map(|_| random.next() as u8).collect();
        Self { bytes: [&once[..], &once[..]].concat().into(), offset: 0 }
    }

    /// Up to `len` bytes from where the stream is.
    pub fn peek(&self, len: usize) -> Bytes {
        let start = self.offset % PERIOD;
        self.bytes.slice(start..start + len.min(PERIOD))
    }

    pub fn advance(&mut self, len: usize) {
        self.offset += len;
    }

    /// Bytes so far.
    pub fn position(&self) -> usize {
        self.offset
    }

    /// Compares what was received, and moves on.
    pub fn expect(&mut self, mut received: &[u8]) {
        while !received.is_empty() {
            let here = self.peek(received.len());
            let len = here.len();
            assert!(here[..] == received[..len], "the bytes differ near offset {}", self.offset);
            self.advance(len);
            received = &received[len..];
        }
    }
}

/// The first `len` bytes of a pattern, as a message's body.
#[derive(Debug)]
pub struct PatternBody {
    pub pattern: Pattern,
    pub len: usize,
}

impl Body for PatternBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let left = self.len - self.pattern.position();
        if left == 0 {
            return Poll::Ready(None);
        }
        let chunk = self.pattern.peek(left.min(FRAME_BYTES));
        self.pattern.advance(chunk.len());
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.pattern.position() == self.len
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.len - self.pattern.position()) as u64)
    }
}
