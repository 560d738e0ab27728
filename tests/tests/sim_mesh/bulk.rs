//! Ten mebibytes each way through the mesh, byte for byte, while every link loses 5%, reorders and duplicates.

use std::rc::Rc;
use std::time::Duration;

use http::Version;
use sim::LinkFaults;

use crate::backend::{BULK, BULK_BYTES, download, exchange, upload};
use crate::client::{Bodies, Http, WEB, WEB_HTTP2, connect};
use crate::node::Size;
use crate::seeds::seeds;
use crate::world::{Plan, World, family_of, mesh, slow_link};

/// Seeds of an ordinary run; each takes a fifth of a second.
const SEEDS: u64 = 32;
const LIMIT: Duration = Duration::from_secs(900);

/// Every other pair of seeds has two workers that share one queue.
fn rough(seed: u64) -> Plan {
    let workers = if seed % 4 < 2 { 1 } else { 2 };
    Plan { link: slow_link(LinkFaults::ROUGH), size: Size { workers, queues: 1 }, router_mtu: None }
}

#[test]
fn ten_mebibytes_each_way_pass_the_relay_exactly() {
    for seed in seeds(SEEDS) {
        let mut world = World::new(seed, &rough(seed));
        world.run(LIMIT, async move {
            let stream = connect(mesh(family_of(seed), BULK)).await;
            exchange(&stream, download(seed), upload(seed), BULK_BYTES).await;
        });
        let seen = world.backends.each_ref().map(|backend| Rc::clone(&backend.seen));
        let whole = || seen.iter().map(|seen| seen.streams.get()).sum::<u32>() == 1;
        assert!(world.network.run_until(LIMIT, whole), "the workload has not had every byte");
        world.finish();
    }
}

#[test]
fn ten_mebibytes_of_body_each_way_pass_the_proxy_exactly() {
    for seed in seeds(SEEDS) {
        let mut world = World::new(seed, &rough(seed));
        let version = if seed % 3 == 0 { Version::HTTP_2 } else { Version::HTTP_11 };
        let host = if seed % 5 < 3 { WEB } else { WEB_HTTP2 };
        world.run(LIMIT, async move {
            let mut http = Http::connect(version, mesh(family_of(seed), 80)).await;
            http.exchange(host, seed, Bodies { request: BULK_BYTES, response: BULK_BYTES }).await;
        });
        world.finish();
    }
}
