//! How much of its two buffers a connection may fill now: what the path was measured to need, between a floor and the
//! user's bound. The worker's memory may allow less (`memory`).
//!
//! ```text
//!   receive.space   twice what the user read within a round trip, and more while that still grows
//!   send_space()    twice what may be in flight: half of it on its way, half of it ready to follow
//! ```

use super::connection::{Connection, ReceiveSide};
use super::rtt::MAX_RTO_NANOS;
use super::sequence::Seq;
use crate::Instant;

/// What a connection offers before anything is measured: all that a SYN can say (RFC 7323, section 2.2), and what
/// Linux's tcp_rmem of 131,072 comes to.
const INITIAL_RECEIVE_BYTES: u32 = 65_535;
/// Added to what a round trip brought, so that small windows grow as well (Linux).
const SPARE_SEGMENTS: u32 = 16;
/// The least that a writer may have buffered, however small the congestion window: an answer of usual size is written
/// at once (Linux's tcp_wmem of 16,384 counts its own overhead, and begins at about this).
const LEAST_SEND_BYTES: u32 = 65_536;
/// A window may be wider by this part of it for having been rounded up (RFC 7323, section 2.4), and so much of the user's
/// bound is kept for that.
const ROUNDING_SHIFT: u32 = 5;
/// The clock of timestamps: a round trip below it must be measured otherwise.
const TIMESTAMP_UNIT_NANOS: u64 = 1_000_000;

impl ReceiveSide {
    pub(crate) fn initial_space(limit: u32) -> u32 {
        limit.min(INITIAL_RECEIVE_BYTES)
    }

    /// The window of a SYN, which nothing scales (RFC 7323, section 2.2).
    pub(crate) fn syn_window(&self) -> u32 {
        self.space.min(u32::from(u16::MAX))
    }

    /// How far a window may be rounded up. A peer that sends in crumbs would else move it on with each of them.
    pub(crate) fn farthest_edge(&self) -> Seq {
        let limit = self.limit_now();
        let most = limit.saturating_add(limit >> ROUNDING_SHIFT).min(self.limit);
        self.next + most.saturating_sub(self.ring.len() as u32)
    }

    /// The most that [`ReceiveSide::space`] grows to.
    fn most_space(&self) -> u32 {
        if self.scale == 0 { self.limit } else { self.limit - (self.limit >> ROUNDING_SHIFT) }
    }
}

impl Connection {
    /// The user has read. Once in a round trip: did it bring more than any before? Then the peer may send more still.
    pub(crate) fn tune_receive(&mut self, now: Instant) {
        let most = self.receive.most_space();
        if self.receive.space >= most {
            return;
        }
        self.sample_from_timestamps();
        let round_trip = self.round_trip_nanos();
        let receive = &mut self.receive;
        let read_to = receive.next - receive.ring.len() as u32;
        let brought = read_to.since(receive.meter.from);
        let over = match round_trip {
            // Nothing measured it: a window that was used up takes one at least.
            0 => brought >= receive.space,
            nanos => {
                u64::from((now.as_micros() as u32).wrapping_sub(receive.meter.since_micros)) * 1000 >= nanos
            }
        };
        if !over {
            return;
        }
        let before = receive.meter.most_bytes;
        (receive.meter.from, receive.meter.since_micros) = (read_to, now.as_micros() as u32);
        if brought > before {
            receive.meter.most_bytes = brought;
            // A sender in slow start brings twice as much the next time, when the window for it must be open already.
            let next =
                u64::from(brought) * u64::from(brought.min(before.saturating_mul(2))) / u64::from(before);
            let wanted = 2 * next + u64::from(SPARE_SEGMENTS) * u64::from(receive.segment_size);
            receive.space = receive.space.max(u32::try_from(wanted).unwrap_or(u32::MAX).min(most));
        }
    }

    /// From our timestamp that the peer echoed to the segment that echoed it (RFC 7323, section 4).
    fn sample_from_timestamps(&mut self) {
        let clock = &self.timestamps;
        if !clock.enabled || clock.echoed == 0 {
            return;
        }
        let millis = (clock.recent_at.as_millis() as u32).wrapping_sub(clock.echo_ms(clock.echoed));
        let nanos = u64::from(millis.max(1)) * TIMESTAMP_UNIT_NANOS;
        // An echo older than any timeout was never of ours.
        if nanos < MAX_RTO_NANOS {
            self.receive.meter.sample(nanos);
        }
    }

    /// What the receiving side knows of the round trip; zero: nothing.
    fn round_trip_nanos(&self) -> u64 {
        let echoed = u64::from(self.receive.meter.round_trip_micros) * 1000;
        match (echoed, self.recovery.rtt.smoothed_nanos()) {
            (0, measured) => measured,
            (echoed, measured) if measured > 0 && echoed <= TIMESTAMP_UNIT_NANOS => measured.min(echoed),
            (echoed, _) => echoed,
        }
    }

    /// Bytes that the user may have written and not acknowledged: twice the congestion window (Linux), but no more than
    /// the peer has ever been willing to take at once.
    pub(crate) fn send_space(&self) -> u32 {
        let flight = self.recovery.window.congestion.min(self.send.max_window);
        flight.saturating_mul(2).max(LEAST_SEND_BYTES).min(self.send.limit)
    }
}
