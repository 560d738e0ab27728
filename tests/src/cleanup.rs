//! Nothing is left behind: what a test makes is written down here, and taken away when its guard is dropped, when the
//! process gets SIGINT, SIGTERM or SIGHUP, and, should it have been killed, when the next one starts.

use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What this process made and has not yet removed.
#[derive(Debug, Default)]
struct Made {
    processes: Vec<i32>,
    namespaces: Vec<String>,
    directories: Vec<PathBuf>,
    counter: u32,
}

static MADE: LazyLock<Mutex<Made>> = LazyLock::new(|| {
    sweep_dead_owners();
    ctrlc::set_handler(|| {
        clear();
        process::exit(130);
    })
    .expect("no other signal handler is set in a test");
    Mutex::default()
});

/// Namespaces are called PREFIX-PID-NUMBER, so that one whose owner is dead can be told.
fn prefix() -> String {
    std::env::var("RINGWAY_TEST_PREFIX").unwrap_or_else(|_| "rwt".to_owned())
}

/// A name that no other test of this or any other process has.
pub fn unique_name() -> String {
    let mut made = made();
    made.counter += 1;
    format!("{}-{}-{}", prefix(), process::id(), made.counter)
}

pub(crate) fn add_process(pid: i32) {
    made().processes.push(pid);
}

pub(crate) fn remove_process(pid: i32) {
    made().processes.retain(|known| *known != pid);
}

pub(crate) fn add_namespace(name: &str) {
    made().namespaces.push(name.to_owned());
}

pub(crate) fn add_directory(path: &Path) {
    made().directories.push(path.to_owned());
}

/// Ends what runs in the namespace and removes it.
pub(crate) fn remove_namespace(name: &str) {
    made().namespaces.retain(|known| known != name);
    delete_namespace(name);
}

fn made() -> MutexGuard<'static, Made> {
    // A panicking test must not keep the others from clearing up.
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clear() {
    let made = std::mem::take(&mut *made());
    for pid in made.processes {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    made.namespaces.iter().for_each(|name| delete_namespace(name));
    for path in made.directories {
        let _ = std::fs::remove_dir_all(path);
    }
}

fn delete_namespace(name: &str) {
    for pid in processes_in(name) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    // A namespace lives until its last process is gone; deleting its name is enough once they are dying.
    for _ in 0..50 {
        if processes_in(name).is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    quiet("ip", &["netns", "del", name]);
}

fn processes_in(name: &str) -> Vec<i32> {
    quiet("ip", &["netns", "pids", name]).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Removes what a killed test process left.
fn sweep_dead_owners() {
    let prefix = format!("{}-", prefix());
    for line in quiet("ip", &["netns", "list"]).lines() {
        let name = line.split_whitespace().next().unwrap_or_default();
        let owner = name.strip_prefix(&prefix).and_then(|rest| rest.split('-').next()?.parse::<i32>().ok());
        if owner.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err()) {
            delete_namespace(name);
        }
    }
}

fn quiet(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
