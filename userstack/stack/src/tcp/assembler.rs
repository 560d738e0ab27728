//! Which bytes beyond RCV.NXT are here already. The bytes themselves lie in the receive ring.

use super::header::{MAX_SACK_BLOCKS, SackBlocks};
use super::sequence::Seq;

/// Ranges that a connection may hold whatever its buffer (CVE-2018-5390: memory and work a segment must be bounded).
const LEAST_RANGES: usize = 32;
/// One more for so many bytes of receive buffer: two segments of an Ethernet, of which one is lost, as a queue that
/// overflows in slow start loses them. What is not kept is sent once more than it was lost. A range takes 8 bytes beside
/// them.
const BUFFER_BYTES_A_RANGE: usize = 2048;
/// However large the buffer: so that to insert one moves 16 KiB at most.
const MOST_RANGES: usize = 2048;

/// Disjoint ranges that do not touch. Without any, it holds no memory.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    islands: Option<Box<Islands>>,
}

/// What an [`Assembler`] has while there is something in it.
#[derive(Debug)]
struct Islands {
    /// Lowest first; never empty.
    ranges: Vec<Range>,
    /// Where those begin that grew last, the newest first: as many as one option tells of. An older one comes in again
    /// when one of them is gone.
    newest: [Seq; MAX_SACK_BLOCKS],
    told: usize,
}

#[derive(Copy, Clone, Debug)]
struct Range {
    start: Seq,
    end: Seq,
}

/// A range more than there may be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// How many ranges go with a receive buffer of so many bytes.
fn most_ranges(buffer_bytes: usize) -> usize {
    (buffer_bytes / BUFFER_BYTES_A_RANGE).clamp(LEAST_RANGES, MOST_RANGES)
}

impl Assembler {
    pub(crate) fn is_empty(&self) -> bool {
        self.islands.is_none()
    }

    fn ranges(&self) -> &[Range] {
        self.islands.as_ref().map_or(&[], |islands| &islands.ranges)
    }

    /// Adds `start..end`, which is beyond RCV.NXT and lies in a buffer of `buffer_bytes`.
    pub(crate) fn add(&mut self, start: Seq, end: Seq, buffer_bytes: usize) -> Result<(), Full> {
        let Some(islands) = &mut self.islands else {
            let mut newest = [Seq(0); MAX_SACK_BLOCKS];
            newest[0] = start;
            self.islands = Some(Box::new(Islands { ranges: vec![Range { start, end }], newest, told: 1 }));
            return Ok(());
        };
        islands.add(Range { start, end }, most_ranges(buffer_bytes))
    }

    /// The first part of `start..end` that is here already (RFC 2883, section 4).
    pub(crate) fn overlap(&self, start: Seq, end: Seq) -> Option<(Seq, Seq)> {
        let ranges = self.ranges();
        let first = ranges.partition_point(|range| range.end.at_or_before(start));
        let range = ranges.get(first).filter(|range| range.start.before(end))?;
        Some((range.start.max(start), range.end.min(end)))
    }

    /// Takes what continues at `next`, and gives where the next hole begins.
    pub(crate) fn advance(&mut self, next: Seq) -> Seq {
        let Some(islands) = &mut self.islands else { return next };
        let reached = islands.ranges.partition_point(|range| range.start.at_or_before(next));
        let end = islands.ranges[..reached].last().map_or(next, |range| range.end.max(next));
        if reached == islands.ranges.len() {
            self.islands = None;
            return end;
        }
        islands.ranges.drain(..reached);
        islands.forget(|start| start.at_or_before(next));
        islands.remember();
        end
    }

    /// The blocks of a SACK option, the newest first (RFC 2018, section 4), at most `most`; `first` is one that goes
    /// before them.
    pub(crate) fn blocks(&self, first: Option<(Seq, Seq)>, most: usize) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        if let Some((left, right)) = first.filter(|_| most > 0) {
            blocks.push(left, right);
        }
        let Some(islands) = &self.islands else { return blocks };
        let most = most.saturating_sub(blocks.as_slice().len());
        for start in islands.newest[..islands.told].iter().take(most) {
            let index = islands.ranges.partition_point(|range| range.start.before(*start));
            if let Some(range) = islands.ranges.get(index) {
                blocks.push(range.start, range.end);
            }
        }
        blocks
    }

    pub(crate) fn clear(&mut self) {
        self.islands = None;
    }
}

impl Islands {
    fn add(&mut self, new: Range, most: usize) -> Result<(), Full> {
        let first = self.ranges.partition_point(|range| range.end.before(new.start));
        let last = self.ranges.partition_point(|range| range.start.at_or_before(new.end));
        if first == last {
            if self.ranges.len() >= most {
                return Err(Full);
            }
            self.ranges.insert(first, new);
            self.tell(new);
            return Ok(());
        }
        let merged = Range {
            start: self.ranges[first].start.min(new.start),
            end: self.ranges[last - 1].end.max(new.end),
        };
        self.ranges[first] = merged;
        self.ranges.drain(first + 1..last);
        self.tell(merged);
        Ok(())
    }

