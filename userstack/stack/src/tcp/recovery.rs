//! Loss recovery: what begins it, how the window comes down, what ends it, and what takes it back.
//!
//! ```text
//!                 losses found by acknowledgements (RFC 8985, RFC 6582)
//!        +------> Recovery: the window as `reduction` says (RFC 9937) -------+
//!        |                                                                  |
//!   Open +                                                                  +--SND.UNA at the point, or found needless--> Open
//!        |                                                                  |
//!        +------> Loss: slow start from a segment (RFC 5681); `frto` asks --+
//!                 the retransmission timer fired (RFC 6298)
//! ```

use super::congestion::initial_window;
use super::connection::{Connection, Phase, Recovery};
use super::episode::Episode;
use super::frto::{self, Forward, Verdict};
use super::rack::{DUPLICATE_THRESHOLD, TailProbe};
use super::reduction::Progress;
use super::rtt::elapsed_nanos;
use super::scoreboard::Delivered;
use super::sent::AckClock;
use super::sequence::Seq;
use crate::Instant;

/// What F-RTO leaves of the window when nobody will know (RFC 5682, section 3.1, step 2a), and when the loss was real
/// (step 3a).
const SEGMENTS_AFTER_ALL: u32 = 2;
const SEGMENTS_AFTER_REAL_TIMEOUT: u32 = 3;

/// What an acknowledgement says of a recovery.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Heard<'a> {
    pub ack: Seq,
    /// Numbers that it acknowledges newly.
    pub advanced: u32,
    pub delivered: &'a Delivered,
    pub clock: &'a AckClock,
    /// It reports a duplicate.
    pub reported: bool,
    /// With it, all that was sent again is reported as duplicate.
    pub all_reported: bool,
    /// It is a duplicate of a peer without SACK.
    pub plain_duplicate: bool,
}

impl Connection {
    // ---- what begins it ----

    /// Finds what is lost and enters recovery. `flight` and `delivered` are of the acknowledgement that shows it, if it
    /// is one. Gives the time until more is lost, if nothing arrives.
    pub(crate) fn find_losses(&mut self, flight: u32, delivered: u32, now: Instant) -> Option<u64> {
        let recovery = &mut self.recovery;
        let (mut wait, lost) = (None, recovery.scoreboard.lost_bytes());
        if self.send.sack_permitted {
            let sacked = recovery.scoreboard.sacked_segments();
            if sacked == 0 && recovery.phase == Phase::Open {
                return None;
            }
            let eager = recovery.phase != Phase::Open || sacked >= DUPLICATE_THRESHOLD;
            let window = recovery.reorder_window_nanos(eager);
            wait = recovery.scoreboard.detect_losses(&recovery.rack, window, now);
        } else if u32::from(recovery.duplicate_acks) >= DUPLICATE_THRESHOLD
            && recovery.phase == Phase::Open
            && !recovery.duplicates_barred
        {
            recovery.scoreboard.mark_first_lost();
        }
        if let Some(sampler) = recovery.control.sampler() {
            sampler.on_lost(recovery.scoreboard.lost_bytes() - lost);
        }
        if recovery.phase == Phase::Open
            && recovery.scoreboard.lost_bytes() > 0
            && !self.is_only_path_probe_lost()
        {
            self.enter_recovery(flight, delivered, now);
        }
        wait
    }

    /// Fast recovery: the threshold comes down now, the window in step with what is delivered.
    fn enter_recovery(&mut self, flight: u32, delivered: u32, now: Instant) {
        let recovery = &mut self.recovery;
        recovery.phase = Phase::Recovery;
        recovery.point = self.send.next;
        recovery.tail_probe = TailProbe::None;
        let undelivered = recovery.scoreboard.undelivered(self.send.flight());
        let mut episode = Episode::of_loss(undelivered + delivered);
        // RFC 3168, section 6.1.2: what a mark has lowered already in this window is not lowered twice, nor given back.
        if self.ecn.has_answered(self.send.unacked, self.send.next) {
            episode.undo.settle();
        } else {
            recovery.control.algorithm().on_loss(&mut recovery.window, flight, now);
        }
        recovery.begin(episode);
        self.ecn.on_reduced(self.send.next);
        // The first retransmission does not wait (RFC 5681, section 3.2, step 3; RFC 9937, section 6).
        if !recovery.control.owns_window() {
            let pipe = recovery.scoreboard.pipe(self.send.flight());
            recovery.window.congestion = pipe + recovery.window.mss;
        }
    }

