//! Properties of the parts against naive models, and of a whole connection against a peer that is one.

mod bursts;
mod parts;
mod peer;
mod receiving;
mod sending;
mod ways;

use proptest::test_runner::Config;

/// A conversation costs what many parts do: it has this part of the cases that `PROPTEST_CASES` asks for.
fn a_part_of_the_cases(part: u32) -> Config {
    let config = Config::default();
    Config { cases: (config.cases / part).max(1), ..config }
}

/// The byte at a place of a stream.
fn pattern(place: u32) -> u8 {
    (place % 251) as u8
}
