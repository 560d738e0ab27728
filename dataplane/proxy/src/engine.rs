//! One worker's proxy: the table in force, and beside it what traffic knows, which survives a new table.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use model::table::{GATEWAY_CLASS, Protocol, Table, WeightedCluster};
use socket::{InterfaceId, Role};

use crate::fault::{Fault, Side};
use crate::gate::Gate;
use crate::health::{self, HealthReport};
use crate::http::host;
use crate::limits::{Limits, RELAY_BUFFER_BYTES, SERIES, SPARE_RELAY_BUFFERS};
use crate::listen;
use crate::observe::{Counter, ListenerCounters, Sample, Series, owned};
use crate::runtime::{Runtime, Sockets};
use crate::table::{Action, Bind, Domains, Route, Snapshot, Transport};
use crate::upstream::{Cluster, draw};

/// How often unused connections to backends are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What one worker's proxy is told at its start.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    pub worker: u16,
    pub workers: u16,
    pub limits: Limits,
    /// Makes runs with the same seed alike.
    pub seed: u64,
    /// One worker checks health for all; the others are told by [`Proxy::apply_health`].
    pub checks_health: bool,
}

/// One worker's proxy. A handle: clones are the same proxy. Every method is called inside `Core::enter`'s scope.
pub struct Proxy<R: Runtime = Sockets>(pub(crate) Rc<Engine<R>>);

impl<R: Runtime> Clone for Proxy<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Runtime> std::fmt::Debug for Proxy<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("worker", &self.0.config.worker).finish_non_exhaustive()
    }
}

impl Proxy<Sockets> {
    pub fn new(config: ProxyConfig) -> Self {
        Self::on(Sockets, config)
    }
}

impl<R: Runtime> Proxy<R> {
    /// A proxy on a runtime of the caller's choice.
    pub fn on(runtime: R, config: ProxyConfig) -> Self {
        Self(Rc::new(Engine {
            runtime,
            config,
            snapshot: RefCell::default(),
            view: RefCell::default(),
            clusters: RefCell::default(),
            listeners: RefCell::default(),
            leaving: RefCell::default(),
            binds: RefCell::default(),
            series: RefCell::default(),
            other: Rc::default(),
            unrouted: Rc::default(),
            interfaces: RefCell::default(),
            classes: RefCell::default(),
            faults: Default::default(),
            unclaimed: Counter::default(),
            datagrams_unclaimed: Counter::default(),
            listen_failures: Counter::default(),
            tags: RefCell::default(),
            spare_buffers: RefCell::default(),
            reports: RefCell::default(),
            draining: Cell::new(false),
            sweeping: Cell::new(false),
        }))
    }

    /// Names and roles of the node's interfaces, from which a connection's source class follows.
    pub fn set_interfaces(&self, interfaces: Vec<(InterfaceId, String, Role)>) {
        *self.0.interfaces.borrow_mut() = interfaces;
        self.0.index_classes();
    }

    /// Puts a table in force: opens and closes listeners, and gives the former table back, to be freed elsewhere.
    /// Requests under way go on by the route they have; pools, counts and health of endpoints that stay are kept.
    pub fn set_table(&self, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        let engine = &self.0;
        engine.update_clusters(snapshot.table());
        let view = engine.view_of(&snapshot);
        engine.update_listeners(&snapshot, &view);
        let former = engine.snapshot.replace(Some(snapshot));
        let former_view = engine.view.replace(Some(view));
        drop(former_view);
        engine.index_classes();
        if !engine.draining.get() {
            listen::open_and_close(engine);
        }
        health::start_checks(engine);
        engine.start_sweeping();
        former
    }

    /// Accepts no more; connections end after the requests they carry (`Connection: close`, GOAWAY). Relayed streams go
    /// on to their end.
    pub fn drain(&self) {
        self.0.draining.set(true);
        self.0.binds.borrow_mut().clear();
        let listeners: Vec<_> = self.0.listeners.borrow().values().cloned().collect();
        listeners.iter().for_each(|listener| listener.gate.close());
    }

    /// Connections and relayed streams that are still open.
    pub fn active(&self) -> usize {
        let (listeners, leaving) = (self.0.listeners.borrow(), self.0.leaving.borrow());
        listeners.values().chain(leaving.iter()).map(|listener| listener.gate.open()).sum()
    }

