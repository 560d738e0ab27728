//! Scripts that nobody wrote: those of `tests/scripts`, cut up, put together and with other digits. What they expect is
//! not asked for; nothing may panic, and when all is let go nothing may be left.

use std::sync::LazyLock;
use std::time::Duration;

use proptest::prelude::*;

use super::lines::{Family, Numbered, families, unfold};
use super::notation::{Line, parse_line};
use super::runner::Runner;
use super::{Outcome, scripts};

/// Lines of one script that are played.
const MOST_LINES: usize = 300;
/// Waits are cut to this: an hour has every timer in it but the longest keepalive's.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Below it no IP header, TCP header and options fit; IPv4 links carry more (RFC 791).
const LEAST_MTU: u32 = 600;
/// Longer than an orphan lives: eight timeouts of a minute at most, and TIME-WAIT.
const AFTERWARDS: Duration = Duration::from_secs(1200);

/// What is done to a script, in order. The numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Edit {
    Remove(usize),
    Repeat(usize),
    Swap(usize, usize),
    /// The digit at a place becomes another.
    Digit(usize, usize, char),
    /// So many lines of another script are put in at a place.
    Graft(usize, usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let any = || 0usize..1 << 16;
    let edit = prop_oneof![
        any().prop_map(Edit::Remove),
        any().prop_map(Edit::Repeat),
        (any(), any()).prop_map(|(one, other)| Edit::Swap(one, other)),
        (any(), any(), prop::char::range('0', '9'))
            .prop_map(|(line, at, digit)| Edit::Digit(line, at, digit)),
        (any(), any(), 1usize..20).prop_map(|(script, at, lines)| Edit::Graft(script, at, lines)),
    ];
    prop::collection::vec(edit, 0..12)
}

fn edit(lines: &mut Vec<String>, edit: &Edit) {
    if lines.is_empty() {
        return;
    }
    let count = lines.len();
    match *edit {
        Edit::Remove(line) => drop(lines.remove(line % count)),
        Edit::Repeat(line) => lines.insert(line % count, lines[line % count].clone()),
        Edit::Swap(one, other) => lines.swap(one % count, other % count),
        Edit::Digit(line, at, digit) => {
            let line = &mut lines[line % count];
            let digits: Vec<usize> =
                line.match_indices(|letter: char| letter.is_ascii_digit()).map(|(at, _)| at).collect();
            if let Some(at) = digits.get(at % digits.len().max(1)) {
                line.replace_range(at..=at, digit.encode_utf8(&mut [0; 4]));
            }
        }
        Edit::Graft(script, at, most) => {
            let (_, other) = &ALL[script % ALL.len()];
            let from = at % other.len().max(1);
            let graft: Vec<String> = other.iter().skip(from).take(most).cloned().collect();
            lines.splice(at % count..at % count, graft);
        }
    }
}

/// Plays what can be played, and asks for nothing but an end in order.
fn play_anyhow(lines: &[String], family: Family) -> Outcome {
    let mut runner = Runner::new(family);
    for text in lines.iter().take(MOST_LINES) {
        if is_beyond_the_stage(text) {
            continue;
        }
        let Ok(line) = parse_line(text) else { continue };
        runner.overhear(line.after().min(LONGEST_WAIT));
        // A script that does not fit itself any more says so; that is no failure.
        let _ = match line {
            Line::Inbound { segment, .. } => runner.inject(&segment),
            Line::Command { words, .. } => runner.command(&words),
            Line::Outbound { .. } => Ok(()),
        };
    }
    runner.let_all_go();
    runner.overhear(AFTERWARDS);
    let tcp = &runner.host.tcp;
    let left = (tcp.connections(), tcp.time_waits.len(), tcp.lent_bytes());
    if left == (0, 0, 0) { Ok(()) } else { Err(format!("connections, rests and bytes are left: {left:?}")) }
}

/// Waits that a command brings itself, and links that are none.
fn is_beyond_the_stage(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [.., "wait", _] => true,
        ["set", "mtu", mtu] => mtu.parse().is_ok_and(|mtu: u32| mtu < LEAST_MTU),
        _ => false,
    }
}

/// Each script's families, and its lines written out.
static ALL: LazyLock<Vec<(&'static [Family], Vec<String>)>> = LazyLock::new(|| {
    let written_out = |script: String| {
        let lines = unfold(&script).expect("a committed script is well formed");
        (families(&script), lines.into_iter().map(|Numbered { text, .. }| text).collect())
    };
    scripts().into_values().map(written_out).collect()
});

proptest! {
    #[test]
    fn a_script_that_nobody_wrote_neither_panics_nor_leaves_anything(which in 0usize..1 << 16, edits in edits()) {
        let (families, mut lines) = ALL[which % ALL.len()].clone();
        edits.iter().for_each(|change| edit(&mut lines, change));
        for family in families {
            prop_assert_eq!(play_anyhow(&lines, *family), Ok(()), "{}", lines.join("\n"));
        }
    }
}
