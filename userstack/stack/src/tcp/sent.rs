//! One segment in flight, as the scoreboard keeps it and RACK measures it.

use super::congestion::rate::Stamp;
use super::sequence::Seq;
use crate::Instant;

/// One segment in flight. A FIN counts as one number at its end.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Sent {
    pub start: Seq,
    pub end: Seq,
    /// When it was sent last.
    pub sent_at: Instant,
    pub sacked: bool,
    /// Taken as lost, and not sent again since.
    pub lost: bool,
    pub retransmitted: bool,
    /// Of the moment at which it was sent last, where deliveries are measured.
    pub stamp: Stamp,
}

impl Sent {
    pub(crate) fn len(&self) -> u32 {
        self.end.since(self.start)
    }

    /// When it was sent, of one that was never sent again.
    pub(crate) fn sent_once_at(&self) -> Option<Instant> {
        (!self.retransmitted).then_some(self.sent_at)
    }
}

/// What of the acknowledgement decides whether it is of a retransmission or of the original (RFC 8985, section 6.2,
/// step 2).
#[derive(Copy, Clone, Debug)]
pub(crate) struct AckClock {
    pub now: Instant,
    /// The echoed timestamp as milliseconds of our clock, low 32 bits.
    pub echo_ms: Option<u32>,
    pub min_rtt_nanos: u64,
}
