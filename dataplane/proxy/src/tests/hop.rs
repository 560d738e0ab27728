//! One hop of HTTP/1.1: what arrives at the backend, and what comes back.

use std::time::Duration;

use http::{Response, header};
use http_body_util::{BodyExt, Full};
use model::table::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;

const BACKEND: &str = "10.0.1.1:8080";

#[test]
fn a_request_arrives_with_forwarded_fields_and_without_those_of_the_hop() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let request = "GET /p?q=1 HTTP/1.1\r\nHost: a.example:80\r\nConnection: keep-alive, x-own\r\nX-Own: 1\r\n\
                       Keep-Alive: timeout=3\r\nTE: gzip\r\nX-Request-Id: mine\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n";
        let answer = world.talk(request).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(!head.to_lowercase().contains("date:"), "{head}");
        let expected = "GET /p?q=1 HTTP/1.1\nhost: a.example:80\nx-forwarded-for: 1.1.1.1, 192.0.2.7\n\
                        x-forwarded-proto: http\nx-request-id: mine\nbody: \n";
        assert_eq!(body, expected);
    });
}

#[test]
fn a_request_without_an_id_gets_a_random_one() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let id = |answer: String| {
            let line = answer.lines().find(|line| line.starts_with("x-request-id: ")).unwrap().to_owned();
            line["x-request-id: ".len()..].to_owned()
        };
        let (first, second) = (id(world.fetch("/").await), id(world.fetch("/").await));
        assert_eq!((first.len(), &first[14..15]), (36, "4"));
        assert_ne!(first, second);
    });
}

#[test]
fn fields_of_the_backends_hop_do_not_reach_the_client() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            let answer = "HTTP/1.1 200 OK\r\nConnection: x-secret\r\nX-Secret: 1\r\nKeep-Alive: timeout=9\r\n\
                          Transfer-Encoding: chunked\r\nX-Kept: 1\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
            io.write_all(answer.as_bytes()).await.unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let answer = world.fetch("/").await;
        assert_eq!(
            answer,
            "HTTP/1.1 200 OK\r\nx-kept: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
        );
    });
}

#[test]
fn a_body_streams_through_in_both_directions() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            let head = read_until(&mut io, "first").await;
            assert!(head.contains("content-length: 11"), "{head}");
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await.unwrap();
            read_until(&mut io, "second").await;
            io.write_all(b"def").await.unwrap();
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nfirst").await.unwrap();
        let answer = read_until(&mut client, "abc").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        client.write_all(b"second").await.unwrap();
        read_until(&mut client, "def").await;
    });
}

#[test]
fn a_slow_reader_presses_back_on_the_backend() {
    run(|world| async move {
        const LENGTH: usize = 8 << 20;
        let sent = std::rc::Rc::new(std::cell::Cell::new(0_usize));
        let counted = std::rc::Rc::clone(&sent);
        world.raw_backend(BACKEND, move |mut io| {
            let counted = std::rc::Rc::clone(&counted);
            async move {
                read_until(&mut io, "\r\n\r\n").await;
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
                io.write_all(head.as_bytes()).await.unwrap();
                while counted.get() < LENGTH {
                    io.write_all(&[b'x'; 8 << 10]).await.unwrap();
                    counted.set(counted.get() + (8 << 10));
                }
                read_quiet(&mut io).await;
            }
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(sent.get() < 1 << 20, "{} bytes left the backend for a client that read none", sent.get());
        let mut received = 0;
        let mut chunk = vec![0; 64 << 10];
        while received < LENGTH {
            received += client.read(&mut chunk).await.unwrap();
        }
    });
}

#[test]
fn trailers_pass_in_both_directions() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            let request = read_until(&mut io, "x-sum: 5").await;
            assert!(request.contains("trailer: x-sum"), "{request}");
            assert!(request.contains("te: trailers"), "{request}");
            let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-end\r\n\r\n\
                          2\r\nok\r\n0\r\nX-End: 7\r\n\r\n";
            io.write_all(answer.as_bytes()).await.unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\
                       Trailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n";
        let answer = world.talk(request).await;
        assert!(answer.ends_with("2\r\nok\r\n0\r\nx-end: 7\r\n\r\n"), "{answer}");
    });
}

#[test]
fn the_client_is_told_to_continue_when_the_backend_takes_the_body_and_not_before_an_error() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
        let mut client = world.dial(GATE);
        client.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
        client.write_all(b"hello").await.unwrap();
        let answer = read_until(&mut client, "body: hello").await;
        assert!(!answer.contains("expect"), "{answer}");
        world.serve(simple("10.0.1.9:1"));
        let answer = world.talk(head).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    });
}

