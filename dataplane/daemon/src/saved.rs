//! The table that a node saved, so that a restart without a control plane serves what was served before.
//!
//! Saving waits for a disk, and serving does not wait for saving: tables are written behind the one in force, the newest
//! only. A process that is killed restarts from a table that is at most [`INTERVAL`] and one write older.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use model::table::Table;
use proxy::Snapshot;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

/// Grows when a table written before can no longer be read as one.
const FORMAT: u32 = 1;
/// From one write to the next: however often the table changes, the disk has ten of them a second to sync.
const INTERVAL: Duration = Duration::from_millis(100);

/// Writes tables behind the one in force.
#[derive(Debug)]
pub struct Saver {
    state: PathBuf,
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    /// Its newest is what was written last. Held during a write.
    written: Mutex<watch::Receiver<Option<Arc<Snapshot>>>>,
}

impl Saver {
    pub fn new(state: PathBuf) -> Saver {
        let (newest, written) = watch::channel(None);
        Saver { state, newest, written: Mutex::new(written) }
    }

    /// To be saved soon, unless a newer one comes first.
    pub fn put(&self, snapshot: Arc<Snapshot>) {
        self.newest.send_replace(Some(snapshot));
    }

    /// Saves what is put, for ever: at once, and then not again for [`INTERVAL`].
    pub async fn run(&self) {
        let mut puts = self.newest.subscribe();
        self.finish().await;
        while puts.changed().await.is_ok() {
            self.finish().await;
            sleep(INTERVAL).await;
        }
    }

    /// Returns when the newest table is saved, or cannot be.
    pub async fn finish(&self) {
        let mut written = self.written.lock().await;
        if !written.has_changed().unwrap_or(false) {
            return;
        }
        let Some(snapshot) = written.borrow_and_update().clone() else { return };
        let state = self.state.clone();
        let saved = spawn_blocking(move || save(&state, snapshot.table())).await;
        let saved = saved.expect("writing a file does not panic");
        if let Err(error) = saved {
            tracing::error!(%error, state = %self.state.display(), "the table could not be saved: a restart without a control plane will serve an older one");
        }
    }
}

/// What the file says, whoever owns the table.
#[derive(Serialize, Deserialize)]
struct Saved<T> {
    format: u32,
    table: T,
}

/// Why there is no saved table to start from.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("{path}: cannot be read: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: not a saved table: {source}")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{path}: written in format {found}, this ringwayd reads format {FORMAT}")]
    Format { path: PathBuf, found: u32 },
}

fn path(state: &Path) -> PathBuf {
    state.join("table.json")
}

/// Replaces the saved table; a crash leaves the old or the new one, never a part.
fn save(state: &Path, table: &Table) -> io::Result<()> {
    let fresh = state.join("table.json.new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(&encode(table)?)?;
    file.sync_all()?;
    std::fs::rename(fresh, path(state))
}

/// `None`: nothing was ever saved.
pub fn load(state: &Path) -> Result<Option<Table>, LoadError> {
    let path = path(state);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(LoadError::Read { path, source }),
    };
    decode(&bytes, &path).map(Some)
}

pub(crate) fn encode(table: &Table) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Saved { format: FORMAT, table })?)
}

/// `path` is named in what is refused.
pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Table, LoadError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let parse = |source| LoadError::Parse { path: path.to_owned(), source };
    let Format { format } = serde_json::from_slice(bytes).map_err(parse)?;
    if format != FORMAT {
        return Err(LoadError::Format { path: path.to_owned(), found: format });
    }
    let saved: Saved<Table> = serde_json::from_slice(bytes).map_err(parse)?;
    Ok(saved.table)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let state = std::env::temp_dir().join(format!("ringway-saved-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&state).unwrap();
        state
    }

    #[test]
    fn a_saved_table_comes_back_as_it_was() {
        let state = scratch("round");
        assert!(load(&state).unwrap().is_none());
        let table = Table { version: 7, ..Table::default() };
        save(&state, &table).unwrap();
        assert_eq!(load(&state).unwrap(), Some(table));
        std::fs::remove_dir_all(state).unwrap();
    }

    fn snapshot(version: u64) -> Arc<Snapshot> {
        Arc::new(Snapshot::compile(Table { version, ..Table::default() }).unwrap())
    }

    fn saved_version(state: &Path) -> Option<u64> {
        load(state).unwrap().map(|table| table.version)
    }

    #[tokio::test]
    async fn of_tables_in_quick_succession_some_are_saved_and_the_newest_is() {
        const TABLES: u64 = 100;
        let state = scratch("succession");
        let saver = Saver::new(state.clone());
        let versions = async {
            let mut seen = BTreeSet::new();
            for version in 1..=TABLES {
                saver.put(snapshot(version));
                sleep(INTERVAL / 50).await;
                seen.extend(saved_version(&state));
            }
            while saved_version(&state) != Some(TABLES) {
                sleep(INTERVAL / 10).await;
            }
            // Two milliseconds each: five intervals at most on a quiet machine, on any other fewer than there are tables.
            assert!((1..TABLES as usize / 2).contains(&seen.len()), "{seen:?}");
        };
        tokio::select! {
            () = saver.run() => unreachable!("the sender lives"),
            () = versions => {}
        }
        std::fs::remove_dir_all(state).unwrap();
    }

    #[tokio::test]
    async fn what_was_put_last_is_saved_before_the_process_ends() {
        let state = scratch("end");
        let saver = Saver::new(state.clone());
        saver.put(snapshot(1));
        saver.put(snapshot(2));
        saver.finish().await;
        assert_eq!(saved_version(&state), Some(2));
        std::fs::remove_file(path(&state)).unwrap();
        saver.finish().await;
        assert_eq!(saved_version(&state), None, "nothing new is nothing to write");
        std::fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn another_format_and_a_broken_file_are_refused_by_name() {
        let state = scratch("format");
        std::fs::write(path(&state), r#"{"format":9,"table":{}}"#).unwrap();
        assert!(load(&state).unwrap_err().to_string().contains("format 9"));
        std::fs::write(path(&state), "{").unwrap();
        assert!(load(&state).unwrap_err().to_string().contains("not a saved table"));
        std::fs::remove_dir_all(state).unwrap();
    }
}
