//! One connection: its state and its variables. What it does when something happens lies beside it, one file a
//! happening: `arrival` (a segment), `acknowledge` (its acknowledgement), `output` (what to
//! send now), `deadlines` (time), `calls` (the user).
//!
//! ```text
//!  connect() --> SynSent ----------> Established --FIN--> CloseWait --shutdown()--> LastAck --> Closed
//!                   |                  ^     |
//!                  SYN              ACK|     | shutdown()
//!                   v                  |     v
//!  SYN --------> SynReceived ----------+   FinWait1 --ACK--> FinWait2 --FIN--> TIME-WAIT (an entry of its own)
//!                                            |                                   ^
//!                                            +----FIN----> Closing ----ACK-------+
//!
//!  LISTEN is a listener, not a connection; TIME-WAIT is an entry of 64 bytes.
//! ```

use super::assembler::Assembler;
use super::boundary::Path;
use super::congestion::{Control, Window};
use super::ecn::Notification;
use super::episode::Episode;
use super::in_flight::InFlight;
use super::memory::{Pool, Ring};
use super::narrow_path::{LongestText, PathSearch};
use super::pacing::Pacer;
use super::rack::{Rack, TailProbe};
use super::round_meter::RoundMeter;
use super::rtt::Rtt;
use super::sequence::Seq;
use super::tuple::Tuple;
use super::{Congestion, ListenerKey, TcpError, TcpOptions};
use crate::Instant;
use crate::wheel::TimerId;

/// A deadline that is not set.
pub(crate) const NEVER: Instant = Instant::from_nanos(u64::MAX);
/// What a peer that names no MSS takes (RFC 9293, section 3.7.1).
pub(crate) const DEFAULT_MSS_V4: u16 = 536;
pub(crate) const DEFAULT_MSS_V6: u16 = 1220;
/// Ethernet's, until the outgoing interface is known.
const DEFAULT_LINK_MTU: u16 = 1500;
/// The least MSS that we believe: below it headers outweigh the text (CVE-2019-11479).
pub(crate) const MIN_MSS: u16 = 88;
/// Challenge ACKs a connection answers with in a second (RFC 5961, section 7; per connection: CVE-2016-5696).
const CHALLENGES_A_SECOND: u32 = 10;
/// A segment in flight is a piece of the scoreboard. A connection has one for so many bytes of its send buffer, so that
/// the scoreboard holds a sixteenth of what the buffer does, however small the peer's MSS (CVE-2019-11478).
const BYTES_A_PIECE: u32 = 512;
/// But never fewer than these: small messages are segments of their own.
const FEWEST_PIECES: u32 = 1024;
/// Segments acknowledged at once when data begins to flow, so that the peer's slow start is not held up (Linux).
pub(crate) const QUICK_ACKS: u8 = 16;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    SynSent,
    /// `active`: we sent the first SYN (simultaneous open).
    SynReceived {
        active: bool,
    },
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    /// Over. What was received may still be read; then this is told, or the end of the stream.
    Closed(Option<TcpError>),
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn-sent",
            Self::SynReceived { .. } => "syn-received",
            Self::Established => "established",
            Self::FinWait1 => "fin-wait-1",
            Self::FinWait2 => "fin-wait-2",
            Self::CloseWait => "close-wait",
            Self::Closing => "closing",
            Self::LastAck => "last-ack",
            Self::Closed(_) => "closed",
        }
    }

    /// RFC 9293's synchronized states.
    pub(crate) fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived { .. } | Self::Closed(_))
    }

    /// Text may still arrive.
    pub(crate) fn receives(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }
}

/// What the engine has to do for a connection after it acted.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effects(pub(crate) u16);

