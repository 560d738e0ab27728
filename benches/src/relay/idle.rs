//! What an idle connection to an HTTP listener holds.

use std::rc::Rc;

use socket::TcpStream;

use super::http::{ask, connect, serve_canned};
use super::{HTTP1_PORT, Progress, World};
use crate::count::Sums;

/// Connections that are opened, or ask, at the same time.
const AT_ONCE: u64 = 16;
/// Opened before counting begins, so that what is held once is not counted.
const WARM_UP: u64 = 64;

/// Connections that have sent nothing yet.
pub fn before_the_first_byte(connections: u64) -> Sums {
    hold(connections, false)
}

/// Connections on which one request was served, kept open.
pub fn after_one_request(connections: u64) -> Sums {
    hold(connections, true)
}

fn hold(connections: u64, asking: bool) -> Sums {
    let mut world = World::new();
    world.backend.core.spawn(serve_canned());
    let (opened, asked) = (Progress::default(), Progress::default());
    open(&mut world, &opened, &asked, WARM_UP, true);
    world.settle();
    world.meter.start();
    open(&mut world, &opened, &asked, connections, asking);
    world.settle();
    world.meter.finish(connections)
}

fn open(world: &mut World, opened: &Progress, asked: &Progress, connections: u64, asking: bool) {
    let until = opened.get() + connections;
    while opened.get() < until {
        let wave = AT_ONCE.min(until - opened.get());
        for _ in 0..wave {
            world.client.core.spawn(keep_open(Rc::clone(opened), Rc::clone(asked), asking));
        }
        let (opened_by_now, asked_by_now) = (opened.get() + wave, asked.get() + wave);
        world.run_until(opened, opened_by_now);
        if asking {
            world.run_until(asked, asked_by_now);
        }
    }
}

async fn keep_open(opened: Progress, asked: Progress, asking: bool) {
    let stream: TcpStream = connect(HTTP1_PORT).await;
    opened.set(opened.get() + 1);
    if asking {
        ask(&stream).await;
        asked.set(asked.get() + 1);
    }
    std::future::pending::<()>().await;
    drop(stream);
}
