//! HTTP/2 to backends: few connections, many streams, each connection driven by a task of its own.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::{Request, Response};
use socket::Instant;

use super::body::RequestBody;
use super::dial::Dial;
use crate::fault::Fault;
use crate::limits::Limits;
use crate::runtime::{Runtime, Spawner};

/// Tries to find a connection with a free stream: after this many connections that were full or gone at once, the
/// request overflows. Each try waits for at most one connect.
const TRIES: usize = 3;

/// An endpoint's connections.
pub(super) struct Links<R: Runtime> {
    links: RefCell<Vec<Rc<Link<R>>>>,
    opening: RefCell<Opening>,
}

pub(super) struct Link<R: Runtime> {
    sender: http2::SendRequest<RequestBody<R>>,
    streams: Cell<u32>,
    /// SETTINGS_MAX_CONCURRENT_STREAMS of the backend (RFC 9113, section 6.5.2).
    granted: Cell<u32>,
    quiet_since: Cell<Instant>,
}

/// At most one connect at a time: requests that need one wait for the same.
#[derive(Default)]
struct Opening {
    running: bool,
    /// Connects that ended, and how the last one did.
    ended: u64,
    outcome: Option<Fault>,
    waiting: Vec<Waker>,
}

/// One stream's place on its connection, given back when dropped.
pub(crate) struct StreamSlot<R: Runtime> {
    link: Weak<Link<R>>,
    runtime: R,
}

impl<R: Runtime> Drop for StreamSlot<R> {
    fn drop(&mut self) {
        if let Some(link) = self.link.upgrade() {
            link.streams.set(link.streams.get() - 1);
            link.quiet_since.set(self.runtime.now());
        }
    }
}

/// A request that got no response.
pub(super) struct Refused<R: Runtime> {
    pub fault: Fault,
    /// The backend said that it did nothing with it.
    pub unprocessed: bool,
    /// The request itself, where hyper had not begun to send it.
    pub unsent: Option<Request<RequestBody<R>>>,
}

impl<R: Runtime> Links<R> {
    pub fn open(&self) -> usize {
        self.links.borrow().len()
    }

    fn find(&self, limit: u32) -> Option<Rc<Link<R>>> {
        let links = self.links.borrow();
        links.iter().find(|link| link.has_room(limit)).cloned()
    }

    /// A connection with a free stream, and whether it was opened for this request.
    pub async fn acquire(
        self: &Rc<Self>,
        dial: impl Fn() -> Dial<R>,
        limits: &Limits,
    ) -> Result<(Rc<Link<R>>, bool), Fault> {
        if let Some(link) = self.find(limits.concurrent_streams) {
            return Ok((link, false));
        }
        for _ in 0..TRIES {
            if self.open() >= limits.http2_connections_per_endpoint {
                return Err(Fault::Overflow);
            }
            self.opened(&dial, limits).await?;
            if let Some(link) = self.find(limits.concurrent_streams) {
                return Ok((link, true));
            }
        }
        Err(Fault::Overflow)
    }

