//! What a worker serves: listeners, and routes with the clusters behind them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use socket::Share;

use crate::gate::Gate;
use crate::observe::{ListenerCounters, Series};
use crate::runtime::Runtime;
use crate::table::{Domains, Route};
use crate::upstream::{Cluster, draw};

/// What becomes of a listener's connections. It changes with the table; the connections stay.
pub(crate) enum Serves<R: Runtime> {
    Http { domains: Arc<Domains>, routes: Rc<[Rc<RouteState<R>>]> },
    Tcp(Rc<Backends<R>>),
    Udp { backends: Rc<Backends<R>>, idle: Duration, version: u64 },
}

pub(crate) struct Listener<R: Runtime> {
    pub name: String,
    port: Cell<u16>,
    pub gate: Rc<Gate>,
    /// This worker's part of the connections that the node allows.
    pub share: Share,
    pub serves: RefCell<Serves<R>>,
    pub counters: ListenerCounters,
}

impl<R: Runtime> Listener<R> {
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    pub fn new(name: &str, port: u16, serves: Serves<R>, share: Share) -> Self {
        Self {
            name: name.to_owned(),
            port: Cell::new(port),
            gate: Rc::default(),
            share,
            serves: RefCell::new(serves),
            counters: ListenerCounters::default(),
        }
    }

    /// Takes over what a new table says.
    pub fn update(&self, port: u16, serves: Serves<R>) {
        self.port.set(port);
        let former = self.serves.replace(serves);
        drop(former);
    }

    /// The first route for `host` that matches, by the table in force now.
    pub fn route(&self, host: &str, head: &Parts) -> Option<Rc<RouteState<R>>> {
        let serves = self.serves.borrow();
        let Serves::Http { domains, routes } = &*serves else { return None };
        let candidates = domains.find(host)?;
        candidates.iter().map(|&at| &routes[at]).find(|state| state.route.matches(head)).cloned()
    }
}

/// A route with what this worker knows of its backends. A request holds it to its end.
pub(crate) struct RouteState<R: Runtime> {
    pub route: Arc<Route>,
    pub backends: Backends<R>,
    /// Counts what the route answers itself.
    pub series: Rc<Series>,
}

/// Clusters with weights.
pub(crate) struct Backends<R: Runtime> {
    pub entries: Vec<Backend<R>>,
}

pub(crate) struct Backend<R: Runtime> {
    /// `None`: an invalid reference, which has its share all the same.
    pub cluster: Option<Rc<Cluster<R>>>,
    pub weight: u32,
    pub series: Rc<Series>,
    /// The number that the stack hands back in session listings.
    pub tag: u32,
}

impl<R: Runtime> Backends<R> {
    /// By weight; `None` when no entry has one.
    pub fn draw(&self, random: u64) -> Option<usize> {
        match self.entries.as_slice() {
            [only] => (only.weight > 0).then_some(0),
            entries => draw(entries.iter().map(|backend| backend.weight), random),
        }
    }
}
