//! Admission of datagram sessions, and active health checks: who may get traffic.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use model::table::*;
use socket::{Admission, Discard, FirstDatagram, Forward, Instant, InterfaceId, SessionCounts};

use super::world::*;

const DOOR: &str = "10.0.0.1:5004";
const IDLE: Duration = Duration::from_secs(60);

fn table(backends: Vec<WeightedCluster>) -> Table {
    let mut table = tables()
        .cluster("a", UpstreamProtocol::Udp, &["10.0.1.1:1", "10.0.1.2:1"])
        .cluster("b", UpstreamProtocol::Udp, &["10.0.1.3:1"])
        .cluster("none", UpstreamProtocol::Udp, &[])
        .stream("rtp", DOOR, Protocol::Udp { backends, idle: IDLE })
        .0;
    table.version = 7;
    table
}

fn admit(world: &World, to: &str, current: Option<&str>) -> Forward {
    admit_beside(world, to, current, &SessionCounts::default())
}

fn admit_beside(world: &World, to: &str, current: Option<&str>, load: &SessionCounts) -> Forward {
    let first = FirstDatagram {
        interface: InterfaceId(0),
        source: address("192.0.2.7:5000"),
        destination: address(to),
        payload: &[],
        current: current.map(address),
        load,
    };
    world.proxy.clone().admit(&first, Instant::ZERO)
}

