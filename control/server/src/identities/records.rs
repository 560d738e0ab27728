//! What the control plane remembers of identities: JSON in a store of its own, beside the resources'. Blocking.
//!
//! | key | what |
//! |---|---|
//! | `ca` | the built-in authority (`ca::built_in`) |
//! | `node/NAME` | how a node joined |
//! | `issued/SERIAL` | a certificate that has not expired |
//! | `revoked/SERIAL` | one that is not believed, until it expires |
//! | `node-token/SHA256` | a join token, until an hour after its end |
//! | `operator-token/SHA256` | an operator's token |

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::{Expect, Store, StoreError, Write};

/// Certificates that have not expired: 100 workloads on each of 1,000 nodes, twice around a renewal.
const MOST_ISSUED: usize = 200_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// "token" or "x509".
    pub joined_by: String,
    pub joined_unix: u64,
    pub revoked: bool,
}

/// A certificate, by its serial number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issued {
    pub id: String,
    /// The node that has the key: its own certificate, or one of its workloads'.
    pub node: Option<String>,
    pub expires_unix: u64,
    pub generation: u64,
}

pub struct Records {
    store: Arc<dyn Store>,
    /// Between a reading and the write that follows from it.
    turn: Mutex<()>,
    /// Certificates in use, as of the last look and what was issued since.
    in_use: AtomicUsize,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").finish_non_exhaustive()
    }
}

impl Records {
    pub fn new(store: Arc<dyn Store>) -> Records {
        Records { store, turn: Mutex::new(()), in_use: AtomicUsize::new(0) }
    }

    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        let Some(entry) = self.store.get(key)? else { return Ok(None) };
        parse(key, &entry.value).map(Some)
    }

    /// Each with what follows `prefix` in its key.
    pub fn list<T: DeserializeOwned>(&self, prefix: &str) -> Result<Vec<(String, T)>, StoreError> {
        let listing = self.store.list(prefix)?;
        let entries = listing
            .entries
            .iter()
            .map(|entry| Ok((entry.key[prefix.len()..].to_owned(), parse(&entry.key, &entry.value)?)));
        entries.collect()
    }

    /// In place of what is there.
    pub fn write<T: Serialize>(&self, key: &str, value: &T) -> Result<(), StoreError> {
        self.change(|change| change.put(key, value))
    }

    /// Several reads and writes as one: nobody writes in between, and all of it or nothing is stored.
    pub fn change<R>(
        &self,
        act: impl FnOnce(&mut RecordChange<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let _turn = self.turn.lock().expect("no holder of this lock panics");
        let mut change = RecordChange { store: &*self.store, writes: Vec::new() };
        let answer = act(&mut change)?;
        if !change.writes.is_empty() {
            self.store.commit(&change.writes)?;
        }
        Ok(answer)
    }

    pub fn issued(&self) -> Result<Vec<(String, Issued)>, StoreError> {
        self.list("issued/")
    }

    /// A certificate that was signed just now.
    pub fn put_issued(&self, serial: &str, issued: &Issued) -> Result<(), StoreError> {
        if self.in_use.fetch_add(1, Ordering::Relaxed) >= MOST_ISSUED {
            self.in_use.fetch_sub(1, Ordering::Relaxed);
            let problem = format!("{MOST_ISSUED} certificates are in use; let some expire or revoke nodes");
            return Err(StoreError::Failed(problem));
        }
        self.write(&format!("issued/{serial}"), issued)
    }

    /// Marks every certificate that `which` picks as not to be believed; returns their serial numbers.
    pub fn revoke(&self, which: impl Fn(&Issued) -> bool) -> Result<Vec<String>, StoreError> {
        let issued = self.issued()?;
        self.change(|change| {
            let mut serials = Vec::new();
            for (serial, issued) in issued.iter().filter(|(_, issued)| which(issued)) {
                change.put(&format!("revoked/{serial}"), issued)?;
                change.delete(&format!("issued/{serial}"))?;
                serials.push(serial.clone());
            }
            Ok(serials)
        })
    }

    pub fn revoked(&self) -> Result<Vec<(String, Issued)>, StoreError> {
        self.list("revoked/")
    }

    pub fn nodes(&self) -> Result<Vec<(String, NodeRecord)>, StoreError> {
        self.list("node/")
    }

    pub fn node(&self, name: &str) -> Result<Option<NodeRecord>, StoreError> {
        self.read(&format!("node/{name}"))
    }

    pub fn put_node(&self, name: &str, record: &NodeRecord) -> Result<(), StoreError> {
        self.write(&format!("node/{name}"), record)
    }

    /// What has expired is forgotten: an expired certificate is refused by its time.
    pub fn forget_expired(&self, now_unix: u64) -> Result<(), StoreError> {
        for prefix in ["issued/", "revoked/"] {
            let gone: Vec<String> = self
                .list::<Issued>(prefix)?
                .into_iter()
                .filter(|(_, issued)| issued.expires_unix < now_unix)
                .map(|(serial, _)| format!("{prefix}{serial}"))
                .collect();
            self.change(|change| gone.iter().try_for_each(|key| change.delete(key)))?;
        }
        self.in_use.store(self.store.list("issued/")?.entries.len(), Ordering::Relaxed);
        Ok(())
    }
}

/// The writes of one change.
pub struct RecordChange<'a> {
    store: &'a dyn Store,
    writes: Vec<Write>,
}

impl std::fmt::Debug for RecordChange<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordChange").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

impl RecordChange<'_> {
    pub fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StoreError> {
        self.store.get(key)?.map(|entry| parse(key, &entry.value)).transpose()
    }

    pub fn count(&self, prefix: &str) -> Result<usize, StoreError> {
        Ok(self.store.list(prefix)?.entries.len())
    }

    pub fn put<T: Serialize>(&mut self, key: &str, value: &T) -> Result<(), StoreError> {
        let value =
            serde_json::to_string(value).map_err(|error| StoreError::Failed(format!("{key}: {error}")))?;
        self.push(key, Some(value))
    }

    pub fn delete(&mut self, key: &str) -> Result<(), StoreError> {
        self.push(key, None)
    }

    fn push(&mut self, key: &str, value: Option<String>) -> Result<(), StoreError> {
        let expect = match self.store.get(key)? {
            Some(entry) => Expect::Revision(entry.revision),
            None if value.is_none() => return Ok(()),
            None => Expect::Absent,
        };
        self.writes.push(Write { key: key.to_owned(), expect, value });
        Ok(())
    }
}

fn parse<T: DeserializeOwned>(key: &str, value: &str) -> Result<T, StoreError> {
    serde_json::from_str(value).map_err(|error| StoreError::Failed(format!("{key}: {error}")))
}

/// Whole seconds since 1970.
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
