//! What nodes ask for: to join, their next certificate, those of their workloads, and whom to believe.

use std::sync::Arc;
use std::time::SystemTime;

use model::resource::Spec;
use model::spiffe::SpiffeId;
use model::{Key, Kind};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xds::proto::identity::{self as api, identity_server};

use super::{Identities, Shared};
use crate::access::{Caller, Who};
use crate::identities::rotation::Followers;
use crate::identities::{IssueError, NodeRecord, TokenError, unix};
use crate::refusal::Refusal;
use crate::registry::RegistryError;

const MOST_NAME_BYTES: usize = 253;

#[derive(Clone, Debug)]
pub struct Identity(pub Shared);

#[tonic::async_trait]
impl identity_server::Identity for Identity {
    type TrustStream = ReceiverStream<Result<api::TrustState, Status>>;

    async fn join(&self, request: Request<api::JoinRequest>) -> Result<Response<api::JoinResponse>, Status> {
        let identities = self.0.identities()?;
        let caller = self.0.access.caller(&request)?;
        let api::JoinRequest { node, token, csr } = request.into_inner();
        let domain = &identities.issuer.options.trust_domain;
        let id = SpiffeId::node(domain, &node).ok().filter(|_| node.len() <= MOST_NAME_BYTES);
        let id = id.ok_or_else(|| Status::invalid_argument(format!("{node:?} is no node's name")))?;
        // A request that cannot be signed must not cost the token.
        let readable = identity::SigningRequest::read(&csr);
        if let Err(reason) = readable {
            return Err(self.0.access.refuse(&caller, "join", Refusal::Svid(reason), &reason.to_string()));
        }
        let joined_by = self.admit(identities, &caller, &node, token).await?;
        let certificate = identities.issuer.issue(id, &csr, Some(&node)).await.map_err(to_status)?;
        let record = NodeRecord {
            joined_by: joined_by.to_owned(),
            joined_unix: unix(SystemTime::now()),
            revoked: false,
        };
        let (records, name) = (identities.records.clone(), node.clone());
        spawn_blocking(move || records.put_node(&name, &record))
            .await
            .expect("a store does not panic")
            .map_err(|error| Status::internal(error.to_string()))?;
        self.0.access.note(&caller, "join", vec![format!("node {node} by {joined_by}")], Ok(()));
        let trust = Some(identities.issuer.states().borrow().clone());
        Ok(Response::new(api::JoinResponse { certificate: Some(certificate), trust }))
    }

    async fn renew(&self, request: Request<api::RenewRequest>) -> Result<Response<api::Certificate>, Status> {
        let identities = self.0.identities()?;
        let (caller, node) = self.0.access.node(&request, "renew")?;
        let id = SpiffeId::node(&identities.issuer.options.trust_domain, &node)
            .map_err(|error| Status::internal(error.to_string()))?;
        let issued = identities.issuer.issue(id, &request.into_inner().csr, Some(&node)).await;
        self.note_issued(&caller, "renew", format!("node {node}"), issued).map(Response::new)
    }

    async fn sign_workload(
        &self,
        request: Request<api::SignWorkloadRequest>,
    ) -> Result<Response<api::Certificate>, Status> {
        let identities = self.0.identities()?;
        let (caller, node) = self.0.access.node(&request, "sign workload")?;
        let api::SignWorkloadRequest { namespace, workload, csr } = request.into_inner();
        let key = Key::new(Kind::Workload, &namespace, &workload);
        let account = self.account_of(&caller, &node, &key).await?;
        let id = SpiffeId::workload(&identities.issuer.options.trust_domain, &namespace, &account)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let on = format!("{key} as {id}");
        let issued = identities.issuer.issue(id, &csr, Some(&node)).await;
        self.note_issued(&caller, "sign workload", on, issued).map(Response::new)
    }

