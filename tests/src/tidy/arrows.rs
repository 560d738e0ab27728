//! Who may name whom: DESIGN, section 3.

use super::source::{Dependency, Member};
use super::violation::Violation;

/// What a crate may depend on among ours: the design's list, and docs/decisions/004 and 016.
enum May {
    Name(&'static [&'static str]),
    NameAll,
}

fn arrows(name: &str) -> Option<May> {
    Some(May::Name(match name {
        "bpf" | "heap" | "xsk" | "dpdk-sys" | "memif" | "stack" | "model" => &[],
        "dpdk" => &["dpdk-sys"],
        "socket" => &["stack"],
        "sim" => &["stack", "socket", "nic"],
        "nic" => &["bpf", "xsk", "dpdk", "memif"],
        "worker" => &["nic", "stack", "socket"],
        "proxy" => &["socket", "model", "identity"],
        "host" | "identity" => &["model"],
        "xds" => &["model", "identity"],
        "daemon" => &["heap", "nic", "worker", "proxy", "host", "socket", "xds", "model", "identity"],
        "server" => &["model", "xds", "identity"],
        "cli" => &["model", "xds", "host", "identity"],
        "tests" | "benches" => return Some(May::NameAll),
        _ => return None,
    }))
}

/// Other people's crates that would break a layer's promise.
fn refused(name: &str) -> &'static [&'static str] {
    match name {
        // No future, clock, thread or logger.
        "stack" => &["tokio", "futures", "futures-util", "tracing", "log", "socket2", "crossbeam"],
        "identity" => &["tonic", "tokio", "hyper", "futures", "futures-util"],
        "model" => &["tonic", "tokio", "hyper", "futures", "futures-util"],
        "proxy" => &["smoltcp", "xsk-rs", "aya"],
        _ => &[],
    }
}

pub fn check(members: &[Member]) -> Vec<Violation> {
    members.iter().flat_map(check_member).collect()
}

fn check_member(member: &Member) -> Vec<Violation> {
    let Some(may) = arrows(&member.name) else {
        return vec![Violation::new(&member.folder, "a crate that DESIGN section 3 does not draw")];
    };
    let refused = refused(&member.name);
    member
        .dependencies
        .iter()
        .filter_map(|dependency| match (dependency, &may) {
            (Dependency::Ours(name), May::Name(list)) if !list.contains(&name.as_str()) => {
                let allowed = if list.is_empty() { "nothing of ours".to_owned() } else { list.join(", ") };
                Some(Violation::new(&member.folder, format!("depends on {name}; it may name {allowed}")))
            }
            (Dependency::Other(name), _) if refused.contains(&name.as_str()) => Some(Violation::new(
                &member.folder,
                format!("depends on {name}, which its layer must not know"),
            )),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, dependencies: Vec<Dependency>) -> Member {
        Member { name: name.into(), folder: format!("x/{name}"), dependencies, files: Vec::new() }
    }

    #[test]
    fn an_arrow_that_is_not_drawn_is_found() {
        let proxy = member("proxy", vec![Dependency::Ours("nic".into()), Dependency::Ours("model".into())]);
        let found = check(&[proxy]);
        assert_eq!(found.len(), 1);
        assert!(found[0].to_string().contains("x/proxy: depends on nic"));
    }

    #[test]
    fn a_clock_or_logger_in_the_stack_is_found() {
        let stack =
            member("stack", vec![Dependency::Other("tracing".into()), Dependency::Other("smoltcp".into())]);
        assert_eq!(check(&[stack]).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_drew_is_found() {
        assert_eq!(check(&[member("helpers", Vec::new())]).len(), 1);
    }

    #[test]
    fn tests_may_name_everything() {
        assert_eq!(check(&[member("tests", vec![Dependency::Ours("bpf".into())])]), Vec::new());
    }
}
