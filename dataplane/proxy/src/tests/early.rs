//! Answers that come before the request has: the client gets the answer, whoever stops reading.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{Request, Response};
use http_body_util::Full;
use model::table::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, split};

use super::world::*;
use crate::Limits;

const BACKEND: &str = "10.0.1.1:8080";
/// Many times what the pipes hold between client, proxy and backend.
const BODY_BYTES: usize = 8 << 20;

fn post(path: &str, fields: &str, bytes: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {bytes}\r\n\r\n")
}

/// A table whose backend answers after the head, and then reads nothing.
fn serve_hasty_backend(world: &World) {
    world.raw_backend(BACKEND, |mut io| async move {
        read_until(&mut io, "\r\n\r\n").await;
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        std::future::pending::<()>().await;
    });
    world.serve(simple(BACKEND));
}

/// A client that was answered before it sent any of its body.
async fn answered_early(world: &World) -> DuplexStream {
    serve_hasty_backend(world);
    let mut client = world.dial(GATE);
    client.write_all(post("/", "", 1 << 20).as_bytes()).await.unwrap();
    read_until(&mut client, "ok").await;
    client
}

/// Sends a head and a whole body, and reads up to `mark` meanwhile.
async fn upload(client: DuplexStream, head: &str, mark: &str) -> (String, DuplexStream) {
    let (mut reader, mut writer) = split(client);
    let head = head.to_owned();
    let sending = tokio::task::spawn_local(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..BODY_BYTES / (8 << 10) {
            writer.write_all(&[b'x'; 8 << 10]).await.expect("the connection takes the whole body");
        }
        writer
    });
    let mut said = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&said).contains(mark) {
        let read = reader.read(&mut chunk).await.unwrap();
        assert!(read > 0, "the end came before {mark:?}: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&chunk[..read]);
    }
    let writer = sending.await.unwrap();
    (String::from_utf8(said).unwrap(), reader.unsplit(writer))
}

#[test]
fn the_rest_of_an_answered_request_is_read_and_its_connection_serves_on() {
    run(|world| async move {
        serve_hasty_backend(&world);
        let mut client = world.dial(GATE);
        for _ in 0..3 {
            let said;
            (said, client) = upload(client, &post("/", "", BODY_BYTES), "ok").await;
            assert!(said.starts_with("HTTP/1.1 200 OK\r\n") && !said.contains("close"), "{said}");
        }
        assert_eq!(
            world.pipes.connects(BACKEND),
            3,
            "a backend that owes the reading of a body is not used again"
        );
    });
}

#[test]
fn what_ringway_answers_itself_reaches_a_client_that_sends_a_body() {
    run(|world| async move {
        world.serve(simple("10.0.1.9:1"));
        let client = world.dial(GATE);
        let (said, client) = upload(client, &post("/", "", BODY_BYTES), "reached.\n").await;
        assert!(said.starts_with("HTTP/1.1 503 "), "{said}");
        world.serve(tables().0);
        let (said, mut client) = upload(client, &post("/", "", BODY_BYTES), "request.\n").await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(read_until(&mut client, "request.\n").await.starts_with("HTTP/1.1 404 "));
    });
}

#[test]
fn a_client_that_never_stops_sending_is_cut_at_the_bound() {
    let limits = Limits { linger_bytes: 1 << 20, ..Limits::default() };
    run_with(limits, |world| async move {
        serve_hasty_backend(&world);
        let mut client = world.dial(GATE);
        client.write_all(post("/", "", 1 << 40).as_bytes()).await.unwrap();
        let mut sent = 0;
        while client.write_all(&[b'x'; 8 << 10]).await.is_ok() {
            sent += 8 << 10;
            assert!(sent < 4 << 20, "nothing ends it");
        }
        assert!(sent >= 1 << 20, "{sent} bytes");
        assert!(read_until(&mut client, "ok").await.starts_with("HTTP/1.1 200 OK\r\n"));
    });
}

#[test]
fn a_client_that_stops_in_the_middle_is_closed_after_the_lingering_time() {
    run(|world| async move {
        let mut client = answered_early(&world).await;
        let begun = tokio::time::Instant::now();
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(begun.elapsed().as_secs(), 5, "nothing came for `linger_idle`");
        client.write_all(b"late").await.expect("our side is closed, and the client's is still read");
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(client.write_all(b"too late").await.is_err());
        assert_eq!(world.proxy.active(), 0);
    });
}

