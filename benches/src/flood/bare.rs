//! Nothing but AF_XDP: descriptors of frames that were written beforehand, and at the other end a queue pair whose packets
//! are dropped as they come.

use nic::{Burst, QueuePair, XskQueuePair};
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use xsk::{CopyMode, HEADROOM_BYTES, Pool, Queue, Region, Socket};

use crate::flow::open;
use crate::lab::{FAR, FAR_INTERFACE, FAR_MAC, Lab, NEAR, NEAR_INTERFACE, NEAR_MAC};
use crate::measure::{Count, Rate, Round, Side, Start, both};

/// As long as a full segment: Ethernet and an MTU of 1,500.
const FRAME_BYTES: usize = 1_514;
const CHUNKS: u32 = 8_192;
/// As a queue pair's burst.
const BATCH: usize = 64;

pub fn round(lab: &Lab, seconds: f64) -> Round {
    let start = &Start::new();
    both(
        move || {
            lab.near();
            send(start, seconds)
        },
        move || {
            lab.far();
            receive(start, seconds)
        },
    )
}

fn send(start: &Start, seconds: f64) -> Rate {
    let region = Region::new(CHUNKS).expect("there is memory");
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    let interface = name_to_index(&any, NEAR_INTERFACE).expect("the veth is there");
    let bound = Socket::bind(&region, interface, 0, CopyMode::Copy).expect("a veth binds");
    let pool = region.claim().expect("the region is this thread's");
    let queue = pool.start(bound).expect("the socket is of this region");
    write_all(&pool);
    start.measure(seconds, Flood { pool, queue, packets: 0 })
}

struct Flood {
    pool: Pool,
    queue: Queue,
    packets: u64,
}

impl Side for Flood {
    fn work(&mut self) {
        self.queue.reclaim();
        for _ in 0..BATCH {
            if !self.queue.has_room(1) {
                break;
            }
            let Some(chunk) = self.pool.chunk() else { break };
            self.packets += u64::from(self.queue.transmit(chunk, HEADROOM_BYTES, FRAME_BYTES, false));
        }
        self.queue.finish_transmit();
    }

    fn count(&mut self) -> Count {
        Count { packets: self.packets, bytes: self.packets * FRAME_BYTES as u64 }
    }
}

/// Every free chunk holds the frame from here on.
fn write_all(pool: &Pool) {
    let frame = frame();
    let mut chunks: Vec<_> = std::iter::from_fn(|| pool.chunk()).collect();
    for chunk in &mut chunks {
        chunk.bytes_mut()[HEADROOM_BYTES..HEADROOM_BYTES + FRAME_BYTES].copy_from_slice(&frame);
    }
}

/// UDP to the far address, which the program there gives to the receiver.
fn frame() -> Vec<u8> {
    let mut frame = [&FAR_MAC[..], &NEAR_MAC, &[8, 0, 0x45, 0]].concat();
    let ip_bytes = (FRAME_BYTES - 14) as u16;
    frame.extend(ip_bytes.to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend([NEAR.octets(), FAR.octets()].concat());
    let sum: u32 =
        frame[14..34].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    frame.extend([0x1f, 0x90, 0x1f, 0x90]);
    frame.extend((ip_bytes - 20).to_be_bytes());
    frame.resize(FRAME_BYTES, 0);
    frame
}

fn receive(start: &Start, seconds: f64) -> Rate {
    let (pair, _redirect) = open(FAR_INTERFACE, FAR);
    start.measure(seconds, Drain { pair, burst: Burst::new(), count: Count::default() })
}

struct Drain {
    pair: XskQueuePair,
    burst: Burst,
    count: Count,
}

impl Side for Drain {
    fn work(&mut self) {
        self.pair.receive(&mut self.burst);
        while let Some(packet) = self.burst.pop() {
            self.count.packets += 1;
            self.count.bytes += packet.len() as u64;
        }
    }

    fn count(&mut self) -> Count {
        self.count
    }
}
