//! Ringway itself, running in the lab: the binaries of this build, on real AF_XDP.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Lab, Process, binary, eventually, wait_for_port};

/// A data plane in the lab's node, and a control plane beside it unless the tables come from files.
#[derive(Debug)]
pub struct Mesh {
    pub ringwayd: Process,
    pub control: Option<Process>,
    guarded: bool,
    directory: PathBuf,
    // Dropped after the programs above, which run in it.
    pub lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

/// Every mesh pins its worker to the same core: those of one test program take turns.
static TURN: Mutex<()> = Mutex::new(());

/// `examples/demo`, as one text.
pub fn demo_resources() -> String {
    let folder = crate::repository().join("examples/demo");
    let entries = fs::read_dir(folder).expect("examples/demo is part of the repository");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let texts = paths.iter().map(|path| fs::read_to_string(path).expect("an example can be read"));
    texts.collect::<Vec<_>>().join("\n---\n")
}

/// The demo's resources, whose Gateway has a stream's echo at port 9000, and an echo of datagrams at port 7000.
pub fn lab_resources() -> String {
    format!("{}\n---\n{}", demo_resources(), include_str!("../resources/datagrams.yaml"))
}

/// Where the tables come from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Tables<'a> {
    /// From this YAML, without a control plane.
    Files(&'a str),
    /// From a control plane to which this YAML was applied, and that asks nobody who he is.
    Control(&'a str),
    /// The same from one that does: the node joins by a token, and certificates live for 20 s.
    Guarded(&'a str),
}

const READY_LIMIT: Duration = Duration::from_secs(20);
/// Starting, converging and a first scrape on a busy machine of two cores.
const TABLE_LIMIT: Duration = Duration::from_secs(10);
const ADMIN: &str = "http://127.0.0.1:15000";
const CONTROL: &str = "127.0.0.1:15010";
const CONTROL_PORT: u16 = 15_010;

impl Mesh {
    /// Starts Ringway in `lab` and waits until it is ready. `settings` are further lines of the node's configuration.
    pub fn start(lab: Lab, tables: Tables<'_>, settings: &str) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = lab.directory().to_owned();
        let control = match tables {
            Tables::Files(resources) => {
                write(&directory.join("resources/mesh.yaml"), resources);
                None
            }
            Tables::Control(_) => Some(start_control(&lab, &["--plain"])),
            Tables::Guarded(_) => Some(start_guarded_control(&lab)),
        };
        write(&directory.join("node.yaml"), &node_config(&directory, tables, settings));
        let ringwayd = start_ringwayd(&lab);
        let guarded = matches!(tables, Tables::Guarded(_));
        let mesh = Self { ringwayd, control, guarded, directory, lab, _turn: turn };
        if let Tables::Control(resources) | Tables::Guarded(resources) = tables {
            mesh.apply(resources);
        }
        mesh.wait_until_ready();
        mesh
    }

    /// Ends `ringwayd` the hard way and starts it anew.
    pub fn restart(&mut self) {
        self.ringwayd.kill();
        self.ringwayd = start_ringwayd(&self.lab);
        self.wait_until_ready();
    }

    #[track_caller]
    pub fn wait_until_ready(&self) {
        eventually("ringwayd is ready", READY_LIMIT, || {
            self.lab.node.attempt(&format!("curl -fsS -m 2 {ADMIN}/ready")).success.then_some(())
        });
    }

    /// `ringway apply`.
    #[track_caller]
    pub fn apply(&self, resources: &str) {
        let path = self.directory.join("apply.yaml");
        write(&path, resources);
        self.ringway(&format!("apply -f {}", path.display()));
    }

    /// The operator's command, in the node: as its root, where the control plane asks.
    #[track_caller]
    pub fn ringway(&self, arguments: &str) -> String {
        let control = if self.guarded { socket(&self.lab) } else { CONTROL.to_owned() };
        self.lab.node.run(&format!("{} --control {control} {arguments}", binary("ringway").display()))
    }

    /// Ends the control plane the hard way and starts it anew.
    pub fn restart_guarded_control(&mut self) {
        self.control = None;
        self.control = Some(start_guarded_control(&self.lab));
    }

    /// Replaces the resources of a mesh that reads files.
    pub fn write_resources(&self, resources: &str) {
        write(&self.directory.join("resources/mesh.yaml"), resources);
    }

    /// Every series of `/metrics`, by its name with labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let text = self.lab.node.run(&format!("curl -fsS -m 5 {ADMIN}/metrics"));
        parse_metrics(&text)
    }

    /// The sum of a metric's series that carry all of `labels` (`name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        self.metrics()
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .filter(|(series, _)| labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// An answer of the admin address, as JSON.
    pub fn admin(&self, path: &str) -> serde_json::Value {
        let text = self.lab.node.run(&format!("curl -fsS -m 5 {ADMIN}{path}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path} is no JSON: {error}\n{text}"))
    }

    /// Fetches from the client until the answer is `wanted`: a table has arrived.
    #[track_caller]
    pub fn wait_for_answer(&self, url: &str, wanted: &str) {
        eventually(&format!("{url} answers {wanted}"), TABLE_LIMIT, || {
            let outcome = self.lab.client.attempt(&format!("curl -fsS -m 2 '{url}'"));
            (outcome.stdout.trim() == wanted).then_some(())
        });
    }
}

impl Drop for Mesh {
    /// Of a failed test: why packets died, and what the XDP program made of them.
    fn drop(&mut self) {
        if std::thread::panicking() && self.ringwayd.is_running() {
            let text = self.lab.node.attempt(&format!("curl -fsS -m 5 {ADMIN}/metrics")).stdout;
            let shown =
                ["ringway_discards_total", "ringway_xdp_verdicts_total", "ringway_worker_packets_total"];
            for (series, value) in parse_metrics(&text) {
                if value > 0.0 && shown.iter().any(|name| series.starts_with(name)) {
                    eprintln!("{series} {value}");
                }
            }
        }
    }
}

fn start_ringwayd(lab: &Lab) -> Process {
    let config = lab.directory().join("node.yaml");
    Process::start(&lab.node, binary("ringwayd"), ["--config", &config.to_string_lossy()])
}

/// Makes the key of its certificate authority at first, and a token for the node each time.
fn start_guarded_control(lab: &Lab) -> Process {
    let key = lab.directory().join("ca.key");
    if !key.exists() {
        write(&key, &"5a".repeat(32));
    }
    let key = key.to_string_lossy();
    let control = start_control(lab, &["--ca-key-file", &key, "--certificate-lifetime", "20s"]);
    let ringway = binary("ringway");
    let token = lab.node.run(&format!("{} --control {} node token node-1", ringway.display(), socket(lab)));
    write(&lab.directory().join("token"), &token);
    control
}

fn socket(lab: &Lab) -> String {
    format!("unix:{}", lab.directory().join("control/control.sock").display())
}

fn start_control(lab: &Lab, more: &[&str]) -> Process {
    let store = lab.directory().join("control");
    fs::create_dir_all(&store).expect("a directory can be made");
    let store = store.to_string_lossy();
    let prefixes = ["--service-prefix", "10.96.0.0/16", "--service-prefix", "fd96::/112"];
    let control = Process::start(
        &lab.node,
        binary("ringway-control"),
        ["--listen", CONTROL, "--data", &store].into_iter().chain(prefixes).chain(more.iter().copied()),
    );
    wait_for_port(&lab.node, "127.0.0.1", CONTROL_PORT);
    control
}

/// The configuration of `examples/demo-node.yaml`, with this lab's paths and source of tables.
fn node_config(directory: &Path, tables: Tables<'_>, settings: &str) -> String {
    let example = fs::read_to_string(crate::repository().join("examples/demo-node.yaml"));
    let example = example.expect("examples/demo-node.yaml is part of the repository");
    let source = match tables {
        Tables::Files(_) => format!("resources: {}", directory.join("resources").display()),
        Tables::Control(_) | Tables::Guarded(_) => format!("control: {CONTROL}"),
    };
    let state = directory.join("state");
    fs::create_dir_all(&state).expect("a directory can be made");
    let is_set = |key: &str| {
        !key.is_empty() && settings.lines().any(|setting| setting.starts_with(&format!("{key}:")))
    };
    let mut lines: Vec<String> = Vec::new();
    // A setting replaces the example's line with all that is indented below it.
    let mut replaced = false;
    for line in example.lines() {
        let key = line.split(':').next().unwrap_or_default();
        if !line.starts_with(' ') {
            replaced = is_set(key);
        }
        match key {
            _ if replaced => {}
            "plain" if matches!(tables, Tables::Files(_)) => {}
            "plain" if matches!(tables, Tables::Guarded(_)) => {
                lines.push(format!("join: {{ token_file: {} }}", directory.join("token").display()));
            }
            "state" => lines.push(format!("state: {}", state.display())),
            "control" => lines.push(source.clone()),
            _ => lines.push(line.to_owned()),
        }
    }
    lines.push(settings.to_owned());
    lines.join("\n")
}

fn write(path: &Path, text: &str) {
    let parent = path.parent().expect("a file has a directory");
    fs::create_dir_all(parent).expect("a directory can be made");
    fs::write(path, text).expect("a file can be written");
}

fn parse_metrics(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_replaces_the_examples_line() {
        let config = node_config(&std::env::temp_dir(), Tables::Files(""), "workers: [0, 1]");
        assert_eq!(config.matches("workers:").count(), 1);
        assert!(config.contains("resources: "));
        assert!(!config.contains("control: "));
        let interfaces = "interfaces:\n  - { name: only }";
        let config = node_config(&std::env::temp_dir(), Tables::Files(""), interfaces);
        assert_eq!(config.matches("name: ").count(), 1, "{config}");
    }

    #[test]
    fn metrics_keep_their_labels() {
        let metrics = parse_metrics("# TYPE a counter\na{reason=\"x y\"} 3\nb 0.5\n");
        assert_eq!(metrics["a{reason=\"x y\"}"], 3.0);
        assert_eq!(metrics["b"], 0.5);
    }
}
