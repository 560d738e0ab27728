//! HTTP/1.1 and HTTP/2 in all four combinations, gRPC among them.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Version};
use http_body_util::{BodyExt, Channel, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::table::*;
use tokio::io::AsyncWriteExt;

use super::world::*;
use crate::runtime::Spawner;

const BACKEND: &str = "10.0.1.1:8080";

fn table(protocol: UpstreamProtocol) -> Table {
    tables().cluster("c", protocol, &[BACKEND]).route(to("c")).0
}

type Sender = SendRequest<http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>>;

async fn http2_client(world: &World) -> Sender {
    let io = TokioIo::new(world.dial(GATE));
    let (sender, connection) = handshake(Spawner(world.pipes.clone()), io).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    sender
}

fn empty() -> http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible> {
    http_body_util::Empty::new().boxed_unsync()
}

async fn text(body: Incoming) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[test]
fn http2_to_http1() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(table(UpstreamProtocol::Http1));
        let mut client = http2_client(&world).await;
        let request = Request::post("http://a.example/p?q")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .body(Full::from("hello").boxed_unsync())
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!((response.version(), response.status().as_u16()), (Version::HTTP_2, 200));
        assert!(!response.headers().contains_key("date"));
        let said = text(response.into_body()).await;
        assert!(said.starts_with("POST /p?q HTTP/1.1\n"), "{said}");
        assert!(said.contains("\ncookie: a=1; b=2\n"), "{said}");
        assert!(said.contains("\nhost: a.example\n") && said.ends_with("body: hello\n"), "{said}");
    });
}

#[test]
fn http1_to_http2() {
    run(|world| async move {
        world.http2_backend(BACKEND, describe);
        world.serve(table(UpstreamProtocol::Http2));
        let request = "POST /p HTTP/1.1\r\nHost: a.example:80\r\nConnection: close, x-own\r\nX-Own: 1\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        let answer = world.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("POST http://a.example:80/p HTTP/2.0\nx-forwarded-for"), "{answer}");
        assert!(answer.contains("body: hello\n") && !answer.contains("x-own"), "{answer}");
    });
}

#[test]
fn http2_to_http2_over_one_connection() {
    run(|world| async move {
        world.http2_backend(BACKEND, describe);
        world.serve(table(UpstreamProtocol::Http2));
        let client = http2_client(&world).await;
        let calls: Vec<_> = (0..20)
            .map(|at| {
                let mut client = client.clone();
                tokio::task::spawn_local(async move {
                    let uri = format!("http://a.example/{at}");
                    let response =
                        client.send_request(Request::get(uri).body(empty()).unwrap()).await.unwrap();
                    text(response.into_body()).await
                })
            })
            .collect();
        for (at, call) in calls.into_iter().enumerate() {
            let said = call.await.unwrap();
            assert!(said.starts_with(&format!("GET http://a.example/{at} HTTP/2.0\n")), "{said}");
        }
        assert_eq!(world.pipes.connects(BACKEND), 1, "requests that come at once wait for the same connect");
    });
}

/// A gRPC server: echoes messages as they come and ends with a status.
fn grpc_backend(world: &World) {
    let pipes = world.pipes.clone();
    world.raw_backend(BACKEND, move |io| {
        let spawner = Spawner(pipes.clone());
        let service = service_fn(|request: Request<Incoming>| async move {
            assert_eq!(request.headers()["te"], "trailers");
            assert_eq!(request.headers()["content-type"], "application/grpc");
            let (mut sender, body) = Channel::<Bytes>::new(4);
            tokio::task::spawn_local(async move {
                let mut incoming = request.into_body();
                while let Some(frame) = incoming.frame().await {
                    if let Ok(data) = frame.unwrap().into_data() {
                        sender.send_data(data).await.unwrap();
                    }
                }
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", HeaderValue::from_static("0"));
                sender.send_trailers(trailers).await.unwrap();
            });
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
            Ok::<_, std::convert::Infallible>(response)
        });
        async move {
            let builder = hyper::server::conn::http2::Builder::new(spawner);
            let _ = builder.serve_connection(TokioIo::new(io), service).await;
        }
    });
}

