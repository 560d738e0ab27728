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

use super::{Carrier, Endpoint, RequestBody, Upstream, copy_for_resending};
use crate::fault::Fault;
use crate::runtime::{Runtime, Spawner};

/// Tries to find a connection with a free stream: after this many connections that were full or gone at once, the
/// request overflows. Each try waits for at most one connect.
const TRIES: usize = 3;

/// An endpoint's connections.
pub(super) struct Links<R: Runtime> {
    links: RefCell<Vec<Rc<Link<R>>>>,
    opening: RefCell<Opening>,
}

struct Link<R: Runtime> {
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

pub(super) async fn send<R: Runtime>(
    upstream: &Upstream<'_, R>,
    request: Request<RequestBody<R>>,
) -> Result<(Response<Incoming>, Carrier<R>), Fault> {
    let counters = &upstream.cluster.counters;
    let mut request = request;
    let mut resent = false;
    loop {
        let (link, fresh) = acquire(upstream).await?;
        let slot = link.occupy(upstream.runtime);
        let copy = if fresh || resent { None } else { copy_for_resending(&request) };
        let idempotent = request.method().is_idempotent();
        let failure = match link.sender.clone().try_send_request(request).await {
            Ok(response) => return Ok((response, Carrier::H2(slot))),
            Err(failure) => failure,
        };
        let mut failure = failure;
        let unsent = failure.take_message();
        let (fault, unprocessed) = classify(failure.error());
        let again = unsent.or(copy.filter(|_| unprocessed || idempotent));
        match again {
            Some(again) if fault == Fault::UpstreamClosed && !resent => request = again,
            _ => return Err(fault),
        }
        resent = true;
        counters.resent.add(1);
    }
}

/// A connection with a free stream, and whether it was opened for this request.
async fn acquire<R: Runtime>(upstream: &Upstream<'_, R>) -> Result<(Rc<Link<R>>, bool), Fault> {
    let links = &upstream.endpoint.h2;
    if let Some(link) = links.find(upstream.limits.concurrent_streams) {
        upstream.cluster.counters.reuses.add(1);
        return Ok((link, false));
    }
    for _ in 0..TRIES {
        if links.open() >= upstream.limits.http2_connections_per_endpoint {
            return Err(Fault::Overflow);
        }
        links.opened(upstream).await?;
        if let Some(link) = links.find(upstream.limits.concurrent_streams) {
            return Ok((link, true));
        }
    }
    Err(Fault::Overflow)
}

impl<R: Runtime> Links<R> {
    pub fn open(&self) -> usize {
        self.links.borrow().len()
    }

    fn find(&self, limit: u32) -> Option<Rc<Link<R>>> {
        let links = self.links.borrow();
        links.iter().find(|link| link.has_room(limit)).cloned()
    }

    /// Waits for one connect to end, and starts it if none is under way. The connect has a task of its own: it goes on
    /// when the request that caused it does not.
    async fn opened(&self, upstream: &Upstream<'_, R>) -> Result<(), Fault> {
        let before = self.opening.borrow().ended;
        if !std::mem::replace(&mut self.opening.borrow_mut().running, true) {
            upstream.runtime.spawn(open(upstream));
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

    fn occupy(self: &Rc<Self>, runtime: &R) -> StreamSlot<R> {
        self.streams.set(self.streams.get() + 1);
        StreamSlot { link: Rc::downgrade(self), runtime: runtime.clone() }
    }
}

/// Connects, shakes hands, and drives the connection until it ends.
fn open<R: Runtime>(upstream: &Upstream<'_, R>) -> impl Future<Output = ()> + 'static {
    let runtime = upstream.runtime.clone();
    let endpoint: Rc<Endpoint<R>> = Rc::clone(upstream.endpoint);
    let limits = upstream.limits.clone();
    let timeout = upstream.cluster.settings().connect_timeout;
    let connects = upstream.cluster.counters.connects.clone();
    let failures = upstream.cluster.counters.connect_failures.clone();
    async move {
        let io = match runtime.connect(endpoint.address, timeout).await {
            Ok(io) => io,
            Err(error) => {
                failures.add(1);
                let late = error.kind() == std::io::ErrorKind::TimedOut;
                let fault = if late { Fault::ConnectTimeout } else { Fault::ConnectFailed };
                return endpoint.h2.on_opened(Err(fault));
            }
        };
        connects.add(1);
        let mut builder = http2::Builder::new(Spawner(runtime.clone()));
        let header_bytes = u32::try_from(limits.header_bytes).unwrap_or(u32::MAX);
        builder.max_header_list_size(header_bytes).max_send_buf_size(limits.buffer_bytes);
        match builder.handshake(io).await {
            Ok((sender, connection)) => {
                let quiet_since = Cell::new(runtime.now());
                let link = Rc::new(Link {
                    sender,
                    streams: Cell::new(0),
                    granted: Cell::new(u32::MAX),
                    quiet_since,
                });
                let of = Rc::downgrade(&link);
                endpoint.h2.on_opened(Ok(link));
                let mut connection = pin!(connection);
                // How it ends matters to its streams only, and they hear of it themselves.
                let _ = poll_fn(|cx| {
                    let result = connection.as_mut().poll(cx);
                    if let Some(link) = of.upgrade() {
                        let granted = connection.current_max_send_streams();
                        link.granted.set(u32::try_from(granted).unwrap_or(u32::MAX));
                    }
                    result
                })
                .await;
                let mut links = endpoint.h2.links.borrow_mut();
                let gone: Vec<_> = links.extract_if(.., |link| Rc::as_ptr(link) == of.as_ptr()).collect();
                drop(links);
                drop(gone);
            }
            Err(_) => endpoint.h2.on_opened(Err(Fault::UpstreamProtocol)),
        }
    }
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
