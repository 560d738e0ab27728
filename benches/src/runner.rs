//! Runs a case in a process of its own: as it is, for time, allocations and bytes; and under callgrind, for
//! instructions.

use std::path::Path;
use std::process::Command;

use crate::cases::{Case, Look};
use crate::count::{COUNTED_FUNCTION, Sums};
use crate::profile::{TextCost, text_cost};

/// What a run asks of libc. Huge pages for the heap, where the kernel gives them by `madvise` (its default): a million
/// connections lie far apart. And callgrind counts every byte of a `rep movsb` as an instruction: there libc copies by
/// vectors, whatever the length.
const TUNABLES: &str = "GLIBC_TUNABLES";
const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";
const COPIES: &str =
    "glibc.cpu.x86_rep_movsb_threshold=1073741824:glibc.cpu.x86_rep_stosb_threshold=1073741824";
/// The simulated caches, said so that figures are the same on any machine: 32 KiB of level 1, 8 MiB of the last.
const CACHES: [&str; 4] = ["--cache-sim=yes", "--I1=32768,8,64", "--D1=32768,8,64", "--LL=8388608,16,64"];

/// Of these the shortest time counts: foreign load only ever adds.
const TIMED_RUNS: usize = 3;

/// A case's figures, each a unit.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub instructions: Option<f64>,
    pub allocations: Option<f64>,
    pub held_bytes: Option<f64>,
    pub nanos: Option<f64>,
    pub cache: Option<Misses>,
    pub text: Option<Parts>,
}

/// Instructions a unit, of which copying and summing text have their own.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Parts {
    pub headers: f64,
    pub copy: f64,
    pub checksum: f64,
}

/// Data misses a unit in a simulated cache.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Misses {
    pub first_level: f64,
    pub last_level: f64,
}

/// Runs `program --case NAME`, this program itself.
pub fn measure(program: &Path, case: &Case) -> Result<Figures, String> {
    let mut sums = run_case(as_it_is(program), case)?;
    let units = sums.units as f64;
    if case.look == Look::Heap {
        return Ok(Figures { held_bytes: Some(sums.held_bytes as f64 / units), ..Figures::default() });
    }
    for _ in 1..TIMED_RUNS {
        sums.nanos = sums.nanos.min(run_case(as_it_is(program), case)?.nanos);
    }
    let (events, text, counted) = run_callgrind(program, case)?;
    let event =
        |name: &str| events.iter().find(|(event, _)| event == name).map(|(_, count)| *count as f64 / counted);
    let both = |read, write| Some(event(read)? + event(write)?);
    let cache = both("D1mr", "D1mw").zip(both("DLmr", "DLmw"));
    let instructions = event("Ir").ok_or("callgrind counted no instructions")?;
    let parts = (case.look == Look::WorkAndText).then(|| {
        let (copy, checksum) = (text.copy as f64 / counted, text.checksum as f64 / counted);
        Parts { headers: instructions - copy - checksum, copy, checksum }
    });
    Ok(Figures {
        instructions: Some(instructions),
        allocations: Some(sums.allocations as f64 / units),
        held_bytes: None,
        nanos: Some(sums.nanos as f64 / units),
        cache: cache.map(|(first_level, last_level)| Misses { first_level, last_level }),
        text: parts,
    })
}

fn as_it_is(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env(TUNABLES, HUGE_PAGES);
    command
}

fn run_case(mut command: Command, case: &Case) -> Result<Sums, String> {
    let failed = |why: String| format!("{}: {why}", case.name);
    command.args(["--case", case.name]);
    let output = command.output().map_err(|error| failed(format!("{command:?}: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))
}

type Events = Vec<(String, u64)>;

/// Every event's count, what of the instructions is the text's, and the units that they are for.
fn run_callgrind(program: &Path, case: &Case) -> Result<(Events, TextCost, f64), String> {
    let directory = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
    let out = directory.path().join("callgrind.out");
    let mut command = Command::new("valgrind");
    command.args(["-q", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(format!("--toggle-collect={COUNTED_FUNCTION}"));
    if case.look == Look::WorkAndCache {
        command.args(CACHES);
    }
    command.arg(program).env(TUNABLES, COPIES);
    let sums = run_case(command, case)?;
    let text = std::fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
    let events = totals(&text).ok_or("callgrind wrote no totals")?;
    Ok((events, text_cost(&text), sums.units as f64))
}

/// Reads `events:` and `totals:` of callgrind's file: names and counts in the same order; zeros at the end are left out.
fn totals(text: &str) -> Option<Events> {
    let line = |key| text.lines().find_map(|line| line.strip_prefix(key)).map(str::split_whitespace);
    let counts = line("totals:")?.map(str::parse).chain(std::iter::repeat(Ok(0)));
    line("events:")?.zip(counts).map(|(name, count)| Some((name.to_owned(), count.ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callgrinds_totals_are_read_by_name() {
        let text = "version: 1\nevents: Ir Dr Dw\nfn=(1) a\n1 2 3\ntotals: 20 3\n";
        assert_eq!(totals(text), Some(vec![("Ir".into(), 20), ("Dr".into(), 3), ("Dw".into(), 0)]));
        assert_eq!(totals("events: Ir\n"), None);
    }
}
