//! The counts that are kept in the tree, and what of a new run has grown beyond them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::runner::Figures;

/// A count may grow by this share: compilers differ by a few parts in a hundred.
const GROWTH: f64 = 0.05;
/// Counts are kept to a hundredth: a growth of less is none.
const GRAIN: f64 = 0.01;

/// A case's counts, each a unit. Time is not kept: it does not repeat.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub instructions: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allocations: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub held_bytes: Option<f64>,
}

impl From<Figures> for Counts {
    fn from(figures: Figures) -> Self {
        let round = |count: Option<f64>| count.map(|count| (count / GRAIN).round() * GRAIN).map(to_grain);
        Self {
            instructions: round(figures.instructions),
            allocations: round(figures.allocations),
            held_bytes: round(figures.held_bytes),
        }
    }
}

/// Without the tail of binary fractions, so that the file reads well.
fn to_grain(count: f64) -> f64 {
    format!("{count:.2}").parse().unwrap_or(count)
}

pub type Baseline = BTreeMap<String, Counts>;

pub fn read(path: &Path) -> Result<Baseline, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

pub fn write(path: &Path, baseline: &Baseline) -> Result<(), String> {
    let text = serde_json::to_string_pretty(baseline).map_err(|error| error.to_string())?;
    std::fs::write(path, text + "\n").map_err(|error| format!("{}: {error}", path.display()))
}

/// Why a run fails: a sentence for every count that grew, or that the baseline lacks.
pub fn growth(baseline: &Baseline, case: &str, now: Counts) -> Vec<String> {
    let Some(before) = baseline.get(case) else {
        return vec![format!("{case}: the baseline lacks it: scripts/bench --update")];
    };
    let pairs = [
        ("instructions", before.instructions, now.instructions),
        ("allocations", before.allocations, now.allocations),
        ("held bytes", before.held_bytes, now.held_bytes),
    ];
    let grown = pairs.into_iter().filter_map(|(name, before, now)| {
        let (before, now) = before.zip(now)?;
        (now > before * (1.0 + GROWTH) + GRAIN).then(|| format!("{case}: {name} grew from {before} to {now}"))
    });
    grown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(instructions: f64, allocations: f64) -> Counts {
        Counts { instructions: Some(instructions), allocations: Some(allocations), held_bytes: None }
    }

    fn baseline() -> Baseline {
        Baseline::from([("case".into(), counts(1000.0, 0.0))])
    }

    #[test]
    fn a_count_that_grew_by_more_than_a_twentieth_fails_the_run() {
        let found = growth(&baseline(), "case", counts(1060.0, 0.0));
        assert_eq!(found, ["case: instructions grew from 1000 to 1060"]);
    }

    #[test]
    fn an_allocation_where_there_was_none_fails_the_run() {
        assert_eq!(growth(&baseline(), "case", counts(1000.0, 1.0)).len(), 1);
    }

    #[test]
    fn a_count_that_grew_by_less_or_shrank_passes() {
        assert!(growth(&baseline(), "case", counts(1040.0, 0.0)).is_empty());
        assert!(growth(&baseline(), "case", counts(500.0, 0.0)).is_empty());
    }

    #[test]
    fn a_case_without_a_baseline_fails_the_run() {
        assert_eq!(growth(&baseline(), "new", counts(1.0, 0.0)).len(), 1);
    }
}
