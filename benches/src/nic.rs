//! A worker's turns over queue pairs in memory: datagrams forwarded in bursts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nic::{Burst, QueuePair};
use worker::{Instant, Worker};

use crate::count::{Meter, Sums};
use crate::packets::{self, Ends};
use crate::scene::{Keeper, Wire, attach, know, mac, packet, worker};
use crate::stack::{PAYLOAD_BYTES, RewriteTo, SESSIONS};

/// Datagrams that wait at the queue pair for each turn.
const BURST: usize = 32;
const SERVICE_PORT: u16 = 20_000;

/// The worker's address on its `number`th interface (`host` 1), or a neighbour's there.
fn address(number: u16, host: u8) -> IpAddr {
    let [_, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 1, low, host).into()
}

/// From a client on one interface to an endpoint on another.
pub fn between_two(datagrams: u64) -> Sums {
    forward(2, 0, 1, datagrams)
}

/// In and out of the last of `interfaces` interfaces; the others are idle.
pub fn one_busy_of(interfaces: u16, datagrams: u64) -> Sums {
    forward(interfaces, interfaces - 1, interfaces - 1, datagrams)
}

fn forward(interfaces: u16, from: u16, to: u16, datagrams: u64) -> Sums {
    let mut now = Instant::from_nanos(1_000_000_000);
    let endpoint = address(to, 3);
    let mut worker = worker(RewriteTo(SocketAddr::new(endpoint, SERVICE_PORT)), 9, now);
    let mut far: Vec<(Wire, Keeper)> = (0..interfaces)
        .map(|number| {
            let (near, far) = Wire::pair();
            let keeper = near.keeper();
            attach(&mut worker, number, (address(number, 1), 24), near, now);
            (far, keeper)
        })
        .collect();
    far[usize::from(from)].1.refill();
    know(&mut worker, from, address(from, 2), now);
    know(&mut worker, to, endpoint, now);
    let originals = originals(from);
    let mut next = originals.iter().cycle();
    let (mut given, mut counted, mut meter) = (0, 0, Meter::default());
    while counted < datagrams {
        if given >= 2 * usize::from(SESSIONS) {
            meter.start();
            counted += BURST as u64;
        }
        let mut burst = Burst::new();
        for original in next.by_ref().take(BURST) {
            burst.push(packet(original)).expect("a burst has room for it");
        }
        far[usize::from(from)].0.transmit(&mut burst);
        given += BURST;
        now = now + Duration::from_micros(10);
        meter.run(&mut || turn(&mut worker, now));
        let mut forwarded = Burst::new();
        assert_eq!(far[usize::from(to)].0.receive(&mut forwarded), BURST, "every datagram is forwarded");
    }
    meter.finish(counted)
}

fn turn(worker: &mut Worker<RewriteTo>, now: Instant) {
    worker.turn(now, &mut || false);
}

fn originals(interface: u16) -> Vec<Vec<u8>> {
    let (client, ours) = (address(interface, 2), address(interface, 1));
    let ends = |session| Ends {
        from_mac: mac(client),
        to_mac: mac(ours),
        from: SocketAddr::new(client, 1024 + session),
        to: SocketAddr::new(ours, SERVICE_PORT),
    };
    (0..SESSIONS).map(|session| packets::udp(&ends(session), &[7; PAYLOAD_BYTES])).collect()
}
