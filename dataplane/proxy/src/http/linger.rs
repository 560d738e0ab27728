//! What a client still sends of a request that is answered: read and thrown away, within bounds.
//!
//! A connection that closes with unread bytes is reset, and a reset may take the answer from a client that has not read
//! it yet (RFC 9112, section 9.6). So the rest of a body is read to its end, and the connection serves on; where that
//! cannot be, our side is closed first, and the connection when the client has closed its side.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::rt::{Read, ReadBuf, Write};

use super::flight::Client;
use crate::engine::Engine;
use crate::runtime::Runtime;
use crate::upstream::IdleWatch;

/// How much may still be read for nothing, and how long.
struct Allowance<R: Runtime> {
    bytes: u64,
    end: R::Sleep,
    idle: IdleWatch<R>,
}

impl<R: Runtime> Allowance<R> {
    fn new(engine: &Engine<R>) -> Self {
        let limits = &engine.config.limits;
        Self {
            bytes: limits.linger_bytes,
            end: engine.runtime.sleep(limits.linger),
            idle: IdleWatch::new(engine.runtime.clone(), limits.linger_idle),
        }
    }

    /// False when it was the last that is allowed.
    fn spend(&mut self, bytes: usize) -> bool {
        self.idle.on_progress();
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        self.bytes > 0
    }

    /// To be called while there is nothing to read; ready when that has been so for too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if Pin::new(&mut self.end).poll(cx).is_ready() { Poll::Ready(()) } else { self.idle.poll_expired(cx) }
    }
}

/// Reads what comes back of a connection's request bodies.
pub(super) struct Drain<R: Runtime>(Option<(Incoming, Allowance<R>)>);

impl<R: Runtime> Default for Drain<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R: Runtime> Drain<R> {
    /// To be called after each poll of the connection, whose task this runs in.
    pub fn poll(&mut self, client: &Client<R>, cx: &mut Context<'_>) {
        if let Poll::Ready(rest) = client.leftover.poll_rest(cx) {
            self.0 = Some((rest, Allowance::new(&client.engine)));
        }
        let Some((rest, allowance)) = &mut self.0 else { return };
        loop {
            let goes_on = match Pin::new(&mut *rest).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => allowance.spend(frame.data_ref().map_or(0, Bytes::len)),
                Poll::Ready(Some(Err(_))) => false,
                Poll::Ready(None) => break,
                Poll::Pending if allowance.poll_over(cx).is_ready() => false,
                Poll::Pending => return,
            };
            if !goes_on {
                client.leftover.give_up();
                break;
            }
        }
        self.0 = None;
        // hyper looks again, and sees that nobody reads the body.
        cx.waker().wake_by_ref();
    }
}

/// Closes our side, and waits for the client to close its own.
pub(super) async fn close<R: Runtime, Io: Read + Write + Unpin>(engine: &Engine<R>, mut io: Io) {
    let mut buffer = engine.relay_buffer();
    let mut allowance = Allowance::new(engine);
    poll_fn(|cx| {
        if matches!(Pin::new(&mut io).poll_shutdown(cx), Poll::Ready(Err(_))) {
            return Poll::Ready(());
        }
        loop {
            let mut room = ReadBuf::new(&mut buffer);
            let goes_on = match Pin::new(&mut io).poll_read(cx, room.unfilled()) {
                Poll::Ready(Ok(())) => !room.filled().is_empty() && allowance.spend(room.filled().len()),
                Poll::Ready(Err(_)) => false,
                Poll::Pending => return allowance.poll_over(cx),
            };
            if !goes_on {
                return Poll::Ready(());
            }
        }
    })
    .await;
    engine.return_relay_buffer(buffer);
}