    /// All counters, by name and labels; workers' samples are added up by the caller.
    pub fn samples(&self, sink: &mut dyn FnMut(Sample)) {
        self.0.samples(sink);
    }

    /// Results of the checks that this worker ran, since the last call.
    pub fn take_health_reports(&self) -> Vec<HealthReport> {
        std::mem::take(&mut *self.0.reports.borrow_mut())
    }

    /// Takes over what another worker's checks found.
    pub fn apply_health(&self, reports: &[HealthReport]) {
        reports.iter().for_each(|report| health::apply(&self.0, report));
    }

    /// What a datagram session's `tag` stands for: listener and cluster.
    pub fn tag_name(&self, tag: u32) -> Option<(String, String)> {
        self.0.tags.borrow().get(tag as usize).cloned()
    }
}

pub(crate) struct Engine<R: Runtime> {
    pub runtime: R,
    pub config: ProxyConfig,
    snapshot: RefCell<Option<Arc<Snapshot>>>,
    view: RefCell<Option<Rc<View<R>>>>,
    clusters: RefCell<HashMap<String, Rc<Cluster<R>>>>,
    listeners: RefCell<BTreeMap<String, Rc<Listener<R>>>>,
    /// No longer listed, but with connections that have not ended.
    leaving: RefCell<Vec<Rc<Listener<R>>>>,
    /// Sockets that listen, each with the gate that ends it when dropped from here.
    pub binds: RefCell<BTreeMap<Bind, listen::Bound>>,
    series: RefCell<HashMap<(String, String), Rc<Series>>>,
    /// Counts for all that is beyond [`SERIES`].
    other: Rc<Series>,
    /// Counts what ended before a route was found.
    pub unrouted: Rc<Series>,
    interfaces: RefCell<Vec<(InterfaceId, String, Role)>>,
    classes: RefCell<Classes>,
    faults: [Cell<u64>; Fault::ALL.len()],
    /// Connections to an address of ours that no listener of their class serves.
    pub unclaimed: Counter,
    pub datagrams_unclaimed: Counter,
    pub listen_failures: Counter,
    tags: RefCell<Vec<(String, String)>>,
    spare_buffers: RefCell<Vec<Box<[u8]>>>,
    pub reports: RefCell<Vec<HealthReport>>,
    draining: Cell<bool>,
    sweeping: Cell<bool>,
}

/// A snapshot as this worker serves it: positions as in the snapshot.
pub(crate) struct View<R: Runtime> {
    snapshot: Arc<Snapshot>,
    listeners: Vec<Rc<Listener<R>>>,
}

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
    pub serves: RefCell<Serves<R>>,
    pub counters: ListenerCounters,
}

impl<R: Runtime> Listener<R> {
    pub fn port(&self) -> u16 {
        self.port.get()
    }

    /// The first route that matches, by the table in force now.
    pub fn route(&self, head: &Parts) -> Option<Rc<RouteState<R>>> {
        let serves = self.serves.borrow();
        let Serves::Http { domains, routes } = &*serves else { return None };
        let candidates = domains.find(&host(head))?;
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

/// Source classes, by interface and by address.
#[derive(Default)]
struct Classes {
    by_interface: HashMap<InterfaceId, Rc<str>>,
    by_address: HashMap<IpAddr, Rc<str>>,
}

impl<R: Runtime> Engine<R> {
    pub fn count(&self, fault: Fault) {
        let counter = &self.faults[fault as usize];
        counter.set(counter.get() + 1);
    }

    pub fn snapshot(&self) -> Ref<'_, Option<Arc<Snapshot>>> {
        self.snapshot.borrow()
    }

    pub fn clusters(&self) -> Ref<'_, HashMap<String, Rc<Cluster<R>>>> {
        self.clusters.borrow()
    }

    /// The listener for what came from `source` to `bind`.
    pub fn listener(
        &self,
        bind: Bind,
        interface: Option<InterfaceId>,
        source: IpAddr,
    ) -> Option<Rc<Listener<R>>> {
        let view = self.view.borrow();
        let view = view.as_ref()?;
        let classes = self.classes.borrow();
        let class = interface
            .and_then(|interface| classes.by_interface.get(&interface))
            .or_else(|| classes.by_address.get(&source.to_canonical()));
        let at = view.snapshot.listener(bind, class.map_or(GATEWAY_CLASS, |class| class))?;
        Some(Rc::clone(&view.listeners[at]))
    }

