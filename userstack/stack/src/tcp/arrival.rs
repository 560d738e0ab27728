//! A segment arrives for a connection: RFC 9293, section 3.10.7.3 (SYN-SENT) and 3.10.7.4 (the other states), in the
//! RFC's own order and numbers.

use super::connection::{Connection, Effects, MIN_MSS, State};
use super::cookie::Remembered;
use super::header::{Flags, Timestamps};
use super::memory::Pool;
use super::ordinary::Ordinary;
use super::path_search::segment_size;
use super::rack::Rack;
use super::round_meter::RoundMeter;
use super::rtt::{elapsed_nanos, later};
use super::segment::Segment;
use super::sequence::Seq;
use super::{TcpError, congestion};
use crate::{Discard, Instant};

/// Linux's TCP_DELACK_MIN; RFC 1122 (4.2.3.2) allows 500 ms.
const DELAYED_ACK_NANOS: u64 = 40_000_000;
/// How long the acknowledgement of a whole request waits for the answer that carries it. Long enough for a proxy and the
/// server behind it, short enough for a peer whose Nagle algorithm holds the second half back until the first is
/// acknowledged.
const REQUEST_ACK_NANOS: u64 = 5_000_000;
/// RFC 7323, section 5.5: a timestamp older than this proves nothing.
const PAWS_LIFE_NANOS: u64 = 24 * 24 * 3600 * 1_000_000_000;

impl Connection {
    pub(crate) fn on_segment(
        &mut self,
        segment: &Segment<'_>,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<(), Discard> {
        if let Some(ordinary) = Ordinary::of(segment)
            && self.expects(&ordinary, ordinary.text_bytes(), pool)
        {
            self.take_ordinary(&ordinary, pool, now);
            return Ok(());
        }
        match self.state {
            State::SynSent => self.on_segment_in_syn_sent(segment, pool, now),
            State::Closed(_) => Err(Discard::TcpNoFlow),
            _ => self.on_segment_otherwise(segment, pool, now),
        }
    }

    // ---- 3.10.7.3: SYN-SENT ----

    fn on_segment_in_syn_sent(
        &mut self,
        segment: &Segment<'_>,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<(), Discard> {
        let header = &segment.header;
        // First: the ACK bit.
        if header.flags.has(Flags::ACK) && header.ack != self.send.next {
            if !header.flags.has(Flags::RST) {
                self.effects.add(Effects::ANSWER_RESET);
            }
            return Err(Discard::TcpAckInvalid);
        }
        // Second: the RST bit. Without an ACK of our SYN it is a guess.
        if header.flags.has(Flags::RST) {
            if !header.flags.has(Flags::ACK) {
                return Err(Discard::TcpResetInvalid);
            }
            self.finish(Some(TcpError::Refused), pool);
            return Ok(());
        }
        // Third: security is not ours. Fourth: the SYN bit.
        if !header.flags.has(Flags::SYN) {
            return Err(Discard::TcpUnexpected);
        }
        self.take_syn(segment, now);
        if header.flags.has(Flags::ACK) {
            self.note_heard(now);
            self.establish(segment, now);
            self.acknowledge_now();
            // Fifth: what the SYN-ACK carries beside is queued as any text.
            let rest = past_syn(segment);
            let text = self.take_text(&rest, pool, now);
            self.take_fin(&rest, now);
            return text;
        }
        // Simultaneous open: our SYN goes out again, with an acknowledgement of theirs.
        self.state = State::SynReceived { active: true };
        self.acknowledge_now();
        Ok(())
    }

