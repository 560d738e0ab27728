//! From a [`Table`] to a [`Snapshot`]: every name resolved, so that serving cannot fail on configuration.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use model::table::{GATEWAY_CLASS, Listener, Protocol, RouteTable, Table, WeightedCluster};

use super::error::RouteError;
use super::route::Route;

/// One table, compiled. Workers share it by `Arc` and hand it back when the next one is in place.
#[derive(Debug)]
pub struct Snapshot {
    table: Table,
    listeners: Vec<Listener>,
    binds: BTreeMap<Bind, Vec<ListenerIndex>>,
    route_tables: HashMap<String, Arc<Domains>>,
    routes: Vec<Arc<Route>>,
}

/// Position of a listener in [`Snapshot::listeners`].
pub(crate) type ListenerIndex = usize;
/// Position of a route in [`Snapshot::routes`].
pub(crate) type RouteIndex = usize;

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Bind {
    pub transport: Transport,
    pub address: IpAddr,
    pub port: u16,
}

/// Why a table cannot be served. It names the listener, route or cluster, and the field.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("listener {listener}: there is no route table {routes:?}")]
    UnknownRoutes { listener: String, routes: String },
    #[error("{place}: there is no cluster {cluster:?}")]
    UnknownCluster { place: String, cluster: String },
    #[error("listener {listener} has the same class, address and port as {other}")]
    ListenerTwice { listener: String, other: String },
    #[error("route table {routes}: domain {domain:?} stands in two virtual hosts")]
    DomainTwice { routes: String, domain: String },
    #[error("route table {routes}: {domain:?} is neither a host name, a suffix like \"*.example\" nor \"*\"")]
    BadDomain { routes: String, domain: String },
    #[error("route {route}: {error}")]
    Route { route: String, error: RouteError },
    #[error("cluster {cluster}: endpoint {endpoint} has weight 0; at least 1 is needed")]
    EndpointWeight { cluster: String, endpoint: String },
}

impl Snapshot {
    /// Compiles `table`. Runs on the management thread: expressions may take milliseconds.
    pub fn compile(table: Table) -> Result<Self, SnapshotError> {
        check_endpoints(&table)?;
        let mut routes = Vec::new();
        let mut route_tables = HashMap::with_capacity(table.routes.len());
        for (name, routes_of) in &table.routes {
            route_tables.insert(name.clone(), Arc::new(Domains::compile(routes_of, &table, &mut routes)?));
        }
        let listeners: Vec<Listener> = table.listeners.values().cloned().collect();
        let binds = index_listeners(&listeners, &table)?;
        Ok(Self { table, listeners, binds, route_tables, routes })
    }

    pub fn table(&self) -> &Table {
        &self.table
    }

    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    pub(crate) fn binds(&self) -> &BTreeMap<Bind, Vec<ListenerIndex>> {
        &self.binds
    }

    pub(crate) fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    pub(crate) fn domains(&self, routes: &str) -> Option<&Arc<Domains>> {
        self.route_tables.get(routes)
    }

    /// The listener at `address` and `port` that serves `class`. What a class has none for is the gateway's: its
    /// addresses are open to workloads too.
    pub(crate) fn listener(&self, bind: Bind, class: &str) -> Option<ListenerIndex> {
        let any = match bind.address {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        let candidates = self.binds.get(&bind).or_else(|| self.binds.get(&Bind { address: any, ..bind }))?;
        let of = |class: &str| candidates.iter().copied().find(|&at| self.listeners[at].class == class);
        of(class).or_else(|| of(GATEWAY_CLASS))
    }
}

fn check_endpoints(table: &Table) -> Result<(), SnapshotError> {
    for (cluster, endpoints) in &table.endpoints {
        if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint.weight == 0) {
            return Err(SnapshotError::EndpointWeight {
                cluster: cluster.clone(),
                endpoint: endpoint.address.to_string(),
            });
        }
    }
    Ok(())
}

fn check_backends(place: &str, backends: &[WeightedCluster], table: &Table) -> Result<(), SnapshotError> {
    for cluster in backends.iter().filter_map(|backend| backend.cluster.as_ref()) {
        if !table.clusters.contains_key(cluster) {
            return Err(SnapshotError::UnknownCluster { place: place.into(), cluster: cluster.clone() });
        }
    }
    Ok(())
}

