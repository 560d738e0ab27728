//! Addresses for Services from the mesh's service prefixes. Pure: the caller stores the answer before it answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::kind::{Key, Kind};
use crate::prefix::Prefix;
use crate::resource::Spec;
use crate::resources::Resources;
use crate::service::{IpFamily, ServiceSpec};

/// The mesh-wide setting `servicePrefixes`: at most one prefix of each family.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServicePrefixes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v4: Option<Prefix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Prefix>,
}

impl ServicePrefixes {
    fn of(&self, family: IpFamily) -> Option<Prefix> {
        match family {
            IpFamily::IPv4 => self.v4,
            IpFamily::IPv6 => self.v6,
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.of(IpFamily::of(address)).is_some_and(|prefix| prefix.contains(address))
    }
}

/// Addresses that are looked at before a prefix counts as full: all of a /16, a piece of a larger one.
pub const MOST_PROBES: u128 = 65_536;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllocateError {
    NoPrefix { service: Key, family: IpFamily },
    Full { service: Key, prefix: Prefix },
}

impl fmt::Display for AllocateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AllocateError::NoPrefix { service, family } => {
                write!(f, "{service}: spec.ipFamilies: the mesh has no service prefix of {family:?}")
            }
            AllocateError::Full { service, prefix } => {
                write!(
                    f,
                    "{service}: no free address in the mesh's service prefix {prefix}; delete Services or widen it"
                )
            }
        }
    }
}

impl std::error::Error for AllocateError {}

/// The addresses that `service` lacks: one for each family it wants and has none of. The search starts where the
/// hash of its key says, so that a Service that comes again gets the same address unless another has it.
pub fn allocate(
    service: &Key,
    spec: &ServiceSpec,
    taken: &BTreeSet<IpAddr>,
    prefixes: &ServicePrefixes,
) -> Result<Vec<IpAddr>, AllocateError> {
    let present: Vec<IpFamily> = spec.addresses().into_iter().map(IpFamily::of).collect();
    let wanted = wanted(spec, &present, prefixes);
    let mut given = Vec::new();
    for family in wanted.into_iter().filter(|family| !present.contains(family)) {
        let Some(prefix) = prefixes.of(family) else {
            return Err(AllocateError::NoPrefix { service: service.clone(), family });
        };
        let free = probe(service, taken, prefix);
        given.push(free.ok_or_else(|| AllocateError::Full { service: service.clone(), prefix })?);
    }
    Ok(given)
}

/// Who has each Service address. Of two Services with one address the older has it, ties by namespace and name.
pub fn holders(resources: &Resources) -> BTreeMap<IpAddr, Key> {
    let mut services: Vec<_> = resources.services().collect();
    services.sort_by_key(|(metadata, _)| metadata.creation_timestamp.as_deref());
    let mut holders = BTreeMap::new();
    for (metadata, service) in services {
        for address in service.addresses() {
            let key = || Key::new(Kind::Service, &metadata.namespace, &metadata.name);
            holders.entry(address).or_insert_with(key);
        }
    }
    holders
}

/// Gives every Service the addresses that it lacks, in the order of their keys; returns those that were changed.
pub fn assign(resources: &mut Resources, prefixes: &ServicePrefixes) -> Result<Vec<Key>, AllocateError> {
    let mut taken: BTreeSet<IpAddr> = holders(resources).into_keys().collect();
    let mut changed = Vec::new();
    for mut resource in resources.of_kind(Kind::Service).cloned().collect::<Vec<_>>() {
        let key = resource.key();
        let Spec::Service(spec) = &mut resource.spec else { continue };
        let given = allocate(&key, spec, &taken, prefixes)?;
        if given.is_empty() {
            continue;
        }
        spec.cluster_ips = spec.addresses().into_iter().chain(given.iter().copied()).collect();
        taken.extend(given);
        resources.insert(resource);
        changed.push(key);
    }
    Ok(changed)
}

/// A Service that brings addresses and no families has all that it wants.
fn wanted(spec: &ServiceSpec, present: &[IpFamily], prefixes: &ServicePrefixes) -> Vec<IpFamily> {
    if !spec.ip_families.is_empty() {
        return spec.ip_families.clone();
    }
    if !present.is_empty() {
        return Vec::new();
    }
    [IpFamily::IPv4, IpFamily::IPv6].into_iter().filter(|family| prefixes.of(*family).is_some()).collect()
}

/// The first address of a prefix (the network's) is never given, nor an IPv4 prefix's last (its broadcast).
fn probe(service: &Key, taken: &BTreeSet<IpAddr>, prefix: Prefix) -> Option<IpAddr> {
    let reserved = if prefix.address().is_ipv4() { 2 } else { 1 };
    let usable =
        1u128.checked_shl(u32::from(prefix.host_bits())).unwrap_or(u128::MAX).saturating_sub(reserved);
    if usable == 0 {
        return None;
    }
    let start = u128::from(hash(service)) % usable;
    let mut candidates = (0..usable.min(MOST_PROBES)).map(|step| prefix.nth(1 + (start + step) % usable));
    candidates.find(|address| !taken.contains(address))
}

