//! From stored resources to what streams send: mirrors the store, compiles for each node that asks, counts versions,
//! keeps everybody's status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use model::table::Table;
use model::{HealthView, Key, Resource, Resources, Status, compile, compile_client, conditions};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{Notify, broadcast, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};
use xds::ads::Snapshot;
use xds::convert::{Audience, ConvertError, encode_table};

use crate::fleet::Fleet;
use crate::grpc_view;
use crate::registry::{key_of, parse_stored};
use crate::store::{Change, Store, StoreError};

/// Changes that come together are published together.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// Health results that grow old are noticed by the next look.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Different (node, client kind) that are compiled for.
pub const MAX_VIEWS: usize = 4_096;
/// Table versions are taken from the store in lots, so that a restart skips some and repeats none.
const VERSIONS_PER_LOT: u64 = 1_000;

/// Who is compiled for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ViewKey {
    /// A node's name; of gRPC clients, their namespace: all in one see the same.
    pub client: String,
    pub audience: Audience,
}

pub type View = watch::Receiver<Option<Arc<Snapshot>>>;

#[derive(Debug)]
pub struct Publisher {
    fleet: Arc<Fleet>,
    views: Mutex<BTreeMap<ViewKey, Published>>,
    statuses: Mutex<BTreeMap<Key, Status>>,
    failure: Mutex<String>,
    wake: Notify,
}

#[derive(Debug)]
struct Published {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    table: Option<Table>,
}

#[derive(Debug, thiserror::Error)]
#[error("{MAX_VIEWS} views are published already")]
pub struct TooManyViews;

