//! Who may do what: operators by role, nodes for themselves, strangers nothing but join.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use ::identity::Svid;
use ::identity::tls::Visitor;
use model::spiffe::{Holder, TrustDomain};
use tonic::{Extensions, Request, Status};
use xds::convert::Audience;

use crate::audit::{Audit, Entry};
use crate::identities::{Issuer, Operators, Role, unix};
use crate::refusal::{Refusal, Refusals};

const AUTHORIZATION: &str = "authorization";
const BEARER: &str = "Bearer ";

/// What a connection shows of its other end.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `192.0.2.1:4711`, or `unix`.
    pub address: String,
    pub credential: Credential,
}

#[derive(Clone, Debug)]
pub enum Credential {
    /// Nobody is asked: `--plain`.
    Plain,
    /// The Unix socket's owner or root, by the kernel's word.
    Local(u32),
    /// TLS without a certificate.
    None,
    Shown(Visitor),
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Caller {
    pub who: Who,
    pub address: String,
    /// What it showed, by which it may be revoked while it is connected.
    svid: Option<Svid>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    Anybody,
    Operator {
        name: String,
        role: Role,
    },
    Node(String),
    /// A workload, or a foreign holder of an SVID.
    Holder(String),
    Machine(Vec<String>),
    Stranger,
}

impl Caller {
    pub fn name(&self) -> String {
        match &self.who {
            Who::Anybody => "anybody".to_owned(),
            Who::Operator { name, role } => format!("{role} {name}"),
            Who::Node(name) => format!("node {name}"),
            Who::Holder(id) => id.clone(),
            Who::Machine(names) => format!("machine {}", names.join(", ")),
            Who::Stranger => "stranger".to_owned(),
        }
    }
}

/// Decides, counts refusals, and keeps the audit log.
#[derive(Debug)]
pub struct Access {
    pub refusals: Arc<Refusals>,
    pub audit: Arc<Audit>,
    identities: Option<Identities>,
    noted: Mutex<Noted>,
}

/// Refusals that went into the audit log since a moment.
#[derive(Debug)]
struct Noted {
    since: Instant,
    count: u32,
}

/// Refusals in the audit log each minute. Whoever may do nothing may still ask, and must not push what others did out of
/// a log of bounded size; the counters count all of them.
const MOST_NOTED: u32 = 300;
const NOTED_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Identities {
    pub domain: TrustDomain,
    pub operators: Arc<Operators>,
    pub issuer: Arc<Issuer>,
}

impl Access {
    /// Without `identities` everybody may do everything: `--plain`.
    pub fn new(refusals: Arc<Refusals>, audit: Arc<Audit>, identities: Option<Identities>) -> Access {
        let noted = Mutex::new(Noted { since: Instant::now(), count: 0 });
        Access { refusals, audit, identities, noted }
    }

    /// Who sent this request.
    pub fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let peer = peer(request.extensions());
        let who = match &peer.credential {
            Credential::Plain => Who::Anybody,
            Credential::Local(uid) => Who::Operator { name: format!("uid {uid}"), role: Role::Admin },
            Credential::Shown(Visitor::Machine(names)) => Who::Machine(names.clone()),
            Credential::Shown(Visitor::Svid(svid)) => {
                let who = self.holder(svid);
                return Ok(Caller { who, address: peer.address, svid: Some(svid.clone()) });
            }
            Credential::None => self.bearer(request)?,
        };
        Ok(Caller { who, address: peer.address, svid: None })
    }

    fn holder(&self, svid: &Svid) -> Who {
        let ours = self.identities.as_ref().is_some_and(|ours| ours.domain == *svid.id.trust_domain());
        match svid.id.holder() {
            Holder::Node(name) if ours => Who::Node(name.to_owned()),
            Holder::Operator { role, name } if ours => match role.parse() {
                Ok(role) => Who::Operator { name: name.to_owned(), role },
                Err(_) => Who::Holder(svid.id.to_string()),
            },
            _ => Who::Holder(svid.id.to_string()),
        }
    }

    fn bearer<T>(&self, request: &Request<T>) -> Result<Who, Status> {
        let Some(value) = request.metadata().get(AUTHORIZATION) else { return Ok(Who::Stranger) };
        let token = value.to_str().ok().and_then(|value| value.strip_prefix(BEARER));
        let found = match (token, &self.identities) {
            (Some(token), Some(ours)) => ours.operators.find(token, unix(SystemTime::now())),
            _ => Err(Refusal::OperatorTokenUnknown),
        };
        match found {
            Ok(operator) => Ok(Who::Operator { name: operator.name, role: operator.role }),
            Err(refusal) => {
                self.refusals.count(refusal);
                Err(Status::unauthenticated("the operator's token is unknown or has expired"))
            }
        }
    }

    /// The caller, if it is an operator of at least `role`.
    pub fn operator<T>(&self, request: &Request<T>, role: Role, what: &str) -> Result<Caller, Status> {
        let caller = self.caller(request)?;
        let refusal = match &caller.who {
            Who::Anybody => return Ok(caller),
            Who::Operator { role: has, .. } if *has >= role => return Ok(caller),
            Who::Stranger => Refusal::NoCredential,
            _ => Refusal::Role,
        };
        Err(self.refuse(&caller, what, refusal, &format!("{what} asks for an operator of role {role}")))
    }

