//! Segments come in: to which connection, TIME-WAIT entry or listener, and what answers one that belongs to none.

use std::net::SocketAddr;

use super::boundary::{Arrival, IcmpError, Path};
use super::connection::{Connection, Effects, Probe, ReceiveSide, State, TimestampClock, default_mss};
use super::ecn::{self, Notification};
use super::engine::{Reply, Tcp};
use super::flows::Target;
use super::header::{Flags, Header, Options, Timestamps};
use super::segment::{Segment, Text};
use super::sequence::Seq;
use super::timewait::{Answer, TimeWait};
use super::tuple::Tuple;
use super::{FlowKey, ListenerKey, TcpError, cookie};
use crate::{Chain, Defence, Discard, Instant};

/// How long after a cookie was sent an acknowledgement may claim to be of one.
const COOKIES_HONOURED: std::time::Duration = std::time::Duration::from_secs(128);

impl Tcp {
    /// A segment arrived. Its TCP header begins at `tcp_offset` of the first chunk, and the packet ends with the
    /// segment's last byte.
    pub(crate) fn handle_segment(
        &mut self,
        arrival: Arrival,
        packet: &dyn Chain,
        tcp_offset: usize,
        now: Instant,
    ) -> Result<(), Discard> {
        let bytes = packet.chunk(0).get(tcp_offset..).ok_or(Discard::TcpTruncated)?;
        let (header, length) = Header::parse(bytes)?;
        if header.source_port == 0 || header.destination_port == 0 {
            return Err(Discard::TcpPortZero);
        }
        let head = bytes.get(length..).unwrap_or_default();
        let text = Text::new(packet, tcp_offset + length, head);
        let segment = Segment { header, text, ce: arrival.ecn == ecn::CE };
        let tuple = Tuple::new(
            SocketAddr::new(arrival.local, header.destination_port),
            SocketAddr::new(arrival.remote, header.source_port),
        );
        match self.find(&tuple) {
            Some(Target::Connection(slot)) => self.on_connection_segment(slot, &segment, now),
            Some(Target::TimeWait(slot)) => self.on_time_wait_segment(slot, arrival, &segment, now),
            None => self.on_listener_segment(&tuple, arrival, &segment, None, now),
        }
    }

    /// An ICMP error quotes a segment of ours from `local` to `remote` that began at `sequence`. It is believed only
    /// when that number is in flight (RFC 5927, section 4.1).
    pub(crate) fn handle_icmp_error(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        sequence: u32,
        error: IcmpError,
        now: Instant,
    ) -> Result<(), Discard> {
        let Some(Target::Connection(slot)) = self.find(&Tuple::new(local, remote)) else {
            return Err(Discard::TcpIcmpNoFlow);
        };
        let Some(connection) = self.connections.at_mut(slot) else { return Err(Discard::TcpIcmpNoFlow) };
        let offset = Seq(sequence).since(connection.send.unacked);
        if offset >= connection.send.flight() {
            return Err(Discard::TcpIcmpOutOfWindow);
        }
        match error {
            IcmpError::TooBig { mtu } => {
                let verdict = connection.on_too_big(mtu, Seq(sequence), now);
                self.settle(slot, now);
                return verdict;
            }
            IcmpError::Refused if matches!(connection.state, State::SynSent) => {
                connection.finish(Some(TcpError::Refused), &mut self.pool);
            }
            IcmpError::Unreachable if matches!(connection.state, State::SynSent) => {
                connection.finish(Some(TcpError::Unreachable), &mut self.pool);
            }
            // RFC 5927, section 5.2: an established connection outlives what anybody may forge.
            IcmpError::Refused | IcmpError::Unreachable => connection.user.soft_error = true,
        }
        self.settle(slot, now);
        Ok(())
    }

    #[inline]
    pub(super) fn find(&self, tuple: &Tuple) -> Option<Target> {
        self.flows.find(self.secrets.flow_hash(tuple), |target| match target {
            Target::Connection(slot) => self.connections.at(slot).is_some_and(|other| other.tuple == *tuple),
            Target::TimeWait(slot) => self.time_waits.at(slot).is_some_and(|other| other.is_of(tuple)),
        })
    }

