//! Sequence numbers: 32 bits that wrap (RFC 9293, section 3.4).

use std::fmt;
use std::ops::{Add, AddAssign, Sub};

/// A sequence number. Comparisons hold between numbers less than 2^31 apart.
#[derive(Copy, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Seq(pub(crate) u32);

impl Seq {
    pub(crate) fn before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    pub(crate) fn after(self, other: Self) -> bool {
        other.before(self)
    }

    pub(crate) fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    pub(crate) fn at_or_after(self, other: Self) -> bool {
        !self.before(other)
    }

    /// Numbers from `earlier` to here.
    pub(crate) fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// As [`since`](Self::since), zero when `earlier` is not before.
    pub(crate) fn saturating_since(self, earlier: Self) -> u32 {
        if self.after(earlier) { self.since(earlier) } else { 0 }
    }

    pub(crate) fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    pub(crate) fn min(self, other: Self) -> Self {
        if other.before(self) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Self;
    fn add(self, rhs: u32) -> Self {
        Self(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, rhs: u32) {
        *self = *self + rhs;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;
    fn sub(self, rhs: u32) -> Self {
        Self(self.0.wrapping_sub(rhs))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_holds_across_the_wrap(start: u32, distance in 1u32..(1 << 31)) {
            let (low, high) = (Seq(start), Seq(start) + distance);
            prop_assert!(low.before(high) && high.after(low) && low.at_or_before(high) && high.at_or_after(low));
            prop_assert!(!high.before(low) && !low.after(high));
            prop_assert_eq!(high.since(low), distance);
            prop_assert_eq!(low.saturating_since(high), 0);
            prop_assert_eq!(low.max(high), high);
            prop_assert_eq!(low.min(high), low);
            prop_assert_eq!(high - distance, low);
        }

        #[test]
        fn a_number_is_neither_before_nor_after_itself(start: u32) {
            let seq = Seq(start);
            prop_assert!(!seq.before(seq) && !seq.after(seq) && seq.at_or_before(seq) && seq.at_or_after(seq));
        }
    }
}
