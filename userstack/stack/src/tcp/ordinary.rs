//! Header prediction: the next segment of an established stream, in order, within the window, nothing out of the ordinary
//! about it or about what it acknowledges. It does in one straight line what the steps of `arrival` and `acknowledge`
//! would do for it; whatever is not expected takes those steps.

use std::net::IpAddr;

use super::FlowKey;
use super::connection::{Connection, Effects, Phase, State};
use super::engine::Tcp;
use super::flows::Target;
use super::header::{Flags, Header, TIMESTAMPS_PATTERN, Timestamps};
use super::memory::Pool;
use super::rack::TailProbe;
use super::rtt::elapsed_nanos;
use super::segment::Segment;
use super::sequence::Seq;
use super::tuple::Tuple;
use crate::Instant;

/// What of ordinary segments differs from one to the next.
#[derive(Copy, Clone)]
pub(crate) struct Ordinary<'a> {
    seq: Seq,
    ack: Seq,
    window: u16,
    pushed: bool,
    timestamps: Option<Timestamps>,
    text: &'a [u8],
}

impl<'a> Ordinary<'a> {
    /// A header of 32 bytes, which ends with the timestamps option, and the text behind it. `None`: flags or options are
    /// others than ordinary ones'.
    #[inline(always)]
    pub(crate) fn read(header: &[u8; 32], text: &'a [u8]) -> Option<Self> {
        const WORDS: u8 = 8 << 4;
        let flags = Flags(header[13]);
        if header[12] != WORDS
            || flags.without(Flags::PSH) != Flags::ACK
            || header[20..24] != TIMESTAMPS_PATTERN
        {
            return None;
        }
        let number =
            |at: usize| u32::from_be_bytes(*header[at..].first_chunk().expect("four bytes are a number"));
        Some(Self {
            seq: Seq(number(4)),
            ack: Seq(number(8)),
            window: u16::from_be_bytes([header[14], header[15]]),
            pushed: flags.has(Flags::PSH),
            timestamps: Some(Timestamps { value: number(24), echo: number(28) }),
            text,
        })
    }

    /// A segment whose header was read by the rules, if its text lies in one piece.
    #[inline]
    pub(crate) fn of(segment: &Segment<'a>) -> Option<Self> {
        let text = segment.text.in_one().filter(|_| !segment.ce)?;
        Self::with_header(&segment.header, text)
    }

    #[inline(always)]
    pub(crate) fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// `None`: the header says more than that text comes in order.
    #[inline]
    pub(crate) fn with_header(header: &Header, text: &'a [u8]) -> Option<Self> {
        let plain = header.flags.without(Flags::PSH) == Flags::ACK && header.options.sack.is_empty();
        plain.then_some(Self {
            seq: header.seq,
            ack: header.ack,
            window: header.window,
            pushed: header.flags.has(Flags::PSH),
            timestamps: header.options.timestamps,
            text,
        })
    }
}

impl Tcp {
    /// The connection between two addresses and ports.
    pub(crate) fn look_up(&self, local: (IpAddr, u16), remote: (IpAddr, u16)) -> Option<FlowKey> {
        let Some(Target::Connection(slot)) = self.find(&Tuple::new(local.into(), remote.into())) else {
            return None;
        };
        Some(FlowKey { slot, life: self.connections.life(slot) })
    }

    /// True: the connection expected the segment, a header of 32 bytes and text, and has it. A life has one tuple, and none
    /// of another connection's while it is established.
    #[inline(never)]
    pub(crate) fn take_ordinary(
        &mut self,
        flow: FlowKey,
        header: &[u8; 32],
        text: &[u8],
        now: Instant,
    ) -> bool {
        let Some(segment) = &Ordinary::read(header, text) else { return false };
        let Some(connection) = self.connections.get_mut(flow.slot, flow.life) else { return false };
        if !connection.expects(segment, segment.text.len(), &mut self.pool) {
            return false;
        }
        connection.take_ordinary(segment, &mut self.pool, now);
        let effects = self.books.settle(connection, flow);
        debug_assert!(!effects.has(Effects::RARE), "an ordinary segment has ordinary effects");
        true
    }
}

