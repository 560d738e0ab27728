//! One connection between two workers: the near one's user writes as long as it can, the far one's reads what there is.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::task::Poll;

use nic::{
    OpenRequest, OwnedPrefix, Pools, QueueAssignment, Redirect, RedirectConfig, RedirectRole, UmemSet,
    XdpMode, XskQueuePair,
};
use socket::Core;
use stack::{
    Admission, Config, FirstDatagram, FlowKey, Forward, Instant, InterfaceConfig, InterfaceId, ListenSpec,
    ListenerKey, Prefix, Role, Stack, TcpOptions,
};
use worker::{Command, Doorbell, Exit, Mailbox, Place, Port, Worker};

use crate::lab::{FAR, FAR_INTERFACE, FAR_MAC, Lab, NEAR, NEAR_INTERFACE, NEAR_MAC};
use crate::measure::{Count, Rate, Round, Side, Start, both};

const CHUNKS: u32 = 8_192;
const INTERFACE: InterfaceId = InterfaceId(0);
const PORT: u16 = 80;
/// What the user writes and reads at once.
const PIECE_BYTES: usize = 64 << 10;

/// How the sender's segments leave.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Way {
    RingAlone,
    AsIs,
}

pub fn round(lab: &Lab, way: Way, seconds: f64) -> Round {
    let start = &Start::new();
    both(
        move || {
            lab.near();
            start.measure(seconds, Sender::new(way))
        },
        move || -> Rate {
            lab.far();
            start.measure(seconds, Receiver::new())
        },
    )
}

/// A queue pair on the interface, to which the program there gives what is for `address`.
pub fn open(interface: &str, address: Ipv4Addr) -> (XskQueuePair, Redirect) {
    let request = OpenRequest {
        interface,
        mode: XdpMode::Generic,
        redirect: RedirectConfig::untagged(RedirectRole::Uplink),
        queues: &[QueueAssignment { queue: 0, worker: 0 }],
    };
    let mut opened = nic::open(&request, &mut [UmemSet::new(CHUNKS)]).expect("a veth opens");
    opened.redirect.set_owned(&[OwnedPrefix::address(address.into())]).expect("one address fits");
    let bound = opened.queues.pop().expect("one queue was opened");
    (Pools::new().start(bound).expect("the region is this thread's"), opened.redirect)
}

/// Nobody sends datagrams here.
struct Deliver;

impl Admission for Deliver {
    fn admit(&mut self, _: &FirstDatagram<'_>, _: Instant) -> Forward {
        Forward::Deliver
    }
}

/// A worker and its clock.
struct Node {
    worker: Worker<Deliver>,
    begun: std::time::Instant,
    _redirect: Redirect,
}

impl Node {
    fn new(ours: (&str, Ipv4Addr, [u8; 6]), neighbour: (Ipv4Addr, [u8; 6]), way: Way) -> Self {
        let (interface, address, mac) = ours;
        let (pair, redirect) = open(interface, address);
        let pair = if way == Way::RingAlone { pair.by_ring_alone() } else { pair };
        let now = Instant::ZERO;
        let core = Core::new(
            Stack::new(
                Config { secret: mac[5..].repeat(32).try_into().expect("32 bytes"), ..Config::default() },
                now,
            ),
            1,
        );
        let (_sender, mailbox): (_, Mailbox<Command<Deliver>>) =
            worker::mailbox(Doorbell::new().expect("a descriptor is free"));
        let mut worker = Worker::new(core, Deliver, mailbox, Place::alone());
        let port = worker.add_port(Port::new(interface.into(), 0, Box::new(pair)));
        let config = InterfaceConfig {
            id: INTERFACE,
            name: interface.into(),
            role: Role::Uplink,
            mac,
            mtu: 1500,
            vlan: None,
            addresses: vec![(address.into(), 24)],
            intercepted: vec![],
            unfinished_receive_checksum: false,
        };
        worker.set_interface(config, Exit { ports: vec![port], owner: None }, now);
        worker.core.stack().set_neighbour(INTERFACE, IpAddr::V4(neighbour.0), Some(neighbour.1), now);
        Self { worker, begun: std::time::Instant::now(), _redirect: redirect }
    }

    fn turn(&mut self) -> Instant {
        let now = Instant::ZERO + self.begun.elapsed();
        self.worker.wake_ports();
        self.worker.turn(now, &mut || false);
        now
    }
}

struct Sender {
    node: Node,
    flow: Option<FlowKey>,
    text: Vec<u8>,
}

impl Sender {
    fn new(way: Way) -> Self {
        let node = Node::new((NEAR_INTERFACE, NEAR, NEAR_MAC), (FAR, FAR_MAC), way);
        Self { node, flow: None, text: vec![7; PIECE_BYTES] }
    }
}

impl Side for Sender {
    fn work(&mut self) {
        let now = self.node.turn();
        let mut stack = self.node.worker.core.stack();
        let flow = *self.flow.get_or_insert_with(|| {
            let to = SocketAddr::new(FAR.into(), PORT);
            stack.tcp_connect(to, None, TcpOptions::default(), now).expect("there is a route")
        });
        while let Poll::Ready(written) = stack.tcp_write(flow, &[&self.text], now) {
            written.expect("the connection stays");
        }
    }

    fn count(&mut self) -> Count {
        let counters = self.node.worker.ports_mut()[0].counters();
        Count { packets: counters.transmitted_packets, bytes: counters.transmitted_bytes }
    }
}

struct Receiver {
    node: Node,
    listener: ListenerKey,
    flow: Option<FlowKey>,
    into: Vec<u8>,
}

impl Receiver {
    fn new() -> Self {
        let mut node = Node::new((FAR_INTERFACE, FAR, FAR_MAC), (NEAR, NEAR_MAC), Way::AsIs);
        let spec = ListenSpec { addresses: Prefix::ANY_V4, port: Some(PORT), interface: None };
        let listener =
            node.worker.core.stack().tcp_listen(spec, TcpOptions::default()).expect("nobody else listens");
        Self { node, listener, flow: None, into: vec![0; PIECE_BYTES] }
    }
}

impl Side for Receiver {
    fn work(&mut self) {
        let now = self.node.turn();
        let mut stack = self.node.worker.core.stack();
        let Some(flow) = self.flow else {
            if let Poll::Ready(accepted) = stack.tcp_accept(self.listener) {
                self.flow = Some(accepted.expect("the handshake is complete"));
            }
            return;
        };
        while let Poll::Ready(read) = stack.tcp_read(flow, &mut self.into, now) {
            assert!(read.expect("the connection stays") > 0, "the stream does not end");
        }
    }

    fn count(&mut self) -> Count {
        let counters = self.node.worker.ports_mut()[0].counters();
        Count { packets: counters.received_packets, bytes: counters.received_bytes }
    }
}
