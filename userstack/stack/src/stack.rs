//! One core's stack: the entry points that the worker and the socket crate call. The way of a received packet is in
//! `input`, that of a sent one in `output`.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use crate::forward::{SessionInfo, table::Sessions};
use crate::limit::TokenBucket;
use crate::neighbour::Claim;
use crate::output::Output;
use crate::reassembly::Reassembly;
use crate::recent::Recent;
use crate::sink::Sink;
use crate::tcp::engine::{Tcp, TcpConfig};
use crate::tcp::{
    ConnectError, FlowKey, ListenError, ListenSpec, ListenerKey, Splice, TcpError, TcpEvent, TcpHoldings,
    TcpInfo, TcpOptions,
};
use crate::udp::{Sockets, UdpError, UdpKey};
use crate::{
    Config, Defences, Discard, Discards, Egress, Event, Holding, Instant, InterfaceConfig, InterfaceId,
    Route, Share, hash::Key, steer,
};

/// ICMP errors sent (Linux: icmp_msgs_per_sec 1000, icmp_msgs_burst 50).
const ERRORS_PER_SECOND: u32 = 1000;
const ERRORS_BURST: u32 = 50;
/// Echo requests answered: more is no measurement but a flood.
const ECHOES_PER_SECOND: u32 = 50_000;
const ECHOES_BURST: u32 = 1000;
/// What fragments may hold of the worker's memory, and at most an eighth of it (Linux: ipfrag_high_thresh, 4 MiB).
const REASSEMBLY_BYTES: usize = 4 << 20;

/// One core's Ethernet, ARP, NDP, IPv4, IPv6, ICMP, UDP and TCP.
#[derive(Debug)]
pub struct Stack {
    pub(crate) config: Config,
    pub(crate) output: Output,
    pub(crate) tcp: Tcp,
    pub(crate) sockets: Sockets,
    pub(crate) sessions: Sessions,
    pub(crate) reassembly: Reassembly,
    pub(crate) recent: Recent,
    pub(crate) steered: VecDeque<Steered>,
    pub(crate) discards: Discards,
    pub(crate) error_limit: TokenBucket,
    pub(crate) echo_limit: TokenBucket,
    /// Where the search for a session's source port begins.
    pub(crate) port_key: Key,
}

/// A reassembled packet of a flow that another worker has: fragments steer by their addresses, the whole steers
/// again. The worker named gives it to its own [`Stack::handle_steered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steered {
    pub worker: u16,
    pub interface: InterfaceId,
    /// From Ethernet onwards.
    pub packet: Vec<u8>,
}

impl Stack {
    pub fn new(config: Config, now: Instant) -> Self {
        let reassembly_bytes = REASSEMBLY_BYTES.min(config.memory_budget_bytes / 8);
        let tcp = TcpConfig {
            secret: config.secret,
            ports: config.ports,
            max_flows: config.max_flows,
            memory_budget_bytes: config.memory_budget_bytes - reassembly_bytes,
        };
        let sessions = Share::even(config.max_sessions, config.worker, config.workers);
        Self {
            output: Output::new(&config.secret, now),
            tcp: Tcp::new(tcp, now),
            sockets: Sockets::new(Key::new(&config.secret, 5)),
            sessions: Sessions::new(Key::new(&config.secret, 6), sessions, now),
            reassembly: Reassembly::new(Key::new(&config.secret, 7), reassembly_bytes, now),
            recent: Recent::default(),
            steered: VecDeque::new(),
            discards: Discards::default(),
            error_limit: TokenBucket::noisy(ERRORS_PER_SECOND, ERRORS_BURST, Key::new(&config.secret, 11)),
            echo_limit: TokenBucket::new(ECHOES_PER_SECOND, ECHOES_BURST),
            port_key: Key::new(&config.secret, 8),
            config,
        }
    }

    // ---- configuration, by the worker at a table or link change ----

    /// Adds an interface, or replaces the one with that id (addresses, MTU or MAC changed).
    pub fn set_interface(&mut self, interface: InterfaceConfig, _now: Instant) {
        self.output.set_interface(interface);
    }

    pub fn remove_interface(&mut self, interface: InterfaceId, _now: Instant) {
        self.output.remove_interface(interface);
    }

    /// The whole routing table, replacing the former. On-link prefixes of interface addresses are implied.
    pub fn set_routes(&mut self, routes: &[Route]) {
        self.output.set_routes(routes);
    }

    /// A neighbour that the kernel knows. `None`: forget it.
    pub fn set_neighbour(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: Option<[u8; 6]>,
        now: Instant,
    ) {
        self.output.set_neighbour(interface, address, mac, now);
    }

    /// Somebody on the link announced that `address` is at `mac`, in a frame that the kernel got (gratuitous ARP, an
    /// unsolicited advertisement). Moves a neighbour that is in use, never makes one.
    pub fn neighbour_announced(
        &mut self,
        interface: InterfaceId,
        address: IpAddr,
        mac: [u8; 6],
        now: Instant,
    ) {
        self.output.claim(interface, address, mac, Claim::Notice { overrides: true }, now);
    }

