//! One core's stack: the entry points that the worker and the socket crate call.

use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use crate::tcp::{
    ConnectError, FlowKey, ListenError, ListenSpec, ListenerKey, TcpError, TcpInfo, TcpOptions,
};
use crate::udp::{UdpError, UdpKey};
use crate::{Admission, Chain, Discard, Discards, Egress, Instant, InterfaceConfig, InterfaceId, Route};

/// What became of a received packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Used up here: delivered, answered or learned from. The caller drops the frames.
    Consumed,
    /// Rewritten in place: the caller transmits it on that interface.
    Forward(InterfaceId),
    /// Died, and counted under that reason. The caller drops the frames.
    Discarded(Discard),
}

/// Something a task may be waiting for. Level-triggered by the next call, told once a change.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connect ended, well or badly: write or read says which.
    Connected(FlowKey),
    /// Bytes, end of stream or an error can be read.
    Readable(FlowKey),
    /// Room in the send buffer, or an error.
    Writable(FlowKey),
    /// A connection waits to be accepted.
    Acceptable(ListenerKey),
    DatagramReadable(UdpKey),
    DatagramWritable(UdpKey),
    /// ARP or NDP taught a neighbour: other workers should know.
    NeighbourLearned {
        interface: InterfaceId,
        address: IpAddr,
        mac: [u8; 6],
    },
}

/// Limits and secrets of one stack.
#[derive(Clone, Debug)]
pub struct Config {
    /// Seeds ISNs, cookies, source ports and hash tables. The same key and inputs give the same packets.
    pub secret: [u8; 32],
    /// Source ports that the stack may choose: `first..=last`.
    pub ports: (u16, u16),
    /// Which worker this is and of how many: a source port is chosen so that the return flow steers here.
    pub worker: u16,
    pub workers: u16,
    pub max_flows: usize,
    pub max_sessions: usize,
    /// Bytes that all TCP buffers and reassembly of this worker may hold.
    pub memory_budget_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            secret: [0; 32],
            ports: (32_768, 60_999),
            worker: 0,
            workers: 1,
            max_flows: 1 << 20,
            max_sessions: 1 << 16,
            memory_budget_bytes: 1 << 30,
        }
    }
}

/// One core's Ethernet, ARP, NDP, IPv4, IPv6, ICMP, UDP and TCP.
#[derive(Debug)]
pub struct Stack {
    config: Config,
}

#[expect(clippy::todo, unused_variables, reason = "skeleton")]
impl Stack {
    pub fn new(config: Config, now: Instant) -> Self {
        Self { config }
    }

    // ---- configuration, by the worker at a table or link change ----

    /// Adds an interface, or replaces the one with that id (addresses, MTU or MAC changed).
    pub fn set_interface(&mut self, interface: InterfaceConfig, now: Instant) {
        todo!()
    }

    pub fn remove_interface(&mut self, interface: InterfaceId, now: Instant) {
        todo!()
    }

    /// The whole routing table, replacing the former. On-link prefixes of interface addresses are implied.
    pub fn set_routes(&mut self, routes: &[Route]) {
        todo!()
    }

    /// A neighbour that the kernel or another worker knows. `None`: forget it.
    pub fn set_neighbour(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Option<[u8; 6]>,
        now: Instant,
    ) {
        todo!()
    }

    /// Sessions that were judged under an older version are judged again at their next packet.
    pub fn set_table_version(&mut self, version: u64) {
        todo!()
    }

    // ---- the turn ----

    /// A packet arrived on `interface` (its VLAN tag, if any, still on).
    pub fn handle_packet(
        &mut self,
        interface: InterfaceId,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Verdict {
        todo!()
    }

    /// Fires at most `budget` due timers; true when more are due.
    pub fn handle_timers(&mut self, budget: usize, now: Instant) -> bool {
        todo!()
    }

    /// When the next timer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Writes packets until `budget` is spent or nothing is left; true when more is left.
    pub fn poll_transmit(&mut self, egress: &mut dyn Egress, budget: usize, now: Instant) -> bool {
        todo!()
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }

    pub fn discards(&self) -> &Discards {
        todo!()
    }

    // ---- TCP, for the socket crate ----

    pub fn tcp_listen(&mut self, spec: ListenSpec, options: TcpOptions) -> Result<ListenerKey, ListenError> {
        todo!()
    }

    /// Stops accepting. Connections that were accepted go on; the others are reset.
    pub fn tcp_unlisten(&mut self, listener: ListenerKey, now: Instant) {
        todo!()
    }

    /// `Pending`: an [`Event::Acceptable`] follows.
    pub fn tcp_accept(&mut self, listener: ListenerKey) -> Poll<Result<FlowKey, TcpError>> {
        todo!()
    }

    pub fn tcp_connect(
        &mut self,
        remote: SocketAddr,
        local: Option<IpAddr>,
        options: TcpOptions,
        now: Instant,
    ) -> Result<FlowKey, ConnectError> {
        todo!()
    }

    /// Whether a connect has ended. `Pending`: an [`Event::Connected`] follows.
    pub fn tcp_connected(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        todo!()
    }

    /// `Ready(Ok(0))` is the end of the stream. `Pending`: an [`Event::Readable`] follows.
    pub fn tcp_read(
        &mut self,
        flow: FlowKey,
        into: &mut [u8],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        todo!()
    }

    /// Takes as much as there is room for. `Pending`: no room, an [`Event::Writable`] follows.
    pub fn tcp_write(
        &mut self,
        flow: FlowKey,
        from: &[&[u8]],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        todo!()
    }

    /// Ready when all that was written is acknowledged.
    pub fn tcp_flushed(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        todo!()
    }

    /// No more will be written: FIN after what is buffered.
    pub fn tcp_shutdown(&mut self, flow: FlowKey, now: Instant) {
        todo!()
    }

    /// The task lets go. What is written is still delivered; a connection with unread bytes is reset
    /// (RFC 2525, 2.17). The key misses from now on.
    pub fn tcp_close(&mut self, flow: FlowKey, now: Instant) {
        todo!()
    }

    /// Resets it. The key misses from now on.
    pub fn tcp_abort(&mut self, flow: FlowKey, now: Instant) {
        todo!()
    }

    pub fn tcp_info(&self, flow: FlowKey) -> Option<TcpInfo> {
        todo!()
    }

    // ---- UDP, for the socket crate ----

    /// Binds a socket. Datagrams to it arrive when admission answers `Deliver` or nothing else claims the port.
    pub fn udp_bind(
        &mut self,
        local: SocketAddr,
        interface: Option<InterfaceId>,
    ) -> Result<UdpKey, UdpError> {
        todo!()
    }

    /// Length written to `into`, sender, and the address it was sent to.
    pub fn udp_receive(
        &mut self,
        socket: UdpKey,
        into: &mut [u8],
    ) -> Poll<Result<(usize, SocketAddr, SocketAddr), UdpError>> {
        todo!()
    }

    pub fn udp_send(
        &mut self,
        socket: UdpKey,
        payload: &[u8],
        remote: SocketAddr,
        now: Instant,
    ) -> Poll<Result<(), UdpError>> {
        todo!()
    }

    pub fn udp_close(&mut self, socket: UdpKey) {
        todo!()
    }
}