    /// What the peer's SYN says of it and of the options.
    pub(crate) fn take_syn(&mut self, segment: &Segment<'_>, now: Instant) {
        let header = &segment.header;
        let options = &header.options;
        self.receive.next = header.seq + 1;
        self.receive.last_acked = self.receive.next;
        self.receive.advertised = self.receive.next + self.receive.syn_window();
        self.receive.meter = RoundMeter::new(self.receive.next);
        if options.mss.is_some_and(|mss| mss < MIN_MSS) {
            self.effects.add(Effects::MSS_RAISED);
        }
        self.send.peer_mss = options.mss.map_or(self.send.peer_mss, |mss| mss.max(MIN_MSS));
        self.send.sack_permitted = options.sack_permitted;
        self.ecn.on_syn(header.flags, header.flags.has(Flags::ACK));
        match options.window_scale {
            Some(shift) => self.send.scale = shift,
            // Both sides scale or none (RFC 7323, section 2.2).
            None => self.receive.scale = 0,
        }
        self.timestamps.enabled = options.timestamps.is_some();
        if let Some(Timestamps { value, .. }) = options.timestamps {
            (self.timestamps.recent, self.timestamps.recent_at) = (value, now);
        }
        // The window of a SYN is never scaled (RFC 7323, section 2.2).
        self.send.window = u32::from(header.window);
        self.send.max_window = self.send.window;
        self.send.window_seq = header.seq;
        self.send.window_ack = header.ack;
    }

    /// As if the SYN that `cookie` remembers had just been answered: `segment` is the acknowledgement of that answer.
    pub(crate) fn resume(
        &mut self,
        iss: Seq,
        irs: Seq,
        cookie: &Remembered,
        segment: &Segment<'_>,
        now: Instant,
    ) {
        let mut syn = *segment;
        syn.header.seq = irs;
        syn.header.options.mss = Some(cookie.mss);
        syn.header.options.window_scale = cookie.window_scale;
        syn.header.options.sack_permitted = cookie.sack_permitted;
        (self.send.initial, self.send.unacked) = (iss, iss);
        (self.send.next, self.send.data_start) = (iss + 1, iss + 1);
        self.take_syn(&syn, now);
        self.user.by_cookie = true;
        self.ecn.resume(cookie.ecn);
        // The round trip of the handshake was not measured.
        self.recovery.timeouts = 1;
    }

    /// Our SYN is acknowledged.
    fn establish(&mut self, segment: &Segment<'_>, now: Instant) {
        if self.recovery.timeouts == 0 {
            self.recovery.rtt.sample(elapsed_nanos(now, self.send.last_sent_at), now);
        }
        self.send.unacked = self.send.initial + 1;
        self.recovery.rack = Rack::new(self.send.unacked);
        self.recovery.rtt.on_established();
        let syn_lost = self.recovery.timeouts > 1;
        self.recovery.timeouts = 0;
        self.recovery.duplicate_acks = 0;
        self.deadlines.clear_loss();
        self.limit_segments();
        self.recovery.window = congestion::Window::new(self.recovery.window.mss);
        if syn_lost {
            // RFC 6928, section 2: a lost SYN is a sign of congestion.
            self.recovery.window.congestion = self.recovery.window.mss;
        }
        if !segment.has(Flags::SYN) {
            self.send.window = u32::from(segment.header.window) << self.send.scale;
        }
        self.send.max_window = self.send.max_window.max(self.send.window);
        self.send.window_seq = segment.header.seq;
        self.send.window_ack = segment.header.ack;
        let passive = matches!(self.state, State::SynReceived { active: false });
        self.state = if self.send.fin_queued { State::FinWait1 } else { State::Established };
        self.set_keepalive(now);
        self.effects.add(if passive { Effects::ACCEPTABLE } else { Effects::CONNECTED });
        self.effects.add(Effects::WRITABLE);
        self.effects.add(Effects::TRANSMIT);
    }

    // ---- 3.10.7.4: the other states ----

