//! Packets that the stack itself made, waiting for room on their interface: ARP, NDP, ICMP, sockets' datagrams,
//! fragments. TCP keeps its own.

use std::collections::VecDeque;

use crate::{Egress, InterfaceId};

/// Packets that wait at most; more are lost and counted. Two interfaces' transmit rings of one turn's worth each.
const OUTBOX_PACKETS: usize = 1024;
/// Buffers that are kept for the next packets.
const SPARE_BUFFERS: usize = 64;
/// A spare buffer is given back if a packet made it larger than this (a jumbo datagram).
const SPARE_BYTES: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Waiting>,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting {
    interface: InterfaceId,
    /// From Ethernet onwards.
    packet: Vec<u8>,
}

impl Outbox {
    /// An empty buffer to write a packet into.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back a buffer that is no longer needed.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    pub fn room(&self) -> usize {
        OUTBOX_PACKETS - self.queue.len()
    }

    /// Queues a packet. Gives it back when the outbox is full.
    pub fn push(&mut self, interface: InterfaceId, packet: Vec<u8>) -> Result<(), Vec<u8>> {
        if self.room() == 0 {
            return Err(packet);
        }
        self.queue.push_back(Waiting { interface, packet });
        Ok(())
    }

    /// Writes packets until `budget` is spent; what an interface does not take stays, in order. True: some could go on
    /// if there were more budget.
    pub fn transmit(&mut self, egress: &mut dyn Egress, budget: &mut usize) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        let mut kept = 0;
        for _ in 0..self.queue.len() {
            if *budget == 0 {
                break;
            }
            let Some(waiting) = self.queue.pop_front() else { break };
            if egress.room(waiting.interface) == 0
                || egress.emit(waiting.interface, &waiting.packet, [&[], &[]]).is_err()
            {
                self.queue.push_back(waiting);
                kept += 1;
                continue;
            }
            *budget -= 1;
            self.recycle(waiting.packet);
        }
        let more = self.queue.len() > kept;
        // What was kept went to the back: it was first and becomes first again.
        self.queue.rotate_right(kept);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Full, Offloads};

    /// Takes so many packets on each interface.
    struct Rooms {
        rooms: [usize; 2],
        emitted: Vec<(u16, u8)>,
    }

    impl Egress for Rooms {
        fn room(&self, interface: InterfaceId) -> usize {
            self.rooms[usize::from(interface.0)]
        }

        fn emit(&mut self, interface: InterfaceId, header: &[u8], _payload: [&[u8]; 2]) -> Result<(), Full> {
            let room = &mut self.rooms[usize::from(interface.0)];
            *room = room.checked_sub(1).ok_or(Full)?;
            self.emitted.push((interface.0, header[0]));
            Ok(())
        }

        fn offloads(&self, _interface: InterfaceId) -> Offloads {
            Offloads::default()
        }
    }

    #[test]
    fn a_full_interface_does_not_hold_up_another_and_keeps_its_order() {
        let mut outbox = Outbox::default();
        for number in 0..6u8 {
            outbox.push(InterfaceId(u16::from(number % 2)), vec![number]).unwrap();
        }
        let mut egress = Rooms { rooms: [1, 9], emitted: vec![] };
        assert!(!outbox.transmit(&mut egress, &mut 64), "what is left waits for room, not for budget");
        assert_eq!(egress.emitted, [(0, 0), (1, 1), (1, 3), (1, 5)]);
        egress.rooms = [9, 9];
        assert!(outbox.transmit(&mut egress, &mut 1));
        assert!(!outbox.transmit(&mut egress, &mut 64));
        assert_eq!(egress.emitted[4..], [(0, 2), (0, 4)]);
    }

    #[test]
    fn a_full_outbox_gives_the_packet_back() {
        let mut outbox = Outbox::default();
        for _ in 0..OUTBOX_PACKETS {
            outbox.push(InterfaceId(0), vec![0]).unwrap();
        }
        assert_eq!(outbox.push(InterfaceId(0), vec![7]), Err(vec![7]));
    }
}