fn endpoint(forward: Forward) -> (String, u32) {
    match forward {
        Forward::Rewrite(rewrite) => {
            assert_eq!((rewrite.idle, rewrite.version), (IDLE, 7));
            (rewrite.endpoint.to_string(), rewrite.tag)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn sessions_are_drawn_by_weight_and_named_by_their_tag() {
    run(|world| async move {
        world.serve(table(vec![share("a", 80), share("b", 20)]));
        let mut counts = [0; 3];
        for _ in 0..3_000 {
            let (endpoint, tag) = endpoint(admit(&world, DOOR, None));
            let at =
                ["10.0.1.1:1", "10.0.1.2:1", "10.0.1.3:1"].iter().position(|&of| of == endpoint).unwrap();
            counts[at] += 1;
            let cluster = if at == 2 { "b" } else { "a" };
            assert_eq!(world.proxy.tag_name(tag), Some(("rtp".into(), cluster.into())));
        }
        assert!((1_080..1_320).contains(&counts[0]) && (1_080..1_320).contains(&counts[1]), "{counts:?}");
        assert!((500..700).contains(&counts[2]), "{counts:?}");
        assert_eq!(world.sample("ringway_datagram_sessions_total", &[("listener", "rtp")]), 3_000.0);
    });
}

/// A table of one UDP cluster with endpoints `10.0.1.1:1` on by their weights.
fn balanced(balance: Balance, weights: &[u32]) -> Table {
    let mut table = tables().cluster("c", UpstreamProtocol::Udp, &[]).0;
    table.clusters.get_mut("c").unwrap().balance = balance;
    let endpoint = |(at, &weight): (usize, &u32)| Endpoint {
        address: address(&format!("10.0.1.{}:1", at + 1)),
        weight,
        healthy: true,
        workload: "w".into(),
    };
    table.endpoints.insert("c".into(), weights.iter().enumerate().map(endpoint).collect());
    let door = Protocol::Udp { backends: vec![share("c", 1)], idle: IDLE };
    Table { version: 7, ..Tables(table).stream("rtp", DOOR, door).0 }
}

/// The endpoints that sessions which come one by one and stay are given, as the last number of their address.
fn given(world: &World, sessions: usize) -> Vec<u32> {
    let mut load = SessionCounts::default();
    let admitted = (0..sessions).map(|_| {
        let to = address(&endpoint(admit_beside(world, DOOR, None, &load)).0);
        load.add(to);
        to.ip().to_string().rsplit('.').next().unwrap().parse().unwrap()
    });
    admitted.collect()
}

fn shares(given: &[u32], endpoints: u32) -> Vec<usize> {
    (1..=endpoints).map(|of| given.iter().filter(|&&at| at == of).count()).collect()
}

#[test]
fn round_robin_gives_each_endpoint_its_turn_by_its_weight() {
    run(|world| async move {
        world.serve(balanced(Balance::RoundRobin, &[5, 1, 1]));
        assert_eq!(given(&world, 7), [1, 1, 2, 1, 3, 1, 1]);
        world.serve(balanced(Balance::RoundRobin, &[1, 1, 1, 1]));
        assert_eq!(shares(&given(&world, 400), 4), [100; 4]);
    });
}

#[test]
fn least_request_gives_a_session_to_the_endpoint_with_fewer_sessions_of_two() {
    run(|world| async move {
        world.serve(balanced(Balance::LeastRequest, &[1, 1, 1, 1]));
        // A draw alone would differ by some 17 (four standard deviations: 70).
        assert!(shares(&given(&world, 400), 4).iter().all(|share| (90..=110).contains(share)));
        world.serve(balanced(Balance::LeastRequest, &[3, 1]));
        let by_weight = shares(&given(&world, 400), 2);
        assert!((280..=320).contains(&by_weight[0]), "{by_weight:?}");
        let mut load = SessionCounts::default();
        (0..50).for_each(|_| load.add(address("10.0.1.1:1")));
        world.serve(balanced(Balance::LeastRequest, &[1, 1]));
        let to_empty =
            (0..400).filter(|_| endpoint(admit_beside(&world, DOOR, None, &load)).0 == "10.0.1.2:1");
        // All but those whose two draws both fall on the loaded one: three quarters.
        assert!((250..=350).contains(&to_empty.count()));
    });
}

#[test]
fn a_session_goes_to_an_endpoint_of_its_own_family() {
    run(|world| async move {
        const DOOR_V6: &str = "[fd00::1]:5004";
        let both = vec![share("both", 1)];
        let table = tables()
            .cluster("both", UpstreamProtocol::Udp, &["10.0.1.1:1", "[fd00::11]:1"])
            .stream("v4", DOOR, Protocol::Udp { backends: both.clone(), idle: IDLE })
            .stream("v6", DOOR_V6, Protocol::Udp { backends: both, idle: IDLE });
        world.serve(Table { version: 7, ..table.0 });
        for _ in 0..50 {
            assert_eq!(endpoint(admit(&world, DOOR, None)).0, "10.0.1.1:1");
            assert_eq!(endpoint(admit(&world, DOOR_V6, None)).0, "[fd00::11]:1");
        }
    });
}

#[test]
fn a_session_stays_where_it_is_while_that_is_valid() {
    run(|world| async move {
        world.serve(table(vec![share("a", 99), share("b", 1)]));
        for _ in 0..20 {
            assert_eq!(endpoint(admit(&world, DOOR, Some("10.0.1.3:1"))).0, "10.0.1.3:1");
        }
        assert_eq!(world.sample("ringway_datagram_sessions_total", &[]), 0.0, "judged again, not new");
        world.serve(table(vec![share("a", 99), share("b", 0)]));
        assert_ne!(endpoint(admit(&world, DOOR, Some("10.0.1.3:1"))).0, "10.0.1.3:1");
        let mut sick = table(vec![share("a", 1)]);
        sick.endpoints.get_mut("a").unwrap()[0].healthy = false;
        world.serve(sick);
        assert_eq!(endpoint(admit(&world, DOOR, Some("10.0.1.1:1"))).0, "10.0.1.2:1");
    });
}

#[test]
fn what_is_not_admitted_dies_of_a_named_reason() {
    run(|world| async move {
        let dropped = |forward| matches!(forward, Forward::Drop(_)).then_some(forward);
        let reason = |to: &str| match dropped(admit(&world, to, None)) {
            Some(Forward::Drop(discard)) => discard,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(DOOR), Discard::DatagramNoListener, "before any table");
        world.serve(table(vec![share("none", 1)]));
        assert_eq!(reason(DOOR), Discard::DatagramNoEndpoint);
        assert_eq!(reason("10.0.0.1:9"), Discard::DatagramNoListener);
        assert_eq!(reason(GATE), Discard::DatagramNoListener, "TCP on that port is not UDP");
        world.serve(table(vec![share("a", 0)]));
        assert_eq!(reason(DOOR), Discard::DatagramNoBackend);
        world.serve(table(vec![WeightedCluster { cluster: None, weight: 1, filters: vec![] }]));
        assert_eq!(reason(DOOR), Discard::DatagramNoBackend);
        assert_eq!(world.sample("ringway_datagrams_refused_total", &[]), 3.0);
        assert_eq!(world.sample("ringway_datagrams_unclaimed_total", &[]), 3.0);
    });
}

fn checked(probe: Probe, protocol: UpstreamProtocol, at: &str) -> Table {
    let mut table = tables().cluster("c", protocol, &[at]).route(to("c")).0;
    let check = HealthCheck {
        probe,
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        healthy_threshold: 2,
        unhealthy_threshold: 3,
    };
    table.clusters.get_mut("c").unwrap().health_check = Some(check);
    table
}

fn ready(world: &World) -> bool {
    world.sample("ringway_endpoints_ready", &[("cluster", "c")]) == 1.0
}

#[test]
fn an_http_check_turns_an_endpoint_after_its_thresholds_and_reports_it() {
    run(|world| async move {
        let at = "10.0.1.1:1";
        let healthy = Rc::new(Cell::new(true));
        let told = Rc::clone(&healthy);
        world.backend(at, move |request| {
            assert_eq!(
                (request.uri().path(), &request.headers()["host"]),
                ("/health", &"h.example".parse().unwrap())
            );
            let status = if told.get() { 204 } else { 500 };
            async move { Response::builder().status(status).body(Full::default()).unwrap() }
        });
        let probe = Probe::Http { path: "/health".into(), host: Some("h.example".into()) };
        world.serve(checked(probe, UpstreamProtocol::Http1, at));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(ready(&world));
        let reports = world.proxy.take_health_reports();
        assert_eq!((reports.len(), reports[0].healthy, reports[0].endpoint), (1, true, address(at)));
        healthy.set(false);
        tokio::time::sleep(Duration::from_millis(1_900)).await;
        assert!(ready(&world), "two failures are below the threshold");
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!ready(&world));
        assert!(world.fetch("/").await.contains("no_endpoint"));
        assert_eq!(world.proxy.take_health_reports()[0].reason, Some("status is not 2xx"));
        healthy.set(true);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(ready(&world));
        assert!(world.proxy.take_health_reports()[0].healthy);
    });
}

#[test]
fn tcp_udp_and_grpc_checks_tell_dead_from_alive() {
    run(|world| async move {
        world.raw_backend("10.0.1.1:1", |_| async {});
        world.pipes.echo_at("10.0.1.1:2");
        let served = Rc::new(Cell::new(0));
        let counted = Rc::clone(&served);
        world.http2_backend("10.0.1.1:3", move |request| {
            counted.set(counted.get() + 1);
            async move {
                use http_body_util::BodyExt;
                assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                let asked = request.into_body().collect().await.unwrap().to_bytes();
                let status = if asked == b"\0\0\0\0\x05\x0a\x03svc"[..] { 1 } else { 2 };
                Response::new(Full::from(vec![0, 0, 0, 0, 2, 8, status]))
            }
        });
        let echo = || Probe::UdpEcho { payload: "ping".into() };
        let grpc = |service: &str| Probe::Grpc { service: service.into() };
        for (probe, at, alive) in [
            (Probe::Tcp, "10.0.1.1:1", true),
            (Probe::Tcp, "10.0.1.9:1", false),
            (echo(), "10.0.1.1:2", true),
            (echo(), "10.0.1.9:2", false),
            (grpc("svc"), "10.0.1.1:3", true),
            (grpc("other"), "10.0.1.1:3", false),
            (grpc(""), "10.0.1.9:3", false),
        ] {
            world.serve(tables().0);
            world.serve(checked(probe.clone(), UpstreamProtocol::Http1, at));
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert_eq!(ready(&world), alive, "{probe:?} at {at}");
        }
        assert!(served.get() > 0);
    });
}

#[test]
fn results_of_another_worker_are_taken_over_and_forgotten_with_the_check() {
    run(|world| async move {
        let at = "10.0.1.1:1";
        world.raw_backend(at, |_| async {});
        let table = checked(Probe::Tcp, UpstreamProtocol::Http1, at);
        world.serve(table.clone());
        let report = |healthy| crate::HealthReport {
            cluster: "c".into(),
            endpoint: address(at),
            healthy,
            reason: None,
        };
        world.proxy.apply_health(&[report(false)]);
        assert!(!ready(&world));
        world.serve(tables().cluster("c", UpstreamProtocol::Http1, &[at]).0);
        assert!(ready(&world));
        world.proxy.apply_health(&[report(false)]);
        assert!(ready(&world), "a cluster without a check is not turned by one");
    });
}
