//! One stack by itself: packets of templates in, packets to a tape out. No task, no worker, no queue pair.

mod bursts;
mod datagrams;
mod flows;
mod streams;

pub use bursts::received_in_bursts;
pub use datagrams::{PAYLOAD_BYTES, RewriteTo, SESSIONS, forwarded};
pub use flows::drawn_evenly;
pub use streams::{acknowledged, received, sent};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use stack::{Config, Egress, Full, Instant, InterfaceConfig, InterfaceId, Offloads, Role, Stack};

const INTERFACE: InterfaceId = InterfaceId(0);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// Packets handed to the stack in one go, as a queue pair's burst is.
const BURST: usize = 32;

/// Which Internet Protocol.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    fn ours(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 0, 0, 1).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        }
    }

    /// The `number`th neighbour, from 0.
    fn neighbour(self, number: u16) -> IpAddr {
        let [high, low] = (number + 2).to_be_bytes();
        match self {
            Self::V4 => Ipv4Addr::new(10, 0, high, low).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number + 2).into(),
        }
    }
}

/// A stack with one interface whose first `neighbours` neighbours it knows.
fn scene(family: Family, neighbours: u16) -> (Stack, Instant) {
    let now = Instant::from_nanos(1_000_000_000);
    let mut stack = Stack::new(Config { secret: [7; 32], ..Config::default() }, now);
    stack.set_interface(interface(family), now);
    for number in 0..neighbours {
        stack.set_neighbour(INTERFACE, family.neighbour(number), Some(PEER_MAC), now);
    }
    (stack, now)
}

fn interface(family: Family) -> InterfaceConfig {
    InterfaceConfig {
        id: INTERFACE,
        name: "bench0".into(),
        role: Role::Uplink,
        mac: OUR_MAC,
        mtu: 1500,
        vlan: None,
        addresses: vec![(family.ours(), if family == Family::V4 { 16 } else { 64 })],
        intercepted: vec![],
        unfinished_receive_checksum: false,
    }
}

/// Takes all that the stack sends, copied as into a frame, and keeps the last packet.
struct Tape {
    packets: u64,
    frame: Box<[u8; FRAME_BYTES]>,
    len: usize,
}

/// As a ring's.
const FRAME_BYTES: usize = 4096;

impl Tape {
    fn new() -> Self {
        Self { packets: 0, frame: Box::new([0; FRAME_BYTES]), len: 0 }
    }

    fn last(&self) -> &[u8] {
        &self.frame[..self.len]
    }
}

impl Egress for Tape {
    fn room(&self, _interface: InterfaceId) -> usize {
        BURST
    }

    fn emit(&mut self, _: InterfaceId, header: &[u8], payload: [&[u8]; 2]) -> Result<(), Full> {
        self.packets += 1;
        self.len = header.len();
        self.frame[..header.len()].copy_from_slice(header);
        for text in payload.into_iter().filter(|text| !text.is_empty()) {
            let end = self.len + text.len();
            copy_text(&mut self.frame[self.len..end], text);
            self.len = end;
        }
        Ok(())
    }

    fn offloads(&self, _interface: InterfaceId) -> Offloads {
        Offloads::default()
    }
}

/// A function of its own, as the stack's of that name: copying the text is counted apart.
#[inline(never)]
fn copy_text(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
}
