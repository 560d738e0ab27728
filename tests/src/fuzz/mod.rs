//! Bytes in, never a panic: the runner of all fuzz targets, on a stable toolchain.
//!
//! A target is a function from bytes to an [`Outcome`]: a number for what happened (verdicts, statuses, reasons of
//! refusal). It runs over its committed corpus, then over mutations of it. An input whose outcome is new joins the pool
//! that further mutations start from; so the outcomes steer as coverage would, without instrumented builds, and a run
//! repeats from its seed.
//!
//! ```text
//!   corpus ──▶ pool ──▶ Mutator ──▶ target ──▶ Outcome ── new ──▶ pool
//!                                     └ panic: the input is kept in a file, and how to repeat it is printed
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `RINGWAY_FUZZ_SECONDS=600` | each target runs that long instead of its few thousand mutations |
//! | `RINGWAY_FUZZ_INPUT=FILE` | each target takes that input alone: with a test's name, to repeat a panic |
//! | `RINGWAY_FUZZ_KEEP=FOLDER` | inputs that reach what the corpus did not are written there |
//! | `RINGWAY_SEED=17` | other mutations |

mod mutate;

use std::collections::{BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::Mutator;

/// Inputs that mutations start from. Beyond it a new one takes the place of another.
const MAX_POOL: usize = 4_096;
const DEFAULT_SEED: u64 = 1;

/// What came of one input, as numbers: equal for what went the same way.
#[derive(Clone, Debug)]
pub struct Outcome {
    whole: u64,
    /// What it is made of, where that is known.
    parts: Vec<u64>,
}

impl Outcome {
    pub fn of(what: &impl Hash) -> Self {
        Self { whole: number_of(what), parts: Vec::new() }
    }

    /// Of many things that happened, or did not.
    pub fn of_all<T: Hash>(all: BTreeSet<T>) -> Self {
        Self { whole: number_of(&all), parts: all.iter().map(number_of).collect() }
    }
}

fn number_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

/// One fuzz target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its corpus is `tests/fuzz/corpus/NAME`.
    pub name: &'static str,
    /// Pieces of the target's language, which mutations put in.
    pub words: &'static [&'static str],
    /// Inputs beside the corpus, made by the code itself so that they never grow old.
    pub seeds: Vec<Vec<u8>>,
    /// Mutations in an ordinary test run.
    pub mutations: usize,
}

impl Target {
    /// Runs `attempt` over the corpus and its mutations.
    ///
    /// # Panics
    /// When `attempt` does, and when the corpus is empty.
    pub fn run(&self, mut attempt: impl FnMut(&[u8]) -> Outcome) {
        let mut once = |input: &[u8]| {
            let _kept = Kept { target: self.name, input };
            attempt(input)
        };
        if let Some(path) = std::env::var_os("RINGWAY_FUZZ_INPUT") {
            once(&std::fs::read(path).expect("RINGWAY_FUZZ_INPUT names a file"));
            return;
        }
        let mut pool = self.corpus();
        assert!(!pool.is_empty(), "{}: no corpus", self.name);
        let mut seen = Seen::default();
        for input in &pool {
            seen.insert(&once(input));
        }
        let budget = Budget::of(self.mutations);
        let mut mutator = Mutator::new(number("RINGWAY_SEED").unwrap_or(DEFAULT_SEED), self.words);
        let mut done = 0;
        while !budget.is_spent(done) {
            let input = mutator.mutate(&pool);
            let new = seen.insert(&once(&input));
            if new == New::Part {
                keep_found(self.name, &input);
            }
            if new != New::Nothing {
                match pool.len() {
                    MAX_POOL => {
                        let at = mutator.below(MAX_POOL);
                        pool[at] = input;
                    }
                    _ => pool.push(input),
                }
            }
            done += 1;
        }
        let Seen { outcomes, parts } = seen;
        println!("{}: {done} mutations, {} outcomes of {} parts", self.name, outcomes.len(), parts.len());
    }