    fn on_segment_otherwise(
        &mut self,
        segment: &Segment<'_>,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<(), Discard> {
        let past_syn = self.is_crossing_syn_ack(segment).then(|| past_syn(segment));
        let segment = past_syn.as_ref().unwrap_or(segment);
        self.check_timestamp(segment, now)?; // first, RFC 7323 section 5.3, R1
        self.check_sequence(segment, now)?; // first
        if self.take_reset(segment, pool, now)? {
            return Ok(()); // second; third: security is not ours
        }
        self.check_syn(segment, now)?; // fourth
        self.note_heard(now);
        if let Some(timestamps) = segment.header.options.timestamps {
            self.note_timestamp(segment.header.seq, timestamps, now); // RFC 7323 section 5.3, R3
        }
        self.check_acknowledgement(segment, pool, now)?; // fifth
        self.take_mark(segment);
        // Sixth: urgent bytes are ordinary bytes (RFC 6093).
        let text = self.take_text(segment, pool, now); // seventh
        self.take_fin(segment, now); // eighth
        text
    }

    /// In a simultaneous open both SYNs are acknowledged by SYNs (RFC 9293, figure 8, line 6).
    fn is_crossing_syn_ack(&self, segment: &Segment<'_>) -> bool {
        matches!(self.state, State::SynReceived { active: true })
            && segment.has(Flags::SYN.with(Flags::ACK))
            && segment.header.seq + 1 == self.receive.next
            && segment.header.ack == self.send.next
    }

    /// PAWS (RFC 7323, section 5): an old duplicate has an old timestamp. A reset is not subject to it (5.2).
    fn check_timestamp(&mut self, segment: &Segment<'_>, now: Instant) -> Result<(), Discard> {
        if !self.timestamps.enabled || segment.has(Flags::RST) {
            return Ok(());
        }
        // Once negotiated, every segment but a reset carries one (RFC 7323, section 3.2).
        let Timestamps { value, .. } =
            segment.header.options.timestamps.ok_or(Discard::TcpTimestampMissing)?;
        let older = (value.wrapping_sub(self.timestamps.recent) as i32) < 0;
        if older && elapsed_nanos(now, self.timestamps.recent_at) < PAWS_LIFE_NANOS {
            self.challenge(now);
            return Err(Discard::TcpTimestampOld);
        }
        Ok(())
    }

    /// First: the four cases of acceptability (RFC 9293, section 3.10.7.4).
    fn check_sequence(&mut self, segment: &Segment<'_>, now: Instant) -> Result<(), Discard> {
        let (seq, len, window) = (segment.header.seq, segment.len(), self.receive.window());
        let in_window =
            |seq: Seq| seq.at_or_after(self.receive.next) && seq.since(self.receive.next) < window;
        let acceptable = match (len, window) {
            // A closed window still takes acknowledgements and resets; the text is cut off later.
            (_, 0) => seq == self.receive.next,
            // A peer that filled our window and lost all of it acknowledges from the window's end: what it says of our
            // text counts (Linux too takes it).
            (0, _) => in_window(seq) || (seq == self.receive.advertised && !segment.has(Flags::RST)),
            (_, _) => in_window(seq) || in_window(segment.end() - 1) || self.spans_window(segment),
        };
        if acceptable {
            return Ok(());
        }
        if segment.has(Flags::RST) {
            return Err(Discard::TcpResetInvalid);
        }
        if len > 0 && segment.end().at_or_before(self.receive.next) {
            if matches!(self.state, State::SynReceived { .. }) && segment.has(Flags::SYN) {
                self.ecn.on_syn_again(segment.header.flags);
            }
            // A retransmission: our acknowledgement was lost.
            if !segment.has(Flags::SYN) {
                self.receive.note_twice(seq, segment.end());
            }
            self.acknowledge_now();
            return Err(Discard::TcpDuplicate);
        }
        // Two sides that disagree would answer each other for ever: this is bounded.
        self.challenge(now);
        let probes = segment.header.seq + 1 == self.receive.next && len == 0;
        Err(if probes { Discard::TcpProbe } else { Discard::TcpOutOfWindow })
    }

