//! Seeds of the simulator: many conversations over a bad network, held against the reference model.

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use sim::seed::{Outcome, Plan, attempt};

/// Unoptimised, a seed takes a second or two.
const SEEDS: u64 = if cfg!(debug_assertions) { 20 } else { 500 };

/// Plays seeds, `threads` at a time; their outcomes in order.
fn outcomes(seeds: std::ops::Range<u64>, threads: usize) -> Vec<Outcome> {
    let next = AtomicU64::new(seeds.start);
    let outcomes: Mutex<Vec<(u64, Outcome)>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = attempt(&Plan::from_seed(seed));
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_unstable_by_key(|(seed, _)| *seed);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

#[test]
fn what_was_written_is_what_is_read_and_nothing_is_left_whatever_the_seed() {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let failures: Vec<String> = outcomes(0..SEEDS, threads)
        .into_iter()
        .enumerate()
        .filter_map(|(seed, outcome)| Some(format!("seed {seed}: {}", outcome.failure?)))
        .collect();
    assert!(failures.is_empty(), "scripts/sim --from SEED --seeds 1 shows more\n{}", failures.join("\n"));
}

#[test]
fn a_seed_gives_the_same_trace_on_every_run_and_on_any_number_of_threads() {
    let hashes = |threads| -> Vec<u64> {
        outcomes(0..12, threads).into_iter().map(|outcome| outcome.trace_hash).collect()
    };
    let once = hashes(1);
    assert_eq!(once, hashes(1));
    assert_eq!(once, hashes(4));
    let mut different = once.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), once.len(), "every seed has a trace of its own");
}
