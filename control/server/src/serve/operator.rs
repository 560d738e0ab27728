//! The operators' API.

use std::collections::BTreeMap;

use model::{Key, Kind, Resource};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use xds::operator::refusal;
use xds::proto::control::{self as api, watch_event::Change as Kindof};

use super::Shared;
use crate::access::Caller;
use crate::identities::Role;
use crate::registry::{Action, Applied, ObjectError, RegistryError, key_of, parse_stored};
use crate::store::{Change, Commit};

/// Events that wait for a slow watcher before it holds up its own stream.
const WATCH_QUEUE: usize = 64;

#[derive(Clone, Debug)]
pub struct Operator(pub Shared);

#[tonic::async_trait]
impl api::control_server::Control for Operator {
    type WatchStream = ReceiverStream<Result<api::WatchEvent, Status>>;

    async fn apply(
        &self,
        request: Request<api::ApplyRequest>,
    ) -> Result<Response<api::ApplyResponse>, Status> {
        let caller = self.0.access.operator(&request, Role::Editor, "apply")?;
        let api::ApplyRequest { objects_json, dry_run } = request.into_inner();
        let applied = self.0.registry.apply(objects_json, dry_run).await.map_err(to_status);
        if !dry_run {
            self.note_applied(&caller, &applied);
        }
        let applied = applied?;
        let outcomes = applied.iter().map(to_outcome).collect::<Result<_, _>>()?;
        Ok(Response::new(api::ApplyResponse { outcomes }))
    }

    async fn get(&self, request: Request<api::GetRequest>) -> Result<Response<api::GetResponse>, Status> {
        self.0.access.operator(&request, Role::Viewer, "get")?;
        let key = read_key(request.into_inner().key)?;
        let resource = self.0.registry.find(&key).await.map_err(to_status)?;
        Ok(Response::new(api::GetResponse { object_json: self.with_status(resource)? }))
    }

