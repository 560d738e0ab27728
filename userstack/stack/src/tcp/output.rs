//! What a connection sends now. The decision is cut as arrival is: one step a kind of segment, in order of urgency;
//! each step only decides, and what was sent is booked afterwards, so that a full interface changes nothing.

use std::num::NonZeroU16;

use super::TcpError;
use super::boundary::{Outgoing, Refused, SegmentSink};
use super::connection::{Connection, Effects, LossTimer, Phase, Probe, Recovery, State};
use super::ecn::NOT_ECT;
use super::header::{Flags, Header, MAX_HEADER, MAX_SACK_BLOCKS, Options, Plain, SackBlocks, Timestamps};
use super::memory::Pool;
use super::path_search::segment_size;
use super::rack::TailProbe;
use super::rtt::elapsed_nanos;
use super::sequence::Seq;
use crate::Instant;

/// Segments a connection sends before the next has its turn.
const BURST: usize = 16;
/// Most text of a packet that the device cuts: an IP packet of 65,535 bytes without its headers (IPv6, TCP with all options).
const LONG_BYTES: u32 = 65_535 - 40 - MAX_HEADER as u32;

/// How a visit ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing more to send now.
    Done,
    /// Its share or the budget is used up.
    More,
    /// The interface takes no more this turn.
    Full,
}

/// The next segment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Plan {
    kind: Kind,
    seq: Seq,
    /// Bytes of text.
    len: u32,
    fin: bool,
}

