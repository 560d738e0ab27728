//! What marks do to a connection (RFC 3168): those that arrive, and those that the peer echoes.

use super::connection::{Connection, Phase};
use super::header::Flags;
use super::segment::Segment;
use crate::Instant;

impl Connection {
    /// A segment within the window carries text (section 6.1.3). CWR answers the marks before it, not its own.
    pub(crate) fn take_mark(&mut self, segment: &Segment<'_>) {
        if !self.ecn.receives || segment.text.is_empty() {
            return;
        }
        if segment.has(Flags::CWR) {
            self.ecn.echo = false;
        }
        if segment.ce && !std::mem::replace(&mut self.ecn.echo, true) {
            // The sooner the sender knows, the shorter the queue.
            self.acknowledge_now();
        }
    }

    /// Section 6.1.2, before the acknowledgement is taken: as a loss, once a window of text, and nothing is sent again.
    /// What recovery or a timeout lowered already is not lowered twice.
    pub(crate) fn take_echo(&mut self, segment: &Segment<'_>, now: Instant) {
        self.ecn.echoed = self.ecn.sends && segment.has(Flags::ECE);
        let recovery = &mut self.recovery;
        if !self.ecn.echoed
            || recovery.phase != Phase::Open
            || self.ecn.has_answered(segment.header.ack, self.send.next)
        {
            return;
        }
        recovery.control.algorithm().on_mark(&mut recovery.window, self.send.flight(), now);
        if !recovery.control.owns_window() {
            recovery.window.congestion = recovery.window.congestion.min(recovery.window.threshold);
        }
        self.ecn.on_reduced(self.send.next);
    }
}
