//! A program in the background: ended by its id when its guard is dropped, its output kept and shown if the test fails.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{Namespace, cleanup};

/// A running program.
#[derive(Debug)]
pub struct Process {
    what: String,
    child: Child,
    log: PathBuf,
    _directory: TempDir,
}

/// What a program gets to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Of a failed test's programs this much output is shown.
const SHOWN_LINES: usize = 60;

impl Process {
    /// Starts a program in a namespace.
    pub fn start<A: AsRef<OsStr>>(
        namespace: &Namespace,
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the output can be made");
        cleanup::add_directory(directory.path());
        let log = directory.path().join("output");
        let output = File::create(&log).expect("a file for the output can be made");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let what = program.as_ref().to_string_lossy().into_owned();
        // `ip netns exec` becomes the program, so the child's id is the program's.
        let child = Command::new("ip")
            .args(["netns", "exec", namespace.name()])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} cannot be started: {error}"));
        let process = Self { what, child, log, _directory: directory };
        cleanup::add_process(process.pid());
        process
    }

    /// Starts a shell command; what it runs last should be run by `exec`, so that it gets our signals.
    pub fn shell(namespace: &Namespace, command: &str) -> Self {
        Self::start(namespace, "bash", ["-c", command])
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id fits an i32")
    }

    /// Everything it has said so far.
    pub fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.pid()), signal);
    }

    /// SIGKILL, and until it is gone.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }

    /// Waits for its own end. `None`: it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(LOOK_EVERY),
                _ => return None,
            }
        }
    }

    /// SIGTERM, then SIGKILL after a while; how it ended.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(GRACE).unwrap_or_else(|| {
            self.kill();
            ExitStatus::from_raw(Signal::SIGKILL as i32)
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        cleanup::remove_process(self.pid());
        if thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- {} said\n{}\n---", self.what, shown.join("\n"));
        }
    }
}