    /// The retransmission timer fired: a segment more than what may still be under way (RFC 5681, section 3.1; RFC 8985,
    /// section 6.3).
    pub(crate) fn enter_loss(&mut self, now: Instant) {
        let flight = self.send.flight();
        let recovery = &mut self.recovery;
        if recovery.timeouts == 1 {
            // RFC 5682, section 3.1, step 1: not when it fires within its own recovery.
            let asks = recovery.phase != Phase::Loss && !recovery.scoreboard.is_reneged();
            let forward = if asks { Forward::AwaitsFirst } else { Forward::Off };
            recovery.begin(Episode::of_timeout(forward, &recovery.rtt));
            recovery.control.algorithm().on_timeout(&mut recovery.window, flight, now);
        } else {
            recovery.stop_holding_back();
        }
        let patience = if self.send.sack_permitted { recovery.patience_nanos() } else { 0 };
        let lost = recovery.scoreboard.lost_bytes();
        recovery.scoreboard.mark_lost_by_timeout(patience, now);
        if let Some(sampler) = recovery.control.sampler() {
            sampler.on_lost(recovery.scoreboard.lost_bytes() - lost);
        }
        self.ecn.on_reduced(self.send.next);
        recovery.window.congestion = recovery.scoreboard.pipe(flight) + recovery.window.mss;
        recovery.phase = Phase::Loss;
        recovery.point = self.send.next;
        recovery.duplicate_acks = 0;
        recovery.tail_probe = TailProbe::None;
    }

    // ---- how the window comes down ----

    /// RFC 9937, section 6: the window follows what `delivered` lets go. `safe`: SND.UNA moved and nothing more was lost.
    pub(crate) fn reduce_window(&mut self, delivered: u32, safe: bool) {
        let recovery = &mut self.recovery;
        let pipe = recovery.scoreboard.pipe(self.send.flight());
        let window = &mut recovery.window;
        let progress = Progress { delivered, pipe, threshold: window.threshold, mss: window.mss, safe };
        let allowed = recovery.episode.as_mut().and_then(|episode| episode.reduction.allow(&progress));
        if let Some(allowed) = allowed {
            window.congestion = pipe + allowed;
        }
    }

    // ---- what ends it, and what takes it back ----

    /// What an acknowledgement says of the recovery that goes on, or that ended a round trip ago. True when it set the
    /// window, which it then does not widen besides.
    pub(crate) fn review_recovery(&mut self, heard: &Heard<'_>) -> bool {
        self.adapt_timeout(heard);
        let verdict = self.ask_forward(heard);
        if heard.all_reported {
            // Its acknowledgements came before; what they let go is not known any more.
            self.undo_recovery(u32::MAX);
        } else if verdict == Verdict::Spurious || self.is_original(heard) {
            self.undo_recovery(heard.advanced);
        }
        let recovery = &mut self.recovery;
        if recovery.phase != Phase::Open && heard.ack.at_or_after(recovery.point) {
            self.end_recovery(heard.ack);
        } else if recovery.phase == Phase::Recovery && heard.advanced > 0 && !self.send.sack_permitted {
            // A partial acknowledgement shows the next hole (RFC 6582, section 3.2, step 3).
            recovery.scoreboard.presume_fewer(heard.advanced.saturating_sub(recovery.window.mss));
            recovery.scoreboard.mark_first_lost();
        }
        let recovery = &mut self.recovery;
        if recovery.phase == Phase::Open
            && recovery.episode.as_ref().is_some_and(|episode| episode.is_over(heard.ack))
        {
            recovery.episode = None;
            recovery.rack.forget_round();
        }
        matches!(verdict, Verdict::All | Verdict::Spurious)
    }

    /// Eifel detection (RFC 3522).
    fn is_original(&mut self, heard: &Heard<'_>) -> bool {
        let recovery = &mut self.recovery;
        let Some(episode) = recovery.episode.as_mut() else { return false };
        heard.advanced > 0
            && recovery.phase != Phase::Open
            && episode.undo.is_of_the_original(heard.clock.echo_ms, heard.reported)
    }

    /// F-RTO (RFC 5682).
    fn ask_forward(&mut self, heard: &Heard<'_>) -> Verdict {
        let recovery = &mut self.recovery;
        let Some(episode) = recovery.episode.as_mut().filter(|_| recovery.phase == Phase::Loss) else {
            return Verdict::Undecided;
        };
        let Delivered { end, original_end, .. } = *heard.delivered;
        let verdict = episode.forward.on_acknowledgement(frto::Heard {
            advanced: heard.advanced > 0,
            all: heard.ack.at_or_after(recovery.point),
            beyond: end.is_some_and(|end| end.after(recovery.point)),
            original: original_end.is_some_and(|end| end.at_or_before(recovery.point)),
            plain_duplicate: heard.plain_duplicate,
        });
        let owned = recovery.control.owns_window();
        let window = &mut recovery.window;
        match verdict {
            Verdict::SendNew => recovery.point = self.send.next,
            Verdict::All if !owned => window.congestion = SEGMENTS_AFTER_ALL * window.mss,
            Verdict::Real if !owned => {
                window.congestion = window.congestion.min(SEGMENTS_AFTER_REAL_TIMEOUT * window.mss);
            }
            _ => {}
        }
        verdict
    }

