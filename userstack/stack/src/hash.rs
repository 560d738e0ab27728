//! Keyed hashing for the tables that peers can reach: fast, and the same for the same key.
//!
//! Folded multiplication as in wyhash. The key comes from the stack's secret, so that a peer who does not know it
//! cannot aim at one bucket, and a run repeats byte for byte.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

/// A map with a hasher of the stack's own key.
pub(crate) type Map<K, V> = HashMap<K, V, Key>;

/// What a table's hashes depend on beside the data.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Key([u64; 2]);

impl Key {
    /// A key of its own for each `purpose`, drawn from the stack's secret.
    pub fn new(secret: &[u8; 32], purpose: u64) -> Self {
        let (words, _) = secret.as_chunks::<8>();
        let word = |index: usize| u64::from_le_bytes(words[index]);
        Self([
            mix(word(0) ^ MULTIPLIERS[0], word(1) ^ purpose) ^ word(2),
            mix(word(2) ^ MULTIPLIERS[1], word(3) ^ purpose.rotate_left(32)) ^ word(0),
        ])
    }
}

impl BuildHasher for Key {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded { state: self.0[0], key: self.0[1] }
    }
}

/// Odd constants with as many ones as zeros, from wyhash.
const MULTIPLIERS: [u64; 2] = [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db];

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[derive(Debug)]
pub(crate) struct Folded {
    state: u64,
    key: u64,
}

impl Hasher for Folded {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.write_u64(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.state = mix(self.state ^ value ^ MULTIPLIERS[0], self.key ^ MULTIPLIERS[1]);
    }

    fn write_u128(&mut self, value: u128) {
        self.state = mix(
            self.state ^ (value as u64) ^ MULTIPLIERS[0],
            self.key ^ ((value >> 64) as u64) ^ MULTIPLIERS[1],
        );
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        mix(self.state, self.key)
    }
}

/// An address in the form that tables are keyed by: IPv4 as IPv4-mapped IPv6, which is never accepted from the wire.
#[inline]
pub(crate) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_key_gives_one_hash_and_another_key_another() {
        let hash = |secret, purpose| Key::new(&[secret; 32], purpose).hash_one(77u64);
        assert_eq!(hash(1, 0), hash(1, 0));
        assert_ne!(hash(1, 0), hash(2, 0));
        assert_ne!(hash(1, 0), hash(1, 1));
    }

    #[test]
    fn neighbouring_addresses_spread_over_buckets() {
        let key = Key::new(&[7; 32], 0);
        let buckets: HashSet<_> = (0..4096u128).map(|host| key.hash_one(host) >> 52).collect();
        // 4096 balls into 4096 bins leave about 1 - 1/e of the bins hit.
        assert!(buckets.len() > 2400, "{} buckets hit", buckets.len());
    }
}
