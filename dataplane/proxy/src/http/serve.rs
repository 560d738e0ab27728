//! A client's HTTP connection, from its first byte to its end or its upgrade.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::Service;

use super::body::ResponseBody;
use super::exchange::exchange;
use super::flight::{Client, Upgrade};
use super::linger::{self, Drain};
use crate::engine::Engine;
use crate::gate::Ticket;
use crate::relay::{End, relay};
use crate::runtime::{Runtime, Spawner};
use crate::sniff::{Prefixed, Spoken, sniff};
use crate::view::Listener;

/// Serves `io` until it closes, is idle for too long, or is drained.
pub(crate) async fn serve<R: Runtime>(
    engine: Rc<Engine<R>>,
    listener: Rc<Listener<R>>,
    ticket: Ticket,
    io: R::Io,
    remote: SocketAddr,
) {
    let mut idle = engine.runtime.sleep(engine.config.limits.client_idle);
    let Some((io, spoken)) = sniffed(io, &ticket, &mut idle).await else { return };
    // Most of the state is made here, once there was a byte: an idle connection that never spoke stays small.
    let served: Pin<Box<dyn Future<Output = ()>>> = {
        let client = client(engine, listener, remote);
        let watch = Watch { ticket, idle, told: false };
        match spoken {
            Spoken::Http1 => Box::pin(serve_http1(client, io, watch)),
            Spoken::Http2 => Box::pin(serve_http2(client, io, watch)),
        }
    };
    served.await;
}

async fn sniffed<Io: Read + Unpin, S: Future<Output = ()> + Unpin>(
    io: Io,
    ticket: &Ticket,
    idle: &mut S,
) -> Option<(Prefixed<Io>, Spoken)> {
    let mut sniffing = sniff(io);
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut sniffing).poll(cx) {
            return Poll::Ready(result.ok());
        }
        if ticket.poll_closed(cx) || Pin::new(&mut *idle).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    })
    .await
}

fn client<R: Runtime>(engine: Rc<Engine<R>>, listener: Rc<Listener<R>>, remote: SocketAddr) -> Rc<Client<R>> {
    let address = HeaderValue::from_str(&remote.ip().to_canonical().to_string())
        .expect("an address in text is a field value");
    let quiet_since = Cell::new(engine.runtime.now());
    Rc::new(Client {
        engine,
        listener,
        address,
        active: Cell::new(0),
        quiet_since,
        upgrade: RefCell::new(None),
        leftover: Rc::default(),
    })
}

/// Answers a connection's requests.
struct Requests<R: Runtime>(Rc<Client<R>>);

impl<R: Runtime> Service<Request<Incoming>> for Requests<R> {
    type Response = Response<ResponseBody<R>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = Rc::clone(&self.0);
        Box::pin(async move { Ok(exchange(client, request).await) })
    }
}

async fn serve_http1<R: Runtime>(client: Rc<Client<R>>, io: Prefixed<R::Io>, mut watch: Watch<R>) {
    let limits = &client.engine.config.limits;
    let mut builder = http1::Builder::new();
    builder.auto_date_header(false).max_header_size(limits.header_bytes).max_buf_size(limits.buffer_bytes);
    let mut connection = builder.serve_connection(io, Requests(Rc::clone(&client)));
    let mut drain = Drain::default();
    let ended = poll_fn(|cx| {
        match watch.poll(&client, cx) {
            Notice::None => {}
            Notice::Drain => Pin::new(&mut connection).graceful_shutdown(),
            Notice::Idle => return Poll::Ready(None),
        }
        let polled = connection.poll_without_shutdown(cx);
        if polled.is_pending() {
            drain.poll(&client, cx);
        }
        polled.map(Some)
    })
    .await;
    let Some(ended) = ended else { return };
    let parts = connection.into_parts();
    let mut io = parts.io;
    if ended.is_err() || client.leftover.is_given_up() {
        return linger::close(&client.engine, io).await;
    }
    let Some(Upgrade { tunnel, mut flight }) = client.upgrade.take() else {
        let _: io::Result<()> = poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await;
        return;
    };
    let down = End::new(io, parts.read_buf);
    let up = End::new(tunnel.io, tunnel.read);
    let carried = relay(&client.engine, down, up, None).await;
    flight.response_bytes += carried.to_client;
}

async fn serve_http2<R: Runtime>(client: Rc<Client<R>>, io: Prefixed<R::Io>, mut watch: Watch<R>) {
    let limits = &client.engine.config.limits;
    let mut builder = http2::Builder::new(Spawner(client.engine.runtime.clone()));
    builder
        .auto_date_header(false)
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(limits.buffer_bytes);
    let mut connection = builder.serve_connection(io, Requests(Rc::clone(&client)));
    let mut said_goodbye = false;
    poll_fn(|cx| {
        match watch.poll(&client, cx) {
            Notice::None => {}
            // GOAWAY was not even read in as long again.
            Notice::Idle if said_goodbye => return Poll::Ready(()),
            Notice::Idle | Notice::Drain => {
                said_goodbye = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
        Pin::new(&mut connection).poll(cx).map(|_| ())
    })
    .await;
}

/// Looks after a connection from outside: drained by its listener, or idle.
struct Watch<R: Runtime> {
    ticket: Ticket,
    idle: R::Sleep,
    told: bool,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Notice {
    None,
    /// Told once.
    Drain,
    Idle,
}

impl<R: Runtime> Watch<R> {
    fn poll(&mut self, client: &Client<R>, cx: &mut Context<'_>) -> Notice {
        while Pin::new(&mut self.idle).poll(cx).is_ready() {
            let limit = client.engine.config.limits.client_idle;
            let quiet = match client.active.get() {
                0 => client.engine.runtime.now().since(client.quiet_since.get()),
                _ => std::time::Duration::ZERO,
            };
            let due = quiet >= limit;
            self.idle = client.engine.runtime.sleep(if due { limit } else { limit - quiet });
            if due {
                // Polled once more by what the caller does now, which arms the new timer.
                cx.waker().wake_by_ref();
                return Notice::Idle;
            }
        }
        if !self.told && self.ticket.poll_closed(cx) {
            self.told = true;
            return Notice::Drain;
        }
        Notice::None
    }
}
