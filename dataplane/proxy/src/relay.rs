//! Bytes between two connections, both ways, until both ends have said their last.
//!
//! They pass within the network where it can ([`poll_splice`]). Where it cannot, each direction reads only when its buffer
//! is empty and so presses back on its sender. Buffers come from the worker's spare ones and go back there whenever they
//! are empty: a quiet connection holds none.
//!
//! [`poll_splice`]: crate::runtime::Network::poll_splice

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBuf, Write};

use crate::engine::Engine;
use crate::limits::RELAY_BUFFER_BYTES;
use crate::runtime::Runtime;
use crate::upstream::IdleWatch;

/// One end of a relay.
pub(crate) struct End<Io> {
    io: Io,
    /// Bytes that were read from it already.
    read: Bytes,
}

impl<Io> End<Io> {
    pub fn new(io: Io, read: Bytes) -> Self {
        Self { io, read }
    }
}

/// How a relay ended.
pub(crate) struct Carried<Io> {
    pub to_backend: u64,
    pub to_client: u64,
    /// Set when a side broke instead of closing: the other is to be reset.
    pub broken: Option<(Io, Io)>,
}

/// Carries bytes until both directions have ended, one has failed, or nothing moved for `idle`. An end of one direction
/// is passed on and the other goes on (half-close).
pub(crate) async fn relay<R: Runtime>(
    engine: &Engine<R>,
    client: End<R::Io>,
    backend: End<R::Io>,
    idle: Option<Duration>,
) -> Carried<R::Io> {
    let (mut client_io, mut backend_io) = (client.io, backend.io);
    let mut up = Direction::new(client.read);
    let mut down = Direction::new(backend.read);
    let mut watch = idle.map(|limit| IdleWatch::new(engine.runtime.clone(), limit));
    let result: io::Result<()> = poll_fn(|cx| {
        let before = (up.carried, down.carried);
        let up_ended = up.poll(engine, &mut client_io, &mut backend_io, cx)?;
        let down_ended = down.poll(engine, &mut backend_io, &mut client_io, cx)?;
        if up_ended.is_ready() && down_ended.is_ready() {
            return Poll::Ready(Ok(()));
        }
        match &mut watch {
            Some(watch) => {
                if before != (up.carried, down.carried) {
                    watch.on_progress();
                }
                watch.poll_expired(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
            }
            None => Poll::Pending,
        }
    })
    .await;
    up.give_back(engine);
    down.give_back(engine);
    let broken = result.is_err().then_some((client_io, backend_io));
    Carried { to_backend: up.carried, to_client: down.carried, broken }
}

/// From one reader to one writer.
struct Direction {
    /// Bytes from before the relay began; they go first.
    early: Bytes,
    buffer: Option<Box<[u8]>>,
    start: usize,
    end: usize,
    state: State,
    carried: u64,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum State {
    Open,
    /// The reader's end was seen; what is buffered is written, then the writer is shut.
    Ending,
    Ended,
}

impl Direction {
    fn new(early: Bytes) -> Self {
        Self { early, buffer: None, start: 0, end: 0, state: State::Open, carried: 0 }
    }

    fn poll<R: Runtime>(
        &mut self,
        engine: &Engine<R>,
        reader: &mut R::Io,
        writer: &mut R::Io,
        cx: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        loop {
            if self.state == State::Ended {
                return Ok(Poll::Ready(()));
            }
            if self.poll_write(writer, cx)?.is_pending() {
                return Ok(Poll::Pending);
            }
            if self.state == State::Ending {
                return match Pin::new(&mut *writer).poll_shutdown(cx)? {
                    Poll::Ready(()) => {
                        self.state = State::Ended;
                        Ok(Poll::Ready(()))
                    }
                    Poll::Pending => Ok(Poll::Pending),
                };
            }
            match engine.runtime.poll_splice(reader, writer, cx) {
                Some(Poll::Ready(Ok(0))) => {
                    self.state = State::Ending;
                    continue;
                }
                Some(Poll::Ready(moved)) => {
                    self.carried += moved? as u64;
                    continue;
                }
                // What was moved is sent without a flush.
                Some(Poll::Pending) => return Ok(Poll::Pending),
                None => {}
            }
            if self.poll_fill(engine, reader, cx)?.is_pending() {
                self.give_back(engine);
                return Ok(match Pin::new(&mut *writer).poll_flush(cx)? {
                    Poll::Ready(()) | Poll::Pending => Poll::Pending,
                });
            }
        }
    }

    /// Ready when nothing is left to write.
    fn poll_write(
        &mut self,
        writer: &mut (impl Write + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        loop {
            let left: &[u8] = match &self.buffer {
                _ if !self.early.is_empty() => &self.early,
                Some(buffer) if self.start < self.end => &buffer[self.start..self.end],
                _ => return Ok(Poll::Ready(())),
            };
            let written = match Pin::new(&mut *writer).poll_write(cx, left)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(written) => written,
                Poll::Pending => return Ok(Poll::Pending),
            };
            self.carried += written as u64;
            if self.early.is_empty() { self.start += written } else { self.early.advance(written) }
        }
    }

    /// Reads into the empty buffer; ready when there are bytes or the end.
    fn poll_fill<R: Runtime>(
        &mut self,
        engine: &Engine<R>,
        reader: &mut (impl Read + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<Poll<()>> {
        let buffer = self.buffer.get_or_insert_with(|| engine.relay_buffer());
        let mut room = ReadBuf::new(buffer);
        if Pin::new(reader).poll_read(cx, room.unfilled())?.is_pending() {
            return Ok(Poll::Pending);
        }
        (self.start, self.end) = (0, room.filled().len());
        if self.end == 0 {
            self.state = State::Ending;
        }
        Ok(Poll::Ready(()))
    }

    fn give_back<R: Runtime>(&mut self, engine: &Engine<R>) {
        if let Some(buffer) = self.buffer.take() {
            debug_assert_eq!(buffer.len(), RELAY_BUFFER_BYTES);
            engine.return_relay_buffer(buffer);
        }
    }
}
