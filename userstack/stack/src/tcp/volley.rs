//! New text in a volley: the segments of one visit that differ in number and text alone. What they have in common is decided,
//! written and booked once for all of them. What is out of the ordinary, and what ends the volley, is `output`'s.

use super::boundary::{Outgoing, Refused, SegmentSink};
use super::connection::{Connection, Phase, Probe, State};
use super::ecn::NOT_ECT;
use super::header::{Flags, MAX_HEADER, set_number_and_flags};
use super::memory::Pool;
use crate::Instant;

/// How a volley ended.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Volley {
    /// Segments that went out.
    pub sent: usize,
    /// The interface takes no more this turn.
    pub full: bool,
}

impl Connection {
    /// Sends new text, at most `most` segments, or an acknowledgement alone, if that is all there is to send.
    pub(super) fn transmit_volley(
        &mut self,
        sink: &mut dyn SegmentSink,
        pool: &mut Pool,
        most: usize,
        now: Instant,
    ) -> Volley {
        let mut volley = Volley::default();
        if (self.send.unsent() == 0 && !self.receive.ack_now) || !self.may_volley() {
            return volley;
        }
        let idle = self.send.flight() == 0;
        let window = self.window_field();
        let mut header = [0; MAX_HEADER];
        let length = self.plain_header(now).write(self.send.next, Flags::ACK, window, &mut header);
        if self.send.unsent() == 0 {
            let segment = Outgoing {
                header: &header[..length],
                payload: [&[], &[]],
                ecn: NOT_ECT,
                segment_bytes: None,
            };
            if most > 0 {
                volley.note(sink.send(&segment));
            }
        } else {
            let mut room = self.room();
            while volley.sent < most
                && let Some(len) = self.next_in_volley(&mut room)
            {
                let (start, end) = (self.send.next, self.send.next + len);
                let flags = if room.unsent == 0 { Flags::ACK.with(Flags::PSH) } else { Flags::ACK };
                set_number_and_flags(&mut header, start, flags);
                let offset = start.since(self.send.data_start) as usize;
                let payload = self.send.ring.slices(offset, len as usize);
                let segment =
                    Outgoing { header: &header[..length], payload, ecn: NOT_ECT, segment_bytes: None };
                if !volley.note(sink.send(&segment)) {
                    break;
                }
                self.recovery.scoreboard.push(pool, start, end, now);
                self.send.longest.on_sent(len, end);
                self.send.next = end;
                self.send.small_allowed = false;
            }
            if volley.sent > 0 {
                self.book_text(idle, now);
            }
        }
        if volley.sent > 0 {
            self.note_advertised(window);
            self.note_acknowledged();
        }
        volley
    }

    fn book_text(&mut self, idle: bool, now: Instant) {
        self.send.last_sent_at = now;
        self.send.cwnd_limited = false;
        if idle {
            self.await_progress(now);
        }
        self.time_new_text(idle, now);
    }

    /// Nothing goes before new text or with it, and nobody asks of each segment when it left.
    #[inline]
    fn may_volley(&self) -> bool {
        let recovery = &self.recovery;
        matches!(self.state, State::Established | State::CloseWait)
            && recovery.phase == Phase::Open
            && recovery.scoreboard.lost_bytes() == 0
            && recovery.pacer.is_idle()
            && !recovery.control.owns_window()
            && self.send.probe == Probe::None
            && self.send.search.is_none()
            && !self.send.fin_queued
            && !self.ecn.sends
            && !self.ecn.echo
            && self.receive.duplicates == 0
            && !self.has_sack_to_tell()
    }

    fn room(&self) -> Room {
        let (send, recovery) = (&self.send, &self.recovery);
        let pipe = recovery.scoreboard.pipe(send.flight());
        Room {
            unsent: send.unsent(),
            window: send.window_room(),
            congestion: recovery.window.congestion.saturating_sub(pipe),
            empty: pipe == 0,
            pieces: send.most_pieces().saturating_sub(recovery.scoreboard.len()),
        }
    }

    /// Bytes of the next segment, if both windows take it and it is worth one; they are no more in `room`.
    #[inline(always)]
    fn next_in_volley(&self, room: &mut Room) -> Option<u32> {
        let mss = self.recovery.window.mss;
        let len = room.unsent.min(mss).min(room.window);
        let goes = len > 0
            && (len <= room.congestion || room.empty)
            && (len == mss || self.is_worth_sending(len, room.unsent))
            && room.pieces > 0;
        if !goes {
            return None;
        }
        room.unsent -= len;
        room.window -= len;
        room.congestion = room.congestion.saturating_sub(len);
        room.pieces -= 1;
        room.empty = false;
        Some(len)
    }
}

/// What text may still go in a volley.
struct Room {
    unsent: u32,
    /// Of the peer's window, and of the congestion window.
    window: u32,
    congestion: u32,
    /// Nothing is in the network: whatever the window, one segment goes.
    empty: bool,
    /// Segments more that may be in flight.
    pieces: usize,
}

impl Volley {
    /// A segment was offered. One that IP could not place counts as sent: its timer sends it again. False: it was not
    /// taken.
    #[inline(always)]
    fn note(&mut self, taken: Result<(), Refused>) -> bool {
        self.full = taken == Err(Refused::Full);
        self.sent += usize::from(!self.full);
        !self.full
    }
}
