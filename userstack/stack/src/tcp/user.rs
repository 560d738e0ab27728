//! The user's calls: keys to connections and listeners.

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use super::connection::{Connection, Effects, Probe, State};
use super::engine::Tcp;
use super::flows::Target;
use super::memory::copy_text;
use super::sequence::Seq;
use super::slab::Slab;
use super::tuple::Tuple;
use super::{
    ConnectError, FlowKey, ListenError, ListenSpec, ListenerKey, Splice, TcpError, TcpInfo, TcpOptions,
};
use crate::Instant;

impl Tcp {
    pub(crate) fn listen(
        &mut self,
        spec: ListenSpec,
        options: TcpOptions,
    ) -> Result<ListenerKey, ListenError> {
        self.listeners.insert(spec, options)
    }

    pub(crate) fn set_listener_options(&mut self, listener: ListenerKey, options: TcpOptions) {
        if let Some(listener) = self.listeners.get_mut(listener) {
            listener.options = options;
        }
    }

    /// Stops accepting. Who waits is reset; who is half open is when its acknowledgement comes.
    pub(crate) fn unlisten(&mut self, listener: ListenerKey, now: Instant) {
        let Some(listener) = self.listeners.remove(listener) else { return };
        for key in listener.waiting {
            self.abort(key, now);
        }
    }

    pub(crate) fn accept(&mut self, listener: ListenerKey) -> Poll<Result<FlowKey, TcpError>> {
        let Some(listener) = self.listeners.get_mut(listener) else {
            return Poll::Ready(Err(TcpError::Closed));
        };
        while let Some(key) = listener.waiting.pop_front() {
            if let Some(connection) = self.connections.get_mut(key.slot, key.life) {
                connection.user.listener = None;
                return Poll::Ready(Ok(key));
            }
        }
        Poll::Pending
    }

    /// `steers_home(local, remote)` says whether segments from `remote` to `local` arrive at this worker.
    pub(crate) fn connect(
        &mut self,
        remote: SocketAddr,
        local: IpAddr,
        options: TcpOptions,
        steers_home: &mut dyn FnMut(SocketAddr, SocketAddr) -> bool,
        now: Instant,
    ) -> Result<FlowKey, ConnectError> {
        if self.connections.len() >= self.config.max_flows {
            return Err(ConnectError::TooManyFlows);
        }
        let (tuple, least) =
            self.choose_port(remote, local, steers_home, now).ok_or(ConnectError::PortsExhausted)?;
        let (initial, timestamp_offset) = self.secrets.starts(&tuple, now);
        let initial = least.map_or(initial, |least| least.max(initial));
        let deadline = now + options.connect_timeout;
        let mut connection = Connection::new(tuple, initial, State::SynSent, &options, now);
        connection.timestamps.offset = timestamp_offset;
        connection.send.probe = Probe::Handshake;
        connection.deadlines.user_at = deadline;
        connection.effects.add(Effects::TRANSMIT);
        let key = self.open(connection).ok_or(ConnectError::TooManyFlows)?;
        self.settle(key.slot, now);
        Ok(key)
    }

    /// RFC 6056, section 3.3.4: from a place that the destination and our secret choose, the next port that is free and
    /// whose answers steer home. A port in TIME-WAIT serves again by RFC 6191; the second value is then the least
    /// sequence to start at.
    fn choose_port(
        &mut self,
        remote: SocketAddr,
        local: IpAddr,
        steers_home: &mut dyn FnMut(SocketAddr, SocketAddr) -> bool,
        now: Instant,
    ) -> Option<(Tuple, Option<Seq>)> {
        let (first, last) = self.config.ports;
        let count = u32::from(last.checked_sub(first)?) + 1;
        let destination = Tuple::new(SocketAddr::new(local, 0), remote);
        let start = self.ports.start(&self.secrets, &destination);
        for step in 0..count {
            let port = first + (start.wrapping_add(step) % count) as u16;
            let source = SocketAddr::new(local, port);
            if !steers_home(source, remote) {
                continue;
            }
            let tuple = Tuple::new(source, remote);
            let least = match self.find(&tuple) {
                None => None,
                Some(Target::TimeWait(slot)) => match self.time_waits.reusable(slot, now) {
                    Some(least) => {
                        self.forget_time_wait(slot);
                        Some(least)
                    }
                    None => continue,
                },
                Some(Target::Connection(_)) => continue,
            };
            self.ports.advance(&self.secrets, &destination, step);
            return Some((tuple, least));
        }
        None
    }

