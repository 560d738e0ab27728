//! What an acknowledgement does to the sending side: what arrived is let go, what did not is found lost (`recovery`),
//! and the congestion window follows.

use super::congestion::Acked;
use super::connection::{Connection, Effects, LossTimer, Phase, Recovery};
use super::header::Flags;
use super::memory::Pool;
use super::rack::TailProbe;
use super::recovery::Heard;
use super::rtt::{MAX_RTO_NANOS, elapsed_nanos, later};
use super::scoreboard::Delivered;
use super::segment::Segment;
use super::sent::AckClock;
use super::sequence::Seq;
use super::tail_probe::ProbeAnswer;
use crate::Instant;

/// How long a peer that seems to have taken its SACK back may take to show that it has not: half a round trip, and this
/// at least (as Linux waits).
const MIN_RENEGED_NANOS: u64 = 10_000_000;
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
        let reported = self.take_duplicate_report(segment);
        let all_reported = reported.is_some_and(|report| self.is_all_reported(report));
        let plain = segment.text.is_empty() && !segment.has(Flags::FIN) && !window_changed;
        let flight = self.send.flight();
        if flight == 0 {
            self.check_tail_probe(segment, ProbeAnswer { advanced: 0, plain, reported }, now);
            if all_reported {
                self.undo_recovery(u32::MAX);
            }
            return;
        }
        let ack = segment.header.ack;
        let clock = self.ack_clock(segment, now);
        let mut delivered = Delivered::default();
        let advanced = ack.since(self.send.unacked);
        if advanced > 0 {
            self.advance(ack, &clock, &mut delivered, pool);
        }
        let sacked = self.take_sack(segment, &clock, &mut delivered);
        let plain_duplicate = advanced == 0 && plain && !self.send.sack_permitted;
        if plain_duplicate {
            self.count_duplicate(flight, &mut delivered);
        }
        self.sample_round_trip(&delivered, advanced, &clock);
        let mut widens_by = advanced;
        if self.recovery.episode.is_some() {
            let (delivered, clock, reported) = (&delivered, &clock, reported.is_some());
            let heard = Heard { ack, advanced, delivered, clock, reported, all_reported, plain_duplicate };
            if self.review_recovery(&heard) {
                widens_by = 0;
            }
        }
        self.check_tail_probe(segment, ProbeAnswer { advanced, plain, reported }, now);
        let lost_before = self.recovery.scoreboard.lost_bytes();
        let wait = self.find_losses(flight, delivered.bytes, now);
        let more_lost = self.recovery.scoreboard.lost_bytes() > lost_before;
        self.adjust_window(&delivered, widens_by, flight, more_lost, now);
        if advanced > 0 || sacked {
            self.arm_loss_timer(wait, now);
        }
        if advanced > 0 && self.recovery.scoreboard.is_reneged() {
            let wait = (self.recovery.rtt.smoothed_nanos() / 2).max(MIN_RENEGED_NANOS);
            self.deadlines.set_loss(LossTimer::Retransmit, later(now, wait));
        }
        self.set_pace(flight);
        self.effects.add(Effects::TRANSMIT);
    }

    /// What the acknowledgement reports as arrived twice (RFC 2883, section 5), if anything was sent again of late: else
    /// it was the network that made two of one.
    fn take_duplicate_report(&mut self, segment: &Segment<'_>) -> Option<(Seq, Seq)> {
        let Self { recovery, send, .. } = self;
        let blocks = &segment.header.options.sack;
        if blocks.is_empty() || !send.sack_permitted {
            return None;
        }
        let ours = recovery.episode.is_some() || matches!(recovery.tail_probe, TailProbe::Again(_));
        let report = blocks.duplicate(segment.header.ack).filter(|_| ours)?;
        recovery.rack.on_duplicate_reported(segment.header.ack.max(send.unacked), send.next);
        Some(report)
    }

    fn is_all_reported(&mut self, (left, right): (Seq, Seq)) -> bool {
        let episode = self.recovery.episode.as_mut();
        episode.is_some_and(|episode| episode.undo.on_reported(left, right))
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
        let span = (self.send.unacked, self.send.next);
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
        if recovery.phase == Phase::Open {
            recovery.scoreboard.presume_fewer(u32::MAX);
            recovery.duplicates_barred = false;
        } else {
            // Duplicates have told of a part of it (RFC 9937, section 6: DeliveredData without SACK).
            delivered.bytes = delivered.bytes.saturating_sub(recovery.scoreboard.presumed_bytes());
            if recovery.phase == Phase::Loss {
                recovery.scoreboard.presume_fewer(u32::MAX);
            }
        }
        self.move_unacked(ack, pool, clock.now);
    }

    /// What is behind it is let go.
    #[inline]
    pub(super) fn move_unacked(&mut self, ack: Seq, pool: &mut Pool, now: Instant) {
        self.send.unacked = ack;
        if self.user.timeout_ms > 0 {
            self.send.progress_at_ms = now.as_millis() as u32;
        }
        self.send.longest.on_acked(ack);
        if self.send.search.is_some() {
            self.on_path_acknowledged(ack);
        }
        self.user.soft_error = false;
        self.release_acknowledged(ack, pool);
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

    /// A writer that waits hears of a quarter, not of each segment; of two segments where all that it wrote is out: then
    /// its buffer is less than the path holds, and what it does not write now the path waits for.
    fn wake_writer(&mut self) {
        let (space, held) = (self.send_space(), self.send.ring.len() as u32);
        let quarter = space / 4;
        let worth = if self.send.unsent() == 0 { quarter.min(2 * self.recovery.window.mss) } else { quarter };
        let writer = self.user.write_blocked && space.saturating_sub(held) >= worth;
        let flusher = self.user.flush_blocked && held == 0;
        if writer || flusher {
            (self.user.write_blocked, self.user.flush_blocked) = (false, self.user.flush_blocked && !flusher);
            self.effects.add(Effects::WRITABLE);
        }
    }

    /// A duplicate acknowledgement of a peer without SACK (RFC 5681, section 2): with it, its blocks say more. A segment
    /// has left, so that another may go before the third duplicate tells a loss (RFC 3042, section 2).
    fn count_duplicate(&mut self, flight: u32, delivered: &mut Delivered) {
        let recovery = &mut self.recovery;
        recovery.duplicate_acks = recovery.duplicate_acks.saturating_add(1);
        // After a timeout the old segments count as lost: only what was sent since can have left.
        if recovery.phase != Phase::Loss || self.send.next.after(recovery.point) {
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

    fn adjust_window(
        &mut self,
        delivered: &Delivered,
        advanced: u32,
        flight: u32,
        more_lost: bool,
        now: Instant,
    ) {
        if self.recovery.control.owns_window() {
            return self.follow_model(delivered, now);
        }
        if self.recovery.phase == Phase::Recovery {
            return self.reduce_window(delivered.bytes, advanced > 0 && !more_lost);
        }
        if advanced > 0 && !self.ecn.echoed {
            self.widen_window(delivered.bytes.min(advanced), delivered.newest_sent_at, flight, now);
        }
    }

    /// New data, of which `bytes` count, was acknowledged outside of recovery.
    pub(super) fn widen_window(
        &mut self,
        bytes: u32,
        newest_sent_at: Option<Instant>,
        flight: u32,
        now: Instant,
    ) {
        let recovery = &mut self.recovery;
        let window = &mut recovery.window;
        // A window that is not used says nothing about the path (RFC 7661's concern, Linux's rule).
        let used = self.send.cwnd_limited || (window.in_slow_start() && window.congestion < 2 * flight);
        let timeout = recovery.rtt.timeout_nanos();
        let waiting = self.send.unsent() > 0;
        window.note_use(used || waiting, flight, timeout, now);
        if used {
            let acked = self.acked(bytes, newest_sent_at, now);
            let Self { recovery, .. } = self;
            recovery.control.algorithm().on_ack(&mut recovery.window, &acked);
        } else {
            recovery.control.algorithm().on_unused(now);
        }
    }

    /// An algorithm that owns its window hears of every delivery, with its rate.
    fn follow_model(&mut self, delivered: &Delivered, now: Instant) {
        let mut acked = self.acked(delivered.bytes, delivered.newest_sent_at, now);
        let Self { recovery, .. } = self;
        let min_rtt = recovery.rtt.min_nanos();
        let sampler = recovery.control.sampler();
        acked.sample =
            sampler.and_then(|sampler| sampler.on_delivered(delivered.bytes, delivered.newest, min_rtt, now));
        recovery.control.algorithm().on_ack(&mut recovery.window, &acked);
    }

    fn acked(&self, bytes: u32, newest_sent_at: Option<Instant>, now: Instant) -> Acked {
        Acked {
            bytes,
            unacked: self.send.unacked,
            next: self.send.next,
            pipe: self.recovery.scoreboard.pipe(self.send.flight()),
            rtt_nanos: newest_sent_at.map(|sent_at| elapsed_nanos(now, sent_at)),
            smoothed_rtt_nanos: self.recovery.rtt.smoothed_nanos(),
            limited: self.send.cwnd_limited,
            sample: None,
            now,
        }
    }

    /// How fast the window is used until the next acknowledgement. Within a rack it is not worth a timer, where the
    /// window alone decides.
    #[inline]
    pub(super) fn set_pace(&mut self, flight: u32) {
        if !self.recovery.pacer.is_wanted() {
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
}
