//! HTTP/1.1 to backends: one connection carries one request at a time and is used again.
//!
//! A connection has no task of its own. The request that uses it drives it, head and body, from its own task: one wake
//! a segment, and head and first body bytes leave for the client in one write. An unused connection lies in its
//! endpoint's pool, looked at when it is taken out and at every sweep.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, request, response};
use hyper::body::{Body, Frame, SizeHint};
use socket::Instant;

use super::body::RequestBody;
use super::dial::Dial;
use crate::fault::Fault;
use crate::http1::{Decoder, Framing, HeadFinder, Step, Wire, put_frame, put_request, take_response};
use crate::runtime::Runtime;

/// One connection to a backend.
pub(crate) struct H1<R: Runtime> {
    wire: Wire<R>,
    finder: HeadFinder,
    pool: Rc<Pool<R>>,
    header_bytes: usize,
    /// What is left of the request's body to send, and how.
    upload: Option<(RequestBody<R>, Framing)>,
    to_head: bool,
    decoder: Decoder,
    /// The backend keeps the connection after this response.
    keep_alive: bool,
    /// The map of the last message, to be used again.
    spare: HeaderMap,
    idle_since: Instant,
}

/// An endpoint's unused connections, the one used last on top.
pub(super) struct Pool<R: Runtime> {
    idle: RefCell<Vec<Box<H1<R>>>>,
    /// The endpoint has left the table: connections that come back are closed.
    retired: Cell<bool>,
}

/// A backend's side of an upgraded connection.
pub(crate) struct Tunnel<Io> {
    pub io: Io,
    /// What the backend sent after its response's head.
    pub read: Bytes,
}

/// A request as it goes out, and once more if need be.
pub(super) struct Outgoing<R: Runtime> {
    text: BytesMut,
    body: Option<(RequestBody<R>, Framing)>,
    to_head: bool,
    /// May be sent again although it was written (RFC 9110, section 9.2.2): idempotent, and its body still held.
    repeatable: bool,
}

/// A request that got no response.
pub(super) struct Unanswered<R: Runtime> {
    pub fault: Fault,
    /// The request, where it may be sent once more.
    pub again: Option<Outgoing<R>>,
}

impl<R: Runtime> H1<R> {
    pub(super) async fn open(
        dial: &Dial<R>,
        pool: &Rc<Pool<R>>,
        header_bytes: usize,
    ) -> Result<Box<Self>, Fault> {
        let io = dial.connect().await?;
        Ok(Box::new(Self {
            wire: Wire::new(io, &[]),
            finder: HeadFinder::default(),
            pool: Rc::clone(pool),
            header_bytes,
            upload: None,
            to_head: false,
            decoder: Decoder::new(Framing::None),
            keep_alive: false,
            spare: HeaderMap::new(),
            idle_since: dial.runtime.now(),
        }))
    }

    /// Writes a request for this connection, into the buffer that it was written from before.
    pub(super) fn write(&mut self, parts: request::Parts, body: RequestBody<R>) -> Outgoing<R> {
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let text = self.wire.begin();
        put_request(text, &parts, framing);
        let text = std::mem::take(text);
        let (to_head, idempotent) = (parts.method == Method::HEAD, parts.method.is_idempotent());
        self.spare = parts.headers;
        self.spare.clear();
        let body = (framing != Framing::None).then_some((body, framing));
        Outgoing { text, repeatable: idempotent && body.is_none(), body, to_head }
    }

    /// Sends a request and waits for the response's head.
    pub(super) async fn send(
        mut self: Box<Self>,
        request: Outgoing<R>,
    ) -> Result<(response::Parts, Box<Self>), Unanswered<R>> {
        let repeatable = request.repeatable;
        self.wire.begin_with(request.text);
        (self.upload, self.to_head, self.keep_alive) = (request.body, request.to_head, false);
        let untouched = self.poll_write(&mut Context::from_waker(Waker::noop())).is_err();
        let answered = match untouched {
            true => Err(Fault::UpstreamClosed),
            false => poll_fn(|cx| self.poll_head(cx)).await,
        };
        match answered {
            Ok(head) => Ok((head, self)),
            Err(fault) => {
                // A body is still held only if none of it was asked for.
                let may = repeatable || untouched;
                let again = (may && fault == Fault::UpstreamClosed).then(|| Outgoing {
                    text: std::mem::take(&mut self.wire.text),
                    body: self.upload.take(),
                    to_head: self.to_head,
                    repeatable,
                });
                Err(Unanswered { fault, again })
            }
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<response::Parts, Fault>> {
        self.poll_upload(cx)?;
        loop {
            let taken = take_response(
                &mut self.wire.read,
                &mut self.finder,
                self.header_bytes,
                self.to_head,
                &mut self.spare,
            );
            match taken {
                Ok(Some(head)) => {
                    self.decoder = Decoder::new(head.framing);
                    self.keep_alive = head.keep_alive;
                    return Poll::Ready(Ok(head.parts));
                }
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err(Fault::UpstreamProtocol)),
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Err(Fault::UpstreamClosed)),
            }
        }
    }

