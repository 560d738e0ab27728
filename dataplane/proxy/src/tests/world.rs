//! A network of pipes, a proxy on it, and the shortest ways to say tables, clients and backends.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::table::*;
use model::tcp::TcpSettings;
use socket::{Instant, InterfaceId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::runtime::{Accepted, Network, Runtime, Spawner};
use crate::{Limits, Proxy, ProxyConfig, Snapshot};

/// Bytes a pipe holds before its writer waits.
pub const PIPE: usize = 32 << 10;

pub const GATE: &str = "10.0.0.1:80";

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct Dialed {
    io: DuplexStream,
    remote: SocketAddr,
}

/// All listening addresses of one test.
#[derive(Clone)]
pub struct Pipes(Rc<Wires>);

struct Wires {
    listening: RefCell<HashMap<SocketAddr, mpsc::UnboundedSender<Dialed>>>,
    /// Connects to these never end.
    pub black_holes: RefCell<HashSet<SocketAddr>>,
    pub aborts: Cell<u32>,
    connects: RefCell<HashMap<SocketAddr, u32>>,
    /// What listeners were told of TCP, in order, and what the last connect was.
    pub tuned: RefCell<Vec<TcpSettings>>,
    pub dialled: Cell<TcpSettings>,
    random: Cell<u64>,
    begun: tokio::time::Instant,
    /// UDP addresses that echo.
    pub echoes: RefCell<HashSet<SocketAddr>>,
    /// Tasks of the proxy that ended by a panic.
    panics: Cell<u32>,
}

pub struct PipeListener {
    at: SocketAddr,
    queue: RefCell<mpsc::UnboundedReceiver<Dialed>>,
    wires: Rc<Wires>,
}

impl Drop for PipeListener {
    fn drop(&mut self) {
        self.wires.listening.borrow_mut().remove(&self.at);
    }
}

impl Pipes {
    fn open(&self, to: SocketAddr, from: SocketAddr) -> io::Result<DuplexStream> {
        let (near, far) = duplex(PIPE);
        let listening = self.0.listening.borrow();
        let listener = listening.get(&to).ok_or(io::ErrorKind::ConnectionRefused)?;
        let dialed = Dialed { io: far, remote: from };
        listener.send(dialed).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    /// How often `to` was connected to.
    pub fn connects(&self, to: &str) -> u32 {
        self.0.connects.borrow().get(&address(to)).copied().unwrap_or(0)
    }

    pub fn aborts(&self) -> u32 {
        self.0.aborts.get()
    }

    pub fn black_hole(&self, at: &str) {
        self.0.black_holes.borrow_mut().insert(address(at));
    }

    pub fn echo_at(&self, at: &str) {
        self.0.echoes.borrow_mut().insert(address(at));
    }

    pub fn tuned(&self) -> Vec<TcpSettings> {
        self.0.tuned.borrow().clone()
    }

    pub fn dialled(&self) -> TcpSettings {
        self.0.dialled.get()
    }

    pub fn is_listening(&self, at: &str) -> bool {
        self.0.listening.borrow().contains_key(&address(at))
    }
}

impl Network for Pipes {
    type Io = TokioIo<DuplexStream>;
    type Listener = PipeListener;

    fn listen(&self, to: IpAddr, port: u16, tcp: TcpSettings) -> io::Result<PipeListener> {
        self.0.tuned.borrow_mut().push(tcp);
        let (sender, queue) = mpsc::unbounded_channel();
        let at = SocketAddr::new(to, port);
        if self.0.listening.borrow_mut().insert(at, sender).is_some() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(PipeListener { at, queue: RefCell::new(queue), wires: Rc::clone(&self.0) })
    }

    fn retune(&self, _: &PipeListener, tcp: TcpSettings) {
        self.0.tuned.borrow_mut().push(tcp);
    }

    async fn accept(&self, listener: &PipeListener) -> io::Result<Accepted<Self::Io>> {
        let dialed = poll_fn(|cx| listener.queue.borrow_mut().poll_recv(cx)).await;
        let Dialed { io, remote } = dialed.ok_or(io::ErrorKind::NotConnected)?;
        Ok(Accepted { io: TokioIo::new(io), local: listener.at, remote, interface: Some(InterfaceId(0)) })
    }

    fn connect(
        &self,
        remote: SocketAddr,
        timeout: Duration,
        tcp: TcpSettings,
    ) -> impl Future<Output = io::Result<Self::Io>> + 'static {
        let pipes = self.clone();
        self.0.dialled.set(tcp);
        async move {
            if pipes.0.black_holes.borrow().contains(&remote) {
                tokio::time::sleep(timeout).await;
                return Err(io::ErrorKind::TimedOut.into());
            }
            *pipes.0.connects.borrow_mut().entry(remote).or_default() += 1;
            pipes.open(remote, address("10.0.0.1:40000")).map(TokioIo::new)
        }
    }

    fn poll_read(
        io: &mut Self::Io,
        cx: &mut Context<'_>,
        limit: usize,
        take: &mut dyn FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut room = vec![0; limit.min(PIPE)];
        let mut room = hyper::rt::ReadBuf::new(&mut room);
        std::task::ready!(hyper::rt::Read::poll_read(Pin::new(io), cx, room.unfilled()))?;
        if !room.filled().is_empty() {
            take(room.filled());
        }
        Poll::Ready(Ok(room.filled().len()))
    }

    fn abort(&self, io: Self::Io) {
        self.0.aborts.set(self.0.aborts.get() + 1);
        drop(io);
    }

    fn echo(&self, remote: SocketAddr, _: Vec<u8>) -> impl Future<Output = io::Result<()>> + 'static {
        let echoes = self.0.echoes.borrow().contains(&remote);
        async move { if echoes { Ok(()) } else { std::future::pending().await } }
    }
}

