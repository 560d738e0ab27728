//! What the proxy answers itself: every fault that a request can meet, redirects, fixed answers, and who gets what share.

use std::time::Duration;

use http::Response;
use http_body_util::Full;
use model::table::*;
use tokio::io::AsyncWriteExt;

use super::world::*;

const BACKEND: &str = "10.0.1.1:8080";

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or(answer)
}

#[test]
fn each_fault_has_its_status_reason_and_counter() {
    run(|world| async move {
        world.pipes.black_hole("10.0.1.7:1");
        world.raw_backend("10.0.1.8:1", |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
        });
        world.raw_backend("10.0.1.9:1", |mut io| async move {
            read_until(&mut io, "\r\n\r\n").await;
            io.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
        });
        let invalid = WeightedCluster { cluster: None, weight: 1, filters: vec![] };
        let forward = |cluster: &str| HttpAction::Forward(vec![share(cluster, 1)]);
        let table = tables()
            .cluster("none", UpstreamProtocol::Http1, &[])
            .cluster("refusing", UpstreamProtocol::Http1, &["10.0.1.6:1"])
            .cluster("black-hole", UpstreamProtocol::Http1, &["10.0.1.7:1"])
            .cluster("closing", UpstreamProtocol::Http1, &["10.0.1.8:1"])
            .cluster("babbling", UpstreamProtocol::Http1, &["10.0.1.9:1"])
            .cluster("refusing2", UpstreamProtocol::Http2, &["10.0.1.6:1"])
            .route(route("/invalid", HttpAction::Forward(vec![invalid])))
            .route(route("/zero", HttpAction::Forward(vec![share("none", 0)])))
            .route(route("/none", forward("none")))
            .route(route("/refusing", forward("refusing")))
            .route(route("/http2", forward("refusing2")))
            .route(route("/black-hole", forward("black-hole")))
            .route(route("/closing", forward("closing")))
            .route(route("/babbling", forward("babbling")));
        world.serve(table.0);
        for (path, expected, reason) in [
            ("/unmatched", "404", "no_route"),
            ("/invalid", "500", "invalid_backend"),
            ("/zero", "500", "invalid_backend"),
            ("/none", "503", "no_endpoint"),
            ("/refusing", "503", "connect_failed"),
            ("/http2", "503", "connect_failed"),
            ("/closing", "502", "upstream_closed"),
            ("/babbling", "502", "upstream_protocol"),
        ] {
            let before = world.faults(reason);
            let answer = world.fetch(path).await;
            assert_eq!(status(&answer), expected, "{path}: {answer}");
            assert!(answer.contains(&format!("x-ringway-reason: {reason}\r\n")), "{path}: {answer}");
            assert_eq!(world.faults(reason), before + 1.0, "{path}");
        }
        let mut client = world.dial(GATE);
        client.write_all(b"GET /black-hole HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let answer = read_quiet(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connect_timeout"), "{answer}");
    });
}

#[test]
fn a_slow_backend_is_given_up_after_the_routes_time() {
    run(|world| async move {
        world.raw_backend(BACKEND, |mut io| async move {
            let head = read_until(&mut io, "\r\n\r\n").await;
            if head.starts_with("GET /body") {
                io.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
            }
            std::future::pending::<()>().await;
        });
        let limited = |request, backend_request| {
            let mut way = to("c");
            way.timeouts = Timeouts { request, backend_request };
            tables().cluster("c", UpstreamProtocol::Http1, &[BACKEND]).route(way).0
        };
        let time = |ms| Some(Duration::from_millis(ms));
        for table in [limited(time(300), None), limited(None, time(300)), limited(time(300), time(900))] {
            world.serve(table);
            let answer = world.fetch("/").await;
            assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("request_timeout"), "{answer}");
        }
        let answer = world.fetch("/body").await;
        assert!(answer.ends_with("\r\n\r\nabc"), "the head was out, so the body is cut: {answer}");
        assert_eq!(world.faults("request_timeout"), 4.0);
        assert_eq!(world.sample("ringway_requests_active", &[("cluster", "c")]), 0.0);
    });
}

#[test]
fn a_grpc_call_is_answered_in_grpc() {
    run(|world| async move {
        world.serve(tables().cluster("c", UpstreamProtocol::Http2, &[]).route(to("c")).0);
        let request =
            "POST /s/m HTTP/1.1\r\nHost: a\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n";
        let answer = world.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("grpc-status: 14\r\n"), "{answer}");
        assert!(answer.contains("grpc-message: No endpoint of the backend is ready.\r\n"), "{answer}");
    });
}

