//! The stack under test: an uplink, a workload interface and a VLAN; a listener on every port, UDP sockets, and
//! admission by the destination's port. What it reads it sends back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use stack::{
    Admission, Discard, Event, FirstDatagram, FlowKey, Forward, Instant, InterfaceId, ListenSpec,
    ListenerKey, Prefix, Rewrite, Role, TcpOptions, UdpKey, Verdict,
};

use crate::network::packets::Read;
use crate::network::{End, Network, interface};

pub const UPLINK: InterfaceId = InterfaceId(0);
pub const WORKLOAD: InterfaceId = InterfaceId(1);
pub const TAGGED: InterfaceId = InterfaceId(2);
/// Not there.
pub const NONE: InterfaceId = InterfaceId(9);
pub const VLAN: u16 = 5;

const DNS: u16 = 53;
/// Frame bytes before IP, and of a VLAN tag.
const LINK_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
/// Longer than retransmission, probes of a closed window and TIME-WAIT go on.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3_600);
/// Events taken at one moment.
const MAX_EVENTS: usize = 10_000;

/// UDP by the destination's port: refused, delivered, forwarded to the workload, forwarded nowhere.
struct ByPort;

impl Admission for ByPort {
    fn admit(&mut self, first: &FirstDatagram<'_>, _now: Instant) -> Forward {
        let workload = |v4: bool| if v4 { "10.88.0.11:9" } else { "[fd88::11]:9" };
        let endpoint = match first.destination.port() % 8 {
            0 => return Forward::Drop(Discard::UdpPortUnreachable),
            1 => return Forward::Drop(Discard::NoRoute),
            2..=4 => workload(first.source.is_ipv4()),
            5 => return Forward::Deliver,
            6 => workload(!first.source.is_ipv4()),
            _ => "203.0.113.9:9",
        };
        Forward::Rewrite(Rewrite {
            endpoint: endpoint.parse().unwrap(),
            idle: Duration::from_secs(60),
            version: 0,
            tag: 0,
        })
    }
}

/// What a connection's task does.
#[derive(Debug, Default)]
pub struct Stream {
    pub received: Vec<u8>,
    /// Read but not yet sent back.
    unsent: Vec<u8>,
    ended: bool,
}

pub struct Node {
    pub network: Network,
    pub streams: BTreeMap<usize, (FlowKey, Stream)>,
    /// Everything that came of the input, each kind once.
    pub seen: BTreeSet<String>,
    /// What the node sent since it was last taken.
    pub sent: Vec<Read>,
    listeners: [ListenerKey; 2],
    sockets: [UdpKey; 2],
    /// Whether streams send back what they read.
    echoes: bool,
}

impl Node {
    pub fn new(echoes: bool) -> Self {
        let mut network = Network::new();
        let uplink = interface(1, UPLINK.0, Role::Uplink, &["10.0.0.1/24", "2001:db8::1/64"]);
        let mut workload = interface(1, WORKLOAD.0, Role::Workload, &["10.88.0.1/24", "fd88::1/64"]);
        workload.intercepted = vec![prefix("10.96.0.0", 16), prefix("fd96::", 112)];
        workload.unfinished_receive_checksum = true;
        workload.mtu = u16::MAX;
        let mut tagged = interface(1, TAGGED.0, Role::Uplink, &["10.0.5.1/24", "2001:db8:5::1/64"]);
        tagged.vlan = Some(VLAN);
        network.host(vec![uplink, workload, tagged]);
        network.record = true;
        let now = network.now;
        let host = &mut network.hosts[0];
        host.admission = Box::new(ByPort);
        for (id, neighbour) in [
            (UPLINK, "10.0.0.2"),
            (UPLINK, "2001:db8::2"),
            (WORKLOAD, "10.88.0.11"),
            (WORKLOAD, "fd88::11"),
            (TAGGED, "10.0.5.2"),
        ] {
            let mac = [2, 0, 0, 0, 2, id.0 as u8];
            host.stack.set_neighbour(id, neighbour.parse().unwrap(), Some(mac), now);
        }
        let any = [Prefix::ANY_V4, Prefix::ANY_V6];
        let listeners = any.map(|addresses| {
            let spec = ListenSpec { addresses, port: None, interface: None };
            let options = TcpOptions { keepalive: Some(Duration::from_secs(60)), ..TcpOptions::default() };
            host.stack.tcp_listen(spec, options).unwrap()
        });
        let sockets = ["0.0.0.0", "::"].map(|address| {
            let address: IpAddr = address.parse().unwrap();
            host.stack.udp_bind(SocketAddr::new(address, DNS), None).unwrap()
        });
        Self {
            network,
            streams: BTreeMap::new(),
            seen: BTreeSet::new(),
            sent: Vec::new(),
            listeners,
            sockets,
            echoes,
        }
    }

