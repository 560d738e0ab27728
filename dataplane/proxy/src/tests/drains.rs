//! New tables under load, listeners that come and go, and draining.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use model::table::*;
use model::tcp::{Congestion, Ecn, TcpSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::Snapshot;
use crate::runtime::Spawner;

const BACKEND: &str = "10.0.1.1:8080";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_thousand_tables_under_load_fail_no_request_and_close_no_pooled_connection() {
    run(|world| async move {
        world.mirror(BACKEND);
        let mut table = simple(BACKEND);
        world.serve(table.clone());
        let failed = Rc::new(Cell::new(0));
        let done = Rc::new(Cell::new(0));
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let (mut io, failed, done) = (world.dial(GATE), Rc::clone(&failed), Rc::clone(&done));
                tokio::task::spawn_local(async move {
                    for _ in 0..200 {
                        io.write_all(GET).await.unwrap();
                        let answer = read_until(&mut io, "\r\n\r\n").await;
                        failed.set(failed.get() + u32::from(!answer.starts_with("HTTP/1.1 200 ")));
                        done.set(done.get() + 1);
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                })
            })
            .collect();
        let mut former = Vec::new();
        for version in 0..1_000 {
            table.version = version;
            let snapshot = Arc::new(Snapshot::compile(table.clone()).unwrap());
            former.push(Arc::downgrade(&snapshot));
            assert!(world.proxy.set_table(snapshot).is_some());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!((done.get(), failed.get()), (4_000, 0));
        assert!(world.pipes.connects(BACKEND) <= 20, "{}", world.pipes.connects(BACKEND));
        let alive = former.iter().filter(|snapshot| snapshot.upgrade().is_some()).count();
        assert_eq!(alive, 1, "only the table in force is held");
    });
}

#[test]
fn a_request_goes_on_by_the_route_it_has_and_the_next_by_the_new_one() {
    run(|world| async move {
        let release = Rc::new(tokio::sync::Notify::new());
        let held = Rc::clone(&release);
        world.backend(BACKEND, move |request| {
            let held = Rc::clone(&held);
            async move {
                held.notified().await;
                describe(request).await
            }
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(GET).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        world.serve(tables().route(route("/", HttpAction::Respond { status: 418, body: String::new() })).0);
        release.notify_one();
        assert!(read_until(&mut client, "body: \n").await.starts_with("HTTP/1.1 200 "));
        client.write_all(GET).await.unwrap();
        assert!(read_until(&mut client, "\r\n\r\n").await.starts_with("HTTP/1.1 418 "));
    });
}

#[test]
fn a_table_says_how_tcp_behaves_on_listeners_and_towards_clusters() {
    run(|world| async move {
        world.mirror(BACKEND);
        let mut table = simple(BACKEND);
        let bbr = TcpSettings { congestion: Congestion::Bbr, pacing: true, ecn: Ecn::Active };
        table.listeners.get_mut("l").unwrap().tcp = bbr;
        table.clusters.values_mut().for_each(|cluster| cluster.tcp = bbr);
        world.serve(table.clone());
        let mut client = world.dial(GATE);
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "body: \n").await;
        assert_eq!(world.pipes.dialled(), bbr);
        let newreno = TcpSettings { congestion: Congestion::NewReno, ..TcpSettings::default() };
        table.listeners.get_mut("l").unwrap().tcp = newreno;
        world.serve(table.clone());
        world.serve(table);
        let backend = TcpSettings::default();
        assert_eq!(world.pipes.tuned(), [backend, bbr, newreno], "told when it opened, and where it changed");
    });
}

#[test]
fn listeners_open_and_close_with_the_table() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "body: \n").await;
        let mut moved = simple(BACKEND);
        moved.listeners.get_mut("l").unwrap().port = 81;
        world.serve(moved.clone());
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!world.pipes.is_listening(GATE) && world.pipes.is_listening("10.0.0.1:81"));
        client.write_all(GET).await.unwrap();
        read_until(&mut client, "body: \n").await;
        moved.listeners.clear();
        world.serve(moved);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(
            client.read(&mut [0; 8]).await.unwrap(),
            0,
            "an idle connection of a listener that went is closed"
        );
        assert_eq!(world.proxy.active(), 0);
    });
}

#[test]
fn draining_lets_requests_end_and_closes_what_is_idle() {
    run(|world| async move {
        let release = Rc::new(tokio::sync::Notify::new());
        let held = Rc::clone(&release);
        world.backend(BACKEND, move |request| {
            let held = Rc::clone(&held);
            async move {
                if request.uri().path() == "/held" {
                    held.notified().await;
                }
                describe(request).await
            }
        });
        world.serve(simple(BACKEND));
        let mut silent = world.dial(GATE);
        let mut idle = world.dial(GATE);
        idle.write_all(GET).await.unwrap();
        read_until(&mut idle, "body: \n").await;
        let mut busy = world.dial(GATE);
        busy.write_all(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let io = TokioIo::new(world.dial(GATE));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(Spawner(world.pipes.clone()), io).await.unwrap();
        let ended = tokio::task::spawn_local(connection);
        let request = || Request::get("http://a/held").body(Empty::<bytes::Bytes>::new()).unwrap();
        let call = tokio::task::spawn_local(sender.send_request(request()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(world.proxy.active(), 4);
        world.proxy.drain();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!world.pipes.is_listening(GATE));
        assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(idle.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(world.proxy.active(), 2);
        release.notify_waiters();
        let answer = read_until(&mut busy, "body: \n").await;
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        let response = call.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await.unwrap();
        ended.await.unwrap().unwrap();
        assert!(sender.send_request(request()).await.is_err(), "GOAWAY was said");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(world.proxy.active(), 0);
    });
}

#[test]
fn an_endpoint_that_leaves_takes_its_unused_connections_with_it() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.mirror("10.0.1.2:1");
        world.serve(simple(BACKEND));
        world.fetch("/").await;
        world.serve(simple("10.0.1.2:1"));
        assert_eq!(world.sample("ringway_upstream_pooled", &[]), 0.0);
        world.fetch("/").await;
        assert_eq!((world.pipes.connects(BACKEND), world.pipes.connects("10.0.1.2:1")), (1, 1));
    });
}
