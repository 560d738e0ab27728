//! Received packets as the stack sees them.

use nic::{Burst, Packet};
use stack::{Chain, Pieces};

/// Lends a packet's frames to the stack for one call. The simulator has the like for its hosts: the trait is the
/// stack's and the packet the queue pairs', and no crate knows both that worker and simulator may name.
#[derive(Debug)]
pub struct View<'a>(pub &'a mut Packet);

impl Chain for View<'_> {
    fn total_len(&self) -> usize {
        self.0.len()
    }

    fn chunks(&self) -> usize {
        self.0.frames()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        self.0.frame(index).map_or(&[], |frame| frame.bytes())
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        self.0.frame_mut(index).map_or(&mut [], |frame| frame.bytes_mut())
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        self.0.frame_mut(0).is_some_and(|frame| frame.grow_front(bytes))
    }

    fn shrink_front(&mut self, bytes: usize) {
        if let Some(frame) = self.0.frame_mut(0) {
            frame.shrink_front(bytes);
        }
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A burst, to look for segments that follow each other.
#[derive(Debug)]
pub struct Together<'a>(pub &'a Burst);

impl Pieces for Together<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn piece(&self, index: usize) -> &[u8] {
        let frame =
            self.0.get(index).filter(|packet| packet.frames() == 1).and_then(|packet| packet.frame(0));
        frame.map_or(&[], |frame| frame.bytes())
    }
}