impl Effects {
    pub(crate) const CONNECTED: Self = Self(1);
    pub(crate) const READABLE: Self = Self(1 << 1);
    pub(crate) const WRITABLE: Self = Self(1 << 2);
    /// A passive connection is established: it may be accepted.
    pub(crate) const ACCEPTABLE: Self = Self(1 << 3);
    /// There may be something to send.
    pub(crate) const TRANSMIT: Self = Self(1 << 4);
    /// Off the wire: out of the flow table.
    pub(crate) const DEAD: Self = Self(1 << 5);
    /// Off the wire, and the four numbers rest for 2 MSL.
    pub(crate) const TIME_WAIT: Self = Self(1 << 6);
    /// The peer is to be told by a reset of our own making (abort).
    pub(crate) const RESET_PEER: Self = Self(1 << 7);
    /// The segment is answered as one to no flow is.
    pub(crate) const ANSWER_RESET: Self = Self(1 << 8);
    /// A writer waits for buffer memory.
    pub(crate) const STARVED: Self = Self(1 << 9);
    /// A challenge was due and not sent.
    pub(crate) const CHALLENGE_WITHHELD: Self = Self(1 << 10);
    /// The peer's MSS was less than is believed.
    pub(crate) const MSS_RAISED: Self = Self(1 << 11);
    /// As many segments are in flight as may be.
    pub(crate) const PIECES_FULL: Self = Self(1 << 12);
    /// What few segments lead to.
    pub(crate) const RARE: Self = Self(0b1_1110_1110_1000);
    /// The three that users hear of.
    pub(crate) const EVENTS: Self = Self(0b111);

    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn take(&mut self) -> Self {
        std::mem::take(self)
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub tuple: Tuple,
    pub path: Path,
    pub state: State,
    pub send: SendSide,
    pub receive: ReceiveSide,
    pub timestamps: TimestampClock,
    pub ecn: Notification,
    pub recovery: Recovery,
    pub deadlines: Deadlines,
    pub user: User,
    pub effects: Effects,
    /// Kinds of events that are told and not yet taken.
    pub told: Effects,
    /// In the transmit queue.
    pub queued: bool,
    challenges: Challenges,
}

/// The sequence space that we send (RFC 9293, section 3.3.1).
///
/// ```text
///   data_start                     next        data_end = data_start + ring.len()
///       |  in flight                |  not sent  |FIN|
///    unacked (one before data_start while our SYN is out)
/// ```
#[derive(Debug)]
pub(crate) struct SendSide {
    /// ISS
    pub initial: Seq,
    /// SND.UNA
    pub unacked: Seq,
    /// SND.NXT
    pub next: Seq,
    /// SND.WND, scaled.
    pub window: u32,
    /// The largest window ever offered (RFC 9293, section 3.8.6.2.1).
    pub max_window: u32,
    /// SND.WL1
    pub window_seq: Seq,
    /// SND.WL2
    pub window_ack: Seq,
    /// Snd.Wind.Shift
    pub scale: u8,
    /// What the peer's SYN allowed.
    pub peer_mss: u16,
    /// What the outgoing interface carries, in IP bytes.
    pub link_mtu: u16,
    /// What the path was found to carry, in IP bytes, where that is less.
    pub path_mtu: u16,
    pub longest: LongestText,
    pub search: Option<Box<PathSearch>>,
    /// The sequence number of the ring's first byte.
    pub data_start: Seq,
    pub ring: Ring,
    pub limit: u32,
    /// A FIN follows the last byte.
    pub fin_queued: bool,
    pub fin_sent: bool,
    pub no_delay: bool,
    /// The persist timer allows one segment that silly-window avoidance would hold back.
    pub small_allowed: bool,
    pub sack_permitted: bool,
    /// The last stop was for want of congestion window.
    pub cwnd_limited: bool,
    pub last_sent_at: Instant,
    /// When the peer last acknowledged new data, or when what waits for that began to: the low bits, for 24 days.
    pub progress_at_ms: u32,
    pub probe: Probe,
}

/// A segment that a timer asks for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Probe {
    #[default]
    None,
    /// Our SYN, or our SYN with an acknowledgement.
    Handshake,
    /// Is the window still closed, is the peer still there: a number it has acknowledged, to be acknowledged again.
    Alive,
    /// Was the tail lost (RFC 8985, section 7.3).
    Tail,
}

