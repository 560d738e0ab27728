//! Connections to backends are used again, and a backend that closes them fails no request.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use model::table::*;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::world::*;
use crate::Limits;

const BACKEND: &str = "10.0.1.1:8080";

/// Answers `answers` requests on one connection, then closes it without a word.
async fn closing_after(mut io: DuplexStream, answers: u32, served: Rc<Cell<u32>>) {
    for _ in 0..answers {
        read_until(&mut io, "\r\n\r\n").await;
        served.set(served.get() + 1);
        io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    }
}

async fn ask(client: &mut DuplexStream, request: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(client, "\r\n\r\n").await;
    answer.lines().next().unwrap().to_owned()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn one_connection_carries_many_requests_of_many_clients() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        for _ in 0..3 {
            let mut client = world.dial(GATE);
            for _ in 0..3 {
                assert_eq!(ask(&mut client, GET).await, "HTTP/1.1 200 OK");
            }
        }
        assert_eq!(world.pipes.connects(BACKEND), 1);
        assert_eq!(world.sample("ringway_upstream_reuses_total", &[("cluster", "c")]), 8.0);
        assert_eq!(world.sample("ringway_upstream_pooled", &[]), 1.0);
    });
}

#[test]
fn a_backend_that_closes_after_every_third_answer_fails_no_request() {
    run(|world| async move {
        let served = Rc::new(Cell::new(0));
        let counted = Rc::clone(&served);
        world.raw_backend(BACKEND, move |io| closing_after(io, 3, Rc::clone(&counted)));
        world.serve(simple(BACKEND));
        let mut clients: Vec<_> = (0..4).map(|_| world.dial(GATE)).collect();
        for _ in 0..75 {
            for client in &mut clients {
                assert_eq!(ask(client, GET).await, "HTTP/1.1 200 OK");
            }
        }
        assert_eq!(served.get(), 300);
        assert_eq!(world.pipes.connects(BACKEND), 100);
    });
}

#[test]
fn connection_close_of_the_backend_is_heeded() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
                .await
                .unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        for _ in 0..5 {
            assert_eq!(ask(&mut client, GET).await, "HTTP/1.1 200 OK");
        }
        assert_eq!(world.pipes.connects(BACKEND), 5);
    });
}

/// The backend takes the second request on a connection and closes without an answer: the race that a keepalive
/// timeout loses.
fn losing_the_race(world: &World) {
    world.raw_backend(BACKEND, |mut io| async move {
        let first = read_until(&mut io, "\r\n\r\n").await;
        let answer = if first.starts_with("GET /broken") {
            "HTTP/1.1 "
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        };
        io.write_all(answer.as_bytes()).await.unwrap();
        read_until(&mut io, "\r\n\r\n").await;
    });
    world.serve(simple(BACKEND));
}

#[test]
fn an_idempotent_request_that_met_the_end_of_a_reused_connection_is_sent_once_more() {
    run(|world| async move {
        losing_the_race(&world);
        let mut client = world.dial(GATE);
        for _ in 0..4 {
            assert_eq!(ask(&mut client, GET).await, "HTTP/1.1 200 OK");
        }
        assert_eq!(world.sample("ringway_upstream_resent_total", &[]), 3.0);
        assert_eq!(world.faults("upstream_closed"), 0.0);
    });
}

#[test]
fn a_post_that_was_written_is_not_sent_again() {
    run(|world| async move {
        losing_the_race(&world);
        let mut client = world.dial(GATE);
        assert_eq!(ask(&mut client, GET).await, "HTTP/1.1 200 OK");
        assert_eq!(ask(&mut client, POST).await, "HTTP/1.1 502 Bad Gateway");
        assert_eq!(world.sample("ringway_upstream_resent_total", &[]), 0.0);
        assert_eq!(world.pipes.connects(BACKEND), 1);
    });
}

#[test]
fn a_request_that_fails_on_a_fresh_connection_is_not_sent_again() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        assert_eq!(ask(&mut client, GET).await, "HTTP/1.1 502 Bad Gateway");
        assert_eq!(world.pipes.connects(BACKEND), 1);
    });
}

