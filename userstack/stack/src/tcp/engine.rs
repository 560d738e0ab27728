//! One core's TCP: the calls that the stack makes. It finds the connection and lets it act, then settles what the
//! connection asked for (timers, events, a place in the transmit queue).

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use super::boundary::{Arrival, IcmpError, SegmentSink};
use super::{
    ConnectError, FlowKey, ListenError, ListenSpec, ListenerKey, TcpError, TcpEvent, TcpInfo, TcpOptions,
};
use crate::{Chain, Discard, Instant};

/// Limits and secrets.
#[derive(Clone, Debug)]
pub(crate) struct TcpConfig {
    pub secret: [u8; 32],
    /// Source ports to choose from: `first..=last`.
    pub ports: (u16, u16),
    pub max_flows: usize,
    pub memory_budget_bytes: usize,
}

/// Connections, listeners and TIME-WAIT entries of one core.
#[derive(Debug)]
pub(crate) struct Tcp {
    config: TcpConfig,
}

#[expect(clippy::todo, unused_variables, dead_code, reason = "skeleton")]
impl Tcp {
    pub(crate) fn new(config: TcpConfig, now: Instant) -> Self {
        Self { config }
    }

    // ---- the turn ----

    /// A segment arrived. `packet` begins at the IP header (or before it) and ends with the segment's last byte; the
    /// TCP header begins at `tcp_offset` of the first chunk.
    pub(crate) fn handle_segment(
        &mut self,
        arrival: Arrival,
        packet: &dyn Chain,
        tcp_offset: usize,
        now: Instant,
    ) -> Result<(), Discard> {
        todo!()
    }

    /// An ICMP error quotes a segment of ours from `local` to `remote` that began at `sequence`.
    pub(crate) fn handle_icmp_error(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        sequence: u32,
        error: IcmpError,
        now: Instant,
    ) -> Result<(), Discard> {
        todo!()
    }

    /// Fires at most `budget` timers; true when more are due.
    pub(crate) fn handle_timers(&mut self, budget: usize, now: Instant) -> bool {
        todo!()
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Sends at most `budget` segments; true when more wait.
    pub(crate) fn poll_transmit(&mut self, sink: &mut dyn SegmentSink, budget: usize, now: Instant) -> bool {
        todo!()
    }

    pub(crate) fn poll_event(&mut self) -> Option<TcpEvent> {
        todo!()
    }

    // ---- the user's calls ----

    pub(crate) fn listen(
        &mut self,
        spec: ListenSpec,
        options: TcpOptions,
    ) -> Result<ListenerKey, ListenError> {
        todo!()
    }

    pub(crate) fn unlisten(&mut self, listener: ListenerKey, now: Instant) {
        todo!()
    }

    pub(crate) fn accept(&mut self, listener: ListenerKey) -> Poll<Result<FlowKey, TcpError>> {
        todo!()
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
        todo!()
    }

    pub(crate) fn connected(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        todo!()
    }

    pub(crate) fn read(
        &mut self,
        flow: FlowKey,
        into: &mut [u8],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        todo!()
    }

    pub(crate) fn write(
        &mut self,
        flow: FlowKey,
        from: &[&[u8]],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        todo!()
    }

    pub(crate) fn flushed(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        todo!()
    }

    pub(crate) fn shutdown(&mut self, flow: FlowKey, now: Instant) {
        todo!()
    }

    pub(crate) fn close(&mut self, flow: FlowKey, now: Instant) {
        todo!()
    }

    pub(crate) fn abort(&mut self, flow: FlowKey, now: Instant) {
        todo!()
    }

    pub(crate) fn info(&self, flow: FlowKey) -> Option<TcpInfo> {
        todo!()
    }
}
