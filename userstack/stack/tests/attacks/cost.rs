//! What a packet of an attack costs in instructions, for a profiler to count: run it under
//! `valgrind --tool=callgrind --toggle-collect='attacks::cost::attacked*'` with `ATTACK=name PACKETS=number`, and divide.
//! The figures are in `docs/attacks.md`.

use stack::TcpOptions;

use crate::network::DeliverAll;
use crate::network::Flat;
use crate::network::packets::Spec;
use crate::peer::Peer;
use crate::target::{ACK, LINK, OURS, RST, Target, options};

/// All that is counted: packets in, and what answers them out.
#[inline(never)]
fn attacked(target: &mut Target, frames: &mut [Flat]) {
    let now = target.now;
    for batch in frames.chunks_mut(32) {
        for frame in batch {
            let _ = target.stack.handle_packet(LINK, frame, &mut DeliverAll, now);
        }
        target.flush();
    }
}

fn packets() -> u32 {
    std::env::var("PACKETS").ok().and_then(|count| count.parse().ok()).unwrap_or(320)
}

/// A target and the attack's frames.
fn scene(attack: &str, packets: u32) -> (Target, Vec<Flat>) {
    let backlog = if attack == "handshake" { 100_000 } else { 16 };
    let (mut target, listener) = Target::listening(TcpOptions { backlog, ..options() });
    let mut peer = Peer::new("192.0.2.1", 50_000);
    let flow = peer.open(&mut target, listener);
    target.write(flow, 1 << 20);
    let in_flight = target.segments();
    let frames = (1..=packets)
        .map(|number| match attack {
            "syn" | "handshake" => Peer::numbered(number).syn(),
            "ack" => Peer::numbered(number).segment(ACK, 1, number, &[]),
            "reset" => peer.segment(RST, peer.seq.wrapping_add(number % 60_000 + 1), 0, &[]),
            "data" => peer.segment(ACK, peer.seq, peer.ack.wrapping_add(1 << 30), b"forged"),
            "crumb" => peer.segment(ACK, peer.seq.wrapping_add(2 * number), peer.ack, b"x"),
            "sack" => {
                let byte = |at: u32| {
                    let start = in_flight[1].seq.wrapping_add(at + number % 500);
                    (start, start.wrapping_add(1))
                };
                peer.options.sack = vec![byte(0), byte(1_000), byte(2_000)];
                peer.next(ACK, &[])
            }
            "fragment" => {
                let [_, _, high, low] = number.to_be_bytes();
                let spec = Spec::new(&format!("198.18.{high}.{low}"), "10.0.0.1", OURS);
                let mut frame = spec.udp((1, 2), &[0; 1_400]);
                frame[20] = 0x20;
                frame[24..26].fill(0);
                let checksum = !crate::network::packets::sum(&frame[14..34]);
                frame[24..26].copy_from_slice(&checksum.to_be_bytes());
                frame
            }
            "martian" => Peer::new("127.0.0.1", 50_000).syn(),
            "echo" => Spec::new("192.0.2.1", "10.0.0.1", OURS).icmp(&[8, 0, 0, 0, 0, 1, 0, 2]),
            _ => panic!("no such attack"),
        })
        .map(Flat)
        .collect();
    if attack == "syn" || attack == "ack" {
        // The backlog is full before the count begins.
        for number in 60_000..60_100 {
            target.hear(Peer::numbered(number).syn());
        }
        target.flush();
    }
    (target, frames)
}

#[test]
#[ignore = "for a profiler"]
fn of_one_attack() {
    let attack = std::env::var("ATTACK").unwrap_or_else(|_| "syn".into());
    let (mut target, mut frames) = scene(&attack, packets());
    attacked(&mut target, &mut frames);
}

#[test]
fn every_attack_that_is_measured_is_one() {
    for attack in ["handshake", "syn", "ack", "reset", "data", "crumb", "sack", "fragment", "martian", "echo"]
    {
        let (mut target, mut frames) = scene(attack, 64);
        attacked(&mut target, &mut frames);
    }
}
