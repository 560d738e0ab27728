//! The interfaces that we have and the addresses that are ours on them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::hash::{Key, Map, bits};
use crate::{InterfaceConfig, InterfaceId, Prefix, Role};

/// Interfaces by their dense number, and who owns which address.
#[derive(Debug)]
pub(crate) struct Locals {
    slots: Vec<Option<Arc<InterfaceConfig>>>,
    /// Addresses that are ours wherever a packet for them arrives (the weak host model, RFC 1122, section 3.3.4.2: a
    /// workload reaches an uplink's address through its veth). Link-local ones are ours on their interface only.
    global: Map<u128, InterfaceId>,
    /// Address pairs whose segments were found to be for us, each in the place that its source chooses.
    taken: [Option<Taken>; TAKEN],
}

/// Address pairs remembered: the peers of a busy moment. One more takes another's place.
const TAKEN: usize = 64;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Taken {
    interface: InterfaceId,
    /// As [`bits`] has them.
    source: u128,
    destination: u128,
}

impl Taken {
    fn place(&self) -> usize {
        (self.source as usize).wrapping_add(usize::from(self.interface.0)) % TAKEN
    }
}

impl Locals {
    pub fn new(key: Key) -> Self {
        Self { slots: Vec::new(), global: Map::with_hasher(key), taken: [None; TAKEN] }
    }

    pub fn set(&mut self, interface: InterfaceConfig) {
        let index = usize::from(interface.id.0);
        if self.slots.len() <= index {
            self.slots.resize(index + 1, None);
        }
        self.slots[index] = Some(Arc::new(interface));
        self.collect_addresses();
    }

    pub fn remove(&mut self, interface: InterfaceId) {
        if let Some(slot) = self.slots.get_mut(usize::from(interface.0)) {
            *slot = None;
        }
        self.collect_addresses();
    }

    fn collect_addresses(&mut self) {
        self.taken = [None; TAKEN];
        self.global.clear();
        for interface in self.slots.iter().flatten() {
            for (address, _) in interface.addresses.iter().filter(|(address, _)| !is_link_local(*address)) {
                self.global.entry(bits(*address)).or_insert(interface.id);
            }
        }
    }

    /// Whether [`Locals::remember_taken`] was told of this pair since the interfaces changed last.
    #[inline]
    pub fn was_taken(&self, interface: InterfaceId, source: IpAddr, destination: IpAddr) -> bool {
        let pair = Taken { interface, source: bits(source), destination: bits(destination) };
        self.taken[pair.place()] == Some(pair)
    }

    /// A unicast packet of this pair passed every check of its addresses.
    pub fn remember_taken(&mut self, interface: InterfaceId, source: IpAddr, destination: IpAddr) {
        let pair = Taken { interface, source: bits(source), destination: bits(destination) };
        self.taken[pair.place()] = Some(pair);
    }

    pub fn find(&self, interface: InterfaceId) -> Option<&InterfaceConfig> {
        self.slots.get(usize::from(interface.0))?.as_deref()
    }

    /// The same, for who changes the tables beside it meanwhile.
    pub fn share(&self, interface: InterfaceId) -> Option<Arc<InterfaceConfig>> {
        self.slots.get(usize::from(interface.0))?.clone()
    }

    pub fn iter(&self) -> impl Iterator<Item = &InterfaceConfig> {
        self.slots.iter().flatten().map(|interface| &**interface)
    }

    /// Whether a packet to `address` that arrived on `interface` is for us.
    pub fn is_ours(&self, interface: &InterfaceConfig, address: IpAddr) -> bool {
        if is_link_local(address) {
            has(interface, address)
        } else {
            self.global.contains_key(&bits(address))
        }
    }

    /// Whether TCP and UDP to `address` is taken on `interface`: ours, or intercepted.
    pub fn is_taken(&self, interface: &InterfaceConfig, address: IpAddr) -> bool {
        self.is_ours(interface, address) || is_intercepted(interface, address)
    }

    /// Whether segments may leave from `address`: ours, or taken on some interface.
    pub fn is_source(&self, address: IpAddr) -> bool {
        self.iter().any(|interface| self.is_taken(interface, address))
    }

    /// Our address for packets that leave by `interface` towards `destination`: of its prefix, else one that others
    /// can route to, else an uplink's (a workload answers the gateway's neighbour, not its link-local address).
    pub fn source_for(&self, interface: &InterfaceConfig, destination: IpAddr) -> Option<IpAddr> {
        let family = |address: &IpAddr| address.is_ipv4() == destination.is_ipv4();
        let on_link = interface.addresses.iter().find(|(address, len)| {
            family(address)
                && (is_link_local(*address) == is_link_local(destination))
                && Prefix::new(*address, *len).contains(destination)
        });
        let own = |link_local| {
            let mut all = interface.addresses.iter().map(|(address, _)| *address).filter(family);
            all.find(|address| is_link_local(*address) == link_local)
        };
        let uplinks = || {
            let all = self.iter().filter(|other| other.role == Role::Uplink);
            let mut all =
                all.flat_map(|other| other.addresses.iter().map(|(address, _)| *address)).filter(family);
            all.find(|address| !is_link_local(*address))
        };
        if let Some((address, _)) = on_link {
            return Some(*address);
        }
        if is_link_local(destination) {
            return own(true).or_else(|| own(false));
        }
        own(false).or_else(uplinks).or_else(|| own(true))
    }