    /// Waits for one connect to end, and starts it if none is under way. The connect has a task of its own: it goes on
    /// when the request that caused it does not.
    async fn opened(self: &Rc<Self>, dial: impl Fn() -> Dial<R>, limits: &Limits) -> Result<(), Fault> {
        let before = self.opening.borrow().ended;
        let running = std::mem::replace(&mut self.opening.borrow_mut().running, true);
        if !running {
            let dial = dial();
            let runtime = dial.runtime.clone();
            runtime.spawn(open(dial, Rc::clone(self), limits.clone()));
        }
        poll_fn(|cx| {
            let mut opening = self.opening.borrow_mut();
            if opening.ended != before {
                return Poll::Ready(opening.outcome.map_or(Ok(()), Err));
            }
            opening.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn on_opened(&self, outcome: Result<Rc<Link<R>>, Fault>) {
        let mut opening = self.opening.borrow_mut();
        opening.running = false;
        opening.ended += 1;
        opening.outcome = outcome.as_ref().err().copied();
        if let Ok(link) = outcome {
            self.links.borrow_mut().push(link);
        }
        let waiting = std::mem::take(&mut opening.waiting);
        drop(opening);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn forget(&self, of: &Weak<Link<R>>) {
        let mut links = self.links.borrow_mut();
        let gone: Vec<_> = links.extract_if(.., |link| Rc::as_ptr(link) == of.as_ptr()).collect();
        drop(links);
        drop(gone);
    }

    pub fn sweep(&self, now: Instant, limit: Duration) {
        let keep = |link: &Rc<Link<R>>| {
            let unused = link.streams.get() == 0 && now.since(link.quiet_since.get()) >= limit;
            !link.sender.is_closed() && !unused
        };
        let mut links = self.links.borrow_mut();
        let gone: Vec<_> = links.extract_if(.., |link| !keep(link)).collect();
        drop(links);
        drop(gone);
    }

    /// Lets go of all connections; streams on them end first.
    pub fn clear(&self) {
        let links = std::mem::take(&mut *self.links.borrow_mut());
        drop(links);
    }
}

impl<R: Runtime> Default for Links<R> {
    fn default() -> Self {
        Self { links: RefCell::default(), opening: RefCell::default() }
    }
}

impl<R: Runtime> Link<R> {
    fn has_room(&self, limit: u32) -> bool {
        self.sender.is_ready() && self.streams.get() < limit.min(self.granted.get())
    }

    /// Sends a request and waits for the response's head.
    pub async fn send(
        self: &Rc<Self>,
        runtime: &R,
        request: Request<RequestBody<R>>,
    ) -> Result<(Response<Incoming>, StreamSlot<R>), Refused<R>> {
        let slot = self.occupy(runtime);
        match self.sender.clone().try_send_request(request).await {
            Ok(response) => Ok((response, slot)),
            Err(mut failure) => {
                let unsent = failure.take_message();
                let (fault, unprocessed) = classify(failure.error());
                Err(Refused { fault, unprocessed, unsent })
            }
        }
    }

    fn occupy(self: &Rc<Self>, runtime: &R) -> StreamSlot<R> {
        self.streams.set(self.streams.get() + 1);
        StreamSlot { link: Rc::downgrade(self), runtime: runtime.clone() }
    }
}

/// Connects, shakes hands, and drives the connection until it ends.
async fn open<R: Runtime>(dial: Dial<R>, links: Rc<Links<R>>, limits: Limits) {
    let io = match dial.connect().await {
        Ok(io) => io,
        Err(fault) => return links.on_opened(Err(fault)),
    };
    let mut builder = http2::Builder::new(Spawner(dial.runtime.clone()));
    let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
    builder.max_header_list_size(header_bytes).max_send_buf_size(limits.buffer_bytes);
    let Ok((sender, connection)) = builder.handshake(io).await else {
        return links.on_opened(Err(Fault::UpstreamProtocol));
    };
    let quiet_since = Cell::new(dial.runtime.now());
    let link = Rc::new(Link { sender, streams: Cell::new(0), granted: Cell::new(u32::MAX), quiet_since });
    let of = Rc::downgrade(&link);
    links.on_opened(Ok(link));
    let mut connection = pin!(connection);
    // How it ends matters to its streams only, and they hear of it themselves.
    let _: hyper::Result<()> = poll_fn(|cx| {
        let result = connection.as_mut().poll(cx);
        if let Some(link) = of.upgrade() {
            let granted = connection.current_max_send_streams();
            link.granted.set(u32::try_from(granted).unwrap_or(u32::MAX));
        }
        result
    })
    .await;
    links.forget(&of);
}

/// The fault, and whether the backend is known not to have processed the request (RFC 9113, section 8.7).
fn classify(error: &hyper::Error) -> (Fault, bool) {
    if error.is_user() {
        let source = error.source().and_then(|source| source.downcast_ref::<Fault>());
        return (source.copied().unwrap_or(Fault::ClientGone), false);
    }
    let reason = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    let refused = reason.is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
    });
    let ended = refused || error.is_closed() || error.is_canceled() || error.is_incomplete_message();
    let by_transport = reason.is_none_or(h2::Error::is_io);
    if ended || by_transport { (Fault::UpstreamClosed, refused) } else { (Fault::UpstreamProtocol, false) }
}