#[test]
fn a_redirect_and_a_fixed_answer_need_no_backend() {
    run(|world| async move {
        let mut away = route("/away", HttpAction::Respond { status: 500, body: String::new() });
        let redirect = Redirect { scheme: Some("https".into()), status: 301, ..Redirect::default() };
        let edit = HeaderEdit { set: vec![("x-a".into(), "b".into())], ..HeaderEdit::default() };
        away.filters = vec![HttpFilter::ResponseHeaders(edit.clone()), HttpFilter::Redirect(redirect)];
        let mut fixed = route("/fixed", HttpAction::Respond { status: 418, body: "teapot".into() });
        fixed.filters = vec![HttpFilter::ResponseHeaders(edit)];
        world.serve(tables().route(away).route(fixed).0);
        let answer = world.fetch("/away/x?y").await;
        assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
        assert!(answer.contains("location: https://a.example/away/x?y\r\n"), "{answer}");
        assert!(answer.contains("x-a: b\r\n"), "the route's edits hold for its redirect too: {answer}");
        let answer = world.fetch("/fixed").await;
        assert!(answer.starts_with("HTTP/1.1 418 ") && answer.ends_with("\r\n\r\nteapot"), "{answer}");
        assert!(answer.contains("x-a: b\r\n"), "{answer}");
    });
}

#[test]
fn the_first_matching_route_is_it() {
    run(|world| async move {
        let say = |text: &str| HttpAction::Respond { status: 200, body: text.into() };
        let mut tester = route("/", say("tester"));
        tester.matches.headers =
            vec![ValueMatch { name: "x-tester".into(), value: ValuePattern::Exact("1".into()) }];
        world
            .serve(tables().route(route("/deep", say("deep"))).route(tester).route(route("/", say("all"))).0);
        assert!(world.fetch("/deep/x").await.ends_with("deep"));
        assert!(world.fetch("/x").await.ends_with("all"));
        let answer = world.talk("GET /x HTTP/1.1\r\nHost: a\r\nX-Tester: 1\r\n\r\n").await;
        assert!(answer.ends_with("tester"), "{answer}");
    });
}

#[test]
fn weights_share_out_requests_and_an_invalid_backend_keeps_its_share() {
    run(|world| async move {
        for (at, name) in [("10.0.1.1:1", "one"), ("10.0.1.2:1", "two")] {
            world.backend(at, move |_| async move { Response::new(Full::from(name)) });
        }
        let invalid = WeightedCluster { cluster: None, weight: 10, filters: vec![] };
        let shares = vec![share("one", 60), share("two", 30), invalid, share("two", 0)];
        let table = tables()
            .cluster("one", UpstreamProtocol::Http1, &["10.0.1.1:1"])
            .cluster("two", UpstreamProtocol::Http1, &["10.0.1.2:1"])
            .route(route("/", HttpAction::Forward(shares)));
        world.serve(table.0);
        let mut client = world.dial(GATE);
        let (mut one, mut two, mut failed) = (0, 0, 0);
        for _ in 0..2_000 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let answer = read_until(&mut client, "\r\n\r\n").await;
            match answer.split("\r\n\r\n").nth(1).unwrap() {
                "one" => one += 1,
                "two" => two += 1,
                _ => failed += 1,
            }
        }
        assert!((1_100..1_300).contains(&one), "{one}");
        assert!((520..680).contains(&two), "{two}");
        assert!((140..260).contains(&failed), "{failed}");
    });
}

#[test]
fn a_source_of_a_class_sees_its_own_listener_and_others_the_gateways() {
    run(|world| async move {
        let say = |text: &str| HttpAction::Respond { status: 200, body: text.into() };
        let mut table = tables().route(route("/", say("gateway"))).0;
        let own = VirtualHost {
            name: "own".into(),
            domains: vec!["*".into()],
            routes: vec![route("/", say("class"))],
        };
        table.routes.insert("own".into(), RouteTable { name: "own".into(), virtual_hosts: vec![own] });
        let listener = Listener {
            name: "own".into(),
            class: "web".into(),
            protocol: Protocol::Http { routes: "own".into() },
            ..table.listeners["l"].clone()
        };
        table.listeners.insert("own".into(), listener);
        world.serve(table.clone());
        assert!(world.fetch("/").await.ends_with("gateway"));
        let class = |interfaces: &[&str], addresses: &[&str]| SourceClass {
            class: "web".into(),
            interfaces: interfaces.iter().map(|&name| name.into()).collect(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        };
        table.classes = vec![class(&[], &["192.0.2.7"])];
        world.serve(table.clone());
        assert!(world.fetch("/").await.ends_with("class"), "by its address");
        table.classes = vec![class(&["up0"], &[])];
        world.serve(table.clone());
        assert!(world.fetch("/").await.ends_with("class"), "by its interface");
        table.listeners.remove("l");
        table.classes.clear();
        world.serve(table);
        assert_eq!(world.fetch("/").await, "");
        assert_eq!(
            (world.pipes.aborts(), world.sample("ringway_connections_unclaimed_total", &[])),
            (1, 1.0)
        );
    });
}
