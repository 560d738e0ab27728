//! One request: check, route, filter, choose an endpoint, send, translate the answer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode, Version};
use model::table::UpstreamProtocol;

use super::answer;
use super::body::ResponseBody;
use super::flight::{Client, Flight, Upgrade};
use super::message::{self, Seen};
use crate::engine::Engine;
use crate::fault::Fault;
use crate::runtime::Runtime;
use crate::table::{Action, Filters, Hostname, Origin, Route};
use crate::upstream::{Carrier, ClientBody, Cluster, Progress, RequestBody, Upstream};
use crate::view::{Backend, RouteState};

/// Serves one request. What goes wrong before the response's head is answered here, so there is always a response.
pub(super) async fn exchange<R: Runtime>(
    client: Rc<Client<R>>,
    head: Parts,
    body: Option<ClientBody<R>>,
) -> Response<ResponseBody<R>> {
    let grpc = answer::is_grpc(&head.headers);
    let mut flight = Flight::start(client);
    match respond(&mut flight, head, body).await {
        Ok(Reply::Own(response)) => own(response, flight),
        Ok(Reply::Relayed { head, carrier, deadline }) => {
            flight.status = Some(head.status);
            Response::from_parts(head, ResponseBody::relay(carrier, deadline, flight))
        }
        Ok(Reply::Switched { head, carrier }) => switch(head, carrier, flight),
        Err(fault) => {
            flight.client().engine.count(fault);
            own(answer::fault(fault, grpc), flight)
        }
    }
}

/// What becomes of a request.
enum Reply<R: Runtime> {
    Own(Response<Bytes>),
    Relayed {
        head: http::response::Parts,
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

async fn respond<R: Runtime>(
    flight: &mut Flight<R>,
    head: Parts,
    body: Option<ClientBody<R>>,
) -> Result<Reply<R>, Fault> {
    let seen = Seen::in_fields(&head.headers);
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
    body: Option<ClientBody<R>>,
) -> Result<Reply<R>, Fault> {
    let client = Rc::clone(flight.client());
    let engine = &client.engine;
    let route: &Route = &way.state.route;
    let cluster = way.backend.cluster.as_ref().ok_or(Fault::InvalidBackend)?;
    let endpoint = cluster.pick(&engine.runtime).ok_or(Fault::NoEndpoint)?;
    flight.board(Rc::clone(&endpoint));
    let version = head.version;
    let upgrade = translate_request(&mut head, &client, cluster, &way)?;
    let body = request_body(engine, flight, body);
    let upstream =
        Upstream { runtime: &engine.runtime, limits: &engine.config.limits, cluster, endpoint: &endpoint };
    let mut deadline = deadline(engine, route);
    let sent = within(&mut deadline, upstream.send(head, body)).await;
    let (mut head, carrier) = sent.map_err(|fault| {
        // The request's body may have failed first: the client's fault, not the backend's.
        let theirs = flight.request.as_ref().and_then(|progress| progress.fault.get());
        theirs.unwrap_or(fault)
    })?;
    let granted = translate_response(&mut head, version, way.filters());
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Reply::Relayed { head, carrier, deadline });
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

fn request_body<R: Runtime>(
    engine: &Engine<R>,
    flight: &mut Flight<R>,
    body: Option<ClientBody<R>>,
) -> RequestBody<R> {
    let Some(body) = body.filter(|body| !body.is_end_stream()) else { return RequestBody::Empty };
    let progress = Rc::new(Progress::default());
    flight.request = Some(Rc::clone(&progress));
    RequestBody::stream(body, engine.runtime.clone(), engine.config.limits.body_idle, progress)
}

/// Makes the response the client's, who speaks `version`. Returns the protocol that was switched to.
fn translate_response(
    head: &mut http::response::Parts,
    version: Version,
    filters: [&Filters; 2],
) -> Option<HeaderValue> {
    let mut seen = Seen::in_fields(&head.headers);
    let hop = message::strip_hop(&mut head.headers, &mut seen);
    edit_response(&mut head.headers, filters);
    message::settle_length(&mut head.headers);
    head.version = version;
    hop.upgrade
}

fn edit_response<const N: usize>(headers: &mut HeaderMap, filters: [&Filters; N]) {
    for edit in filters.iter().flat_map(|filters| &filters.response) {
        edit.apply(headers);
    }
}

/// The connection becomes the client's and the backend's, byte by byte.
fn switch<R: Runtime>(
    head: http::response::Parts,
    carrier: Carrier<R>,
    mut flight: Flight<R>,
) -> Response<ResponseBody<R>> {
    let Carrier::H1(link) = carrier else {
        flight.client().engine.count(Fault::UpstreamProtocol);
        return own(answer::fault(Fault::UpstreamProtocol, false), flight);
    };
    let tunnel = link.upgrade();
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
