//! What operators ask for: nodes' tokens, operators' tokens and certificates, revocation, the authority, the audit log.

use std::time::{Duration, SystemTime};

use identity::Pin;
use model::spiffe::SpiffeId;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use xds::proto::identity::{self as api, administration_server};

use super::identity::to_status;
use super::{Identities, Shared};
use crate::access::Caller;
use crate::identities::rotation::Rotate;
use crate::identities::{Issued, OperatorRecord, Role, unix};
use crate::store::StoreError;

const DEFAULT_TOKEN_LIFETIME: u64 = 12 * 3_600;
/// Longer-lived access is by certificates, which are renewed.
const MOST_TOKEN_LIFETIME: u64 = 30 * 86_400;
const DEFAULT_WAIT: u64 = 60;
const MOST_WAIT: u64 = 3_600;

#[derive(Clone, Debug)]
pub struct Administration(pub Shared);

#[tonic::async_trait]
impl administration_server::Administration for Administration {
    type RotateAuthorityStream = ReceiverStream<Result<api::RotationStep, Status>>;

    async fn create_node_token(
        &self,
        request: Request<api::CreateNodeTokenRequest>,
    ) -> Result<Response<api::CreateNodeTokenResponse>, Status> {
        let (caller, identities) = self.admin(&request, "node token")?;
        let node = request.into_inner().node;
        check_name(&node)?;
        let root = identities.issuer.bundle().roots.into_iter().next();
        let root = root.ok_or_else(|| Status::internal("the authority has no root"))?;
        let (tokens, name) = (identities.tokens.clone(), node.clone());
        let created = blocking(move || tokens.create(&name, Pin::of(&root), unix(SystemTime::now()))).await?;
        self.0.access.note(&caller, "node token", vec![format!("node {node}")], Ok(()));
        Ok(Response::new(api::CreateNodeTokenResponse {
            token: created.0.to_string(),
            expires_unix: created.1,
        }))
    }

    async fn list_nodes(
        &self,
        request: Request<api::ListNodesRequest>,
    ) -> Result<Response<api::ListNodesResponse>, Status> {
        self.0.access.operator(&request, Role::Viewer, "node list")?;
        let records = self.0.identities()?.records.clone();
        let (nodes, issued) = blocking(move || Ok((records.nodes()?, records.issued()?))).await?;
        let nodes = nodes.into_iter().map(|(name, record)| {
            let of_node = |one: &&(String, Issued)| one.1.node.as_deref() == Some(&name);
            let is_own = |one: &&(String, Issued)| one.1.id.ends_with(&format!("/ringway/node/{name}"));
            let own = issued.iter().filter(of_node).filter(is_own).max_by_key(|(_, one)| one.expires_unix);
            let all = issued.iter().filter(of_node).filter(|one| !is_own(one)).count();
            api::NodeIdentity {
                joined_by: record.joined_by,
                joined_unix: record.joined_unix,
                serial: own.map(|(serial, _)| serial.clone()).unwrap_or_default(),
                expires_unix: own.map_or(0, |(_, one)| one.expires_unix),
                revoked: record.revoked,
                workload_certificates: all as u64,
                generation: own.map_or(0, |(_, one)| one.generation),
                name,
            }
        });
        Ok(Response::new(api::ListNodesResponse { nodes: nodes.collect() }))
    }

    async fn revoke_node(
        &self,
        request: Request<api::RevokeRequest>,
    ) -> Result<Response<api::RevokeResponse>, Status> {
        let (caller, identities) = self.admin(&request, "node revoke")?;
        let node = request.into_inner().name;
        let (records, tokens, name) = (identities.records.clone(), identities.tokens.clone(), node.clone());
        let known = blocking(move || {
            tokens.forget_node(&name)?;
            let Some(mut record) = records.node(&name)? else { return Ok(false) };
            record.revoked = true;
            records.put_node(&name, &record)?;
            Ok(true)
        });
        if !known.await? {
            return Err(Status::not_found(format!("no node {node} has joined")));
        }
        let name = node.clone();
        let revoked = identities.issuer.revoke(move |issued| issued.node.as_deref() == Some(&name)).await;
        let serials = revoked.map_err(to_status)?;
        self.0.access.note(&caller, "node revoke", vec![format!("node {node}")], Ok(()));
        Ok(Response::new(api::RevokeResponse { serials }))
    }

    async fn create_operator_token(
        &self,
        request: Request<api::CreateOperatorTokenRequest>,
    ) -> Result<Response<api::CreateOperatorTokenResponse>, Status> {
        let (caller, identities) = self.admin(&request, "operator token")?;
        let api::CreateOperatorTokenRequest { name, role, lifetime_seconds } = request.into_inner();
        check_name(&name)?;
        let role = read_role(&role)?;
        let lifetime = if lifetime_seconds == 0 { DEFAULT_TOKEN_LIFETIME } else { lifetime_seconds };
        if lifetime > MOST_TOKEN_LIFETIME {
            return Err(Status::invalid_argument("an operator's token lives for at most 30 days"));
        }
        let expires_unix = unix(SystemTime::now()) + lifetime;
        let record = OperatorRecord { name: name.clone(), role, expires_unix };
        let operators = identities.operators.clone();
        let token = blocking(move || operators.create(&record)).await?;
        self.0.access.note(&caller, "operator token", vec![format!("{role} {name}")], Ok(()));
        Ok(Response::new(api::CreateOperatorTokenResponse { token, expires_unix }))
    }

