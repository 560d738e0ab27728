//! Tells HTTP/2 with prior knowledge from HTTP/1.x by its first bytes, and gives those back to the reader.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

/// RFC 9113, section 3.4.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// Resolves at the first byte that is not the preface's, or at its end.
pub(crate) fn sniff<Io: Read + Unpin>(io: Io) -> Sniff<Io> {
    Sniff { io: Some(Prefixed { prefix: [0; 24], filled: 0, taken: 0, io }) }
}

pub(crate) struct Sniff<Io> {
    io: Option<Prefixed<Io>>,
}

/// A connection whose first bytes were read already.
#[derive(Debug)]
pub(crate) struct Prefixed<Io> {
    prefix: [u8; 24],
    filled: u8,
    taken: u8,
    io: Io,
}

impl<Io> Prefixed<Io> {
    /// The connection, and the bytes that were read already.
    pub fn into_parts(self) -> (Io, [u8; 24], usize) {
        (self.io, self.prefix, usize::from(self.filled))
    }
}

impl<Io: Read + Unpin> Future for Sniff<Io> {
    type Output = io::Result<(Prefixed<Io>, Spoken)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let io = self.io.as_mut().expect("a sniff is not polled after it is ready");
        loop {
            let filled = usize::from(io.filled);
            if io.prefix[..filled] != PREFACE[..filled] {
                break;
            }
            if filled == PREFACE.len() {
                let io = self.io.take().expect("it was there a line ago");
                return Poll::Ready(Ok((io, Spoken::Http2)));
            }
            let mut room = ReadBuf::new(&mut io.prefix[filled..]);
            ready!(Pin::new(&mut io.io).poll_read(cx, room.unfilled()))?;
            let read = room.filled().len();
            if read == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            io.filled += read as u8;
        }
        let io = self.io.take().expect("it was there a line ago");
        Poll::Ready(Ok((io, Spoken::Http1)))
    }
}

impl<Io: Read + Unpin> Read for Prefixed<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken == self.filled {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let left = &self.prefix[usize::from(self.taken)..usize::from(self.filled)];
        let taken = left.len().min(buf.remaining());
        buf.put_slice(&left[..taken]);
        self.taken += taken as u8;
        // The rest of the head mostly waits already; read together it is parsed once.
        if buf.remaining() > 0
            && let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_read(cx, buf)
        {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: Write + Unpin> Write for Prefixed<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }
}