    fn index_classes(&self) {
        let mut classes = Classes::default();
        let snapshot = self.snapshot.borrow();
        let interfaces = self.interfaces.borrow();
        for source in snapshot.iter().flat_map(|snapshot| &snapshot.table().classes) {
            let class: Rc<str> = source.class.as_str().into();
            for (id, name, _) in interfaces.iter() {
                if source.interfaces.contains(name) {
                    classes.by_interface.entry(*id).or_insert_with(|| Rc::clone(&class));
                }
            }
            for address in &source.addresses {
                classes.by_address.entry(address.to_canonical()).or_insert_with(|| Rc::clone(&class));
            }
        }
        *self.classes.borrow_mut() = classes;
    }

    fn update_clusters(&self, table: &Table) {
        let mut clusters = self.clusters.borrow_mut();
        let gone: Vec<_> = clusters.extract_if(|name, _| !table.clusters.contains_key(name)).collect();
        for (name, from) in &table.clusters {
            let listed = table.endpoints.get(name).map_or(&[][..], Vec::as_slice);
            if !clusters.contains_key(name) {
                clusters.insert(name.clone(), Rc::new(Cluster::new(from)));
            }
            clusters[name].update(from, listed);
        }
        drop(clusters);
        gone.into_iter().for_each(|(_, cluster)| cluster.retire());
    }

    fn view_of(&self, snapshot: &Arc<Snapshot>) -> Rc<View<R>> {
        self.prune_series(snapshot);
        let routes: Rc<[Rc<RouteState<R>>]> =
            snapshot.routes().iter().map(|route| Rc::new(self.route_state(route))).collect();
        let listeners =
            snapshot.listeners().iter().map(|from| self.listener_of(from, snapshot, &routes)).collect();
        Rc::new(View { snapshot: Arc::clone(snapshot), listeners })
    }

    fn route_state(&self, route: &Arc<Route>) -> RouteState<R> {
        let backend = |from: &crate::table::Backend| {
            let name = from.cluster.as_deref();
            Backend {
                cluster: name.and_then(|name| self.clusters.borrow().get(name).cloned()),
                weight: from.weight,
                series: self.series_of(&route.name, name.unwrap_or("invalid")),
                tag: 0,
            }
        };
        let entries = match &route.action {
            Action::Forward(backends) => backends.iter().map(backend).collect(),
            Action::Respond { .. } => Vec::new(),
        };
        let series = self.series_of(&route.name, "");
        RouteState { route: Arc::clone(route), backends: Backends { entries }, series }
    }

    fn listener_of(
        &self,
        from: &model::table::Listener,
        snapshot: &Arc<Snapshot>,
        routes: &Rc<[Rc<RouteState<R>>]>,
    ) -> Rc<Listener<R>> {
        let serves = match &from.protocol {
            Protocol::Http { routes: name } => {
                let domains = snapshot.domains(name).expect("a snapshot's listeners name its route tables");
                Serves::Http { domains: Arc::clone(domains), routes: Rc::clone(routes) }
            }
            Protocol::Tcp { backends } => Serves::Tcp(self.stream_backends(&from.name, backends)),
            Protocol::Udp { backends, idle } => Serves::Udp {
                backends: self.stream_backends(&from.name, backends),
                idle: *idle,
                version: snapshot.table().version,
            },
        };
        if let Some(listener) = self.listeners.borrow().get(&from.name) {
            listener.port.set(from.port);
            listener.serves.replace(serves);
            return Rc::clone(listener);
        }
        Rc::new(Listener {
            name: from.name.clone(),
            port: Cell::new(from.port),
            gate: Rc::default(),
            serves: RefCell::new(serves),
            counters: ListenerCounters::default(),
        })
    }

