//! One request: check, route, filter, choose an endpoint, send, translate the answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use model::table::UpstreamProtocol;

use super::answer;
use super::body::ResponseBody;
use super::flight::{Client, Flight, Upgrade};
use super::message::{self, Seen};
use crate::engine::Engine;
use crate::fault::Fault;
use crate::runtime::Runtime;
use crate::table::{Action, Filters, Hostname, Origin, Route};
use crate::upstream::{Carrier, Cluster, IdleWatch, Progress, RequestBody, Unread, Upstream};
use crate::view::{Backend, RouteState};

/// Serves one request. What goes wrong before the response's head is answered here, so there is always a response.
pub(super) async fn exchange<R: Runtime>(
    client: Rc<Client<R>>,
    request: Request<Incoming>,
) -> Response<ResponseBody<R>> {
    let (head, body) = request.into_parts();
    let grpc = answer::is_grpc(&head.headers);
    let leftover = Rc::clone(&client.leftover);
    let mut flight = Flight::start(client);
    let mut response = match respond(&mut flight, head, body).await {
        Ok(Reply::Own(response)) => own(response, flight),
        Ok(Reply::Relayed { head, body, carrier, deadline }) => {
            flight.status = Some(head.status);
            Response::from_parts(head, ResponseBody::relay(body, carrier, deadline, flight))
        }
        Ok(Reply::Switched { head, carrier }) => switch(head, carrier, flight).await,
        Err(fault) => {
            flight.client().engine.count(fault);
            own(answer::fault(fault, grpc), flight)
        }
    };
    if leftover.is_given_up() {
        // Whoever holds the body back is told that it will not be read (RFC 9110, section 10.1.1).
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// What becomes of a request.
enum Reply<R: Runtime> {
    Own(Response<Bytes>),
    Relayed {
        head: http::response::Parts,
        body: Incoming,
        carrier: Carrier<R>,
        deadline: Option<R::Sleep>,
    },
    /// 101, over HTTP/1.1.
    Switched {
        head: http::response::Parts,
        carrier: Carrier<R>,
    },
}

fn own<R: Runtime>(response: Response<Bytes>, mut flight: Flight<R>) -> Response<ResponseBody<R>> {
    flight.status = Some(response.status());
    response.map(|bytes| ResponseBody::fixed(bytes, Some(flight)))
}

async fn respond<R: Runtime>(flight: &mut Flight<R>, head: Parts, body: Incoming) -> Result<Reply<R>, Fault> {
    let seen = Seen::in_fields(&head.headers);
    let body = arriving(flight, body, head.version, &seen);
    message::check(&head, &seen)?;
    let client = Rc::clone(flight.client());
    let state = client.listener.route(&message::host(&head), &head).ok_or(Fault::NoRoute)?;
    let route = &state.route;
    if let Some(redirect) = &route.filters.redirect {
        flight.assign(&state.series);
        let host = message::host(&head);
        let origin = Origin { scheme: "http", host: &host, port: client.listener.port() };
        let location = redirect.location(&head.uri, origin).ok_or(Fault::BadRewrite)?;
        let mut response = answer::redirect(redirect.status, location);
        edit_response(response.headers_mut(), [&route.filters]);
        return Ok(Reply::Own(response));
    }
    let backends = match &route.action {
        Action::Respond { status, body } => {
            flight.assign(&state.series);
            let mut response = answer::fixed(*status, body);
            edit_response(response.headers_mut(), [&route.filters]);
            return Ok(Reply::Own(response));
        }
        Action::Forward(backends) => backends,
    };
    let engine = &client.engine;
    let at = state.backends.draw(engine.runtime.random()).ok_or(Fault::InvalidBackend)?;
    let backend = &state.backends.entries[at];
    flight.assign(&backend.series);
    forward(flight, Forwarding { state: &state, backend, filters: &backends[at].filters, seen }, head, body)
        .await
}

/// Which way a request goes.
struct Forwarding<'a, R: Runtime> {
    state: &'a RouteState<R>,
    backend: &'a Backend<R>,
    /// The backend's own, applied before the route's: Envoy's order, in which the route's word is the last.
    filters: &'a Filters,
    seen: Seen,
}

impl<'a, R: Runtime> Forwarding<'a, R> {
    fn filters(&self) -> [&'a Filters; 2] {
        [self.filters, &self.state.route.filters]
    }
}

async fn forward<R: Runtime>(
    flight: &mut Flight<R>,
    way: Forwarding<'_, R>,
    mut head: Parts,
    body: RequestBody<R>,
) -> Result<Reply<R>, Fault> {
    let client = Rc::clone(flight.client());
    let engine = &client.engine;
    let route: &Route = &way.state.route;
    let cluster = way.backend.cluster.as_ref().ok_or(Fault::InvalidBackend)?;
    let endpoint = cluster.pick(&engine.runtime).ok_or(Fault::NoEndpoint)?;
    flight.board(Rc::clone(&endpoint));
    let from = Origins { version: head.version, method_is_head: head.method == Method::HEAD };
    let upgrade = translate_request(&mut head, &client, cluster, &way)?;
    if head.version == Version::HTTP_11 && !body.is_end_stream() && body.size_hint().exact().is_none() {
        // hyper sends a body of unknown length with GET or HEAD only if the head says so.
        head.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let upstream =
        Upstream { runtime: &engine.runtime, limits: &engine.config.limits, cluster, endpoint: &endpoint };
    let mut deadline = deadline(engine, route);
    let sent = within(&mut deadline, upstream.send(Request::from_parts(head, body))).await;
    let (response, carrier) = sent.map_err(|fault| {
        // The request's body may have failed first: the client's fault, not the backend's.
        let theirs = flight.request.as_ref().and_then(|progress| progress.fault.get());
        theirs.unwrap_or(fault)
    })?;
    let (mut head, body) = response.into_parts();
    let granted = translate_response(&mut head, from, way.filters());
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Reply::Relayed { head, body, carrier, deadline });
    }
    let (Some(_), Some(protocol)) = (upgrade, granted) else { return Err(Fault::UpstreamProtocol) };
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    head.headers.insert(header::UPGRADE, protocol);
    Ok(Reply::Switched { head, carrier })
}