/// The sequence space that we receive (RFC 9293, section 3.3.1).
#[derive(Debug)]
pub(crate) struct ReceiveSide {
    /// RCV.NXT
    pub next: Seq,
    /// RCV.NXT + RCV.WND as the peer was told last.
    pub advertised: Seq,
    /// Last.ACK.sent (RFC 7323, section 4.3)
    pub last_acked: Seq,
    /// Rcv.Wind.Shift
    pub scale: u8,
    /// The user's bound.
    pub limit: u32,
    /// What the path was measured to need of it.
    pub space: u32,
    pub meter: RoundMeter,
    /// What the pool would lend, when it was last asked.
    pub lendable: u32,
    /// In-order bytes that nobody has read, and behind them those out of order.
    pub ring: Ring,
    pub assembler: Assembler,
    /// Where the peer's stream ends, when its FIN has been seen.
    pub fin: Option<Seq>,
    /// The largest text of one segment so far.
    pub segment_size: u16,
    /// Segments that are still acknowledged at once.
    pub quick_acks: u8,
    /// An acknowledgement is due now.
    pub ack_now: bool,
    /// Duplicates that a peer without SACK counts (RFC 5681, section 3.2).
    pub duplicates: u8,
    /// What arrived twice, until a peer with SACK is told (RFC 2883); `twice_len` of zero: nothing.
    pub twice_start: Seq,
    pub twice_len: u32,
}

/// RFC 7323's timestamps.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct TimestampClock {
    /// Snd.TS.OK
    pub enabled: bool,
    pub offset: u32,
    /// TS.Recent
    pub recent: u32,
    /// When it was taken, for PAWS to let go of it after 24 days (section 5.5).
    pub recent_at: Instant,
    /// Our TSval that the same segment echoed.
    pub echoed: u32,
}

impl TimestampClock {
    /// TSval: milliseconds.
    pub(crate) fn value(&self, now: Instant) -> u32 {
        (now.as_millis() as u32).wrapping_add(self.offset)
    }

    /// An echoed value as milliseconds of our clock.
    pub(crate) fn echo_ms(&self, echo: u32) -> u32 {
        echo.wrapping_sub(self.offset)
    }
}

#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    #[default]
    Open,
    /// Fast recovery: a loss was found by acknowledgements.
    Recovery,
    /// The retransmission timer fired.
    Loss,
}

/// Loss recovery and congestion control.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub scoreboard: InFlight,
    pub rack: Rack,
    pub tail_probe: TailProbe,
    pub rtt: Rtt,
    pub window: Window,
    pub control: Control,
    pub pacer: Pacer,
    pub phase: Phase,
    /// RecoveryPoint: SND.NXT when it began.
    pub point: Seq,
    /// What is known of the recovery that goes on, or that ended a round trip ago.
    pub episode: Option<Box<Episode>>,
    pub duplicate_acks: u8,
    /// Without SACK: duplicates may be of what the last recovery sent again, and start none (RFC 6582, section 3.2).
    pub duplicates_barred: bool,
    /// Timeouts since new data was acknowledged.
    pub timeouts: u8,
    pub retransmitted_segments: u32,
}

impl Recovery {
    fn new(mss: u16, point: Seq, options: &TcpOptions) -> Self {
        Self {
            scoreboard: InFlight::default(),
            rack: Rack::new(point),
            tail_probe: TailProbe::default(),
            rtt: Rtt::default(),
            window: Window::new(u32::from(mss)),
            control: Control::new(options.congestion),
            // A model of the path says how fast; a burst would hide what it measures.
            pacer: Pacer::new(options.pacing || options.congestion == Congestion::Bbr),
            phase: Phase::Open,
            point,
            episode: None,
            duplicate_acks: 0,
            duplicates_barred: false,
            timeouts: 0,
            retransmitted_segments: 0,
        }
    }
}

/// What the one timer of the sending side is for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum LossTimer {
    #[default]
    None,
    /// RFC 6298.
    Retransmit,
    /// RFC 8985, section 7.2.
    TailProbe,
    /// RFC 8985, section 6.2, step 5.
    Reorder,
    /// The peer's window is closed (RFC 9293, section 3.8.6.1).
    Persist,
}

