//! The admin address: a kernel socket, loopback by default, that answers operators and Prometheus over HTTP/1.1.
//!
//! | path | answer |
//! |---|---|
//! | `/ready` | 200 when every worker serves a table, else 503 and why not |
//! | `/metrics` | Prometheus text |
//! | `/tables` | the table in force, JSON |
//! | `/discards` | every discard reason, its count and its meaning, JSON |
//! | `/defences` | what was warded off without the death of a packet, by name, JSON (`docs/attacks.md`) |
//! | `/queues` | every queue pair: interface, worker, mode, why not a better one, JSON |
//! | `/sessions` | datagram sessions and their RTP streams, JSON |
//! | `/capture?packets=&seconds=&address=&port=` | a pcapng stream of what passes the queue pairs |

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::capture;
use crate::node::Node;

/// Admin connections served at once: operators and a scraper, never a crowd.
const MAX_CONNECTIONS: usize = 32;

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, node: Rc<Node>) {
    let places = Arc::new(tokio::sync::Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _peer)) => stream,
            Err(error) => {
                tracing::warn!(%error, "admin address: accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let node = Rc::clone(&node);
        tokio::task::spawn_local(async move {
            let service = service_fn(|request| answer(request, Rc::clone(&node)));
            // A broken admin connection concerns only the one who broke it.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, node: Rc<Node>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        return Ok(text(StatusCode::METHOD_NOT_ALLOWED, "the admin address answers GET\n".into()));
    }
    let query = request.uri().query().unwrap_or_default();
    Ok(match request.uri().path() {
        "/ready" => match node.ready() {
            Ok(()) => text(StatusCode::OK, "ready\n".into()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        "/metrics" => text(StatusCode::OK, node.metrics().await),
        "/tables" => json(&node.table()),
        "/discards" => json(&node.discards().await),
        "/defences" => json(&node.defences().await),
        "/queues" => json(&node.queues()),
        "/sessions" => json(&node.sessions().await),
        "/capture" => match capture::Request::parse(query) {
            Ok(request) => pcapng(capture::record(&node, request).await),
            Err(why) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
        },
        other => text(
            StatusCode::NOT_FOUND,
            format!(
                "no {other} here: /ready /metrics /tables /discards /defences /queues /sessions /capture\n"
            ),
        ),
    })
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; version=0.0.4; charset=utf-8", body.into())
}

fn json(value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(body) => with_type(StatusCode::OK, "application/json", body.into()),
        Err(error) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot be written as JSON: {error}\n"))
        }
    }
}

fn pcapng(body: Vec<u8>) -> Response<Full<Bytes>> {
    with_type(StatusCode::OK, "application/x-pcapng", body.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}
