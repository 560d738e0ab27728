//! `ringway host`: whether this machine is fit for a data plane, and interfaces for workloads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use host::{CheckStatus, Netlink, WorkloadInterface};

use crate::columns::align;
use crate::flags::{AddWorkload, Host};
use crate::print;
use crate::problem::Problem;

/// Where `ip netns` keeps the namespaces it names.
const NAMESPACES: &str = "/run/netns";

pub async fn run(host: Host) -> Result<(), Problem> {
    match host {
        Host::Check { interfaces } => check(&interfaces).await,
        Host::Add(add) => {
            let link = open()?.create_workload(&interface(add)).await.map_err(refused)?;
            print::out(&format!("{}: made, MTU {}, {} queues", link.name, link.mtu, link.receive_queues))
        }
        Host::Remove { name } => {
            open()?.remove_link(&name).await.map_err(refused)?;
            print::out(&format!("{name}: removed"))
        }
    }
}

/// Refused when a check failed, so that scripts can tell.
async fn check(interfaces: &[String]) -> Result<(), Problem> {
    let mut checks = host::check_host();
    let netlink = open()?;
    for interface in interfaces {
        checks.extend(host::check_interface(&netlink, interface).await.map_err(refused)?);
    }
    let mut rows = vec![["CHECK", "RESULT", "FOUND", "WHAT TO DO"].map(str::to_owned).to_vec()];
    for check in &checks {
        let result = match check.status {
            CheckStatus::Good => "good",
            CheckStatus::Warning => "warning",
            CheckStatus::Failed => "failed",
        };
        rows.push(vec![check.name.into(), result.into(), check.found.clone(), check.advice.into()]);
    }
    print::out(&align(&rows))?;
    let failed = checks.iter().filter(|check| check.status == CheckStatus::Failed).count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Problem::Refused(format!("{failed} checks failed: ringwayd cannot run here")))
    }
}

fn interface(add: AddWorkload) -> WorkloadInterface {
    let namespace = add.netns.map(|name| {
        let path = PathBuf::from(&name);
        if path.is_absolute() { path } else { Path::new(NAMESPACES).join(name) }
    });
    let everything: [(IpAddr, u8); 2] =
        [(Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv6Addr::UNSPECIFIED.into(), 0)];
    let prefixes = match add.route.is_empty() {
        true => everything.to_vec(),
        false => add.route.iter().map(|prefix| (prefix.address(), prefix.length())).collect(),
    };
    WorkloadInterface {
        host: add.name,
        workload: add.device,
        namespace,
        mtu: add.mtu,
        queues: add.queues,
        addresses: add.address,
        prefixes,
    }
}

fn open() -> Result<Netlink, Problem> {
    Netlink::open().map_err(refused)
}

fn refused(error: host::Error) -> Problem {
    Problem::Refused(error.to_string())
}