/// When this connection wants to be looked at. One wheel entry serves all: it stands at the earliest deadline there
/// was, and is armed again when it fires early.
#[derive(Debug)]
pub(crate) struct Deadlines {
    pub loss: LossTimer,
    pub loss_at: Instant,
    pub delayed_ack_at: Instant,
    /// Text waits for its pace.
    pub pace_at: Instant,
    /// Connect timeout, keepalive, user timeout, or the end of an orphan.
    pub user_at: Instant,
    pub armed: Option<TimerId>,
    pub armed_at: Instant,
}

impl Deadlines {
    fn new() -> Self {
        Self {
            loss: LossTimer::None,
            loss_at: NEVER,
            delayed_ack_at: NEVER,
            pace_at: NEVER,
            user_at: NEVER,
            armed: None,
            armed_at: NEVER,
        }
    }

    pub(crate) fn next(&self) -> Instant {
        self.loss_at.min(self.delayed_ack_at).min(self.user_at).min(self.pace_at)
    }

    /// The wheel entry stands too late.
    #[inline(always)]
    pub(crate) fn are_before_armed(&self) -> bool {
        let armed_at = self.armed_at;
        self.loss_at < armed_at
            || self.delayed_ack_at < armed_at
            || self.user_at < armed_at
            || self.pace_at < armed_at
    }

    pub(crate) fn set_loss(&mut self, timer: LossTimer, at: Instant) {
        (self.loss, self.loss_at) = (timer, at);
    }

    pub(crate) fn clear_loss(&mut self) {
        self.set_loss(LossTimer::None, NEVER);
    }
}

/// What the user asked for, and how it stands with them.
#[derive(Debug)]
pub(crate) struct User {
    /// Where it waits to be accepted, or is on its way there.
    pub listener: Option<ListenerKey>,
    /// The user let go: the key misses, and what is left goes on alone.
    pub orphan: bool,
    /// A writer was told to wait.
    pub write_blocked: bool,
    /// A writer waits for memory, and stands in the engine's queue for it.
    pub starved: bool,
    /// A flush was told to wait.
    pub flush_blocked: bool,
    /// Idle seconds before a keepalive probe; zero: none.
    pub keepalive_seconds: u32,
    /// Milliseconds without progress after which the connection ends; zero: not by that.
    pub timeout_ms: u32,
    /// Keepalive probes without an answer.
    pub unanswered_probes: u8,
    pub last_heard_at: Instant,
    /// A soft ICMP error, told when the connection gives up (RFC 1122, section 4.2.3.9).
    pub soft_error: bool,
    /// Its first sequence number is a cookie: the acknowledgement of that opened it, or would.
    pub by_cookie: bool,
}

impl User {
    fn new(options: &TcpOptions, now: Instant) -> Self {
        Self {
            listener: None,
            orphan: false,
            write_blocked: false,
            starved: false,
            flush_blocked: false,
            keepalive_seconds: options.keepalive.map_or(0, |idle| idle.as_secs().clamp(1, 1 << 31) as u32),
            timeout_ms: options.user_timeout.map_or(0, |limit| limit.as_millis().clamp(1, 1 << 31) as u32),
            unanswered_probes: 0,
            last_heard_at: now,
            soft_error: false,
            by_cookie: false,
        }
    }
}

/// Challenges sent in one second, and its low bits before them.
#[derive(Copy, Clone, Debug, Default)]
struct Challenges(u32);

/// Of [`Challenges`], what counts: [`CHALLENGES_A_SECOND`] fit.
const CHALLENGE_BITS: u32 = 4;

impl Challenges {
    /// Whether another may be sent in that second; it is then.
    fn take(&mut self, second: u64) -> bool {
        let second = (second as u32) << CHALLENGE_BITS;
        let sent = if self.0 >> CHALLENGE_BITS << CHALLENGE_BITS == second { self.0 - second } else { 0 };
        let may = sent < CHALLENGES_A_SECOND;
        self.0 = second + sent + u32::from(may);
        may
    }
}