    /// Sessions that were judged under an older version are judged again at their next packet.
    pub fn set_table_version(&mut self, version: u64) {
        self.sessions.version = version;
    }

    // ---- the turn; `handle_packet` is in `input` ----

    /// Fires at most `budget` due timers; true when more are due.
    pub fn handle_timers(&mut self, budget: usize, now: Instant) -> bool {
        let mut work = budget;
        self.output.handle_timers(&mut work, now);
        self.sessions.handle_timers(&mut work, now);
        while let Some(fragments) = self.reassembly.poll_expired(now, &mut work) {
            self.output.late.count_many(Discard::ReassemblyTimeout, fragments);
        }
        let more = work > 0 && self.tcp.handle_timers(work, now);
        more || work == 0
    }

    /// When the next timer is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let tcp = self.tcp.next_timeout();
        let sessions = self.sessions.next_timeout();
        [self.output.neighbours.next_timeout(), sessions, self.reassembly.next_timeout(), tcp]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes packets until `budget` is spent or nothing is left; true when more is left.
    pub fn poll_transmit(&mut self, egress: &mut dyn Egress, budget: usize, now: Instant) -> bool {
        let mut left = budget;
        let mut more = self.output.outbox.transmit(egress, &mut left);
        if left > 0 {
            let mut sink = Sink::new(&mut self.output, egress, now);
            more |= self.tcp.poll_transmit(&mut sink, left, now);
            left = left.saturating_sub(sink.sent());
            // Requests for neighbours that the segments just wanted.
            more |= self.output.outbox.transmit(egress, &mut left);
        } else {
            more = true;
        }
        more
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.tcp.poll_event() {
            return Some(match event {
                TcpEvent::Connected(flow) => Event::Connected(flow),
                TcpEvent::Readable(flow) => Event::Readable(flow),
                TcpEvent::Writable(flow) => Event::Writable(flow),
                TcpEvent::Acceptable(listener) => Event::Acceptable(listener),
            });
        }
        if let Some(socket) = self.sockets.poll_readable() {
            return Some(Event::DatagramReadable(socket));
        }
        if self.output.outbox.room() > 0
            && let Some(socket) = self.sockets.poll_writable()
        {
            return Some(Event::DatagramWritable(socket));
        }
        None
    }

    /// Received packets that died, by reason. Together with the other verdicts they add up to all that was received.
    pub fn discards(&self) -> &Discards {
        &self.discards
    }

    /// Packets that died after they were made here, or after their verdict was `Consumed`: while they waited for a
    /// neighbour, for room or for their other fragments.
    pub fn late_discards(&self) -> &Discards {
        &self.output.late
    }

    /// What was warded off without the death of a packet.
    pub fn defences(&self) -> &Defences {
        self.tcp.defences()
    }

    /// A reassembled packet that belongs to another worker.
    pub fn poll_steered(&mut self) -> Option<Steered> {
        self.steered.pop_front()
    }

    // ---- datagram sessions ----

