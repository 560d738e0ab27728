//! The Internet checksum: sums over chunks (RFC 1071) and incremental updates (RFC 1624).
//!
//! Every byte that is terminated or forwarded passes here once, so the sum runs in 64-bit words and knows nothing of
//! headers but the pseudo-header.

use std::net::IpAddr;

/// A one's complement sum in progress. Slices may have any length: a slice that starts at an odd offset is summed as
/// it lies and its bytes are moved by one (RFC 1071, section 2, part B).
///
/// Words are added as they lie in memory, since a byte-swapped sum is the sum of swapped words (the same part), and in
/// 64 bits, whose one's complement sum folds to that of 16 (part C).
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Sum {
    value: u64,
    odd: bool,
}

impl Sum {
    /// The pseudo-header of TCP, UDP and ICMPv6 (RFC 9293, section 3.1; RFC 8200, section 8.1).
    #[inline]
    pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Self {
        let mut sum = Self::default();
        sum.add_address(source);
        sum.add_address(destination);
        sum.add_length(protocol, len);
        sum
    }

    pub fn of(bytes: &[u8]) -> Self {
        Self { value: sum_of(bytes), odd: bytes.len() % 2 == 1 }
    }

    /// The same of words as they lie.
    #[inline(always)]
    pub fn of_words<const N: usize>(words: [u64; N]) -> Self {
        Self { value: words.into_iter().fold(0, plus), odd: false }
    }

    /// The same of a header, whose length, a multiple of four, is known to the compiler: no loop is left.
    #[inline(always)]
    pub fn of_header<const N: usize>(bytes: &[u8; N]) -> Self {
        const { assert!(N.is_multiple_of(4), "headers are counted in words of four bytes") };
        let (words, rest) = bytes.as_chunks::<8>();
        let mut value = words.iter().fold(0, |sum, word| plus(sum, u64::from_ne_bytes(*word)));
        if let [half] = rest.as_chunks::<4>().0 {
            value = plus(value, u64::from(u32::from_ne_bytes(*half)));
        }
        Self { value, odd: false }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        let part = sum_of(bytes);
        self.put(if self.odd { part.rotate_left(8) } else { part });
        self.odd ^= bytes.len() % 2 == 1;
    }

    pub fn add_word(&mut self, word: u16) {
        debug_assert!(!self.odd, "a word is added at an even offset");
        self.put(u64::from(word.to_be()));
    }

    /// Protocol and length of the pseudo-header.
    #[inline]
    pub fn add_length(&mut self, protocol: u8, len: usize) {
        self.put(u64::from((u32::from(protocol) + len as u32).to_be()));
    }

    #[inline]
    pub fn add_address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.put(u64::from(u32::from_ne_bytes(address.octets()))),
            IpAddr::V6(address) => {
                let bits = u128::from_ne_bytes(address.octets());
                self.put(bits as u64);
                self.put((bits >> 64) as u64);
            }
        }
    }

    /// Adds what another sum, begun at an even offset, has.
    pub fn add_sum(&mut self, other: Self) {
        debug_assert!(!self.odd, "a sum is added at an even offset");
        self.put(other.value);
    }

    /// Takes out what an earlier sum put in (RFC 1624, equation 3: adding the complement).
    pub fn subtract_sum(&mut self, other: Self) {
        self.add_word(!other.fold());
    }

    /// The sum in 16 bits, not complemented.
    #[inline]
    pub fn fold(self) -> u16 {
        let (low, carry) = (self.value as u32).overflowing_add((self.value >> 32) as u32);
        let sum = low + u32::from(carry);
        let (low, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
        u16::from_be(low + u16::from(carry))
    }

    /// Whether the field that was summed with all else is right: the sum folds to all ones, which is to say that it is a
    /// multiple of them, and not zero.
    #[inline(always)]
    pub fn is_complete(self) -> bool {
        // A number times the inverse of an odd one is small only where that divides it (Granlund and Montgomery, 1994, section 9).
        const INVERSE: u64 = !0x0001_0001_0001_0001 + 1;
        const { assert!(INVERSE.wrapping_mul(0xffff) == 1, "the inverse of all ones") };
        // Less one, so that zero is none of the small.
        self.value.wrapping_mul(INVERSE).wrapping_sub(1) < u64::MAX / 0xffff
    }

    /// What the checksum field holds.
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// What UDP's checksum field holds: a computed zero is sent as all ones (RFC 768; RFC 8200, section 8.1).
    pub fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            sum => sum,
        }
    }

    fn put(&mut self, part: u64) {
        self.value = plus(self.value, part);
    }
}

/// A checksum after some words under it changed: RFC 1624, equation 3, HC' = ~(~HC + ~m + m').
/// `change` is the sum of all ~m and m'.
pub(crate) fn update(checksum: u16, change: Sum) -> u16 {
    let mut sum = Sum::default();
    sum.add_word(!checksum);
    sum.add_sum(change);
    sum.checksum()
}