impl Connection {
    /// A connection that has sent nothing yet.
    pub(crate) fn new(tuple: Tuple, initial: Seq, state: State, options: &TcpOptions, now: Instant) -> Self {
        let mss = default_mss(&tuple);
        Self {
            tuple,
            path: Path::default(),
            state,
            send: SendSide::new(initial, mss, options, now),
            receive: ReceiveSide::new(buffer_limit(options.receive_buffer_bytes)),
            timestamps: TimestampClock::default(),
            ecn: Notification::new(options.ecn),
            recovery: Recovery::new(mss, initial, options),
            deadlines: Deadlines::new(),
            user: User::new(options, now),
            effects: Effects::default(),
            told: Effects::default(),
            queued: false,
            challenges: Challenges::default(),
        }
    }

    /// The end of the connection on the wire. `error` is what a reader and a writer hear.
    pub(crate) fn finish(&mut self, error: Option<TcpError>, pool: &mut Pool) {
        self.state = State::Closed(error);
        self.send.ring.release(pool);
        self.recovery.scoreboard.release(pool);
        self.recovery.episode = None;
        self.receive.assembler.clear();
        if self.receive.ring.is_empty() || self.user.orphan {
            self.receive.ring.release(pool);
        }
        let Deadlines { loss_at, delayed_ack_at, user_at, pace_at, loss, .. } = &mut self.deadlines;
        (*loss_at, *delayed_ack_at, *user_at, *pace_at) = (NEVER, NEVER, NEVER, NEVER);
        *loss = LossTimer::None;
        self.effects.add(Effects::EVENTS);
        self.effects.add(Effects::DEAD);
    }

    /// As [`finish`](Self::finish), with a reset to the peer.
    pub(crate) fn reset(&mut self, error: Option<TcpError>, pool: &mut Pool) {
        self.finish(error, pool);
        self.effects.add(Effects::RESET_PEER);
    }

    /// An acknowledgement goes out at the next chance.
    pub(crate) fn acknowledge_now(&mut self) {
        self.receive.ack_now = true;
        self.effects.add(Effects::TRANSMIT);
    }

    /// RFC 5961, section 7: an answer to what may be forged, a bounded number a second and connection.
    pub(crate) fn challenge(&mut self, now: Instant) {
        if self.challenges.take(now.as_millis() / 1000) {
            self.acknowledge_now();
        } else {
            self.effects.add(Effects::CHALLENGE_WITHHELD);
        }
    }

    /// Our FIN, the last number of our sequence space, has been acknowledged.
    pub(crate) fn fin_acknowledged(&self) -> bool {
        self.send.fin_sent && self.send.unacked == self.send.next
    }
}

impl SendSide {
    fn new(initial: Seq, mss: u16, options: &TcpOptions, now: Instant) -> Self {
        Self {
            initial,
            unacked: initial,
            next: initial,
            window: 0,
            max_window: 0,
            window_seq: Seq(0),
            window_ack: Seq(0),
            scale: 0,
            peer_mss: mss,
            link_mtu: DEFAULT_LINK_MTU,
            path_mtu: u16::MAX,
            longest: LongestText::default(),
            search: None,
            data_start: initial + 1,
            ring: Ring::default(),
            limit: buffer_limit(options.send_buffer_bytes),
            fin_queued: false,
            fin_sent: false,
            no_delay: options.no_delay,
            small_allowed: false,
            sack_permitted: false,
            cwnd_limited: false,
            last_sent_at: now,
            progress_at_ms: now.as_millis() as u32,
            probe: Probe::None,
        }
    }

    /// The number after the last byte that the user wrote.
    pub(crate) fn data_end(&self) -> Seq {
        self.data_start + self.ring.len() as u32
    }

    /// Numbers sent and not acknowledged.
    pub(crate) fn flight(&self) -> u32 {
        self.next.since(self.unacked)
    }

    /// Bytes written and not sent.
    pub(crate) fn unsent(&self) -> u32 {
        self.data_end().saturating_since(self.next)
    }

