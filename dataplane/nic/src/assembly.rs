//! Received descriptors become packets: a chain ends with the frame that is not continued.

use xsk::Received;

use crate::packet::{Frame, Packet};

/// The chain of one queue whose last frame has not come yet.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    unfinished: Option<Packet>,
    /// The rest of a broken chain is on its way.
    skipping: bool,
    /// Chains that were longer than [`crate::MAX_FRAMES`]: counter `nic_chain_broken`.
    pub broken: u64,
}

impl Assembly {
    /// Adds a frame to the chain that it continues. The packet, when the frame ends it.
    #[inline]
    pub fn add(&mut self, received: Received) -> Option<Packet> {
        let Received { chunk, start, len, continued } = received;
        if self.skipping {
            self.skipping = continued;
            return None;
        }
        let frame = Frame::received(chunk, start, len)?;
        let packet = match self.unfinished.take() {
            None => Packet::new(frame),
            Some(mut packet) => match packet.push(frame) {
                Ok(()) => packet,
                Err(_) => {
                    self.broken += 1;
                    self.skipping = continued;
                    return None;
                }
            },
        };
        if continued {
            self.unfinished = Some(packet);
            return None;
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::MAX_FRAMES;
    use xsk::{Pool, Region};

    fn pool() -> Pool {
        Region::new(64).unwrap().claim().unwrap()
    }

    fn received(pool: &Pool, continued: bool) -> Received {
        Received { chunk: pool.chunk().unwrap(), start: 256, len: 10, continued }
    }

    #[test]
    fn a_chain_is_one_packet_and_the_next_starts_anew() {
        let (pool, mut assembly) = (pool(), Assembly::default());
        assert!(assembly.add(received(&pool, true)).is_none());
        assert!(assembly.add(received(&pool, true)).is_none());
        let packet = assembly.add(received(&pool, false)).unwrap();
        assert_eq!((packet.frames(), packet.len()), (3, 30));
        assert_eq!(assembly.add(received(&pool, false)).unwrap().frames(), 1);
    }

    #[test]
    fn the_longest_chain_arrives() {
        let (pool, mut assembly) = (pool(), Assembly::default());
        for _ in 1..MAX_FRAMES {
            assert!(assembly.add(received(&pool, true)).is_none());
        }
        assert_eq!(assembly.add(received(&pool, false)).unwrap().frames(), MAX_FRAMES);
        assert_eq!(assembly.broken, 0);
    }

    #[test]
    fn a_chain_that_is_too_long_is_counted_once_as_nic_chain_broken_and_its_frames_are_free_again() {
        let (pool, mut assembly) = (pool(), Assembly::default());
        for _ in 0..MAX_FRAMES + 5 {
            assert!(assembly.add(received(&pool, true)).is_none());
        }
        assert!(assembly.add(received(&pool, false)).is_none());
        assert_eq!((assembly.broken, pool.free_chunks()), (1, 64));
        assert!(assembly.add(received(&pool, false)).is_some());
    }
}
