//! A connection and its buffers: what was read and not yet understood, and what is still to be written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Frame;
use hyper::rt::Write;

use super::framing::{CHUNK_END, Framing, put_chunk_start, put_last_chunk};
use crate::runtime::Network;

/// What a buffer grows by at least: a usual head fits, and an idle connection stays small.
const LEAST_ROOM: usize = 2048;

/// Bytes that one read takes at most, as a relay's buffer.
const READ_BYTES: usize = 64 << 10;

/// One HTTP/1.1 connection. At most one chunk of a body waits to be written, so that a slow reader presses back.
pub(crate) struct Wire<R: Network> {
    io: R::Io,
    /// Read, and not taken yet.
    pub read: BytesMut,
    /// The other side has ended its stream, or broken it.
    ended: bool,
    /// Heads and chunk sizes, written up to `written`. Kept until the next message begins: a request that met the end
    /// of its connection goes out once more from here.
    pub text: BytesMut,
    written: usize,
    chunk: Bytes,
    after: &'static [u8],
}

impl<R: Network> Wire<R> {
    pub fn new(io: R::Io, read: &[u8]) -> Self {
        let mut buffer = BytesMut::new();
        if !read.is_empty() {
            buffer.reserve(LEAST_ROOM);
            buffer.extend_from_slice(read);
        }
        Self {
            io,
            read: buffer,
            ended: false,
            text: BytesMut::new(),
            written: 0,
            chunk: Bytes::new(),
            after: &[],
        }
    }

    /// The bare connection, and what was read ahead.
    pub fn into_parts(self) -> (R::Io, Bytes) {
        (self.io, self.read.freeze())
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Reads what is there; ready with the number of bytes, which is 0 at the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        let read = &mut self.read;
        let result = ready!(R::poll_read(&mut self.io, cx, READ_BYTES, &mut |bytes| {
            if read.capacity() - read.len() < bytes.len() {
                read.reserve(bytes.len().max(LEAST_ROOM));
            }
            read.extend_from_slice(bytes);
        }));
        self.ended = !matches!(result, Ok(1..));
        Poll::Ready(result)
    }

    // ---- writing ----

    /// The text of a new message goes here.
    pub fn begin(&mut self) -> &mut BytesMut {
        debug_assert!(self.is_drained(), "a message begins when the former is written");
        self.text.clear();
        self.written = 0;
        self.text.reserve(LEAST_ROOM / 4);
        &mut self.text
    }

    /// Text that is written as it stands, such as a request that another connection did not answer.
    pub fn begin_with(&mut self, text: BytesMut) {
        (self.text, self.written) = (text, 0);
    }

    /// More text of the same message: the size of a chunk, the end of a body.
    pub fn append(&mut self) -> &mut BytesMut {
        if self.is_drained() {
            self.text.clear();
            self.written = 0;
        }
        &mut self.text
    }

    /// A piece of the body, after all text so far; the piece before it must be written.
    pub fn put(&mut self, chunk: Bytes, after: &'static [u8]) {
        debug_assert!(self.has_room(), "one piece at a time");
        (self.chunk, self.after) = (chunk, after);
    }

    /// A piece of the body may be put.
    pub fn has_room(&self) -> bool {
        self.chunk.is_empty() && self.after.is_empty()
    }

    pub fn is_drained(&self) -> bool {
        self.written == self.text.len() && self.has_room()
    }

    /// Writes all that waits.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_drained() {
            let slices = [&self.text[self.written..], &self.chunk[..], self.after].map(IoSlice::new);
            let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(0);
            let written = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[first..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        let of_text = written.min(self.text.len() - self.written);
        self.written += of_text;
        let of_chunk = (written - of_text).min(self.chunk.len());
        self.chunk.advance(of_chunk);
        if self.chunk.is_empty() {
            // Not only empty: it would hold its memory.
            self.chunk = Bytes::new();
        }
        self.after = &self.after[written - of_text - of_chunk..];
    }

    /// Ends our side of the stream.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Puts the next piece of a body: a frame, or its end. True when the body is complete.
pub(crate) fn put_frame<R: Network>(
    wire: &mut Wire<R>,
    framing: Framing,
    frame: Option<Frame<Bytes>>,
) -> bool {
    let chunked = framing == Framing::Chunked;
    let Some(frame) = frame else {
        if chunked {
            put_last_chunk(wire.append(), None);
        }
        return true;
    };
    match frame.into_data() {
        // An empty chunk would end the body.
        Ok(data) if data.is_empty() => false,
        Ok(data) => {
            if chunked {
                put_chunk_start(wire.append(), data.len());
            }
            wire.put(data, if chunked { CHUNK_END } else { &[] });
            false
        }
        // Only chunks can be followed by trailers.
        Err(frame) if chunked => {
            put_last_chunk(wire.append(), frame.trailers_ref());
            true
        }
        Err(_) => false,
    }
}
