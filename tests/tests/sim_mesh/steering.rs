//! Several workers in one node, with fewer queues than workers: every flow is served by the worker that owns it,
//! whichever queue its packets come by.

use std::time::Duration;

use http::Version;
use sim::Address;
use socket::{UdpSocket, sleep, timeout};
use stack::Discard;
use worker::TurnCounters;

use crate::backend::{DATAGRAMS, ECHO};
use crate::client::{Bodies, Http, WEB, connect};
use crate::node::Size;
use crate::world::{Plan, World, client_socket, mesh};

/// Workers and queues of an interface, fewer and as many.
const SIZES: [Size; 4] = [
    Size { workers: 2, queues: 1 },
    Size { workers: 2, queues: 2 },
    Size { workers: 3, queues: 1 },
    Size { workers: 3, queues: 2 },
];
const CONNECTIONS: u16 = 60;
const LIMIT: Duration = Duration::from_secs(60);

fn world(size: Size) -> World {
    World::new(3, &Plan { size, ..Plan::default() })
}

fn counters(world: &World) -> Vec<TurnCounters> {
    world.node.workers.iter().map(|worker| *worker.borrow().worker.counters()).collect()
}

fn discarded(world: &World, reason: Discard) -> u64 {
    let of = |worker: &mut worker::Worker<proxy::Proxy>| {
        worker.discards().of(reason) + worker.core.stack().discards().of(reason)
    };
    world.node.workers.iter().map(|worker| of(&mut worker.borrow_mut().worker)).sum()
}

#[test]
fn connections_are_served_by_every_worker_whichever_queue_they_come_by() {
    for size in SIZES {
        let mut world = world(size);
        for number in 0..CONNECTIONS {
            let family = if number % 2 == 0 { Address::V4 } else { Address::V6 };
            world.start(async move {
                if number % 3 == 0 {
                    let mut http = Http::connect(Version::HTTP_11, mesh(family, 80)).await;
                    http.exchange(WEB, 3, Bodies { request: 5_000, response: 50_000 }).await;
                } else {
                    let stream = connect(mesh(family, ECHO)).await;
                    stream.write_all(&[9; 1_000]).await.expect("the mesh relays");
                    let mut len = 0;
                    while len < 1_000 {
                        let read = stream.read(&mut [0; 1_000]).await.expect("the mesh relays");
                        assert_ne!(read, 0);
                        len += read;
                    }
                }
            });
        }
        world.run(LIMIT, async { sleep(Duration::from_secs(20)).await });
        assert_eq!(discarded(&world, Discard::TcpNoFlow), 0, "{size:?}: no segment went to a stranger");
        for worker in &world.node.workers {
            let worker = &worker.borrow().worker;
            let mut accepted = 0.0;
            worker.application.samples(&mut |sample| {
                if sample.name == "ringway_connections_accepted_total" {
                    accepted += sample.value;
                }
            });
            assert!(accepted >= f64::from(CONNECTIONS) / 10.0, "{size:?}: {accepted} of {CONNECTIONS}");
        }
        let counters = counters(&world);
        assert!(counters.iter().any(|each| each.packets_steered > 0), "{size:?}");
        // Each worker asked for the workloads itself, and learned from an answer that came to one queue.
        assert!(counters.iter().any(|each| each.packets_shown > 0), "{size:?}");
        assert_eq!(discarded(&world, Discard::RingFull), 0, "{size:?}");
        world.finish();
    }
}

#[test]
fn fragments_are_put_together_and_steered_again_as_wholes() {
    for size in SIZES {
        let mut world = world(size);
        world.run(LIMIT, async move {
            for port in 0..30 {
                for family in Address::BOTH {
                    echo_large(family, 6_000 + port).await;
                }
            }
        });
        let wholes: u64 = counters(&world).iter().map(|each| each.wholes_steered).sum();
        assert!(wholes >= 30, "{size:?}: {wholes} of 120 datagrams changed their worker");
        world.finish();
    }
}

/// A datagram of three fragments, there and back.
async fn echo_large(family: Address, port: u16) {
    let socket = UdpSocket::bind(client_socket(family, port), None).expect("the port is free");
    let datagram: Vec<u8> = (0..4_000_u32).map(|index| (index + u32::from(port)) as u8).collect();
    let mut answer = vec![0; 5_000];
    // What waits for a neighbour's address is bounded: the first fragments of a new worker may be sent again.
    for _ in 0..5 {
        socket.send_to(&datagram, mesh(family, DATAGRAMS)).await.expect("there is a route");
        if let Ok(received) = timeout(Duration::from_millis(100), socket.recv_from(&mut answer)).await {
            let (len, from) = received.expect("the socket lives");
            assert_eq!((&answer[..len], from), (&datagram[..], mesh(family, DATAGRAMS)));
            return;
        }
    }
    panic!("no echo of a datagram from {}", client_socket(family, port));
}

#[test]
fn a_routers_too_big_reaches_the_worker_that_owns_the_connection() {
    for size in SIZES {
        for family in Address::BOTH {
            let plan = Plan { size, router_mtu: Some(1280), ..Plan::default() };
            let mut world = World::new(4, &plan);
            let downloads: Vec<_> = (0..4 * size.workers)
                .map(|_| {
                    world.start(async move {
                        let mut http = Http::connect(Version::HTTP_11, mesh(family, 80)).await;
                        http.exchange(WEB, 4, Bodies { request: 1_000, response: 300_000 }).await;
                    })
                })
                .collect();
            let ended = world.network.run_until(LIMIT, || downloads.iter().all(|done| done.get()));
            assert!(ended, "{size:?}, {family:?}: a worker did not hear that its packets are too big");
            let router = world.router.as_ref().expect("the plan has one").borrow().counters();
            assert!(router.refused >= size.workers as u64, "{size:?}, {family:?}: {router:?}");
            for stranger in [Discard::TcpIcmpNoFlow, Discard::IcmpUnknownFlow, Discard::TcpNoFlow] {
                assert_eq!(discarded(&world, stranger), 0, "{size:?}, {family:?}: {}", stranger.name());
            }
            world.network.run_for(Duration::from_secs(2));
            world.finish();
        }
    }
}
