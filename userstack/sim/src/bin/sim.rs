//! `scripts/sim`: plays seeds on all cores, and says how fast, what they reached, and what failed.
#![forbid(unsafe_code)]

use std::fs;
use std::num::NonZero;
use std::panic;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use sim::grid;
use sim::seed::{Outcome, Plan, Reached, UNREACHABLE, attempt, play, shrink};

const USAGE: &str = "\
usage: scripts/sim [--seeds N] [--from S] [--threads T] [--hash] [--table]
       scripts/sim --plan S         prints the plan of a seed
       scripts/sim --grid           prints docs/tcp-grid.md anew: goodput by path and congestion control

  --seeds N    how many seeds to play (1000)
  --from S     the first of them (0)
  --threads T  how many at a time (the machine's cores)
  --hash       ends with a line `hash: ...` over the traces of all seeds
  --table      prints what was reached even where nothing is missing

Ends with status 1 when a seed fails, or when, of 1,000 seeds or more, none reaches something that can be reached.";

/// So many seeds reach everything.
const SEEDS_FOR_ALL: u64 = 1_000;
/// Lines of a failure's trace that are printed; the file has all.
const TRACE_LINES: usize = 120;

#[derive(Debug)]
struct Options {
    seeds: u64,
    from: u64,
    threads: usize,
    hash: bool,
    table: bool,
    plan: Option<u64>,
    grid: bool,
}

fn options() -> Result<Options, String> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut options =
        Options { seeds: 1_000, from: 0, threads: cores, hash: false, table: false, plan: None, grid: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().ok_or(format!("{argument} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{argument} {value}: not a number"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--threads" => options.threads = usize::try_from(number()?.max(1)).unwrap_or(usize::MAX),
            "--hash" => options.hash = true,
            "--table" => options.table = true,
            "--grid" => options.grid = true,
            "--plan" => options.plan = Some(number()?),
            _ => return Err(USAGE.to_owned()),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = options.plan {
        println!("{}", Plan::from_seed(seed));
        return ExitCode::SUCCESS;
    }
    if options.grid {
        let cases = grid::cases();
        let carried = on_threads(options.threads, cases.len(), |index| grid::measure(cases[index]));
        print!("{}", grid::table(&carried));
        return ExitCode::SUCCESS;
    }
    let quiet = quiet_panics();
    let begun = Instant::now();
    let run = play_all(&options);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{} seeds in {seconds:.1} s: {:.1} seeds per second, {} packets",
        options.seeds,
        options.seeds as f64 / seconds,
        run.packets
    );
    let missing = if options.seeds >= SEEDS_FOR_ALL { run.reached.missing() } else { Vec::new() };
    if options.table || !missing.is_empty() {
        print!("{}", run.reached);
        UNREACHABLE.iter().for_each(|(name, why)| println!("out of reach: {name}: {why}"));
    }
    for name in &missing {
        println!("never reached: {name}");
    }
    for (seed, failure) in &run.failures {
        println!("seed {seed} failed: {failure}");
    }
    if let Some((seed, _)) = run.failures.first() {
        quiet.store(true, Ordering::Relaxed);
        show(*seed);
    }
    if options.hash {
        println!("hash: {:016x}", run.hash);
    }
    ExitCode::from(u8::from(!run.failures.is_empty() || !missing.is_empty()))
}

/// Panics are failures of a seed; while one is made shorter nobody wants to read each of them again.
fn quiet_panics() -> Arc<AtomicBool> {
    let quiet = Arc::new(AtomicBool::new(false));
    let (flag, loud) = (Arc::clone(&quiet), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        if !flag.load(Ordering::Relaxed) {
            loud(info);
        }
    }));
    quiet
}

/// What all seeds came to, whatever the order in which threads played them.
struct Run {
    hash: u64,
    packets: u64,
    reached: Reached,
    failures: Vec<(u64, String)>,
}

fn play_all(options: &Options) -> Run {
    let count = usize::try_from(options.seeds).unwrap_or(usize::MAX);
    let seed = |index: usize| options.from + index as u64;
    let outcomes = on_threads(options.threads, count, |index| attempt(&Plan::from_seed(seed(index))));
    let mut run = Run { hash: 0, packets: 0, reached: Reached::default(), failures: Vec::new() };
    for (index, outcome) in outcomes.into_iter().enumerate() {
        run.hash = sim::Random::new(run.hash ^ outcome.trace_hash).next();
        run.packets += outcome.packets;
        run.reached.merge(&outcome.reached);
        if let Some(failure) = outcome.failure {
            run.failures.push((seed(index), failure));
        }
    }
    run
}

/// Does `count` pieces of work on `threads` threads; the results in the order of the pieces.
fn on_threads<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let result = work(index);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The shortest plan that fails as the seed does, its trace, and where the packets are.
fn show(seed: u64) {
    let fails = |plan: &Plan| attempt(plan).failure.is_some();
    let plan = shrink(&Plan::from_seed(seed), fails);
    println!("\nseed {seed}, the shortest plan that fails:\n{plan}");
    let outcome = panic::catch_unwind(|| play(&plan, true));
    let Ok(Outcome { failure: Some(failure), capture: Some(capture), .. }) = outcome else {
        println!("it panics: see above, and play the plan in a debugger");
        return;
    };
    println!("{failure}\n");
    let lines: Vec<&str> = capture.text.lines().collect();
    if lines.len() > TRACE_LINES {
        println!("... {} packets before", lines.len() - TRACE_LINES);
    }
    lines[lines.len().saturating_sub(TRACE_LINES)..].iter().for_each(|line| println!("{line}"));
    for (kind, bytes) in [("pcapng", &capture.pcapng[..]), ("txt", capture.text.as_bytes())] {
        let path = captures().join(format!("sim-{seed}.{kind}"));
        match fs::write(&path, bytes) {
            Ok(()) => println!("packets: {}", path.display()),
            Err(error) => println!("packets: {}: {error}", path.display()),
        }
    }
}

/// Beside the program: what is built and what it leaves lie together.
fn captures() -> PathBuf {
    let program = std::env::current_exe().ok();
    program.and_then(|path| path.parent().map(PathBuf::from)).unwrap_or_else(std::env::temp_dir)
}
