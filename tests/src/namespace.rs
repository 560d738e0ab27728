//! One network namespace, gone when its guard is dropped, and programs run in it to their end.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::cleanup;

/// A network namespace that this test made.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

/// What a program said.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub command: String,
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// No program that a test runs to its end may take longer.
const TIME_LIMIT_SECONDS: &str = "60";

impl Namespace {
    pub fn new() -> Self {
        Self::named(&cleanup::unique_name())
    }

    /// A namespace of a name that is unique already.
    pub fn named(name: &str) -> Self {
        cleanup::add_namespace(name);
        run("ip", &["netns", "add", name]).expect_success();
        let namespace = Self { name: name.to_owned() };
        namespace.run("ip link set lo up");
        namespace
    }

    /// Takes charge of a namespace that something else made.
    pub(crate) fn adopt(name: &str) -> Self {
        cleanup::add_namespace(name);
        Self { name: name.to_owned() }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a shell command and fails the test unless it succeeds; its standard output.
    #[track_caller]
    pub fn run(&self, command: &str) -> String {
        self.attempt(command).expect_success()
    }

    /// Runs a shell command, however it ends.
    pub fn attempt(&self, command: &str) -> Outcome {
        let arguments = ["netns", "exec", &self.name, "timeout", TIME_LIMIT_SECONDS, "bash", "-c", command];
        let outcome = run("ip", &arguments);
        Outcome { command: format!("[{}] {command}", self.name), ..outcome }
    }

    /// Runs `f` in a thread that has entered the namespace. Sockets that it opens stay there, wherever they are used.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                let namespace = File::open(self.path()).expect("the namespace has a file");
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
                f()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A veth pair: `here` in this namespace, `there` in the other, both up.
    pub fn connect(&self, here: &str, other: &Self, there: &str) {
        let (near, far) = (self.name.as_str(), other.name.as_str());
        run("ip", &["link", "add", here, "netns", near, "type", "veth", "peer", "name", there, "netns", far])
            .expect_success();
        self.run(&format!("ip link set {here} up"));
        other.run(&format!("ip link set {there} up"));
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        cleanup::remove_namespace(&self.name);
    }
}

impl Outcome {
    /// The standard output; a panic with everything that was said when the program failed.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert!(
            self.success,
            "`{}` failed\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.stdout, self.stderr
        );
        self.stdout
    }
}

/// Runs a program in this process's own namespace.
pub fn run(program: &str, arguments: &[&str]) -> Outcome {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("`{program}` cannot be started: {error}"));
    Outcome {
        command: format!("{program} {}", arguments.join(" ")),
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
