//! Which bytes beyond RCV.NXT are here already. The bytes themselves lie in the receive ring.

use super::header::SackBlocks;
use super::sequence::Seq;

/// Ranges a connection may hold out of order (CVE-2018-5390: the work per segment must be bounded). More holes than
/// this in one window mean a peer that lies, or a loss that retransmission repairs anyway.
pub(crate) const MAX_RANGES: usize = 32;

/// What is here. Empty, it holds no memory: most connections never have a hole.
#[derive(Debug, Default)]
pub(crate) struct Assembler(Option<Box<Ranges>>);

/// Disjoint ranges that do not touch, lowest first.
#[derive(Debug, Default)]
struct Ranges {
    ranges: Vec<Range>,
    /// Counts additions, so that the newest range is known.
    clock: u32,
}

#[derive(Copy, Clone, Debug)]
struct Range {
    start: Seq,
    end: Seq,
    /// When it last grew, on `clock`.
    touched: u32,
}

/// A range more than there may be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Assembler {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds `start..end`, which is beyond RCV.NXT.
    pub(crate) fn add(&mut self, start: Seq, end: Seq) -> Result<(), Full> {
        self.0.get_or_insert_default().add(start, end)
    }

    /// The first part of `start..end` that is here already (RFC 2883, section 4).
    pub(crate) fn overlap(&self, start: Seq, end: Seq) -> Option<(Seq, Seq)> {
        self.0.as_ref()?.overlap(start, end)
    }

    /// Takes what continues at `next`, and gives where the next hole begins.
    pub(crate) fn advance(&mut self, next: Seq) -> Seq {
        let Some(ranges) = &mut self.0 else { return next };
        let end = ranges.advance(next);
        if ranges.ranges.is_empty() {
            self.0 = None;
        }
        end
    }

    /// The blocks of a SACK option, the newest first (RFC 2018, section 4), at most `most`; `first` is one that goes
    /// before them.
    pub(crate) fn blocks(&self, first: Option<(Seq, Seq)>, most: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if let Some((left, right)) = first.filter(|_| most > 0) {
            blocks.push(left, right);
        }
        if let Some(ranges) = &self.0 {
            ranges.add_blocks(&mut blocks, most);
        }
        blocks
    }

    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

impl Ranges {
    fn add(&mut self, start: Seq, end: Seq) -> Result<(), Full> {
        let first = self.ranges.partition_point(|range| range.end.before(start));
        let last = self.ranges.partition_point(|range| range.start.at_or_before(end));
        self.clock = self.clock.wrapping_add(1);
        let touched = self.clock;
        if first == last {
            if self.ranges.len() == MAX_RANGES {
                return Err(Full);
            }
            self.ranges.insert(first, Range { start, end, touched });
            return Ok(());
        }
        let merged = Range {
            start: self.ranges[first].start.min(start),
            end: self.ranges[last - 1].end.max(end),
            touched,
        };
        self.ranges[first] = merged;
        self.ranges.drain(first + 1..last);
        Ok(())
    }

    fn overlap(&self, start: Seq, end: Seq) -> Option<(Seq, Seq)> {
        let first = self.ranges.partition_point(|range| range.end.at_or_before(start));
        let range = self.ranges.get(first).filter(|range| range.start.before(end))?;
        Some((range.start.max(start), range.end.min(end)))
    }

    fn advance(&mut self, next: Seq) -> Seq {
        let reached = self.ranges.partition_point(|range| range.start.at_or_before(next));
        let end = self.ranges[..reached].last().map_or(next, |range| range.end.max(next));
        self.ranges.drain(..reached);
        end
    }

    fn add_blocks(&self, blocks: &mut SackBlocks, most: usize) {
        let most = most.saturating_sub(blocks.as_slice().len());
        let mut below = None;
        for _ in 0..most.min(self.ranges.len()) {
            let age = |range: &Range| self.clock.wrapping_sub(range.touched);
            let older = self.ranges.iter().filter(|range| below.is_none_or(|limit| age(range) > limit));
            let Some(range) = older.min_by_key(|range| age(range)) else { break };
            blocks.push(range.start, range.end);
            below = Some(age(range));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ranges(assembler: &Assembler) -> &[Range] {
        assembler.0.as_ref().map_or(&[], |present| &present.ranges)
    }

    #[test]
    fn the_newest_range_is_the_first_block() {
        let mut assembler = Assembler::default();
        for (start, end) in [(10, 20), (50, 60), (30, 40)] {
            assembler.add(Seq(start), Seq(end)).unwrap();
        }
        let blocks = assembler.blocks(None, 3);
        assert_eq!(blocks.as_slice(), [(Seq(30), Seq(40)), (Seq(50), Seq(60)), (Seq(10), Seq(20))]);
        let blocks = assembler.blocks(Some((Seq(52), Seq(55))), 3);
        assert_eq!(blocks.as_slice(), [(Seq(52), Seq(55)), (Seq(30), Seq(40)), (Seq(50), Seq(60))]);
    }

    #[test]
    fn a_range_more_than_the_bound_is_refused_and_one_that_closes_a_hole_is_not() {
        let mut assembler = Assembler::default();
        for n in 0..MAX_RANGES as u32 {
            assembler.add(Seq(n * 10), Seq(n * 10 + 5)).unwrap();
        }
        assert_eq!(assembler.add(Seq(9_000), Seq(9_001)), Err(Full));
        assert_eq!(assembler.add(Seq(5), Seq(10)), Ok(()));
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_bytes(
            base: u32,
            steps in prop::collection::vec((1u32..400, 1u32..40), 1..60),
            next in 0u32..400,
        ) {
            let mut assembler = Assembler::default();
            let mut model = BTreeSet::new();
            for (start, len) in steps {
                if assembler.add(Seq(base) + start, Seq(base) + (start + len)).is_ok() {
                    model.extend(start..start + len);
                }
                prop_assert!(ranges(&assembler).len() <= MAX_RANGES);
                prop_assert!(ranges(&assembler).windows(2).all(|pair| pair[0].end.before(pair[1].start)));
            }
            for start in (0..440).step_by(7) {
                let here: Vec<u32> = (start..start + 30).filter(|byte| model.contains(byte)).collect();
                let overlap = assembler.overlap(Seq(base) + start, Seq(base) + (start + 30));
                prop_assert_eq!(overlap.map(|(left, _)| left), here.first().map(|byte| Seq(base) + *byte));
                if let Some((left, right)) = overlap {
                    let first = left.since(Seq(base));
                    let run = (first..start + 30).take_while(|byte| model.contains(byte)).count();
                    prop_assert_eq!(right.since(left) as usize, run);
                }
            }
            let mut expected = next;
            while model.contains(&expected) {
                expected += 1;
            }
            prop_assert_eq!(assembler.advance(Seq(base) + next), Seq(base) + expected);
            let left: u32 = ranges(&assembler).iter().map(|range| range.end.since(range.start)).sum();
            prop_assert_eq!(left as usize, model.iter().filter(|byte| **byte > expected).count());
        }
    }
}
