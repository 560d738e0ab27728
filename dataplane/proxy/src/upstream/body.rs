//! A request's body on its way to the backend: streamed, counted, and given up when it stops arriving.
//!
//! A backend may answer before it has read the whole request, and so may the proxy. What is left of the body then goes
//! back to the client's connection, as its [`Leftover`]: that reads it to its end, so that the connection can be used
//! again.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use socket::Instant;

use crate::fault::Fault;
use crate::runtime::Runtime;

pub(crate) enum RequestBody<R: Runtime> {
    Empty,
    Stream(Stream<R>),
}

pub(crate) struct Stream<R: Runtime> {
    /// `None` once it has ended, or failed.
    incoming: Option<Incoming>,
    idle: IdleWatch<R>,
    progress: Rc<Progress>,
    unread: Unread,
}

/// What becomes of a body that nobody reads to its end.
pub(crate) enum Unread {
    /// HTTP/2: the stream is reset, after a complete answer with NO_ERROR (RFC 9113, section 8.1). h2 does that.
    Reset,
    /// HTTP/1: the connection's, if the client is sending it. Who asked whether to (`Expect`) and was told nothing may
    /// send it or not: it stays unread, and the connection ends with the answer (RFC 9110, section 10.1.1).
    Leave { to: Rc<Leftover>, is_sent: bool },
}

/// Where an HTTP/1 connection finds what its client still sends of an answered request.
#[derive(Default)]
pub(crate) struct Leftover {
    rest: Cell<Option<Incoming>>,
    /// Bodies that may still come back.
    lent: Cell<u32>,
    /// A body was given up before its end: its sender may go on sending when the connection closes.
    given_up: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

/// What the exchange learns of its request's body, which hyper owns meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub bytes: Cell<u64>,
    pub fault: Cell<Option<Fault>>,
}

impl<R: Runtime> RequestBody<R> {
    pub fn stream(incoming: Incoming, idle: IdleWatch<R>, progress: Rc<Progress>, unread: Unread) -> Self {
        Self::Stream(Stream { incoming: Some(incoming), idle, progress, unread })
    }
}

impl Leftover {
    /// For a body that is about to be read elsewhere.
    pub fn lend(self: &Rc<Self>, is_sent: bool) -> Unread {
        self.lent.set(self.lent.get() + 1);
        Unread::Leave { to: Rc::clone(self), is_sent }
    }

    fn come_back(&self, rest: Option<Incoming>) {
        self.lent.set(self.lent.get() - 1);
        if rest.is_none() {
            return;
        }
        self.rest.set(rest);
        // The body may have been another task's.
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    pub fn give_up(&self) {
        self.given_up.set(true);
    }

    /// Whether the client may be sending what was never read.
    pub fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    /// What came back; the task is woken when something does later.
    pub fn poll_rest(&self, cx: &Context<'_>) -> Poll<Incoming> {
        if let Some(rest) = self.rest.take() {
            return Poll::Ready(rest);
        }
        if self.lent.get() > 0 {
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waiting = Some(cx.waker().clone());
            }
        }
        Poll::Pending
    }
}

impl<R: Runtime> Stream<R> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        if let Unread::Leave { is_sent, .. } = &mut self.unread {
            // hyper asks a client that waits for it to continue when its body is first read.
            *is_sent = true;
        }
        let fault = match Pin::new(incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(chunk) = frame.data_ref() {
                    self.progress.bytes.set(self.progress.bytes.get() + chunk.len() as u64);
                }
                self.idle.on_progress();
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                self.incoming = None;
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(_))) => Fault::ClientGone,
            Poll::Pending => match self.idle.poll_expired(cx) {
                Poll::Ready(()) => Fault::RequestBodyIdle,
                Poll::Pending => return Poll::Pending,
            },
        };
        self.incoming = None;
        if let Unread::Leave { to, .. } = &self.unread {
            to.give_up();
        }
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }
}

impl<R: Runtime> Drop for Stream<R> {
    fn drop(&mut self) {
        let Unread::Leave { to, is_sent } = &self.unread else { return };
        let rest = self.incoming.take().filter(|incoming| !incoming.is_end_stream());
        if rest.is_some() && !is_sent {
            to.give_up();
        }
        to.come_back(rest.filter(|_| *is_sent));
    }
}

impl<R: Runtime> Body for RequestBody<R> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(stream) => stream.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(stream) => stream.incoming.as_ref().is_none_or(Body::is_end_stream),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(stream) => {
                stream.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
            }
        }
    }
}

/// Fires when nothing happened for a while. It arms its timer only once something has to wait, and then moves it only
/// when it fires: a body that keeps flowing costs one clock reading a wait.
pub(crate) struct IdleWatch<R: Runtime> {
    runtime: R,
    limit: Duration,
    quiet_since: Option<Instant>,
    timer: Option<R::Sleep>,
}

impl<R: Runtime> IdleWatch<R> {
    pub fn new(runtime: R, limit: Duration) -> Self {
        Self { runtime, limit, quiet_since: None, timer: None }
    }

    pub fn on_progress(&mut self) {
        self.quiet_since = None;
    }

    /// To be called while there is nothing to do; ready when that has lasted for the limit.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.quiet_since.get_or_insert_with(|| self.runtime.now());
        let timer = self.timer.get_or_insert_with(|| self.runtime.sleep(self.limit));
        while Pin::new(&mut *timer).poll(cx).is_ready() {
            let quiet = self.runtime.now().since(since);
            if quiet >= self.limit {
                return Poll::Ready(());
            }
            *timer = self.runtime.sleep(self.limit - quiet);
        }
        Poll::Pending
    }
}
