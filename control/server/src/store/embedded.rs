//! The default store: one redb file in the data directory. redb syncs the file before a commit returns.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::broadcast;

use super::{Commit, Entry, Listing, Store, StoreError, WATCH_BACKLOG, Write, announce, met};

/// Key to (revision of the last write, value).
const OBJECTS: TableDefinition<'_, &str, (u64, &str)> = TableDefinition::new("objects");
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");

const REVISION: &str = "revision";
const RESERVED: &str = "reserved";
const FORMAT: &str = "format";
/// Of the two tables and what is in them; a file with another one is refused.
const FORMAT_VERSION: u64 = 1;

const FILE_NAME: &str = "ringway.redb";

pub struct EmbeddedStore {
    database: Database,
    /// Watchers see commits in the order of their revisions.
    writer: Mutex<()>,
    watchers: broadcast::Sender<Arc<Commit>>,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create the data directory {path}: {cause}")]
    Directory { path: PathBuf, cause: std::io::Error },
    #[error("cannot open {path}: {cause}; is another ringway-control using it?")]
    File { path: PathBuf, cause: redb::DatabaseError },
    #[error("{path} has format {found}; this build reads {FORMAT_VERSION}")]
    Format { path: PathBuf, found: u64 },
    #[error("cannot read {path}: {cause}")]
    Content { path: PathBuf, cause: StoreError },
}

impl EmbeddedStore {
    /// Opens the store in `directory`; both are made if they are not there.
    pub fn open(directory: &Path) -> Result<EmbeddedStore, OpenError> {
        std::fs::create_dir_all(directory)
            .map_err(|cause| OpenError::Directory { path: directory.to_owned(), cause })?;
        let path = directory.join(FILE_NAME);
        let database =
            Database::create(&path).map_err(|cause| OpenError::File { path: path.clone(), cause })?;
        let store = EmbeddedStore {
            database,
            writer: Mutex::new(()),
            watchers: broadcast::Sender::new(WATCH_BACKLOG),
        };
        match store.prepare() {
            Ok(FORMAT_VERSION) => Ok(store),
            Ok(found) => Err(OpenError::Format { path, found }),
            Err(cause) => Err(OpenError::Content { path, cause }),
        }
    }

    /// Makes the tables of a new file; returns the file's format.
    fn prepare(&self) -> Result<u64, StoreError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let format = {
            transaction.open_table(OBJECTS).map_err(failed)?;
            let mut counters = transaction.open_table(COUNTERS).map_err(failed)?;
            let found = counters.get(FORMAT).map_err(failed)?.map(|format| format.value());
            match found {
                Some(format) => format,
                None => {
                    counters.insert(FORMAT, FORMAT_VERSION).map_err(failed)?;
                    FORMAT_VERSION
                }
            }
        };
        transaction.commit().map_err(failed)?;
        Ok(format)
    }
}

impl Store for EmbeddedStore {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let objects = transaction.open_table(OBJECTS).map_err(failed)?;
        let found = objects.get(key).map_err(failed)?;
        Ok(found.map(|found| {
            let (revision, value) = found.value();
            Entry { key: key.to_owned(), revision, value: value.to_owned() }
        }))
    }

    fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let objects = transaction.open_table(OBJECTS).map_err(failed)?;
        let counters = transaction.open_table(COUNTERS).map_err(failed)?;
        let revision = counters.get(REVISION).map_err(failed)?.map_or(0, |revision| revision.value());
        let mut entries = Vec::new();
        for found in objects.range(prefix..).map_err(failed)? {
            let (key, value) = found.map_err(failed)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (revision, value) = value.value();
            entries.push(Entry { key: key.value().to_owned(), revision, value: value.to_owned() });
        }
        Ok(Listing { revision, entries })
    }

    fn commit(&self, writes: &[Write]) -> Result<u64, StoreError> {
        let _writer = self.writer.lock().expect("no holder of this lock panics");
        let transaction = self.database.begin_write().map_err(failed)?;
        let revision = {
            let mut objects = transaction.open_table(OBJECTS).map_err(failed)?;
            let mut counters = transaction.open_table(COUNTERS).map_err(failed)?;
            let revision = counters.get(REVISION).map_err(failed)?.map_or(0, |last| last.value()) + 1;
            counters.insert(REVISION, revision).map_err(failed)?;
            for write in writes {
                let key = write.key.as_str();
                let found = objects.get(key).map_err(failed)?.map(|found| found.value().0);
                if !met(write.expect, found) {
                    // Dropping the transaction undoes it.
                    return Err(StoreError::Conflict { key: write.key.clone() });
                }
                match &write.value {
                    Some(value) => drop(objects.insert(key, (revision, value.as_str())).map_err(failed)?),
                    None => drop(objects.remove(key).map_err(failed)?),
                }
            }
            revision
        };
        transaction.commit().map_err(failed)?;
        announce(&self.watchers, revision, writes);
        Ok(revision)
    }

    fn watch(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.watchers.subscribe()
    }

    fn reserve(&self, count: u64) -> Result<u64, StoreError> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let first = {
            let mut counters = transaction.open_table(COUNTERS).map_err(failed)?;
            let reserved = counters.get(RESERVED).map_err(failed)?.map_or(0, |reserved| reserved.value());
            counters.insert(RESERVED, reserved + count).map_err(failed)?;
            reserved + 1
        };
        transaction.commit().map_err(failed)?;
        Ok(first)
    }
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}
