//! Other people's protocol code, unchanged, over two simulated hosts: hyper, h2, a WebSocket and CONNECT.

mod common;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use common::{converse, listen, slow_link};
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use sim::{Address, HostPair, LinkConfig, LinkFaults};
use socket::{Executor, TcpOptions, TcpStream, Timer, spawn};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

const PORT: u16 = 80;
const LIMIT: Duration = Duration::from_secs(60);

fn pair(seed: u64) -> (HostPair, std::net::SocketAddr) {
    let pair = HostPair::new(seed, LinkConfig::default());
    let remote = pair.server_socket(Address::V6, PORT);
    (pair, remote)
}

async fn connect(remote: std::net::SocketAddr) -> TcpStream {
    TcpStream::connect(remote, None, TcpOptions::default()).await.expect("the server listens")
}

async fn accept() -> TcpStream {
    // Dropped with the first connection in hand: it goes on.
    listen(Address::V6, PORT).accept().await.expect("the listener lives")
}

/// Answers with the request's method, path and body.
async fn describe(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let line = format!("{} {} ", request.method(), request.uri().path());
    let body = request.into_body().collect().await.expect("the client sends its body").to_bytes();
    Ok(Response::new(Full::new([line.as_bytes(), &body].concat().into())))
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::post(format!("http://server{path}")).header(header::HOST, "server");
    builder.body(Full::new(body.into())).expect("a well-formed request")
}

async fn text(response: Response<Incoming>) -> Bytes {
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().collect().await.expect("the server sends its body").to_bytes()
}

#[test]
fn hypers_http1_serves_many_requests_on_one_connection() {
    let (mut pair, remote) = pair(1);
    let server = async {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(Timer).header_read_timeout(Duration::from_secs(5));
        http.serve_connection(accept().await, service_fn(describe)).await.expect("the client is in order");
    };
    converse(&mut pair, LIMIT, server, async move {
        let (mut requests, connection) = hyper::client::conn::http1::handshake(connect(remote).await)
            .await
            .expect("no byte goes over yet");
        spawn(async move { connection.await.expect("the server is in order") });
        for number in 0..20 {
            let request = post(&format!("/{number}"), vec![b'x'; number * 1_000]);
            let answer = text(requests.send_request(request).await.expect("the server answers")).await;
            assert_eq!(answer, format!("POST /{number} {}", "x".repeat(number * 1_000)));
        }
    });
    common::assert_accounts_balance(&pair);
}

#[test]
fn hypers_idle_timeout_runs_on_the_virtual_clock() {
    let (mut pair, remote) = pair(2);
    let server = async {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(Timer).header_read_timeout(Duration::from_secs(5));
        let served = http.serve_connection(accept().await, service_fn(describe)).await;
        assert!(served.expect_err("no request comes").is_timeout());
    };
    converse(&mut pair, LIMIT, server, async move {
        let stream = connect(remote).await;
        let before = socket::now();
        assert_eq!(stream.read(&mut [0; 256]).await.expect("the server closes in order"), 0);
        let waited = socket::now().since(before);
        assert!((5_000..5_100).contains(&waited.as_millis()), "{waited:?}");
    });
}

/// Ten requests at a time, under loss and reordering.
#[test]
fn hypers_http2_multiplexes_under_loss() {
    let mut pair = HostPair::new(3, slow_link(LinkFaults::ROUGH));
    let remote = pair.server_socket(Address::V6, PORT);
    let server = async {
        let mut http = hyper::server::conn::http2::Builder::new(Executor);
        http.timer(Timer).keep_alive_interval(Duration::from_secs(20));
        http.serve_connection(accept().await, service_fn(describe)).await.expect("the client is in order");
    };
    converse(&mut pair, LIMIT, server, async move {
        let (requests, connection) = hyper::client::conn::http2::Builder::new(Executor)
            .timer(Timer)
            .handshake(connect(remote).await)
            .await
            .expect("the server speaks HTTP/2");
        spawn(async move { connection.await.expect("the server is in order") });
        let answers = (0..10_usize).map(|number| {
            let mut requests = requests.clone();
            async move {
                let request = post(&format!("/{number}"), vec![b'y'; number * 20_000]);
                let answer = text(requests.send_request(request).await.expect("the server answers")).await;
                assert_eq!(answer, format!("POST /{number} {}", "y".repeat(number * 20_000)));
            }
        });
        futures_util::future::join_all(answers).await;
    });
}