    /// Sends what there is of the request's body. Fails only by the body: a backend that takes no more may still answer.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        loop {
            match self.poll_write(cx) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(_) => {
                    self.upload = None;
                    self.keep_alive = false;
                    return Ok(());
                }
            }
            let Some((body, framing)) = &mut self.upload else { return Ok(()) };
            match Pin::new(body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(fault))) => return Err(fault),
                Poll::Ready(frame) => {
                    let frame = frame.and_then(Result::ok);
                    if put_frame(&mut self.wire, *framing, frame) {
                        self.upload = None;
                    }
                }
            }
        }
    }

    /// True when all is written.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        match self.wire.poll_drain(cx) {
            Poll::Ready(written) => written.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    // ---- the response's body ----

    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Err(fault) = self.poll_upload(cx) {
            return Poll::Ready(Some(Err(fault)));
        }
        loop {
            let ended = self.wire.has_ended();
            match self.decoder.next(&mut self.wire.read, ended) {
                Step::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Step::Trailers(trailers) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Step::Done => return Poll::Ready(None),
                Step::Broken => {
                    self.keep_alive = false;
                    return Poll::Ready(Some(Err(Fault::UpstreamClosed)));
                }
                Step::More => {
                    if ready!(self.wire.poll_fill(cx)).is_err() {
                        self.keep_alive = false;
                        return Poll::Ready(Some(Err(Fault::UpstreamClosed)));
                    }
                }
            }
        }
    }

    pub fn is_end_stream(&self) -> bool {
        self.decoder.is_done()
    }

    pub fn size_hint(&self) -> SizeHint {
        self.decoder.exact().map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The response is complete: back into the pool, if the connection can carry another request.
    pub fn release(mut self: Box<Self>, now: Instant, limit: usize) {
        let whole = self.decoder.is_done() && self.upload.is_none() && self.wire.is_drained();
        if whole && self.keep_alive && self.wire.read.is_empty() && !self.wire.has_ended() {
            self.idle_since = now;
            let pool = Rc::clone(&self.pool);
            pool.put(self, limit);
        }
    }

    /// After a 101: the bare connection.
    pub fn upgrade(self) -> Tunnel<R::Io> {
        let (io, read) = self.wire.into_parts();
        Tunnel { io, read }
    }

    /// Whether it is open, after reading what the backend has sent meanwhile: nothing, or its end.
    fn is_usable(&mut self) -> bool {
        self.wire.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }
}

impl<R: Runtime> Default for Pool<R> {
    fn default() -> Self {
        Self { idle: RefCell::default(), retired: Cell::new(false) }
    }
}

impl<R: Runtime> Pool<R> {
    /// The connection used last that still works.
    pub fn take(&self) -> Option<Box<H1<R>>> {
        loop {
            let mut link = self.idle.borrow_mut().pop()?;
            if link.is_usable() {
                return Some(link);
            }
        }
    }

    fn put(&self, link: Box<H1<R>>, limit: usize) {
        let mut idle = self.idle.borrow_mut();
        if !self.retired.get() && idle.len() < limit {
            idle.push(link);
        }
    }

    pub fn idle(&self) -> usize {
        self.idle.borrow().len()
    }

    pub fn sweep(&self, now: Instant, limit: Duration) {
        self.idle.borrow_mut().retain_mut(|link| now.since(link.idle_since) < limit && link.is_usable());
    }

    pub fn clear(&self) {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        drop(idle);
    }

    pub fn retire(&self) {
        self.retired.set(true);
        self.clear();
    }
}
