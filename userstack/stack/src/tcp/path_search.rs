//! What the path carries: less than its first link, when ICMP says so (RFC 1191, RFC 8201) or when long segments vanish
//! without a word (RFC 4821, section 7.7), and more again when a longer segment arrives that was tried.
//!
//! ```text
//!   too big  --believed?--> narrow --10 minutes--> probe --acknowledged--> wider
//!   timeouts ------------->    |  (a black hole: at once)   |
//!                              +<---------lost-------------+   (the next smaller size that links usually have)
//! ```
//!
//! A connection on a path that carries what its link does has none of this.

use std::time::Duration;

use super::connection::{Connection, Effects, Phase};
use super::header::{MIN_HEADER, TIMESTAMPS_LEN};
use super::narrow_path::{LongestText, PathProbe, PathSearch};
use super::sequence::Seq;
use crate::{Discard, Instant};

/// Bytes of an IP header without options, and of a TCP one (RFC 6691: options are not counted in an MSS).
const HEADERS_V4: u16 = 20 + MIN_HEADER as u16;
const HEADERS_V6: u16 = 40 + MIN_HEADER as u16;
/// Least path MTU that an ICMP error may claim of IPv4: below it the error is taken as this (RFC 1191, section 3; Linux's
/// min_pmtu).
const MIN_PATH_MTU_V4: u16 = 552;
/// No link of IPv6 carries less: an error that says so is none (RFC 8200, section 5; RFC 8201, section 4).
const MIN_PATH_MTU_V6: u16 = 1280;
/// When a path is tried for more again (RFC 1191, section 6.3; RFC 8201, section 5.3; RFC 8899, section 5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);
/// Timeouts of one segment after which its length is blamed (Linux's tcp_retries1; RFC 8899's MAX_PROBES), and what is
/// tried then: what nearly every path carries (RFC 8200, section 5), and where not even that arrives, the least there is.
const BLACK_HOLE_V4: [(u8, u16); 2] = [(3, 1280), (6, MIN_PATH_MTU_V4)];
const BLACK_HOLE_V6: [(u8, u16); 1] = [(3, MIN_PATH_MTU_V6)];
/// Losses of one size that are not put down to chance (RFC 8899, section 5.1.2: MAX_PROBES).
const MAX_PROBES: u8 = 3;
/// Segments that follow a probe, so that their acknowledgements show its loss (RFC 8985).
const FOLLOWERS: u32 = 3;
/// Sizes worth a probe: jumbo frames, Ethernet, and Ethernet less PPPoE, VXLAN, WireGuard and other tunnels.
const USUAL_MTUS: [u16; 7] = [9000, 1500, 1492, 1450, 1420, 1400, 1280];

impl Connection {
    /// The path or the peer's MSS changed.
    pub(crate) fn limit_segments(&mut self) {
        self.recovery.window.mss = self.text_of(self.path_mtu());
    }

    fn path_mtu(&self) -> u16 {
        self.send.link_mtu.min(self.send.path_mtu)
    }

    /// Text of one segment on a path of `mtu`.
    fn text_of(&self, mtu: u16) -> u32 {
        let overhead = if self.timestamps.enabled { TIMESTAMPS_LEN as u16 } else { 0 };
        let size = self.send.peer_mss.min(segment_size(mtu, self.tuple.is_v6()));
        u32::from(size.saturating_sub(overhead).max(1))
    }

    // ---- what ICMP says ----

    /// An ICMP error says that the path carries `mtu`, and quotes our segment at `quoted`, which is in flight. What is
    /// longer is sent again, shorter (RFC 1191, section 6.5).
    pub(crate) fn on_too_big(&mut self, mtu: u16, quoted: Seq, now: Instant) -> Result<(), Discard> {
        let mtu = match self.tuple.is_v6() {
            true if mtu < MIN_PATH_MTU_V6 => return Err(Discard::TcpIcmpMtu),
            true => mtu,
            false => mtu.max(MIN_PATH_MTU_V4),
        };
        if mtu >= self.path_mtu() {
            return Ok(());
        }
        // RFC 5927, section 7.2: longer ones arrived. If this is true all the same, the segment will time out.
        if self.text_of(mtu) < u32::from(self.send.longest.acked) {
            self.path_search(now).doubted = Some((mtu, quoted));
            return Err(Discard::TcpIcmpDoubted);
        }
        self.narrow(mtu, now);
        Ok(())
    }

    fn narrow(&mut self, mtu: u16, now: Instant) {
        self.send.path_mtu = mtu;
        self.send.longest = LongestText::default();
        let search = self.path_search(now);
        (search.next, search.probe, search.doubted) = (0, None, None);
        search.again_at = now + RAISE_AFTER;
        self.limit_segments();
        self.recovery.scoreboard.mark_longer_lost(self.recovery.window.mss + 1);
        self.effects.add(Effects::TRANSMIT);
    }

    fn path_search(&mut self, now: Instant) -> &mut PathSearch {
        self.send.search.get_or_insert_with(|| {
            let again_at = now + RAISE_AFTER;
            Box::new(PathSearch { next: 0, lost_probes: 0, again_at, probe: None, doubted: None })
        })
    }

    // ---- what silence says ----