    fn stream_backends(&self, listener: &str, from: &[WeightedCluster]) -> Rc<Backends<R>> {
        let backend = |from: &WeightedCluster| {
            let name = from.cluster.as_deref();
            Backend {
                cluster: name.and_then(|name| self.clusters.borrow().get(name).cloned()),
                weight: from.weight,
                series: self.series_of(listener, name.unwrap_or("invalid")),
                tag: self.tag(listener, name.unwrap_or("invalid")),
            }
        };
        Rc::new(Backends { entries: from.iter().map(backend).collect() })
    }

    /// The same names have the same number for the worker's life. Beyond [`SERIES`] all share the last.
    fn tag(&self, listener: &str, cluster: &str) -> u32 {
        let mut tags = self.tags.borrow_mut();
        let found = tags.iter().position(|(of, to)| of == listener && to == cluster);
        let at = found.unwrap_or_else(|| {
            if tags.len() < SERIES {
                tags.push((listener.to_owned(), cluster.to_owned()));
            }
            tags.len() - 1
        });
        u32::try_from(at).expect("tags are bounded")
    }

    fn series_of(&self, route: &str, cluster: &str) -> Rc<Series> {
        let mut all = self.series.borrow_mut();
        let key = (route.to_owned(), cluster.to_owned());
        if let Some(series) = all.get(&key) {
            return Rc::clone(series);
        }
        if all.len() >= SERIES {
            return Rc::clone(&self.other);
        }
        let series = Rc::<Series>::default();
        all.insert(key, Rc::clone(&series));
        series
    }

    /// Forgets counters of routes that the table in force and the next one lack, once their number matters.
    fn prune_series(&self, next: &Snapshot) {
        let mut all = self.series.borrow_mut();
        if all.len() < SERIES / 2 {
            return;
        }
        let listed: std::collections::HashSet<&str> = next
            .routes()
            .iter()
            .map(|route| route.name.as_str())
            .chain(next.listeners().iter().map(|listener| listener.name.as_str()))
            .collect();
        all.retain(|(route, _), series| listed.contains(route.as_str()) || series.active.get() > 0);
    }

