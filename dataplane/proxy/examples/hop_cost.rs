//! What one HTTP/1.1 hop costs: a client and a backend of canned bytes, the proxy between them, pipes in memory and an
//! executor of a page, so that nearly all of the time is the proxy's and hyper's.
//!
//! `cargo run --release -p ringway-proxy --example hop_cost -- 200000` prints nanoseconds a request; for instructions,
//! run it under `perf stat -e instructions:u` or callgrind with two counts and divide the difference.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use model::table::*;
use proxy::{Accepted, Network, Proxy, ProxyConfig, Runtime, Snapshot};
use socket::{Instant, InterfaceId};

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: a.example\r\nUser-Agent: wrk/4.1.0\r\nAccept: */*\r\n\r\n";
const BODY_BYTES: usize = 1024;

fn main() {
    let requests: u64 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(100_000);
    let core = Core::default();
    let backend: SocketAddr = "10.0.1.1:80".parse().expect("a literal address");
    let gate: SocketAddr = "10.0.0.1:80".parse().expect("a literal address");
    let backend_queue = core.bind(backend);
    core.spawn(serve_canned(backend_queue));
    let proxy = Proxy::on(core.clone(), ProxyConfig::default());
    proxy.set_table(Arc::new(Snapshot::compile(table(gate, backend)).expect("the table is valid")));
    let done = Rc::new(Cell::new(false));
    let ended = Rc::clone(&done);
    let client = core.dial(gate).expect("the proxy listens");
    core.spawn(async move {
        ask(client, requests).await;
        ended.set(true);
    });
    let begun = std::time::Instant::now();
    let mut polls = 0_u64;
    while !done.get() {
        polls += core.run_one() as u64;
    }
    let took = begun.elapsed();
    let each = took.as_nanos() as f64 / requests as f64;
    println!("{requests} requests, {each:.0} ns and {:.2} polls each", polls as f64 / requests as f64);
}

fn table(gate: SocketAddr, backend: SocketAddr) -> Table {
    let mut table = Table::default();
    let listener = Listener {
        name: "l".into(),
        class: GATEWAY_CLASS.into(),
        addresses: vec![gate.ip()],
        port: gate.port(),
        protocol: Protocol::Http { routes: "r".into() },
    };
    let route = HttpRoute {
        name: "default/web/0/0".into(),
        matches: HttpMatch {
            path: PathMatch::Prefix("/".into()),
            method: None,
            headers: vec![],
            query: vec![],
        },
        filters: vec![],
        action: HttpAction::Forward(vec![WeightedCluster {
            cluster: Some("c".into()),
            weight: 1,
            filters: vec![],
        }]),
        timeouts: Timeouts::default(),
    };
    let host = VirtualHost { name: "v".into(), domains: vec!["a.example".into()], routes: vec![route] };
    let cluster = Cluster {
        name: "c".into(),
        protocol: UpstreamProtocol::Http1,
        balance: Balance::RoundRobin,
        connect_timeout: Duration::from_secs(5),
        health_check: None,
    };
    table.listeners.insert("l".into(), listener);
    table.routes.insert("r".into(), RouteTable { name: "r".into(), virtual_hosts: vec![host] });
    table.clusters.insert("c".into(), cluster);
    let endpoint = Endpoint { address: backend, weight: 1, healthy: true, workload: "default/web-1".into() };
    table.endpoints.insert("c".into(), vec![endpoint]);
    table
}

async fn ask(mut io: Pipe, requests: u64) {
    for _ in 0..requests {
        io.send(REQUEST).await;
        // Read until the body is whole; the head's length is what is before it.
        let mut received = Vec::with_capacity(2048);
        loop {
            io.receive(&mut received).await;
            let head = received.windows(4).position(|window| window == b"\r\n\r\n");
            if head.is_some_and(|head| received.len() >= head + 4 + BODY_BYTES) {
                break;
            }
        }
    }
}

async fn serve_canned(queue: Rc<Queue>) {
    let mut answer = b"HTTP/1.1 200 OK\r\nServer: canned\r\nContent-Type: text/html\r\nETag: \"5f\"\r\nContent-Length: 1024\r\n\r\n".to_vec();
    answer.resize(answer.len() + BODY_BYTES, b'x');
    let mut io = queue.accept().await.0;
    let mut received = Vec::new();
    loop {
        received.clear();
        while !received.ends_with(b"\r\n\r\n") {
            if io.receive(&mut received).await == 0 {
                return;
            }
        }
        io.send(&answer).await;
    }
}

/// One direction of a pipe: unbounded, which the ping-pong here never notices.
#[derive(Default)]
struct Half {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
}

struct Pipe {
    incoming: Rc<RefCell<Half>>,
    outgoing: Rc<RefCell<Half>>,
}

impl Pipe {
    fn pair() -> (Self, Self) {
        let (a, b) = (Rc::<RefCell<Half>>::default(), Rc::<RefCell<Half>>::default());
        (Self { incoming: Rc::clone(&a), outgoing: Rc::clone(&b) }, Self { incoming: b, outgoing: a })
    }

    fn push(&self, slices: &[&[u8]]) -> usize {
        let mut half = self.outgoing.borrow_mut();
        slices.iter().for_each(|slice| half.bytes.extend(*slice));
        if let Some(reader) = half.reader.take() {
            reader.wake();
        }
        slices.iter().map(|slice| slice.len()).sum()
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.push(&[bytes]);
    }

    async fn receive(&mut self, into: &mut Vec<u8>) -> usize {
        poll_fn(|cx| {
            let mut half = self.incoming.borrow_mut();
            if half.bytes.is_empty() && !half.closed {
                half.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let read = half.bytes.len();
            into.extend(half.bytes.drain(..));
            Poll::Ready(read)
        })
        .await
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut half = self.outgoing.borrow_mut();
        half.closed = true;
        if let Some(reader) = half.reader.take() {
            reader.wake();
        }
    }
}

impl Read for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut half = self.incoming.borrow_mut();
        if half.bytes.is_empty() && !half.closed {
            half.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (front, _) = half.bytes.as_slices();
        let taken = front.len().min(buf.remaining());
        buf.put_slice(&front[..taken]);
        half.bytes.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl Write for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.push(&[bytes])))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut written = 0;
        for slice in slices {
            written += self.push(&[slice]);
        }
        Poll::Ready(Ok(written))
    }
}

/// Connections that wait to be accepted.
#[derive(Default)]
struct Queue {
    waiting: RefCell<VecDeque<(Pipe, SocketAddr)>>,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    async fn accept(&self) -> (Pipe, SocketAddr) {
        poll_fn(|cx| match self.waiting.borrow_mut().pop_front() {
            Some(pipe) => Poll::Ready(pipe),
            None => {
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

/// Tasks that are ready.
#[derive(Default)]
struct Ready(Mutex<VecDeque<usize>>);

struct TaskWaker {
    task: usize,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.0.lock().expect("no one panics with the lock").push_back(self.task);
    }
}

type Task = (Pin<Box<dyn Future<Output = ()>>>, Waker);

#[derive(Clone, Default)]
struct Core(Rc<CoreState>);

#[derive(Default)]
struct CoreState {
    tasks: RefCell<Vec<Option<Task>>>,
    ready: Arc<Ready>,
    queues: RefCell<Vec<(SocketAddr, Rc<Queue>)>>,
    random: Cell<u64>,
    now: Cell<u64>,
}

impl Core {
    fn bind(&self, at: SocketAddr) -> Rc<Queue> {
        let queue = Rc::<Queue>::default();
        self.0.queues.borrow_mut().push((at, Rc::clone(&queue)));
        queue
    }

    fn dial(&self, to: SocketAddr) -> Option<Pipe> {
        let queues = self.0.queues.borrow();
        let (_, queue) = queues.iter().find(|(at, _)| *at == to)?;
        let (near, far) = Pipe::pair();
        queue.waiting.borrow_mut().push_back((far, SocketAddr::new(IpAddr::from([192, 0, 2, 7]), 5000)));
        if let Some(waker) = queue.waker.borrow_mut().take() {
            waker.wake();
        }
        Some(near)
    }

    fn run_one(&self) -> bool {
        let next = self.0.ready.0.lock().expect("no one panics with the lock").pop_front();
        self.0.now.set(self.0.now.get() + 1_000);
        let Some(at) = next else { return false };
        let Some((mut future, waker)) = self.0.tasks.borrow_mut()[at].take() else { return false };
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
            self.0.tasks.borrow_mut()[at] = Some((future, waker));
        }
        true
    }
}

impl Network for Core {
    type Io = Pipe;
    type Listener = (SocketAddr, Rc<Queue>);

    fn listen(&self, address: IpAddr, port: u16) -> io::Result<Self::Listener> {
        let at = SocketAddr::new(address, port);
        Ok((at, self.bind(at)))
    }

    async fn accept(&self, listener: &Self::Listener) -> io::Result<Accepted<Pipe>> {
        let (io, remote) = listener.1.accept().await;
        Ok(Accepted { io, local: listener.0, remote, interface: Some(InterfaceId(0)) })
    }

    fn connect(&self, remote: SocketAddr, _: Duration) -> impl Future<Output = io::Result<Pipe>> + 'static {
        let pipe = self.dial(remote);
        async move { pipe.ok_or_else(|| io::ErrorKind::ConnectionRefused.into()) }
    }

    fn abort(&self, io: Pipe) {
        drop(io);
    }

    fn echo(&self, _: SocketAddr, _: Vec<u8>) -> impl Future<Output = io::Result<()>> + 'static {
        std::future::pending()
    }
}

impl Runtime for Core {
    type Sleep = std::future::Pending<()>;

    fn now(&self) -> Instant {
        Instant::from_nanos(self.0.now.get())
    }

    fn random(&self) -> u64 {
        self.0.random.set(self.0.random.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        self.0.random.get()
    }

    fn sleep(&self, _: Duration) -> Self::Sleep {
        std::future::pending()
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let mut tasks = self.0.tasks.borrow_mut();
        let waker = Waker::from(Arc::new(TaskWaker { task: tasks.len(), ready: Arc::clone(&self.0.ready) }));
        waker.wake_by_ref();
        tasks.push(Some((Box::pin(task), waker)));
    }
}
