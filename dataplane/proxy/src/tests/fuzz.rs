//! Bytes from clients and from backends that keep no rule. Runner and corpus are those of `tests/fuzz`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use model::table::*;
use tests::fuzz::{Outcome, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::world::*;

const HTTP1: &str = "10.0.1.1:8080";
const HTTP2: &str = "10.0.1.2:8080";
/// Longer than any idle time of [`crate::Limits`], twice over.
const IDLE: Duration = Duration::from_secs(200);
/// An answer that is longer says nothing more.
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// Sizes of a client's writes: one of these, by the input's length.
const WRITES: [usize; 4] = [usize::MAX, 100, 7, 1];

/// What HTTP/1.1 says, and HTTP/2's frame types on their first stream.
const WORDS: [&str; 40] = [
    "GET ",
    "POST ",
    "HEAD ",
    "OPTIONS * ",
    "CONNECT ",
    "HTTP/1.1",
    "HTTP/1.0",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n",
    "Expect: 100-continue\r\n",
    "Trailer: x\r\n",
    "TE: trailers\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\0\0\0\u{4}\0\0\0\0\0",
    "\0\0\0\u{4}\u{1}\0\0\0\0",
    "\0\0\u{1}\u{1}\u{5}\0\0\0\u{1}",
    "\0\0\0\0\u{1}\0\0\0\u{1}",
    "\0\0\u{8}\u{6}\0\0\0\0\0",
    "\0\0\u{4}\u{8}\0\0\0\0\0",
    "\0\0\u{4}\u{3}\0\0\0\0\u{1}",
    "\0\0\u{8}\u{7}\0\0\0\0\0",
    "\0\0\0\u{9}\u{4}\0\0\0\u{1}",
    "/h2/",
    "/h1/",
    "%2f",
    "\u{7f}",
];

type Seen = Rc<RefCell<BTreeSet<String>>>;

#[test]
fn no_bytes_of_a_client_break_the_proxy() {
    let target = Target { name: "http", words: &WORDS, seeds: Vec::new(), mutations: 2_000 };
    target.run(|input| Outcome::of(&from_client(input)));
}

#[test]
fn no_bytes_of_a_backend_break_the_proxy() {
    let target = Target { name: "answers", words: &WORDS, seeds: Vec::new(), mutations: 2_000 };
    target.run(|input| Outcome::of(&from_backend(input)));
}

/// Paths below `/h2/` go to an HTTP/2 backend, others to one that speaks HTTP/1.1.
fn table() -> Table {
    let mut table = tables()
        .cluster("h1", UpstreamProtocol::Http1, &[HTTP1])
        .cluster("h2", UpstreamProtocol::Http2, &[HTTP2])
        .route(route("/h2", HttpAction::Forward(vec![share("h2", 1)])))
        .route(to("h1"))
        .0;
    let hosts = &mut table.routes.get_mut("r").unwrap().virtual_hosts;
    let limit = Timeouts { request: Some(Duration::from_secs(10)), ..Timeouts::default() };
    hosts[0].routes.iter_mut().for_each(|route| route.timeouts = limit);
    table
}

fn from_client(input: &[u8]) -> BTreeSet<String> {
    let (input, seen) = (input.to_vec(), Seen::default());
    let kept = Rc::clone(&seen);
    run(|world| async move {
        world.backend(HTTP1, measure);
        world.http2_backend(HTTP2, measure);
        world.serve(table());
        let io = world.dial(GATE);
        let answer = exchange(io, &input).await;
        note(&answer, &kept);
        settle(&world, &kept).await;
    });
    seen.take()
}

/// The first byte's bits: an HTTP/2 backend; HEAD; a body.
fn from_backend(input: &[u8]) -> BTreeSet<String> {
    let [control, input @ ..] = input else { return BTreeSet::new() };
    let (control, input, seen) = (*control, input.to_vec(), Seen::default());
    let kept = Rc::clone(&seen);
    run(|world| async move {
        for at in [HTTP1, HTTP2] {
            let input = input.clone();
            world.raw_backend(at, move |io| {
                let input = input.clone();
                async move { drop(exchange(io, &input).await) }
            });
        }
        world.serve(table());
        let path = if control & 1 == 0 { "/h1/" } else { "/h2/" };
        let method = if control & 2 == 0 { "POST" } else { "HEAD" };
        let body = if control & 4 == 0 { "" } else { "hello" };
        let length = body.len();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = exchange(world.dial(GATE), request.as_bytes()).await;
        assert!(answer.starts_with(b"HTTP/1.1 "), "a client is always answered: {answer:?}");
        note(&answer, &kept);
        settle(&world, &kept).await;
    });
    seen.take()
}

/// Reads the whole request, and says how long its body was.
async fn measure(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let length = request.into_body().collect().await.map(|body| body.to_bytes().len());
    Response::new(Full::from(format!("{length:?}")))
}

/// Writes all, and reads until the other side closes or is silent: longer than a route's time, shorter than idle times.
async fn exchange(io: DuplexStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = tokio::io::split(io);
    let write = async {
        for piece in bytes.chunks(WRITES[bytes.len() % WRITES.len()].min(bytes.len().max(1))) {
            if writer.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok::<(), Infallible>(())
    };
    let read = async {
        let mut all = Vec::new();
        let mut chunk = [0; 4096];
        while all.len() < MAX_ANSWER_BYTES {
            match tokio::time::timeout(Duration::from_secs(12), reader.read(&mut chunk)).await {
                Ok(Ok(read)) if read > 0 => all.extend_from_slice(&chunk[..read]),
                _ => break,
            }
        }
        all
    };
    // What is no longer read need not be written.
    tokio::select! {
        biased;
        all = read => all,
        Err(never) = write => match never {},
    }
}

/// The kinds of what came: statuses of HTTP/1.1, or types of HTTP/2's frames and the errors in them.
fn note(answer: &[u8], seen: &Seen) {
    let mut seen = seen.borrow_mut();
    if answer.starts_with(b"HTTP/1.") {
        let text = String::from_utf8_lossy(answer);
        seen.extend(text.split("HTTP/1.1 ").skip(1).map(|part| part.chars().take(3).collect()));
        seen.extend(text.contains("chunked").then(|| "chunked".to_owned()));
        return;
    }
    let mut rest = answer;
    while let [a, b, c, kind, flags, _, _, _, _, body @ ..] = rest {
        let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
        let (body, next) = body.split_at(length.min(body.len()));
        let code = match kind {
            1 => body.first().copied().unwrap_or_default(),
            3 | 7 => body
                .iter()
                .rev()
                .nth(if body.len() > 8 { body.len() - 8 } else { 0 })
                .copied()
                .unwrap_or_default(),
            _ => 0,
        };
        seen.insert(format!("frame {kind} {flags} {code}"));
        rest = next;
    }
}

/// Everything ends by itself once both sides have gone.
async fn settle(world: &World, seen: &Seen) {
    tokio::time::sleep(IDLE).await;
    assert_eq!(world.proxy.active(), 0, "a connection is never forgotten");
    world.proxy.samples(&mut |sample| {
        if sample.name == "ringway_proxy_faults_total" && sample.value > 0.0 {
            seen.borrow_mut().extend(sample.labels.iter().map(|(_, value)| value.to_string()));
        }
    });
}
