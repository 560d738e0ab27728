//! TIME-WAIT: four numbers at rest for 2 MSL, in a small entry of their own. All rest equally long, so that a list in
//! order of age is all the timer they need.

use std::time::Duration;

use super::connection::{Connection, TimestampClock};
use super::header::{Flags, Header, Options, Timestamps};
use super::segment::Segment;
use super::sequence::Seq;
use super::tuple::{PackedTuple, Tuple};
use crate::blocks::Blocks;
use crate::{Discard, Instant};

/// 2 MSL with the MSL of 30 s that everybody uses (RFC 9293, section 3.4.2 would have 2 minutes).
pub(crate) const REST: Duration = Duration::from_secs(60);
/// A port in TIME-WAIT may be used again for a connect when its timestamps have moved on (RFC 6191; Linux's
/// tcp_tw_reuse).
const REUSE_AFTER: Duration = Duration::from_secs(1);
/// How far a reused connection's sequence starts beyond the old one (Linux).
const SEQUENCE_GAP: u32 = 65_537;
/// An entry answers what may be forged once in so long: ten times a second, as a connection does (RFC 5961, section 7).
const CHALLENGE_EVERY_MS: u64 = 100;
const NIL: u32 = u32::MAX;

/// 64 bytes, with its place in the list: a million of them are a million cache lines.
#[derive(Copy, Clone, Debug)]
pub(crate) struct TimeWait {
    tuple: PackedTuple,
    /// SND.NXT
    pub next: Seq,
    /// RCV.NXT
    pub receive_next: Seq,
    /// TS.Recent
    pub recent: u32,
    pub window: u16,
    pub timestamps_enabled: bool,
    /// In which of [`CHALLENGE_EVERY_MS`] it last answered what may be forged; the low bits, which wrap in 25 s and then
    /// withhold one answer more at worst.
    challenged: u8,
    expires_ms: u32,
    /// Of a vacant place: its own number.
    older: u32,
    /// Of a vacant place: the next that is vacant.
    newer: u32,
}

/// What becomes of a segment to a TIME-WAIT entry.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A new connection may have the four numbers; its sequence starts at or beyond this.
    Reuse(Seq),
    /// The last acknowledgement goes out again, and the rest begins anew.
    AcknowledgeFin,
    /// Acknowledged, and counted under that reason.
    Acknowledge(Discard),
    Drop(Discard),
}

#[derive(Debug)]
pub(crate) struct TimeWaits {
    entries: Blocks<TimeWait>,
    /// A vacant place, and by [`TimeWait::newer`] all others.
    vacant: u32,
    resting: usize,
    oldest: u32,
    newest: u32,
}

impl TimeWait {
    pub(crate) fn new(connection: &Connection, now: Instant) -> Self {
        let window = connection.receive.window() >> connection.receive.scale;
        Self {
            tuple: connection.tuple.pack(),
            next: connection.send.next,
            receive_next: connection.receive.next,
            window: window.min(u32::from(u16::MAX)) as u16,
            timestamps_enabled: connection.timestamps.enabled,
            challenged: challenge_tick(now).wrapping_sub(1),
            recent: connection.timestamps.recent,
            expires_ms: (now + REST).as_millis() as u32,
            older: NIL,
            newer: NIL,
        }
    }

    pub(crate) fn tuple(&self) -> Tuple {
        self.tuple.unpack()
    }

    #[inline]
    pub(crate) fn is_of(&self, tuple: &Tuple) -> bool {
        self.tuple == tuple.pack()
    }

    /// RFC 9293, section 3.10.7.4 for TIME-WAIT, with RFC 1337, RFC 6191 and RFC 5961.
    pub(crate) fn judge(&self, segment: &Segment<'_>) -> Answer {
        let header = &segment.header;
        if header.flags.has(Flags::RST) {
            // RFC 1337: an old reset must not end the rest.
            return Answer::Drop(Discard::TcpResetInTimeWait);
        }
        let timestamp = header.options.timestamps.filter(|_| self.timestamps_enabled);
        let age = timestamp.map(|timestamps| timestamps.value.wrapping_sub(self.recent) as i32);
        if header.flags.has(Flags::SYN) && !header.flags.has(Flags::ACK) {
            // RFC 6191, section 2: a greater timestamp, or without timestamps a greater sequence.
            let newer = age.map_or(header.seq.after(self.receive_next), |age| {
                age > 0 || (age == 0 && header.seq.after(self.receive_next))
            });
            return if newer {
                Answer::Reuse(self.next + SEQUENCE_GAP)
            } else {
                Answer::Acknowledge(Discard::TcpSynChallenged)
            };
        }
        if age.is_some_and(|age| age < 0) {
            return Answer::Acknowledge(Discard::TcpTimestampOld);
        }
        if header.flags.has(Flags::FIN) && segment.end() == self.receive_next {
            return Answer::AcknowledgeFin;
        }
        if segment.len() > 0 || header.seq != self.receive_next {
            return Answer::Acknowledge(Discard::TcpDuplicate);
        }
        Answer::Drop(Discard::TcpDuplicate)
    }

