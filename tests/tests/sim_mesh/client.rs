//! What tests do on the client host: connections to the mesh, and HTTP in both versions.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use socket::{Executor, TcpOptions, TcpStream, Timer, spawn};

use crate::backend::{BACKEND, LENGTH, download, upload};
use crate::pattern::PatternBody;

/// Longer than any row of lost SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// A host name of the routes whose backends speak HTTP/1.1, and one of those that speak HTTP/2.
pub const WEB: &str = "web.example";
pub const WEB_HTTP2: &str = "h2.example";

pub async fn connect(remote: SocketAddr) -> TcpStream {
    let options = TcpOptions { connect_timeout: CONNECT_TIMEOUT, ..TcpOptions::default() };
    TcpStream::connect(remote, None, options).await.expect("the mesh listens")
}

/// One connection to the mesh.
pub enum Http {
    One(http1::SendRequest<PatternBody>),
    Two(http2::SendRequest<PatternBody>),
}

/// Bytes of a request's body and of the answer's.
#[derive(Copy, Clone)]
pub struct Bodies {
    pub request: usize,
    pub response: usize,
}

impl Http {
    pub async fn connect(version: Version, remote: SocketAddr) -> Self {
        let stream = connect(remote).await;
        if version == Version::HTTP_2 {
            let mut builder = http2::Builder::new(Executor);
            let (requests, connection) = builder.timer(Timer).handshake(stream).await.expect("HTTP/2");
            spawn(async move { connection.await.expect("the mesh is in order") });
            return Self::Two(requests);
        }
        let (requests, connection) = http1::handshake(stream).await.expect("no byte goes over yet");
        spawn(async move { connection.await.expect("the mesh is in order") });
        Self::One(requests)
    }

    /// A request to `host` with a body of the seed's pattern; checks the answer's, and gives the backend's number.
    pub async fn exchange(&mut self, host: &str, seed: u64, bodies: Bodies) -> u8 {
        let body = PatternBody { pattern: upload(seed), len: bodies.request };
        let request = Request::post("/").header(LENGTH, bodies.response);
        let request = request.body(body).expect("a well-formed request");
        let response = self.send(host, request).await;
        assert_eq!(response.status(), StatusCode::OK);
        let backend = response.headers()[BACKEND].to_str().expect("a number").parse().expect("a number");
        let mut pattern = download(seed);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.expect("the mesh sends the whole body");
            pattern.expect(frame.data_ref().expect("no trailers were sent"));
        }
        assert_eq!(pattern.position(), bodies.response);
        backend
    }

    async fn send(&mut self, host: &str, mut request: Request<PatternBody>) -> Response<Incoming> {
        let sent = match self {
            Self::One(requests) => {
                let name = HeaderValue::from_str(host).expect("a host name");
                request.headers_mut().insert(header::HOST, name);
                requests.ready().await.expect("the connection lives");
                requests.send_request(request).await
            }
            Self::Two(requests) => {
                *request.uri_mut() = format!("http://{host}/").parse().expect("an address");
                requests.ready().await.expect("the connection lives");
                requests.send_request(request).await
            }
        };
        sent.expect("the mesh answers")
    }
}