#[test]
fn an_answer_that_was_not_read_to_its_end_costs_its_connection() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            let _ = io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").await;
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(GET.as_bytes()).await.unwrap();
        read_until(&mut client, "part").await;
        drop(client);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(world.sample("ringway_upstream_pooled", &[]), 0.0);
        assert_eq!(world.sample("ringway_requests_active", &[("cluster", "c")]), 0.0);
    });
}

#[test]
fn unused_connections_are_closed_when_they_are_old_or_the_backend_has_closed_them() {
    let limits = Limits { upstream_idle: Duration::from_secs(10), ..Limits::default() };
    run_with(limits, |world| async move {
        let served = Rc::new(Cell::new(0));
        world.mirror(BACKEND);
        world.raw_backend("10.0.1.2:1", move |io| closing_after(io, 1, Rc::clone(&served)));
        let table = tables()
            .cluster("old", UpstreamProtocol::Http1, &[BACKEND])
            .cluster("closed", UpstreamProtocol::Http1, &["10.0.1.2:1"])
            .route(route("/closed", HttpAction::Forward(vec![share("closed", 1)])))
            .route(to("old"));
        world.serve(table.0);
        world.fetch("/").await;
        world.fetch("/closed").await;
        let pooled = |cluster| world.sample("ringway_upstream_pooled", &[("cluster", cluster)]);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!((pooled("old"), pooled("closed")), (1.0, 0.0));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(pooled("old"), 0.0);
    });
}

#[test]
fn no_more_unused_connections_are_kept_than_the_limit_says() {
    let limits = Limits { idle_per_endpoint: 2, ..Limits::default() };
    run_with(limits, |world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let mut clients: Vec<_> = (0..5).map(|_| world.dial(GATE)).collect();
        for client in &mut clients {
            client.write_all(GET.as_bytes()).await.unwrap();
        }
        for client in &mut clients {
            read_until(client, "\r\n\r\n").await;
        }
        assert_eq!(world.pipes.connects(BACKEND), 5);
        assert_eq!(world.sample("ringway_upstream_pooled", &[]), 2.0);
    });
}

#[test]
fn load_follows_least_request_and_round_robin_is_even() {
    run(|world| async move {
        let hold = Rc::new(tokio::sync::Notify::new());
        let held = Rc::clone(&hold);
        world.backend("10.0.1.1:1", move |request| {
            let held = Rc::clone(&held);
            async move {
                if request.uri().path() == "/hold" {
                    held.notified().await;
                }
                describe(request).await
            }
        });
        world.mirror("10.0.1.2:1");
        let endpoints = ["10.0.1.1:1", "10.0.1.2:1"];
        let mut table = tables().cluster("c", UpstreamProtocol::Http1, &endpoints).route(to("c")).0;
        world.serve(table.clone());
        for _ in 0..10 {
            world.fetch("/").await;
        }
        assert_eq!((world.pipes.connects(endpoints[0]), world.pipes.connects(endpoints[1])), (1, 1));
        table.clusters.get_mut("c").unwrap().balance = Balance::LeastRequest;
        table.endpoints.get_mut("c").unwrap()[1].healthy = false;
        world.serve(table.clone());
        let mut busy: Vec<_> = (0..8).map(|_| world.dial(GATE)).collect();
        for client in &mut busy {
            client.write_all(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        table.endpoints.get_mut("c").unwrap()[1].healthy = true;
        world.serve(table);
        let before = world.sample("ringway_upstream_reuses_total", &[]);
        let mut client = world.dial(GATE);
        for _ in 0..200 {
            assert_eq!(ask(&mut client, GET).await, "HTTP/1.1 200 OK");
        }
        assert!(world.sample("ringway_upstream_reuses_total", &[]) > before);
        // 200 requests: the idle endpoint gets all but those where both draws fell on the busy one.
        let first = world.sample("ringway_requests_total", &[("cluster", "c")]);
        assert_eq!(first, 210.0);
        hold.notify_waiters();
    });
}
