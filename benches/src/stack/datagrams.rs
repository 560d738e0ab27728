//! Datagrams of sessions that are established: found, rewritten in place, sent on.

use std::net::SocketAddr;
use std::time::Duration;

use stack::{Admission, Contiguous, FirstDatagram, Forward, Instant, Rewrite, Verdict};

use super::{BURST, Family, INTERFACE, OUR_MAC, PEER_MAC, scene};
use crate::count::{Meter, Sums};
use crate::packets::{self, Ends};

/// As the measuring rig's W6: G.711 with its RTP header, 1,000 flows.
pub const PAYLOAD_BYTES: usize = 172;
pub const SESSIONS: u16 = 1_000;
const SERVICE_PORT: u16 = 20_000;

/// Every session goes to one endpoint.
#[derive(Copy, Clone, Debug)]
pub struct RewriteTo(pub SocketAddr);

impl Admission for RewriteTo {
    fn admit(&mut self, _: &FirstDatagram<'_>, _: Instant) -> Forward {
        Forward::Rewrite(Rewrite { endpoint: self.0, idle: Duration::from_secs(60), version: 0, tag: 0 })
    }
}

/// Datagrams towards the endpoint, in turn of 1,000 sessions.
pub fn forwarded(family: Family, datagrams: u64) -> Sums {
    let (mut stack, mut now) = scene(family, 2);
    let mut admission = RewriteTo(SocketAddr::new(family.neighbour(1), SERVICE_PORT));
    let originals: Vec<Vec<u8>> = (0..SESSIONS)
        .map(|session| {
            let from = SocketAddr::new(family.neighbour(0), 1024 + session);
            let to = SocketAddr::new(family.ours(), SERVICE_PORT);
            packets::udp(&Ends { from_mac: PEER_MAC, to_mac: OUR_MAC, from, to }, &[7; PAYLOAD_BYTES])
        })
        .collect();
    let mut meter = Meter::default();
    let mut counted = 0;
    let mut next = originals.iter().cycle();
    let mut given = 0;
    while counted < datagrams {
        if given >= 2 * usize::from(SESSIONS) {
            meter.start();
            counted += BURST as u64;
        }
        let mut burst: Vec<Contiguous> =
            next.by_ref().take(BURST).map(|packet| Contiguous::new(packet)).collect();
        given += BURST;
        now = now + Duration::from_micros(1);
        meter.run(&mut || {
            for packet in &mut burst {
                let verdict = stack.handle_packet(INTERFACE, packet, &mut admission, now);
                assert_eq!(verdict, Verdict::Forward(INTERFACE), "the session is admitted");
            }
        });
    }
    meter.finish(counted)
}
