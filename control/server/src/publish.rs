//! From stored resources to what streams send: compiles for each client that asks, keeps everybody's status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use model::table::Table;
use model::{HealthView, Key, Resources, Status, compile, compile_client, conditions};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info};
use xds::convert::{Audience, ConvertError, encode_table};
use xds::snapshot::Snapshot;

use crate::fleet::Fleet;
use crate::grpc_view;
use crate::mirror::{Mirror, Versions};
use crate::store::{Store, StoreError};

/// The longest rest after a pass. A rest is as long as the pass was: the publisher never takes more than half of a core,
/// and the more there is to compile, the more changes go into one publication. A change that comes later goes out at once.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Health results that grow old are noticed by the next look.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Different (node, client kind) that are compiled for.
pub const MAX_VIEWS: usize = 4_096;

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
    wake: Notify,
}

/// What one kind of client was sent last.
#[derive(Debug, Default)]
struct Published {
    sender: watch::Sender<Option<Arc<Snapshot>>>,
    table: Option<Table>,
    /// Why the table as it is now cannot be said; the last one stays.
    failure: Option<String>,
}

impl Published {
    fn is_new(&self) -> bool {
        self.table.is_none() && self.failure.is_none()
    }

    /// Returns whether there was something new to send.
    fn publish(&mut self, resources: &Resources, key: &ViewKey, health: &HealthView, version: u64) -> bool {
        let mut table = compile_view(resources, key, health);
        table.version = self.table.as_ref().map_or(0, |table| table.version);
        if self.table.as_ref() == Some(&table) {
            self.failure = None;
            return false;
        }
        table.version = version;
        match encode_view(resources, &table, key) {
            Ok(snapshot) => {
                info!(client = key.client, audience = ?key.audience, version, "published");
                self.sender.send_replace(Some(Arc::new(snapshot)));
                self.table = Some(table);
                self.failure = None;
                true
            }
            Err(problem) => {
                error!(client = key.client, %problem, "cannot be published, the last table stays");
                self.failure = Some(problem.to_string());
                false
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{MAX_VIEWS} views are published already")]
pub struct TooManyViews;

impl Publisher {
    pub fn new(fleet: Arc<Fleet>) -> Publisher {
        Publisher { fleet, views: Mutex::default(), statuses: Mutex::default(), wake: Notify::new() }
    }

    /// What this client may see; `None` until it has been compiled.
    pub fn view(&self, key: ViewKey) -> Result<View, TooManyViews> {
        let mut views = self.views();
        if !views.contains_key(&key) && views.len() >= MAX_VIEWS {
            return Err(TooManyViews);
        }
        let published = views.entry(key).or_default();
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
        let views = self.views();
        let failures = views.iter().filter_map(|(key, view)| Some((&key.client, view.failure.as_ref()?)));
        failures.map(|(client, failure)| format!("{client}: {failure}")).collect::<Vec<_>>().join("; ")
    }

    /// Publishes until the store fails or the task is dropped.
    pub async fn run(&self, store: Arc<dyn Store>) -> Result<(), StoreError> {
        let mut mirror = Mirror::load(store.clone()).await?;
        let mut versions = Versions::new(store);
        let mut health = HealthView::default();
        loop {
            let version = versions.peek().await?;
            let begun = Instant::now();
            let found = self.fleet.health();
            let stale = mirror.take_changed() || found != health;
            health = found;
            if self.publish(&mirror, &health, stale, version) {
                versions.use_up();
            }
            self.judge(&mirror.resources);
            sleep(begun.elapsed().min(LONGEST_REST)).await;
            self.wait_for_news(&mut mirror).await?;
        }
    }

    /// Until there is a reason for another pass; takes in all that was committed by then.
    async fn wait_for_news(&self, mirror: &mut Mirror) -> Result<(), StoreError> {
        let next = timeout(LONGEST_PAUSE, async {
            tokio::select! {
                commit = mirror.committed() => Some(commit),
                () = self.wake.notified() => None,
            }
        });
        if let Ok(Some(commit)) = next.await {
            mirror.take(commit).await?;
        }
        mirror.take_pending().await
    }

    /// Compiles the views that are stale or new; those whose table changed get `version`, the same for all in one
    /// pass. Returns whether any did.
    fn publish(&self, mirror: &Mirror, health: &HealthView, stale: bool, version: u64) -> bool {
        let mut views = self.views();
        // Somebody may have applied it, asked for a view, and would be told that what he applied does not exist.
        if mirror.is_behind() {
            return false;
        }
        let resources = &mirror.resources;
        let configured: BTreeSet<String> =
            resources.nodes().map(|(metadata, _)| metadata.name.clone()).collect();
        views.retain(|key, view| view.sender.receiver_count() > 0 || configured.contains(&key.client));
        self.fleet.retain(&configured);
        let mut used = false;
        for (key, view) in views.iter_mut().filter(|(_, view)| stale || view.is_new()) {
            let published = view.publish(resources, key, health, version);
            used |= published;
            if published && key.audience != Audience::Grpc {
                self.fleet.on_published(&key.client, version);
            }
        }
        used
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