/// What a received TCP or UDP checksum field says (FACTS: AF_XDP does not tell, the value does).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Correct,
    /// The folded pseudo-header sum alone: a neighbour on the same host left it to a device that is not there.
    Unfinished,
    Wrong,
}

/// Judges a received field by the sum of the pseudo-header and the sum of the whole segment, field included.
pub(crate) fn judge(pseudo_header: Sum, segment: Sum, field: u16) -> Received {
    let mut whole = pseudo_header;
    whole.add_sum(segment);
    if whole.fold() == 0xffff {
        Received::Correct
    } else if field == pseudo_header.fold() {
        Received::Unfinished
    } else {
        Received::Wrong
    }
}

/// The words of `bytes` as they lie, added up in 64 bits; a last odd byte is the first half of a word. A function of its
/// own, so that a profile tells what summing the text costs from all else (`docs/benchmarks.md`).
#[inline(never)]
fn sum_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let (blocks, words) = words.as_chunks::<8>();
    let mut sum = 0u64;
    for block in blocks {
        // One addition with carry a word: the carry of each goes into the next.
        let mut carry = false;
        for word in block {
            (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
        }
        // A sum that carried is below its largest value.
        sum += u64::from(carry);
    }
    for word in words {
        sum = plus(sum, u64::from_ne_bytes(*word));
    }
    let (halves, rest) = rest.as_chunks::<4>();
    if let [half] = halves {
        sum = plus(sum, u64::from(u32::from_ne_bytes(*half)));
    }
    let (pairs, last) = rest.as_chunks::<2>();
    if let [pair] = pairs {
        sum = plus(sum, u64::from(u16::from_ne_bytes(*pair)));
    }
    if let [byte] = last {
        sum = plus(sum, u64::from(u16::from_ne_bytes([*byte, 0])));
    }
    sum
}

/// One's complement addition: a carry out of the top comes in at the bottom.
fn plus(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + u64::from(carry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, section 4.1, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// Zero and all ones are the same number in one's complement.
    fn same(a: u16, b: u16) -> bool {
        a == b || (a == 0 && b == 0xffff) || (a == 0xffff && b == 0)
    }

    #[test]
    fn the_example_of_rfc_1071_sums_to_ddf2() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_updates_to_zero() {
        let mut change = Sum::default();
        change.add_word(!0x5555);
        change.add_word(0x3285);
        assert_eq!(update(0xdd2f, change), 0x0000);
    }

    #[test]
    fn a_field_has_three_states() {
        let pseudo = Sum::pseudo_header([10, 0, 0, 1].into(), [10, 0, 0, 2].into(), 17, 12);
        let mut segment = [0, 7, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4];
        let state = |segment: &[u8; 12]| {
            judge(pseudo, Sum::of(segment), u16::from_be_bytes([segment[6], segment[7]]))
        };
        let mut whole = pseudo;
        whole.add(&segment);
        segment[6..8].copy_from_slice(&whole.checksum().to_be_bytes());
        assert_eq!(state(&segment), Received::Correct);
        segment[6..8].copy_from_slice(&pseudo.fold().to_be_bytes());
        assert_eq!(state(&segment), Received::Unfinished);
        segment[6..8].copy_from_slice(&(pseudo.fold() ^ 1).to_be_bytes());
        assert_eq!(state(&segment), Received::Wrong);
    }

    proptest! {
        #[test]
        fn a_headers_sum_equals_the_plain_one(bytes in any::<[u8; 32]>()) {
            let twenty: [u8; 20] = *bytes.first_chunk().unwrap();
            prop_assert!(same(Sum::of_header(&bytes).fold(), plain(&bytes)));
            prop_assert!(same(Sum::of_header(&twenty).fold(), plain(&twenty)));
        }

        #[test]
        fn a_sum_is_complete_when_it_folds_to_all_ones(value: u64, times in 0u64..1 << 48) {
            for value in [value, times * 0xffff, u64::MAX, 0] {
                let sum = Sum { value, odd: false };
                prop_assert_eq!(sum.is_complete(), sum.fold() == 0xffff);
            }
        }

        #[test]
        fn a_sum_equals_the_plain_one(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(same(Sum::of(&bytes).fold(), plain(&bytes)));
        }

        #[test]
        fn chunks_may_end_anywhere(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut sum = Sum::default();
            let mut from = 0;
            for cut in cuts.into_iter().chain([bytes.len()]) {
                sum.add(&bytes[from..cut]);
                from = cut;
            }
            prop_assert!(same(sum.fold(), plain(&bytes)));
        }

        #[test]
        fn an_update_equals_a_recomputation(
            mut bytes in proptest::collection::vec(any::<u8>(), 20..60),
            new in any::<[u8; 4]>(),
        ) {
            bytes[0] = 0x45; // A header is never all zero; RFC 1624 section 3 needs that.
            let before = Sum::of(&bytes).checksum();
            let mut change = Sum::of(&new);
            change.subtract_sum(Sum::of(&bytes[8..12]));
            bytes[8..12].copy_from_slice(&new);
            prop_assert_eq!(update(before, change), Sum::of(&bytes).checksum());
        }
    }
}