    /// Its answer, in all that it says: the connection's last acknowledgement. The timestamps' clock starts at `offset`.
    pub(crate) fn acknowledgement(&self, tuple: &Tuple, offset: u32, now: Instant) -> Header {
        let clock = TimestampClock { offset, ..TimestampClock::default() };
        let timestamps = Timestamps { value: clock.value(now), echo: self.recent };
        let timestamps = self.timestamps_enabled.then_some(timestamps);
        Header {
            source_port: tuple.local_port(),
            destination_port: tuple.remote_port(),
            seq: self.next,
            ack: self.receive_next,
            flags: Flags::ACK,
            window: self.window,
            options: Options { timestamps, ..Options::default() },
        }
    }

    /// Whether a connect of ours may have the port, and where its sequence starts then.
    fn reusable(&self, now: Instant) -> Option<Seq> {
        let rested = (now + REST).as_millis() as u32;
        let age_ms = rested.wrapping_sub(self.expires_ms);
        (self.timestamps_enabled && u128::from(age_ms) > REUSE_AFTER.as_millis())
            .then(|| self.next + SEQUENCE_GAP)
    }
}

impl TimeWaits {
    pub(crate) fn new() -> Self {
        Self { entries: Blocks::new(), vacant: NIL, resting: 0, oldest: NIL, newest: NIL }
    }

    pub(crate) fn len(&self) -> usize {
        self.resting
    }

    pub(crate) fn insert(&mut self, entry: TimeWait) -> u32 {
        self.resting += 1;
        let slot = match self.entries.get_mut(self.vacant) {
            Some(place) => {
                let next = std::mem::replace(place, entry).newer;
                std::mem::replace(&mut self.vacant, next)
            }
            None => self.entries.push(entry),
        };
        self.append(slot);
        slot
    }

    #[inline]
    pub(crate) fn at(&self, slot: u32) -> Option<&TimeWait> {
        self.entries.get(slot).filter(|entry| entry.older != slot)
    }

    /// Whether the entry may answer what may be forged; it has then.
    pub(crate) fn may_challenge(&mut self, slot: u32, now: Instant) -> bool {
        let tick = challenge_tick(now);
        self.entries.get_mut(slot).is_some_and(|entry| std::mem::replace(&mut entry.challenged, tick) != tick)
    }

    pub(crate) fn reusable(&self, slot: u32, now: Instant) -> Option<Seq> {
        self.at(slot)?.reusable(now)
    }

    /// The rest of an entry begins anew.
    pub(crate) fn restart(&mut self, slot: u32, now: Instant) {
        self.unlink(slot);
        if let Some(entry) = self.entries.get_mut(slot) {
            entry.expires_ms = (now + REST).as_millis() as u32;
        }
        self.append(slot);
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<TimeWait> {
        let rested = *self.at(slot)?;
        self.unlink(slot);
        let place = self.entries.get_mut(slot)?;
        (place.older, place.newer) = (slot, std::mem::replace(&mut self.vacant, slot));
        self.resting -= 1;
        Some(rested)
    }

    pub(crate) fn oldest(&self) -> Option<u32> {
        (self.oldest != NIL).then_some(self.oldest)
    }

    /// When the oldest has rested enough.
    pub(crate) fn next_timeout(&self, now_ms: u64) -> Option<Instant> {
        let entry = self.entries.get(self.oldest)?;
        let left = entry.expires_ms.wrapping_sub(now_ms as u32) as i32;
        Some(Instant::from_nanos(now_ms.saturating_add_signed(i64::from(left)) * 1_000_000))
    }

    /// The oldest, when it has rested enough.
    pub(crate) fn expired(&self, now: Instant) -> Option<u32> {
        let entry = self.entries.get(self.oldest)?;
        (entry.expires_ms.wrapping_sub(now.as_millis() as u32) as i32 <= 0).then_some(self.oldest)
    }

    fn append(&mut self, slot: u32) {
        let last = std::mem::replace(&mut self.newest, slot);
        if let Some(entry) = self.entries.get_mut(slot) {
            (entry.older, entry.newer) = (last, NIL);
        }
        match self.entries.get_mut(last) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Some(&TimeWait { older, newer, .. }) = self.entries.get(slot) else { return };
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
    }
}

fn challenge_tick(now: Instant) -> u8 {
    (now.as_millis() / CHALLENGE_EVERY_MS) as u8
}
