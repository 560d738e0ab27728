//! Explicit congestion notification (RFC 3168): agreed in the handshake, marked on new text, echoed until answered.
//!
//! ```text
//!   sender ---- text, ECT(0) ----> queue that fills: CE ----> receiver
//!          <--- ECE on every acknowledgement until CWR -------
//!          ---- window reduced once a round trip, CWR on the next new text ---->
//! ```

use super::Ecn;
use super::header::Flags;
use super::sequence::Seq;

/// The two bits of the IP header (section 5).
pub(crate) const NOT_ECT: u8 = 0b00;
pub(crate) const ECT_0: u8 = 0b10;
pub(crate) const CE: u8 = 0b11;
/// Both flags: what makes a SYN an ECN-setup SYN (section 6.1.1).
const SETUP: Flags = Flags::ECE.with(Flags::CWR);

/// What the two sides agreed on, and what is under way.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Notification {
    /// What the user wants; turned down to `Off` when an ECN-setup SYN went unanswered.
    wish: Ecn,
    /// Our text carries ECT(0), and an echo lowers our window.
    pub sends: bool,
    /// The peer's text may carry ECT: marks on it are echoed.
    pub receives: bool,
    /// A mark arrived, and the peer has not said that it knows.
    pub echo: bool,
    /// Our window came down, and the peer has not been told.
    reduced: bool,
    /// The acknowledgement at hand echoes a mark: it widens no window (section 6.1.2).
    pub echoed: bool,
    /// The window has come down, and [`point`](Self::point) says when.
    lowered: bool,
    /// SND.NXT when the window came down last: echoes up to there are of the same congestion.
    point: Seq,
}

impl Notification {
    pub(crate) fn new(wish: Ecn) -> Self {
        Self {
            wish,
            sends: false,
            receives: false,
            echo: false,
            reduced: false,
            echoed: false,
            lowered: false,
            point: Seq(0),
        }
    }

    /// The window came down, for whatever reason: text sent before `next` was sent into the same congestion
    /// (section 6.1.2).
    pub(crate) fn on_reduced(&mut self, next: Seq) {
        if self.sends {
            (self.reduced, self.lowered, self.point) = (true, true, next);
        }
    }

    /// The congestion that an acknowledgement of `ack` tells of is one that the window came down for: text up to the point is
    /// still out. `next` is SND.NXT; a point that lies gigabytes behind is not beyond `ack` again when the numbers wrap.
    pub(crate) fn has_answered(&self, ack: Seq, next: Seq) -> bool {
        self.lowered && self.point.since(ack) <= next.since(ack)
    }

    /// The bits of new text, and whether it carries CWR. What is sent again, probes and what has no text carry none
    /// (sections 6.1.4 to 6.1.6).
    pub(crate) fn mark_text(&self) -> (u8, Flags) {
        match (self.sends, self.reduced) {
            (true, true) => (ECT_0, Flags::CWR),
            (true, false) => (ECT_0, Flags::default()),
            (false, _) => (NOT_ECT, Flags::default()),
        }
    }

    /// Neither CWR on the next new text nor an echo on every segment.
    pub(crate) fn has_nothing_to_tell(&self) -> bool {
        !self.reduced && !self.echo
    }

    pub(crate) fn on_text_sent(&mut self) {
        self.reduced = false;
    }

    /// On every segment after the handshake (section 6.1.3).
    pub(crate) fn echo_flag(&self) -> Flags {
        if self.echo { Flags::ECE } else { Flags::default() }
    }

    /// On our SYN, or our SYN with an acknowledgement (section 6.1.1).
    pub(crate) fn setup_flags(&self, first: bool) -> Flags {
        match (first, self.wish) {
            (true, Ecn::Active) => SETUP,
            (false, _) if self.receives => Flags::ECE,
            _ => Flags::default(),
        }
    }

    /// Section 6.1.1.1: an ECN-setup SYN may be what a middlebox does not let through. The next one is a plain one, and
    /// who sent such a one marks no text.
    pub(crate) fn on_syn_timeout(&mut self) {
        if self.wish == Ecn::Active {
            self.wish = Ecn::Off;
        }
    }

    /// The peer's SYN, without (`false`) or with an acknowledgement of ours (section 6.1.1).
    pub(crate) fn on_syn(&mut self, flags: Flags, acknowledges: bool) {
        if acknowledges {
            // Of a reply only ECE alone agrees: a host that reflects what it does not know would set both.
            self.receives = flags.has(Flags::ECE) && !flags.has(Flags::CWR);
            self.sends = self.receives && self.wish == Ecn::Active;
        } else {
            self.agree(flags.has(SETUP) && self.wish != Ecn::Off);
        }
    }

    /// The peer's SYN again, while ours with the acknowledgement is out: a plain one has fallen back (section 6.1.1.1),
    /// and whoever received one marks no text.
    pub(crate) fn on_syn_again(&mut self, flags: Flags) {
        self.sends &= flags.has(SETUP);
    }

    /// The connection is of a cookie that remembers what was agreed.
    pub(crate) fn resume(&mut self, agreed: bool) {
        self.agree(agreed && self.wish != Ecn::Off);
    }

    fn agree(&mut self, agreed: bool) {
        (self.receives, self.sends) = (agreed, agreed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_came_down_gigabytes_ago_is_no_answer_to_a_mark_of_today() {
        let mut notification = Notification::new(Ecn::Active);
        notification.sends = true;
        notification.on_reduced(Seq(1000));
        assert!(
            notification.has_answered(Seq(500), Seq(1500)) && notification.has_answered(Seq(1000), Seq(1500))
        );
        for ack in [1001, 1 << 30, (1 << 31) + 2000, u32::MAX - 100_000] {
            assert!(!notification.has_answered(Seq(ack), Seq(ack) + 90_000), "{ack}");
        }
    }
}
