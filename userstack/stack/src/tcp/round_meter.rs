//! How much a user reads in a round trip: what `tuning` makes the receive window of.

use super::sequence::Seq;

/// What a peer may send in its first round trip (RFC 6928): no sign that it would send more.
const INITIAL_ROUND_BYTES: u32 = 14_600;

/// Dynamic right-sizing (Fisk and Feng, 2001): how much the user reads in a round trip.
#[derive(Copy, Clone, Debug)]
pub(crate) struct RoundMeter {
    /// The first byte of this round, as the user reads.
    pub from: Seq,
    /// When it began: the low bits. A round of more than an hour may look shorter, and only comes to an end later.
    pub since_micros: u32,
    /// The most that a round brought.
    pub most_bytes: u32,
    /// The round trip as timestamps show it to a side that only receives; zero: not yet.
    pub round_trip_micros: u32,
}

impl RoundMeter {
    /// A stream that begins at `from`.
    pub(crate) fn new(from: Seq) -> Self {
        Self { from, since_micros: 0, most_bytes: INITIAL_ROUND_BYTES, round_trip_micros: 0 }
    }

    /// Down at once, up slowly: a peer that had nothing to send for a while looks like a long way.
    pub(crate) fn sample(&mut self, nanos: u64) {
        let sample = (nanos / 1000) as u32;
        if self.round_trip_micros == 0 || sample < self.round_trip_micros {
            self.round_trip_micros = sample.max(1);
        } else {
            self.round_trip_micros += (sample - self.round_trip_micros) / 8;
        }
    }
}