#[test]
fn a_grpc_stream_carries_messages_both_ways_as_they_come_and_its_trailers() {
    run(|world| async move {
        grpc_backend(&world);
        world.serve(table(UpstreamProtocol::Http2));
        let mut client = http2_client(&world).await;
        let (sender, body) = tokio::sync::mpsc::unbounded_channel::<Bytes>();
        let mut body = body;
        let stream = futures(move |cx| {
            body.poll_recv(cx)
                .map(|chunk| chunk.map(|chunk| Ok::<_, std::convert::Infallible>(Frame::data(chunk))))
        });
        let request = Request::post("http://a.example/s/m")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(stream).boxed_unsync())
            .unwrap();
        let mut response = client.send_request(request).await.unwrap();
        for message in ["one", "two", "three"] {
            sender.send(Bytes::from(message)).unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), message);
        }
        drop(sender);
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "0");
        assert!(response.body_mut().frame().await.is_none());
    });
}

/// A stream from a poll function: the one adapter of `futures` that is needed here.
fn futures<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Send,
) -> impl futures_core::Stream<Item = T> + Send {
    struct PollFn<F>(F);
    impl<F: Unpin + FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>>, T> futures_core::Stream
        for PollFn<F>
    {
        type Item = T;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<T>> {
            (self.0)(cx)
        }
    }
    PollFn(Box::new(poll))
}

#[test]
fn a_grpc_call_that_the_backend_cannot_take_says_unavailable() {
    run(|world| async move {
        world.serve(table(UpstreamProtocol::Http2));
        let mut client = http2_client(&world).await;
        let request = Request::post("http://a.example/s/m")
            .header("content-type", "application/grpc+proto")
            .body(Full::from("x").boxed_unsync())
            .unwrap();
        let response = client.send_request(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &HeaderValue::from(14))
        );
    });
}

#[test]
fn an_http2_connection_that_ends_is_replaced_and_fails_no_request() {
    run(|world| async move {
        let pipes = world.pipes.clone();
        // Each connection serves three requests, then says GOAWAY and closes.
        world.raw_backend(BACKEND, move |io| {
            let spawner = Spawner(pipes.clone());
            let served = std::rc::Rc::new(std::cell::Cell::new(0));
            let counted = std::rc::Rc::clone(&served);
            let service = service_fn(move |request| {
                counted.set(counted.get() + 1);
                async move { Ok::<_, std::convert::Infallible>(describe(request).await) }
            });
            async move {
                let builder = hyper::server::conn::http2::Builder::new(spawner);
                let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
                std::future::poll_fn(|cx| {
                    if served.get() >= 3 {
                        connection.as_mut().graceful_shutdown();
                    }
                    connection.as_mut().poll(cx)
                })
                .await
                .unwrap();
            }
        });
        world.serve(table(UpstreamProtocol::Http2));
        let mut client = world.dial(GATE);
        for _ in 0..30 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let answer = read_until(&mut client, "body: \n").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        assert!(world.pipes.connects(BACKEND) >= 10);
    });
}

#[test]
fn redirects_and_faults_reach_http2_clients() {
    run(|world| async move {
        let mut away = route("/away", HttpAction::Respond { status: 500, body: String::new() });
        away.filters =
            vec![HttpFilter::Redirect(Redirect { port: Some(8080), status: 302, ..Redirect::default() })];
        world.serve(tables().route(away).0);
        let mut client = http2_client(&world).await;
        let response =
            client.send_request(Request::get("http://a.example/away").body(empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["location"], "http://a.example:8080/away");
        let response =
            client.send_request(Request::get("http://a.example/none").body(empty()).unwrap()).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-ringway-reason"]),
            (404, &HeaderValue::from_static("no_route"))
        );
    });
}

#[test]
fn a_head_over_http2_keeps_its_length() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await.unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(table(UpstreamProtocol::Http1));
        let mut client = http2_client(&world).await;
        let response =
            client.send_request(Request::head("http://a.example/").body(empty()).unwrap()).await.unwrap();
        assert_eq!(response.headers()["content-length"], "77");
        assert_eq!(text(response.into_body()).await, "");
    });
}