    /// It begins before the window, ends behind it, and is as long as that takes: half the numbers away each of the two
    /// comparisons alone holds as well.
    fn spans_window(&self, segment: &Segment<'_>) -> bool {
        segment.header.seq.before(self.receive.next)
            && segment.end().after(self.receive.advertised)
            && self.receive.next.since(segment.header.seq) < segment.len()
    }

    /// Second: RFC 5961, section 3.2. Only the exact number resets; true when it did.
    fn take_reset(&mut self, segment: &Segment<'_>, pool: &mut Pool, now: Instant) -> Result<bool, Discard> {
        if !segment.has(Flags::RST) {
            return Ok(false);
        }
        if segment.header.seq != self.receive.next {
            self.challenge(now);
            return Err(Discard::TcpResetChallenged);
        }
        let error = match self.state {
            State::SynReceived { .. } => Some(TcpError::Refused),
            // Both sides have said all: nothing is lost (RFC 9293: CLOSING, LAST-ACK).
            State::Closing | State::LastAck => None,
            _ => Some(TcpError::Reset),
        };
        self.finish(error, pool);
        Ok(true)
    }

    /// Fourth: RFC 5961, section 4.2.
    fn check_syn(&mut self, segment: &Segment<'_>, now: Instant) -> Result<(), Discard> {
        if !segment.has(Flags::SYN) {
            return Ok(());
        }
        if matches!(self.state, State::SynReceived { .. }) && segment.header.seq + 1 == self.receive.next {
            // The same SYN again. Its text, which made it acceptable, is left to a segment that acknowledges ours.
            self.acknowledge_now();
            return Err(Discard::TcpDuplicate);
        }
        self.challenge(now);
        Err(Discard::TcpSynChallenged)
    }

    /// Fifth: the ACK field.
    fn check_acknowledgement(
        &mut self,
        segment: &Segment<'_>,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<(), Discard> {
        if !segment.has(Flags::ACK) {
            return Err(Discard::TcpAckMissing);
        }
        let ack = segment.header.ack;
        if matches!(self.state, State::SynReceived { .. }) {
            if !(ack.after(self.send.unacked) && ack.at_or_before(self.send.next)) {
                self.effects.add(Effects::ANSWER_RESET);
                return Err(Discard::TcpAckInvalid);
            }
            self.establish(segment, now);
        }
        // RFC 5961, section 5.2: what acknowledges too much or too old is challenged.
        let oldest = self.send.unacked - self.send.max_window;
        if ack.after(self.send.next) || ack.before(oldest) {
            self.challenge(now);
            return Err(Discard::TcpAckInvalid);
        }
        if ack.at_or_after(self.send.unacked) {
            let window_changed = self.update_window(segment.header.seq, ack, segment.header.window);
            self.take_echo(segment, now);
            self.take_acknowledgement(segment, window_changed, pool, now);
            self.ecn.echoed = false;
        }
        self.advance_closing(now, pool)
    }

    /// The states in which an acknowledgement of our FIN moves on.
    fn advance_closing(&mut self, now: Instant, pool: &mut Pool) -> Result<(), Discard> {
        if !self.fin_acknowledged() {
            return Ok(());
        }
        match self.state {
            State::FinWait1 => {
                self.state = State::FinWait2;
                self.set_linger(now);
            }
            State::Closing => self.enter_time_wait(),
            State::LastAck => self.finish(None, pool),
            _ => {}
        }
        Ok(())
    }