    /// Hands over a frame, and lets the node do what there is to do at this moment.
    pub fn hear(&mut self, interface: InterfaceId, frame: Vec<u8>) {
        let verdict = self.network.deliver(End { host: 0, interface }, frame);
        self.seen.insert(format!("{verdict:?}"));
        if let Verdict::Forward(_) = verdict {
            self.check_sent();
        }
        self.serve();
    }

    pub fn wait(&mut self, time: Duration) {
        self.network.advance(time);
        self.serve();
    }

    /// Tasks run, then the stack sends.
    pub fn serve(&mut self) {
        self.take_events();
        for number in 0..self.streams.len() {
            self.run_stream(number);
        }
        for socket in self.sockets {
            self.answer_datagrams(socket);
        }
        self.network.settle();
        self.take_events();
        self.check_sent();
    }

    fn take_events(&mut self) {
        for _ in 0..MAX_EVENTS {
            let Some(event) = self.network.hosts[0].stack.poll_event() else { break };
            let name = format!("{event:?}");
            self.seen.insert(name.split(['(', ' ']).next().unwrap_or_default().to_owned());
            if let Event::Acceptable(_) = event {
                self.accept();
            }
        }
    }

    fn accept(&mut self) {
        for listener in self.listeners {
            while let Poll::Ready(Ok(flow)) = self.network.hosts[0].stack.tcp_accept(listener) {
                self.streams.insert(self.streams.len(), (flow, Stream::default()));
            }
        }
    }

    /// Reads what there is, writes it back, and closes once its peer has.
    fn run_stream(&mut self, number: usize) {
        let now = self.network.now;
        let Some((flow, stream)) = self.streams.get_mut(&number) else { return };
        let stack = &mut self.network.hosts[0].stack;
        if stream.ended {
            return;
        }
        let mut buffer = [0; 4096];
        loop {
            match stack.tcp_read(*flow, &mut buffer, now) {
                Poll::Pending => break,
                Poll::Ready(Ok(read)) if read > 0 => {
                    stream.received.extend_from_slice(&buffer[..read]);
                    if self.echoes {
                        stream.unsent.extend_from_slice(&buffer[..read]);
                    }
                }
                Poll::Ready(end) => {
                    self.seen.insert(format!("stream ends {end:?}"));
                    stream.ended = true;
                    break;
                }
            }
        }
        while !stream.unsent.is_empty() {
            match stack.tcp_write(*flow, &[&stream.unsent], now) {
                Poll::Ready(Ok(written)) => drop(stream.unsent.drain(..written)),
                Poll::Ready(Err(_)) => stream.unsent.clear(),
                Poll::Pending => break,
            }
        }
        if stream.ended {
            stack.tcp_close(*flow, now);
        }
    }

    fn answer_datagrams(&mut self, socket: UdpKey) {
        let now = self.network.now;
        let stack = &mut self.network.hosts[0].stack;
        let mut buffer = [0; 2048];
        while let Poll::Ready(Ok((read, from, _))) = stack.udp_receive(socket, &mut buffer) {
            // Nobody may be there.
            let _sent = stack.udp_send(socket, &buffer[..read.min(buffer.len())], from, now);
        }
    }

    /// What leaves the node can be read by somebody else: lengths and checksums are right.
    fn check_sent(&mut self) {
        for (_, frame) in self.network.hosts[0].sent.drain(..) {
            if !has_extension_header(&frame) {
                self.sent.extend(Read::new(&frame));
            }
        }
    }

    /// The end of every input: timers run out, and what was received was answered for.
    pub fn finish(mut self) -> BTreeSet<String> {
        for (flow, _) in self.streams.values() {
            self.network.hosts[0].stack.tcp_close(*flow, self.network.now);
        }
        self.network.advance(FORGOTTEN_AFTER);
        self.check_sent();
        self.network.check_accounts();
        assert_eq!(self.network.hosts[0].stack.tcp_connections(), 0, "a connection is never forgotten");
        assert_eq!(self.network.hosts[0].stack.sessions().count(), 0, "a session is never forgotten");
        self.seen
    }
}

/// IPv6 with something between its header and TCP, UDP or ICMPv6: passed on as it came.
fn has_extension_header(frame: &[u8]) -> bool {
    let tag = if frame[12..14] == [0x81, 0] { TAG_BYTES } else { 0 };
    let is_v6 = frame[12 + tag..LINK_BYTES + tag] == [0x86, 0xdd];
    is_v6 && !matches!(frame[LINK_BYTES + tag + 6], 6 | 17 | 44 | 58)
}

fn prefix(address: &str, length: u8) -> Prefix {
    Prefix::new(address.parse().unwrap(), length)
}
