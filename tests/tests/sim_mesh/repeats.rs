//! One seed, one trace: two runs of a whole mesh are the same to the nanosecond and the byte of a header.

use std::time::Duration;

use http::Version;
use sim::{Address, LinkFaults};
use socket::{UdpSocket, sleep, spawn, timeout};

use crate::backend::{DATAGRAMS, ECHO};
use crate::client::{Bodies, Http, WEB, WEB_HTTP2, connect};
use crate::node::Size;
use crate::table::table;
use crate::world::{Plan, World, client_socket, mesh, slow_link};

const LIMIT: Duration = Duration::from_secs(600);

/// A little of everything, under loss, with a table swapped in the middle, to the end of its last idle connection.
fn run(seed: u64) -> u64 {
    let plan =
        Plan { link: slow_link(LinkFaults::ROUGH), size: Size { workers: 2, queues: 1 }, router_mtu: None };
    let mut world = World::new(seed, &plan);
    let done = world.start(async move {
        for port in 0..8 {
            spawn(echo_datagrams(port));
        }
        for (version, host) in [
            (Version::HTTP_11, WEB),
            (Version::HTTP_11, WEB_HTTP2),
            (Version::HTTP_2, WEB),
            (Version::HTTP_2, WEB_HTTP2),
        ] {
            for family in Address::BOTH {
                let mut http = Http::connect(version, mesh(family, 80)).await;
                http.exchange(host, seed, Bodies { request: 60_000, response: 90_000 }).await;
            }
        }
        let stream = connect(mesh(Address::V4, ECHO)).await;
        stream.write_all(&[7; 5_000]).await.expect("the mesh relays");
        assert!(stream.read(&mut [0; 5_000]).await.expect("the mesh relays") > 0);
    });
    world.network.run_for(Duration::from_millis(50));
    world.publish(table(0));
    assert!(world.network.run_until(LIMIT, || done.get()));
    // Beyond the end of every unused upstream connection.
    world.network.run_for(Duration::from_secs(120));
    let hash = world.network.trace().hash();
    world.finish();
    hash
}

async fn echo_datagrams(port: u16) {
    let socket = UdpSocket::bind(client_socket(Address::V4, 6_000 + port), None).expect("the port is free");
    for _ in 0..20 {
        socket.send_to(&[1; 500], mesh(Address::V4, DATAGRAMS)).await.expect("there is a route");
        // Some are lost: that is what the links are for.
        let _ = timeout(Duration::from_millis(20), socket.recv_from(&mut [0; 500])).await;
        sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_seed_gives_the_same_trace_twice() {
    let first = run(11);
    assert_eq!(run(11), first);
    assert_ne!(run(12), first);
}