    /// Seventh: the segment's text, as far as the window takes it.
    fn take_text(&mut self, segment: &Segment<'_>, pool: &mut Pool, now: Instant) -> Result<(), Discard> {
        if segment.text.is_empty() || !self.state.receives() || self.receive.finished() {
            return Ok(());
        }
        let start = segment.header.seq.max(self.receive.next);
        let text_end = segment.header.seq + segment.text.len();
        let end = text_end.min(self.receive.advertised).min(self.receive.fin.unwrap_or(text_end));
        if segment.header.seq.before(start) {
            self.receive.note_twice(segment.header.seq, start.min(text_end));
        }
        if !start.before(end) {
            self.acknowledge_now();
            let beyond = text_end.after(self.receive.next);
            return Err(if beyond { Discard::TcpOutOfWindow } else { Discard::TcpDuplicate });
        }
        if self.user.orphan {
            // Nobody will read it: the peer must know (RFC 1122, section 4.2.2.13).
            self.reset(Some(TcpError::Reset), pool);
            return Err(Discard::TcpAfterClose);
        }
        let (skip, len) = (start.since(segment.header.seq), end.since(start));
        if start == self.receive.next {
            self.take_in_order(segment, skip, len, pool, now)
        } else {
            self.take_out_of_order(segment, start, len, pool)
        }
    }

    fn take_in_order(
        &mut self,
        segment: &Segment<'_>,
        skip: u32,
        len: u32,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<(), Discard> {
        let receive = &mut self.receive;
        let at = receive.ring.len();
        if !receive.ring.reserve(pool, at + len as usize) {
            return Err(Discard::TcpMemory);
        }
        segment.text.part(skip, len).copy_to(&mut receive.ring, at);
        let mut next = receive.next + len;
        let filled = !receive.assembler.is_empty();
        if filled {
            if let Some((left, right)) = receive.assembler.overlap(receive.next, next) {
                receive.note_twice(left, right);
            }
            next = receive.assembler.advance(next);
        }
        receive.ring.extend(next.since(receive.next) as usize);
        receive.next = next;
        self.on_text_in_order((len, len), filled, segment.has(Flags::PSH), now);
        Ok(())
    }

    /// `len` bytes more, in segments of `longest` at most, lie before what is missing, and all behind them where they `filled`
    /// a hole.
    #[inline(always)]
    pub(super) fn on_text_in_order(
        &mut self,
        (len, longest): (u32, u32),
        filled: bool,
        pushed: bool,
        now: Instant,
    ) {
        let receive = &mut self.receive;
        if longest > u32::from(receive.segment_size) {
            // A neighbour's super-packet is many segments: it counts as one of the size that we announced.
            let announced = segment_size(self.send.link_mtu, self.tuple.is_v6());
            receive.segment_size = longest.min(u32::from(announced)) as u16;
        }
        self.effects.add(Effects::READABLE);
        self.schedule_ack(filled, pushed && len < self.recovery.window.mss, now);
    }

    /// RFC 5681, section 4.2: every second full segment, and at once when a hole is filled. In the beginning every one,
    /// so that the peer's slow start is not held up; but a short segment that ends what was pushed is a whole request,
    /// after which the peer has nothing to send that could be held up.
    #[inline(always)]
    fn schedule_ack(&mut self, filled: bool, pushed: bool, now: Instant) {
        let receive = &mut self.receive;
        let quick = receive.quick_acks > 0;
        let whole_request =
            pushed && receive.unacknowledged() < self.recovery.window.mss && !self.send.fin_queued;
        let due =
            receive.unacknowledged() >= 2 * u32::from(receive.segment_size) && !(quick && whole_request);
        if filled || due || (quick && !whole_request) {
            receive.quick_acks = receive.quick_acks.saturating_sub(1);
            self.acknowledge_now();
        } else if !receive.ack_now {
            let wait = if quick { REQUEST_ACK_NANOS } else { DELAYED_ACK_NANOS };
            self.deadlines.delayed_ack_at = self.deadlines.delayed_ack_at.min(later(now, wait));
        }
    }

    fn take_out_of_order(
        &mut self,
        segment: &Segment<'_>,
        start: Seq,
        len: u32,
        pool: &mut Pool,
    ) -> Result<(), Discard> {
        // RFC 5681, section 4.2: at once, so that the peer learns of the hole.
        self.acknowledge_now();
        let receive = &mut self.receive;
        receive.duplicates = receive.duplicates.saturating_add(1);
        let at = receive.ring.len() + start.since(receive.next) as usize;
        if !receive.ring.reserve(pool, at + len as usize) {
            return Err(Discard::TcpMemory);
        }
        if let Some((left, right)) = receive.assembler.overlap(start, start + len) {
            receive.note_twice(left, right);
        }
        if receive.assembler.add(start, start + len, receive.ring.capacity()).is_err() {
            return Err(Discard::TcpOutOfOrderFull);
        }
        let skip = start.since(segment.header.seq);
        segment.text.part(skip, len).copy_to(&mut receive.ring, at);
        Ok(())
    }

    /// Eighth: the FIN bit.
    fn take_fin(&mut self, segment: &Segment<'_>, now: Instant) {
        if !self.state.receives() {
            return;
        }
        let fin = segment.end() - 1;
        if segment.has(Flags::FIN) && self.receive.fin.is_none() && fin.at_or_before(self.receive.advertised)
        {
            self.receive.fin = Some(fin);
        }
        if self.receive.fin != Some(self.receive.next) {
            return;
        }
        self.receive.next += 1;
        self.acknowledge_now();
        self.effects.add(Effects::READABLE);
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 if !self.fin_acknowledged() => self.state = State::Closing,
            _ => self.enter_time_wait(),
        }
        self.set_linger(now);
    }

