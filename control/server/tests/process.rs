//! The process itself: what was acknowledged outlives SIGKILL, SIGTERM ends it, flags are checked.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::PATIENCE;
use tokio::time::timeout;
use xds::proto::control as api;

/// Kills and restarts; each comes after at least one acknowledged change.
const ROUNDS: u64 = 12;

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(data: &Path, more: &[&str]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringway-control"))
            .args(["--plain", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .env("NO_COLOR", "1")
            .env("RUST_LOG", "info")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let line =
            log.find(|line| line.as_ref().unwrap().contains("listening on 127.0.0.1")).unwrap().unwrap();
        let address = line.rsplit(' ').next().unwrap().to_owned();
        // A full pipe would stop it.
        std::thread::spawn(move || log.for_each(drop));
        Process { child, address }
    }

    async fn operator(&self) -> xds::operator::Client {
        xds::operator::connect(&self.address).await.unwrap()
    }

    /// SIGTERM, and how it ended.
    fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn namespace(number: u64) -> api::ApplyRequest {
    let object = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"n{number}"}}}}"#);
    api::ApplyRequest { objects_json: vec![object], dry_run: false }
}

async fn count(operator: &mut xds::operator::Client) -> (u64, u64) {
    let request = api::ListRequest { kind: "Namespace".into(), namespace: String::new() };
    let answer = operator.list(request).await.unwrap().into_inner();
    (answer.objects_json.len() as u64, answer.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_by_sigkill() {
    let data = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let mut process = Process::start(data.path(), &[]);
        let mut operator = process.operator().await;
        let (stored, _) = count(&mut operator).await;
        // One more may have been stored without its answer having come through.
        assert!(stored == acknowledged || stored == acknowledged + 1, "{stored} of {acknowledged}");
        acknowledged = stored;
        let killed = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(60 + 17 * round)).await;
            process.child.kill().unwrap();
            process
        });
        while operator.apply(namespace(acknowledged)).await.is_ok() {
            acknowledged += 1;
        }
        killed.await.unwrap();
    }
    assert!(acknowledged >= ROUNDS, "{acknowledged} changes in {ROUNDS} rounds");
    let process = Process::start(data.path(), &[]);
    let mut operator = process.operator().await;
    let (stored, revision) = count(&mut operator).await;
    assert!(stored >= acknowledged);
    assert_eq!(revision, stored, "each change is one revision, before and after a kill");
}

#[tokio::test]
async fn sigterm_ends_it_cleanly_with_streams_open() {
    let data = tempfile::tempdir().unwrap();
    let process = Process::start(data.path(), &[]);
    let mut operator = process.operator().await;
    let mut events = operator.watch(api::WatchRequest::default()).await.unwrap().into_inner();
    assert_eq!(events.message().await.unwrap().unwrap().change(), api::watch_event::Change::Synced);
    let ended = tokio::task::spawn_blocking(move || process.terminate());
    assert_eq!(timeout(PATIENCE, ended).await.unwrap().unwrap(), Some(0));
    assert!(events.message().await.is_err());
}

#[tokio::test]
async fn the_unix_socket_serves_its_owner_and_survives_a_kill() {
    use std::os::unix::fs::PermissionsExt;
    let data = tempfile::tempdir().unwrap();
    let socket = data.path().join("control.sock");
    let flags = ["--unix", socket.to_str().unwrap()];
    drop(Process::start(data.path(), &flags));
    assert!(socket.exists(), "a killed process leaves its socket");
    let process = Process::start(data.path(), &flags);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut operator = xds::operator::connect(&format!("unix:{}", socket.display())).await.unwrap();
    operator.apply(namespace(1)).await.unwrap();
    let ended = tokio::task::spawn_blocking(move || process.terminate());
    assert_eq!(timeout(PATIENCE, ended).await.unwrap().unwrap(), Some(0));
    assert!(!socket.exists());
}

#[test]
fn without_the_key_of_its_certificate_authority_it_does_not_start_and_says_how() {
    let data = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_ringway-control"))
            .args(["--listen", "127.0.0.1:0", "--data", data.path().to_str().unwrap()])
            .args(arguments)
            .env_remove("RINGWAY_CA_KEY")
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (status, told) = run(&[]);
    assert_eq!(status, Some(1));
    assert!(told.contains("--ca-key-file") && told.contains("/dev/urandom"), "{told}");
    let (status, told) = run(&["--ca-key-file", "/nowhere/key"]);
    assert_eq!(status, Some(1));
    assert!(told.contains("/nowhere/key"), "{told}");
    assert_eq!(run(&["--insecure"]).0, Some(2), "--insecure goes with --plain");
}

#[test]
fn wrong_flags_and_a_store_in_use_are_told() {
    let data = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_ringway-control"))
            .args(["--data", data.path().to_str().unwrap()])
            .args(arguments)
            .output()
            .unwrap();
        (ran.status.code(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (status, told) = run(&["--plain", "--listen", "0.0.0.0:0"]);
    assert_eq!(status, Some(1));
    assert!(told.contains("add --insecure"), "{told}");
    let (status, told) = run(&["--service-prefix", "10.0.0.0/8,10.96.0.0/16"]);
    assert_eq!(status, Some(2));
    assert!(told.contains("one of each"), "{told}");
    assert_eq!(run(&["--service-prefix", "10.0.0.1/8"]).0, Some(2));
    let _first = Process::start(data.path(), &[]);
    let (status, told) = run(&["--plain", "--listen", "127.0.0.1:0"]);
    assert_eq!(status, Some(1));
    assert!(told.contains("another ringway-control"), "{told}");
}