    /// The retransmission timer fired; what is overdue is marked lost.
    pub(crate) fn check_path(&mut self, now: Instant) {
        if let Some((mtu, quoted)) = self.send.search.as_mut().and_then(|search| search.doubted.take())
            && quoted.at_or_after(self.send.unacked)
        {
            self.narrow(mtu, now);
        }
        self.is_only_path_probe_lost();
        self.suspect_black_hole(now);
        // One segment more than what may be under way, of what a segment is now (RFC 5681, section 3.1).
        let pipe = self.recovery.scoreboard.pipe(self.send.flight());
        self.recovery.window.congestion = pipe + self.recovery.window.mss;
    }

    /// RFC 4821, section 7.7: a segment that is lost again and again may be too long, with nobody to say so. Whether it
    /// was that shows soon: the former size is the first that is tried.
    fn suspect_black_hole(&mut self, now: Instant) {
        let Some(first) = self.recovery.scoreboard.next_lost() else { return };
        let before = self.path_mtu();
        let steps: &[_] = if self.tuple.is_v6() { &BLACK_HOLE_V6 } else { &BLACK_HOLE_V4 };
        let due = steps.iter().rfind(|(timeouts, _)| self.recovery.timeouts >= *timeouts);
        if let Some((_, base)) = due.filter(|(_, base)| *base < before && self.text_of(*base) < first.len()) {
            self.narrow(*base, now);
            self.path_search(now).next = before;
        }
    }

    // ---- the search upwards ----

    /// At the beginning of a transmission.
    pub(crate) fn renew_path_search(&mut self, now: Instant) {
        let ceiling = self.send.link_mtu.min(self.send.peer_mss.saturating_add(self.headers()));
        if let Some(search) = &mut self.send.search
            && search.again_at <= now
        {
            (search.next, search.lost_probes, search.again_at) = (ceiling, 0, now + RAISE_AFTER);
        }
    }

    /// Text of a probe that may be sent now (RFC 4821, sections 7.3 and 7.4): with enough behind it, within both windows,
    /// while nothing is lost.
    pub(crate) fn path_probe_len(&self) -> Option<u32> {
        let search = self.send.search.as_deref()?;
        let calm = search.probe.is_none()
            && self.recovery.phase == Phase::Open
            && self.recovery.scoreboard.lost_bytes() == 0
            && self.receive.assembler.is_empty();
        if !calm || search.next <= self.send.path_mtu || search.next > self.send.link_mtu {
            return None;
        }
        let len = self.text_of(search.next);
        let needed = len + FOLLOWERS * self.recovery.window.mss;
        let pipe = self.recovery.scoreboard.pipe(self.send.flight());
        let fits = needed <= self.send.unsent().min(self.send.window_room())
            && pipe + needed <= self.recovery.window.congestion;
        fits.then_some(len)
    }

    pub(crate) fn on_path_probe_sent(&mut self, start: Seq, end: Seq) {
        if let Some(search) = &mut self.send.search {
            search.probe = Some(PathProbe { start, end, mtu: search.next, lost: false });
        }
    }

    /// Everything before `ack` has arrived.
    pub(crate) fn on_path_acknowledged(&mut self, ack: Seq) {
        let Some(search) = &mut self.send.search else { return };
        search.doubted = search.doubted.filter(|(_, quoted)| quoted.at_or_after(ack));
        let Some(probe) = search.probe.filter(|probe| probe.end.at_or_before(ack)) else {
            if self.send.path_mtu == u16::MAX && search.doubted.is_none() {
                self.send.search = None;
            }
            return;
        };
        search.probe = None;
        if probe.lost {
            return;
        }
        (search.next, search.lost_probes) = (0, 0);
        self.send.path_mtu = probe.mtu;
        if probe.mtu >= self.send.link_mtu {
            (self.send.path_mtu, self.send.search) = (u16::MAX, None);
        }
        self.limit_segments();
    }

    /// A lost probe says nothing of congestion (RFC 4821, section 7.5). True when nothing else is lost; a peer without
    /// SACK cannot say that.
    pub(crate) fn is_only_path_probe_lost(&mut self) -> bool {
        let Connection { send, recovery, .. } = self;
        let Some(search) = &mut send.search else { return false };
        let (Some(probe), Some(first)) = (&mut search.probe, recovery.scoreboard.next_lost()) else {
            return false;
        };
        if first.start.before(probe.start) || first.start.at_or_after(probe.end) {
            return false;
        }
        if !std::mem::replace(&mut probe.lost, true) {
            search.lost_probes += 1;
            if search.lost_probes >= MAX_PROBES {
                let smaller = USUAL_MTUS.iter().find(|mtu| **mtu < probe.mtu);
                (search.next, search.lost_probes) = (smaller.copied().unwrap_or(0), 0);
            }
        }
        send.sack_permitted && (first.start + recovery.scoreboard.lost_bytes()).at_or_before(probe.end)
    }

    fn headers(&self) -> u16 {
        if self.tuple.is_v6() { HEADERS_V6 } else { HEADERS_V4 }
    }
}

/// What a path of `mtu` carries of one segment, options included: the MSS to announce (RFC 6691).
pub(crate) fn segment_size(mtu: u16, v6: bool) -> u16 {
    mtu.saturating_sub(if v6 { HEADERS_V6 } else { HEADERS_V4 }).max(1)
}
