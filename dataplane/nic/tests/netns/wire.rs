//! Frames written by hand, sent from the peer's end of the veth past the peer's kernel.

use std::net::Ipv6Addr;

use nic::{Burst, Frame, Packet, Pools, QueuePair, UmemSet, XdpMode, XskQueuePair};

use super::lab::Lab;
use super::node::{checksum, open_one};

const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// The program does not look at it.
const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

#[derive(Debug)]
pub struct Wire {
    pair: XskQueuePair,
    _redirect: bpf::Redirect,
}

impl Wire {
    /// Leaves the calling thread in the peer's namespace.
    pub fn open(lab: &Lab) -> Self {
        lab.peer.enter();
        let mut opened =
            open_one("p0", XdpMode::Auto, &[], &mut [UmemSet::new(256)]).expect("the peer's end opens");
        let pair = Pools::new().start(opened.queues.remove(0)).expect("the region is free");
        Self { pair, _redirect: opened.redirect }
    }

    pub fn send(&mut self, frame: &[u8]) {
        let mut own = self.pair.frame().unwrap_or_else(|| Frame::heap(frame.len()));
        assert_eq!(own.append(frame), frame.len());
        let mut burst = Burst::new();
        burst.push(Packet::new(own)).expect("one packet");
        self.pair.transmit(&mut burst);
        assert!(burst.is_empty());
    }
}

fn ethernet(kind: u16, body: &[&[u8]]) -> Vec<u8> {
    let mut frame = [&DESTINATION_MAC[..], &SOURCE_MAC, &kind.to_be_bytes()].concat();
    body.iter().for_each(|part| frame.extend_from_slice(part));
    frame
}

pub fn tagged(vlan: u16, mut frame: Vec<u8>) -> Vec<u8> {
    let [high, low] = vlan.to_be_bytes();
    frame.splice(12..12, [0x81, 0, high, low]);
    frame
}

pub fn ipv4(destination: [u8; 4], protocol: u8) -> Vec<u8> {
    let mut header = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 9, 0, 9, 0, 0, 0, 0];
    header[16..].copy_from_slice(&destination);
    let sum = checksum(0, &header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(0x0800, &[&header, &[0; 20]])
}

pub fn arp(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let [high, low] = operation.to_be_bytes();
    ethernet(0x0806, &[&[0, 1, 8, 0, 6, 4, high, low], &SOURCE_MAC, &sender, &[0; 6], &target])
}

pub fn ipv6(destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let source: Ipv6Addr = "fd09::9".parse().expect("an address");
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, high, low, next, 255];
    ethernet(0x86dd, &[&head, &source.octets(), &destination.octets(), payload])
}

/// RFC 4861, section 4.3, to the solicited-node address.
pub fn neighbour_solicitation(target: Ipv6Addr) -> Vec<u8> {
    let mut group = "ff02::1:ff00:0".parse::<Ipv6Addr>().expect("an address").octets();
    group[13..].copy_from_slice(&target.octets()[13..]);
    let payload = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), &[1, 1], &SOURCE_MAC].concat();
    ipv6(group.into(), 58, &payload)
}

/// RFC 4861, section 4.4, unsolicited to all nodes.
pub fn neighbour_advertisement(target: Ipv6Addr) -> Vec<u8> {
    let payload = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &[2, 1], &SOURCE_MAC].concat();
    ipv6("ff02::1".parse().expect("an address"), 58, &payload)
}