/// FNV-1a, 64 bits: the same in every build and version, which std's hasher does not promise.
fn hash(service: &Key) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let text = service.path();
    text.bytes().fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{resource, resources};

    fn spec(more: &str) -> ServiceSpec {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{{port: 1}}]{more}}}"
        );
        match resource(&text).spec {
            Spec::Service(spec) => spec,
            _ => unreachable!("the text is a Service"),
        }
    }

    fn key(name: &str) -> Key {
        Key::new(Kind::Service, "default", name)
    }

    fn prefixes(v4: &str, v6: Option<&str>) -> ServicePrefixes {
        ServicePrefixes { v4: Some(v4.parse().unwrap()), v6: v6.map(|text| text.parse().unwrap()) }
    }

    #[test]
    fn a_service_gets_one_address_of_each_family_and_the_same_again() {
        let prefixes = prefixes("10.96.0.0/16", Some("fd96::/112"));
        let first = allocate(&key("web"), &spec(""), &BTreeSet::new(), &prefixes).unwrap();
        assert_eq!(first.len(), 2);
        assert!(first.iter().all(|address| prefixes.contains(*address)));
        assert!(first[0].is_ipv4() && first[1].is_ipv6());
        assert_eq!(allocate(&key("web"), &spec(""), &BTreeSet::new(), &prefixes).unwrap(), first);
    }

    #[test]
    fn a_taken_address_is_never_given_and_a_full_prefix_is_an_error() {
        let prefixes = prefixes("10.0.0.0/29", None);
        let mut taken = BTreeSet::new();
        for number in 0..6 {
            let given = allocate(&key(&format!("s{number}")), &spec(""), &taken, &prefixes).unwrap();
            assert!(taken.insert(given[0]), "{given:?} was taken");
        }
        let network_and_broadcast: [IpAddr; 2] = ["10.0.0.0".parse().unwrap(), "10.0.0.7".parse().unwrap()];
        assert!(network_and_broadcast.iter().all(|address| !taken.contains(address)));
        let error = allocate(&key("more"), &spec(""), &taken, &prefixes).unwrap_err();
        assert!(error.to_string().contains("no free address in the mesh's service prefix 10.0.0.0/29"));
    }

    #[test]
    fn addresses_and_families_that_are_given_are_respected() {
        let both = prefixes("10.96.0.0/16", Some("fd96::/112"));
        let allocate = |more: &str| allocate(&key("a"), &spec(more), &BTreeSet::new(), &both).unwrap();
        assert!(allocate(", clusterIPs: [10.96.0.10]").is_empty());
        assert!(allocate(", clusterIP: 10.96.0.10").is_empty());
        assert!(allocate(", ipFamilies: [IPv6]").iter().all(IpAddr::is_ipv6));
        let rest = allocate(", clusterIPs: [10.96.0.10], ipFamilies: [IPv4, IPv6]");
        assert!(rest.len() == 1 && rest[0].is_ipv6());
    }

    #[test]
    fn a_family_without_a_prefix_is_an_error_that_names_it() {
        let error = allocate(
            &key("a"),
            &spec(", ipFamilies: [IPv6]"),
            &BTreeSet::new(),
            &prefixes("10.96.0.0/16", None),
        );
        assert!(error.unwrap_err().to_string().contains("no service prefix of IPv6"));
    }

    #[test]
    fn prefixes_without_room_are_full_and_the_largest_do_not_overflow() {
        for (v4, v6) in [("10.0.0.0/32", None), ("10.0.0.0/31", Some("fd96::/128"))] {
            assert!(allocate(&key("a"), &spec(""), &BTreeSet::new(), &prefixes(v4, v6)).is_err());
        }
        assert!(
            allocate(&key("a"), &spec(""), &BTreeSet::new(), &prefixes("0.0.0.0/0", Some("::/0"))).is_ok()
        );
    }

    #[test]
    fn all_services_get_what_they_lack_and_the_older_keeps_an_address_that_two_have() {
        let service = |name: &str, time: &str, more: &str| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, creationTimestamp: '{time}'}}, spec: {{ports: [{{port: 1}}]{more}}}}}\n---\n"
            )
        };
        let text = service("a", "2026-01-02T00:00:00Z", ", clusterIPs: [10.96.0.1]")
            + &service("b", "2026-01-01T00:00:00Z", ", clusterIPs: [10.96.0.1]")
            + &service("c", "2026-01-01T00:00:00Z", "");
        let mut all = resources(&text);
        assert_eq!(assign(&mut all, &prefixes("10.96.0.0/16", None)), Ok(vec![key("c")]));
        let holders = holders(&all);
        assert_eq!(holders.len(), 2);
        assert_eq!(holders[&"10.96.0.1".parse::<IpAddr>().unwrap()], key("b"));
        assert_eq!(assign(&mut all, &prefixes("10.96.0.0/16", None)), Ok(Vec::new()));
    }
}
