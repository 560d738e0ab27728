//! Requests and responses through the proxy, in every pairing of versions.

use std::time::Duration;

use http::Version;
use sim::Address;

use crate::client::{Bodies, Http, WEB, WEB_HTTP2};
use crate::world::{Plan, World, mesh};

const REQUESTS: usize = 20;
const LIMIT: Duration = Duration::from_secs(20);

/// Twenty requests on one connection, of both families.
fn converse(version: Version, host: &'static str) {
    for family in Address::BOTH {
        let mut world = World::new(1, &Plan::default());
        world.run(LIMIT, async move {
            let mut http = Http::connect(version, mesh(family, 80)).await;
            let mut answered = [0; 2];
            for number in 0..REQUESTS {
                let bodies = Bodies { request: number * 1_000, response: number * 3_000 };
                answered[usize::from(http.exchange(host, 1, bodies).await)] += 1;
            }
            assert!(answered.iter().all(|count| *count > 0), "both workloads answer: {answered:?}");
        });
        let requests: u32 = world.backends.iter().map(|backend| backend.seen.requests.get()).sum();
        assert_eq!(requests as usize, REQUESTS);
        let connects = world.node.sample("ringway_upstream_connects_total", "web");
        assert_eq!(connects, 2.0, "one connection to each workload carries all requests");
        world.finish();
    }
}

#[test]
fn http1_clients_reach_http1_workloads() {
    converse(Version::HTTP_11, WEB);
}

#[test]
fn http1_clients_reach_http2_workloads() {
    converse(Version::HTTP_11, WEB_HTTP2);
}

#[test]
fn http2_clients_reach_http1_workloads() {
    converse(Version::HTTP_2, WEB);
}

#[test]
fn http2_clients_reach_http2_workloads() {
    converse(Version::HTTP_2, WEB_HTTP2);
}
