//! A bulk flow whose segments come in bursts: what follows each other goes in as one, as a worker hands it over. Checksums
//! are unfinished, as on a veth, so that what is counted beside the copy is what a segment and a burst cost.

use std::task::Poll;
use std::time::Duration;

use stack::{Contiguous, InterfaceConfig, Pieces, Run};

use super::streams::{Opened, hand_over, one};
use super::{BURST, Family, INTERFACE, interface};
use crate::count::{Meter, Sums};
use crate::packets;

/// Of a segment over IPv4 with timestamps.
const TEXT_BYTES: usize = 1_448;
const WARM_UP: u64 = 4_000;

struct Burst<'a>(&'a [Contiguous]);

impl Pieces for Burst<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn piece(&self, index: usize) -> &[u8] {
        self.0[index].bytes()
    }
}

/// Full segments in order, `burst` at a time, read by the user after each; with the acknowledgements that they cause.
pub fn received_in_bursts(burst: usize, segments: u64) -> Sums {
    let (mut stack, Opened { flow, peer: mut template }, mut tape, mut now) = one(Family::V4);
    stack.set_interface(InterfaceConfig { unfinished_receive_checksum: true, ..interface(Family::V4) }, now);
    let text = [7; TEXT_BYTES];
    let mut into = vec![0; BURST * TEXT_BYTES];
    let mut meter = Meter::default();
    let (mut given, mut counted, mut read) = (0, 0, 0);
    while counted < segments {
        if given >= WARM_UP {
            meter.start();
            counted += burst as u64;
        }
        let mut packets: Vec<Contiguous> = (0..burst).map(|_| template.segment(&text)).collect();
        packets.iter_mut().for_each(|packet| packets::leave_unfinished(packet.bytes_mut()));
        given += burst as u64;
        now = now + Duration::from_micros(10);
        meter.run(&mut || {
            let run = Run::at_front_of(&Burst(&packets));
            let merged = run.is_some_and(|run| {
                assert_eq!(run.packets(), burst, "they follow each other");
                stack.handle_run(INTERFACE, &run, &Burst(&packets), now)
            });
            assert!(merged || burst == 1, "the connection expects them");
            if !merged {
                packets.iter_mut().for_each(|packet| hand_over(&mut stack, packet, now));
            }
            while stack.poll_event().is_some() {}
            if let Poll::Ready(Ok(taken)) = stack.tcp_read(flow, &mut into, now) {
                read += taken;
            }
            stack.poll_transmit(&mut tape, BURST, now);
        });
    }
    assert_eq!(read as u64, given * TEXT_BYTES as u64, "all that was sent was read");
    meter.finish(counted)
}
