//! RTP through a session: what the node says of the stream is what the link did to it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use sim::{Address, LinkConfig, LinkFaults};
use socket::{UdpSocket, sleep};
use stack::SessionInfo;

use crate::backend::{RTP, RTP_MARKER};
use crate::table::table;
use crate::world::{Plan, World, client_socket, mesh};

const OWN_PORT: u16 = 4_000;
/// A dynamic one (RFC 3551, section 3).
const PAYLOAD_TYPE: u8 = 96;
const SPACING: Duration = Duration::from_millis(1);
const LATE_BY_AT_MOST: Duration = Duration::from_millis(5);

/// Fates of packets that a test compares with.
#[derive(Copy, Clone, Debug, Default)]
struct Fates {
    lost: u64,
    duplicated: u64,
    late: u64,
}

fn fates(world: &World) -> Fates {
    let trace = world.network.trace();
    Fates {
        lost: trace.count(sim::Fate::Lost),
        duplicated: trace.count(sim::Fate::Duplicated),
        late: trace.count(sim::Fate::Late),
    }
}

/// Part of a stream.
#[derive(Clone, Debug)]
struct Part {
    numbers: Range<u16>,
    /// Packets carry the marker, to which the receiver answers. Not where answers could be lost too.
    marked: bool,
}

/// A packet of 90 kHz video every millisecond.
async fn send_rtp(socket: &UdpSocket, family: Address, part: Part) {
    for number in part.numbers {
        let mut packet = vec![0x80, PAYLOAD_TYPE | if part.marked { RTP_MARKER } else { 0 }];
        packet.extend(number.to_be_bytes());
        packet.extend((u32::from(number) * 90).to_be_bytes());
        packet.extend(0x5eed_u32.to_be_bytes());
        packet.resize(172, 0);
        socket.send_to(&packet, mesh(family, RTP)).await.expect("there is a route");
        sleep(SPACING).await;
    }
}

fn session(world: &World) -> SessionInfo {
    let mut worker = world.node.workers[0].borrow_mut();
    let stack = worker.worker.core.stack();
    let sessions: Vec<_> = stack.sessions().collect();
    assert_eq!(sessions.len(), 1, "one client, one session: {sessions:?}");
    sessions[0]
}

/// Sends a part from the one socket, and lets the last of it arrive.
fn play(world: &mut World, family: Address, numbers: Range<u16>, marked: bool) {
    world.run(Duration::from_secs(60), async move {
        let own = client_socket(family, OWN_PORT);
        let socket = UdpSocket::bind(own, None).expect("the port is free");
        send_rtp(&socket, family, Part { numbers, marked }).await;
    });
    world.network.run_for(Duration::from_millis(50));
}

#[test]
fn the_sessions_rtp_statistics_are_what_the_link_did() {
    for (seed, family) in [(21, Address::V4), (22, Address::V6)] {
        let mut world = World::new(seed, &Plan::default());
        // In order at first, so that the stream is believed, and at last, so that a loss at the end shows.
        play(&mut world, family, 0..10, true);
        let clean = session(&world).rtp[0].expect("ten packets in order are a stream");
        assert_eq!((clean.received, clean.lost()), (10, 0));
        // The first waited for its neighbours' addresses.
        assert!(clean.jitter < SPACING / 10, "{clean:?}");

        let before = fates(&world);
        let faults = LinkFaults { reorder_delay: LATE_BY_AT_MOST, ..LinkFaults::ROUGH };
        world.network.set_link("client", &LinkConfig { faults, ..LinkConfig::default() });
        play(&mut world, family, 10..3_000, false);
        world.network.set_link("client", &LinkConfig::default());
        let after = fates(&world);
        // The table changes: the session is judged again, and goes on.
        world.publish(table(0));
        play(&mut world, family, 3_000..3_010, true);

        let session = session(&world);
        let stream = session.rtp[0].expect("the stream goes on");
        let lost = after.lost - before.lost;
        let duplicated = after.duplicated - before.duplicated;
        let late = after.late - before.late;
        assert!(lost > 100 && duplicated > 10 && late > 30, "{before:?} {after:?}");
        assert_eq!((stream.lost(), stream.expected), (lost, 3_010), "{stream:?}");
        assert_eq!((stream.received, stream.duplicates), (3_010 - lost, duplicated), "{stream:?}");
        assert!((1..=late).contains(&stream.reordered), "{stream:?}, {late} were late");
        assert!(stream.jitter > Duration::ZERO && stream.jitter < LATE_BY_AT_MOST, "{stream:?}");

        let seen: Vec<u16> =
            world.backends.iter().flat_map(|backend| backend.seen.rtp.borrow().clone()).collect();
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!((distinct.len() as u64, seen.len() as u64), (3_010 - lost, 3_010 - lost + duplicated));
        assert_eq!(session.to_endpoint.packets, seen.len() as u64);
        assert_eq!(session.to_client.packets, 20, "each marked packet was answered");
        world.finish();
    }
}
