//! Tail loss probes (RFC 8985, section 7): what is sent last has nothing behind it to show it lost, so after two quiet
//! round trips something is sent that will. `deadlines` lets the probe out and `output` builds it.

use super::connection::{Connection, Phase};
use super::rack::TailProbe;
use super::segment::Segment;
use super::sequence::Seq;
use crate::Instant;

/// WCDelAckT: what the peer may sit on a single segment's acknowledgement (RFC 8985, section 7.2).
const WORST_DELAYED_ACK_NANOS: u64 = 200_000_000;
/// A probe sooner than this would race the peer's own scheduling (Linux: two jiffies).
const MIN_PROBE_TIMEOUT_NANOS: u64 = 2_000_000;
/// Before the round trip was measured (RFC 8985, section 7.2).
const UNMEASURED_PROBE_TIMEOUT_NANOS: u64 = 1_000_000_000;

/// What of an acknowledgement may answer a probe.
#[derive(Copy, Clone, Debug)]
pub(crate) struct ProbeAnswer {
    /// Numbers that it acknowledges newly.
    pub advanced: u32,
    /// It carries no text and no FIN, and the window is what it was.
    pub plain: bool,
    /// What it reports as duplicate.
    pub reported: Option<(Seq, Seq)>,
}

impl Connection {
    /// RFC 8985, section 7.2: TLP_calc_PTO, where a probe may be sent at all: with SACK, while nothing is sacked, and one
    /// at a time. In fast recovery too, which the RFC leaves to the retransmission timer: who merges what arrives
    /// acknowledges a whole flight at once, and when that acknowledgement is lost nothing else will tell.
    pub(crate) fn probe_timeout(&self) -> Option<u64> {
        let recovery = &self.recovery;
        let may_probe = match recovery.phase {
            Phase::Open => recovery.tail_probe == TailProbe::None && recovery.scoreboard.sacked_bytes() == 0,
            Phase::Recovery => true,
            Phase::Loss => false,
        };
        if !may_probe || !self.send.sack_permitted || !self.state.is_synchronized() {
            return None;
        }
        let alone = recovery.phase == Phase::Open && recovery.scoreboard.len() == 1;
        let single = if alone { WORST_DELAYED_ACK_NANOS } else { 0 };
        let timeout = match recovery.rtt.smoothed_nanos() {
            0 => UNMEASURED_PROBE_TIMEOUT_NANOS,
            smoothed => (2 * smoothed + single).max(MIN_PROBE_TIMEOUT_NANOS),
        };
        Some(timeout.min(recovery.rtt.timeout_nanos()))
    }

    /// RFC 8985, section 7.4.2, TLP_process_ack: whether the probe repaired a loss, which congestion control must hear
    /// of.
    pub(crate) fn check_tail_probe(&mut self, segment: &Segment<'_>, answer: ProbeAnswer, now: Instant) {
        let ProbeAnswer { advanced, plain, reported } = answer;
        let ack = segment.header.ack;
        let Some(end) = self.recovery.tail_probe.end().filter(|end| ack.at_or_after(*end)) else { return };
        let both_arrived = reported.is_some_and(|(_, right)| right == end);
        let plain_duplicate = plain && advanced == 0 && segment.header.options.sack.is_empty();
        if matches!(self.recovery.tail_probe, TailProbe::New(_)) || both_arrived {
            self.recovery.tail_probe = TailProbe::None;
        } else if ack.after(end) {
            self.recovery.tail_probe = TailProbe::None;
            let Self { recovery, send, ecn, .. } = self;
            recovery.control.algorithm().on_loss(&mut recovery.window, send.flight() + advanced, now);
            recovery.window.congestion = recovery.window.congestion.min(recovery.window.threshold);
            ecn.on_reduced(send.next);
        } else if plain_duplicate {
            self.recovery.tail_probe = TailProbe::None;
        }
    }
}
