//! What an acknowledgement does to the sending side: what arrived is let go, what did not is found lost, and the
//! congestion window follows (RFC 8985, RFC 6298, RFC 6937, RFC 6582 where the peer has no SACK).

use super::congestion::Acked;
use super::connection::{Connection, Effects, LossTimer, Phase, Recovery, Reduction};
use super::header::Flags;
use super::memory::Pool;
use super::rack::DUPLICATE_THRESHOLD;
use super::rtt::{MAX_RTO_NANOS, elapsed_nanos, later};
use super::scoreboard::Delivered;
use super::segment::Segment;
use super::sent::AckClock;
use super::sequence::Seq;
use crate::Instant;

/// WCDelAckT: what the peer may sit on a single segment's acknowledgement (RFC 8985, section 7.2).
const WORST_DELAYED_ACK_NANOS: u64 = 200_000_000;
/// A probe sooner than this would race the peer's own scheduling (Linux: two jiffies).
const MIN_PROBE_TIMEOUT_NANOS: u64 = 2_000_000;
/// A loss-based algorithm is paced from this round trip on: below it a burst is a good part of the window.
const PACED_FROM_NANOS: u64 = 1_000_000;

impl Connection {
    /// `segment` acknowledges something between SND.UNA and SND.NXT.
    pub(crate) fn take_acknowledgement(
        &mut self,
        segment: &Segment<'_>,
        window_changed: bool,
        pool: &mut Pool,
        now: Instant,
    ) {
        let ack = segment.header.ack;
        let flight = self.send.flight();
        if flight == 0 {
            return;
        }
        let clock = self.ack_clock(segment, now);
        let mut delivered = Delivered::default();
        let sacked = self.take_sack(segment, &clock, &mut delivered);
        let advanced = ack.since(self.send.unacked);
        if advanced > 0 {
            self.advance(ack, &clock, &mut delivered, pool);
        } else if segment.text.is_empty() && !segment.has(Flags::FIN) && !window_changed {
            self.count_duplicate(flight, &mut delivered);
        }
        self.sample_round_trip(&delivered, advanced, &clock);
        self.check_tail_probe(segment, advanced, now);
        let wait = self.find_losses(flight, now);
        self.adjust_window(&delivered, advanced, flight, now);
        if advanced > 0 || sacked {
            self.arm_loss_timer(wait, now);
        }
        self.set_pace(flight);
        self.effects.add(Effects::TRANSMIT);
    }

    fn ack_clock(&self, segment: &Segment<'_>, now: Instant) -> AckClock {
        let echo = segment.header.options.timestamps.filter(|_| self.timestamps.enabled);
        AckClock {
            now,
            echo_ms: echo.map(|timestamps| self.timestamps.echo_ms(timestamps.echo)),
            min_rtt_nanos: self.recovery.rtt.min_nanos(),
        }
    }

    fn take_sack(&mut self, segment: &Segment<'_>, clock: &AckClock, delivered: &mut Delivered) -> bool {
        let blocks = &segment.header.options.sack;
        if blocks.is_empty() || !self.send.sack_permitted {
            return false;
        }
        let span = (segment.header.ack.max(self.send.unacked), self.send.next);
        let Self { recovery, .. } = self;
        recovery.scoreboard.mark_sacked(blocks, span, clock, &mut recovery.rack, delivered)
    }

    /// SND.UNA moves.
    fn advance(&mut self, ack: Seq, clock: &AckClock, delivered: &mut Delivered, pool: &mut Pool) {
        let recovery = &mut self.recovery;
        recovery.scoreboard.acknowledge(ack, clock, &mut recovery.rack, delivered, pool);
        recovery.rtt.end_backoff();
        recovery.timeouts = 0;
        recovery.duplicate_acks = 0;
        let advanced = ack.since(self.send.unacked);
        self.send.unacked = ack;
        if self.user.timeout_ms > 0 {
            self.send.progress_at_ms = clock.now.as_millis() as u32;
        }
        self.send.longest.on_acked(ack);
        if self.send.search.is_some() {
            self.on_path_acknowledged(ack);
        }
        self.user.soft_error = false;
        self.release_acknowledged(ack, pool);
        self.end_recovery(ack, advanced);
    }

