//! Which seeds a test runs.

use std::env;
use std::ops::Range;

/// Names one seed to run instead of all, and keeps its packets.
const SEED_VARIABLE: &str = "RINGWAY_SEED";
/// How many seeds the nightly run takes.
const SEEDS_VARIABLE: &str = "RINGWAY_SEEDS";
/// A seed here is tens of mebibytes through a whole mesh; the nightly run's thousands are for smaller simulations.
const MOST_SEEDS: u64 = 200;

/// `0..few`, or as many as the nightly run wants, or the one to replay.
pub fn seeds(few: u64) -> Range<u64> {
    if let Some(seed) = replayed() {
        return seed..seed + 1;
    }
    let wanted = number(SEEDS_VARIABLE).map_or(few, |wanted| wanted.min(MOST_SEEDS));
    // Unoptimised, a seed takes ten times as long.
    0..if cfg!(debug_assertions) { wanted.min(1) } else { wanted }
}

/// The seed that is replayed, if one is.
pub fn replayed() -> Option<u64> {
    number(SEED_VARIABLE)
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}