#[test]
fn a_websocket_becomes_a_pipe() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            let request = read_until(&mut io, "\r\n\r\n").await;
            assert!(
                request.contains("upgrade: websocket") && request.contains("connection: upgrade"),
                "{request}"
            );
            let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                          Sec-WebSocket-Accept: x\r\n\r\nearly";
            io.write_all(answer.as_bytes()).await.unwrap();
            read_until(&mut io, "ping").await;
            io.write_all(b"pong").await.unwrap();
            let mut rest = Vec::new();
            io.read_to_end(&mut rest).await.unwrap();
            io.write_all(b"bye").await.unwrap();
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        let request = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nping";
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "pong").await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        assert!(
            answer.contains("upgrade: websocket") && answer.contains("sec-websocket-accept: x"),
            "{answer}"
        );
        assert!(answer.contains("\r\n\r\nearly"), "{answer}");
        client.shutdown().await.unwrap();
        read_until(&mut client, "bye").await;
        assert_eq!(world.sample("ringway_requests_total", &[("code_class", "1xx")]), 1.0);
    });
}

#[test]
fn a_switch_that_nobody_asked_for_is_refused() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
                .await
                .unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let answer = world.fetch("/").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(world.faults("upstream_protocol"), 1.0);
    });
}

#[test]
fn a_head_response_keeps_its_length_and_has_no_body() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await.unwrap();
            read_quiet(&mut io).await;
        });
        world.serve(simple(BACKEND));
        let answer = world.talk("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(answer, "HTTP/1.1 200 OK\r\ncontent-length: 77\r\n\r\n");
    });
}

#[test]
fn an_http_1_0_client_gets_its_answer_and_the_end_of_the_connection() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let answer = world.talk("GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(answer.contains("GET / HTTP/1.1"), "{answer}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let one = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = world.talk(&[one("1"), one("2"), one("3")].concat()).await;
        let order: Vec<_> = answer.lines().filter(|line| line.starts_with("GET /")).collect();
        assert_eq!(order, ["GET /1 HTTP/1.1", "GET /2 HTTP/1.1", "GET /3 HTTP/1.1"]);
    });
}

#[test]
fn filters_rewrite_host_path_and_fields_and_the_routes_word_is_the_last() {
    run(|world| async move {
        world.backend(BACKEND, |request| async move {
            let mut response = describe(request).await;
            response.headers_mut().insert("x-drop", "1".parse().unwrap());
            response
        });
        let set = |name: &str, value: &str| HeaderEdit {
            set: vec![(name.into(), value.into())],
            ..HeaderEdit::default()
        };
        let mut way = route("/old", HttpAction::Forward(vec![share("c", 1)]));
        way.filters = vec![
            HttpFilter::Rewrite {
                hostname: Some("b.example".into()),
                path: Some(PathRewrite::Prefix("/new".into())),
            },
            HttpFilter::RequestHeaders(set("x-who", "route")),
            HttpFilter::ResponseHeaders(HeaderEdit { remove: vec!["x-drop".into()], ..set("x-out", "1") }),
        ];
        let HttpAction::Forward(backends) = &mut way.action else { unreachable!() };
        backends[0].filters = vec![HttpFilter::RequestHeaders(set("x-who", "backend"))];
        world.serve(tables().cluster("c", UpstreamProtocol::Http1, &[BACKEND]).route(way).0);
        let answer = world.fetch("/old/x?y").await;
        assert!(answer.contains("GET /new/x?y HTTP/1.1\nhost: b.example\nx-forwarded-for"), "{answer}");
        assert!(answer.contains("x-who: route"), "{answer}");
        assert!(answer.contains("x-out: 1\r\n") && !answer.contains("x-drop"), "{answer}");
    });
}

#[test]
fn a_body_with_get_is_carried_too() {
    run(|world| async move {
        world.mirror(BACKEND);
        world.serve(simple(BACKEND));
        let request = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        assert!(world.talk(request).await.contains("body: hi"));
    });
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    run(|world| async move {
        world.backend(BACKEND, |_| async {
            Response::builder()
                .status(413)
                .header(header::CONNECTION, "close")
                .body(Full::from("no"))
                .unwrap()
        });
        world.serve(simple(BACKEND));
        let mut client = world.dial(GATE);
        client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\npart").await.unwrap();
        let answer = read_until(&mut client, "no").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    });
}

#[test]
fn bytes_and_classes_are_counted_by_route_and_cluster() {
    run(|world| async move {
        world.backend(BACKEND, |request| async move {
            request.into_body().collect().await.unwrap();
            Response::builder().status(201).body(Full::from("four")).unwrap()
        });
        world.serve(simple(BACKEND));
        world.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").await;
        let labels = [("route", "route/"), ("cluster", "c")];
        let count = |name| world.sample(name, &labels);
        assert_eq!(count("ringway_requests_total"), 1.0);
        assert_eq!((count("ringway_request_bytes_total"), count("ringway_response_bytes_total")), (3.0, 4.0));
        assert_eq!(count("ringway_request_duration_seconds_count"), 1.0);
        assert_eq!(count("ringway_requests_active"), 0.0);
    });
}