    async fn sign_operator(
        &self,
        request: Request<api::SignOperatorRequest>,
    ) -> Result<Response<api::SignOperatorResponse>, Status> {
        let (caller, identities) = self.admin(&request, "operator certificate")?;
        let api::SignOperatorRequest { name, role, csr } = request.into_inner();
        check_name(&name)?;
        let role = read_role(&role)?;
        let id = SpiffeId::operator(&identities.issuer.options.trust_domain, role.name(), &name)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let certificate = identities.issuer.issue(id, &csr, None).await.map_err(to_status)?;
        self.0.access.note(&caller, "operator certificate", vec![format!("{role} {name}")], Ok(()));
        let bundle = Some(identities.issuer.bundle());
        Ok(Response::new(api::SignOperatorResponse { certificate: Some(certificate), bundle }))
    }

    async fn list_operators(
        &self,
        request: Request<api::ListOperatorsRequest>,
    ) -> Result<Response<api::ListOperatorsResponse>, Status> {
        let (_, identities) = self.admin(&request, "operator list")?;
        let (operators, records) = (identities.operators.clone(), identities.records.clone());
        let (tokens, issued) = blocking(move || Ok((operators.list()?, records.issued()?))).await?;
        let tokens = tokens.into_iter().map(|record| api::OperatorIdentity {
            name: record.name,
            role: record.role.name().to_owned(),
            way: "token".to_owned(),
            expires_unix: record.expires_unix,
        });
        let certificates = issued.iter().filter_map(|(_, one)| {
            let (role, name) = one.id.split_once("/ringway/operator/")?.1.split_once('/')?;
            Some(api::OperatorIdentity {
                name: name.to_owned(),
                role: role.to_owned(),
                way: "certificate".to_owned(),
                expires_unix: one.expires_unix,
            })
        });
        Ok(Response::new(api::ListOperatorsResponse { operators: tokens.chain(certificates).collect() }))
    }

    async fn revoke_operator(
        &self,
        request: Request<api::RevokeRequest>,
    ) -> Result<Response<api::RevokeResponse>, Status> {
        let (caller, identities) = self.admin(&request, "operator revoke")?;
        let operator = request.into_inner().name;
        let (operators, name) = (identities.operators.clone(), operator.clone());
        let tokens = blocking(move || operators.revoke(&name)).await?;
        let end = format!("/{operator}");
        let is_theirs =
            move |issued: &Issued| issued.id.contains("/ringway/operator/") && issued.id.ends_with(&end);
        let serials = identities.issuer.revoke(is_theirs).await.map_err(to_status)?;
        if tokens == 0 && serials.is_empty() {
            return Err(Status::not_found(format!("no operator {operator} has a token or a certificate")));
        }
        self.0.access.note(&caller, "operator revoke", vec![operator], Ok(()));
        Ok(Response::new(api::RevokeResponse { serials }))
    }

    async fn show_authority(
        &self,
        request: Request<api::ShowAuthorityRequest>,
    ) -> Result<Response<api::Authority>, Status> {
        self.0.access.operator(&request, Role::Viewer, "ca show")?;
        let issuer = &self.0.identities()?.issuer;
        let own = issuer.bundle();
        let state = issuer.states().borrow().clone();
        Ok(Response::new(api::Authority {
            kind: issuer.authority.kind().to_owned(),
            trust_domain: own.trust_domain.clone(),
            generation: state.generation,
            federated: state.bundles.into_iter().filter(|one| one.trust_domain != own.trust_domain).collect(),
            bundle: Some(own),
        }))
    }

    async fn rotate_authority(
        &self,
        request: Request<api::RotateAuthorityRequest>,
    ) -> Result<Response<Self::RotateAuthorityStream>, Status> {
        let (caller, identities) = self.admin(&request, "ca rotate")?;
        let wait = match request.into_inner().wait_seconds {
            0 => DEFAULT_WAIT,
            wait => wait.min(MOST_WAIT),
        };
        let (steps, receiver) = mpsc::channel(1);
        let rotate = Rotate {
            issuer: identities.issuer.clone(),
            followers: identities.followers.clone(),
            wait: Duration::from_secs(wait),
            steps,
        };
        self.0.access.note(&caller, "ca rotate", Vec::new(), Ok(()));
        let shared = self.0.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = rotate.run() => {}
                () = shared.ended() => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn audit(
        &self,
        request: Request<api::AuditRequest>,
    ) -> Result<Response<api::AuditResponse>, Status> {
        self.0.access.operator(&request, Role::Admin, "audit")?;
        let limit = request.into_inner().limit as usize;
        Ok(Response::new(api::AuditResponse { lines: self.0.access.audit.newest(limit) }))
    }
}

impl Administration {
    fn admin<T>(&self, request: &Request<T>, what: &str) -> Result<(Caller, &Identities), Status> {
        let caller = self.0.access.operator(request, Role::Admin, what)?;
        Ok((caller, self.0.identities()?))
    }
}

/// A name that a SPIFFE ID's path can have.
fn check_name(name: &str) -> Result<(), Status> {
    let probe = format!("spiffe://t/{name}");
    let good = name.len() <= 253 && !name.contains('/') && probe.parse::<SpiffeId>().is_ok();
    if good && !name.is_empty() {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{name:?} is no name: letters, digits, '.', '-' and '_'")))
}

fn read_role(role: &str) -> Result<Role, Status> {
    role.parse().map_err(Status::invalid_argument)
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Status> {
    let done = spawn_blocking(act).await.expect("a store does not panic");
    done.map_err(|error| Status::internal(error.to_string()))
}