    /// In the order of the files' names, then what the code made.
    fn corpus(&self) -> Vec<Vec<u8>> {
        let folder = crate::repository().join("tests/fuzz/corpus").join(self.name);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        paths.sort();
        let files = paths.iter().map(|path| std::fs::read(path).expect("a file of the corpus can be read"));
        files.chain(self.seeds.iter().cloned()).collect()
    }
}

/// Outcomes of a run, and their parts.
#[derive(Default)]
struct Seen {
    outcomes: HashSet<u64>,
    parts: HashSet<u64>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum New {
    Nothing,
    Outcome,
    /// Something happened that never did before.
    Part,
}

impl Seen {
    fn insert(&mut self, outcome: &Outcome) -> New {
        let outcomes = self.outcomes.insert(outcome.whole);
        let before = self.parts.len();
        self.parts.extend(&outcome.parts);
        match outcomes {
            _ if self.parts.len() > before => New::Part,
            true => New::Outcome,
            false => New::Nothing,
        }
    }
}

/// Where `RINGWAY_FUZZ_KEEP` names a folder: what reaches more than the corpus did, for whoever adds to that.
fn keep_found(target: &str, input: &[u8]) {
    let Some(folder) = std::env::var_os("RINGWAY_FUZZ_KEEP") else { return };
    let path = PathBuf::from(folder).join(format!("{target}-{:016x}", number_of(&input)));
    if let Err(error) = std::fs::write(&path, input) {
        eprintln!("{target}: {}: {error}", path.display());
    }
}

/// How long a run is.
enum Budget {
    Mutations(usize),
    Until(Instant),
}

impl Budget {
    fn of(mutations: usize) -> Self {
        match number("RINGWAY_FUZZ_SECONDS") {
            Some(seconds) => Self::Until(Instant::now() + Duration::from_secs(seconds)),
            None => Self::Mutations(mutations),
        }
    }

    fn is_spent(&self, done: usize) -> bool {
        match self {
            Self::Mutations(most) => done >= *most,
            Self::Until(end) => Instant::now() >= *end,
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Writes the input down when the target panics over it.
struct Kept<'a> {
    target: &'a str,
    input: &'a [u8],
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let name = format!("ringway-fuzz-{}-{:016x}", self.target, number_of(&self.input));
        let path = std::env::temp_dir().join(name);
        match std::fs::write(&path, self.input) {
            Ok(()) => eprintln!("{}: RINGWAY_FUZZ_INPUT={} repeats it", self.target, path.display()),
            Err(error) => eprintln!("{}: {error}; the input: {:?}", self.target, self.input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(mutations: usize) -> Target {
        Target { name: "none", words: &["panic"], seeds: vec![b"some text".to_vec()], mutations }
    }

    #[test]
    fn a_word_of_the_language_is_soon_put_in() {
        let mut found = false;
        target(2_000).run(|input| {
            found |= input.windows(5).any(|window| window == b"panic");
            Outcome::of(&input.len().min(20))
        });
        assert!(found);
    }

    #[test]
    fn new_outcomes_lead_step_by_step_to_what_chance_alone_does_not_reach() {
        // Three given bytes in a row: one in 16 million by chance, but each of them is an outcome.
        let mut best = 0;
        target(60_000).run(|input| {
            let steps = input.iter().zip(b"\x01\x80\x7f").take_while(|(is, wanted)| is == wanted).count();
            best = best.max(steps);
            Outcome::of(&steps)
        });
        assert_eq!(best, 3);
    }

    #[test]
    fn one_seed_gives_the_same_inputs_twice() {
        let inputs = || {
            let mut all = Vec::new();
            target(200).run(|input| {
                all.push(input.to_vec());
                Outcome::of(&input)
            });
            all
        };
        assert_eq!(inputs(), inputs());
    }
}