#[test]
fn a_trickle_is_read_no_longer_than_the_whole_lingering_time() {
    run(|world| async move {
        let client = answered_early(&world).await;
        let begun = tokio::time::Instant::now();
        let (mut reader, mut writer) = split(client);
        let trickling = tokio::task::spawn_local(async move {
            while writer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        assert_eq!(reader.read(&mut [0; 1]).await.unwrap(), 0);
        assert_eq!(begun.elapsed().as_secs(), 30);
        trickling.await.unwrap();
        assert!((60..=62).contains(&begun.elapsed().as_secs()), "as long again once our side is closed");
    });
}

#[test]
fn a_client_that_was_not_asked_for_its_body_may_send_it_or_not() {
    run(|world| async move {
        world.serve(simple("10.0.1.9:1"));
        let expecting = post("/", "Expect: 100-continue\r\n", BODY_BYTES);
        let (said, mut client) = upload(world.dial(GATE), &expecting, "reached.\n").await;
        assert!(said.starts_with("HTTP/1.1 503 ") && !said.contains("100 Continue"), "{said}");
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("what was sent unasked is read");
        assert!(read_until(&mut client, "reached.\n").await.starts_with("HTTP/1.1 503 "));
        let mut silent = world.dial(GATE);
        silent.write_all(expecting.as_bytes()).await.unwrap();
        assert!(read_quiet(&mut silent).await.contains("connection: close\r\n"));
    });
}

#[test]
fn a_request_that_is_refused_unread_gets_its_answer() {
    run(|world| async move {
        world.serve(simple(BACKEND));
        let long = format!("POST / HTTP/1.1\r\nHost: a\r\nx: {}\r\n", "a".repeat(64 << 10));
        let (said, mut client) = upload(world.dial(GATE), &long, "\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
        assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn an_answer_is_read_to_its_end_from_a_backend_that_takes_no_more() {
    run(|world| async move {
        // More than one read, less than the pipe holds.
        const ANSWER: usize = 24 << 10;
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            let head = "HTTP/1.1 413 Too Much\r\nConnection: close\r\n";
            let body = "y".repeat(ANSWER - 3) + "end";
            let answer = format!("{head}Content-Length: {ANSWER}\r\n\r\n{body}");
            io.write_all(answer.as_bytes()).await.unwrap();
            // And it is gone: what is still written to it fails, while most of the answer is not read yet.
        });
        world.serve(simple(BACKEND));
        let (said, _client) = upload(world.dial(GATE), &post("/", "", BODY_BYTES), "end").await;
        let (head, body) = said.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 413 ") && body.len() == ANSWER, "{head}: {} bytes", body.len());
        assert_eq!(world.faults("upstream_closed"), 0.0);
    });
}

/// Sends `BODY_BYTES` as one stream; the status, and how the server ended our side.
async fn http2_upload(client: &mut h2::client::SendRequest<Bytes>) -> (u16, Option<Reason>) {
    let request = Request::post("http://a/").body(()).unwrap();
    futures_ready(client).await;
    let (response, mut sender) = client.send_request(request, false).unwrap();
    let sending = tokio::task::spawn_local(async move {
        let mut left = BODY_BYTES;
        while left > 0 {
            sender.reserve_capacity(8 << 10);
            let capacity = std::future::poll_fn(|cx| sender.poll_capacity(cx)).await;
            let Some(Ok(capacity)) = capacity else { break };
            let chunk = capacity.min(left);
            if sender.send_data(Bytes::from(vec![b'x'; chunk]), chunk == left).is_err() {
                break;
            }
            left -= chunk;
        }
        if left == 0 { None } else { std::future::poll_fn(|cx| sender.poll_reset(cx)).await.ok() }
    });
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let mut body = response.into_body();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.expect("the answer is whole");
        body.flow_control().release_capacity(chunk.len()).unwrap();
    }
    (status, sending.await.unwrap())
}

async fn futures_ready(client: &mut h2::client::SendRequest<Bytes>) {
    std::future::poll_fn(|cx| client.poll_ready(cx)).await.expect("the connection is open");
}

async fn http2_client(world: &World) -> h2::client::SendRequest<Bytes> {
    let (client, connection) = h2::client::handshake(world.dial(GATE)).await.unwrap();
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    client
}

#[test]
fn an_http2_stream_whose_answer_is_complete_is_reset_without_an_error() {
    run(|world| async move {
        serve_hasty_backend(&world);
        let mut client = http2_client(&world).await;
        // More than the connection's window: what is not read is given back to it.
        for _ in 0..20 {
            assert_eq!(http2_upload(&mut client).await, (200, Some(Reason::NO_ERROR)));
        }
        world.serve(tables().0);
        assert_eq!(http2_upload(&mut client).await, (404, Some(Reason::NO_ERROR)));
    });
}

#[test]
fn an_http2_backend_that_answers_early_and_resets_its_stream_is_understood() {
    run(|world| async move {
        world.http2_backend(BACKEND, |_request| async move { Response::new(Full::from("ok\n")) });
        world.serve(tables().cluster("c", UpstreamProtocol::Http2, &[BACKEND]).route(to("c")).0);
        let mut client = world.dial(GATE);
        for _ in 0..5 {
            let said;
            (said, client) = upload(client, &post("/", "", BODY_BYTES), "ok\n").await;
            assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        }
        let mut client = http2_client(&world).await;
        for _ in 0..5 {
            assert_eq!(http2_upload(&mut client).await, (200, Some(Reason::NO_ERROR)));
        }
        assert_eq!(world.pipes.connects(BACKEND), 1);
        assert_eq!(world.faults("upstream_closed"), 0.0);
    });
}
