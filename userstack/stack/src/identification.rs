//! Identifications of packets that may be sent in fragments (RFC 7739, section 5.3): each destination has a place of its own
//! to begin at, and one of many counters. A counter for all would tell anybody who gets a packet of ours what others get
//! next, with which fragments can be forged, and how many packets we send.

use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::hash::{Key, bits};

/// Counters: 4 KiB. Two destinations that share one still begin at different places.
const COUNTERS: usize = 1024;

#[derive(Debug)]
pub(crate) struct Identifications {
    places: Key,
    starts: Key,
    counters: Box<[u32]>,
}

impl Identifications {
    /// Two keys, of two purposes.
    pub fn new(places: Key, starts: Key) -> Self {
        let counters = (0..COUNTERS as u64).map(|index| starts.hash_one(index) as u32).collect();
        Self { places, starts, counters }
    }

    /// The next one for `destination`: each packet's is one more than the last's of the same counter, so that none comes
    /// again while fragments of it may be on their way.
    pub fn next(&mut self, destination: IpAddr) -> u32 {
        let address = bits(destination);
        let counter = &mut self.counters[self.places.hash_one(address) as usize % COUNTERS];
        *counter = counter.wrapping_add(1);
        counter.wrapping_add((self.starts.hash_one(address) >> 32) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_destinations_follow_each_other_and_anothers_stay_where_they_are() {
        let key = |purpose| Key::new(&[3; 32], purpose);
        let mut identifications = Identifications::new(key(1), key(2));
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let (first, of_other) = (identifications.next(one), identifications.next(other));
        for step in 1..100 {
            assert_eq!(identifications.next(one), first.wrapping_add(step));
        }
        assert_eq!(identifications.next(other), of_other.wrapping_add(1));
        assert_ne!(first, of_other);
    }
}