    /// Listeners that stay keep their connections; those that go let theirs end.
    fn update_listeners(&self, snapshot: &Snapshot, view: &View<R>) {
        let mut listeners = self.listeners.borrow_mut();
        let gone: Vec<_> =
            listeners.extract_if(.., |name, _| !snapshot.table().listeners.contains_key(name)).collect();
        for listener in &view.listeners {
            listeners.entry(listener.name.clone()).or_insert_with(|| Rc::clone(listener));
        }
        drop(listeners);
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|listener| listener.gate.open() > 0);
        for (_, listener) in gone {
            listener.gate.close();
            leaving.push(listener);
        }
    }

    /// The TCP addresses that the table wants listened on.
    pub fn wanted_binds(&self) -> Vec<Bind> {
        let snapshot = self.snapshot.borrow();
        let binds = snapshot.iter().flat_map(|snapshot| snapshot.binds().keys().copied());
        binds.filter(|bind| bind.transport == Transport::Tcp).collect()
    }

    pub fn relay_buffer(&self) -> Box<[u8]> {
        let spare = self.spare_buffers.borrow_mut().pop();
        spare.unwrap_or_else(|| vec![0; RELAY_BUFFER_BYTES].into_boxed_slice())
    }

    pub fn return_relay_buffer(&self, buffer: Box<[u8]>) {
        let mut spare = self.spare_buffers.borrow_mut();
        if spare.len() < SPARE_RELAY_BUFFERS {
            spare.push(buffer);
        }
    }

    /// One task a worker looks at unused upstream connections; it ends when there are none and no table wants one.
    fn start_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let engine = Rc::downgrade(self);
        let runtime = self.runtime.clone();
        self.runtime.spawn(async move {
            loop {
                runtime.sleep(SWEEP).await;
                let Some(engine) = engine.upgrade() else { return };
                let clusters: Vec<_> = engine.clusters.borrow().values().cloned().collect();
                for cluster in clusters {
                    let endpoints = cluster.endpoints().clone();
                    endpoints
                        .iter()
                        .for_each(|endpoint| endpoint.sweep(&engine.runtime, &engine.config.limits));
                }
            }
        });
    }

    fn samples(&self, sink: &mut dyn FnMut(Sample)) {
        for ((route, cluster), series) in self.series.borrow().iter() {
            if series.requests() > 0 || series.active.get() > 0 {
                series.sample(&[("route", route), ("cluster", cluster)], sink);
            }
        }
        for (route, series) in [("other", &self.other), ("none", &self.unrouted)] {
            if series.requests() > 0 {
                series.sample(&[("route", route), ("cluster", "")], sink);
            }
        }
        for &fault in Fault::ALL {
            let side = match fault.side() {
                Side::Downstream => "downstream",
                Side::Upstream => "upstream",
                Side::Ringway => "ringway",
            };
            let labels = owned(&[("reason", fault.name()), ("side", side)]);
            let help = "Requests answered or cut by the proxy, by reason";
            sink(Sample::counter(
                "ringway_proxy_faults_total",
                help,
                labels,
                self.faults[fault as usize].get(),
            ));
        }
        self.listener_samples(sink);
        self.cluster_samples(sink);
    }

    fn listener_samples(&self, sink: &mut dyn FnMut(Sample)) {
        for listener in self.listeners.borrow().values() {
            let counters = &listener.counters;
            let labels = || owned(&[("listener", &listener.name)]);
            let counted: [(&'static str, &'static str, &Counter); 6] = [
                ("ringway_connections_accepted_total", "Connections accepted", &counters.accepted),
                (
                    "ringway_connections_refused_total",
                    "Connections over the listener's limit",
                    &counters.refused,
                ),
                (
                    "ringway_relayed_to_backend_bytes_total",
                    "TCP bytes to backends",
                    &counters.relayed_up_bytes,
                ),
                (
                    "ringway_relayed_to_client_bytes_total",
                    "TCP bytes to clients",
                    &counters.relayed_down_bytes,
                ),
                ("ringway_datagram_sessions_total", "Datagram sessions admitted", &counters.sessions),
                ("ringway_datagrams_refused_total", "Datagrams not admitted", &counters.datagrams_refused),
            ];
            for (name, help, counter) in counted {
                sink(Sample::counter(name, help, labels(), counter.value()));
            }
            let open = listener.gate.open() as f64;
            sink(Sample::gauge("ringway_connections_open", "Connections open", labels(), open));
        }
        let bare: [(&'static str, &'static str, &Counter); 3] = [
            (
                "ringway_connections_unclaimed_total",
                "Connections that no listener of their class serves",
                &self.unclaimed,
            ),
            (
                "ringway_datagrams_unclaimed_total",
                "Datagrams that no listener of their class serves",
                &self.datagrams_unclaimed,
            ),
            (
                "ringway_listen_failures_total",
                "Addresses that could not be listened on",
                &self.listen_failures,
            ),
        ];
        for (name, help, counter) in bare {
            sink(Sample::counter(name, help, Vec::new(), counter.value()));
        }
    }

    fn cluster_samples(&self, sink: &mut dyn FnMut(Sample)) {
        for cluster in self.clusters.borrow().values() {
            let labels = || owned(&[("cluster", &cluster.name)]);
            let counters = &cluster.counters;
            let counted: [(&'static str, &'static str, &Counter); 4] = [
                ("ringway_upstream_connects_total", "Connections opened to backends", &counters.connects),
                (
                    "ringway_upstream_connect_failures_total",
                    "Connections that failed",
                    &counters.connect_failures,
                ),
                (
                    "ringway_upstream_reuses_total",
                    "Requests on a connection that had served before",
                    &counters.reuses,
                ),
                (
                    "ringway_upstream_resent_total",
                    "Requests sent once more on a fresh connection",
                    &counters.resent,
                ),
            ];
            for (name, help, counter) in counted {
                sink(Sample::counter(name, help, labels(), counter.value()));
            }
            let endpoints = cluster.endpoints();
            let ready = endpoints.iter().filter(|endpoint| endpoint.is_ready()).count();
            sink(Sample::gauge("ringway_endpoints", "Endpoints listed", labels(), endpoints.len() as f64));
            sink(Sample::gauge("ringway_endpoints_ready", "Endpoints ready", labels(), ready as f64));
            let pooled: usize = endpoints.iter().map(|endpoint| endpoint.pooled()).sum();
            sink(Sample::gauge(
                "ringway_upstream_pooled",
                "Unused connections to backends",
                labels(),
                pooled as f64,
            ));
        }
    }
}
