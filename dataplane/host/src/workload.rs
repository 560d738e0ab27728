//! The veth pair of a workload: one end for Ringway, without addresses, the other in the workload's namespace.
//!
//! The MTU is the largest that a veth takes, so that a workload's TCP hands over packets of 64 KB (what does not fit
//! the way out is cut by the stack). Three features go off at the workload's end: `tx-udp-segmentation`, because a
//! merged UDP packet has lost its datagram boundaries, and both VLAN offloads, so that a tag is in the frame.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::{Error, Link, Netlink};

/// The gateway that a workload sends to: link-local, answered by Ringway, never by the kernel.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// `ETH_MAX_MTU` of the kernel.
pub const WORKLOAD_MTU: u32 = 65_535;

/// Features that must be off at the workload's end.
const WORKLOAD_FEATURES_OFF: [(&str, bool); 3] =
    [("tx-udp-segmentation", false), ("rx-vlan-hw-parse", false), ("tx-vlan-hw-insert", false)];

/// `IFNAMSIZ` less its final zero.
const MAX_NAME_BYTES: usize = 15;

/// A workload's interface to be made.
#[derive(Clone, Debug)]
pub struct WorkloadInterface {
    /// Name of Ringway's end, in the node's namespace.
    pub host: String,
    /// Name of the workload's end.
    pub workload: String,
    /// The workload's namespace (`/run/netns/NAME`). `None`: the host itself is the workload, and both ends stay here.
    pub namespace: Option<PathBuf>,
    pub mtu: u32,
    /// One a worker.
    pub queues: u32,
    /// The workload's addresses; each gets the whole length as its prefix.
    pub addresses: Vec<IpAddr>,
    /// What the workload sends to the gateway: everything, or the mesh's prefixes where the host is the workload.
    pub prefixes: Vec<(IpAddr, u8)>,
}

impl WorkloadInterface {
    /// For a workload in a namespace of its own: everything goes to the gateway.
    pub fn new(host: &str, namespace: PathBuf, addresses: Vec<IpAddr>) -> Self {
        Self {
            host: host.to_owned(),
            workload: "eth0".to_owned(),
            namespace: Some(namespace),
            mtu: WORKLOAD_MTU,
            queues: 1,
            addresses,
            prefixes: vec![(Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv6Addr::UNSPECIFIED.into(), 0)],
        }
    }
}

impl Netlink {
    /// Makes the pair and both its ends; nothing is left of it when a step fails. Ringway's end is returned.
    pub async fn create_workload(&self, interface: &WorkloadInterface) -> Result<Link, Error> {
        for name in [&interface.host, &interface.workload] {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(Error::InterfaceName { name: name.clone(), length: name.len() });
            }
        }
        if self.link(&interface.host).await.is_ok() {
            return Err(Error::InterfaceExists { name: interface.host.clone() });
        }
        self.add_pair(interface).await?;
        match self.set_up(interface).await {
            Ok(link) => Ok(link),
            Err(error) => {
                self.remove_link(&interface.host).await?;
                Err(error)
            }
        }
    }

    /// Removes a link; of a veth, both ends.
    pub async fn remove_link(&self, name: &str) -> Result<(), Error> {
        let index = self.link(name).await?.index;
        let removed = self.route.link().del(index).execute().await;
        removed.map_err(|error| Error::netlink(format!("remove {name}"), error))
    }

    async fn add_pair(&self, interface: &WorkloadInterface) -> Result<(), Error> {
        let namespace = match &interface.namespace {
            Some(path) => {
                Some(File::open(path).map_err(|source| Error::Namespace { path: path.clone(), source })?)
            }
            None => None,
        };
        let mut peer = end(LinkMessageBuilder::<LinkUnspec>::new().name(&interface.workload), interface);
        if let Some(file) = &namespace {
            peer.attributes.push(LinkAttribute::NetNsFd(file.as_raw_fd()));
        }
        let builder = LinkVeth::new(&interface.host, &interface.workload)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        let added = self.route.link().add(end(builder, interface)).execute().await;
        added.map_err(|error| Error::netlink(format!("make the veth pair {}", interface.host), error))
    }

    async fn set_up(&self, interface: &WorkloadInterface) -> Result<Link, Error> {
        let workload = match &interface.namespace {
            Some(path) => Self::open_in(path)?,
            None => self.clone(),
        };
        workload.set_features(&interface.workload, &WORKLOAD_FEATURES_OFF)?;
        self.bring_up_without_addresses(&interface.host).await?;
        workload.bring_up(&interface.workload).await?;
        let index = workload.link(&interface.workload).await?.index;
        for address in &interface.addresses {
            workload.add_address(index, *address).await?;
        }
        for (prefix, len) in &interface.prefixes {
            workload.add_route(index, *prefix, *len).await?;
        }
        self.link(&interface.host).await
    }

    async fn bring_up(&self, name: &str) -> Result<(), Error> {
        self.change(name, LinkUnspec::new_with_name(name).up().build()).await
    }

    /// No link-local address of the kernel's: on this link the gateway addresses are Ringway's.
    async fn bring_up_without_addresses(&self, name: &str) -> Result<(), Error> {
        let no_addresses =
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                In6AddrGenMode::None,
            )])]);
        let set = LinkUnspec::new_with_name(name).append_extra_attribute(no_addresses).build();
        self.change(name, set).await?;
        self.bring_up(name).await
    }

    async fn change(&self, name: &str, message: LinkMessage) -> Result<(), Error> {
        let changed = self.route.link().change(message).execute().await;
        changed.map_err(|error| Error::netlink(format!("set up {name}"), error))
    }

    async fn add_address(&self, index: u32, address: IpAddr) -> Result<(), Error> {
        let mut request = self.route.address().add(index, address, whole_length(address));
        // Nobody else is on the link: RFC 4862, section 5.4, would only delay the first packet.
        request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        request.execute().await.map_err(|error| Error::netlink(format!("add address {address}"), error))
    }

    /// `prefix via GATEWAY onlink`.
    async fn add_route(&self, index: u32, prefix: IpAddr, len: u8) -> Result<(), Error> {
        let message = match prefix {
            IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(v4, len)
                .gateway(GATEWAY_V4)
                .output_interface(index)
                .onlink()
                .build(),
            IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(v6, len)
                .gateway(GATEWAY_V6)
                .output_interface(index)
                .onlink()
                .build(),
        };
        let added = self.route.route().add(message).execute().await;
        added.map_err(|error| Error::netlink(format!("add route {prefix}/{len}"), error))
    }
}

/// What both ends share.
fn end<T>(builder: LinkMessageBuilder<T>, interface: &WorkloadInterface) -> LinkMessage {
    builder
        .mtu(interface.mtu)
        .append_extra_attribute(LinkAttribute::NumTxQueues(interface.queues))
        .append_extra_attribute(LinkAttribute::NumRxQueues(interface.queues))
        .build()
}

fn whole_length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
