//! Where resources are kept: a small key-value store with revisions, compare-and-swap and watches.
//!
//! The trait is what an embedded database and a distributed one both do well. A write is durable when `commit` returns.

mod embedded;
mod memory;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use embedded::EmbeddedStore;
pub use memory::MemoryStore;

/// Commits that a watcher may be behind; whoever is further behind is told so and lists again.
const WATCH_BACKLOG: usize = 4_096;

/// One stored value. `revision` is the one of its last write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub revision: u64,
    pub value: String,
}

/// All entries under a prefix, as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    pub revision: u64,
    pub entries: Vec<Entry>,
}

/// What must be true of a key for a write to happen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    Revision(u64),
}

/// One part of a commit. No value: the key is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub key: String,
    pub expect: Expect,
    pub value: Option<String>,
}

/// What was committed together; what watchers see, in order of revisions. Nobody sees a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub revision: u64,
    pub changes: Vec<Change>,
}

/// What became of one key. No value: it was deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub value: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote in between; nothing of the commit was done.
    #[error("{key} has changed meanwhile")]
    Conflict { key: String },
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Blocking; callers in async code move it to a blocking thread.
pub trait Store: Send + Sync + 'static {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;
    /// In order of keys.
    fn list(&self, prefix: &str) -> Result<Listing, StoreError>;
    /// All writes or none; returns the revision that they all have. Durable before it returns.
    fn commit(&self, writes: &[Write]) -> Result<u64, StoreError>;
    /// Every commit from now on.
    fn watch(&self) -> broadcast::Receiver<Arc<Commit>>;
    /// Takes `count` numbers that no one was given before, also not before a restart: returns the first.
    fn reserve(&self, count: u64) -> Result<u64, StoreError>;
}

/// Tells watchers of a commit. That nobody watches is no error.
fn announce(watchers: &broadcast::Sender<Arc<Commit>>, revision: u64, writes: &[Write]) {
    let changes = writes.iter().map(|write| Change { key: write.key.clone(), value: write.value.clone() });
    drop(watchers.send(Arc::new(Commit { revision, changes: changes.collect() })));
}

fn met(expect: Expect, found: Option<u64>) -> bool {
    match expect {
        Expect::Absent => found.is_none(),
        Expect::Revision(revision) => found == Some(revision),
    }
}
