//! New text in a run: the segments of one visit that differ in number and text alone. What they have in common is decided,
//! written and booked once for all of them. What is out of the ordinary, and what ends the run, is `output`'s.

use super::boundary::{Outgoing, Refused, SegmentSink};
use super::connection::{Connection, Phase, Probe, State};
use super::ecn::NOT_ECT;
use super::header::{Flags, MAX_HEADER, set_number_and_flags};
use super::memory::Pool;
use crate::Instant;

/// How a run ended.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Run {
    /// Segments that went out.
    pub sent: usize,
    /// The interface takes no more this turn.
    pub full: bool,
}

impl Connection {
    /// Sends new text, at most `most` segments, if that is all there is to send.
    pub(super) fn transmit_run(
        &mut self,
        sink: &mut dyn SegmentSink,
        pool: &mut Pool,
        most: usize,
        now: Instant,
    ) -> Run {
        let mut run = Run::default();
        if self.send.unsent() == 0 || !self.may_run() {
            return run;
        }
        let idle = self.send.flight() == 0;
        let window = self.window_field();
        let mut header = [0; MAX_HEADER];
        let length = self.plain_header(now).write(self.send.next, Flags::ACK, window, &mut header);
        let text_end = self.send.data_end();
        while run.sent < most
            && let Some(len) = self.next_in_run()
        {
            let (start, end) = (self.send.next, self.send.next + len);
            let flags = if end == text_end { Flags::ACK.with(Flags::PSH) } else { Flags::ACK };
            set_number_and_flags(&mut header, start, flags);
            let offset = start.since(self.send.data_start) as usize;
            let payload = self.send.ring.slices(offset, len as usize);
            let segment = Outgoing { header: &header[..length], payload, ecn: NOT_ECT };
            if sink.send(&segment) == Err(Refused::Full) {
                run.full = true;
                break;
            }
            run.sent += 1;
            self.recovery.scoreboard.push(pool, start, end, now);
            self.send.longest.on_sent(len, end);
            self.send.next = end;
            self.send.small_allowed = false;
        }
        if run.sent > 0 {
            self.note_advertised(window);
            self.note_acknowledged();
            self.send.last_sent_at = now;
            self.send.cwnd_limited = false;
            if idle {
                self.await_progress(now);
            }
            self.time_new_text(idle, now);
        }
        run
    }

    /// Nothing goes before new text or with it, and nobody asks of each segment when it left.
    fn may_run(&self) -> bool {
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

    /// Bytes of the next segment, if both windows take it and it is worth one.
    #[inline]
    fn next_in_run(&self) -> Option<u32> {
        let (send, recovery) = (&self.send, &self.recovery);
        let unsent = send.unsent();
        let len = unsent.min(recovery.window.mss).min(send.window_room());
        let pipe = recovery.scoreboard.pipe(send.flight());
        let fits = pipe == 0 || pipe + len <= recovery.window.congestion;
        let goes = len > 0
            && fits
            && (len >= recovery.window.mss || self.is_worth_sending(len, unsent))
            && recovery.scoreboard.len() < send.most_pieces();
        goes.then_some(len)
    }
}