impl Runtime for Pipes {
    type Sleep = Pin<Box<tokio::time::Sleep>>;

    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.begun.elapsed().as_nanos()).unwrap())
    }

    fn random(&self) -> u64 {
        let state = self.0.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        Box::pin(tokio::time::sleep(time))
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let ended = tokio::task::spawn_local(task);
        let pipes = self.clone();
        tokio::task::spawn_local(async move {
            if ended.await.is_err_and(|error| error.is_panic()) {
                pipes.0.panics.set(pipes.0.panics.get() + 1);
            }
        });
    }
}

/// A proxy and its surroundings.
pub struct World {
    pub pipes: Pipes,
    pub proxy: Proxy<Pipes>,
}

/// Runs one test on one thread, on a clock that jumps when all wait.
pub fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    run_with(Limits::default(), test);
}

pub fn run_with<F: Future<Output = ()>>(limits: Limits, test: impl FnOnce(World) -> F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let pipes = Pipes(Rc::new(Wires {
            listening: RefCell::default(),
            black_holes: RefCell::default(),
            aborts: Cell::new(0),
            connects: RefCell::default(),
            tuned: RefCell::default(),
            dialled: Cell::default(),
            random: Cell::new(1),
            begun: tokio::time::Instant::now(),
            echoes: RefCell::default(),
            panics: Cell::default(),
        }));
        let config = ProxyConfig { limits, workers: 1, checks_health: true, ..ProxyConfig::default() };
        let proxy = Proxy::on(pipes.clone(), config);
        proxy.set_interfaces(vec![(InterfaceId(0), "up0".into(), socket::Role::Uplink)]);
        test(World { pipes: pipes.clone(), proxy }).await;
        // Time for whoever watches a task to look.
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(pipes.0.panics.get(), 0, "a task of the proxy panicked");
    });
}

impl World {
    pub fn serve(&self, table: Table) {
        self.proxy.set_table(Arc::new(Snapshot::compile(table).unwrap()));
    }

    pub fn dial(&self, to: &str) -> DuplexStream {
        self.pipes.open(address(to), address("192.0.2.7:5000")).unwrap()
    }

    /// Sends `bytes` to the gate on a new connection and reads until it closes or falls silent for a second.
    pub async fn talk(&self, bytes: &str) -> String {
        let mut io = self.dial(GATE);
        // The proxy may close while we still write.
        let _ = io.write_all(bytes.as_bytes()).await;
        read_quiet(&mut io).await
    }