    fn on_connection_segment(
        &mut self,
        slot: u32,
        segment: &Segment<'_>,
        now: Instant,
    ) -> Result<(), Discard> {
        let Some(connection) = self.connections.at_mut(slot) else { return Err(Discard::TcpNoFlow) };
        let verdict = connection.on_segment(segment, &mut self.pool, now);
        if connection.effects.has(Effects::ANSWER_RESET) {
            let tuple = connection.tuple;
            self.answer_reset(&tuple, segment);
        }
        self.settle(slot, now);
        verdict
    }

    fn on_time_wait_segment(
        &mut self,
        slot: u32,
        arrival: Arrival,
        segment: &Segment<'_>,
        now: Instant,
    ) -> Result<(), Discard> {
        let Some(entry) = self.time_waits.at(slot).copied() else { return Err(Discard::TcpNoFlow) };
        match entry.judge(segment) {
            Answer::Reuse(sequence) => {
                if self.listeners.find(entry.tuple().local(), arrival.interface).is_none() {
                    self.challenge_from_time_wait(slot, &entry, now);
                    return Err(Discard::TcpSynChallenged);
                }
                self.forget_time_wait(slot);
                self.on_listener_segment(&entry.tuple(), arrival, segment, Some(sequence), now)
            }
            Answer::AcknowledgeFin => {
                self.time_waits.restart(slot, now);
                self.acknowledge_again(&entry, now);
                Ok(())
            }
            Answer::Acknowledge(reason) => {
                self.challenge_from_time_wait(slot, &entry, now);
                Err(reason)
            }
            Answer::Drop(reason) => Err(reason),
        }
    }

    /// An answer to what may be forged, as often as a connection would give it.
    fn challenge_from_time_wait(&mut self, slot: u32, entry: &TimeWait, now: Instant) {
        if self.time_waits.may_challenge(slot, now) {
            self.acknowledge_again(entry, now);
        } else {
            self.defences.count(Defence::ChallengeWithheld);
        }
    }

    /// An entry does not keep where its clock starts: that follows from the tuple.
    fn acknowledge_again(&mut self, entry: &TimeWait, now: Instant) {
        let tuple = entry.tuple();
        let header = entry.acknowledgement(&tuple, self.secrets.timestamp_offset(&tuple), now);
        self.reply(Reply { tuple, header, path: Path::default() });
    }

    /// RFC 9293, section 3.10.7.2 (LISTEN): `least` is where our sequence must not start before.
    fn on_listener_segment(
        &mut self,
        tuple: &Tuple,
        arrival: Arrival,
        segment: &Segment<'_>,
        least: Option<Seq>,
        now: Instant,
    ) -> Result<(), Discard> {
        let listener = self.listeners.find(tuple.local(), arrival.interface);
        let Some(listener) = listener else { return self.on_segment_of_no_flow(tuple, segment) };
        let flags = segment.header.flags;
        // First: a reset. Second: an acknowledgement, which may be of a cookie. Third: a SYN.
        if flags.has(Flags::ACK) && !flags.has(Flags::RST) && !flags.has(Flags::SYN) {
            return self.take_cookie(tuple, listener, segment, now);
        }
        if flags.has(Flags::RST) || flags.has(Flags::ACK) {
            return self.on_segment_of_no_flow(tuple, segment);
        }
        // A SYN with a FIN opens nothing (RFC 9293 has no such segment; scanners do).
        if !flags.has(Flags::SYN) || flags.has(Flags::FIN) {
            return Err(Discard::TcpUnexpected);
        }
        self.on_syn(tuple, listener, segment, least, now)
    }

