//! Whether this machine is fit to run a data plane: each check says what it found and what to do.

use std::fs;

use socket2::{Domain, Socket, Type};

use crate::{Error, Netlink, WORKLOAD_MTU};

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub status: CheckStatus,
    /// What is so.
    pub found: String,
    /// What to do about it; empty when there is nothing to do.
    pub advice: &'static str,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckStatus {
    Good,
    /// It runs, but slower or with a limit.
    Warning,
    /// It does not run.
    Failed,
}

/// The oldest kernel that Ringway is tested on: Debian 12's.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Generic multi-buffer XDP, which makes bulk from workloads cheap.
const MULTI_BUFFER_KERNEL: (u32, u32) = (6, 9);
/// include/linux/socket.h: `AF_XDP`.
const AF_XDP: i32 = 44;
/// What one worker's packet memory takes (`nic`): 64 MiB in pages of 2 MiB.
const WANTED_HUGEPAGES: u64 = 32;

/// include/uapi/linux/capability.h: what opening and binding AF_XDP sockets, attaching XDP and netlink need.
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (14, "CAP_IPC_LOCK"), (39, "CAP_BPF")];
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Looks at kernel, privileges and memory; needs no interface.
pub fn check_host() -> Vec<Check> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    vec![
        check_kernel(read("/proc/sys/kernel/osrelease").trim()),
        check_privileges(&read("/proc/self/status")),
        check_af_xdp(),
        check_bpf(
            &read("/proc/sys/net/core/bpf_jit_enable"),
            fs::exists("/sys/kernel/btf/vmlinux").unwrap_or(false),
        ),
        check_hugepages(&read("/proc/meminfo")),
        check_ip_forward(read("/proc/sys/net/ipv4/ip_forward").trim()),
    ]
}

/// Looks at one interface that Ringway is to use.
pub async fn check_interface(netlink: &Netlink, name: &str) -> Result<Vec<Check>, Error> {
    let uplink = netlink.uplink(name).await?;
    let mut checks = Vec::new();
    for member in &uplink.members {
        let state = format!(
            "{} {}",
            member.name,
            if member.is_running() { "runs" } else { "has no carrier or is down" }
        );
        let status = if member.is_running() { CheckStatus::Good } else { CheckStatus::Failed };
        checks.push(check("link", status, state, "bring it up: `ip link set DEV up`, and look at the cable"));
        let (status, found) = match member.xdp_program {
            None => (CheckStatus::Good, format!("{}: no XDP program", member.name)),
            Some(id) => (CheckStatus::Failed, format!("{}: XDP program {id} is attached", member.name)),
        };
        checks.push(check(
            "xdp",
            status,
            found,
            "end its owner, or remove it with `ip link set DEV xdp off`",
        ));
        let queues = netlink.queue_pairs(member)?;
        checks.push(check("queues", CheckStatus::Good, format!("{}: {queues} queue pairs", member.name), ""));
    }
    let rp_filter =
        fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).unwrap_or_default();
    checks.push(check_rp_filter(rp_filter.trim()));
    let (status, found) = match uplink.mtu() {
        mtu if mtu <= WORKLOAD_MTU => (CheckStatus::Good, format!("MTU {mtu}")),
        mtu => (CheckStatus::Failed, format!("MTU {mtu}")),
    };
    checks.push(check("mtu", status, found, "an IP packet has at most 65,535 bytes"));
    Ok(checks)
}

fn check(name: &'static str, status: CheckStatus, found: String, advice: &'static str) -> Check {
    Check { name, status, found, advice: if status == CheckStatus::Good { "" } else { advice } }
}

fn check_kernel(release: &str) -> Check {
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or_default());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let (status, advice) = if version < OLDEST_KERNEL {
        (CheckStatus::Failed, "Ringway needs Linux 6.1 (Debian 12) or newer")
    } else if version < MULTI_BUFFER_KERNEL {
        (
            CheckStatus::Warning,
            "before Linux 6.9 a veth carries one frame a packet: bulk from workloads costs more",
        )
    } else {
        (CheckStatus::Good, "")
    };
    check("kernel", status, format!("Linux {release}"), advice)
}

