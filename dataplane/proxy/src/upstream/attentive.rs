//! A backend's connection that is read to its end although it can be written no more.
//!
//! A backend may answer and close before it has read the whole request (RFC 9112, section 9.5). Its reset then breaks the
//! request's body while the answer, or the rest of it, lies in the receive buffer: hyper gives a connection up at the
//! first write that fails, so none does here. What cannot be written is dropped, and reading tells how it ended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};

#[derive(Debug)]
pub(super) struct Attentive<Io> {
    pub io: Io,
    /// A write has failed.
    broken: bool,
}

impl<Io> Attentive<Io> {
    pub fn new(io: Io) -> Self {
        Self { io, broken: false }
    }

    fn written(&mut self, result: io::Result<usize>, length: usize) -> io::Result<usize> {
        self.broken = result.is_err();
        Ok(result.unwrap_or(length))
    }
}

impl<Io: Read + Unpin> Read for Attentive<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<Io: Write + Unpin> Write for Attentive<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Ok(from.len()));
        }
        let result = ready!(Pin::new(&mut self.io).poll_write(cx, from));
        Poll::Ready(self.written(result, from.len()))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = || slices.iter().map(|slice| slice.len()).sum();
        if self.broken {
            return Poll::Ready(Ok(length()));
        }
        let result = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices));
        Poll::Ready(self.written(result, length()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken {
            return Poll::Ready(Ok(()));
        }
        let result = ready!(Pin::new(&mut self.io).poll_flush(cx));
        self.broken = result.is_err();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
