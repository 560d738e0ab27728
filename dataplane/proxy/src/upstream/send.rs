//! One request's way to an endpoint, with the one repetition that connection handling allows.

use std::rc::Rc;

use http::{request, response};
use hyper::Request;
use hyper::body::{Body, Incoming};
use model::table::UpstreamProtocol;

use super::body::RequestBody;
use super::cluster::{Cluster, Endpoint};
use super::dial::Dial;
use super::h1::{H1, Outgoing, Unanswered};
use super::h2::{Refused, StreamSlot};
use crate::fault::Fault;
use crate::limits::Limits;
use crate::runtime::Runtime;

/// What carries a response whose body is still to come.
pub(crate) enum Carrier<R: Runtime> {
    H1(Box<H1<R>>),
    H2 { incoming: Incoming, slot: StreamSlot<R> },
}

/// One request's way to an endpoint.
pub(crate) struct Upstream<'a, R: Runtime> {
    pub runtime: &'a R,
    pub limits: &'a Limits,
    pub cluster: &'a Cluster<R>,
    pub endpoint: &'a Rc<Endpoint<R>>,
}

type Answered<R> = (response::Parts, Carrier<R>);

impl<R: Runtime> Upstream<'_, R> {
    /// Sends a request, in the form that the cluster's protocol wants, and waits for the response's head.
    pub async fn send(&self, head: request::Parts, body: RequestBody<R>) -> Result<Answered<R>, Fault> {
        match self.cluster.settings().protocol {
            UpstreamProtocol::Http2 => self.send_http2(Request::from_parts(head, body)).await,
            UpstreamProtocol::Http1 => self.send_http1(head, body).await,
            UpstreamProtocol::Tcp | UpstreamProtocol::Udp => Err(Fault::InvalidBackend),
        }
    }

    /// Opens a connection of its own.
    pub async fn connect(&self) -> Result<R::Io, Fault> {
        self.dial().connect().await
    }

    fn dial(&self) -> Dial<R> {
        let settings = self.cluster.settings();
        Dial {
            runtime: self.runtime.clone(),
            address: self.endpoint.address,
            timeout: settings.connect_timeout,
            tcp: settings.tcp,
            connects: self.cluster.counters.connects.clone(),
            failures: self.cluster.counters.connect_failures.clone(),
        }
    }

    /// Sends over an unused connection if there is one. A backend may close that at any time, also while the request is
    /// on its way; then the request goes out once more on a fresh one (RFC 9112, section 9.3.1), if it is safe to.
    async fn send_http1(&self, head: request::Parts, body: RequestBody<R>) -> Result<Answered<R>, Fault> {
        let counters = &self.cluster.counters;
        let Some(mut link) = self.endpoint.h1.take() else {
            let mut link = self.open_http1().await?;
            let request = link.write(head, body);
            return self.send_fresh(link, request).await;
        };
        counters.reuses.add(1);
        let request = link.write(head, body);
        match link.send(request).await {
            Ok((response, link)) => Ok((response, Carrier::H1(link))),
            Err(Unanswered { again: Some(request), .. }) => {
                counters.resent.add(1);
                let link = self.open_http1().await?;
                self.send_fresh(link, request).await
            }
            Err(unanswered) => Err(unanswered.fault),
        }
    }

    async fn open_http1(&self) -> Result<Box<H1<R>>, Fault> {
        H1::open(&self.dial(), &self.endpoint.h1, self.limits.header_bytes).await
    }

    async fn send_fresh(&self, link: Box<H1<R>>, request: Outgoing<R>) -> Result<Answered<R>, Fault> {
        match link.send(request).await {
            Ok((response, link)) => Ok((response, Carrier::H1(link))),
            Err(unanswered) => Err(unanswered.fault),
        }
    }

    /// Sends as a stream of a connection. One that the backend ended meanwhile is replaced, once.
    async fn send_http2(&self, mut request: Request<RequestBody<R>>) -> Result<Answered<R>, Fault> {
        let counters = &self.cluster.counters;
        let mut resent = false;
        loop {
            let (link, fresh) = self.endpoint.h2.acquire(|| self.dial(), self.limits).await?;
            if !fresh {
                counters.reuses.add(1);
            }
            let copy = if fresh || resent { None } else { copy_for_resending(&request) };
            let idempotent = request.method().is_idempotent();
            let Refused { fault, unprocessed, unsent } = match link.send(self.runtime, request).await {
                Ok((response, slot)) => {
                    let (head, incoming) = response.into_parts();
                    return Ok((head, Carrier::H2 { incoming, slot }));
                }
                Err(refused) => refused,
            };
            match unsent.or(copy.filter(|_| unprocessed || idempotent)) {
                Some(again) if fault == Fault::UpstreamClosed && !resent => request = again,
                _ => return Err(fault),
            }
            resent = true;
            counters.resent.add(1);
        }
    }
}

/// Holds what is needed to send a request once more: RFC 9110, section 9.2.2 allows it where nothing was processed or
/// the method is idempotent, and the body (here: none) can be repeated.
fn copy_for_resending<R: Runtime>(request: &Request<RequestBody<R>>) -> Option<Request<RequestBody<R>>> {
    if !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