    /// All sessions, with what went through them.
    pub fn sessions(&self) -> impl Iterator<Item = SessionInfo> + '_ {
        self.sessions.iter()
    }

    /// The next session that has ended, with its last counters. A bounded number waits to be read.
    pub fn poll_ended_session(&mut self) -> Option<SessionInfo> {
        self.sessions.poll_ended()
    }

    /// How the sessions stand to this worker's part of [`Config::max_sessions`].
    pub fn session_share(&self) -> Holding {
        self.sessions.share.holding(self.sessions.len())
    }

    /// Sets that part, but to no less than there are sessions: what it has become.
    pub fn grant_sessions(&mut self, granted: usize) -> Holding {
        self.sessions.share.grant(granted, self.sessions.len())
    }

    // ---- TCP, for the socket crate ----

    pub fn tcp_listen(&mut self, spec: ListenSpec, options: TcpOptions) -> Result<ListenerKey, ListenError> {
        self.tcp.listen(spec, options)
    }

    /// What the listener accepts from now on behaves so; what it accepted goes on as it is.
    pub fn tcp_set_options(&mut self, listener: ListenerKey, options: TcpOptions) {
        self.tcp.set_listener_options(listener, options);
    }

    /// Stops accepting. Connections that were accepted go on; the others are reset.
    pub fn tcp_unlisten(&mut self, listener: ListenerKey, now: Instant) {
        self.tcp.unlisten(listener, now);
    }

    /// `Pending`: an [`Event::Acceptable`] follows.
    pub fn tcp_accept(&mut self, listener: ListenerKey) -> Poll<Result<FlowKey, TcpError>> {
        self.tcp.accept(listener)
    }

    pub fn tcp_connect(
        &mut self,
        remote: SocketAddr,
        local: Option<IpAddr>,
        options: TcpOptions,
        now: Instant,
    ) -> Result<FlowKey, ConnectError> {
        let hash = local.map_or(0, |local| steer::address_hash(local, remote.ip()));
        let (interface, _) = self.output.find_route(remote.ip(), hash, None).ok_or(ConnectError::NoRoute)?;
        let local = match local {
            Some(local) => Some(local).filter(|local| local.is_ipv4() == remote.is_ipv4()),
            None => {
                let interface = self.output.locals.find(interface).ok_or(ConnectError::NoRoute)?;
                self.output.locals.source_for(interface, remote.ip())
            }
        };
        let local = local.ok_or(ConnectError::NoSourceAddress)?;
        let (worker, workers) = (self.config.worker, self.config.workers);
        let mut home = |local, remote| steer::steers_home(local, remote, worker, workers);
        self.tcp.connect(remote, local, options, &mut home, now)
    }

    /// Whether a connect has ended. `Pending`: an [`Event::Connected`] follows.
    pub fn tcp_connected(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        self.tcp.connected(flow)
    }

    /// `Ready(Ok(0))` is the end of the stream. `Pending`: an [`Event::Readable`] follows.
    pub fn tcp_read(
        &mut self,
        flow: FlowKey,
        into: &mut [u8],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        self.tcp.read(flow, into, now)
    }

    /// As [`Stack::tcp_read`], without memory of the caller's in between: `take` is shown the bytes where they lie, at
    /// most `limit`, once or twice, in order. They are read when it returns.
    pub fn tcp_read_with(
        &mut self,
        flow: FlowKey,
        limit: usize,
        take: impl FnMut(&[u8]),
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        self.tcp.read_with(flow, limit, take, now)
    }

    /// Takes as much as there is room for. `Pending`: no room, an [`Event::Writable`] follows.
    pub fn tcp_write(
        &mut self,
        flow: FlowKey,
        from: &[&[u8]],
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        self.tcp.write(flow, from, now)
    }

    /// Moves what can be read from `from` to what `to` sends: as a read and a write, without memory of the caller's in
    /// between.
    pub fn tcp_splice(&mut self, from: FlowKey, to: FlowKey, now: Instant) -> Result<Splice, TcpError> {
        self.tcp.splice(from, to, now)
    }

    /// Ready when all that was written is acknowledged.
    pub fn tcp_flushed(&mut self, flow: FlowKey) -> Poll<Result<(), TcpError>> {
        self.tcp.flushed(flow)
    }

    /// No more will be written: FIN after what is buffered.
    pub fn tcp_shutdown(&mut self, flow: FlowKey, now: Instant) {
        self.tcp.shutdown(flow, now);
    }

    /// The task lets go. What is written is still delivered; a connection with unread bytes is reset
    /// (RFC 2525, 2.17). The key misses from now on.
    pub fn tcp_close(&mut self, flow: FlowKey, now: Instant) {
        self.tcp.close(flow, now);
    }

    /// Resets it. The key misses from now on.
    pub fn tcp_abort(&mut self, flow: FlowKey, now: Instant) {
        self.tcp.abort(flow, now);
    }

    /// Connections that exist now, in whatever state but TIME-WAIT.
    pub fn tcp_connections(&self) -> usize {
        self.tcp.connections()
    }

    pub fn tcp_holdings(&self) -> TcpHoldings {
        self.tcp.holdings()
    }

    /// The state of every connection, as [`TcpInfo::state`] has it.
    pub fn tcp_states(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.tcp.state_names()
    }

    pub fn tcp_info(&self, flow: FlowKey) -> Option<TcpInfo> {
        self.tcp.info(flow)
    }

    // ---- UDP, for the socket crate ----

    /// Binds a socket. Datagrams to it arrive when admission answers `Deliver` or nothing else claims the port
    /// (`Drop(UdpPortUnreachable)`). An unspecified address stands for all of its family. Port 0 is chosen when the
    /// socket first sends; what answers it is delivered without asking admission.
    pub fn udp_bind(
        &mut self,
        local: SocketAddr,
        interface: Option<InterfaceId>,
    ) -> Result<UdpKey, UdpError> {
        self.sockets.bind(local, interface)
    }

    /// Length written to `into`, sender, and the address it was sent to.
    pub fn udp_receive(
        &mut self,
        socket: UdpKey,
        into: &mut [u8],
    ) -> Poll<Result<(usize, SocketAddr, SocketAddr), UdpError>> {
        self.sockets.receive(socket, into)
    }

    /// `Pending`: no room, an [`Event::DatagramWritable`] follows.
    pub fn udp_send(
        &mut self,
        socket: UdpKey,
        payload: &[u8],
        remote: SocketAddr,
        now: Instant,
    ) -> Poll<Result<(), UdpError>> {
        self.send_datagram(socket, payload, remote, now)
    }

    pub fn udp_close(&mut self, socket: UdpKey) {
        self.sockets.close(socket);
    }
}
