//! The store for tests and simulations: a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use super::{Commit, Entry, Listing, Store, StoreError, WATCH_BACKLOG, Write, announce, met};

#[derive(Debug)]
pub struct MemoryStore {
    content: Mutex<Content>,
    watchers: broadcast::Sender<Arc<Commit>>,
}

#[derive(Debug, Default)]
struct Content {
    revision: u64,
    reserved: u64,
    entries: BTreeMap<String, Entry>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore { content: Mutex::default(), watchers: broadcast::Sender::new(WATCH_BACKLOG) }
    }
}

impl MemoryStore {
    fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().expect("no holder of this lock panics")
    }
}

impl Store for MemoryStore {
    fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.content().entries.get(key).cloned())
    }

    fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        let content = self.content();
        let entries = content.entries.range(prefix.to_owned()..);
        let entries = entries.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry.clone());
        Ok(Listing { revision: content.revision, entries: entries.collect() })
    }

    fn commit(&self, writes: &[Write]) -> Result<u64, StoreError> {
        let mut content = self.content();
        for write in writes {
            let found = content.entries.get(&write.key).map(|entry| entry.revision);
            if !met(write.expect, found) {
                return Err(StoreError::Conflict { key: write.key.clone() });
            }
        }
        content.revision += 1;
        let revision = content.revision;
        for write in writes {
            match &write.value {
                Some(value) => {
                    let entry = Entry { key: write.key.clone(), revision, value: value.clone() };
                    content.entries.insert(write.key.clone(), entry);
                }
                None => drop(content.entries.remove(&write.key)),
            }
        }
        announce(&self.watchers, revision, writes);
        Ok(revision)
    }

    fn watch(&self) -> broadcast::Receiver<Arc<Commit>> {
        self.watchers.subscribe()
    }

    fn reserve(&self, count: u64) -> Result<u64, StoreError> {
        let mut content = self.content();
        let first = content.reserved + 1;
        content.reserved += count;
        Ok(first)
    }
}