fn index_listeners(
    listeners: &[Listener],
    table: &Table,
) -> Result<BTreeMap<Bind, Vec<ListenerIndex>>, SnapshotError> {
    let mut binds: BTreeMap<Bind, Vec<ListenerIndex>> = BTreeMap::new();
    for (at, listener) in listeners.iter().enumerate() {
        let transport = check_protocol(listener, table)?;
        for &address in &listener.addresses {
            let entry = binds.entry(Bind { transport, address, port: listener.port }).or_default();
            if let Some(&other) = entry.iter().find(|&&other| listeners[other].class == listener.class) {
                return Err(SnapshotError::ListenerTwice {
                    listener: listener.name.clone(),
                    other: listeners[other].name.clone(),
                });
            }
            entry.push(at);
        }
    }
    Ok(binds)
}

fn check_protocol(listener: &Listener, table: &Table) -> Result<Transport, SnapshotError> {
    let place = || format!("listener {}", listener.name);
    match &listener.protocol {
        Protocol::Http { routes } if !table.routes.contains_key(routes) => {
            Err(SnapshotError::UnknownRoutes { listener: listener.name.clone(), routes: routes.clone() })
        }
        Protocol::Http { .. } => Ok(Transport::Tcp),
        Protocol::Tcp { backends } => check_backends(&place(), backends, table).map(|()| Transport::Tcp),
        Protocol::Udp { backends, .. } => check_backends(&place(), backends, table).map(|()| Transport::Udp),
    }
}

/// One route table's virtual hosts, found by domain.
#[derive(Debug, Default)]
pub(crate) struct Domains {
    exact: HashMap<String, Vec<RouteIndex>>,
    /// Key: the suffix with its leading dot, `.example` for `*.example`.
    suffix: HashMap<String, Vec<RouteIndex>>,
    any: Option<Vec<RouteIndex>>,
}

impl Domains {
    fn compile(
        from: &RouteTable,
        table: &Table,
        routes: &mut Vec<Arc<Route>>,
    ) -> Result<Self, SnapshotError> {
        let mut domains = Self::default();
        for host in &from.virtual_hosts {
            let first = routes.len();
            for route in &host.routes {
                if let model::table::HttpAction::Forward(backends) = &route.action {
                    check_backends(&format!("route {}", route.name), backends, table)?;
                }
                let compiled = Route::compile(route)
                    .map_err(|error| SnapshotError::Route { route: route.name.clone(), error })?;
                routes.push(Arc::new(compiled));
            }
            let indexes: Vec<RouteIndex> = (first..routes.len()).collect();
            for domain in &host.domains {
                domains.insert(&from.name, domain, indexes.clone())?;
            }
        }
        Ok(domains)
    }

    fn insert(&mut self, routes: &str, domain: &str, of: Vec<RouteIndex>) -> Result<(), SnapshotError> {
        let lower = domain.to_ascii_lowercase();
        let former = if lower == "*" {
            self.any.replace(of)
        } else if let Some(suffix) = lower.strip_prefix('*') {
            if !suffix.starts_with('.') || suffix.len() < 2 || suffix.contains('*') {
                return Err(SnapshotError::BadDomain { routes: routes.into(), domain: domain.into() });
            }
            self.suffix.insert(suffix.into(), of)
        } else if lower.is_empty() || lower.contains('*') {
            return Err(SnapshotError::BadDomain { routes: routes.into(), domain: domain.into() });
        } else {
            self.exact.insert(lower, of)
        };
        match former {
            Some(_) => Err(SnapshotError::DomainTwice { routes: routes.into(), domain: domain.into() }),
            None => Ok(()),
        }
    }