    async fn trust(
        &self,
        request: Request<Streaming<api::TrustTaken>>,
    ) -> Result<Response<Self::TrustStream>, Status> {
        let identities = self.0.identities()?;
        let (caller, node) = self.0.access.node(&request, "trust")?;
        let (sender, receiver) = mpsc::channel(1);
        let shared = self.0.clone();
        let states = identities.issuer.states();
        let follower = Follower::new(&identities.followers, node);
        let mut taken = request.into_inner();
        tokio::spawn(async move {
            let told = tokio::select! {
                told = tell(states, &follower, &mut taken, &sender) => told,
                status = shared.until_end(&caller) => Err(status),
            };
            if let Err(status) = told {
                // The node may be gone already.
                drop(sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

impl Identity {
    /// How the caller may join as `node`.
    async fn admit(
        &self,
        identities: &Identities,
        caller: &Caller,
        node: &str,
        token: String,
    ) -> Result<&'static str, Status> {
        let access = &self.0.access;
        if !token.is_empty() {
            let (tokens, name) = (identities.tokens.clone(), node.to_owned());
            let redeemed = spawn_blocking(move || tokens.redeem(&token, &name, unix(SystemTime::now())));
            return match redeemed.await.expect("a store does not panic") {
                Ok(()) => Ok("token"),
                Err(TokenError::Refused(refusal, says)) => Err(access.refuse(caller, "join", refusal, says)),
                Err(TokenError::Store(error)) => Err(Status::internal(error.to_string())),
            };
        }
        let refuse = |says: &str| Err(access.refuse(caller, "join", Refusal::JoinMachine, says));
        let Who::Machine(names) = &caller.who else {
            return Err(access.refuse(
                caller,
                "join",
                Refusal::NoCredential,
                "joining asks for a token or a machine's certificate",
            ));
        };
        if !names.iter().any(|name| name == node) {
            return refuse("the machine's certificate has another name than the node");
        }
        if self.0.registry.find(&Key::new(Kind::Node, "", node)).await.is_err() {
            return refuse("the machine's certificate is good, but no Node resource of its name exists");
        }
        let (records, name) = (identities.records.clone(), node.to_owned());
        let known = spawn_blocking(move || records.node(&name)).await.expect("a store does not panic");
        match known {
            Ok(Some(known)) if known.revoked => {
                refuse("the node was revoked: only a token lets it join again")
            }
            Ok(_) => Ok("x509"),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    /// The account of a workload that the registry places on `node`.
    async fn account_of(&self, caller: &Caller, node: &str, key: &Key) -> Result<String, Status> {
        let access = &self.0.access;
        let refuse =
            |refusal, says: &str| access.refuse(caller, "sign workload", refusal, &format!("{key}: {says}"));
        let found = match self.0.registry.find(key).await {
            Ok(found) => found,
            Err(RegistryError::NotFound(_)) => {
                return Err(refuse(Refusal::WorkloadUnknown, "does not exist"));
            }
            Err(error) => return Err(Status::internal(error.to_string())),
        };
        match found.spec {
            Spec::Workload(workload) if workload.node.as_deref() == Some(node) => {
                Ok(workload.service_account)
            }
            _ => Err(refuse(Refusal::WorkloadElsewhere, "the registry does not place it on this node")),
        }
    }

    fn note_issued(
        &self,
        caller: &Caller,
        what: &str,
        on: String,
        issued: Result<api::Certificate, IssueError>,
    ) -> Result<api::Certificate, Status> {
        let reason = issued.as_ref().err().map(ToString::to_string);
        self.0.access.note(caller, what, vec![on], reason.as_deref().map_or(Ok(()), Err));
        issued.map_err(to_status)
    }
}

pub(super) fn to_status(error: IssueError) -> Status {
    match error {
        IssueError::Request(_) => Status::invalid_argument(error.to_string()),
        IssueError::Authority(_) | IssueError::Answer(_) => Status::unavailable(error.to_string()),
        IssueError::Store(_) | IssueError::Trust(_) | IssueError::Tls(_) => {
            Status::internal(error.to_string())
        }
    }
}

/// Sends the state of trust at once and at each change, and hears what is in force at the node.
async fn tell(
    mut states: watch::Receiver<api::TrustState>,
    follower: &Follower,
    taken: &mut Streaming<api::TrustTaken>,
    sender: &mpsc::Sender<Result<api::TrustState, Status>>,
) -> Result<(), Status> {
    states.mark_changed();
    loop {
        tokio::select! {
            message = taken.message() => match message? {
                Some(message) => follower.followers.on_taken(&follower.node, message.revision),
                None => return Ok(()),
            },
            changed = states.changed() => {
                changed.map_err(|_| Status::unavailable("trust is not told any more"))?;
                let state = states.borrow_and_update().clone();
                if sender.send(Ok(state)).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// A node that is waited for while this lives.
struct Follower {
    followers: Arc<Followers>,
    node: String,
}

impl Follower {
    fn new(followers: &Arc<Followers>, node: String) -> Follower {
        followers.on_taken(&node, 0);
        Follower { followers: followers.clone(), node }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.on_left(&self.node);
    }
}
