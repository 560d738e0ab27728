//! One stack by itself: packets of templates in, packets to a tape out. No task, no worker, no queue pair.

mod bursts;
mod datagrams;
mod flows;
mod idle;
mod streams;
mod timers;

pub use bursts::received_in_bursts;
pub use datagrams::{PAYLOAD_BYTES, RewriteTo, SESSIONS, forwarded};
pub use flows::drawn_evenly;
pub use idle::{held_at_rest, held_when_idle, one_request_each};
pub use streams::{acknowledged, received, sent, sent_uncut};
pub use timers::{Deed, timed};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

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
    /// It is a device that cuts long packets into segments, and takes their text from where it lies.
    cuts: bool,
    /// Text of the last packet that was not copied.
    apart: u32,
}

/// As a ring's.
const FRAME_BYTES: usize = 4096;

impl Tape {
    fn new() -> Self {
        Self { packets: 0, frame: Box::new([0; FRAME_BYTES]), len: 0, cuts: false, apart: 0 }
    }

    #[inline]
    fn append(&mut self, text: &[u8]) {
        if !text.is_empty() {
            copy_text(&mut self.frame[self.len..self.len + text.len()], text);
            self.len += text.len();
        }
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
        self.apart = 0;
        self.len = header.len();
        self.frame[..header.len()].copy_from_slice(header);
        let [first, second] = payload;
        self.append(first);
        self.append(second);
        Ok(())
    }

    fn emit_long(
        &mut self,
        _: InterfaceId,
        header: &[u8],
        payload: [&[u8]; 2],
        segment_bytes: NonZeroU16,
    ) -> Result<(), Full> {
        let text_bytes = payload[0].len() + payload[1].len();
        self.packets += text_bytes.div_ceil(segment_bytes.get().into()) as u64;
        self.len = header.len();
        self.frame[..header.len()].copy_from_slice(header);
        self.apart = u32::try_from(text_bytes).expect("a packet is shorter than 64 KiB");
        Ok(())
    }

    fn offloads(&self, _interface: InterfaceId) -> Offloads {
        Offloads { cuts_tcp: self.cuts, ..Offloads::default() }
    }
}

/// A function of its own, as the stack's of that name: copying the text is counted apart.
#[inline(never)]
fn copy_text(to: &mut [u8], from: &[u8]) {
    to.copy_from_slice(from);
}
