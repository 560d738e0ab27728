//! Workers joined by wires in memory, on a clock that the case moves. The frames that a worker transmits from are made
//! beforehand, as a ring's are, so that making them is not counted.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;

use nic::{
    Burst, FRAME_BYTES, Frame, HEADROOM_BYTES, MAX_FRAMES, Offloads, Packet, QueueCounters, QueuePair,
};
use socket::Core;
use worker::{
    Admission, Command, Doorbell, Exit, Instant, InterfaceConfig, InterfaceId, Mailbox, Place, Port, Role,
    Stack, StackConfig, Worker,
};

/// Packets that a wire holds in one direction, as deep as an AF_XDP ring.
const WIRE_PACKETS: usize = 2_048;
/// Frames ready at each end: more than one turn transmits.
const SPARE_FRAMES: usize = 512;
/// Heap bytes of one frame.
pub const HEAP_FRAME_BYTES: i64 = (HEADROOM_BYTES + FRAME_BYTES) as i64;

type Lane = Rc<RefCell<VecDeque<Packet>>>;
type Spare = Rc<RefCell<Vec<Frame>>>;

/// One end of a wire.
#[derive(Debug)]
pub struct Wire {
    inbound: Lane,
    outbound: Lane,
    spare: Spare,
}

impl Wire {
    pub fn pair() -> (Self, Self) {
        let lane = || Rc::new(RefCell::new(VecDeque::with_capacity(WIRE_PACKETS)));
        let (there, back) = (lane(), lane());
        let end = |inbound: &Lane, outbound: &Lane| {
            let spare = Rc::new(RefCell::new(Vec::with_capacity(SPARE_FRAMES)));
            Self { inbound: Rc::clone(inbound), outbound: Rc::clone(outbound), spare }
        };
        (end(&back, &there), end(&there, &back))
    }

    /// For the one who looks after the end while its worker owns it.
    pub fn keeper(&self) -> Keeper {
        Keeper { inbound: Rc::clone(&self.inbound), spare: Rc::clone(&self.spare) }
    }
}

impl QueuePair for Wire {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut lane = self.inbound.borrow_mut();
        let packets = burst.room().min(lane.len());
        for packet in lane.drain(..packets) {
            burst.push(packet).expect("no more is drained than the burst has room for");
        }
        packets
    }

    fn transmit(&mut self, burst: &mut Burst) {
        let mut lane = self.outbound.borrow_mut();
        while lane.len() < WIRE_PACKETS
            && let Some(packet) = burst.pop()
        {
            lane.push_back(packet);
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        self.spare.borrow_mut().pop()
    }

    fn offloads(&self) -> Offloads {
        Offloads { max_packet_bytes: MAX_FRAMES * FRAME_BYTES, ..Offloads::default() }
    }

    fn counters(&mut self) -> QueueCounters {
        QueueCounters::default()
    }
}

/// Keeps frames ready at an end, and sees what waits there.
#[derive(Debug)]
pub struct Keeper {
    inbound: Lane,
    spare: Spare,
}

impl Keeper {
    pub fn refill(&self) {
        let mut spare = self.spare.borrow_mut();
        while spare.len() < SPARE_FRAMES {
            spare.push(Frame::heap(FRAME_BYTES));
        }
    }

    /// Puts a packet on the wire towards this end.
    pub fn give(&self, packet: Packet) {
        self.inbound.borrow_mut().push_back(packet);
    }

    /// What waits there is gone.
    pub fn drain(&self) {
        self.inbound.borrow_mut().clear();
    }

    pub fn waiting(&self) -> usize {
        self.inbound.borrow().len()
    }
}

pub fn packet(bytes: &[u8]) -> Packet {
    let mut frame = Frame::heap(FRAME_BYTES);
    let taken = frame.append(bytes);
    debug_assert_eq!(taken, bytes.len(), "a packet of a case fits a frame");
    Packet::new(frame)
}

/// A worker by itself, with no thread behind its mailbox.
pub fn worker<A: Admission>(application: A, secret: u8, now: Instant) -> Worker<A> {
    let config = StackConfig { secret: [secret; 32], ..StackConfig::default() };
    let core = Core::new(Stack::new(config, now), secret.into());
    let bell = Doorbell::new().expect("a descriptor is free");
    let (_sender, mailbox): (_, Mailbox<Command<A>>) = worker::mailbox(bell);
    Worker::new(core, application, mailbox, Place::alone())
}

/// Gives the worker an interface with one queue pair on it.
pub fn attach<A: Admission>(
    worker: &mut Worker<A>,
    number: u16,
    address: (IpAddr, u8),
    queue: impl QueuePair + 'static,
    now: Instant,
) {
    let name = format!("bench{number}");
    let port = worker.add_port(Port::new(name.clone(), number.into(), Box::new(queue)));
    let config = InterfaceConfig {
        id: InterfaceId(number),
        name,
        role: Role::Uplink,
        mac: mac(address.0),
        mtu: 1500,
        vlan: None,
        addresses: vec![address],
        intercepted: vec![],
        unfinished_receive_checksum: false,
    };
    worker.set_interface(config, Exit { ports: vec![port], owner: None }, now);
}

/// The hardware address of an IPv4 address: its last four octets.
pub fn mac(address: IpAddr) -> [u8; 6] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [2, 0, a, b, c, d]
        }
        IpAddr::V6(_) => [2, 0, 0, 0, 0, 6],
    }
}

/// Tells the worker where a neighbour is.
pub fn know<A: Admission>(worker: &mut Worker<A>, interface: u16, neighbour: IpAddr, now: Instant) {
    worker.core.stack().set_neighbour(InterfaceId(interface), neighbour, Some(mac(neighbour)), now);
}