    /// `range` grew last. Those that it swallowed are told with it.
    fn tell(&mut self, range: Range) {
        self.forget(|start| start.at_or_after(range.start) && start.before(range.end));
        self.told = (self.told + 1).min(self.newest.len());
        self.newest[..self.told].rotate_right(1);
        self.newest[0] = range.start;
        self.remember();
    }

    fn forget(&mut self, is_gone: impl Fn(Seq) -> bool) {
        let mut kept = 0;
        for index in 0..self.told {
            if !is_gone(self.newest[index]) {
                self.newest[kept] = self.newest[index];
                kept += 1;
            }
        }
        self.told = kept;
    }

    /// While there is room, tells of those too that newer ones had pushed out, the highest first: what is out of order is
    /// never kept from the peer (RFC 2018, section 4).
    fn remember(&mut self) {
        let all = self.newest.len().min(self.ranges.len());
        if self.told == all {
            return;
        }
        for range in self.ranges.iter().rev().take(2 * self.newest.len()) {
            if self.told < all && !self.newest[..self.told].contains(&range.start) {
                self.newest[self.told] = range.start;
                self.told += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_newest_range_is_the_first_block() {
        let mut assembler = Assembler::default();
        for (start, end) in [(10, 20), (50, 60), (30, 40)] {
            assembler.add(Seq(start), Seq(end), 0).unwrap();
        }
        let blocks = assembler.blocks(None, 3);
        assert_eq!(blocks.as_slice(), [(Seq(30), Seq(40)), (Seq(50), Seq(60)), (Seq(10), Seq(20))]);
        let blocks = assembler.blocks(Some((Seq(52), Seq(55))), 3);
        assert_eq!(blocks.as_slice(), [(Seq(52), Seq(55)), (Seq(30), Seq(40)), (Seq(50), Seq(60))]);
    }

    #[test]
    fn a_range_more_than_the_bound_is_refused_and_one_that_closes_a_hole_is_not() {
        let mut assembler = Assembler::default();
        for n in 0..LEAST_RANGES as u32 {
            assembler.add(Seq(n * 10), Seq(n * 10 + 5), 65_536).unwrap();
        }
        assert_eq!(assembler.add(Seq(9_000), Seq(9_001), 65_536), Err(Full));
        assert_eq!(assembler.add(Seq(5), Seq(10), 65_536), Ok(()));
    }

    #[test]
    fn a_larger_buffer_goes_with_more_ranges_up_to_the_most() {
        assert_eq!([0, 64 << 10, 1 << 20, 1 << 30].map(most_ranges), [32, 32, 512, 2048]);
    }

    #[test]
    fn a_range_that_was_swallowed_is_told_once_and_one_that_was_read_no_more() {
        let mut assembler = Assembler::default();
        for (start, end) in [(10, 20), (30, 40), (50, 60), (20, 30)] {
            assembler.add(Seq(start), Seq(end), 0).unwrap();
        }
        assert_eq!(assembler.blocks(None, 4).as_slice(), [(Seq(10), Seq(40)), (Seq(50), Seq(60))]);
        assert_eq!(assembler.advance(Seq(10)), Seq(40));
        assert_eq!(assembler.blocks(None, 4).as_slice(), [(Seq(50), Seq(60))]);
    }

    proptest! {
        #[test]
        fn behaves_as_a_set_of_bytes(
            base: u32,
            steps in prop::collection::vec((1u32..400, 1u32..40), 1..60),
            next in 0u32..400,
        ) {
            let mut assembler = Assembler::default();
            let (mut model, mut grown) = (BTreeSet::new(), Vec::new());
            for (start, len) in steps {
                if assembler.add(Seq(base) + start, Seq(base) + (start + len), 0).is_ok() {
                    model.extend(start..start + len);
                    grown.push(start);
                }
                prop_assert!(assembler.ranges().len() <= LEAST_RANGES);
                prop_assert!(assembler.ranges().windows(2).all(|pair| pair[0].end.before(pair[1].start)));
            }
            // The newest first, and as many as fit, each once (RFC 2018, section 4).
            let told = assembler.blocks(None, 4);
            let told = told.as_slice();
            prop_assert_eq!(told.len(), assembler.ranges().len().min(4));
            prop_assert!((1..told.len()).all(|index| !told[..index].contains(&told[index])));
            let is_range = |block: &(Seq, Seq)| assembler.ranges().iter().any(|range| (range.start, range.end) == *block);
            prop_assert!(told.iter().all(is_range));
            let newest = Seq(base) + grown.last().copied().unwrap_or_default();
            prop_assert!(told.first().is_none_or(|(left, right)| left.at_or_before(newest) && right.after(newest)));
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
            let left: u32 = assembler.ranges().iter().map(|range| range.end.since(range.start)).sum();
            prop_assert_eq!(left as usize, model.iter().filter(|byte| **byte > expected).count());
        }
    }
}
