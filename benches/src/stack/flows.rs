//! The cost of a segment while many connections are open.

use std::task::Poll;
use std::time::Duration;

use super::idle::{remote, stack_for};
use super::streams::{establish, hand_over, listen};
use super::{BURST, Family, Tape};
use crate::count::{Meter, Sums};

/// A prime, so that steps of it visit every connection before one comes again, far from the one before.
const STRIDE: usize = 48_271;
const TEXT_BYTES: usize = 100;

/// Connections drawn for one burst, each with [`SEGMENTS`].
const DRAWS: usize = BURST / SEGMENTS;
/// Two, so that each draw ends in one acknowledgement (RFC 9293, section 3.8.6.3) and leaves no timer behind, however
/// many connections there are.
const SEGMENTS: usize = 2;

/// Small segments in order, two at a time of another of the `open` connections, read and acknowledged at once. Each
/// connection has had its turn before counting begins.
pub fn drawn_evenly(open: usize, segments: u64) -> Sums {
    let family = Family::V4;
    let (mut stack, mut now) = stack_for(family, open);
    let listener = listen(&mut stack, family);
    let mut tape = Tape::new();
    let mut opened: Vec<_> = (0..open)
        .map(|number| establish(&mut stack, listener, remote(family, number), &mut tape, now))
        .collect();
    let text = [7; TEXT_BYTES];
    let mut into = [0; TEXT_BYTES * SEGMENTS];
    let mut meter = Meter::default();
    let (mut place, mut drawn, mut counted) = (0, 0, 0);
    while counted < segments {
        if drawn >= open {
            meter.start();
            counted += BURST as u64;
        }
        let mut burst: Vec<_> = (0..DRAWS)
            .map(|_| {
                place = (place + STRIDE) % open;
                let drawn = &mut opened[place];
                (drawn.flow, [(); SEGMENTS].map(|()| drawn.peer.segment(&text)))
            })
            .collect();
        drawn += DRAWS;
        now = now + Duration::from_nanos(100);
        let acks = tape.packets;
        meter.run(&mut || {
            for (flow, packets) in &mut burst {
                for packet in packets {
                    hand_over(&mut stack, packet, now);
                }
                while stack.poll_event().is_some() {}
                let read = stack.tcp_read(*flow, &mut into, now);
                debug_assert_eq!(read, Poll::Ready(Ok(into.len())), "both segments' text is here");
                stack.poll_transmit(&mut tape, BURST, now);
            }
        });
        assert_eq!(tape.packets - acks, DRAWS as u64, "every draw is acknowledged once");
    }
    meter.finish(counted)
}