    /// The four numbers rest from here on; the user may still read.
    fn enter_time_wait(&mut self) {
        self.effects.add(Effects::TIME_WAIT);
    }

    // ---- what several steps share ----

    #[inline]
    pub(super) fn note_heard(&mut self, now: Instant) {
        self.user.last_heard_at = now;
        self.user.unanswered_probes = 0;
    }

    /// RFC 7323, section 4.3: the timestamp to echo is that of the segment that the next acknowledgement is for.
    #[inline]
    pub(super) fn note_timestamp(&mut self, seq: Seq, timestamps: Timestamps, now: Instant) {
        let newer = (timestamps.value.wrapping_sub(self.timestamps.recent) as i32) >= 0;
        let aged = elapsed_nanos(now, self.timestamps.recent_at) >= PAWS_LIFE_NANOS;
        if self.timestamps.enabled && (newer || aged) && seq.at_or_before(self.receive.last_acked) {
            (self.timestamps.recent, self.timestamps.recent_at) = (timestamps.value, now);
            self.timestamps.echoed = timestamps.echo;
        }
    }

    /// RFC 9293, section 3.10.7.4, fifth step: a window that is newer than ours. True when it changed.
    #[inline(always)]
    pub(super) fn update_window(&mut self, seq: Seq, ack: Seq, window: u16) -> bool {
        let send = &mut self.send;
        let newer =
            send.window_seq.before(seq) || (send.window_seq == seq && send.window_ack.at_or_before(ack));
        if !newer {
            return false;
        }
        (send.window_seq, send.window_ack) = (seq, ack);
        let window = u32::from(window) << send.scale;
        let before = std::mem::replace(&mut send.window, window);
        send.max_window = send.max_window.max(window);
        if window > before && self.has_to_send() {
            self.effects.add(Effects::TRANSMIT);
        }
        if window == 0 {
            self.note_closed_window();
        }
        window != before
    }

    /// A peer that took its window back while text was under way does not take that text, but it answers: it may do so
    /// for ever (RFC 9293, sections 3.8.6 and 3.8.6.1), and no timeout counts as silence.
    fn note_closed_window(&mut self) {
        self.recovery.timeouts = self.recovery.timeouts.min(1);
    }
}

/// The segment as it would be without its SYN.
fn past_syn<'a>(segment: &Segment<'a>) -> Segment<'a> {
    let mut rest = *segment;
    rest.header.flags = segment.header.flags.without(Flags::SYN);
    rest.header.seq += 1;
    rest
}
