//! `ringway node` and `ringway operator`: who may take part.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use identity::{CertificateDer, Key, encode};
use xds::proto::identity as api;

use crate::columns::{align, print_age};
use crate::flags::{Node, Operator, Role};
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

/// Of a private key: its owner alone.
const MODE: u32 = 0o600;

pub async fn node(reach: &Reach, command: Node) -> Result<(), Problem> {
    let mut administration = reach.administration().await?;
    match command {
        Node::Token { node } => {
            let answer =
                administration.create_node_token(api::CreateNodeTokenRequest { node }).await?.into_inner();
            print::out(&answer.token)
        }
        Node::List => {
            let nodes = administration.list_nodes(api::ListNodesRequest {}).await?.into_inner().nodes;
            print::out(&nodes_table(&nodes))
        }
        Node::Revoke { node } => {
            let answer =
                administration.revoke_node(api::RevokeRequest { name: node.clone() }).await?.into_inner();
            print::out(&format!("node {node}: revoked, with {} certificates", answer.serials.len()))
        }
    }
}

fn nodes_table(nodes: &[api::NodeIdentity]) -> String {
    let head = ["NODE", "JOINED BY", "AGE", "CERTIFICATE", "EXPIRES IN", "WORKLOADS", "REVOKED"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in nodes {
        rows.push(vec![
            node.name.clone(),
            node.joined_by.clone(),
            print_age(unix_now().saturating_sub(node.joined_unix)),
            if node.serial.is_empty() { "-".to_owned() } else { node.serial.clone() },
            left(node.expires_unix),
            node.workload_certificates.to_string(),
            if node.revoked { "yes" } else { "no" }.to_owned(),
        ]);
    }
    align(&rows)
}

pub async fn operator(reach: &Reach, command: Operator) -> Result<(), Problem> {
    let mut administration = reach.administration().await?;
    match command {
        Operator::Token { name, role, lifetime } => {
            let request = api::CreateOperatorTokenRequest {
                name,
                role: role.name().to_owned(),
                lifetime_seconds: lifetime.as_secs().max(1),
            };
            let answer = administration.create_operator_token(request).await?.into_inner();
            print::out(&answer.token)
        }
        Operator::Certificate { name, role, write } => {
            // First the file: a certificate that nobody can keep is not asked for.
            let mut file = create(&write)?;
            let written = match certify(&mut administration, name, role).await {
                Ok(pem) => file.write_all(pem.as_bytes()).map_err(|error| unusable(&write, &error)),
                Err(problem) => Err(problem),
            };
            written.inspect_err(|_| drop(std::fs::remove_file(&write)))
        }
        Operator::List => {
            let request = api::ListOperatorsRequest {};
            let operators = administration.list_operators(request).await?.into_inner().operators;
            let mut rows = vec![["OPERATOR", "ROLE", "BY", "EXPIRES IN"].map(str::to_owned).to_vec()];
            rows.extend(
                operators.into_iter().map(|one| vec![one.name, one.role, one.way, left(one.expires_unix)]),
            );
            print::out(&align(&rows))
        }
        Operator::Revoke { name } => {
            let request = api::RevokeRequest { name: name.clone() };
            let answer = administration.revoke_operator(request).await?.into_inner();
            print::out(&format!("operator {name}: revoked, with {} certificates", answer.serials.len()))
        }
    }
}

/// Certificate chain and key as one PEM text.
async fn certify(
    administration: &mut xds::operator::Administration,
    name: String,
    role: Role,
) -> Result<String, Problem> {
    let failed = |error: identity::request::KeyError| Problem::Refused(error.to_string());
    let key = Key::generate().map_err(failed)?;
    let csr = key.request().map_err(failed)?;
    let request = api::SignOperatorRequest { name, role: role.name().to_owned(), csr };
    let answer = administration.sign_operator(request).await?.into_inner();
    let chain: Vec<CertificateDer<'_>> =
        answer.certificate.unwrap_or_default().chain.into_iter().map(CertificateDer::from).collect();
    Ok(encode::certificates_to_pem(&chain) + &key.to_pem())
}

/// A new one: a file that is there may be readable by others already.
fn create(path: &Path) -> Result<File, Problem> {
    let created = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path);
    created.map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Problem {
    Problem::Usage(format!("{}: {error}", path.display()))
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn left(expires_unix: u64) -> String {
    match expires_unix.checked_sub(unix_now()) {
        _ if expires_unix == 0 => "-".to_owned(),
        None => "expired".to_owned(),
        Some(seconds) => print_age(seconds),
    }
}