    /// Segments that may be in flight.
    pub(crate) fn most_pieces(&self) -> usize {
        (self.limit / BYTES_A_PIECE).max(FEWEST_PIECES) as usize
    }

    /// Numbers that the peer's window still takes.
    pub(crate) fn window_room(&self) -> u32 {
        (self.unacked + self.window).saturating_since(self.next)
    }
}

impl ReceiveSide {
    /// The shift of a connection with these options.
    pub(crate) fn scale_of(options: &TcpOptions) -> u8 {
        scale_for(buffer_limit(options.receive_buffer_bytes))
    }

    fn new(limit: u32) -> Self {
        Self {
            next: Seq(0),
            advertised: Seq(0),
            last_acked: Seq(0),
            scale: scale_for(limit),
            limit,
            space: Self::initial_space(limit),
            meter: RoundMeter::new(Seq(0)),
            lendable: limit,
            ring: Ring::default(),
            assembler: Assembler::default(),
            fin: None,
            segment_size: 0,
            quick_acks: QUICK_ACKS,
            ack_now: false,
            duplicates: 0,
            twice_start: Seq(0),
            twice_len: 0,
        }
    }

    /// `start..end` was here before it arrived. An acknowledgement reports one run: the newest, with what adjoins it
    /// (RFC 2883, section 4).
    pub(crate) fn note_twice(&mut self, start: Seq, end: Seq) {
        if self.twice_len == 0 || self.twice_start + self.twice_len != start {
            self.twice_start = start;
        }
        self.twice_len = end.since(self.twice_start);
    }

    pub(crate) fn twice(&self) -> Option<(Seq, Seq)> {
        (self.twice_len > 0).then_some((self.twice_start, self.twice_start + self.twice_len))
    }

    /// Numbers that came since the last acknowledgement.
    pub(crate) fn unacknowledged(&self) -> u32 {
        self.next.since(self.last_acked)
    }

    /// RCV.WND as the peer knows it.
    pub(crate) fn window(&self) -> u32 {
        self.advertised.saturating_since(self.next)
    }

    /// Where the window may end now. Receiver's silly-window avoidance: it moves by a segment or half the buffer, or
    /// not at all (RFC 9293, section 3.8.6.2.2), and never back.
    pub(crate) fn edge(&self) -> Seq {
        let limit = self.limit_now();
        let edge = self.next + limit.saturating_sub(self.ring.len() as u32);
        let step = u32::from(self.segment_size).min(limit / 2).max(1 << self.scale);
        if edge.saturating_since(self.advertised) >= step { edge } else { self.advertised }
    }

    /// Bytes that may wait for the reader: what the path needs, less when memory is short.
    pub(crate) fn limit_now(&self) -> u32 {
        self.space.min(self.lendable.max(self.ring.capacity() as u32))
    }

    pub(crate) fn ask_for_memory(&mut self, pool: &Pool) {
        self.lendable = u32::try_from(pool.lendable_bytes()).unwrap_or(u32::MAX);
    }

    /// The peer's stream has ended and all of it is here.
    pub(crate) fn finished(&self) -> bool {
        self.fin.is_some_and(|fin| self.next.after(fin))
    }
}

/// What a peer takes that does not say.
pub(crate) fn default_mss(tuple: &Tuple) -> u16 {
    if tuple.is_v6() { DEFAULT_MSS_V6 } else { DEFAULT_MSS_V4 }
}

/// Two segments at least, and what window scale 14 tells at most (RFC 7323, section 2.3).
fn buffer_limit(bytes: usize) -> u32 {
    bytes.clamp(2048, 1 << 30) as u32
}

/// The smallest shift with which 16 bits tell the whole buffer (RFC 7323, section 2.3).
fn scale_for(limit: u32) -> u8 {
    (0..super::header::MAX_WINDOW_SCALE)
        .find(|shift| u32::from(u16::MAX) << shift >= limit)
        .unwrap_or(super::header::MAX_WINDOW_SCALE)
}
