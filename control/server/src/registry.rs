//! The resources as operators see them: validated, defaulted, numbered, stored before the answer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use model::resource::Spec;
use model::{Key, Kind, Resource, ServicePrefixes, Status, allocate, validate};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::store::{Entry, Expect, Listing, Store, StoreError, Write};

/// Objects in one request; a directory of a mesh with a thousand services fits.
pub const MAX_OBJECTS: usize = 10_000;

/// Applies and finds resources. One at a time, because an address is given to one Service only.
pub struct Registry {
    store: Arc<dyn Store>,
    prefixes: ServicePrefixes,
    /// Held by the thread that plans and commits, which goes on when the caller has left.
    writer: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("prefixes", &self.prefixes).finish_non_exhaustive()
    }
}

/// What became of one object.
#[derive(Clone, Debug)]
pub struct Applied {
    pub action: Action,
    pub resource: Resource,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Created,
    Configured,
    Unchanged,
}

/// What is wrong with one object of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectError {
    /// Position in the request.
    pub index: usize,
    pub key: Option<Key>,
    pub field: String,
    pub problem: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nothing was stored.
    #[error("refused")]
    Refused(Vec<ObjectError>),
    /// The object has changed since the caller read it; nothing was stored.
    #[error("conflict")]
    Conflict(Vec<ObjectError>),
    #[error("{0} does not exist")]
    NotFound(Key),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Registry {
    pub fn new(store: Arc<dyn Store>, prefixes: ServicePrefixes) -> Registry {
        Registry { store, prefixes, writer: Arc::default() }
    }

    /// All objects or none. A dry run answers the same and stores nothing.
    pub async fn apply(&self, objects: Vec<String>, dry_run: bool) -> Result<Vec<Applied>, RegistryError> {
        let resources = read(objects)?;
        let prefixes = self.prefixes;
        self.write(move |store| apply(store, prefixes, resources, dry_run)).await
    }

    pub async fn find(&self, key: &Key) -> Result<Resource, RegistryError> {
        let key = key.clone();
        blocking(self.store.clone(), move |store| from_entry(&find(store, &key)?)).await
    }

    /// Of one kind or all, of one namespace or all; and the revision that they are of.
    pub async fn list(
        &self,
        kind: Option<Kind>,
        namespace: Option<&str>,
    ) -> Result<(u64, Vec<Resource>), RegistryError> {
        let prefix = kind.map_or(String::new(), |kind| format!("{}/", kind.name()));
        let listing = blocking(self.store.clone(), move |store| Ok(store.list(&prefix)?)).await?;
        let mut resources = Vec::with_capacity(listing.entries.len());
        for entry in &listing.entries {
            let resource = from_entry(entry)?;
            if namespace.is_none_or(|namespace| resource.metadata.namespace == namespace) {
                resources.push(resource);
            }
        }
        resources.sort_by_key(Resource::key);
        Ok((listing.revision, resources))
    }

    pub async fn delete(&self, key: &Key) -> Result<(), RegistryError> {
        let key = key.clone();
        self.write(move |store| {
            let Entry { key, revision, .. } = find(store, &key)?;
            store.commit(&[Write { key, expect: Expect::Revision(revision), value: None }])?;
            Ok(())
        })
        .await
    }

    /// Reads, plans and commits in one visit to a blocking thread, while nobody else does.
    async fn write<T: Send + 'static>(
        &self,
        act: impl FnOnce(&dyn Store) -> Result<T, RegistryError> + Send + 'static,
    ) -> Result<T, RegistryError> {
        let turn = self.writer.clone().lock_owned().await;
        blocking(self.store.clone(), move |store| {
            let _turn = turn;
            act(store)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    store: Arc<dyn Store>,
    act: impl FnOnce(&dyn Store) -> Result<T, RegistryError> + Send + 'static,
) -> Result<T, RegistryError> {
    spawn_blocking(move || act(&*store)).await.expect("a store does not panic")
}

fn apply(
    store: &dyn Store,
    prefixes: ServicePrefixes,
    resources: Vec<Resource>,
    dry_run: bool,
) -> Result<Vec<Applied>, RegistryError> {
    let mut plan = Plan::new(&store.list("")?, prefixes);
    let mut applied = Vec::with_capacity(resources.len());
    for (index, resource) in resources.into_iter().enumerate() {
        applied.push(plan.add(index, resource)?);
    }
    if dry_run || plan.writes.is_empty() {
        return Ok(applied);
    }
    let revision = store.commit(&plan.writes)?;
    for applied in applied.iter_mut().filter(|applied| applied.action != Action::Unchanged) {
        applied.resource.metadata.resource_version = revision.to_string();
    }
    Ok(applied)
}

fn find(store: &dyn Store, key: &Key) -> Result<Entry, RegistryError> {
    store.get(&path(key))?.ok_or_else(|| RegistryError::NotFound(key.clone()))
}

/// Where a resource is in the store.
pub fn path(key: &Key) -> String {
    format!("{}/{}/{}", key.kind.name(), key.namespace, key.name)
}

/// The key that [`path`] made `path` from.
pub fn key_of(path: &str) -> Option<Key> {
    let mut parts = path.splitn(3, '/');
    let kind = Kind::from_word(parts.next()?)?;
    Some(Key::new(kind, parts.next()?, parts.next()?))
}

/// What was stored was read before, so it can be read again; if a build cannot, it says which.
pub fn parse_stored(path: &str, revision: u64, value: &str) -> Result<Resource, StoreError> {
    let mut resource: Resource =
        serde_json::from_str(value).map_err(|error| StoreError::Failed(format!("{path}: {error}")))?;
    resource.metadata.resource_version = revision.to_string();
    Ok(resource)
}

fn from_entry(entry: &Entry) -> Result<Resource, RegistryError> {
    parse_stored(&entry.key, entry.revision, &entry.value).map_err(RegistryError::Store)
}

/// Each text as a valid resource, or everything that is wrong with them.
fn read(objects: Vec<String>) -> Result<Vec<Resource>, RegistryError> {
    let mut errors = Vec::new();
    let mut resources: Vec<Resource> = Vec::new();
    let mut seen = BTreeSet::new();
    if objects.len() > MAX_OBJECTS {
        let problem = format!("{} objects in one request, at most {MAX_OBJECTS} are allowed", objects.len());
        errors.push(ObjectError { index: MAX_OBJECTS, key: None, field: String::new(), problem });
    }
    for (index, object) in objects.iter().take(MAX_OBJECTS).enumerate() {
        match read_one(index, object) {
            Ok(resource) if !seen.insert(resource.key()) => {
                let problem = "the same object twice in one request".to_owned();
                errors.push(ObjectError { index, key: Some(resource.key()), field: String::new(), problem });
            }
            Ok(resource) => resources.push(resource),
            Err(more) => errors.extend(more),
        }
    }
    if errors.is_empty() { Ok(resources) } else { Err(RegistryError::Refused(errors)) }
}

fn read_one(index: usize, object: &str) -> Result<Resource, Vec<ObjectError>> {
    let value = serde_json::from_str(object).map_err(|error| {
        vec![ObjectError { index, key: None, field: String::new(), problem: format!("not JSON: {error}") }]
    })?;
    let refused = |key: Option<Key>, errors: Vec<model::FieldError>| {
        let errors = errors.into_iter().map(|error| ObjectError {
            index,
            key: key.clone(),
            field: error.field,
            problem: error.problem,
        });
        errors.collect::<Vec<_>>()
    };
    let resource = Resource::from_value(value).map_err(|errors| refused(None, errors))?;
    let errors = validate(&resource);
    if errors.is_empty() { Ok(resource) } else { Err(refused(Some(resource.key()), errors)) }
}

/// The writes that a request comes to, over what is stored.
struct Plan {
    stored: BTreeMap<Key, Resource>,
    /// Services' addresses, and whose they are; the same addresses again, as `allocate` wants them.
    owners: BTreeMap<IpAddr, Key>,
    taken: BTreeSet<IpAddr>,
    prefixes: ServicePrefixes,
    now: String,
    writes: Vec<Write>,
}

impl Plan {
    fn new(listing: &Listing, prefixes: ServicePrefixes) -> Plan {
        let resources = listing.entries.iter().filter_map(|entry| from_entry(entry).ok());
        let stored: BTreeMap<Key, Resource> = resources.map(|resource| (resource.key(), resource)).collect();
        let owners = stored.iter().flat_map(|(key, resource)| {
            addresses(resource).into_iter().map(move |address| (address, key.clone()))
        });
        let owners: BTreeMap<IpAddr, Key> = owners.collect();
        Plan {
            taken: owners.keys().copied().collect(),
            owners,
            stored,
            prefixes,
            now: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            writes: Vec::new(),
        }
    }

    fn add(&mut self, index: usize, mut resource: Resource) -> Result<Applied, RegistryError> {
        let key = resource.key();
        let before = self.stored.get(&key).cloned();
        check_version(index, &resource, before.as_ref())?;
        resource.status = Status::default();
        self.give_addresses(index, &mut resource, before.as_ref())?;
        let action = self.number(&mut resource, before.as_ref());
        if action == Action::Unchanged {
            return Ok(Applied { action, resource });
        }
        let expect = match &before {
            None => Expect::Absent,
            Some(before) => Expect::Revision(revision_of(before)),
        };
        let mut stored = resource.clone();
        stored.metadata.resource_version = String::new();
        let value = serde_json::to_string(&stored)
            .map_err(|error| RegistryError::Store(StoreError::Failed(format!("{key}: {error}"))))?;
        self.writes.push(Write { key: path(&key), expect, value: Some(value) });
        Ok(Applied { action, resource })
    }

    /// What the server knows and the operator does not say: identity, age, generation.
    fn number(&self, resource: &mut Resource, before: Option<&Resource>) -> Action {
        let metadata = &mut resource.metadata;
        let Some(before) = before else {
            metadata.uid = uuid::Uuid::new_v4().to_string();
            metadata.creation_timestamp = Some(self.now.clone());
            metadata.generation = 1;
            metadata.resource_version = String::new();
            return Action::Created;
        };
        let same_spec = resource.spec == before.spec;
        metadata.uid.clone_from(&before.metadata.uid);
        metadata.creation_timestamp.clone_from(&before.metadata.creation_timestamp);
        metadata.generation = before.metadata.generation + u64::from(!same_spec);
        metadata.resource_version.clone_from(&before.metadata.resource_version);
        if *metadata == before.metadata && same_spec { Action::Unchanged } else { Action::Configured }
    }

    /// A Service keeps the addresses that it has, and is given those that it lacks.
    fn give_addresses(
        &mut self,
        index: usize,
        resource: &mut Resource,
        before: Option<&Resource>,
    ) -> Result<(), RegistryError> {
        let key = resource.key();
        let Spec::Service(spec) = &mut resource.spec else { return Ok(()) };
        let refuse = |problem: String| {
            let field = "spec.clusterIPs".to_owned();
            RegistryError::Refused(vec![ObjectError { index, key: Some(key.clone()), field, problem }])
        };
        if spec.addresses().is_empty()
            && let Some(before) = before
        {
            spec.cluster_ips = addresses(before);
        }
        let foreign = |address: &IpAddr| self.owners.get(address).filter(|owner| **owner != key);
        if let Some((address, other)) = spec.addresses().iter().find_map(|a| Some((*a, foreign(a)?))) {
            return Err(refuse(format!("{address} belongs to {other}; leave it out to be given a free one")));
        }
        let given =
            allocate(&key, spec, &self.taken, &self.prefixes).map_err(|error| refuse(error.to_string()))?;
        let all: Vec<IpAddr> = spec.addresses().into_iter().chain(given).collect();
        for address in before.map(addresses).unwrap_or_default() {
            self.owners.remove(&address);
            self.taken.remove(&address);
        }
        self.owners.extend(all.iter().map(|address| (*address, key.clone())));
        self.taken.extend(&all);
        spec.cluster_ip = all.first().map(ToString::to_string);
        spec.cluster_ips = all;
        Ok(())
    }
}

fn addresses(resource: &Resource) -> Vec<IpAddr> {
    match &resource.spec {
        Spec::Service(spec) => spec.addresses(),
        _ => Vec::new(),
    }
}

fn revision_of(resource: &Resource) -> u64 {
    resource.metadata.resource_version.parse().unwrap_or(0)
}

/// Who names a version means to change that one.
fn check_version(index: usize, resource: &Resource, before: Option<&Resource>) -> Result<(), RegistryError> {
    let said = &resource.metadata.resource_version;
    let is = before.map_or("", |before| &before.metadata.resource_version);
    if said.is_empty() || said == is {
        return Ok(());
    }
    let problem = match before {
        Some(_) => format!("is {said}, but the object is at {is}: read it again and repeat the change"),
        None => format!("is {said}, but the object does not exist"),
    };
    let field = "metadata.resourceVersion".to_owned();
    Err(RegistryError::Conflict(vec![ObjectError { index, key: Some(resource.key()), field, problem }]))
}
