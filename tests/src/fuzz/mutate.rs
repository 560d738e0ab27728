//! Makes new inputs of old ones.

/// Longest input: longer ones find what shorter ones find, slower.
const MAX_INPUT_BYTES: usize = 16 << 10;

/// Changes that are made on top of each other, at most.
const MAX_CHANGES: usize = 6;
/// Longest piece that is cut out, doubled or filled in one change.
const MAX_PIECE_BYTES: usize = 64;
/// Where parsers count, compare and shift: edges of signed and unsigned bytes, words and lengths.
const EDGES: [u32; 14] =
    [0, 1, 0x10, 0x20, 0x7f, 0x80, 0xff, 0x100, 0x5dc, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0xffff_ffff];

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) and what is done with it.
#[derive(Debug)]
pub struct Mutator {
    state: u64,
    words: &'static [&'static str],
}

impl Mutator {
    pub fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self { state: seed, words }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// One of `pool`, changed.
    pub fn mutate(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = pool[self.below(pool.len())].clone();
        for _ in 0..=self.below(MAX_CHANGES) {
            self.change(&mut input, pool);
        }
        input.truncate(MAX_INPUT_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let piece = at..(at + 1 + self.below(MAX_PIECE_BYTES)).min(input.len()).max(at);
        match self.below(10) {
            0 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (self.next() % 8)),
            1 => input.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.next() as u8),
            2 => self.write_edge(input, at),
            3 => drop(input.drain(piece)),
            4 => {
                let copy = input[piece].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            5 => {
                let byte = self.next() as u8;
                input.splice(at..at, (0..piece.len()).map(|_| byte));
            }
            6 => input.truncate(at),
            7 => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let to = (from + 1 + self.below(4 * MAX_PIECE_BYTES)).min(other.len()).max(from);
                input.splice(at..at, other[from..to].iter().copied());
            }
            8 => {
                let step = 1 + self.below(4) as u8;
                let up = self.below(2) == 0;
                input.iter_mut().skip(at).take(1).for_each(|byte| {
                    *byte = if up { byte.wrapping_add(step) } else { byte.wrapping_sub(step) }
                });
            }
            _ => self.put_word(input, piece),
        }
    }

    /// One of [`EDGES`] over one, two or four bytes, in network order.
    fn write_edge(&mut self, input: &mut [u8], at: usize) {
        let edge = EDGES[self.below(EDGES.len())].to_be_bytes();
        let width = [1, 2, 4][self.below(3)];
        for (byte, new) in input.iter_mut().skip(at).zip(&edge[4 - width..]) {
            *byte = *new;
        }
    }

    /// Before a piece, or in its place.
    fn put_word(&mut self, input: &mut Vec<u8>, piece: std::ops::Range<usize>) {
        if self.words.is_empty() {
            return;
        }
        let word = self.words[self.below(self.words.len())].bytes();
        let end = if self.below(2) == 0 { piece.start } else { piece.end };
        input.splice(piece.start..end, word);
    }
}