impl Plan {
    /// How many there are on the wire.
    fn segments(&self) -> usize {
        match self.kind {
            Kind::Long(bytes) => self.len.div_ceil(bytes.get().into()) as usize,
            _ => 1,
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    Handshake,
    Retransmission,
    TailProbe,
    New,
    /// New text of several segments, each with so many bytes: the device cuts it.
    Long(NonZeroU16),
    /// New text, longer than the path is known to carry.
    PathProbe,
    Alive,
    Acknowledgement,
}

impl Connection {
    /// Sends what may be sent, at most `budget` segments.
    pub(crate) fn transmit(
        &mut self,
        sink: &mut dyn SegmentSink,
        pool: &mut Pool,
        budget: &mut usize,
        now: Instant,
    ) -> Progress {
        if let Err(progress) = self.learn_path(sink, pool) {
            return progress;
        }
        self.restart_after_idle(now);
        self.renew_path_search(now);
        self.recovery.pacer.begin(now);
        self.receive.ask_for_memory(pool);
        let long = self.send.unsent() >= 2 * self.recovery.window.mss && sink.cuts();
        let most = if long { 0 } else { BURST.min(*budget) };
        let volley = self.transmit_volley(sink, pool, most, now);
        *budget -= volley.sent;
        if volley.full {
            return Progress::Full;
        }
        if volley.sent > 0 && self.has_said_all() {
            self.rest();
            return Progress::Done;
        }
        let mut left = BURST - volley.sent;
        while left > 0 {
            let Some(plan) = self.next_segment() else {
                self.arm_persist(now);
                self.rest();
                return Progress::Done;
            };
            if *budget == 0 {
                return Progress::More;
            }
            let plan = if long { self.lengthen(plan, *budget) } else { plan };
            let window = self.window_field();
            if self.emit(plan, window, sink, now) == Err(Refused::Full) {
                return Progress::Full;
            }
            // A segment that IP could not place counts as sent: its timer sends it again.
            let segments = plan.segments();
            left = left.saturating_sub(segments);
            *budget = budget.saturating_sub(segments);
            self.on_sent(plan, window, pool, now);
            if self.has_said_all() {
                self.rest();
                return Progress::Done;
            }
        }
        Progress::More
    }

    /// Nothing is left of what [`Connection::next_segment`] looks for: mostly so after one segment.
    fn has_said_all(&self) -> bool {
        self.state.is_synchronized()
            && self.send.unsent() == 0
            && self.send.fin_queued == self.send.fin_sent
            && self.send.probe == Probe::None
            && !self.receive.ack_now
            && self.recovery.scoreboard.lost_bytes() == 0
    }

    /// Nothing more can be sent now: for want of a turn in the pace, or of text.
    fn rest(&mut self) {
        let Recovery { pacer, scoreboard, control, .. } = &mut self.recovery;
        let (unsent, lost) = (self.send.unsent(), scoreboard.lost_bytes());
        if pacer.holds() {
            if unsent > 0 || lost > 0 {
                self.deadlines.pace_at = pacer.next_at();
            }
        } else if unsent == 0
            && lost == 0
            && !self.send.cwnd_limited
            && let Some(sampler) = control.sampler()
        {
            sampler.on_unused(scoreboard.pipe(self.send.flight()));
        }
    }

    fn learn_path(&mut self, sink: &mut dyn SegmentSink, pool: &mut Pool) -> Result<(), Progress> {
        match sink.open(self.tuple.local(), self.tuple.remote(), &mut self.path) {
            Ok(mtu) if mtu == self.send.link_mtu => Ok(()),
            Ok(mtu) => {
                self.send.link_mtu = mtu;
                self.limit_segments();
                Ok(())
            }
            Err(Refused::Full) => Err(Progress::Full),
            Err(Refused::Resolving) => Ok(()),
            Err(Refused::NoRoute) => {
                self.user.soft_error = true;
                if matches!(self.state, State::SynSent) {
                    self.finish(Some(TcpError::Unreachable), pool);
                    return Err(Progress::Done);
                }
                Ok(())
            }
        }
    }

    // ---- the decision ----

    fn next_segment(&mut self) -> Option<Plan> {
        if !self.state.is_synchronized() {
            return self.next_handshake();
        }
        if self.recovery.pacer.holds() {
            return self
                .next_tail_probe()
                .or_else(|| self.next_alive_probe())
                .or_else(|| self.next_acknowledgement());
        }
        self.next_retransmission()
            .or_else(|| self.next_tail_probe())
            .or_else(|| self.next_new_text())
            .or_else(|| self.next_for_want_of_new())
            .or_else(|| self.next_alive_probe())
            .or_else(|| self.next_acknowledgement())
    }

    fn next_handshake(&self) -> Option<Plan> {
        let due = match self.state {
            State::SynSent => self.send.probe == Probe::Handshake,
            State::SynReceived { .. } => self.send.probe == Probe::Handshake || self.receive.ack_now,
            _ => false,
        };
        due.then_some(Plan { kind: Kind::Handshake, seq: self.send.initial, len: 0, fin: false })
    }

    /// What is lost goes first, within the congestion window; but for F-RTO's question.
    fn next_retransmission(&self) -> Option<Plan> {
        let lost = self.recovery.scoreboard.next_lost()?;
        if self.recovery.holds_back() {
            return None;
        }
        let plan = self.plan_again(Kind::Retransmission, lost.start, lost.end);
        let numbers = plan.len + u32::from(plan.fin);
        let pipe = self.recovery.scoreboard.pipe(self.send.flight());
        let fits_congestion = pipe == 0 || pipe + numbers <= self.recovery.window.congestion;
        // The peer may have taken window back: then only the segment that it waits for (RFC 9293, section 3.8.6).
        let fits_window = plan.seq == self.send.unacked
            || (plan.seq + numbers).at_or_before(self.send.unacked + self.send.window);
        (fits_congestion && fits_window).then_some(plan)
    }

    /// There was nothing new to send, or no window for it: the conventional way (RFC 5682, section 3.1, step 2b).
    fn next_for_want_of_new(&mut self) -> Option<Plan> {
        if !self.recovery.holds_back() || self.send.next.after(self.recovery.point) {
            return None;
        }
        self.recovery.stop_holding_back();
        self.next_retransmission()
    }

    /// RFC 8985, section 7.3: new text where there is some, else the last segment again.
    fn next_tail_probe(&self) -> Option<Plan> {
        if self.send.probe != Probe::Tail {
            return None;
        }
        if self.recovery.phase == Phase::Recovery {
            // What SND.UNA waits for is lost again, or its acknowledgement is: both are repaired by it.
            let first = self.recovery.scoreboard.first()?;
            return Some(self.plan_again(Kind::TailProbe, first.start, first.end));
        }
        let len = self.send.unsent().min(self.payload_size()).min(self.send.window_room());
        if len > 0 {
            return Some(self.plan_new(len, Kind::TailProbe));
        }
        let last = self.recovery.scoreboard.last()?;
        Some(self.plan_again(Kind::TailProbe, last.start, last.end))
    }

    fn next_new_text(&mut self) -> Option<Plan> {
        let unsent = self.send.unsent();
        if unsent == 0 {
            return self.next_fin();
        }
        if self.send.search.is_some()
            && let Some(len) = self.path_probe_len()
        {
            return Some(self.plan_new(len, Kind::PathProbe));
        }
        let len = unsent.min(self.payload_size()).min(self.send.window_room());
        if len == 0 || !self.is_worth_sending(len, unsent) {
            self.send.cwnd_limited = false;
            return None;
        }
        if self.recovery.scoreboard.len() >= self.send.most_pieces() {
            self.effects.add(Effects::PIECES_FULL);
            self.send.cwnd_limited = false;
            return None;
        }
        let pipe = self.recovery.scoreboard.pipe(self.send.flight());
        self.send.cwnd_limited = pipe > 0 && pipe + len > self.recovery.window.congestion;
        (!self.send.cwnd_limited).then(|| self.plan_new(len, Kind::New))
    }

    /// New text, as much of it as leaves now anyway, for a device that cuts it. What an open connection has to say beside it
    /// is said by one segment (CWR, SACK blocks).
    fn lengthen(&self, plan: Plan, budget: usize) -> Plan {
        let Recovery { scoreboard, window, pacer, phase, .. } = &self.recovery;
        let full = window.mss;
        let plain = plan.kind == Kind::New
            && plan.len == full
            && *phase == Phase::Open
            && self.ecn.has_nothing_to_tell();
        let Some(segment) = NonZeroU16::new(full as u16).filter(|_| plain) else { return plan };
        let bytes = self
            .send
            .unsent()
            .min(self.send.window_room())
            .min(window.congestion.saturating_sub(scoreboard.pipe(self.send.flight())))
            .min(pacer.room())
            .min(LONG_BYTES);
        let pieces = self.send.most_pieces().saturating_sub(scoreboard.len());
        let segments = (bytes / full).min(budget.min(pieces) as u32);
        if segments < 2 { plan } else { self.plan_new(segments * full, Kind::Long(segment)) }
    }

    /// A FIN without text waits for neither window.
    fn next_fin(&self) -> Option<Plan> {
        (self.send.fin_queued && !self.send.fin_sent).then(|| self.plan_new(0, Kind::New))
    }

    /// Sender's silly-window avoidance and Nagle (RFC 9293, sections 3.7.4 and 3.8.6.2.1).
    pub(super) fn is_worth_sending(&self, len: u32, unsent: u32) -> bool {
        let send = &self.send;
        let all = len == unsent && (send.no_delay || send.flight() == 0 || send.fin_queued);
        len >= self.payload_size() || all || len >= send.max_window / 2 || send.small_allowed
    }

    fn next_alive_probe(&self) -> Option<Plan> {
        (self.send.probe == Probe::Alive).then(|| Plan {
            kind: Kind::Alive,
            seq: self.send.unacked - 1,
            len: 0,
            fin: false,
        })
    }

    fn next_acknowledgement(&self) -> Option<Plan> {
        let seq = self.send.next;
        self.receive.ack_now.then_some(Plan { kind: Kind::Acknowledgement, seq, len: 0, fin: false })
    }

    fn plan_new(&self, len: u32, kind: Kind) -> Plan {
        let fin = self.send.fin_queued && len == self.send.unsent();
        Plan { kind, seq: self.send.next, len, fin }
    }

    /// `start..end` of what was sent, as much as fits one segment today.
    fn plan_again(&self, kind: Kind, start: Seq, end: Seq) -> Plan {
        let fin = end.after(self.send.data_end());
        let text = end.since(start) - u32::from(fin);
        let len = text.min(self.payload_size());
        Plan { kind, seq: start, len, fin: fin && len == text }
    }

    /// Text that fits one segment beside its options.
    fn payload_size(&self) -> u32 {
        let sack = if self.has_sack_to_tell() { self.sack_len() } else { 0 };
        self.recovery.window.mss.saturating_sub(sack).max(1)
    }

    pub(super) fn has_sack_to_tell(&self) -> bool {
        !self.receive.assembler.is_empty() || self.receive.twice_len > 0
    }

    fn sack_len(&self) -> u32 {
        match self.sack_option().as_slice().len() as u32 {
            0 => 0,
            blocks => 4 + 8 * blocks,
        }
    }

    /// RFC 2018, section 4; a duplicate is reported before all else, and once (RFC 2883, section 4).
    fn sack_option(&self) -> SackBlocks {
        self.receive.assembler.blocks(self.receive.twice(), self.sack_blocks_that_fit())
    }

    fn sack_blocks_that_fit(&self) -> usize {
        match (self.send.sack_permitted, self.timestamps.enabled) {
            (false, _) => 0,
            (true, true) => MAX_SACK_BLOCKS - 1,
            (true, false) => MAX_SACK_BLOCKS,
        }
    }

    // ---- the segment ----

    fn emit(
        &mut self,
        plan: Plan,
        window: u16,
        sink: &mut dyn SegmentSink,
        now: Instant,
    ) -> Result<(), Refused> {
        let (ecn, told) =
            if self.is_new_text(plan) { self.ecn.mark_text() } else { (NOT_ECT, Flags::default()) };
        let mut bytes = [0; MAX_HEADER];
        let length = match plan.kind {
            Kind::Handshake => self.syn_header(now).write(&mut bytes),
            _ if self.has_sack_to_tell() => self.sack_header(plan, window, told, now).write(&mut bytes),
            _ => self.plain_header(now).write(plan.seq, self.flags(plan).with(told), window, &mut bytes),
        };
        let offset = plan.seq.since(self.send.data_start) as usize;
        let payload =
            if plan.len > 0 { self.send.ring.slices(offset, plan.len as usize) } else { [&[][..], &[]] };
        let segment_bytes = match plan.kind {
            Kind::Long(bytes) => Some(bytes),
            _ => None,
        };
        sink.send(&Outgoing { header: &bytes[..length], payload, ecn, segment_bytes })
    }

    /// Only what was never sent is marked as ECN-capable (RFC 3168, section 6.1.5).
    fn is_new_text(&self, plan: Plan) -> bool {
        plan.len > 0 && plan.seq == self.send.next
    }

    fn flags(&self, plan: Plan) -> Flags {
        let mut flags = Flags::ACK.with(self.ecn.echo_flag());
        if plan.fin {
            flags = flags.with(Flags::FIN);
        }
        if plan.len > 0 && plan.seq + plan.len == self.send.data_end() {
            flags = flags.with(Flags::PSH);
        }
        flags
    }

    /// What every segment says after the handshake that tells of nothing out of order.
    pub(super) fn plain_header(&self, now: Instant) -> Plain {
        Plain {
            source_port: self.tuple.local_port(),
            destination_port: self.tuple.remote_port(),
            ack: self.receive.next,
            timestamps: self.timestamps_option(now),
        }
    }

    fn sack_header(&self, plan: Plan, window: u16, told: Flags, now: Instant) -> Header {
        let sack = self.sack_option();
        let options = Options { timestamps: self.timestamps_option(now), sack, ..Options::default() };
        Header {
            source_port: self.tuple.local_port(),
            destination_port: self.tuple.remote_port(),
            seq: plan.seq,
            ack: self.receive.next,
            flags: self.flags(plan).with(told),
            window,
            options,
        }
    }

    /// SYN in SYN-SENT, SYN and ACK in SYN-RECEIVED. What the peer did not offer is not answered.
    fn syn_header(&self, now: Instant) -> Header {
        let first = matches!(self.state, State::SynSent);
        let scaled = first || self.receive.scale > 0 || self.send.scale > 0;
        let timestamps = Timestamps { value: self.timestamps.value(now), echo: self.timestamps.recent };
        Header {
            source_port: self.tuple.local_port(),
            destination_port: self.tuple.remote_port(),
            seq: self.send.initial,
            ack: self.receive.next,
            flags: if first { Flags::SYN } else { Flags::SYN.with(Flags::ACK) }
                .with(self.ecn.setup_flags(first)),
            window: self.receive.syn_window() as u16,
            options: Options {
                mss: Some(segment_size(self.send.link_mtu, self.tuple.is_v6())),
                window_scale: scaled.then_some(self.receive.scale),
                sack_permitted: first || self.send.sack_permitted,
                timestamps: (first || self.timestamps.enabled).then_some(timestamps),
                ..Options::default()
            },
        }
    }

    fn timestamps_option(&self, now: Instant) -> Option<Timestamps> {
        self.timestamps
            .enabled
            .then(|| Timestamps { value: self.timestamps.value(now), echo: self.timestamps.recent })
    }

    /// SEG.WND. Where the shift cannot say the window exactly, a new edge is rounded down, and the one that the peer
    /// knows already is rounded up: it does not move back (RFC 9293, section 3.8.6; RFC 7323, section 2.4).
    pub(super) fn window_field(&self) -> u16 {
        let receive = &self.receive;
        let units = receive.edge().saturating_since(receive.next) >> receive.scale;
        let told = |units: u32| receive.next + (units << receive.scale);
        let moves_back = told(units).before(receive.advertised);
        let rounds_up = moves_back && told(units + 1).at_or_before(receive.farthest_edge());
        (units + u32::from(rounds_up)).min(u32::from(u16::MAX)) as u16
    }

    // ---- the books ----

    fn on_sent(&mut self, plan: Plan, window: u16, pool: &mut Pool, now: Instant) {
        if plan.kind != Kind::Handshake {
            self.note_advertised(window);
        }
        self.note_acknowledged();
        self.recovery.pacer.on_sent(plan.len);
        match plan.kind {
            Kind::Handshake => self.on_handshake_sent(now),
            Kind::New => self.on_new_sent(plan, pool, now),
            Kind::Long(bytes) => self.on_long_sent(plan, bytes, pool, now),
            Kind::PathProbe => {
                self.on_new_sent(plan, pool, now);
                self.on_path_probe_sent(plan.seq, plan.seq + plan.len);
            }
            Kind::Retransmission => self.on_sent_again(plan, now),
            Kind::TailProbe => self.on_tail_probe_sent(plan, pool, now),
            Kind::Alive => self.send.probe = Probe::None,
            Kind::Acknowledgement => {}
        }
    }

    /// What the window field just said.
    pub(super) fn note_advertised(&mut self, window: u16) {
        let told = self.receive.next + (u32::from(window) << self.receive.scale);
        self.receive.advertised = self.receive.advertised.max(told);
    }

    /// Every segment carries the acknowledgement. A peer without SACK counts duplicates: it gets each.
    pub(super) fn note_acknowledged(&mut self) {
        let receive = &mut self.receive;
        receive.last_acked = receive.next;
        receive.twice_len = 0;
        receive.duplicates = if self.send.sack_permitted { 0 } else { receive.duplicates.saturating_sub(1) };
        receive.ack_now = receive.duplicates > 0;
        self.deadlines.delayed_ack_at = super::connection::NEVER;
    }

    fn on_handshake_sent(&mut self, now: Instant) {
        self.send.probe = Probe::None;
        self.send.next = self.send.initial + 1;
        self.send.last_sent_at = now;
        if self.deadlines.loss == LossTimer::None {
            self.deadlines.set_loss(LossTimer::Retransmit, self.recovery.rtt.timeout_from(now));
        }
    }

    fn on_new_sent(&mut self, plan: Plan, pool: &mut Pool, now: Instant) {
        let end = plan.seq + plan.len + u32::from(plan.fin);
        let idle = self.send.flight() == 0;
        if idle {
            self.await_progress(now);
        }
        self.recovery.scoreboard.push(pool, plan.seq, end, now);
        self.send.longest.on_sent(plan.len, end);
        self.send.next = end;
        self.stamp(plan.seq, now);
        if plan.len > 0 {
            self.ecn.on_text_sent();
        }
        self.send.fin_sent |= plan.fin;
        self.send.last_sent_at = now;
        self.send.small_allowed = false;
        self.recovery.note_sent(plan.len);
        self.time_new_text(idle, now);
    }

    /// `idle`: nothing was in flight before it.
    pub(super) fn time_new_text(&mut self, idle: bool, now: Instant) {
        // RFC 6298 (5.1), and RFC 8985, section 7.2: a probe timeout counts from the last new segment, but ends no later
        // than the retransmission timeout of the first.
        match self.deadlines.loss {
            LossTimer::None | LossTimer::Persist => self.arm_loss_timer(None, now),
            LossTimer::TailProbe => {
                let last = self.retransmission_due();
                self.arm_loss_timer(None, now);
                self.deadlines.loss_at = self.deadlines.loss_at.min(last.max(now));
            }
            LossTimer::Retransmit | LossTimer::Reorder if idle => self.arm_loss_timer(None, now),
            LossTimer::Retransmit | LossTimer::Reorder => {}
        }
    }

    /// Each of its segments is lost, acknowledged and sent again for itself.
    fn on_long_sent(&mut self, plan: Plan, segment: NonZeroU16, pool: &mut Pool, now: Instant) {
        let end = plan.seq + plan.len;
        let mut seq = plan.seq;
        while seq.before(end) {
            let len = end.since(seq).min(segment.get().into());
            let fin = plan.fin && seq + len == end;
            self.on_new_sent(Plan { kind: Kind::New, seq, len, fin }, pool, now);
            seq += len;
        }
    }

    /// When the retransmission timer of the first segment in flight fires, or would.
    fn retransmission_due(&self) -> Instant {
        let first = self.recovery.scoreboard.first();
        first.map_or(super::connection::NEVER, |sent| self.recovery.rtt.timeout_from(sent.sent_at))
    }

    fn on_sent_again(&mut self, plan: Plan, now: Instant) {
        let end = plan.seq + plan.len + u32::from(plan.fin);
        self.recovery.scoreboard.on_retransmitted(plan.seq, end, now);
        self.recovery.retransmitted_segments += 1;
        self.stamp(plan.seq, now);
        self.recovery.note_sent(plan.len);
        self.recovery.note_sent_again((plan.seq, end), plan.seq == self.send.unacked, now);
        // RFC 6298 (5.1). What is sooner goes on: the reordering timer, a probe (RFC 8985, section 8).
        if matches!(self.deadlines.loss, LossTimer::None | LossTimer::Persist) {
            self.deadlines.set_loss(LossTimer::Retransmit, self.recovery.rtt.timeout_from(now));
        }
    }

    fn on_tail_probe_sent(&mut self, plan: Plan, pool: &mut Pool, now: Instant) {
        self.send.probe = Probe::None;
        let again = plan.seq != self.send.next;
        if again {
            self.on_sent_again(plan, now);
        } else {
            self.on_new_sent(plan, pool, now);
        }
        if self.recovery.phase == Phase::Open {
            let end = self.send.next;
            self.recovery.tail_probe = if again { TailProbe::Again(end) } else { TailProbe::New(end) };
        }
        self.deadlines.set_loss(LossTimer::Retransmit, self.recovery.rtt.timeout_from(now));
    }

    /// Where deliveries are measured, the segment that was just sent remembers when.
    fn stamp(&mut self, start: Seq, now: Instant) {
        let Recovery { control, scoreboard, .. } = &mut self.recovery;
        let Some(sampler) = control.sampler() else { return };
        let pipe = scoreboard.pipe(self.send.flight());
        if let Some((stamp, bytes)) = scoreboard.stamp(start) {
            *stamp = sampler.on_sent(bytes, pipe.saturating_sub(bytes), now);
        }
    }

    /// RFC 5681, section 4.1.
    fn restart_after_idle(&mut self, now: Instant) {
        if self.send.flight() > 0 || self.send.unsent() == 0 {
            return;
        }
        let Recovery { control, window, rtt, .. } = &mut self.recovery;
        let (idle, timeout) = (elapsed_nanos(now, self.send.last_sent_at), rtt.timeout_nanos());
        if control.owns_window() {
            control.algorithm().on_restart(now);
        } else if idle > timeout {
            window.restart_after_idle(idle, timeout);
        }
    }

    /// Text waits, nothing is in flight, and the peer's window is why (RFC 9293, section 3.8.6.1).
    fn arm_persist(&mut self, now: Instant) {
        let waits = self.send.flight() == 0 && self.send.unsent() > 0 && self.state.is_synchronized();
        if waits && self.deadlines.loss == LossTimer::None {
            if self.recovery.rtt.backoff() == 0 {
                self.await_progress(now);
            }
            self.deadlines.set_loss(LossTimer::Persist, self.recovery.rtt.timeout_from(now));
        }
    }
}