/// Makes the request the backend's: fields of the hop, forwarded fields, filters, and the form of its HTTP version.
/// Returns the protocol that an upgrade is asked to, if one is passed on.
fn translate_request<R: Runtime>(
    head: &mut Parts,
    client: &Client<R>,
    cluster: &Cluster<R>,
    way: &Forwarding<'_, R>,
) -> Result<Option<HeaderValue>, Fault> {
    let mut seen = way.seen;
    let hop = message::strip_hop(&mut head.headers, &mut seen);
    let random = || [client.engine.runtime.random(), client.engine.runtime.random()];
    message::add_forwarded(&mut head.headers, &seen, &client.address, random);
    let mut hostname: Option<&Hostname> = None;
    for filters in way.filters() {
        for edit in &filters.request {
            edit.apply(&mut head.headers);
        }
        if let Some(edit) = &filters.path {
            let target = edit.apply(&head.uri).ok_or(Fault::BadRewrite)?;
            let mut parts = std::mem::take(&mut head.uri).into_parts();
            parts.path_and_query = Some(target);
            head.uri = http::Uri::from_parts(parts).map_err(|_| Fault::BadRewrite)?;
        }
        hostname = filters.hostname.as_ref().or(hostname);
    }
    if cluster.settings().protocol == UpstreamProtocol::Http2 {
        message::into_http2(head, hostname.map(|hostname| hostname.authority.clone()))?;
        if hop.trailers {
            head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        return Ok(None);
    }
    let upgrade = hop.upgrade.filter(|_| head.version == Version::HTTP_11);
    message::into_http1(head, hostname.map(|hostname| hostname.value.clone()));
    if let Some(protocol) = &upgrade {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, protocol.clone());
    } else if hop.trailers {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        head.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(upgrade)
}

/// A request's body as it will be sent on. Whoever drops it before its end leaves the rest to the client's connection.
fn arriving<R: Runtime>(
    flight: &mut Flight<R>,
    body: Incoming,
    version: Version,
    seen: &Seen,
) -> RequestBody<R> {
    if body.is_end_stream() {
        return RequestBody::Empty;
    }
    let progress = Rc::new(Progress::default());
    flight.request = Some(Rc::clone(&progress));
    let client = flight.client();
    let unread = match version {
        Version::HTTP_2 => Unread::Reset,
        _ => client.leftover.lend(!seen.expects()),
    };
    let idle = IdleWatch::new(client.engine.runtime.clone(), client.engine.config.limits.body_idle);
    RequestBody::stream(body, idle, progress, unread)
}

/// What must be known of the request when its response comes.
#[derive(Copy, Clone)]
struct Origins {
    version: Version,
    method_is_head: bool,
}

/// Makes the response the client's. Returns the protocol that was switched to.
fn translate_response(
    head: &mut http::response::Parts,
    from: Origins,
    filters: [&Filters; 2],
) -> Option<HeaderValue> {
    let mut seen = Seen::in_fields(&head.headers);
    let hop = message::strip_hop(&mut head.headers, &mut seen);
    edit_response(&mut head.headers, filters);
    // hyper's server writes HTTP/1.1 or what the client speaks, never what the backend spoke.
    head.version = if from.version == Version::HTTP_2 { Version::HTTP_2 } else { Version::HTTP_11 };
    debug_assert!(!head.headers.contains_key(header::TRANSFER_ENCODING) || from.method_is_head);
    hop.upgrade
}

fn edit_response<const N: usize>(headers: &mut HeaderMap, filters: [&Filters; N]) {
    for edit in filters.iter().flat_map(|filters| &filters.response) {
        edit.apply(headers);
    }
}

/// The connection becomes the client's and the backend's, byte by byte.
async fn switch<R: Runtime>(
    head: http::response::Parts,
    carrier: Carrier<R>,
    mut flight: Flight<R>,
) -> Response<ResponseBody<R>> {
    let tunnel = match carrier {
        Carrier::H1(link) => link.upgrade().await,
        Carrier::H2(_) => None,
    };
    let Some(tunnel) = tunnel else {
        flight.client().engine.count(Fault::UpstreamClosed);
        return own(answer::fault(Fault::UpstreamClosed, false), flight);
    };
    flight.status = Some(head.status);
    let client = Rc::clone(flight.client());
    *client.upgrade.borrow_mut() = Some(Upgrade { tunnel, flight });
    Response::from_parts(head, ResponseBody::fixed(Bytes::new(), None))
}

/// One try is all there is, so the shorter of the two times decides.
fn deadline<R: Runtime>(engine: &Engine<R>, route: &Route) -> Option<R::Sleep> {
    let timeouts = route.timeouts;
    let time = [timeouts.request, timeouts.backend_request]
        .into_iter()
        .flatten()
        .filter(|time| !time.is_zero())
        .min();
    time.map(|time| engine.runtime.sleep(time))
}

async fn within<T, S: Future<Output = ()> + Unpin>(
    deadline: &mut Option<S>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let Some(deadline) = deadline else { return work.await };
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(result),
        Poll::Pending => Pin::new(&mut *deadline).poll(cx).map(|()| Err(Fault::RequestTimeout)),
    })
    .await
}