impl Publisher {
    pub fn new(fleet: Arc<Fleet>) -> Publisher {
        Publisher {
            fleet,
            views: Mutex::default(),
            statuses: Mutex::default(),
            failure: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// What this client may see; `None` until it has been compiled.
    pub fn view(&self, key: ViewKey) -> Result<View, TooManyViews> {
        let mut views = self.views();
        if !views.contains_key(&key) && views.len() >= MAX_VIEWS {
            return Err(TooManyViews);
        }
        let published =
            views.entry(key).or_insert_with(|| Published { sender: watch::Sender::new(None), table: None });
        let view = published.sender.subscribe();
        self.wake.notify_one();
        Ok(view)
    }

    /// Something other than the store has changed: an answer, a report.
    pub fn on_fleet_change(&self) {
        self.wake.notify_one();
    }

    pub fn status(&self, key: &Key) -> Status {
        self.statuses().get(key).cloned().unwrap_or_default()
    }

    /// What keeps resources from being published; empty if nothing does.
    pub fn failure(&self) -> String {
        self.failure.lock().expect("no holder of this lock panics").clone()
    }

    /// Publishes until the store fails or the task is dropped.
    pub async fn run(&self, store: Arc<dyn Store>) -> Result<(), StoreError> {
        let mut changes = store.watch();
        let mut mirror = Mirror::load(&store).await?;
        let mut versions = Versions { store: store.clone(), next: 0, end: 0 };
        loop {
            self.publish(&mirror.resources, versions.peek().await?, &mut versions);
            self.judge(&mirror.resources);
            let pause = timeout(LONGEST_PAUSE, async {
                tokio::select! {
                    change = changes.recv() => Some(change),
                    () = self.wake.notified() => None,
                }
            });
            if let Ok(Some(change)) = pause.await {
                mirror.take(change, &store).await?;
            }
            sleep(DEBOUNCE).await;
            loop {
                match changes.try_recv() {
                    Ok(change) => mirror.take(Ok(change), &store).await?,
                    Err(TryRecvError::Lagged(missed)) => {
                        mirror.take(Err(RecvError::Lagged(missed)), &store).await?;
                    }
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
        }
    }

    /// Compiles every view; those whose table changed get a new version, the same for all in one pass.
    fn publish(&self, resources: &Resources, version: u64, versions: &mut Versions) {
        let configured: BTreeSet<String> =
            resources.nodes().map(|(metadata, _)| metadata.name.clone()).collect();
        let mut views = self.views();
        views.retain(|key, view| view.sender.receiver_count() > 0 || configured.contains(&key.client));
        self.fleet.retain(&configured);
        let health = self.fleet.health();
        let mut failures = Vec::new();
        let mut used = false;
        for (key, view) in views.iter_mut() {
            let mut table = compile_view(resources, key, &health);
            table.version = view.table.as_ref().map_or(0, |table| table.version);
            if view.table.as_ref() == Some(&table) {
                continue;
            }
            table.version = version;
            used = true;
            match encode_view(resources, &table, key) {
                Ok(snapshot) => {
                    info!(client = key.client, audience = ?key.audience, version, "published");
                    view.sender.send_replace(Some(Arc::new(snapshot)));
                    if key.audience != Audience::Grpc {
                        self.fleet.on_published(&key.client, version);
                    }
                }
                Err(problem) => {
                    error!(client = key.client, %problem, "cannot be published, the last table stays");
                    failures.push(format!("{}: {problem}", key.client));
                    continue;
                }
            }
            view.table = Some(table);
        }
        if used {
            versions.next += 1;
        }
        *self.failure.lock().expect("no holder of this lock panics") = failures.join("; ");
    }

    /// Everybody's conditions, by what the nodes answered.
    fn judge(&self, resources: &Resources) {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let fresh = conditions(resources, &self.fleet.answers());
        let mut statuses = self.statuses();
        let before = std::mem::take(&mut *statuses);
        let none = Status::default();
        *statuses = fresh
            .into_iter()
            .map(|(key, status)| {
                let previous = before.get(&key).unwrap_or(&none);
                let status = status.stamped(previous, &now);
                (key, status)
            })
            .collect();
    }

    fn views(&self) -> MutexGuard<'_, BTreeMap<ViewKey, Published>> {
        self.views.lock().expect("no holder of this lock panics")
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<Key, Status>> {
        self.statuses.lock().expect("no holder of this lock panics")
    }
}

fn compile_view(resources: &Resources, key: &ViewKey, health: &HealthView) -> Table {
    match key.audience {
        Audience::Grpc => {
            let mut table = compile_client(resources, &key.client, health);
            grpc_view::add_stream_routes(&mut table);
            table
        }
        Audience::Ringway | Audience::Envoy => compile(resources, &key.client, health),
    }
}

fn encode_view(resources: &Resources, table: &Table, key: &ViewKey) -> Result<Snapshot, ConvertError> {
    let mut snapshot = encode_table(table, key.audience)?;
    if key.audience == Audience::Grpc {
        grpc_view::add_targets(resources, &key.client, table, &mut snapshot);
    }
    Ok(snapshot)
}

/// The stored resources, as of the last change seen.
struct Mirror {
    revision: u64,
    resources: Resources,
}

impl Mirror {
    async fn load(store: &Arc<dyn Store>) -> Result<Mirror, StoreError> {
        let from = store.clone();
        let listing = spawn_blocking(move || from.list("")).await.expect("a store does not panic")?;
        let mut resources = Resources::default();
        for entry in &listing.entries {
            resources.insert(parse_stored(&entry.key, entry.revision, &entry.value)?);
        }
        Ok(Mirror { revision: listing.revision, resources })
    }

    async fn take(
        &mut self,
        change: Result<Arc<Change>, broadcast::error::RecvError>,
        store: &Arc<dyn Store>,
    ) -> Result<(), StoreError> {
        match change {
            // One commit is several changes of one revision.
            Ok(change) if change.revision < self.revision => Ok(()),
            Ok(change) => self.apply(&change),
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "fell behind the store, reading all of it again");
                *self = Mirror::load(store).await?;
                Ok(())
            }
            Err(RecvError::Closed) => Err(StoreError::Failed("the store's watch has ended".to_owned())),
        }
    }

    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        self.revision = change.revision;
        match &change.value {
            Some(value) => {
                let resource: Resource = parse_stored(&change.key, change.revision, value)?;
                self.resources.insert(resource);
            }
            None => drop(key_of(&change.key).and_then(|key| self.resources.remove(&key))),
        }
        Ok(())
    }
}

/// Table versions, taken from the store a lot at a time.
struct Versions {
    store: Arc<dyn Store>,
    next: u64,
    end: u64,
}

impl Versions {
    /// The next version; it is used up by adding one to `next`.
    async fn peek(&mut self) -> Result<u64, StoreError> {
        if self.next == self.end {
            let store = self.store.clone();
            let lot = spawn_blocking(move || store.reserve(VERSIONS_PER_LOT));
            self.next = lot.await.expect("a store does not panic")?;
            self.end = self.next + VERSIONS_PER_LOT;
        }
        Ok(self.next)
    }
}
