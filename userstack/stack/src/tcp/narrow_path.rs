//! What a connection keeps of a path that carries less than its link: `path_search` decides by it.

use super::sequence::Seq;
use crate::Instant;

/// What a connection knows of a path that carries less than its link.
#[derive(Debug)]
pub(crate) struct PathSearch {
    /// What is tried next, in IP bytes; not above the path's MTU: nothing.
    pub next: u16,
    /// Probes of that size that were lost.
    pub lost_probes: u8,
    /// When the link's own size is tried again.
    pub again_at: Instant,
    pub probe: Option<PathProbe>,
    /// An MTU that contradicts what was acknowledged, and the segment that it was said of (RFC 5927, section 7.2).
    pub doubted: Option<(u16, Seq)>,
}

/// A segment longer than the path is known to carry.
#[derive(Copy, Clone, Debug)]
pub(crate) struct PathProbe {
    pub start: Seq,
    pub end: Seq,
    pub mtu: u16,
    pub lost: bool,
}

/// The longest text that was sent, and whether it arrived.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct LongestText {
    pub sent: u16,
    pub sent_end: Seq,
    pub acked: u16,
}

impl LongestText {
    #[inline]
    pub(crate) fn on_sent(&mut self, len: u32, end: Seq) {
        if len > u32::from(self.sent) {
            (self.sent, self.sent_end) = (len as u16, end);
        }
    }

    #[inline]
    pub(crate) fn on_acked(&mut self, ack: Seq) {
        if self.acked < self.sent && ack.at_or_after(self.sent_end) {
            self.acked = self.sent;
        }
    }
}
