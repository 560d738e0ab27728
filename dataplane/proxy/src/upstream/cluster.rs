//! Clusters and endpoints. A [`Cluster`] keeps its endpoints through table changes as long as they stay listed, with
//! their in-flight counts, readiness and pooled connections.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use model::table::{Balance, HealthCheck, UpstreamProtocol};
use model::tcp::TcpSettings;
use socket::FirstDatagram;

use super::balance::{self, Weighted};
use super::h1::Pool;
use super::h2::Links;
use crate::limits::Limits;
use crate::observe::ClusterCounters;
use crate::runtime::Runtime;

/// The mutable side of one cluster of the table.
pub(crate) struct Cluster<R: Runtime> {
    pub name: String,
    settings: Cell<Settings>,
    pub health_check: RefCell<Option<HealthCheck>>,
    endpoints: RefCell<Vec<Rc<Endpoint<R>>>>,
    pub counters: ClusterCounters,
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Settings {
    pub protocol: UpstreamProtocol,
    pub balance: Balance,
    pub connect_timeout: Duration,
    pub tcp: TcpSettings,
}

/// The mutable side of one endpoint of one cluster.
pub(crate) struct Endpoint<R: Runtime> {
    pub address: SocketAddr,
    weight: Cell<u32>,
    /// What the table says.
    listed_healthy: Cell<bool>,
    /// What active checks say; `None` while they have not decided.
    checked: Cell<Option<bool>>,
    /// Grows when the endpoint's health check must start anew; a running check of an older life ends.
    pub check_life: Cell<u32>,
    pub checking: Cell<bool>,
    /// Smooth weighted round robin's running value.
    current: Cell<i64>,
    pub in_flight: Cell<u32>,
    pub(super) h1: Rc<Pool<R>>,
    pub(super) h2: Rc<Links<R>>,
}

impl<R: Runtime> Cluster<R> {
    pub fn new(from: &model::table::Cluster) -> Self {
        Self {
            name: from.name.clone(),
            settings: Cell::new(settings(from)),
            health_check: RefCell::new(None),
            endpoints: RefCell::default(),
            counters: ClusterCounters::default(),
        }
    }

    /// Takes over what a new table says. Endpoints that stay keep everything that traffic gave them.
    pub fn update(&self, from: &model::table::Cluster, listed: &[model::table::Endpoint]) {
        let protocol_changed = self.settings.get().protocol != from.protocol;
        self.settings.set(settings(from));
        self.relist(listed);
        for (endpoint, entry) in self.endpoints.borrow().iter().zip(listed) {
            endpoint.weight.set(entry.weight.max(1));
            endpoint.listed_healthy.set(entry.healthy);
            if protocol_changed {
                endpoint.close_idle();
            }
        }
    }

    /// Makes the endpoints those of `listed`, in its order. Mostly they are the same as before.
    fn relist(&self, listed: &[model::table::Endpoint]) {
        let mut endpoints = self.endpoints.borrow_mut();
        let same =
            endpoints.iter().map(|endpoint| endpoint.address).eq(listed.iter().map(|entry| entry.address));
        if same {
            return;
        }
        let mut former: BTreeMap<SocketAddr, Rc<Endpoint<R>>> =
            endpoints.drain(..).map(|endpoint| (endpoint.address, endpoint)).collect();
        let mut kept: BTreeMap<SocketAddr, Rc<Endpoint<R>>> = BTreeMap::new();
        for entry in listed {
            let endpoint = kept.entry(entry.address).or_insert_with(|| {
                former.remove(&entry.address).unwrap_or_else(|| Rc::new(Endpoint::new(entry.address)))
            });
            endpoints.push(Rc::clone(endpoint));
        }
        drop(endpoints);
        former.into_values().for_each(|endpoint| endpoint.retire());
    }

    /// No table lists the cluster any more.
    pub fn retire(&self) {
        self.endpoints.borrow_mut().drain(..).for_each(|endpoint| endpoint.retire());
    }

    pub fn settings(&self) -> Settings {
        self.settings.get()
    }

    pub fn endpoints(&self) -> std::cell::Ref<'_, Vec<Rc<Endpoint<R>>>> {
        self.endpoints.borrow()
    }

    /// A ready endpoint by the cluster's way of balancing; `None` when none is ready.
    pub fn pick(&self, runtime: &R) -> Option<Rc<Endpoint<R>>> {
        let endpoints = self.endpoints.borrow();
        let ready = |endpoint: &Rc<Endpoint<R>>| endpoint.is_ready();
        let at = match self.settings.get().balance {
            Balance::RoundRobin => balance::smooth_round_robin(endpoints.as_slice(), ready),
            Balance::LeastRequest => {
                let load = |endpoint: &Rc<Endpoint<R>>| endpoint.in_flight.get();
                balance::less_loaded_of_two(endpoints.as_slice(), ready, load, || runtime.random())
            }
        };
        at.map(|at| Rc::clone(&endpoints[at]))
    }

    /// The same for a datagram session, whose load is the sessions that this worker's stack has. A datagram is rewritten
    /// in place and so keeps its family: a workload of two families is listed with both.
    pub fn pick_for_datagrams(&self, runtime: &R, first: &FirstDatagram<'_>) -> Option<SocketAddr> {
        let endpoints = self.endpoints.borrow();
        let fits = |endpoint: &Rc<Endpoint<R>>| {
            endpoint.is_ready() && endpoint.address.is_ipv4() == first.destination.is_ipv4()
        };
        let at = match self.settings.get().balance {
            Balance::RoundRobin => balance::smooth_round_robin(endpoints.as_slice(), fits),
            Balance::LeastRequest => {
                let load = |endpoint: &Rc<Endpoint<R>>| first.load.of(endpoint.address);
                balance::less_loaded_of_two(endpoints.as_slice(), fits, load, || runtime.random())
            }
        };
        at.map(|at| endpoints[at].address)
    }
}

fn settings(from: &model::table::Cluster) -> Settings {
    let model::table::Cluster { protocol, balance, connect_timeout, tcp, .. } = *from;
    Settings { protocol, balance, connect_timeout, tcp }
}

impl<R: Runtime> Endpoint<R> {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            weight: Cell::new(1),
            listed_healthy: Cell::new(true),
            checked: Cell::new(None),
            check_life: Cell::new(0),
            checking: Cell::new(false),
            current: Cell::new(0),
            in_flight: Cell::new(0),
            h1: Rc::default(),
            h2: Rc::default(),
        }
    }

    /// The node's own check knows better than the table.
    pub fn is_ready(&self) -> bool {
        self.checked.get().unwrap_or(self.listed_healthy.get())
    }

    pub fn set_checked(&self, healthy: Option<bool>) {
        self.checked.set(healthy);
    }

    /// Unused connections, of both versions.
    pub fn pooled(&self) -> usize {
        self.h1.idle() + self.h2.open()
    }

    /// Looks at every unused connection: drops those that the backend has closed or that waited too long.
    pub fn sweep(&self, runtime: &R, limits: &Limits) {
        self.h1.sweep(runtime.now(), limits.upstream_idle);
        self.h2.sweep(runtime.now(), limits.upstream_idle);
    }

    fn close_idle(&self) {
        self.h1.clear();
        self.h2.clear();
    }

    fn retire(&self) {
        self.check_life.set(self.check_life.get().wrapping_add(1));
        self.h1.retire();
        self.h2.clear();
    }
}

impl<R: Runtime> Weighted for Rc<Endpoint<R>> {
    fn weight(&self) -> u32 {
        self.weight.get()
    }

    fn current(&self) -> &Cell<i64> {
        &self.current
    }
}