    /// The caller's node, for what a node does for itself.
    pub fn node<T>(&self, request: &Request<T>, what: &str) -> Result<(Caller, String), Status> {
        let caller = self.caller(request)?;
        match &caller.who {
            Who::Node(name) => {
                let name = name.clone();
                Ok((caller, name))
            }
            _ => Err(self.refuse(
                &caller,
                what,
                Refusal::NoCredential,
                &format!("{what} asks for a node's certificate"),
            )),
        }
    }

    /// Whether the caller may have the tables of `node`: a data plane only its own, a gRPC client those of its namespace.
    pub fn tables(
        &self,
        caller: &Caller,
        audience: Audience,
        node: &str,
        namespace: &str,
    ) -> Result<(), Status> {
        let allowed = match &caller.who {
            Who::Anybody => true,
            Who::Node(name) => audience != Audience::Grpc && name == node,
            Who::Holder(id) => audience == Audience::Grpc && self.lives_in(id, namespace),
            Who::Operator { .. } | Who::Machine(_) | Who::Stranger => false,
        };
        if allowed {
            return Ok(());
        }
        let says = format!("{} may not have the tables of {node}", caller.name());
        Err(self.refuse(caller, "tables", Refusal::TablesOfAnother, &says))
    }

    fn lives_in(&self, id: &str, namespace: &str) -> bool {
        let Ok(id) = id.parse::<model::spiffe::SpiffeId>() else { return false };
        let ours = self.identities.as_ref().is_some_and(|ours| ours.domain == *id.trust_domain());
        ours && matches!(id.holder(), Holder::Workload { namespace: lives, .. } if lives == namespace)
    }

    /// Whether the caller may report for `node`.
    pub fn reports(&self, caller: &Caller, node: &str) -> Result<(), Status> {
        match &caller.who {
            Who::Anybody => Ok(()),
            Who::Node(name) if name == node => Ok(()),
            _ => {
                let says = format!("{} may not report for {node}", caller.name());
                Err(self.refuse(caller, "report", Refusal::ReportOfAnother, &says))
            }
        }
    }

    /// Counts, notes and words a refusal.
    pub fn refuse(&self, caller: &Caller, what: &str, refusal: Refusal, says: &str) -> Status {
        self.refusals.count(refusal);
        if self.may_note() {
            self.note(caller, what, Vec::new(), Err(refusal.name()));
        }
        match refusal {
            Refusal::NoCredential => Status::unauthenticated(says.to_owned()),
            _ => Status::permission_denied(says.to_owned()),
        }
    }

    fn may_note(&self) -> bool {
        let mut noted = self.noted.lock().expect("no holder of this lock panics");
        if noted.since.elapsed() >= NOTED_WITHIN {
            *noted = Noted { since: Instant::now(), count: 0 };
        }
        noted.count += 1;
        noted.count <= MOST_NOTED
    }

    /// Into the audit log.
    pub fn note(&self, caller: &Caller, what: &str, on: Vec<String>, outcome: Result<(), &str>) {
        let outcome = match outcome {
            Ok(()) => "done".to_owned(),
            Err(reason) => format!("refused: {reason}"),
        };
        self.audit.write(Entry { who: &caller.name(), from: &caller.address, what, on, outcome });
    }

    /// Returns when a long conversation with this caller must end: its certificate is revoked, or has expired.
    pub async fn until_refused(&self, caller: &Caller) -> Status {
        let (Some(svid), Some(ours)) = (&caller.svid, &self.identities) else {
            return std::future::pending().await;
        };
        let mut states = ours.issuer.states();
        let left = svid.not_after.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
        let revoked = async {
            loop {
                if ours.issuer.trust.current().is_revoked(&svid.serial) {
                    return;
                }
                if states.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        };
        tokio::select! {
            () = revoked => Status::unauthenticated("the certificate has been revoked"),
            () = tokio::time::sleep(left) => Status::unavailable("the certificate has expired: connect with the next one"),
        }
    }
}

fn peer(extensions: &Extensions) -> Peer {
    let unknown = || Peer { address: "unknown".to_owned(), credential: Credential::None };
    extensions.get::<Peer>().cloned().unwrap_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_push_others_out_of_the_audit_log() {
        let audit = Arc::new(Audit::open(None).expect("memory opens"));
        let access = Access::new(Arc::default(), audit.clone(), None);
        let stranger = Caller { who: Who::Stranger, address: "192.0.2.1:1".to_owned(), svid: None };
        access.note(&stranger, "first", Vec::new(), Ok(()));
        for _ in 0..2 * MOST_NOTED {
            access.refuse(&stranger, "join", Refusal::NoCredential, "no");
        }
        assert_eq!(access.refusals.by_name()["no_credential"], u64::from(2 * MOST_NOTED));
        assert_eq!(audit.newest(10_000).len(), MOST_NOTED as usize + 1);
    }
}