    async fn list(&self, request: Request<api::ListRequest>) -> Result<Response<api::ListResponse>, Status> {
        self.0.access.operator(&request, Role::Viewer, "list")?;
        let api::ListRequest { kind, namespace } = request.into_inner();
        let kind = read_kind(&kind)?;
        let namespace = Some(namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let (revision, resources) = self.0.registry.list(kind, namespace).await.map_err(to_status)?;
        let objects = resources.into_iter().map(|resource| self.with_status(resource));
        let objects_json = objects.collect::<Result<_, _>>()?;
        Ok(Response::new(api::ListResponse { objects_json, revision }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteRequest>,
    ) -> Result<Response<api::DeleteResponse>, Status> {
        let caller = self.0.access.operator(&request, Role::Editor, "delete")?;
        let key = read_key(request.into_inner().key)?;
        let deleted = self.0.registry.delete(&key).await.map_err(to_status);
        let outcome = deleted.as_ref().copied().map_err(Status::message);
        self.0.access.note(&caller, "delete", vec![key.to_string()], outcome);
        deleted?;
        Ok(Response::new(api::DeleteResponse {}))
    }

    async fn watch(
        &self,
        request: Request<api::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.access.operator(&request, Role::Viewer, "watch")?;
        let api::WatchRequest { kind, namespace } = request.into_inner();
        let watch = Watch { operator: self.clone(), kind: read_kind(&kind)?, namespace };
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let shared = self.0.clone();
        tokio::spawn(async move {
            let watched = tokio::select! {
                watched = watch.run(&sender) => watched,
                status = shared.until_end(&caller) => Err(status),
            };
            if let Err(status) = watched {
                // The watcher may be gone already.
                drop(sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn status(
        &self,
        request: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        self.0.access.operator(&request, Role::Viewer, "status")?;
        let (revision, resources) = self.0.registry.list(None, None).await.map_err(to_status)?;
        Ok(Response::new(api::StatusResponse {
            build: env!("CARGO_PKG_VERSION").to_owned(),
            revision,
            objects: resources.len() as u64,
            insecure: self.0.insecure,
            listening: self.0.addresses.to_vec(),
            nodes: self.0.fleet.status(),
            publish_error: self.0.publisher.failure(),
            refusals: self.0.access.refusals.by_name().into_iter().collect(),
        }))
    }
}

impl Operator {
    fn note_applied(&self, caller: &Caller, applied: &Result<Vec<Applied>, Status>) {
        let changed = |applied: &Vec<Applied>| -> Vec<String> {
            let changed = applied.iter().filter(|one| one.action != Action::Unchanged);
            changed.map(|one| format!("{} {:?}", one.resource.key(), one.action)).collect()
        };
        match applied {
            Ok(applied) => self.0.access.note(caller, "apply", changed(applied), Ok(())),
            Err(status) => self.0.access.note(caller, "apply", Vec::new(), Err(status.message())),
        }
    }

    fn with_status(&self, mut resource: Resource) -> Result<String, Status> {
        resource.status = self.0.publisher.status(&resource.key());
        to_json(&resource)
    }
}

/// One watcher's interest.
struct Watch {
    operator: Operator,
    kind: Option<Kind>,
    namespace: String,
}

impl Watch {
    async fn run(&self, sender: &mpsc::Sender<Result<api::WatchEvent, Status>>) -> Result<(), Status> {
        let shared = &self.operator.0;
        // Before the list, so that nothing is missed between.
        let mut commits = shared.store.watch();
        let namespace = Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let (revision, resources) = shared.registry.list(self.kind, namespace).await.map_err(to_status)?;
        for resource in resources {
            let key = resource.key();
            let event = event(Kindof::Put, Some(&key), self.operator.with_status(resource)?, revision);
            send(sender, event).await?;
        }
        send(sender, event(Kindof::Synced, None, String::new(), revision)).await?;
        loop {
            // A watcher that fell behind reads again from the start.
            let commit = commits.recv().await.map_err(|error| Status::aborted(error.to_string()))?;
            if commit.revision > revision {
                self.send_commit(sender, &commit).await?;
            }
        }
    }

    async fn send_commit(
        &self,
        sender: &mpsc::Sender<Result<api::WatchEvent, Status>>,
        commit: &Commit,
    ) -> Result<(), Status> {
        for change in &commit.changes {
            if let Some(event) = self.to_event(commit.revision, change)? {
                send(sender, event).await?;
            }
        }
        Ok(())
    }

    fn to_event(&self, revision: u64, change: &Change) -> Result<Option<api::WatchEvent>, Status> {
        let Some(key) = key_of(&change.key) else { return Ok(None) };
        let wanted = self.kind.is_none_or(|kind| kind == key.kind)
            && (self.namespace.is_empty() || self.namespace == key.namespace);
        if !wanted {
            return Ok(None);
        }
        let Some(value) = &change.value else {
            return Ok(Some(event(Kindof::Deleted, Some(&key), String::new(), revision)));
        };
        let resource = parse_stored(&change.key, revision, value)
            .map_err(|error| Status::data_loss(error.to_string()))?;
        let json = self.operator.with_status(resource)?;
        Ok(Some(event(Kindof::Put, Some(&key), json, revision)))
    }
}

fn event(change: Kindof, key: Option<&Key>, object_json: String, revision: u64) -> api::WatchEvent {
    api::WatchEvent { change: change as i32, key: key.map(to_key), object_json, revision }
}

async fn send(
    sender: &mpsc::Sender<Result<api::WatchEvent, Status>>,
    event: api::WatchEvent,
) -> Result<(), Status> {
    sender.send(Ok(event)).await.map_err(|_| Status::cancelled("the watcher has left"))
}

fn to_outcome(applied: &Applied) -> Result<api::ApplyOutcome, Status> {
    use api::apply_outcome::Action as Said;
    let action = match applied.action {
        Action::Created => Said::Created,
        Action::Configured => Said::Configured,
        Action::Unchanged => Said::Unchanged,
    };
    Ok(api::ApplyOutcome {
        key: Some(to_key(&applied.resource.key())),
        action: action as i32,
        object_json: to_json(&applied.resource)?,
    })
}

fn to_json(resource: &Resource) -> Result<String, Status> {
    serde_json::to_string(resource).map_err(|error| Status::internal(error.to_string()))
}

fn to_key(key: &Key) -> api::ObjectKey {
    api::ObjectKey {
        kind: key.kind.name().to_owned(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
    }
}

fn read_key(key: Option<api::ObjectKey>) -> Result<Key, Status> {
    let key = key.ok_or_else(|| Status::invalid_argument("key: required, but absent"))?;
    let kind =
        read_kind(&key.kind)?.ok_or_else(|| Status::invalid_argument("key.kind: required, but absent"))?;
    Ok(Key::new(kind, &key.namespace, &key.name))
}

fn read_kind(word: &str) -> Result<Option<Kind>, Status> {
    if word.is_empty() {
        return Ok(None);
    }
    let kind = Kind::from_word(word);
    let known = || Kind::ALL.map(Kind::name).join(", ");
    let kind =
        kind.ok_or_else(|| Status::invalid_argument(format!("no kind {word:?}; there are {}", known())))?;
    Ok(Some(kind))
}

fn to_status(error: RegistryError) -> Status {
    match error {
        RegistryError::Refused(errors) => refusal(Code::InvalidArgument, to_fields(errors)),
        RegistryError::Conflict(errors) => refusal(Code::Aborted, to_fields(errors)),
        RegistryError::NotFound(key) => Status::not_found(format!("{key} does not exist")),
        RegistryError::Store(error) => Status::internal(error.to_string()),
    }
}

/// In the request's order, one line a problem.
fn to_fields(errors: Vec<ObjectError>) -> Vec<api::FieldError> {
    let mut by_index: BTreeMap<usize, Vec<ObjectError>> = BTreeMap::new();
    for error in errors {
        by_index.entry(error.index).or_default().push(error);
    }
    let ordered = by_index.into_values().flatten();
    let fields = ordered.map(|error| api::FieldError {
        object_index: u32::try_from(error.index).unwrap_or(u32::MAX),
        key: error.key.as_ref().map(to_key),
        field: error.field,
        message: error.problem,
    });
    fields.collect()
}
