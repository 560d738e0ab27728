//! The audit log: who did what, when, and what came of it. One JSON object a line, in a file of bounded size with a bounded
//! number of older ones beside it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::SystemTime;

use serde::Serialize;
use tracing::error;

const FILE_NAME: &str = "audit.jsonl";
/// A file holds some 80,000 entries; with eight older ones the log takes at most 144 MiB.
const MOST_FILE_BYTES: u64 = 16 << 20;
const OLDER_FILES: u32 = 8;
/// What `ringway audit` can show.
const KEPT_LINES: usize = 1_000;
/// Objects of one request that are named; the rest is a number.
const MOST_NAMED: usize = 20;
/// Only the control plane's own user may read who did what.
const MODE: u32 = 0o600;

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Entry<'a> {
    pub who: &'a str,
    /// Where the request came from.
    pub from: &'a str,
    /// What was asked for: "apply", "node token", "join".
    pub what: &'a str,
    /// What it was about: resources, a node, an operator.
    pub on: Vec<String>,
    /// "done", or "refused" with the reason after a colon.
    pub outcome: String,
}

#[derive(Serialize)]
struct Line<'a> {
    when: String,
    #[serde(flatten)]
    entry: Entry<'a>,
}

/// Where entries go.
#[derive(Debug)]
pub struct Audit {
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    path: Option<PathBuf>,
    file: Option<File>,
    bytes: u64,
    newest: VecDeque<String>,
}

impl Audit {
    /// Goes on with the log in `directory`; without one, entries are kept in memory only.
    pub fn open(directory: Option<&Path>) -> io::Result<Audit> {
        let mut content = Content { path: None, file: None, bytes: 0, newest: VecDeque::new() };
        if let Some(directory) = directory {
            let path = directory.join(FILE_NAME);
            content.newest = read_newest(&path)?;
            content.path = Some(path);
            content.open()?;
        }
        Ok(Audit { content: Mutex::new(content) })
    }

    /// Written when this returns. A log that cannot be written is told of in the process's own log.
    pub fn write(&self, mut entry: Entry<'_>) {
        if entry.on.len() > MOST_NAMED {
            let more = entry.on.len() - MOST_NAMED;
            entry.on.truncate(MOST_NAMED);
            entry.on.push(format!("and {more} more"));
        }
        let when = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let Ok(line) = serde_json::to_string(&Line { when, entry }) else { return };
        let mut content = self.content();
        if let Err(problem) = content.append(&line) {
            error!(%problem, line, "the audit log cannot be written");
        }
        if content.newest.len() >= KEPT_LINES {
            content.newest.pop_front();
        }
        content.newest.push_back(line);
    }

    /// At most `limit` lines, the newest last.
    pub fn newest(&self, limit: usize) -> Vec<String> {
        let content = self.content();
        let skip = content.newest.len().saturating_sub(limit);
        content.newest.iter().skip(skip).cloned().collect()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().expect("no holder of this lock panics")
    }
}

impl Content {
    fn open(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, line: &str) -> io::Result<()> {
        if self.bytes >= MOST_FILE_BYTES {
            self.rotate()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        // One write, so that a line is whole or missing.
        file.write_all(format!("{line}\n").as_bytes())?;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }

    /// `audit.jsonl.1` is the newest of the older ones; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        for number in (1..OLDER_FILES).rev() {
            let (from, to) = (older(path, number), older(path, number + 1));
            if from.exists() {
                std::fs::rename(from, to)?;
            }
        }
        std::fs::rename(path, older(path, 1))?;
        self.open()
    }
}

fn older(path: &Path, number: u32) -> PathBuf {
    path.with_extension(format!("jsonl.{number}"))
}

fn read_newest(path: &Path) -> io::Result<VecDeque<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(VecDeque::new()),
        Err(error) => return Err(error),
    };
    let mut newest = VecDeque::new();
    for line in BufReader::new(file).lines() {
        if newest.len() >= KEPT_LINES {
            newest.pop_front();
        }
        newest.push_back(line?);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(what: &str) -> Entry<'_> {
        Entry {
            who: "ann",
            from: "unix",
            what,
            on: vec!["Service a/b".to_owned()],
            outcome: "done".to_owned(),
        }
    }

    #[test]
    fn lines_are_json_and_survive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::open(Some(directory.path())).unwrap();
        audit.write(entry("apply"));
        drop(audit);
        let audit = Audit::open(Some(directory.path())).unwrap();
        audit.write(entry("delete"));
        let lines = audit.newest(10);
        let read: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(read[0]["what"], "apply");
        assert_eq!(read[1]["what"], "delete");
        assert_eq!((&read[1]["who"], &read[1]["outcome"]), (&"ann".into(), &"done".into()));
        assert!(read[0]["when"].as_str().unwrap().ends_with('Z'));
        assert_eq!(audit.newest(1).len(), 1);
    }

    #[test]
    fn the_log_is_bounded_in_size_and_number_of_files() {
        let directory = tempfile::tempdir().unwrap();
        let audit = Audit::open(Some(directory.path())).unwrap();
        for round in 0..OLDER_FILES + 3 {
            audit.write(entry(&format!("round {round}")));
            audit.content().bytes = MOST_FILE_BYTES;
        }
        let files = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(files, OLDER_FILES as usize + 1);
        let newest = std::fs::read_to_string(directory.path().join(FILE_NAME)).unwrap();
        assert!(newest.contains(&format!("round {}", OLDER_FILES + 2)), "{newest}");
    }

    #[test]
    fn a_large_request_names_some_of_its_objects_and_counts_the_rest() {
        let audit = Audit::open(None).unwrap();
        let on = (0..100).map(|number| format!("Service a/{number}")).collect();
        audit.write(Entry { on, ..entry("apply") });
        assert!(audit.newest(1)[0].contains("and 80 more"));
    }
}