fn check_privileges(status: &str) -> Check {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let effective = u64::from_str_radix(line.trim(), 16).unwrap_or_default();
    let has = |bit: u32| effective & (1 << bit) != 0;
    let missing: Vec<&str> = CAPABILITIES
        .iter()
        .filter(|(bit, _)| !has(*bit) && (*bit != CAP_BPF || !has(CAP_SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect();
    let advice = "run as root, or give the service these capabilities (systemd: AmbientCapabilities=)";
    if missing.is_empty() {
        check("privileges", CheckStatus::Good, "all capabilities that are needed".into(), "")
    } else {
        check("privileges", CheckStatus::Failed, format!("missing {}", missing.join(", ")), advice)
    }
}

fn check_af_xdp() -> Check {
    let advice = "the kernel needs CONFIG_XDP_SOCKETS, and the process CAP_NET_RAW";
    match Socket::new(Domain::from(AF_XDP), Type::from(nix::libc::SOCK_RAW), None) {
        Ok(_) => check("af_xdp", CheckStatus::Good, "sockets open".into(), ""),
        Err(error) => check("af_xdp", CheckStatus::Failed, format!("socket(AF_XDP): {error}"), advice),
    }
}

fn check_bpf(jit: &str, btf: bool) -> Check {
    match (jit.trim(), btf) {
        ("0", _) => check(
            "bpf",
            CheckStatus::Warning,
            "the BPF compiler is off".into(),
            "switch it on: `sysctl net.core.bpf_jit_enable=1`; interpreted XDP costs several times more a packet",
        ),
        (_, false) => check(
            "bpf",
            CheckStatus::Warning,
            "no BTF (/sys/kernel/btf/vmlinux)".into(),
            "the program loads without it; tools cannot name its types",
        ),
        _ => check("bpf", CheckStatus::Good, "compiled, with BTF".into(), ""),
    }
}

fn check_hugepages(meminfo: &str) -> Check {
    let free = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("HugePages_Free:"))
        .and_then(|count| count.trim().parse::<u64>().ok())
        .unwrap_or_default();
    let status = if free >= WANTED_HUGEPAGES { CheckStatus::Good } else { CheckStatus::Warning };
    let advice =
        "packet memory falls back to 4 KiB pages; reserve 32 for each worker: `sysctl vm.nr_hugepages=32`";
    check("hugepages", status, format!("{free} free"), advice)
}

fn check_ip_forward(value: &str) -> Check {
    let advice = "with `outbound: allow` the kernel forwards what the mesh does not take: `sysctl net.ipv4.ip_forward=1`";
    if value == "1" {
        check("ip_forward", CheckStatus::Good, "on".into(), "")
    } else {
        check("ip_forward", CheckStatus::Warning, "off".into(), advice)
    }
}

/// RFC 3704. Packets of the mesh never pass the kernel's filter; those that XDP passes do.
fn check_rp_filter(value: &str) -> Check {
    let advice = "strict: the kernel drops what XDP passes to it unless its route back is the same interface; \
                  use loose: `sysctl net.ipv4.conf.DEV.rp_filter=2`";
    if value == "1" {
        check("rp_filter", CheckStatus::Warning, "strict".into(), advice)
    } else {
        check("rp_filter", CheckStatus::Good, "not strict".into(), "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_12s_kernel_warns_and_an_older_one_fails() {
        assert_eq!(check_kernel("6.1.0-40-amd64").status, CheckStatus::Warning);
        assert_eq!(check_kernel("5.15.0").status, CheckStatus::Failed);
        assert_eq!(check_kernel("6.18.44-fc").status, CheckStatus::Good);
    }

    #[test]
    fn a_missing_capability_is_named() {
        let found = check_privileges("CapEff:\t0000000000001000\n").found;
        assert_eq!(found, "missing CAP_NET_RAW, CAP_IPC_LOCK, CAP_BPF");
        assert_eq!(check_privileges("CapEff:\t000001ffffffffff\n").status, CheckStatus::Good);
    }

    #[test]
    fn sys_admin_stands_for_bpf() {
        let without_bpf = (1u64 << 12) | (1 << 13) | (1 << 14) | (1 << CAP_SYS_ADMIN);
        assert_eq!(check_privileges(&format!("CapEff: {without_bpf:016x}")).status, CheckStatus::Good);
    }

    #[test]
    fn too_few_hugepages_warn_with_what_to_do() {
        let check = check_hugepages("HugePages_Total:  4\nHugePages_Free:  2\n");
        assert_eq!((check.status, check.found.as_str()), (CheckStatus::Warning, "2 free"));
        assert!(check.advice.contains("vm.nr_hugepages"));
    }
}