    /// Routes of the virtual host with the most exact domain for `host` (lower case, without port).
    pub fn find(&self, host: &str) -> Option<&[RouteIndex]> {
        if let Some(routes) = self.exact.get(host) {
            return Some(routes);
        }
        if !self.suffix.is_empty() {
            // The longest suffix is the first dot's; one label at least stands before it.
            let dots = host.bytes().enumerate().filter(|&(at, byte)| byte == b'.' && at > 0);
            for (dot, _) in dots {
                if let Some(routes) = self.suffix.get(&host[dot..]) {
                    return Some(routes);
                }
            }
        }
        self.any.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::table::*;

    use super::*;

    fn cluster(name: &str) -> Cluster {
        Cluster {
            name: name.into(),
            protocol: UpstreamProtocol::Http1,
            balance: Balance::RoundRobin,
            connect_timeout: Duration::from_secs(1),
            tcp: Default::default(),
            health_check: None,
        }
    }

    fn host(name: &str, domains: &[&str]) -> VirtualHost {
        let route = HttpRoute {
            name: name.into(),
            matches: HttpMatch {
                path: PathMatch::Prefix("/".into()),
                method: None,
                headers: vec![],
                query: vec![],
            },
            filters: vec![],
            action: HttpAction::Respond { status: 204, body: String::new() },
            timeouts: Timeouts::default(),
        };
        let domains = domains.iter().map(|&domain| domain.to_owned()).collect();
        VirtualHost { name: name.into(), domains, routes: vec![route] }
    }

    fn listener(name: &str, class: &str, protocol: Protocol) -> Listener {
        let addresses = vec!["10.0.0.1".parse().unwrap()];
        let (name, class, tcp) = (name.into(), class.into(), Default::default());
        Listener { name, class, addresses, port: 80, protocol, tcp }
    }

    fn http(routes: &str) -> Protocol {
        Protocol::Http { routes: routes.into() }
    }

    fn table(hosts: Vec<VirtualHost>) -> Table {
        let mut table = Table::default();
        table.clusters.insert("c".into(), cluster("c"));
        table.routes.insert("r".into(), RouteTable { name: "r".into(), virtual_hosts: hosts });
        table.listeners.insert("l".into(), listener("l", GATEWAY_CLASS, http("r")));
        table
    }

    fn found(snapshot: &Snapshot, host: &str) -> Option<String> {
        let routes = snapshot.domains("r").unwrap().find(host)?;
        Some(snapshot.routes()[routes[0]].name.clone())
    }

    #[test]
    fn the_most_exact_domain_wins() {
        let hosts = vec![
            host("any", &["*"]),
            host("wide", &["*.example"]),
            host("narrow", &["*.b.example"]),
            host("exact", &["a.b.example"]),
        ];
        let snapshot = Snapshot::compile(table(hosts)).unwrap();
        assert_eq!(found(&snapshot, "a.b.example").as_deref(), Some("exact"));
        assert_eq!(found(&snapshot, "x.y.b.example").as_deref(), Some("narrow"));
        assert_eq!(found(&snapshot, "b.example").as_deref(), Some("wide"));
        assert_eq!(found(&snapshot, "example").as_deref(), Some("any"), "a suffix needs a label before it");
        let snapshot = Snapshot::compile(table(vec![host("exact", &["a.example"])])).unwrap();
        assert_eq!(found(&snapshot, "b.example"), None);
    }

    #[test]
    fn a_listener_is_found_by_class_and_falls_back_to_the_gateway() {
        let mut table = table(vec![]);
        table.listeners.insert("w".into(), listener("w", "web", http("r")));
        let snapshot = Snapshot::compile(table).unwrap();
        let bind = Bind { transport: Transport::Tcp, address: "10.0.0.1".parse().unwrap(), port: 80 };
        let name = |class| snapshot.listener(bind, class).map(|at| snapshot.listeners()[at].name.as_str());
        assert_eq!(name("web"), Some("w"));
        assert_eq!(name("other"), Some("l"));
        assert_eq!(snapshot.listener(Bind { port: 81, ..bind }, "web"), None);
    }

    #[test]
    fn errors_name_what_is_wrong() {
        let message = |table| Snapshot::compile(table).unwrap_err().to_string();
        let mut bad = table(vec![]);
        bad.listeners.insert("m".into(), listener("m", "web", http("missing")));
        assert_eq!(message(bad), "listener m: there is no route table \"missing\"");
        let mut bad = table(vec![]);
        bad.listeners.insert("m".into(), listener("m", GATEWAY_CLASS, http("r")));
        assert_eq!(message(bad), "listener m has the same class, address and port as l");
        assert!(message(table(vec![host("a", &["x"]), host("b", &["X"])])).contains("two virtual hosts"));
        assert!(message(table(vec![host("a", &["*x"])])).contains("neither a host name"));
        let mut bad = table(vec![]);
        let gone = WeightedCluster { cluster: Some("gone".into()), weight: 1, filters: vec![] };
        bad.listeners.insert("m".into(), listener("m", "web", Protocol::Tcp { backends: vec![gone] }));
        assert_eq!(message(bad), "listener m: there is no cluster \"gone\"");
    }
}