    fn release_acknowledged(&mut self, ack: Seq, pool: &mut Pool) {
        let send = &mut self.send;
        let bytes = ack.min(send.data_end()).saturating_since(send.data_start);
        if bytes == 0 {
            return;
        }
        send.ring.consume(bytes as usize);
        send.data_start += bytes;
        if send.ring.is_empty() {
            send.ring.release(pool);
        }
        let waits = self.user.write_blocked || self.user.flush_blocked;
        if waits {
            self.wake_writer();
        }
    }

    /// A writer that waits hears of a quarter, not of each segment.
    fn wake_writer(&mut self) {
        let (space, held) = (self.send_space(), self.send.ring.len() as u32);
        let writer = self.user.write_blocked && space.saturating_sub(held) >= space / 4;
        let flusher = self.user.flush_blocked && held == 0;
        if writer || flusher {
            (self.user.write_blocked, self.user.flush_blocked) = (false, self.user.flush_blocked && !flusher);
            self.effects.add(Effects::WRITABLE);
        }
    }

    /// RFC 6582, section 3.2, step 3, and RFC 6675, section 5: a full acknowledgement ends recovery; without SACK a
    /// partial one shows the next hole.
    fn end_recovery(&mut self, ack: Seq, advanced: u32) {
        let recovery = &mut self.recovery;
        let mss = recovery.window.mss;
        if recovery.phase == Phase::Open {
            recovery.scoreboard.presume_fewer(u32::MAX);
            return;
        }
        if ack.at_or_after(recovery.point) {
            if recovery.phase == Phase::Recovery && !recovery.control.owns_window() {
                recovery.window.congestion = recovery.window.threshold;
            }
            recovery.phase = Phase::Open;
            recovery.scoreboard.presume_fewer(u32::MAX);
        } else if recovery.phase == Phase::Recovery && !self.send.sack_permitted {
            recovery.scoreboard.presume_fewer(advanced.saturating_sub(mss));
            recovery.scoreboard.mark_first_lost();
        }
    }

    /// A duplicate acknowledgement (RFC 5681, section 2). With SACK its blocks say more.
    fn count_duplicate(&mut self, flight: u32, delivered: &mut Delivered) {
        let recovery = &mut self.recovery;
        recovery.duplicate_acks = recovery.duplicate_acks.saturating_add(1);
        if !self.send.sack_permitted && recovery.phase != Phase::Loss {
            recovery.scoreboard.presume_delivered(recovery.window.mss, flight);
            delivered.bytes += recovery.window.mss;
        }
    }

    /// RFC 6298, section 3 (Karn): of segments that were sent once; of others only by the echoed timestamp, which says
    /// something when SND.UNA moves (RFC 7323, section 4.1): before a hole the peer echoes what came before it.
    fn sample_round_trip(&mut self, delivered: &Delivered, advanced: u32, clock: &AckClock) {
        let rtt = &mut self.recovery.rtt;
        if let Some(newest) = delivered.newest_sent_at {
            rtt.note_min(elapsed_nanos(clock.now, newest), clock.now);
        }
        if let Some(oldest) = delivered.oldest_sent_at {
            rtt.sample(elapsed_nanos(clock.now, oldest), clock.now);
        } else if delivered.retransmitted
            && advanced > 0
            && let Some(echo) = clock.echo_ms
        {
            let millis = (clock.now.as_millis() as u32).wrapping_sub(echo);
            let nanos = u64::from(millis.max(1)) * 1_000_000;
            // An echo older than any timeout was never of ours.
            if nanos < MAX_RTO_NANOS {
                rtt.sample(nanos, clock.now);
            }
        }
    }