impl Connection {
    /// Whether all of the steps would let it through unchanged, with so much text, and there is room for that.
    #[inline(always)]
    pub(crate) fn expects(&mut self, segment: &Ordinary<'_>, text_bytes: usize, pool: &mut Pool) -> bool {
        let (flight, advanced) = (self.send.flight(), segment.ack.since(self.send.unacked));
        matches!(self.state, State::Established)
            && segment.seq == self.receive.next
            && advanced <= flight
            && text_bytes <= self.receive.window() as usize
            && self.receive.assembler.is_empty()
            && self.receive.fin.is_none()
            && !self.user.orphan
            && self.expects_timestamps(segment.timestamps)
            && self.recovery.tail_probe == TailProbe::None
            && (flight == 0 || self.is_undisturbed(advanced))
            && self.receive.ring.reserve(pool, self.receive.ring.len() + text_bytes)
    }

    #[inline(always)]
    fn expects_timestamps(&self, timestamps: Option<Timestamps>) -> bool {
        match timestamps {
            Some(timestamps) => {
                self.timestamps.enabled && (timestamps.value.wrapping_sub(self.timestamps.recent) as i32) >= 0
            }
            None => !self.timestamps.enabled,
        }
    }

    /// What is in flight was sent once, nobody said that a part of it arrived or is lost, and who widens the window only
    /// counts bytes. A number acknowledged again counts only where a peer has no SACK to say why.
    #[inline(always)]
    fn is_undisturbed(&self, advanced: u32) -> bool {
        let recovery = &self.recovery;
        recovery.phase == Phase::Open
            && recovery.episode.is_none()
            && recovery.scoreboard.is_plain()
            && !recovery.control.owns_window()
            && self.send.search.is_none()
            && (advanced > 0 || self.send.sack_permitted)
    }

    #[inline(always)]
    pub(crate) fn take_ordinary(&mut self, segment: &Ordinary<'_>, pool: &mut Pool, now: Instant) {
        self.take_ordinary_header(segment, pool, now);
        if !segment.text.is_empty() {
            let ring = &mut self.receive.ring;
            ring.write_at(ring.len(), segment.text);
            ring.extend(segment.text.len());
            let len = segment.text.len() as u32;
            self.receive.next += len;
            self.on_text_in_order((len, len), false, segment.pushed, now);
        }
    }

    /// All that it says beside its text.
    #[inline(always)]
    pub(super) fn take_ordinary_header(&mut self, segment: &Ordinary<'_>, pool: &mut Pool, now: Instant) {
        self.note_heard(now);
        // RFC 7323, section 4.3: it is newer, as was looked at, and the next acknowledgement is for it.
        if let Some(Timestamps { value, echo }) = segment.timestamps
            && segment.seq.at_or_before(self.receive.last_acked)
        {
            (self.timestamps.recent, self.timestamps.recent_at) = (value, now);
            self.timestamps.echoed = echo;
        }
        self.update_window(segment.seq, segment.ack, segment.window);
        if segment.ack != self.send.unacked {
            self.take_plain_acknowledgement(segment.ack, pool, now);
        }
    }

    /// SND.UNA moves, and nothing else is to be learned than how long it took.
    fn take_plain_acknowledgement(&mut self, ack: Seq, pool: &mut Pool, now: Instant) {
        let (flight, advanced) = (self.send.flight(), ack.since(self.send.unacked));
        let recovery = &mut self.recovery;
        let delivered = recovery.scoreboard.acknowledge_plain(ack, pool);
        recovery.rtt.end_backoff();
        recovery.timeouts = 0;
        recovery.duplicate_acks = 0;
        recovery.duplicates_barred = false;
        if let Some(delivered) = &delivered {
            recovery.rack.on_delivered_in_order(delivered.newest_sent_at, delivered.end, now);
            recovery.rtt.note_min(elapsed_nanos(now, delivered.newest_sent_at), now);
            recovery.rtt.sample(elapsed_nanos(now, delivered.oldest_sent_at), now);
        }
        self.move_unacked(ack, pool, now);
        self.widen_window(advanced, delivered.map(|delivered| delivered.newest_sent_at), flight, now);
        self.arm_loss_timer(None, now);
        self.set_pace(flight);
        if self.has_to_send() {
            self.effects.add(Effects::TRANSMIT);
        }
    }

    /// Something waits for a window, or for its turn.
    pub(crate) fn has_to_send(&self) -> bool {
        self.send.unsent() > 0
            || self.send.fin_queued != self.send.fin_sent
            || self.recovery.scoreboard.lost_bytes() > 0
    }
}
