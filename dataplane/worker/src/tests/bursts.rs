//! Segments of one stream that come in one burst go to the stack as one, and are counted.

use nic::{Burst, Frame, Packet, QueuePair};
use stack::{Discard, InterfaceConfig, ListenSpec, Prefix, TcpOptions};

use super::{Bench, CLIENT, MAC, NOW, OURS, PEER_MAC, UP, Way, bench, interface, place_of_two};
use crate::{Exit, Place};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// From the client's port to our port 80; its checksum is left to whoever receives it.
fn segment(port: u16, seq: u32, ack: u32, flags: u8, text: &[u8]) -> Vec<u8> {
    let tcp_len = 20 + text.len() as u16;
    let mut frame = [&MAC[..], &PEER_MAC, &[8, 0]].concat();
    let mut header = [&[0x45, 0][..], &(20 + tcp_len).to_be_bytes(), &[0, 0, 0x40, 0, 64, 6, 0, 0]].concat();
    header.extend([CLIENT, OURS].concat());
    let sum = !folded(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    let pseudo = folded(&[&CLIENT[..], &OURS, &[0, 6], &tcp_len.to_be_bytes()].concat());
    frame.extend(header);
    frame.extend([port.to_be_bytes(), 80u16.to_be_bytes()].concat());
    frame.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    frame.extend([5 << 4, flags, 0xff, 0xff]);
    frame.extend(pseudo.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(text);
    frame
}

fn folded(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// A connection of the client's port, and our first number.
fn established(bench: &mut Bench, port: u16) -> u32 {
    let config = InterfaceConfig { unfinished_receive_checksum: true, ..interface(UP, OURS) };
    bench.worker.set_interface(config, Exit { ports: vec![0], owner: None }, NOW);
    let spec = ListenSpec { addresses: Prefix::ANY_V4, port: Some(80), interface: None };
    bench.worker.core.stack().tcp_listen(spec, TcpOptions::default()).unwrap();
    send(bench, vec![segment(port, 99, 0, SYN, &[])]);
    let mut answer = Burst::new();
    bench.client.receive(&mut answer);
    let answer = answer.pop().unwrap();
    let ours = u32::from_be_bytes(answer.frame(0).unwrap().bytes()[38..42].try_into().unwrap());
    send(bench, vec![segment(port, 100, ours.wrapping_add(1), ACK, &[])]);
    ours.wrapping_add(1)
}

/// All of them in one burst, and a turn.
fn send(bench: &mut Bench, frames: Vec<Vec<u8>>) {
    let mut burst = Burst::new();
    for bytes in frames {
        let mut frame = Frame::heap(bytes.len());
        frame.append(&bytes);
        burst.push(Packet::new(frame)).unwrap();
    }
    bench.client.transmit(&mut burst);
    bench.turn();
}

#[test]
fn segments_of_one_stream_in_one_burst_go_in_as_one_and_are_counted_each() {
    let mut bench = bench(Place::alone(), Way::OwnPort);
    let ack = established(&mut bench, 5000);
    let text = |at: u32| segment(5000, 100 + at, ack, ACK, &[7; 500]);
    let before = *bench.worker.counters();
    // Three that follow each other, one beyond a hole, and one of nobody's.
    send(&mut bench, vec![text(0), text(500), text(1000), text(9000), segment(6000, 1, 1, ACK, &[7; 500])]);
    let after = *bench.worker.counters();
    assert_eq!(after.packets_merged - before.packets_merged, 3);
    assert_eq!(after.packets_received - before.packets_received, 5);
    assert_eq!(after.packets_consumed - before.packets_consumed, 4);
    assert_eq!(bench.worker.core.stack().discards().of(Discard::TcpNoFlow), 1);
    let mut answers = Burst::new();
    bench.client.receive(&mut answers);
    let mut answers = answers.iter().map(|packet| packet.frame(0).unwrap().bytes());
    let ours = answers.find(|answer| answer[36..38] == 5000u16.to_be_bytes()).unwrap();
    assert_eq!(ours[42..46], 1600u32.to_be_bytes(), "all three are acknowledged");
}

#[test]
fn segments_of_another_workers_stream_go_there_one_by_one() {
    let (place, mut other) = place_of_two();
    let mut bench = bench(place, Way::OwnPort);
    let theirs =
        (1024..).find(|&port| crate::flow::owner(&segment(port, 0, 0, ACK, &[7]), 2) == Some(1)).unwrap();
    send(&mut bench, (0..3).map(|n| segment(theirs, 500 * n, 1, ACK, &[7; 500])).collect());
    assert_eq!((bench.worker.counters().packets_merged, bench.worker.counters().packets_steered), (0, 3));
    assert!((0..3).all(|_| other.take().is_some()));
}
