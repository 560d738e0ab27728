//! From the interfaces that a configuration names to what the data plane attaches to: devices (which carry frames and
//! get an XDP program) and logical interfaces (which the stack knows).

use std::net::IpAddr;

use host::{Link, LinkKind, Netlink};
use worker::{InterfaceConfig, InterfaceId, Prefix, Role, Route};

use crate::config::{Cidr, Interface, InterfaceRole, NodeConfig, Outbound, XdpMode};
use crate::error::StartError;

/// A device that carries frames.
#[derive(Clone, Debug)]
pub struct Device {
    pub link: Link,
    pub role: Role,
    pub mode: XdpMode,
    /// Receive and transmit queues that it has.
    pub queues: u32,
    /// Tags that the XDP program looks behind; `None` for untagged frames.
    pub vlans: Vec<Option<u16>>,
    /// `outbound: deny`: what the mesh does not take dies.
    pub deny_outbound: bool,
}

/// An interface as the stack sees it, and the devices under it.
#[derive(Clone, Debug)]
pub struct Logical {
    pub config: InterfaceConfig,
    /// Indices into [`Plan::devices`]; several on a bond.
    pub devices: Vec<usize>,
    /// The kernel's index of the link that was named: routes and neighbours name it.
    pub kernel_index: u32,
    pub workloads: Vec<IpAddr>,
}

#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub devices: Vec<Device>,
    pub interfaces: Vec<Logical>,
}

/// Finds every named interface, and makes sure that VLAN tags stay in the frames where they matter.
pub async fn plan(netlink: &Netlink, config: &NodeConfig) -> Result<Plan, StartError> {
    let mut plan = Plan::default();
    for interface in &config.interfaces {
        plan.add(netlink, config, interface).await?;
    }
    Ok(plan)
}

impl Plan {
    async fn add(
        &mut self,
        netlink: &Netlink,
        config: &NodeConfig,
        named: &Interface,
    ) -> Result<(), StartError> {
        let uplink = netlink.uplink(&named.name).await?;
        if uplink.tag.is_some() {
            for (device, result) in netlink.switch_off_vlan_offload(&uplink).await? {
                if result == host::VlanOffload::FarEndUnknown {
                    tracing::warn!(
                        device,
                        "veth with VLANs: run `ethtool -K DEV tx-vlan-hw-insert off` at its far end, or tags are lost"
                    );
                }
            }
        }
        let role = match named.role {
            InterfaceRole::Uplink => Role::Uplink,
            InterfaceRole::Workload => Role::Workload,
        };
        let mut devices = Vec::new();
        for member in &uplink.members {
            let device = Device {
                link: member.clone(),
                role,
                mode: named.xdp_mode,
                queues: netlink.queue_pairs(member)?,
                vlans: vec![uplink.tag],
                deny_outbound: config.outbound == Outbound::Deny,
            };
            devices.push(self.device(device)?);
        }
        let no_mac = || StartError::NoEthernet { interface: named.name.clone() };
        let id =
            InterfaceId(u16::try_from(self.interfaces.len()).map_err(|_| StartError::TooManyInterfaces)?);
        let config = InterfaceConfig {
            id,
            name: named.name.clone(),
            role,
            mac: uplink.logical.mac.ok_or_else(no_mac)?,
            mtu: u16::try_from(uplink.mtu()).unwrap_or(u16::MAX),
            vlan: uplink.tag,
            addresses: addresses(config, named),
            intercepted: intercepted(config, named),
            unfinished_receive_checksum: uplink.members.iter().any(is_veth),
        };
        self.interfaces.push(Logical {
            config,
            devices,
            kernel_index: uplink.logical.index,
            workloads: named.workloads.clone(),
        });
        Ok(())
    }

    /// The device's place in the list; one device may lie under several VLANs.
    fn device(&mut self, new: Device) -> Result<usize, StartError> {
        let Some(index) = self.devices.iter().position(|device| device.link.index == new.link.index) else {
            self.devices.push(new);
            return Ok(self.devices.len() - 1);
        };
        let known = &mut self.devices[index];
        if known.role != new.role || known.mode != new.mode {
            return Err(StartError::DeviceDisagrees { device: new.link.name });
        }
        known.vlans.extend(new.vlans);
        Ok(index)
    }

    /// Logical interfaces that lie on a device.
    pub fn on_device(&self, device: usize) -> impl Iterator<Item = &Logical> + Clone {
        self.interfaces.iter().filter(move |logical| logical.devices.contains(&device))
    }

    /// Workload addresses are behind their interface, whatever the kernel's routes say.
    pub fn workload_routes(&self) -> Vec<Route> {
        let routes = self.interfaces.iter().flat_map(|logical| {
            logical.workloads.iter().map(|&address| Route {
                prefix: Prefix { address, len: if address.is_ipv4() { 32 } else { 128 } },
                via: None,
                interface: logical.config.id,
                metric: 0,
            })
        });
        routes.collect()
    }

    /// The stack's interface for a link of the kernel.
    pub fn by_kernel_index(&self, index: u32) -> Option<InterfaceId> {
        self.interfaces.iter().find(|logical| logical.kernel_index == index).map(|logical| logical.config.id)
    }
}

/// A veth's neighbour may leave L4 checksums unfinished (DESIGN, checksums).
fn is_veth(link: &Link) -> bool {
    matches!(link.kind, LinkKind::Veth(_))
}

/// What is ours on the interface: an uplink's mesh addresses, or the gateway addresses that its workload sees.
fn addresses(config: &NodeConfig, named: &Interface) -> Vec<(IpAddr, u8)> {
    match named.role {
        InterfaceRole::Uplink => named.addresses.iter().map(|cidr| (cidr.address, cidr.len)).collect(),
        // A gateway address is alone on its link: what else is reachable there, workload routes say.
        InterfaceRole::Workload => {
            config.gateway_addresses.iter().map(|&ip| (ip, if ip.is_ipv4() { 32 } else { 128 })).collect()
        }
    }
}

fn intercepted(config: &NodeConfig, named: &Interface) -> Vec<Prefix> {
    match named.role {
        InterfaceRole::Uplink => Vec::new(),
        InterfaceRole::Workload => {
            config.service_prefixes.iter().map(|&Cidr { address, len }| Prefix { address, len }).collect()
        }
    }
}