#[test]
fn the_h2_crate_carries_a_connect_tunnel() {
    let (mut pair, remote) = pair(4);
    let server = async {
        let mut connection = h2::server::handshake(accept().await).await.expect("the client speaks HTTP/2");
        while let Some(stream) = connection.accept().await {
            let (request, mut answer) = stream.expect("the client is in order");
            assert_eq!(request.method(), Method::CONNECT);
            spawn(async move {
                let mut out = answer.send_response(Response::new(()), false).expect("the stream is open");
                let mut body = request.into_body();
                while let Some(data) = body.data().await {
                    let data = data.expect("the client is in order");
                    body.flow_control().release_capacity(data.len()).expect("it was received");
                    out.send_data(data, false).expect("the stream is open");
                }
                out.send_data(Bytes::new(), true).expect("the stream is open");
            });
        }
    };
    converse(&mut pair, LIMIT, server, async move {
        let (requests, connection) = h2::client::handshake(connect(remote).await).await.expect("HTTP/2");
        spawn(async move { connection.await.expect("the server is in order") });
        let mut requests = requests.ready().await.expect("the connection lives");
        let request = Request::connect("10.9.9.9:25").body(()).expect("a well-formed request");
        let (response, mut tunnel) = requests.send_request(request, false).expect("the connection lives");
        let mut back = response.await.expect("the server answers").into_body();
        let mut received = Vec::new();
        for word in ["through ", "the ", "tunnel"] {
            tunnel.send_data(Bytes::from_static(word.as_bytes()), false).expect("the stream is open");
            received.extend(back.data().await.expect("the tunnel is open").expect("and in order"));
        }
        tunnel.send_data(Bytes::new(), true).expect("the stream is open");
        assert!(back.data().await.is_none_or(|end| end.is_ok_and(|data| data.is_empty())));
        assert_eq!(received, b"through the tunnel");
    });
}

/// Agrees to a WebSocket, and echoes its messages.
async fn agree(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let key = request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes();
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key))
        .body(Empty::new())
        .expect("a well-formed response");
    let upgrade = hyper::upgrade::on(&mut request);
    spawn(async move {
        let mut socket = websocket(upgrade.await.expect("the client upgrades"), Role::Server).await;
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.expect("the client listens");
            }
        }
    });
    Ok(response)
}

/// The connection itself, with what hyper has read of it already.
async fn websocket(upgraded: hyper::upgrade::Upgraded, role: Role) -> WebSocketStream<TcpStream> {
    let parts = upgraded.downcast::<TcpStream>().expect("hyper was given a TcpStream");
    WebSocketStream::from_partially_read(parts.io, parts.read_buf.to_vec(), role, None).await
}

#[test]
fn a_websocket_upgrade_talks_on_the_connection() {
    let (mut pair, remote) = pair(5);
    let server = async {
        let http = hyper::server::conn::http1::Builder::new();
        let connection = http.serve_connection(accept().await, service_fn(agree)).with_upgrades();
        connection.await.expect("the client is in order");
    };
    converse(&mut pair, LIMIT, server, async move {
        let (mut requests, connection) = hyper::client::conn::http1::handshake(connect(remote).await)
            .await
            .expect("no byte goes over yet");
        spawn(async move { connection.with_upgrades().await.expect("the server is in order") });
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let request = Request::get("/chat")
            .header(header::HOST, "server")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key)
            .body(Empty::<Bytes>::new())
            .expect("a well-formed request");
        let response = requests.send_request(request).await.expect("the server answers");
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        // The example of RFC 6455, section 1.3.
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let upgraded = hyper::upgrade::on(response).await.expect("the server upgrades");
        let mut socket = websocket(upgraded, Role::Client).await;
        for text in ["hello".to_owned(), "w".repeat(100_000)] {
            socket.send(Message::text(text.clone())).await.expect("the server listens");
            let answer = socket.next().await.expect("the server answers").expect("and in order");
            assert_eq!(answer, Message::text(text));
        }
        socket.close(None).await.expect("the server listens");
    });
}

/// Agrees to a CONNECT and echoes the bytes of the tunnel.
async fn tunnel(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    assert_eq!(request.method(), Method::CONNECT);
    assert_eq!(request.uri().authority().map(|authority| authority.as_str()), Some("10.9.9.9:25"));
    let upgrade = hyper::upgrade::on(&mut request);
    spawn(async move {
        let upgraded = upgrade.await.expect("the client upgrades");
        let parts = upgraded.downcast::<TcpStream>().expect("hyper was given a TcpStream");
        parts.io.write_all(&parts.read_buf).await.expect("the client reads");
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = parts.io.read(&mut buffer).await {
            parts.io.write_all(&buffer[..len]).await.expect("the client reads");
        }
    });
    Ok(Response::new(Empty::new()))
}

#[test]
fn a_connect_over_http1_becomes_a_tunnel() {
    let (mut pair, remote) = pair(6);
    let server = async {
        let http = hyper::server::conn::http1::Builder::new();
        let connection = http.serve_connection(accept().await, service_fn(tunnel)).with_upgrades();
        connection.await.expect("the client is in order");
    };
    converse(&mut pair, LIMIT, server, async move {
        let (mut requests, connection) = hyper::client::conn::http1::handshake(connect(remote).await)
            .await
            .expect("no byte goes over yet");
        spawn(async move { connection.with_upgrades().await.expect("the server is in order") });
        let request =
            Request::connect("10.9.9.9:25").body(Empty::<Bytes>::new()).expect("a well-formed request");
        let response = requests.send_request(request).await.expect("the server answers");
        assert_eq!(response.status(), StatusCode::OK);
        let upgraded = hyper::upgrade::on(response).await.expect("the server upgrades");
        let stream = upgraded.downcast::<TcpStream>().expect("hyper was given a TcpStream").io;
        stream.write_all(b"EHLO mesh").await.expect("the server reads");
        let mut answer = [0; 9];
        let mut len = 0;
        while len < answer.len() {
            len += stream.read(&mut answer[len..]).await.expect("the server answers");
        }
        assert_eq!(&answer, b"EHLO mesh");
    });
}
