//! A bare forwarder: UDP from one interface to another with a rewritten header, and what it cost. The counterpart of a
//! forwarder on raw system calls, to see what the queue pair adds.
//!
//!     forward IN OUT OWNED DESTINATION DESTINATION_MAC SECONDS
//!
//! Takes UDP to OWNED on IN, sends it to DESTINATION out of OUT, and prints packets, time and CPU time per packet.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nic::{Burst, OpenRequest, Packet, Pools, QueueAssignment, QueuePair, UmemSet, XdpMode};

/// The same packet memory as the counterpart: 16,384 frames.
const CHUNKS: u32 = 16_384;

/// What every forwarded packet gets.
struct Rewrite {
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    destination: [u8; 4],
}

impl Rewrite {
    /// Addresses, TTL and the IPv4 checksum by difference (RFC 1624); no UDP checksum.
    fn apply(&self, packet: &mut Packet) -> Option<()> {
        let head = packet.frame_mut(0)?.bytes_mut().first_chunk_mut::<42>()?;
        if head[12..14] != [8, 0] || head[23] != 17 || head[22] < 2 {
            return None;
        }
        head[..6].copy_from_slice(&self.destination_mac);
        head[6..12].copy_from_slice(&self.source_mac);
        let word = |bytes: &[u8]| u32::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let mut sum = 0xffff - word(&head[24..26]);
        for (old, new) in [(&head[30..32], &self.destination[..2]), (&head[32..34], &self.destination[2..])] {
            sum += 0xffff - word(old) + word(new);
        }
        sum += 0xffff - 0x0100;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        head[22] -= 1;
        head[24..26].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        head[30..34].copy_from_slice(&self.destination);
        head[40..42].fill(0);
        Some(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, inside, outside, owned, destination, mac, seconds] = arguments.as_slice() else {
        return Err("usage: forward IN OUT OWNED DESTINATION DESTINATION_MAC SECONDS".into());
    };
    let mut umems = [UmemSet::new(CHUNKS)];
    let mut open = |interface| {
        let redirect = bpf::RedirectConfig::untagged(bpf::Role::Uplink);
        let queues = &[QueueAssignment { queue: 0, worker: 0 }];
        nic::open(&OpenRequest { interface, mode: XdpMode::Auto, redirect, queues }, &mut umems)
    };
    let (mut near, mut far) = (open(inside)?, open(outside)?);
    println!("{}", near.report.queues[0]);
    let mut pools = Pools::new();
    let mut receiver = pools.start(near.queues.remove(0))?;
    let mut sender = pools.start(far.queues.remove(0))?;
    near.redirect.set_owned(&[bpf::OwnedPrefix::address(owned.parse::<Ipv4Addr>()?.into())])?;
    let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
    let rewrite = Rewrite {
        source_mac: far.report.mac,
        destination_mac: mac.as_slice().try_into()?,
        destination: destination.parse::<Ipv4Addr>()?.octets(),
    };

    let (end, mut burst, mut out) =
        (Instant::now() + Duration::from_secs(seconds.parse()?), Burst::new(), Burst::new());
    let cpu = cpu_ticks()?;
    while Instant::now() < end {
        if receiver.receive(&mut burst) == 0 && out.is_empty() {
            sleep_on(&receiver);
        }
        while let Some(mut packet) = burst.pop() {
            if rewrite.apply(&mut packet).is_some() {
                // A full burst behind a full ring: what is in excess dies here.
                let _ = out.push(packet);
            }
        }
        sender.transmit(&mut out);
    }
    let (user, kernel) = cpu_ticks()?;
    let (received, sent) = (receiver.counters(), sender.counters());
    let micros = |ticks: u64| ticks as f64 * 10_000.0 / sent.transmitted_packets.max(1) as f64;
    println!("user {:.3} us kernel {:.3} us per packet", micros(user - cpu.0), micros(kernel - cpu.1));
    println!("received {received:?}\nsent {sent:?}");
    Ok(())
}

fn sleep_on(pair: &dyn QueuePair) {
    let Some(descriptor) = pair.descriptor() else { return };
    let mut polled = [rustix::event::PollFd::from_borrowed_fd(descriptor, rustix::event::PollFlags::IN)];
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let _ = rustix::event::poll(&mut polled, Some(&timeout));
}

/// User and kernel time of this process in ticks of 10 ms (proc(5), stat, fields 14 and 15).
fn cpu_ticks() -> Result<(u64, u64), Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let fields: Vec<&str> = after_name.split(' ').collect();
    Ok((fields[11].parse()?, fields[12].parse()?))
}