    pub(crate) fn connected(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        match held(&mut self.connections, flow) {
            Some(connection) => connection.connected(),
            None => Poll::Ready(Err(TcpError::Closed)),
        }
    }

    pub(crate) fn read(
        &mut self,
        flow: FlowKey,
        into: &mut [u8],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        let (limit, mut at) = (into.len(), 0);
        let copy = |bytes: &[u8]| {
            copy_text(&mut into[at..at + bytes.len()], bytes);
            at += bytes.len();
        };
        self.read_with(flow, limit, copy, now)
    }

    pub(crate) fn read_with(
        &mut self,
        flow: FlowKey,
        limit: usize,
        take: impl FnMut(&[u8]),
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        let Some(connection) = held(&mut self.connections, flow) else {
            return Poll::Ready(Err(TcpError::Closed));
        };
        let answer = connection.read_with(limit, take, &mut self.pool, now);
        self.settle(flow.slot, now);
        answer
    }

    pub(crate) fn write(
        &mut self,
        flow: FlowKey,
        from: &[&[u8]],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        let Some(connection) = held(&mut self.connections, flow) else {
            return Poll::Ready(Err(TcpError::Closed));
        };
        let answer = connection.write(from, &mut self.pool);
        self.settle(flow.slot, now);
        answer
    }

    pub(crate) fn splice(&mut self, from: FlowKey, to: FlowKey, now: Instant) -> Result<Splice, TcpError> {
        let both = self.connections.pair_mut((from.slot, from.life), (to.slot, to.life));
        let Some((reader, writer)) = both.filter(|(one, other)| !one.user.orphan && !other.user.orphan)
        else {
            return Err(TcpError::Closed);
        };
        let answer = reader.splice(writer, &mut self.pool, now);
        self.settle(from.slot, now);
        self.settle(to.slot, now);
        answer
    }

    pub(crate) fn flushed(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        match held(&mut self.connections, flow) {
            Some(connection) => connection.flushed(),
            None => Poll::Ready(Err(TcpError::Closed)),
        }
    }

    pub(crate) fn shutdown(&mut self, flow: FlowKey, now: Instant) {
        if let Some(connection) = held(&mut self.connections, flow) {
            connection.shutdown(now);
            self.settle(flow.slot, now);
        }
    }

    pub(crate) fn close(&mut self, flow: FlowKey, now: Instant) {
        self.let_go(flow, now, |connection, tcp_pool| connection.close(tcp_pool, now));
    }

    pub(crate) fn abort(&mut self, flow: FlowKey, now: Instant) {
        self.let_go(flow, now, |connection, tcp_pool| connection.abort(tcp_pool));
    }

    fn let_go(
        &mut self,
        flow: FlowKey,
        now: Instant,
        act: impl FnOnce(&mut Connection, &mut super::memory::Pool),
    ) {
        let Some(connection) = held(&mut self.connections, flow) else { return };
        let was_closed = matches!(connection.state, State::Closed(_));
        act(connection, &mut self.pool);
        if was_closed {
            self.discard(flow);
        } else {
            self.settle(flow.slot, now);
        }
    }

    pub(crate) fn info(&self, flow: FlowKey) -> Option<TcpInfo> {
        let connection = self.connections.get(flow.slot, flow.life).filter(|held| !held.user.orphan)?;
        Some(TcpInfo {
            local: connection.tuple.local(),
            remote: connection.tuple.remote(),
            interface: connection.path.interface,
            state: connection.state.name(),
            smoothed_rtt: connection.recovery.rtt.smoothed(),
            congestion: connection.recovery.control.name(),
            congestion_window_bytes: connection.recovery.window.congestion,
            ecn: connection.ecn.sends,
            retransmitted_segments: connection.recovery.retransmitted_segments,
        })
    }
}

/// The connection of a key that its user has not let go.
fn held(connections: &mut Slab<Connection>, flow: FlowKey) -> Option<&mut Connection> {
    connections.get_mut(flow.slot, flow.life).filter(|connection| !connection.user.orphan)
}
