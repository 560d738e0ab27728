//! Interfaces, addresses and routes as the caller configures them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A logical interface of the stack: a device, or one VLAN of it. Small and dense; the caller numbers them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u16);

/// What an interface is to the node (DESIGN, interception).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Owns the node's mesh addresses and answers ARP, NDP and ICMP for them.
    Uplink,
    /// The host end of a workload's veth: the gateway addresses answer ARP and NDP; TCP and UDP to the service and
    /// workload prefixes are taken with their original destination kept.
    Workload,
}

#[derive(Clone, Debug)]
pub struct InterfaceConfig {
    pub id: InterfaceId,
    pub name: String,
    pub role: Role,
    /// Our hardware address on it.
    pub mac: [u8; 6],
    /// IP bytes that fit one packet.
    pub mtu: u16,
    /// 802.1Q tag that its frames carry; `None` for untagged.
    pub vlan: Option<u16>,
    /// Addresses that are ours on it, with the on-link prefix length. On a workload interface: the gateway addresses.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Prefixes whose TCP and UDP is taken here whatever the address (workload interfaces: service and workload
    /// prefixes).
    pub intercepted: Vec<Prefix>,
    /// What its queue pairs promise ([`Offloads`](crate::Offloads)): a received checksum that is the folded
    /// pseudo-header sum alone is accepted (the neighbour is a veth on this host), not a wrong one.
    pub unfinished_receive_checksum: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Prefix {
    pub address: IpAddr,
    pub len: u8,
}

impl Prefix {
    pub fn new(address: IpAddr, len: u8) -> Self {
        Self { address, len }
    }

    pub const ANY_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 };
    pub const ANY_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 };

    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let shift = 32 - u32::from(self.len.min(32));
                u32::from(net).checked_shr(shift).unwrap_or(0)
                    == u32::from(ip).checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let shift = 128 - u32::from(self.len.min(128));
                u128::from(net).checked_shr(shift).unwrap_or(0)
                    == u128::from(ip).checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

/// One route: longest prefix first, then lowest metric; equal ones share flows by hash (ECMP).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    pub prefix: Prefix,
    /// `None`: the destination is on the link.
    pub via: Option<IpAddr>,
    pub interface: InterfaceId,
    pub metric: u32,
}
