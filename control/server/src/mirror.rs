//! The stored resources as the publisher sees them, and the numbers that it gives to tables.

use std::sync::Arc;

use model::{Resource, Resources};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::registry::{key_of, parse_stored};
use crate::store::{Change, Commit, Store, StoreError};

/// Table versions are taken from the store in lots, so that a restart skips some and repeats none.
const VERSIONS_PER_LOT: u64 = 1_000;

/// The stored resources, as of the last commit seen.
pub struct Mirror {
    pub resources: Resources,
    revision: u64,
    changed: bool,
    commits: Receiver<Arc<Commit>>,
    store: Arc<dyn Store>,
}

impl Mirror {
    pub async fn load(store: Arc<dyn Store>) -> Result<Mirror, StoreError> {
        // Before the list, so that nothing is missed between.
        let commits = store.watch();
        let mut mirror =
            Mirror { resources: Resources::default(), revision: 0, changed: false, commits, store };
        mirror.read_all().await?;
        Ok(mirror)
    }

    async fn read_all(&mut self) -> Result<(), StoreError> {
        let store = self.store.clone();
        let listing = spawn_blocking(move || store.list("")).await.expect("a store does not panic")?;
        self.resources = Resources::default();
        for entry in &listing.entries {
            self.resources.insert(parse_stored(&entry.key, entry.revision, &entry.value)?);
        }
        self.revision = listing.revision;
        self.changed = true;
        Ok(())
    }

    /// Whether the resources have changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether something was committed that is not in the resources yet.
    pub fn is_behind(&self) -> bool {
        !self.commits.is_empty()
    }

    /// The next commit, for [`Mirror::take`].
    pub async fn committed(&mut self) -> Result<Arc<Commit>, RecvError> {
        self.commits.recv().await
    }

    /// Takes in what has come by now.
    pub async fn take_pending(&mut self) -> Result<(), StoreError> {
        loop {
            match self.commits.try_recv() {
                Ok(commit) => self.take(Ok(commit)).await?,
                Err(TryRecvError::Lagged(missed)) => self.take(Err(RecvError::Lagged(missed))).await?,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return Ok(()),
            }
        }
    }

    pub async fn take(&mut self, commit: Result<Arc<Commit>, RecvError>) -> Result<(), StoreError> {
        match commit {
            // What was read in whole had it already.
            Ok(commit) if commit.revision <= self.revision => Ok(()),
            Ok(commit) => self.take_commit(&commit),
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "fell behind the store, reading all of it again");
                self.read_all().await
            }
            Err(RecvError::Closed) => Err(StoreError::Failed("the store's watch has ended".to_owned())),
        }
    }

    fn take_commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.revision = commit.revision;
        self.changed = true;
        commit.changes.iter().try_for_each(|change| self.take_change(commit.revision, change))
    }

    fn take_change(&mut self, revision: u64, change: &Change) -> Result<(), StoreError> {
        match &change.value {
            Some(value) => {
                let resource: Resource = parse_stored(&change.key, revision, value)?;
                self.resources.insert(resource);
            }
            None => drop(key_of(&change.key).and_then(|key| self.resources.remove(&key))),
        }
        Ok(())
    }
}

/// Table versions, taken from the store a lot at a time.
pub struct Versions {
    store: Arc<dyn Store>,
    next: u64,
    end: u64,
}

impl Versions {
    pub fn new(store: Arc<dyn Store>) -> Versions {
        Versions { store, next: 0, end: 0 }
    }

    /// The next version, the same until it is [used up](Versions::use_up).
    pub async fn peek(&mut self) -> Result<u64, StoreError> {
        if self.next == self.end {
            let store = self.store.clone();
            let lot = spawn_blocking(move || store.reserve(VERSIONS_PER_LOT));
            self.next = lot.await.expect("a store does not panic")?;
            self.end = self.next + VERSIONS_PER_LOT;
        }
        Ok(self.next)
    }

    pub fn use_up(&mut self) {
        self.next += 1;
    }
}