    /// Interfaces whose on-link prefix or link-local scope holds `address`.
    pub fn on_link(&self, address: IpAddr) -> impl Iterator<Item = (u8, InterfaceId)> + '_ {
        self.iter().flat_map(move |interface| {
            let prefixes = interface.addresses.iter();
            prefixes
                .filter(move |(own, len)| Prefix::new(*own, *len).contains(address))
                .map(|(_, len)| (*len, interface.id))
        })
    }
}

/// Whether `address` is one of the interface's own.
pub(crate) fn has(interface: &InterfaceConfig, address: IpAddr) -> bool {
    interface.addresses.iter().any(|(own, _)| *own == address)
}

/// Whether the interface takes TCP and UDP to `address`, which is not ours.
pub(crate) fn is_intercepted(interface: &InterfaceConfig, address: IpAddr) -> bool {
    interface.intercepted.iter().any(|prefix| prefix.contains(address))
}

pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Multicast, limited broadcast, or the broadcast address of a prefix of `interface` (RFC 1122, section 3.3.6).
pub(crate) fn is_group(interface: &InterfaceConfig, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast()
                || address == Ipv4Addr::BROADCAST
                || interface.addresses.iter().any(|(own, len)| is_directed_broadcast(*own, *len, address))
        }
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// Prefixes of 31 and 32 bits have no broadcast address (RFC 3021).
fn is_directed_broadcast(own: IpAddr, len: u8, address: Ipv4Addr) -> bool {
    let IpAddr::V4(own) = own else { return false };
    len < 31 && {
        let host_bits = u32::MAX.checked_shr(u32::from(len)).unwrap_or(0);
        u32::from(own) | host_bits == u32::from(address)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An interface for tests: MAC `02:00:00:00:00:id+1`, MTU 1500.
    pub(crate) fn interface(id: u16, role: Role, addresses: &[&str]) -> InterfaceConfig {
        let parse = |text: &&str| {
            let (address, len) = text.split_once('/').unwrap();
            (address.parse().unwrap(), len.parse().unwrap())
        };
        InterfaceConfig {
            id: InterfaceId(id),
            name: format!("test{id}"),
            role,
            mac: [2, 0, 0, 0, 0, id as u8 + 1],
            mtu: 1500,
            vlan: None,
            addresses: addresses.iter().map(parse).collect(),
            intercepted: vec![],
            unfinished_receive_checksum: false,
        }
    }

    fn locals() -> Locals {
        let mut locals = Locals::new(Key::new(&[0; 32], 0));
        locals.set(interface(0, Role::Uplink, &["10.0.0.1/24", "2001:db8::1/64", "fe80::1/64"]));
        locals.set(interface(1, Role::Workload, &["169.254.1.1/32", "fe80::1/64"]));
        locals.set(interface(2, Role::Workload, &["169.254.1.1/32"]));
        locals
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn global_addresses_are_ours_everywhere_and_link_local_ones_at_home() {
        let locals = locals();
        let on = |id, text| locals.is_ours(locals.find(InterfaceId(id)).unwrap(), address(text));
        assert!(on(0, "10.0.0.1") && on(1, "10.0.0.1"));
        assert!(on(1, "169.254.1.1") && !on(0, "169.254.1.1"));
        assert!(!on(0, "10.0.0.2"));
    }

    #[test]
    fn an_interface_that_goes_takes_its_addresses_along() {
        let mut locals = locals();
        locals.remove(InterfaceId(0));
        assert!(locals.find(InterfaceId(0)).is_none());
        assert!(!locals.is_ours(locals.find(InterfaceId(1)).unwrap(), address("10.0.0.1")));
    }

    #[test]
    fn what_was_taken_is_looked_at_again_when_interfaces_change() {
        let mut locals = locals();
        let (peer, ours) = (address("10.0.0.9"), address("10.0.0.1"));
        locals.remember_taken(InterfaceId(0), peer, ours);
        assert!(locals.was_taken(InterfaceId(0), peer, ours));
        assert!(!locals.was_taken(InterfaceId(1), peer, ours));
        assert!(!locals.was_taken(InterfaceId(0), ours, peer));
        locals.remove(InterfaceId(0));
        assert!(!locals.was_taken(InterfaceId(0), peer, ours));
    }

    #[test]
    fn a_source_address_is_one_that_the_other_end_can_answer() {
        let locals = locals();
        let source = |id, text| locals.source_for(locals.find(InterfaceId(id)).unwrap(), address(text));
        assert_eq!(source(0, "10.0.0.9"), Some(address("10.0.0.1")));
        assert_eq!(source(0, "192.0.2.1"), Some(address("10.0.0.1")));
        assert_eq!(source(0, "fe80::9"), Some(address("fe80::1")));
        assert_eq!(source(0, "2001:db8:1::9"), Some(address("2001:db8::1")));
        assert_eq!(source(1, "10.1.0.5"), Some(address("10.0.0.1")), "not the gateway's link-local address");
    }

    #[test]
    fn broadcast_addresses_are_groups() {
        let uplink = interface(0, Role::Uplink, &["10.0.0.1/24", "10.9.0.1/32"]);
        for group in ["10.0.0.255", "255.255.255.255", "224.0.0.1", "ff02::1"] {
            assert!(is_group(&uplink, address(group)), "{group}");
        }
        for host in ["10.0.0.254", "10.9.0.1", "2001:db8::1"] {
            assert!(!is_group(&uplink, address(host)), "{host}");
        }
    }
}
