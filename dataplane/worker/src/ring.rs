//! Packets between cores: a bounded ring whose slots are bytes. No frame crosses a core; its bytes do.
//!
//! The slots go round: the producer takes an empty one, fills it and passes it on; the consumer gives it back. After
//! a slot's first use nothing is allocated.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use stack::{Chain, InterfaceId};

use crate::mailbox::Doorbell;

/// Packets that may wait between two workers; a few bursts, so that a busy neighbour does not lose what a turn brings.
pub const RING_PACKETS: usize = 512;

/// What the other worker is asked to do with a packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// It arrived on this interface, and its flow is yours.
    Handle(InterfaceId),
    /// It was put together from fragments that arrived on this interface, and its flow is yours.
    HandleWhole(InterfaceId),
    /// Transmit it on this interface, whose queue you own.
    Transmit(InterfaceId),
}

/// One packet's bytes on their way.
#[derive(Debug, Default)]
pub struct Slot {
    pub errand: Option<Errand>,
    bytes: Vec<u8>,
    /// First byte in use: what is before it is room for a tag.
    start: usize,
}

/// Room kept before a packet, so that the receiving worker can put a VLAN tag on.
const SLOT_HEADROOM_BYTES: usize = 8;

impl Slot {
    /// Replaces the content by `pieces`, one after the other.
    pub fn fill<'a>(&mut self, errand: Errand, pieces: impl IntoIterator<Item = &'a [u8]>) {
        self.errand = Some(errand);
        self.start = SLOT_HEADROOM_BYTES;
        self.bytes.clear();
        self.bytes.resize(SLOT_HEADROOM_BYTES, 0);
        for piece in pieces {
            self.bytes.extend_from_slice(piece);
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Chain for Slot {
    fn total_len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn chunks(&self) -> usize {
        1
    }

    fn chunk(&self, index: usize) -> &[u8] {
        if index == 0 { &self.bytes[self.start..] } else { &[] }
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        if index == 0 { &mut self.bytes[self.start..] } else { &mut [] }
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        let fits = bytes <= self.start;
        if fits {
            self.start -= bytes;
        }
        fits
    }

    fn shrink_front(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.bytes.len());
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
    }
}

#[derive(Debug)]
struct Shared {
    full: ArrayQueue<Slot>,
    empty: ArrayQueue<Slot>,
}

/// The end that sends packets to another worker.
#[derive(Debug)]
pub struct RingSender {
    shared: Arc<Shared>,
    doorbell: Doorbell,
}

/// The end that takes them.
#[derive(Debug)]
pub struct RingReceiver {
    shared: Arc<Shared>,
}

/// A ring towards the worker whose doorbell this is.
pub fn ring(doorbell: Doorbell) -> (RingSender, RingReceiver) {
    let shared =
        Arc::new(Shared { full: ArrayQueue::new(RING_PACKETS), empty: ArrayQueue::new(RING_PACKETS) });
    for _ in 0..RING_PACKETS {
        // The queue has exactly this many places.
        let _ = shared.empty.push(Slot::default());
    }
    (RingSender { shared: Arc::clone(&shared), doorbell }, RingReceiver { shared })
}

impl RingSender {
    /// Sends one packet. False when every slot is in use: the caller counts the loss.
    pub fn send<'a>(&self, errand: Errand, pieces: impl IntoIterator<Item = &'a [u8]>) -> bool {
        let Some(mut slot) = self.shared.empty.pop() else { return false };
        slot.fill(errand, pieces);
        // There are as many slots as places, so a place is free.
        let _ = self.shared.full.push(slot);
        self.doorbell.ring();
        true
    }

    pub fn room(&self) -> usize {
        self.shared.empty.len()
    }
}

impl RingReceiver {
    pub fn take(&mut self) -> Option<Slot> {
        self.shared.full.pop()
    }

    /// Gives a slot back, so that its memory is used again.
    pub fn give_back(&mut self, slot: Slot) {
        let _ = self.shared.empty.push(slot);
    }

    pub fn is_empty(&self) -> bool {
        self.shared.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_cross_in_order_and_slots_go_round() {
        let (sender, mut receiver) = ring(Doorbell::new().unwrap());
        for round in 0..3 * RING_PACKETS {
            let bytes = round.to_ne_bytes();
            assert!(sender.send(Errand::Handle(InterfaceId(3)), [&bytes[..2], &bytes[2..]]));
            let slot = receiver.take().unwrap();
            assert_eq!(slot.bytes(), bytes);
            assert_eq!(slot.errand, Some(Errand::Handle(InterfaceId(3))));
            receiver.give_back(slot);
        }
    }

    #[test]
    fn a_full_ring_says_so_and_loses_nothing_that_it_took() {
        let (sender, mut receiver) = ring(Doorbell::new().unwrap());
        let sent = (0..RING_PACKETS + 5)
            .filter(|_| sender.send(Errand::Transmit(InterfaceId(0)), [&b"x"[..]]))
            .count();
        assert_eq!(sent, RING_PACKETS);
        assert_eq!(std::iter::from_fn(|| receiver.take()).count(), RING_PACKETS);
    }

    #[test]
    fn a_tag_fits_before_the_bytes() {
        let mut slot = Slot::default();
        slot.fill(Errand::Handle(InterfaceId(0)), [&b"abcd"[..]]);
        assert!(slot.grow_front(4));
        assert_eq!(slot.total_len(), 8);
        slot.shrink_front(4);
        assert_eq!(slot.bytes(), b"abcd");
        assert!(!slot.grow_front(64));
    }
}
