//! Plays the segment scripts of `tests/scripts` (their README has the language) against one engine on virtual time.
//! `SCRIPT=name` in the environment plays one of them.

mod commands;
mod fuzz;
mod icmp;
mod lines;
mod measures;
mod notation;
mod runner;
mod segments;
mod settings;

use std::collections::BTreeMap;
use std::path::Path;

use lines::{Family, families, unfold};
use runner::Runner;

/// Why a script did not play as it is written.
type Outcome = Result<(), String>;

fn play(script: &str) -> Outcome {
    for &family in families(script) {
        play_in(script, family).map_err(|error| format!("over {family:?}: {error}"))?;
    }
    Ok(())
}

fn play_in(script: &str, family: Family) -> Outcome {
    play_with(Runner::new(family), script).map(|_| ())
}

/// Gives the runner back, when all was played.
fn play_with(mut runner: Runner, script: &str) -> Result<Runner, String> {
    for line in unfold(script)? {
        runner
            .play_line(&line.text)
            .map_err(|error| format!("line {}: `{}`: {error}", line.number, line.text))?;
    }
    runner.expect_nothing_left().map_err(|error| format!("at the end: {error}"))?;
    Ok(runner)
}

/// The scripts of `tests/scripts` by name.
fn scripts() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let scripts = paths.filter(|path| path.extension().is_some_and(|extension| extension == "pkt"));
    let named = scripts.map(|path| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    });
    named.collect()
}

#[test]
fn every_script_plays_as_it_is_written() {
    let only = std::env::var("SCRIPT").ok();
    let mut scripts = scripts();
    scripts.retain(|name, _| only.as_ref().is_none_or(|only| only == name));
    let played = scripts.iter().filter_map(|(name, script)| Some((name, play(script).err()?)));
    let failures: Vec<_> = played.map(|(name, failure)| format!("{name}.pkt: {failure}")).collect();
    assert!(failures.is_empty(), "{} of {} scripts:\n{}", failures.len(), scripts.len(), failures.join("\n"));
    assert!(!scripts.is_empty(), "there are scripts");
}

/// Segmentation offload: what is on the wire is the same.
#[test]
fn every_script_plays_the_same_where_the_device_cuts_long_packets_into_segments() {
    let mut cut = 0;
    let mut failures = Vec::new();
    for (name, script) in scripts() {
        let mut runner = Runner::new(families(&script)[0]);
        runner.host.wire.cuts = true;
        match play_with(runner, &script) {
            Ok(runner) => cut += runner.host.wire.cut,
            Err(failure) => failures.push(format!("{name}.pkt: {failure}")),
        }
    }
    assert!(failures.is_empty(), "{} scripts:\n{}", failures.len(), failures.join("\n"));
    assert!(cut > 500, "{cut} segments were cut by the device");
}

#[test]
fn a_script_that_is_wrong_fails() {
    let handshake = "listen\n+0 < S 0:0(0) win 65535\n";
    assert_eq!(play(&format!("{handshake}+0 > S. 0:0(0) ack 1\n")), Ok(()));
    for wrong in [
        "+0 > S. 0:0(0) ack 2",
        "+0 > . 1:1(0) ack 1",
        "+0 > SE. 0:0(0) ack 1",
        "+0 > S. 0:0(0) ack 1 ecn ect0",
        "+0 > S. 0:0(0) ack 1 urg 1",
        "+0 > S. 0:0(0) ack 1 window 1",
        "+0 > S. 0:0(0) ack 1 <>",
        "+0 > S. 0:0(0) ack 1 port 5001",
        "+0 > S. 0:0(0) ack 1 host 3",
        "+0 > S. 0:0(0) ack 1 at 81",
        "+0.5 > S. 0:0(0) ack 1",
        "+0 wait 0.1",
        "discard tcp_reset_invalid",
    ] {
        assert!(play(&format!("{handshake}{wrong}\n")).is_err(), "{wrong}");
    }
    for wrong in ["set mtu", "set speed 1", "fly", "repeat 2", "end", "accept", "state established", "cwnd 1"]
    {
        assert!(play(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_script_asserts_of_a_connection_can_fail() {
    let open = "established\n";
    for (right, wrong) in [
        ("state established", "state close-wait"),
        ("cwnd 14600", "cwnd 14599"),
        ("ssthresh 4294967295", "ssthresh 2000"),
        ("retransmitted 0", "retransmitted 1"),
        ("rto 0.209..0.211", "rto 1"),
        ("srtt 0.01", "srtt 0.02"),
        ("mss 1460", "mss 1461"),
        ("memory 0", "memory 4096"),
        ("connections 1", "connections 0"),
        ("time_waits 0", "time_waits 1"),
        ("half_open 0", "half_open 1"),
        ("tcp_challenge_withheld 0", "tcp_challenge_withheld 1"),
        ("event acceptable", "event none"),
        ("read 1 -> wait", "read 1 -> end"),
        ("flushed yes", "flushed wait"),
        ("accept wait", "accept"),
    ] {
        assert_eq!(play(&format!("{open}{right}\n")), Ok(()), "{right}");
        assert!(play(&format!("{open}{wrong}\n")).is_err(), "{wrong}");
    }
    let text = "< . 1:11(10) ack 1 win 65535\n> . 1:1(0) ack 11\nread 10 -> 10";
    assert_eq!(play(&format!("{open}{text}\n")), Ok(()));
    assert!(play(&format!("{open}{text} other\n")).is_err());
}
