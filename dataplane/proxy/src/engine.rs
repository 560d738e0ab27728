//! One worker's proxy: the table in force, and beside it what traffic knows, which survives a new table.

use std::cell::{Cell, Ref, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::table::{GATEWAY_CLASS, Protocol, Table, WeightedCluster};
use model::tcp::TcpSettings;
use socket::{InterfaceId, Role, Share};

use crate::fault::Fault;
use crate::gate::Closing;
use crate::limits::{Limits, RELAY_BUFFER_BYTES, SERIES, SPARE_RELAY_BUFFERS};
use crate::observe::{Counter, HealthReport, Series};
use crate::runtime::Runtime;
use crate::table::{Action, Bind, Route, Snapshot, Transport};
use crate::upstream::Cluster;
use crate::view::{Backend, Backends, Listener, RouteState, Serves};

/// How often unused connections to backends are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What one worker's proxy is told at its start.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    pub worker: u16,
    pub workers: u16,
    pub limits: Limits,
    /// One worker checks health for all; the others are told by `Proxy::apply_health`.
    pub checks_health: bool,
}

/// A listening socket; its task ends when this is dropped.
pub(crate) struct Open<R: Runtime> {
    pub socket: Rc<R::Listener>,
    pub tcp: TcpSettings,
    #[expect(dead_code, reason = "held for its drop")]
    pub closing: Closing,
}

/// The state behind a `Proxy`. Listeners, connections and checks hold it too.
pub(crate) struct Engine<R: Runtime> {
    pub runtime: R,
    pub config: ProxyConfig,
    snapshot: RefCell<Option<Arc<Snapshot>>>,
    view: RefCell<Option<Rc<View<R>>>>,
    /// Ordered, so that one seed closes their unused connections in one order.
    clusters: RefCell<BTreeMap<String, Rc<Cluster<R>>>>,
    listeners: RefCell<BTreeMap<String, Rc<Listener<R>>>>,
    /// No longer listed, but with connections that have not ended.
    leaving: RefCell<Vec<Rc<Listener<R>>>>,
    /// Sockets that listen, each with the gate that ends it when dropped from here.
    pub binds: RefCell<BTreeMap<Bind, Open<R>>>,
    series: RefCell<HashMap<(String, String), Rc<Series>>>,
    /// Counts for all that is beyond [`SERIES`].
    pub other: Rc<Series>,
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

/// Source classes, by interface and by address.
#[derive(Default)]
struct Classes {
    by_interface: HashMap<InterfaceId, Rc<str>>,
    by_address: HashMap<IpAddr, Rc<str>>,
}

impl<R: Runtime> Engine<R> {
    pub fn new(runtime: R, config: ProxyConfig) -> Rc<Self> {
        Rc::new(Self {
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
        })
    }

    pub fn set_interfaces(&self, interfaces: Vec<(InterfaceId, String, Role)>) {
        *self.interfaces.borrow_mut() = interfaces;
        self.index_classes();
    }

    /// Puts a table in force and gives back the former.
    pub fn set_table(self: &Rc<Self>, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        self.update_clusters(snapshot.table());
        let view = self.view_of(&snapshot);
        self.update_listeners(&snapshot, &view);
        let former = self.snapshot.replace(Some(snapshot));
        let former_view = self.view.replace(Some(view));
        drop(former_view);
        self.index_classes();
        self.start_sweeping();
        former
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    pub fn drain(&self) {
        self.draining.set(true);
        self.binds.borrow_mut().clear();
        let listeners: Vec<_> = self.listeners.borrow().values().cloned().collect();
        listeners.iter().for_each(|listener| listener.gate.close());
    }

    pub fn active(&self) -> usize {
        let (listeners, leaving) = (self.listeners.borrow(), self.leaving.borrow());
        listeners.values().chain(leaving.iter()).map(|listener| listener.gate.open()).sum()
    }

    pub fn tag_name(&self, tag: u32) -> Option<(String, String)> {
        self.tags.borrow().get(tag as usize).cloned()
    }

    pub fn faulted(&self, fault: Fault) -> u64 {
        self.faults[fault as usize].get()
    }

    pub fn series(&self) -> Ref<'_, HashMap<(String, String), Rc<Series>>> {
        self.series.borrow()
    }

    pub fn listeners(&self) -> Ref<'_, BTreeMap<String, Rc<Listener<R>>>> {
        self.listeners.borrow()
    }

    pub fn count(&self, fault: Fault) {
        let counter = &self.faults[fault as usize];
        counter.set(counter.get() + 1);
    }

    pub fn snapshot(&self) -> Ref<'_, Option<Arc<Snapshot>>> {
        self.snapshot.borrow()
    }

    pub fn clusters(&self) -> Ref<'_, BTreeMap<String, Rc<Cluster<R>>>> {
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
        let gone: Vec<_> = clusters.extract_if(.., |name, _| !table.clusters.contains_key(name)).collect();
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
            listener.update(from.port, serves);
            return Rc::clone(listener);
        }
        let ProxyConfig { worker, workers, limits, .. } = &self.config;
        let share = Share::even(limits.connections_per_listener, *worker, *workers);
        Rc::new(Listener::new(&from.name, from.port, serves, share))
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

    /// The TCP addresses that the table wants listened on, and how. One socket serves the listeners of all classes: the
    /// first says it, and those of one Service or Gateway say the same.
    pub fn wanted_binds(&self) -> BTreeMap<Bind, TcpSettings> {
        let snapshot = self.snapshot.borrow();
        let Some(snapshot) = snapshot.as_ref() else { return BTreeMap::new() };
        let binds = snapshot.binds().iter().filter(|(bind, _)| bind.transport == Transport::Tcp);
        let settings = |at: &usize| snapshot.listeners()[*at].tcp;
        binds.map(|(bind, at)| (*bind, at.first().map(settings).unwrap_or_default())).collect()
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
}
