//! Every limit, met.

use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use model::table::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::Limits;
use crate::runtime::Spawner;

const BACKEND: &str = "10.0.1.1:8080";

#[test]
fn heads_that_are_too_long_or_have_too_many_fields_answer_431() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let fields = |count: usize| (0..count).map(|at| format!("x-{at}: 1\r\n")).collect::<String>();
        let request = |fields: String| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert!(world.talk(&request(fields(96))).await.starts_with("HTTP/1.1 200 "));
        assert!(world.talk(&request(fields(100))).await.starts_with("HTTP/1.1 431 "));
        let long = |bytes: usize| request(format!("x: {}\r\n", "a".repeat(bytes)));
        assert!(world.talk(&long(59 << 10)).await.starts_with("HTTP/1.1 200 "));
        assert!(world.talk(&long(60 << 10)).await.starts_with("HTTP/1.1 431 "));
    });
}

#[test]
fn a_request_body_that_stops_answers_408() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        client.write_all(b"+").await.unwrap();
        tokio::time::sleep(Duration::from_secs(59)).await;
        assert_eq!(world.faults("request_body_idle"), 0.0);
        tokio::time::sleep(Duration::from_secs(2)).await;
        let answer = read_quiet(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(world.faults("request_body_idle"), 1.0);
    });
}

#[test]
fn a_response_body_that_stops_is_cut() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
            std::future::pending::<()>().await;
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut client, "half").await;
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(world.faults("response_body_idle"), 1.0);
    });
}

#[test]
fn a_backend_that_dies_in_its_body_cuts_the_client() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").await.unwrap();
        });
        world.serve(simple(BACKEND));
        let answer = world.fetch("/").await;
        assert!(answer.ends_with("half"), "{answer}");
        assert_eq!(world.faults("upstream_closed"), 1.0);
    });
}

#[test]
fn a_client_that_says_nothing_or_only_part_of_a_head_is_closed() {
    let limits = Limits { client_idle: Duration::from_secs(10), ..Limits::default() };
    run_with(limits, |world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let mut silent = world.dial(GATE);
        let mut slow = world.dial(GATE);
        let mut reused = world.dial(GATE);
        slow.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        reused.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        read_until(&mut reused, "body: \n").await;
        tokio::time::sleep(Duration::from_millis(5_500)).await;
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(slow.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(world.proxy.active(), 1);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(reused.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_request_that_takes_long_is_not_idle() {
    let limits = Limits { client_idle: Duration::from_secs(10), ..Limits::default() };
    run_with(limits, |world| async move {
        world.backend(BACKEND, |request| async move {
            tokio::time::sleep(Duration::from_secs(100)).await;
            describe(request).await
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(99)).await;
        assert!(read_until(&mut client, "body: \n").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn connections_over_the_listeners_limit_are_reset() {
    let limits = Limits { connections_per_listener: 2, ..Limits::default() };
    run_with(limits, |world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let held = (world.dial(GATE), world.dial(GATE));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(world.fetch("/").await, "");
        assert_eq!((world.pipes.aborts(), world.sample("ringway_connections_refused_total", &[])), (1, 1.0));
        drop(held);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(world.fetch("/").await.starts_with("HTTP/1.1 200 "));
    });
}

#[test]
fn streams_to_a_backend_spread_over_connections_and_overflow_at_the_limit() {
    let limits = Limits { concurrent_streams: 2, http2_connections_per_endpoint: 2, ..Limits::default() };
    run_with(limits, |world| async move {
        world.http2_backend(BACKEND, |request| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            describe(request).await
        });
        world.serve(tables().cluster("c", UpstreamProtocol::Http2, &[BACKEND]).route(to("c")).0);
        let mut clients: Vec<_> = (0..6).map(|_| world.dial(GATE)).collect();
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        }
        let mut served = 0;
        for client in &mut clients {
            let answer = read_until(client, "\r\n\r\n").await;
            served += u32::from(answer.starts_with("HTTP/1.1 200 "));
        }
        assert_eq!(world.pipes.connects(BACKEND), 2);
        assert_eq!((served, world.faults("upstream_overflow")), (4, 2.0));
    });
}

#[test]
fn a_client_learns_how_many_streams_it_may_open() {
    let limits = Limits { concurrent_streams: 7, ..Limits::default() };
    run_with(limits, |world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let io = TokioIo::new(world.dial(GATE));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(Spawner(world.pipes.clone()), io).await.unwrap();
        let mut connection = Box::pin(connection);
        let request = Request::get("http://a/").body(Empty::<bytes::Bytes>::new()).unwrap();
        let mut call = std::pin::pin!(sender.send_request(request));
        std::future::poll_fn(|cx| {
            let _ = connection.as_mut().poll(cx);
            call.as_mut().poll(cx)
        })
        .await
        .unwrap();
        assert_eq!(connection.current_max_send_streams(), 7);
    });
}

/// Issue 2 allows 2 KiB before the first byte, for the stack's part too.
#[test]
fn a_connection_that_has_said_nothing_is_small() {
    run(|world| async move {
        world.serve(simple(BACKEND));
        let engine = std::rc::Rc::clone(&world.proxy.0);
        let listener = std::rc::Rc::clone(&engine.listeners()["l"]);
        let ticket = listener.gate.ticket();
        let io = TokioIo::new(world.dial(GATE));
        let task = crate::http::serve(engine, listener, ticket, io, address("192.0.2.7:1"));
        assert!(size_of_val(&task) <= 768, "{} bytes", size_of_val(&task));
    });
}

#[test]
fn connections_that_arrive_at_once_are_taken_in_portions() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let _clients: Vec<_> = (0..100).map(|_| world.dial(GATE)).collect();
        let accepted = || world.sample("ringway_connections_accepted_total", &[]);
        let mut most = 0.0_f64;
        while accepted() < 100.0 {
            let before = accepted();
            // The test's own turn comes after some sixty of other tasks.
            tokio::task::yield_now().await;
            most = most.max(accepted() - before);
        }
        assert!(most <= 50.0, "{most} in one turn of all tasks");
    });
}
