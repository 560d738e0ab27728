//! A network card with several queues on one link end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use nic::{Burst, Frame, Offloads, Packet, QueueCounters, QueuePair};
use sim::LinkEnd;

/// The end, and what was received and sorted but not yet taken. The end's ring bounds both.
#[derive(Debug)]
struct Card {
    end: LinkEnd,
    queues: Vec<VecDeque<Packet>>,
}

/// One queue of a card, as a worker holds it; clones are the same queue.
#[derive(Clone, Debug)]
pub struct CardQueue {
    card: Rc<RefCell<Card>>,
    number: usize,
}

/// `queues` queues on one end.
pub fn card(end: &LinkEnd, queues: usize) -> Vec<CardQueue> {
    let card = Card { end: end.clone(), queues: (0..queues).map(|_| VecDeque::new()).collect() };
    let card = Rc::new(RefCell::new(card));
    (0..queues).map(|number| CardQueue { card: Rc::clone(&card), number }).collect()
}

impl Card {
    /// A flow keeps its queue; which one has nothing to do with who owns the flow, as with a card that knows another
    /// hash than ours.
    fn sort(&mut self) {
        while let Some(packet) = self.end.receive_one() {
            let queue = spread(packet.frame(0).map_or(&[], Frame::bytes)) % self.queues.len();
            self.queues[queue].push_back(packet);
        }
    }
}

impl CardQueue {
    /// Whether packets wait in this queue.
    pub fn has_arrived(&self) -> bool {
        let mut card = self.card.borrow_mut();
        card.sort();
        !card.queues[self.number].is_empty()
    }
}

impl QueuePair for CardQueue {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let mut card = self.card.borrow_mut();
        card.sort();
        let taken = burst.room().min(card.queues[self.number].len());
        for packet in card.queues[self.number].drain(..taken) {
            burst.push(packet).expect("no more is taken than the burst has room for");
        }
        taken
    }

    fn transmit(&mut self, burst: &mut Burst) {
        self.card.borrow_mut().end.transmit(burst);
    }

    fn frame(&mut self) -> Option<Frame> {
        self.card.borrow_mut().end.frame()
    }

    fn offloads(&self) -> Offloads {
        self.card.borrow().end.offloads()
    }

    fn counters(&mut self) -> QueueCounters {
        self.card.borrow_mut().end.counters()
    }
}

/// A sum over addresses, and over ports where the packet is no fragment; nothing for what is not IP.
fn spread(frame: &[u8]) -> usize {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>();
    match (frame.get(12..14), frame.len()) {
        (Some([0x08, 0x00]), 38..) => {
            let is_fragment = u16::from_be_bytes([frame[20], frame[21]]) & 0x3fff != 0;
            sum(&frame[26..if is_fragment { 34 } else { 38 }])
        }
        (Some([0x86, 0xdd]), 58..) => {
            let has_ports = matches!(frame[20], 6 | 17);
            sum(&frame[22..if has_ports { 58 } else { 54 }])
        }
        _ => 0,
    }
}
