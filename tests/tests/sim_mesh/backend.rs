//! What a workload serves: HTTP/1.1 and HTTP/2 that check and answer bodies, bulk and echo streams, RTP and echo
//! datagrams.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;

use futures_util::future::join;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use sim::{Address, Host};
use socket::{Executor, ListenSpec, Prefix, TcpListener, TcpOptions, TcpStream, Timer, UdpSocket, spawn};

use crate::pattern::{Pattern, PatternBody};

pub const HTTP1: u16 = 8080;
pub const HTTP2: u16 = 8081;
pub const BULK: u16 = 9000;
pub const ECHO: u16 = 9001;
pub const RTP: u16 = 5004;
pub const DATAGRAMS: u16 = 7000;

/// The request header that says how many bytes the answer's body is to have.
pub const LENGTH: &str = "x-length";
/// The response header that says which backend answered.
pub const BACKEND: &str = "x-backend";
/// The marker bit, in the second byte of an RTP header.
pub const RTP_MARKER: u8 = 0x80;
/// The length of a bulk transfer each way.
pub const BULK_BYTES: usize = 10 << 20;

/// A workload's host, and what it has seen.
#[derive(Debug)]
pub struct Backend {
    pub host: Rc<RefCell<Host>>,
    pub seen: Rc<Seen>,
}

#[derive(Debug, Default)]
pub struct Seen {
    pub requests: Cell<u32>,
    pub streams: Cell<u32>,
    pub datagrams: Cell<u32>,
    /// Sequence numbers of RTP packets as they came.
    pub rtp: RefCell<Vec<u16>>,
}

/// Patterns of what clients send and of what backends answer, from the seed of a test.
pub fn upload(seed: u64) -> Pattern {
    Pattern::new(seed)
}

pub fn download(seed: u64) -> Pattern {
    Pattern::new(!seed)
}

impl Backend {
    /// Serves everything on both families of `host`. `number` is what it calls itself.
    pub fn serve(host: Rc<RefCell<Host>>, number: u8, seed: u64) -> Self {
        let seen = Rc::new(Seen::default());
        for family in Address::BOTH {
            let site = Site { number, seed, seen: Rc::clone(&seen) };
            let mut host = host.borrow_mut();
            host.spawn(each(family, HTTP1, site.clone(), http1));
            host.spawn(each(family, HTTP2, site.clone(), http2));
            host.spawn(each(family, BULK, site.clone(), bulk));
            host.spawn(each(family, ECHO, site.clone(), echo));
            host.spawn(rtp(family, site.clone()));
            host.spawn(datagrams(family, site));
        }
        Self { host, seen }
    }
}

/// What a server knows.
#[derive(Clone)]
struct Site {
    number: u8,
    seed: u64,
    seen: Rc<Seen>,
}

/// Accepts for ever, and runs `serve` for each connection.
async fn each<F: Future<Output = ()> + 'static>(
    family: Address,
    port: u16,
    site: Site,
    serve: impl Fn(TcpStream, Site) -> F,
) {
    let addresses = match family {
        Address::V4 => Prefix::ANY_V4,
        Address::V6 => Prefix::ANY_V6,
    };
    let spec = ListenSpec { addresses, port: Some(port), interface: None };
    let listener = TcpListener::bind(spec, TcpOptions::default()).expect("the port is free");
    loop {
        let stream = listener.accept().await.expect("the listener lives");
        spawn(serve(stream, site.clone()));
    }
}

/// The node may close a connection whenever it is unused: how one ends is its own matter. No Date: it is read from the
/// system's clock, and two runs would differ.
async fn http1(stream: TcpStream, site: Site) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(Timer).auto_date_header(false);
    let _ended =
        http.serve_connection(stream, service_fn(move |request| answer(request, site.clone()))).await;
}

async fn http2(stream: TcpStream, site: Site) {
    let mut http = hyper::server::conn::http2::Builder::new(Executor);
    http.timer(Timer).auto_date_header(false);
    let _ended =
        http.serve_connection(stream, service_fn(move |request| answer(request, site.clone()))).await;
}

/// Checks the request's body, then answers with as many bytes as were asked for.
async fn answer(request: Request<Incoming>, site: Site) -> Result<Response<PatternBody>, Infallible> {
    let length = request.headers().get(LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut pattern = upload(site.seed);
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.expect("the node sends the whole body");
        pattern.expect(frame.data_ref().expect("no trailers were sent"));
    }
    site.seen.requests.set(site.seen.requests.get() + 1);
    let body = PatternBody { pattern: download(site.seed), len: length.unwrap_or(0) };
    Ok(Response::builder()
        .header(BACKEND, u16::from(site.number))
        .body(body)
        .expect("a well-formed response"))
}

/// Ten mebibytes each way at once, and the end of each.
async fn bulk(stream: TcpStream, site: Site) {
    exchange(&stream, upload(site.seed), download(site.seed), BULK_BYTES).await;
    site.seen.streams.set(site.seen.streams.get() + 1);
}

async fn echo(stream: TcpStream, site: Site) {
    site.seen.streams.set(site.seen.streams.get() + 1);
    let mut buffer = vec![0; 16 << 10];
    while let Ok(len @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..len]).await.is_err() {
            return;
        }
    }
}

/// Sends the first `len` bytes of `own` and ends, while it receives as many of `other`.
pub async fn exchange(stream: &TcpStream, other: Pattern, own: Pattern, len: usize) {
    let ((), received) = join(send(stream, own, len), receive(stream, other)).await;
    assert_eq!(received, len);
}

async fn send(stream: &TcpStream, mut pattern: Pattern, len: usize) {
    while pattern.position() < len {
        let chunk = pattern.peek(len - pattern.position());
        let written = stream.write(&chunk).await.expect("the connection lives");
        pattern.advance(written);
    }
    stream.shutdown();
}

async fn receive(stream: &TcpStream, mut pattern: Pattern) -> usize {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match stream.read(&mut buffer).await.expect("the connection lives") {
            0 => return pattern.position(),
            len => pattern.expect(&buffer[..len]),
        }
    }
}

fn bind(family: Address, port: u16) -> UdpSocket {
    let any = match family {
        Address::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
        Address::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind(std::net::SocketAddr::new(any, port), None).expect("the port is free")
}

/// Notes sequence numbers, and answers a packet that carries the marker bit (RFC 3550, section 5.1) with one byte.
async fn rtp(family: Address, site: Site) {
    let socket = bind(family, RTP);
    let mut packet = [0; 1500];
    loop {
        let (_, from) = socket.recv_from(&mut packet).await.expect("the socket lives");
        site.seen.rtp.borrow_mut().push(u16::from_be_bytes([packet[2], packet[3]]));
        if packet[1] & RTP_MARKER != 0 {
            socket.send_to(&[0], from).await.expect("there is a route");
        }
    }
}

async fn datagrams(family: Address, site: Site) {
    let socket = bind(family, DATAGRAMS);
    let mut datagram = vec![0; 65_535];
    loop {
        let (len, from) = socket.recv_from(&mut datagram).await.expect("the socket lives");
        site.seen.datagrams.set(site.seen.datagrams.get() + 1);
        socket.send_to(&datagram[..len], from).await.expect("there is a route");
    }
}