    fn on_syn(
        &mut self,
        tuple: &Tuple,
        key: ListenerKey,
        segment: &Segment<'_>,
        least: Option<Seq>,
        now: Instant,
    ) -> Result<(), Discard> {
        let Some(listener) = self.listeners.get_mut(key) else { return Err(Discard::TcpNoFlow) };
        if !listener.may_establish() {
            return Err(Discard::TcpBacklogFull);
        }
        if !listener.may_open() || self.connections.len() >= self.config.max_flows {
            listener.cookie_at = Some(now);
            self.send_cookie(tuple, key, segment, now);
            return Err(Discard::TcpSynCookie);
        }
        let answered = self.cookie_that_answered(tuple, key, segment, now).filter(|_| least.is_none());
        let (initial, timestamp_offset) = self.secrets.starts(tuple, now);
        let initial = answered.unwrap_or(initial);
        let initial = least.map_or(initial, |least| least.max(initial));
        let Some(listener) = self.listeners.get_mut(key) else { return Err(Discard::TcpNoFlow) };
        listener.half_open += 1;
        let deadline = now + listener.options.connect_timeout;
        let state = State::SynReceived { active: false };
        let mut connection = Connection::new(*tuple, initial, state, &listener.options, now);
        connection.user.listener = Some(key);
        connection.user.by_cookie = answered.is_some();
        connection.timestamps.offset = timestamp_offset;
        connection.take_syn(segment, now);
        connection.send.probe = Probe::Handshake;
        connection.deadlines.user_at = deadline;
        connection.effects.add(Effects::TRANSMIT);
        if let Some(FlowKey { slot, .. }) = self.open(connection) {
            self.settle(slot, now);
        }
        Ok(())
    }

    /// The sequence with which this SYN, if it came before, was answered when there was no room for it: a copy that finds
    /// room begins there too, or the acknowledgement of the first answer would look like that of a stranger. Without
    /// timestamps the two answers differ in more than that.
    fn cookie_that_answered(
        &self,
        tuple: &Tuple,
        key: ListenerKey,
        segment: &Segment<'_>,
        now: Instant,
    ) -> Option<Seq> {
        let options = &segment.header.options;
        let cookie_at = self.listeners.get(key)?.cookie_at?;
        let recent = now.since(cookie_at) <= COOKIES_HONOURED && options.timestamps.is_some();
        let mss = options.mss.filter(|_| recent)?;
        Some(cookie::make(&self.secrets, tuple, segment.header.seq, mss, now))
    }

    fn send_cookie(&mut self, tuple: &Tuple, key: ListenerKey, segment: &Segment<'_>, now: Instant) {
        let Some(listener) = self.listeners.get(key) else { return };
        let options = &segment.header.options;
        let clock =
            TimestampClock { offset: self.secrets.timestamp_offset(tuple), ..TimestampClock::default() };
        let unnamed_mss = default_mss(tuple);
        let mss = options.mss.unwrap_or(unnamed_mss);
        let scale = ReceiveSide::scale_of(&listener.options);
        let mut notification = Notification::new(listener.options.ecn);
        notification.on_syn(segment.header.flags, false);
        // Without timestamps nothing remembers it, nor the other options.
        notification.resume(notification.sends && options.timestamps.is_some());
        let timestamps = options.timestamps.map(|theirs| Timestamps {
            value: cookie::encode_options(clock.value(now), options, notification.sends),
            echo: theirs.value,
        });
        let header = Header {
            source_port: tuple.local_port(),
            destination_port: tuple.remote_port(),
            seq: cookie::make(&self.secrets, tuple, segment.header.seq, mss, now),
            ack: segment.header.seq + 1,
            flags: Flags::SYN.with(Flags::ACK).with(notification.setup_flags(false)),
            window: listener.options.receive_buffer_bytes.min(usize::from(u16::MAX)) as u16,
            options: Options {
                mss: Some(unnamed_mss),
                window_scale: options.window_scale.filter(|_| timestamps.is_some()).map(|_| scale),
                sack_permitted: options.sack_permitted && timestamps.is_some(),
                timestamps,
                ..Options::default()
            },
        };
        self.reply(Reply { tuple: *tuple, header, path: Path::default() });
    }

    /// A connection as a SYN to this listener would make it, in no book yet.
    fn passive(&self, tuple: &Tuple, key: ListenerKey, now: Instant) -> Option<Connection> {
        let options = &self.listeners.get(key)?.options;
        let state = State::SynReceived { active: false };
        let mut connection = Connection::new(*tuple, Seq(0), state, options, now);
        connection.user.listener = Some(key);
        connection.timestamps.offset = self.secrets.timestamp_offset(tuple);
        Some(connection)
    }

