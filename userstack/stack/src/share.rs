//! One core's part of a limit that is the node's.
//!
//! The parts of all cores never add up to more than the limit: each begins with its even part, and whoever moves parts
//! between cores takes away first and gives then. No core looks at another's.

use std::cell::Cell;

/// What one core may hold of something.
#[derive(Debug)]
pub struct Share {
    granted: Cell<usize>,
    /// Something was refused since the last grant.
    refused: Cell<bool>,
}

/// How a core stands to its share.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    pub granted: usize,
    pub used: usize,
    /// It refused something since the last grant.
    pub refused: bool,
    /// It refused something, or soon will: three quarters are in use.
    pub short: bool,
}

impl Share {
    /// The even part of one of so many workers; the parts of all are the limit.
    pub fn even(limit: usize, worker: u16, workers: u16) -> Self {
        let (worker, workers) = (usize::from(worker), usize::from(workers.max(1)));
        let granted = limit / workers + usize::from(worker < limit % workers);
        Self { granted: Cell::new(granted), refused: Cell::new(false) }
    }

    /// Whether there is room for one more beside the `used`.
    pub fn admits(&self, used: usize) -> bool {
        let room = used < self.granted.get();
        if !room {
            self.refused.set(true);
        }
        room
    }

    pub fn holding(&self, used: usize) -> Holding {
        let (granted, refused) = (self.granted.get(), self.refused.get());
        Holding { granted, used, refused, short: refused || used > granted - granted / 4 }
    }

    /// Grants so much from now on, but no less than is used: what it has become.
    pub fn grant(&self, granted: usize, used: usize) -> Holding {
        self.granted.set(granted.max(used));
        self.refused.set(false);
        self.holding(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn even_parts_are_together_the_limit() {
        for (limit, workers) in [(0, 1), (1, 2), (10, 3), (131_072, 128), (5, 0)] {
            let parts =
                (0..workers.max(1)).map(|worker| Share::even(limit, worker, workers).holding(0).granted);
            assert_eq!(parts.sum::<usize>(), limit, "{limit} among {workers}");
        }
    }

    #[test]
    fn a_share_is_short_when_it_refused_or_soon_will() {
        let share = Share::even(8, 0, 1);
        assert!(!share.holding(6).short);
        assert!(share.holding(7).short);
        assert!(share.admits(7) && !share.holding(2).short);
        assert!(!share.admits(8) && share.holding(2).short, "refused, though there is room by now");
        assert!(!share.grant(8, 2).short, "a grant answers the refusal");
    }

    #[test]
    fn nothing_that_is_used_is_taken_away() {
        let share = Share::even(8, 0, 1);
        assert_eq!(share.grant(2, 5), Holding { granted: 5, used: 5, refused: false, short: true });
        assert!(!share.admits(5));
    }
}
