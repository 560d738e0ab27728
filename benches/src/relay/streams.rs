//! Bytes relayed from a client to a backend, layer 4.

use std::rc::Rc;

use super::http::{connect, listen};
use super::{Progress, TCP_PORT, World};
use crate::count::Sums;

const MIB: usize = 1 << 20;
/// What the client writes, and the backend reads, at once.
const PIECE_BYTES: usize = 64 << 10;
/// MiB before counting begins: windows are open.
const WARM_UP: u64 = 16;

/// One stream in one direction; the unit is a MiB.
pub fn relayed(mib: u64) -> Sums {
    let mut world = World::new();
    let arrived = Progress::default();
    world.backend.core.spawn(swallow(Rc::clone(&arrived)));
    world.client.core.spawn(async {
        let stream = connect(TCP_PORT).await;
        let piece = vec![7; PIECE_BYTES];
        loop {
            stream.write_all(&piece).await.expect("the connection lives");
        }
    });
    world.run_until(&arrived, WARM_UP);
    world.meter.start();
    let begun = arrived.get();
    world.run_until(&arrived, begun + mib);
    world.meter.finish(arrived.get() - begun)
}

async fn swallow(arrived: Progress) {
    let stream = listen(TCP_PORT).accept().await.expect("the listener lives");
    let mut piece = vec![0; PIECE_BYTES];
    let mut bytes = 0;
    loop {
        bytes += stream.read(&mut piece).await.expect("the connection lives");
        arrived.set((bytes / MIB) as u64);
    }
}
