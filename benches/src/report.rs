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
        "case",
        "unit",
        "instructions",
        "change",
        "allocations",
        "held bytes",
        "ns",
        "cache misses L1 / last, or headers + copy + checksum"
    )
}

pub fn line(case: &Case, figures: &Figures, baseline: &Baseline) -> String {
    let before = baseline.get(case.name).copied().unwrap_or_default();
    let cell =
        |value: Option<f64>, decimals: usize| value.map_or("-".into(), |value| format!("{value:.decimals$}"));
    let misses = figures.cache.map(|it| format!("{:.1} / {:.2}", it.first_level, it.last_level));
    let parts = figures.text.map(|it| format!("{:.0} + {:.0} + {:.0}", it.headers, it.copy, it.checksum));
    format!(
        "{:<16} {:>10} {:>13} {:>8} {:>12} {:>11} {:>9}  {}",
        case.name,
        case.unit,
        cell(figures.instructions, 0),
        change(before, figures),
        cell(figures.allocations, 2),
        cell(figures.held_bytes, 0),
        cell(figures.nanos, 0),
        misses.or(parts).unwrap_or_default()
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
    // One of a few streams is known by its packets' first bytes; the table is asked where there are many.
    say(
        "instructions, 100,000 connections to 1,000",
        ratio(|f| f.instructions, "flows_100000", "flows_1000"),
        1.1,
    );
    say(
        "time, 100,000 connections to 1 (does not fail a run)",
        ratio(|f| f.nanos, "flows_100000", "flows_1"),
        3.0,
    );
    say(
        "instructions, 1,000,000 connections to 1,000",
        ratio(|f| f.instructions, "flows_1000000", "flows_1000"),
        1.01,
    );
    say(
        "time, 1,000,000 connections to 1,000 (does not fail a run)",
        ratio(|f| f.nanos, "flows_1000000", "flows_1000"),
        4.0,
    );
    say(
        "heap bytes of one of 1,000,000 idle connections",
        figure("connections_1000000", |f| f.held_bytes),
        600.0,
    );
    say(
        "nanoseconds of a new connection with its request and its end",
        figure("new_connections", |f| f.nanos),
        10_000.0,
    );
    for deed in ["insert", "cancel", "expire"] {
        let of = |armed: &str| figure(&format!("timer_{deed}_{armed}"), |f| f.instructions);
        let ratio = of("1000000").zip(of("1000")).map(|(many, few)| many / few);
        say(&format!("instructions, to {deed} one of 1,000,000 timers to 1,000"), ratio, 1.25);
    }
    say(
        "instructions, a datagram with 256 interfaces to 1",
        ratio(|f| f.instructions, "interfaces_256", "interfaces_1"),
        1.1,
    );
    let headers = |name: &str| figure(name, |f| f.text.map(|text| text.headers));
    say("instructions, a segment of text in, without copy and sum", headers("tcp_receive_v4"), 450.0);
    // An acknowledgement is of two segments.
    let out = headers("tcp_send_v4").zip(headers("tcp_ack_v4")).map(|(both, ack)| both - ack / 2.0);
    say("instructions, a segment of text out, without copy and sum", out, 350.0);
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