    /// SND.UNA is at the point (RFC 6582, section 3.2, step 3; RFC 6675, section 5).
    fn end_recovery(&mut self, ack: Seq) {
        let recovery = &mut self.recovery;
        // A reduction that was undone meanwhile leaves no threshold to come down to.
        let reduced = recovery.window.threshold != u32::MAX;
        if recovery.phase == Phase::Recovery && reduced && !recovery.control.owns_window() {
            recovery.window.congestion = recovery.window.threshold;
        }
        recovery.duplicates_barred = !self.send.sack_permitted && ack == recovery.point;
        recovery.phase = Phase::Open;
        recovery.scoreboard.presume_fewer(u32::MAX);
        recovery.rack.on_recovery_ended();
        if let Some(episode) = &mut recovery.episode {
            episode.end(self.send.next);
        }
    }

    /// What was taken as lost was only late, or was not lost at all: the window is given back, but lets no more go at once
    /// than `burst` or an initial window (RFC 4015, section 3.2, step 8).
    pub(crate) fn undo_recovery(&mut self, burst: u32) {
        let recovery = &mut self.recovery;
        let Some(episode) = recovery.episode.as_mut().filter(|episode| !episode.undo.is_settled()) else {
            return;
        };
        episode.undo.settle();
        episode.end(self.send.next);
        if episode.undo.timeout {
            episode.adapt_from(self.send.next);
        } else {
            recovery.rack.on_recovery_undone();
        }
        if recovery.phase != Phase::Open {
            recovery.phase = Phase::Open;
            recovery.scoreboard.unmark_lost();
            recovery.rack.on_recovery_ended();
        }
        let window = &mut recovery.window;
        let present = window.congestion;
        recovery.control.algorithm().on_spurious(window);
        if !recovery.control.owns_window() {
            let pipe = recovery.scoreboard.pipe(self.send.flight());
            let most = pipe + burst.min(initial_window(window.mss));
            window.congestion = window.congestion.min(most.max(present));
        }
    }

    /// RFC 4015, section 3.2, step 10.
    fn adapt_timeout(&mut self, heard: &Heard<'_>) {
        let recovery = &mut self.recovery;
        let Some(episode) = recovery.episode.as_mut() else { return };
        if let Some(sent_at) = heard.delivered.newest_sent_at
            && let Some(before) = episode.take_rtt_before(heard.delivered.end)
        {
            let now = heard.clock.now;
            recovery.rtt.adapt(&before, elapsed_nanos(now, sent_at), now);
        }
    }
}

impl Recovery {
    /// A recovery that follows closely on another takes its memory.
    fn begin(&mut self, episode: Episode) {
        match &mut self.episode {
            Some(present) => **present = episode,
            none => *none = Some(Box::new(episode)),
        }
    }

    fn reorder_window_nanos(&self, eager: bool) -> u64 {
        self.rack.reorder_window_nanos(eager, self.rtt.min_nanos(), self.rtt.smoothed_nanos())
    }

    /// RFC 8985, section 6.3: how long ago a segment must have been sent for a timeout to take it as lost.
    fn patience_nanos(&self) -> u64 {
        self.rack.rtt_nanos() + self.reorder_window_nanos(true)
    }

    /// F-RTO waits for its answer, and nothing is sent again meanwhile.
    pub(crate) fn holds_back(&self) -> bool {
        self.phase == Phase::Loss && self.episode.as_ref().is_some_and(|episode| episode.forward.holds_back())
    }

    pub(crate) fn stop_holding_back(&mut self) {
        if let Some(episode) = &mut self.episode {
            episode.forward = Forward::Off;
        }
    }

    /// Text left, new or again.
    pub(crate) fn note_sent(&mut self, bytes: u32) {
        if self.phase == Phase::Recovery
            && let Some(episode) = &mut self.episode
        {
            episode.reduction.on_sent(bytes);
        }
    }

    /// `span` left again; `oldest`: it is what SND.UNA waits for.
    pub(crate) fn note_sent_again(&mut self, span: (Seq, Seq), oldest: bool, now: Instant) {
        if self.phase != Phase::Open
            && let Some(episode) = &mut self.episode
        {
            episode.undo.on_sent_again(span, oldest, now.as_millis() as u32);
        }
    }
}