    /// RFC 8985, section 7.4.2: whether a tail loss probe repaired a loss, which congestion control must hear of.
    fn check_tail_probe(&mut self, segment: &Segment<'_>, advanced: u32, now: Instant) {
        let ack = segment.header.ack;
        let Some(end) = self.recovery.tail_probe.end.filter(|end| ack.at_or_after(*end)) else { return };
        let blocks = segment.header.options.sack.as_slice();
        let duplicate_reported = blocks.first().is_some_and(|(_, right)| right.at_or_before(ack));
        if !self.recovery.tail_probe.retransmission || duplicate_reported {
            self.recovery.tail_probe.end = None;
        } else if ack.after(end) {
            self.recovery.tail_probe.end = None;
            let Connection { recovery, send, ecn, .. } = self;
            recovery.control.algorithm().on_loss(&mut recovery.window, send.flight() + advanced, now);
            recovery.window.congestion = recovery.window.congestion.min(recovery.window.threshold);
            ecn.on_reduced(send.next);
        } else if advanced == 0 && blocks.is_empty() {
            self.recovery.tail_probe.end = None;
        }
    }

    /// Finds what is lost and enters recovery. Gives the time until more is, if nothing arrives.
    pub(crate) fn find_losses(&mut self, flight: u32, now: Instant) -> Option<u64> {
        let recovery = &mut self.recovery;
        let (mut wait, lost) = (None, recovery.scoreboard.lost_bytes());
        if self.send.sack_permitted {
            let sacked = recovery.scoreboard.sacked_segments();
            if sacked == 0 && recovery.phase == Phase::Open {
                return None;
            }
            let eager = recovery.phase != Phase::Open || sacked >= DUPLICATE_THRESHOLD;
            let (min, smoothed) = (recovery.rtt.min_nanos(), recovery.rtt.smoothed_nanos());
            let window = recovery.rack.reorder_window_nanos(eager, min, smoothed);
            wait = recovery.scoreboard.detect_losses(&recovery.rack, window, now);
        } else if u32::from(recovery.duplicate_acks) >= DUPLICATE_THRESHOLD && recovery.phase == Phase::Open {
            recovery.scoreboard.mark_first_lost();
        }
        if let Some(sampler) = recovery.control.sampler() {
            sampler.on_lost(recovery.scoreboard.lost_bytes() - lost);
        }
        if recovery.phase == Phase::Open
            && recovery.scoreboard.lost_bytes() > 0
            && !self.is_only_path_probe_lost()
        {
            self.enter_recovery(flight, now);
        }
        wait
    }

    /// RFC 6937, section 3: the window comes down in step with what is delivered.
    fn enter_recovery(&mut self, flight: u32, now: Instant) {
        let recovery = &mut self.recovery;
        recovery.phase = Phase::Recovery;
        recovery.point = self.send.next;
        recovery.tail_probe.end = None;
        // RFC 3168, section 6.1.2: what a mark has lowered already in this window is not lowered twice.
        if !self.ecn.has_answered(self.send.unacked) {
            recovery.control.algorithm().on_loss(&mut recovery.window, flight, now);
        }
        self.ecn.on_reduced(self.send.next);
        recovery.reduction = Reduction { delivered: 0, sent: 0, flight: flight.max(1) };
        // The first retransmission does not wait (RFC 5681, section 3.2, step 3).
        if !recovery.control.owns_window() {
            let pipe = recovery.scoreboard.pipe(self.send.flight());
            recovery.window.congestion = pipe + recovery.window.mss;
        }
    }

    fn adjust_window(&mut self, delivered: &Delivered, advanced: u32, flight: u32, now: Instant) {
        if self.recovery.control.owns_window() {
            return self.follow_model(delivered, now);
        }
        let recovery = &mut self.recovery;
        let window = &mut recovery.window;
        if recovery.phase == Phase::Recovery {
            let pipe = recovery.scoreboard.pipe(self.send.flight());
            let allowed = recovery.reduction.allow(delivered.bytes, pipe, window.threshold, window.mss);
            window.congestion = window.congestion.max(window.mss).min(pipe + window.mss).max(pipe + allowed);
            return;
        }
        if advanced == 0 || self.ecn.echoed {
            return;
        }
        // A window that is not used says nothing about the path (RFC 7661's concern, Linux's rule).
        let used = self.send.cwnd_limited || (window.in_slow_start() && window.congestion < 2 * flight);
        let timeout = recovery.rtt.timeout_nanos();
        let waiting = self.send.unsent() > 0;
        window.note_use(used || waiting, flight, timeout, now);
        let acked = Acked { bytes: delivered.bytes.min(advanced), ..self.acked(delivered, now) };
        let Self { recovery, .. } = self;
        if used {
            recovery.control.algorithm().on_ack(&mut recovery.window, &acked);
        } else {
            recovery.control.algorithm().on_unused(now);
        }
    }