    /// An acknowledgement to a listener: of a cookie, or of nothing.
    fn take_cookie(
        &mut self,
        tuple: &Tuple,
        key: ListenerKey,
        segment: &Segment<'_>,
        now: Instant,
    ) -> Result<(), Discard> {
        let header = &segment.header;
        let (irs, iss) = (header.seq - 1, header.ack - 1);
        let recent = self
            .listeners
            .get(key)
            .and_then(|listener| listener.cookie_at)
            .is_some_and(|at| now.since(at) <= COOKIES_HONOURED);
        if !recent {
            return self.on_segment_of_no_flow(tuple, segment);
        }
        let Some(mss) = cookie::check(&self.secrets, tuple, irs, iss, now) else {
            if self.may_await_cookie(tuple, segment, now) {
                return Err(Discard::TcpCookieAwaited);
            }
            self.answer_reset(tuple, segment);
            return Err(Discard::TcpCookieInvalid);
        };
        let Some(listener) = self.listeners.get_mut(key).filter(|listener| listener.may_establish()) else {
            return Err(Discard::TcpBacklogFull);
        };
        listener.half_open += 1;
        let options = header.options.timestamps;
        let remembered = cookie::decode_options(mss, options.map(|timestamps| timestamps.echo));
        let Some(mut connection) = self.passive(tuple, key, now) else { return Err(Discard::TcpNoFlow) };
        connection.resume(iss, irs, &remembered, segment, now);
        match self.open(connection) {
            Some(FlowKey { slot, .. }) => {
                self.defences.count(Defence::CookieTaken);
                self.on_connection_segment(slot, segment, now)
            }
            None => {
                if let Some(listener) = self.listeners.get_mut(key) {
                    listener.half_open -= 1;
                }
                Err(Discard::TcpFlowsFull)
            }
        }
    }

    /// Only the first segment after the SYN proves a cookie. One behind it may be of a connection that has merely lost
    /// that first one, which a reset would break: its timestamp echoes ours, or else it has text to send again.
    fn may_await_cookie(&self, tuple: &Tuple, segment: &Segment<'_>, now: Instant) -> bool {
        let Some(Timestamps { echo, .. }) = segment.header.options.timestamps else {
            return segment.len() > 0;
        };
        let clock =
            TimestampClock { offset: self.secrets.timestamp_offset(tuple), ..TimestampClock::default() };
        let age_ms = (now.as_millis() as u32).wrapping_sub(clock.echo_ms(echo));
        u128::from(age_ms) <= COOKIES_HONOURED.as_millis()
    }

    /// A segment that belongs to no flow of ours. Today it is answered by a reset; a successor process will ask its
    /// predecessor here (DESIGN, succession).
    fn on_segment_of_no_flow(&mut self, tuple: &Tuple, segment: &Segment<'_>) -> Result<(), Discard> {
        self.answer_reset(tuple, segment);
        Err(Discard::TcpNoFlow)
    }

    /// RFC 9293, section 3.10.7.1 (CLOSED).
    fn answer_reset(&mut self, tuple: &Tuple, segment: &Segment<'_>) {
        let theirs = &segment.header;
        if theirs.flags.has(Flags::RST) {
            return;
        }
        let (seq, ack, flags) = if theirs.flags.has(Flags::ACK) {
            (theirs.ack, Seq(0), Flags::RST)
        } else {
            (Seq(0), segment.end(), Flags::RST.with(Flags::ACK))
        };
        let (source_port, destination_port) = (tuple.local_port(), tuple.remote_port());
        let header = Header { source_port, destination_port, seq, ack, flags, ..Header::default() };
        self.reply(Reply { tuple: *tuple, header, path: Path::default() });
    }

    /// The reset of an abort.
    pub(super) fn reset_peer(&mut self, key: FlowKey) {
        let Some(connection) = self.connections.get(key.slot, key.life) else { return };
        let header = Header {
            source_port: connection.tuple.local_port(),
            destination_port: connection.tuple.remote_port(),
            seq: connection.send.next,
            ack: connection.receive.next,
            flags: Flags::RST.with(Flags::ACK),
            ..Header::default()
        };
        let (tuple, path) = (connection.tuple, connection.path);
        self.reply(Reply { tuple, header, path });
    }
}
