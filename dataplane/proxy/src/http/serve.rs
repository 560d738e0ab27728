//! A client's HTTP connection: told apart by its first bytes, watched from outside, and HTTP/2 served.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use hyper::body::{Body, Incoming};
use hyper::rt::Read;
use hyper::server::conn::http2;
use hyper::service::Service;

use super::body::ResponseBody;
use super::exchange::exchange;
use super::flight::Client;
use super::serve_http1::serve_http1;
use super::watch::{Notice, Watch};
use crate::engine::Engine;
use crate::gate::Ticket;
use crate::runtime::{Runtime, Spawner};
use crate::sniff::{Prefixed, Spoken, sniff};
use crate::upstream::ClientBody;
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
        let watch = Watch::new(ticket, idle);
        match spoken {
            Spoken::Http1 => {
                // Thousands of bytes: made where they stay, not copied there.
                let serving = Box::write(Box::new_uninit(), serve_http1(client, io, watch));
                Box::into_pin(serving)
            }
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
    let address = field_value(remote.ip().to_canonical());
    let quiet_since = Cell::new(engine.runtime.now());
    Rc::new(Client {
        engine,
        listener,
        address,
        active: Cell::new(0),
        quiet_since,
        upgrade: RefCell::new(None),
    })
}

/// What `x-forwarded-for` says. Every connection pays for it: IPv4 in decimal (RFC 791's dotted quad) takes a tenth of what
/// `Display` does.
fn field_value(address: IpAddr) -> HeaderValue {
    let text = match address {
        IpAddr::V4(address) => {
            let mut text = String::with_capacity("255.255.255.255".len());
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    text.push('.');
                }
                text.push_str(itoa::Buffer::new().format(octet));
            }
            text
        }
        IpAddr::V6(address) => address.to_string(),
    };
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("an address in text is a field value")
}

/// Answers the requests of an HTTP/2 connection.
struct Requests<R: Runtime>(Rc<Client<R>>);

impl<R: Runtime> Service<Request<Incoming>> for Requests<R> {
    type Response = Response<ResponseBody<R>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let client = Rc::clone(&self.0);
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = (!body.is_end_stream()).then(|| ClientBody::H2(body));
            Ok(exchange(client, head, body).await)
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn an_address_is_told_as_it_is_displayed() {
        let v4 =
            [[0, 0, 0, 0], [10, 77, 0, 2], [1, 20, 255, 9], [255; 4]].map(Ipv4Addr::from).map(IpAddr::from);
        let v6 = [Ipv6Addr::LOCALHOST, Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)].map(IpAddr::from);
        for address in v4.into_iter().chain(v6) {
            assert_eq!(field_value(address), address.to_string());
        }
    }
}
