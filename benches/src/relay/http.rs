//! Requests for 1 KiB, over HTTP/1.1 and HTTP/2 on both sides.

use std::convert::Infallible;
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use socket::{Executor, ListenSpec, Prefix, TcpListener, TcpOptions, TcpStream, Timer, spawn};

use super::{BACKEND, HTTP1_PORT, HTTP2_PORT, Progress, World, gate};
use crate::count::Sums;

/// As the measuring rig's W1 and W2.
const HTTP1_CONNECTIONS: usize = 64;
const HTTP2_CONNECTIONS: usize = 8;
const HTTP2_STREAMS: usize = 8;
const BODY_BYTES: usize = 1024;
/// Answers before counting begins.
const WARM_UP: u64 = 1_000;

const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: a.example\r\nUser-Agent: wrk/4.1.0\r\nAccept: */*\r\n\r\n";
const LAST_REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: a.example\r\nUser-Agent: wrk/4.1.0\r\nConnection: close\r\n\r\n";
const ANSWER_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nServer: canned\r\nContent-Type: text/html\r\nETag: \"5f\"\r\nContent-Length: 1024\r\n\r\n";

/// 64 connections, each with its next request as soon as it has an answer.
pub fn http1(requests: u64) -> Sums {
    measure(requests, serve_canned(), HTTP1_CONNECTIONS, |answers| async move {
        let stream = connect(HTTP1_PORT).await;
        loop {
            ask(&stream).await;
            answers.set(answers.get() + 1);
        }
    })
}

/// As [`http1`], with a new connection for each request, which the gateway closes after its answer.
pub fn http1_connections(requests: u64) -> Sums {
    measure(requests, serve_canned(), HTTP1_CONNECTIONS, |answers| async move {
        loop {
            ask_once(&connect(HTTP1_PORT).await).await;
            answers.set(answers.get() + 1);
        }
    })
}

/// 8 connections with 8 requests on each at any time.
pub fn http2(requests: u64) -> Sums {
    measure(requests, serve_http2(), HTTP2_CONNECTIONS, |answers| async move {
        let stream = connect(HTTP2_PORT).await;
        let mut http = hyper::client::conn::http2::Builder::new(Executor);
        let handshake = http.timer(Timer).handshake(stream);
        let (requests, connection) = handshake.await.expect("the gateway speaks HTTP/2");
        spawn(async move { connection.await.expect("the gateway is in order") });
        for _ in 0..HTTP2_STREAMS {
            spawn(ask_http2(requests.clone(), Rc::clone(&answers)));
        }
    })
}

/// What a request costs between so many of the client's `conversations`, which count their answers, and a backend.
fn measure<C: Future<Output = ()> + 'static>(
    requests: u64,
    backend: impl Future<Output = ()> + 'static,
    conversations: usize,
    converse: impl Fn(Progress) -> C,
) -> Sums {
    let mut world = World::new();
    world.backend.core.spawn(backend);
    let answers = Progress::default();
    for _ in 0..conversations {
        world.client.core.spawn(converse(Rc::clone(&answers)));
    }
    world.run_until(&answers, WARM_UP);
    world.meter.start();
    let begun = answers.get();
    world.run_until(&answers, begun + requests);
    world.meter.finish(answers.get() - begun)
}

pub(super) async fn connect(port: u16) -> TcpStream {
    TcpStream::connect(gate(port), None, TcpOptions::default()).await.expect("the gateway listens")
}

pub(super) fn listen(port: u16) -> TcpListener {
    let spec = ListenSpec { addresses: Prefix::new(BACKEND, 32), port: Some(port), interface: None };
    TcpListener::bind(spec, TcpOptions::default()).expect("nobody else listens")
}

/// One request and its whole answer.
pub(super) async fn ask(stream: &TcpStream) {
    stream.write_all(REQUEST).await.expect("the connection lives");
    let mut received = Vec::with_capacity(2 * BODY_BYTES);
    let mut piece = [0; 2 * BODY_BYTES];
    loop {
        let read = stream.read(&mut piece).await.expect("the connection lives");
        assert!(read > 0, "the gateway keeps the connection");
        received.extend_from_slice(&piece[..read]);
        let head = received.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| received.len() >= head + 4 + BODY_BYTES) {
            assert!(received.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&received));
            return;
        }
    }
}

/// The only request of a connection, up to the end of the stream.
async fn ask_once(stream: &TcpStream) {
    stream.write_all(LAST_REQUEST).await.expect("the connection lives");
    let (mut received, mut piece) = (0, [0; 2 * BODY_BYTES]);
    loop {
        match stream.read(&mut piece).await.expect("the gateway closes in order") {
            0 => break,
            read => received += read,
        }
    }
    assert!(received > BODY_BYTES, "the answer is whole");
}

/// Answers every request on every connection with the same bytes.
pub(super) async fn serve_canned() {
    let listener = listen(HTTP1_PORT);
    let mut answer = ANSWER_HEAD.to_vec();
    answer.resize(answer.len() + BODY_BYTES, b'x');
    let answer = Rc::new(answer);
    loop {
        let stream = listener.accept().await.expect("the listener lives");
        spawn(answer_canned(stream, Rc::clone(&answer)));
    }
}

async fn answer_canned(stream: TcpStream, answer: Rc<Vec<u8>>) {
    let (mut received, mut piece) = (Vec::new(), [0; 2048]);
    loop {
        match stream.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(read) => received.extend_from_slice(&piece[..read]),
        }
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            stream.write_all(&answer).await.expect("the connection lives");
        }
    }
}

async fn ask_http2(mut requests: SendRequest<Empty<Bytes>>, answers: Progress) {
    loop {
        let request =
            Request::get("http://a.example/index.html").body(Empty::new()).expect("a well-formed request");
        let response = requests.send_request(request).await.expect("the gateway answers");
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.expect("the whole body comes").to_bytes();
        assert_eq!(body.len(), BODY_BYTES);
        answers.set(answers.get() + 1);
    }
}

async fn serve_http2() {
    let listener = listen(HTTP2_PORT);
    let body = Bytes::from(vec![b'x'; BODY_BYTES]);
    loop {
        let stream = listener.accept().await.expect("the listener lives");
        let body = body.clone();
        let service = service_fn(move |_request| {
            let answer = Response::new(Full::new(body.clone()));
            async move { Ok::<_, Infallible>(answer) }
        });
        let mut http = hyper::server::conn::http2::Builder::new(Executor);
        let served = http.timer(Timer).serve_connection(stream, service);
        spawn(async move {
            // The gateway may close an idle connection as it likes.
            let _ended = served.await;
        });
    }
}