    /// An algorithm that owns its window hears of every delivery, with its rate.
    fn follow_model(&mut self, delivered: &Delivered, now: Instant) {
        let mut acked = self.acked(delivered, now);
        let Self { recovery, .. } = self;
        let min_rtt = recovery.rtt.min_nanos();
        let sampler = recovery.control.sampler();
        acked.sample =
            sampler.and_then(|sampler| sampler.on_delivered(delivered.bytes, delivered.newest, min_rtt, now));
        recovery.control.algorithm().on_ack(&mut recovery.window, &acked);
    }

    fn acked(&self, delivered: &Delivered, now: Instant) -> Acked {
        Acked {
            bytes: delivered.bytes,
            unacked: self.send.unacked,
            next: self.send.next,
            pipe: self.recovery.scoreboard.pipe(self.send.flight()),
            rtt_nanos: delivered.newest_sent_at.map(|sent_at| elapsed_nanos(now, sent_at)),
            smoothed_rtt_nanos: self.recovery.rtt.smoothed_nanos(),
            limited: self.send.cwnd_limited,
            sample: None,
            now,
        }
    }

    /// How fast the window is used until the next acknowledgement. Within a rack it is not worth a timer, where the
    /// window alone decides.
    fn set_pace(&mut self, flight: u32) {
        if !self.recovery.pacer.wanted {
            return;
        }
        let Recovery { control, window, rtt, pacer, .. } = &mut self.recovery;
        let round_trip = rtt.smoothed_nanos();
        let short = round_trip < PACED_FROM_NANOS && !control.owns_window();
        let rate = if short { 0 } else { control.algorithm().pace(window, flight, round_trip) };
        pacer.set_rate(rate, window.mss, round_trip);
    }

    /// One timer for all that can happen to what is in flight (RFC 8985, sections 7.2 and 8).
    pub(crate) fn arm_loss_timer(&mut self, reorder_wait_nanos: Option<u64>, now: Instant) {
        if self.send.flight() == 0 {
            self.deadlines.clear_loss();
        } else if let Some(wait) = reorder_wait_nanos {
            self.deadlines.set_loss(LossTimer::Reorder, later(now, wait));
        } else if let Some(timeout) = self.probe_timeout() {
            self.deadlines.set_loss(LossTimer::TailProbe, later(now, timeout));
        } else {
            self.deadlines.set_loss(LossTimer::Retransmit, self.recovery.rtt.timeout_from(now));
        }
    }

    /// RFC 8985, section 7.2: TLP_calc_PTO, where a probe may be sent at all.
    fn probe_timeout(&self) -> Option<u64> {
        let recovery = &self.recovery;
        let may_probe = self.send.sack_permitted
            && self.state.is_synchronized()
            && recovery.phase == Phase::Open
            && recovery.tail_probe.end.is_none()
            && recovery.scoreboard.sacked_bytes() == 0;
        let smoothed = recovery.rtt.smoothed_nanos();
        if !may_probe || smoothed == 0 {
            return None;
        }
        let single = if recovery.scoreboard.len() == 1 { WORST_DELAYED_ACK_NANOS } else { 0 };
        Some((2 * smoothed + single).max(MIN_PROBE_TIMEOUT_NANOS).min(recovery.rtt.timeout_nanos()))
    }
}

impl Reduction {
    /// How many bytes may be sent on this acknowledgement (RFC 6937, section 3; slow-start reduction bound).
    fn allow(&mut self, delivered: u32, pipe: u32, threshold: u32, mss: u32) -> u32 {
        self.delivered = self.delivered.saturating_add(delivered);
        if pipe > threshold {
            let share = u64::from(self.delivered) * u64::from(threshold);
            return (share.div_ceil(u64::from(self.flight)) as u32).saturating_sub(self.sent);
        }
        let limit = self.delivered.saturating_sub(self.sent).max(delivered) + mss;
        (threshold - pipe).min(limit)
    }
}
