//! HTTP/1.1 to backends: one connection carries one request at a time and is used again.
//!
//! A connection has no task of its own. The request that uses it drives it, head and body, from its own task: one wake
//! a segment instead of three, and head and first body bytes leave for the client in one write. An unused connection
//! lies in its endpoint's pool, looked at when it is taken out and at every sweep.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use socket::Instant;

use super::attentive::Attentive;
use super::body::RequestBody;
use super::dial::Dial;
use crate::fault::Fault;
use crate::limits::Limits;
use crate::runtime::Runtime;

/// One connection to a backend.
pub(crate) struct H1<R: Runtime> {
    sender: http1::SendRequest<RequestBody<R>>,
    connection: http1::Connection<Attentive<R::Io>, RequestBody<R>>,
    pool: Rc<Pool<R>>,
    /// The connection's future has ended; it must not be polled again.
    ended: bool,
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

/// A request that got no response, and the request itself where hyper had not begun to write it.
pub(super) struct Unanswered<R: Runtime> {
    pub fault: Fault,
    pub unsent: Option<Request<RequestBody<R>>>,
}

impl<R: Runtime> H1<R> {
    pub(super) async fn open(
        dial: &Dial<R>,
        pool: &Rc<Pool<R>>,
        limits: &Limits,
    ) -> Result<Box<Self>, Fault> {
        let io = Attentive::new(dial.connect().await?);
        let mut builder = http1::Builder::new();
        builder.max_buf_size(limits.buffer_bytes).max_header_size(limits.header_bytes);
        let (sender, connection) = builder.handshake(io).await.map_err(|_| Fault::UpstreamProtocol)?;
        let idle_since = dial.runtime.now();
        Ok(Box::new(Self { sender, connection, pool: Rc::clone(pool), ended: false, idle_since }))
    }

    /// Sends a request and waits for the response's head.
    pub(super) async fn send(
        mut self: Box<Self>,
        request: Request<RequestBody<R>>,
    ) -> Result<(Response<Incoming>, Box<Self>), Unanswered<R>> {
        let answered = {
            let mut response = pin!(self.sender.try_send_request(request));
            let (connection, ended) = (&mut self.connection, &mut self.ended);
            poll_fn(|cx| {
                let mut answer = Poll::Pending;
                // The response can only come by driving the connection. hyper wakes whoever drove last when the first
                // of the body is taken: that would be this very task, once a response for nothing, so it leaves its
                // waker only when it has to wait.
                for waker in [Waker::noop(), cx.waker()] {
                    if answer.is_pending() {
                        if !*ended {
                            *ended =
                                connection.poll_without_shutdown(&mut Context::from_waker(waker)).is_ready();
                        }
                        answer = response.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    }
                }
                answer
            })
            .await
        };
        match answered {
            Ok(response) => Ok((response, self)),
            Err(mut failure) => {
                let unsent = failure.take_message();
                Err(Unanswered { fault: classify(failure.error()), unsent })
            }
        }
    }

    /// Drives the connection while a body is read from it; ready when it has ended.
    pub fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended {
            self.ended = self.connection.poll_without_shutdown(cx).is_ready();
        }
        if self.ended { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The response is complete: back into the pool, if the connection can carry another request.
    pub fn release(mut self: Box<Self>, now: Instant, limit: usize) {
        if self.is_usable() {
            self.idle_since = now;
            let pool = Rc::clone(&self.pool);
            pool.put(self, limit);
        }
    }

    /// After a 101: the bare connection. `None` when the backend has closed it already.
    pub async fn upgrade(mut self: Box<Self>) -> Option<Tunnel<R::Io>> {
        if !self.ended {
            poll_fn(|cx| self.connection.poll_without_shutdown(cx)).await.ok()?;
        }
        let parts = self.connection.into_parts();
        Some(Tunnel { io: parts.io.io, read: parts.read_buf })
    }

    /// Whether it is open and between requests, after reading what the backend has sent meanwhile: nothing, or its end.
    fn is_usable(&mut self) -> bool {
        self.poll_drive(&mut Context::from_waker(Waker::noop())).is_pending() && self.sender.is_ready()
    }
}

/// Ours by the body, theirs by bytes that are no HTTP, and everything else is an end without an answer.
fn classify(error: &hyper::Error) -> Fault {
    if error.is_user() {
        let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Fault>());
        return source.copied().unwrap_or(Fault::ClientGone);
    }
    if error.is_parse() { Fault::UpstreamProtocol } else { Fault::UpstreamClosed }
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
