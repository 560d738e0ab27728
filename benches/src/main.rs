//! `ringway-bench`: measures every case, prints a table, and fails when a count grew beyond the baseline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use benches::baseline::{self, Baseline, Counts};
use benches::cases::{CASES, Case};
use benches::{relay, report, runner};
use clap::Parser;

/// Counts instructions, allocations and bytes of the data plane.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only cases whose name contains this.
    filter: Option<String>,
    /// Writes what was counted to the baseline, instead of comparing.
    #[arg(long)]
    update: bool,
    #[arg(long, default_value = "benches/baseline.json")]
    baseline: PathBuf,
    /// Instead: what datagrams wait while a thousand connections arrive, in the core's own time.
    #[arg(long)]
    waits: bool,
    /// Runs this one case in this process and prints its sums.
    #[arg(long, hide = true)]
    case: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.waits {
        print_waits();
        return ExitCode::SUCCESS;
    }
    let done = match &arguments.case {
        Some(name) => run_one(name),
        None => run_all(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn print_waits() {
    for every in relay::CONNECTIONS_EVERY {
        println!("{}", report::waits(&relay::beside_new_connections(every)));
    }
}

fn run_one(name: &str) -> Result<(), String> {
    let case =
        CASES.iter().find(|case| case.name == name).ok_or_else(|| format!("no case is named {name}"))?;
    let sums = (case.run)();
    println!("{}", serde_json::to_string(&sums).map_err(|error| error.to_string())?);
    Ok(())
}

fn run_all(arguments: &Arguments) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| format!("this program's own path: {error}"))?;
    let mut kept = match baseline::read(&arguments.baseline) {
        Err(_) if arguments.update => Baseline::new(),
        read => read?,
    };
    let wanted = |case: &&Case| arguments.filter.as_ref().is_none_or(|filter| case.name.contains(filter));
    let (mut all, mut grown) = (BTreeMap::new(), Vec::new());
    println!("{}", report::head());
    for case in CASES.iter().filter(wanted) {
        let figures = runner::measure(&program, case)?;
        println!("{}", report::line(case, &figures, &kept));
        let counts = Counts::from(figures);
        if arguments.update {
            kept.insert(case.name.into(), counts);
        } else {
            grown.extend(baseline::growth(&kept, case.name, counts));
        }
        all.insert(case.name, figures);
    }
    println!("\n{}", report::limits(&all));
    if arguments.update {
        kept.retain(|name, _| CASES.iter().any(|case| case.name == name));
        return baseline::write(&arguments.baseline, &kept);
    }
    if grown.is_empty() { Ok(()) } else { Err(format!("beyond the baseline:\n  {}", grown.join("\n  "))) }
}
