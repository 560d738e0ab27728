//! The table that a run prints, and how the figures stand to the project's own limits.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::baseline::{Baseline, Counts};
use crate::cases::Case;
use crate::relay::Waits;
use crate::runner::Figures;

pub fn head() -> String {
    format!(
        "{:<16} {:>10} {:>13} {:>8} {:>12} {:>11} {:>9}  {}",
        "case", "unit", "instructions", "change", "allocations", "held bytes", "ns", "cache misses L1 / last"
    )
}

pub fn line(case: &Case, figures: &Figures, baseline: &Baseline) -> String {
    let before = baseline.get(case.name).copied().unwrap_or_default();
    let cell =
        |value: Option<f64>, decimals: usize| value.map_or("-".into(), |value| format!("{value:.decimals$}"));
    let misses =
        figures.cache.map_or(String::new(), |it| format!("{:.1} / {:.2}", it.first_level, it.last_level));
    format!(
        "{:<16} {:>10} {:>13} {:>8} {:>12} {:>11} {:>9}  {}",
        case.name,
        case.unit,
        cell(figures.instructions, 0),
        change(before, figures),
        cell(figures.allocations, 2),
        cell(figures.held_bytes, 0),
        cell(figures.nanos, 0),
        misses
    )
}

/// Of the count that the case is about, in parts of a hundred.
fn change(before: Counts, figures: &Figures) -> String {
    let instructions = before.instructions.zip(figures.instructions);
    let pair = instructions.or(before.held_bytes.zip(figures.held_bytes));
    pair.map_or("new".into(), |(before, now)| format!("{:+.1}%", (now / before - 1.0) * 100.0))
}

/// The ratios and sizes that the project has promised, each with what was measured.
pub fn limits(all: &BTreeMap<&str, Figures>) -> String {
    let mut text = String::new();
    let mut say = |what: &str, measured: Option<f64>, limit: f64| {
        if let Some(measured) = measured {
            let verdict = if measured <= limit { "kept" } else { "MISSED" };
            writeln!(text, "{what:<60} {measured:>10.2}  at most {limit:>7}  {verdict}")
                .expect("writing to a string");
        }
    };
    let figure = |name: &str, of: fn(&Figures) -> Option<f64>| all.get(name).and_then(of);
    let ratio =
        |of: fn(&Figures) -> Option<f64>, many: &str, few: &str| Some(figure(many, of)? / figure(few, of)?);
    say("instructions, 100,000 connections to 1", ratio(|f| f.instructions, "flows_100000", "flows_1"), 1.1);
    say(
        "time, 100,000 connections to 1 (does not fail a run)",
        ratio(|f| f.nanos, "flows_100000", "flows_1"),
        3.0,
    );
    say(
        "instructions, a datagram with 256 interfaces to 1",
        ratio(|f| f.instructions, "interfaces_256", "interfaces_1"),
        1.1,
    );
    say("heap bytes of a connection before its first byte", figure("idle_unused", |f| f.held_bytes), 2048.0);
    say("heap bytes of a connection after one request", figure("idle_served", |f| f.held_bytes), 24_576.0);
    text
}

/// In the core's own time: other programs do not count, the frequency of the machine does.
pub fn waits(waits: &Waits) -> String {
    let Waits { every, calm_p99, busy_p99, busy_longest, busy } = waits;
    format!(
        "p99 of a datagram's wait: {calm_p99:.1?} calm, {busy_p99:.1?} (longest {busy_longest:.1?}) while 1,000 \
         connections came, one every {every:?}, and were served in {busy:.1?}"
    )
}
