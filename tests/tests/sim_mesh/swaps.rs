//! Tables change under traffic, and nobody notices.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::Version;
use sim::Address;
use socket::{TcpStream, sleep};

use crate::backend::ECHO;
use crate::client::{Bodies, Http, WEB, WEB_HTTP2, connect};
use crate::node::Size;
use crate::table::table;
use crate::world::{Plan, World, mesh};

const STREAMS: u32 = 50;
const SWAPS: u32 = 100;
/// Between a stream's messages: several tables come and go in each.
const PAUSE: Duration = Duration::from_millis(25);
const SWAP_INTERVAL: Duration = Duration::from_millis(10);

#[test]
fn a_hundred_swaps_fail_no_stream_no_request_and_close_no_pooled_connection() {
    for workers in [1, 2] {
        let plan = Plan { size: Size { workers, queues: 1 }, ..Plan::default() };
        let mut world = World::new(5, &plan);
        let (stop, ended) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        for number in 0..STREAMS {
            let (stop, ended) = (Rc::clone(&stop), Rc::clone(&ended));
            world.start(async move {
                let family = if number % 2 == 0 { Address::V4 } else { Address::V6 };
                match number % 5 {
                    0 => request(family, Version::HTTP_11, &stop).await,
                    1 => request(family, Version::HTTP_2, &stop).await,
                    _ => talk(&connect(mesh(family, ECHO)).await, &stop).await,
                }
                ended.set(ended.get() + 1);
            });
        }
        world.network.run_for(Duration::from_millis(200));
        let before = world.node.sample("ringway_upstream_connects_total", "web");
        assert!(before > 0.0);
        for _ in 0..SWAPS {
            world.publish(table(0));
            world.network.run_for(SWAP_INTERVAL);
        }
        assert_eq!(ended.get(), 0, "every stream lives through all swaps");
        // Requests of several clients may meet at times, and want one connection more; closed pools would want many.
        let opened = world.node.sample("ringway_upstream_connects_total", "web") - before;
        assert!(opened <= 10.0, "{opened} connections were opened while tables changed");
        stop.set(true);
        assert!(world.network.run_until(Duration::from_secs(10), || ended.get() == STREAMS));
        let accepted = world.node.sample("ringway_connections_accepted_total", "");
        assert_eq!(accepted, f64::from(STREAMS), "no client had to connect again");
        world.finish();
    }
}

/// One message after the other, each awaited.
async fn talk(stream: &TcpStream, stop: &Cell<bool>) {
    let mut answer = [0; 700];
    while !stop.get() {
        stream.write_all(&[3; 700]).await.expect("the relay goes on");
        let mut len = 0;
        while len < answer.len() {
            let read = stream.read(&mut answer[len..]).await.expect("the relay goes on");
            assert_ne!(read, 0, "the relay goes on");
            len += read;
        }
        sleep(PAUSE).await;
    }
}

async fn request(family: Address, version: Version, stop: &Cell<bool>) {
    let mut http = Http::connect(version, mesh(family, 80)).await;
    while !stop.get() {
        for host in [WEB, WEB_HTTP2] {
            http.exchange(host, 5, Bodies { request: 500, response: 5_000 }).await;
        }
        sleep(PAUSE).await;
    }
}
