//! What one loss recovery remembers of itself. It lies apart from the connection, since most are not in one, and stays
//! for a round trip after the recovery ended: that long the peer may still report what was sent again as duplicate.

use super::frto::Forward;
use super::reduction::Reduction;
use super::rtt::Rtt;
use super::sequence::Seq;
use super::undo::Undo;

#[derive(Clone, Debug, Default)]
pub(crate) struct Episode {
    pub reduction: Reduction,
    pub forward: Forward,
    pub undo: Undo,
    /// SND.NXT when the recovery ended.
    ended_at: Option<Seq>,
    /// SRTT_prev and RTTVAR_prev (RFC 4015, section 3.2, step 0).
    rtt_before: Rtt,
    /// SND.NXT when the timeout was found spurious: what is sent after it measures the path anew.
    adapt_from: Option<Seq>,
}

impl Episode {
    /// Fast recovery begins with `flight` in the network.
    pub(crate) fn of_loss(flight: u32) -> Self {
        Self { reduction: Reduction::new(flight), undo: Undo::new(false), ..Self::default() }
    }

    /// The retransmission timer fired.
    pub(crate) fn of_timeout(forward: Forward, rtt: &Rtt) -> Self {
        Self { forward, undo: Undo::new(true), rtt_before: *rtt, ..Self::default() }
    }

    pub(crate) fn end(&mut self, next: Seq) {
        self.forward = Forward::Off;
        self.ended_at = Some(next);
    }

    /// What was sent since the recovery ended is acknowledged: no report of it comes any more.
    pub(crate) fn is_over(&self, unacked: Seq) -> bool {
        self.ended_at.is_some_and(|ended| unacked.after(ended))
    }

    pub(crate) fn adapt_from(&mut self, next: Seq) {
        self.adapt_from = Some(next);
    }

    /// The estimate of before the spurious timeout, once something newer than it is delivered (RFC 4015, section 3.2,
    /// step 10).
    pub(crate) fn take_rtt_before(&mut self, delivered_end: Option<Seq>) -> Option<Rtt> {
        let (from, end) = self.adapt_from.zip(delivered_end)?;
        end.after(from).then(|| {
            self.adapt_from = None;
            self.rtt_before
        })
    }
}
