//! A client's connection as its requests know it, and one request's accounting from head to end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use http::{HeaderValue, StatusCode};
use socket::Instant;

use crate::engine::Engine;
use crate::observe::Series;
use crate::runtime::Runtime;
use crate::upstream::{Endpoint, Leftover, Progress, Tunnel};
use crate::view::Listener;

/// One connection from a client. Its requests share it.
pub(crate) struct Client<R: Runtime> {
    pub engine: Rc<Engine<R>>,
    pub listener: Rc<Listener<R>>,
    /// Its address as `x-forwarded-for` says it.
    pub address: HeaderValue,
    /// Requests that are open.
    pub active: Cell<u32>,
    /// When the last request ended, or the connection began.
    pub quiet_since: Cell<Instant>,
    /// Set by a request that was answered with 101: what the connection becomes.
    pub upgrade: RefCell<Option<Upgrade<R>>>,
    pub leftover: Rc<Leftover>,
}

/// The backend's side of an upgraded connection, and the request whose it was.
pub(crate) struct Upgrade<R: Runtime> {
    pub tunnel: Tunnel<R::Io>,
    pub flight: Flight<R>,
}

/// One request. Dropping it counts it.
pub(crate) struct Flight<R: Runtime> {
    client: Rc<Client<R>>,
    started: Instant,
    pub status: Option<StatusCode>,
    pub request: Option<Rc<Progress>>,
    pub response_bytes: u64,
    series: Rc<Series>,
    endpoint: Option<Rc<Endpoint<R>>>,
}

impl<R: Runtime> Flight<R> {
    pub fn start(client: Rc<Client<R>>) -> Self {
        client.active.set(client.active.get() + 1);
        let series = Rc::clone(&client.engine.unrouted);
        series.active.set(series.active.get() + 1);
        let started = client.engine.runtime.now();
        Self { client, started, status: None, request: None, response_bytes: 0, series, endpoint: None }
    }

    pub fn client(&self) -> &Rc<Client<R>> {
        &self.client
    }

    /// The request belongs to a route's backend from now on.
    pub fn assign(&mut self, series: &Rc<Series>) {
        self.series.active.set(self.series.active.get() - 1);
        self.series = Rc::clone(series);
        self.series.active.set(self.series.active.get() + 1);
    }

    /// The request counts as load of `endpoint` from now on.
    pub fn board(&mut self, endpoint: Rc<Endpoint<R>>) {
        endpoint.in_flight.set(endpoint.in_flight.get() + 1);
        debug_assert!(self.endpoint.is_none(), "a request boards one endpoint");
        self.endpoint = Some(endpoint);
    }
}

impl<R: Runtime> Drop for Flight<R> {
    fn drop(&mut self) {
        let now = self.client.engine.runtime.now();
        self.client.active.set(self.client.active.get() - 1);
        self.client.quiet_since.set(now);
        if let Some(endpoint) = &self.endpoint {
            endpoint.in_flight.set(endpoint.in_flight.get() - 1);
        }
        if let Some(request) = &self.request {
            self.series.request_bytes.add(request.bytes.get());
        }
        self.series.response_bytes.add(self.response_bytes);
        self.series.active.set(self.series.active.get() - 1);
        self.series.record(self.status, now.since(self.started));
    }
}