    /// A GET of `path`, in full.
    pub async fn fetch(&self, path: &str) -> String {
        self.talk(&format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")).await
    }

    pub fn sample(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        self.proxy.samples(&mut |sample| {
            let has =
                |&(key, value): &(&str, &str)| sample.labels.iter().any(|(k, v)| *k == key && v == value);
            if sample.name == name && labels.iter().all(has) {
                sum += sample.value;
            }
        });
        sum
    }

    pub fn faults(&self, reason: &str) -> f64 {
        self.sample("ringway_proxy_faults_total", &[("reason", reason)])
    }

    /// A backend that answers raw: `answer` is called for every connection.
    pub fn raw_backend<F>(&self, at: &str, mut answer: impl FnMut(DuplexStream) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let at = address(at);
        let listener = self.pipes.listen(at.ip(), at.port(), TcpSettings::default()).unwrap();
        let pipes = self.pipes.clone();
        tokio::task::spawn_local(async move {
            while let Ok(accepted) = pipes.accept(&listener).await {
                tokio::task::spawn_local(answer(accepted.io.into_inner()));
            }
        });
    }

    /// An HTTP/1.1 backend on hyper.
    pub fn backend<F>(&self, at: &str, answer: impl Fn(Request<Incoming>) -> F + Clone + 'static)
    where
        F: Future<Output = Response<Full<Bytes>>> + 'static,
    {
        self.raw_backend(at, move |io| {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            async move {
                let mut builder = hyper::server::conn::http1::Builder::new();
                let _ = builder.auto_date_header(false).serve_connection(TokioIo::new(io), service).await;
            }
        });
    }

    /// The same over HTTP/2.
    pub fn http2_backend<F>(&self, at: &str, answer: impl Fn(Request<Incoming>) -> F + Clone + 'static)
    where
        F: Future<Output = Response<Full<Bytes>>> + 'static,
    {
        let pipes = self.pipes.clone();
        self.raw_backend(at, move |io| {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let response = answer(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let spawner = Spawner(pipes.clone());
            async move {
                let mut builder = hyper::server::conn::http2::Builder::new(spawner);
                let _ = builder.auto_date_header(false).serve_connection(TokioIo::new(io), service).await;
            }
        });
    }

    /// A backend that says what it was asked: request line, then fields by name, then the body.
    pub fn mirror(&self, at: &str) {
        self.backend(at, describe);
    }
}

pub async fn describe(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let mut lines = vec![format!("{} {} {:?}", head.method, head.uri, head.version)];
    let mut fields: Vec<String> =
        head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    fields.sort();
    lines.append(&mut fields);
    let body = body.collect().await;
    let trailers = body.as_ref().ok().and_then(|body| body.trailers().cloned());
    lines.push(match body {
        Ok(body) => format!("body: {}", String::from_utf8(body.to_bytes().to_vec()).unwrap()),
        Err(error) => format!("body failed: {error}"),
    });
    for (name, value) in &trailers.unwrap_or_default() {
        lines.push(format!("trailer {name}: {}", value.to_str().unwrap()));
    }
    Response::new(Full::from(lines.join("\n") + "\n"))
}

pub async fn read_quiet(io: &mut DuplexStream) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_secs(1), io.read(&mut chunk)).await {
            Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return String::from_utf8(all).unwrap(),
            Ok(Ok(read)) => all.extend_from_slice(&chunk[..read]),
        }
    }
}

/// Reads until `mark` has come.
pub async fn read_until(io: &mut DuplexStream, mark: &str) -> String {
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&all).into_owned();
        if text.contains(mark) {
            return text;
        }
        let read = tokio::time::timeout(Duration::from_secs(5), io.read(&mut chunk)).await;
        match read {
            Ok(Ok(read)) if read > 0 => all.extend_from_slice(&chunk[..read]),
            other => panic!("{other:?} before {mark:?}; got {text:?}"),
        }
    }
}

/// A table with one HTTP listener at [`GATE`], one virtual host and a plain prefix route to cluster `c`.
pub struct Tables(pub Table);

pub fn tables() -> Tables {
    let mut table = Table { version: 1, ..Table::default() };
    let listener = Listener {
        name: "l".into(),
        class: GATEWAY_CLASS.into(),
        addresses: vec![address(GATE).ip()],
        port: address(GATE).port(),
        protocol: Protocol::Http { routes: "r".into() },
        tcp: TcpSettings::default(),
    };
    table.listeners.insert("l".into(), listener);
    let host = VirtualHost { name: "v".into(), domains: vec!["*".into()], routes: Vec::new() };
    table.routes.insert("r".into(), RouteTable { name: "r".into(), virtual_hosts: vec![host] });
    Tables(table)
}

impl Tables {
    pub fn cluster(mut self, name: &str, protocol: UpstreamProtocol, endpoints: &[&str]) -> Self {
        let cluster = Cluster {
            name: name.into(),
            protocol,
            balance: Balance::RoundRobin,
            connect_timeout: Duration::from_secs(5),
            tcp: TcpSettings::default(),
            health_check: None,
        };
        self.0.clusters.insert(name.into(), cluster);
        let endpoint =
            |text: &&str| Endpoint { address: address(text), weight: 1, healthy: true, workload: "w".into() };
        self.0.endpoints.insert(name.into(), endpoints.iter().map(endpoint).collect());
        self
    }

    pub fn route(mut self, route: HttpRoute) -> Self {
        self.0.routes.get_mut("r").unwrap().virtual_hosts[0].routes.push(route);
        self
    }

    pub fn stream(mut self, name: &str, at: &str, protocol: Protocol) -> Self {
        let at = address(at);
        let listener = Listener {
            name: name.into(),
            class: GATEWAY_CLASS.into(),
            addresses: vec![at.ip()],
            port: at.port(),
            protocol,
            tcp: TcpSettings::default(),
        };
        self.0.listeners.insert(name.into(), listener);
        self
    }
}

pub fn share(cluster: &str, weight: u32) -> WeightedCluster {
    WeightedCluster { cluster: Some(cluster.into()), weight, filters: Vec::new() }
}

/// A route of the prefix `/` to `cluster`.
pub fn to(cluster: &str) -> HttpRoute {
    route("/", HttpAction::Forward(vec![share(cluster, 1)]))
}

pub fn route(prefix: &str, action: HttpAction) -> HttpRoute {
    let path = PathMatch::Prefix(prefix.into());
    HttpRoute {
        name: format!("route{prefix}"),
        matches: HttpMatch { path, method: None, headers: Vec::new(), query: Vec::new() },
        filters: Vec::new(),
        action,
        timeouts: Timeouts::default(),
    }
}

/// One HTTP/1.1 cluster `c` behind one route.
pub fn simple(endpoint: &str) -> Table {
    tables().cluster("c", UpstreamProtocol::Http1, &[endpoint]).route(to("c")).0
}
