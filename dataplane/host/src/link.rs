//! A network interface as the kernel describes it.

use rtnetlink::packet_route::link::{
    BondPortState, InfoBondPort, InfoData, InfoKind, InfoPortData, InfoVlan, LinkAttribute, LinkFlags,
    LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
};

/// One interface of the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub index: u32,
    /// `None` for links without an Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// IP bytes that fit one packet.
    pub mtu: u32,
    pub kind: LinkKind,
    /// The administrator wants it up.
    pub up: bool,
    /// It has a carrier.
    pub carrier: bool,
    /// The bond, bridge or VRF that it belongs to, by index.
    pub controller: Option<u32>,
    /// A bond's member that stands by: the bond neither sends by it nor takes what arrives there (active-backup, or an
    /// 802.3ad aggregator that was not chosen), and nor does the bond at the other end of the cable.
    pub standby: bool,
    pub receive_queues: u32,
    pub transmit_queues: u32,
    /// The XDP program that sits on it, by the kernel's number.
    pub xdp_program: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// A card, or whatever has no kind in the kernel's eyes.
    Device,
    Loopback,
    Veth(VethPeer),
    /// 802.1Q: the tag, and the index of the link below.
    Vlan {
        tag: u16,
        parent: u32,
    },
    Bond,
    /// The kernel's name of the kind: `bridge`, `macvlan`, `tun`...
    Other(String),
}

/// Where a veth's other end is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum VethPeer {
    /// In this namespace, by index.
    Here(u32),
    /// In another namespace, out of our reach.
    Elsewhere,
}

impl Link {
    /// Whether frames can pass now.
    pub fn is_running(&self) -> bool {
        self.up && self.carrier
    }

    pub(crate) fn from_message(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            name: String::new(),
            index: message.header.index,
            mac: None,
            mtu: 0,
            kind: LinkKind::Device,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            controller: None,
            standby: false,
            receive_queues: 1,
            transmit_queues: 1,
            xdp_program: None,
        };
        let mut below = Below::default();
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) if *index != 0 => link.controller = Some(*index),
                LinkAttribute::NumRxQueues(count) => link.receive_queues = *count,
                LinkAttribute::NumTxQueues(count) => link.transmit_queues = *count,
                LinkAttribute::Xdp(items) => {
                    link.xdp_program = items.iter().find_map(|item| match item {
                        LinkXdp::ProgId(id) => Some(*id),
                        _ => None,
                    });
                }
                LinkAttribute::Link(index) => below.index = *index,
                LinkAttribute::LinkNetNsId(_) => below.elsewhere = true,
                LinkAttribute::LinkInfo(infos) => link.standby = stands_by(infos),
                _ => {}
            }
        }
        link.kind = kind_of(message, below);
        if link.kind == LinkKind::Loopback {
            link.mac = None;
        }
        link
    }
}

fn stands_by(infos: &[LinkInfo]) -> bool {
    infos.iter().any(|info| match info {
        LinkInfo::PortData(InfoPortData::BondPort(items)) => {
            items.contains(&InfoBondPort::BondPortState(BondPortState::Backup))
        }
        _ => false,
    })
}

/// The link that a link stands on: a VLAN's parent, a veth's other end.
#[derive(Copy, Clone, Default)]
struct Below {
    index: u32,
    elsewhere: bool,
}

fn kind_of(message: &LinkMessage, below: Below) -> LinkKind {
    if message.header.link_layer_type == LinkLayerType::Loopback {
        return LinkKind::Loopback;
    }
    let infos = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos.as_slice()),
        _ => None,
    });
    let infos = infos.unwrap_or_default();
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    });
    match kind {
        None => LinkKind::Device,
        Some(InfoKind::Veth) if below.elsewhere => LinkKind::Veth(VethPeer::Elsewhere),
        Some(InfoKind::Veth) => LinkKind::Veth(VethPeer::Here(below.index)),
        Some(InfoKind::Vlan) => LinkKind::Vlan { tag: vlan_tag(infos), parent: below.index },
        Some(InfoKind::Bond) => LinkKind::Bond,
        Some(other) => LinkKind::Other(other.to_string()),
    }
}

fn vlan_tag(infos: &[LinkInfo]) -> u16 {
    infos
        .iter()
        .find_map(|info| match info {
            LinkInfo::Data(InfoData::Vlan(items)) => items.iter().find_map(|item| match item {
                InfoVlan::Id(tag) => Some(*tag),
                _ => None,
            }),
            _ => None,
        })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = LinkFlags::Up | LinkFlags::LowerUp;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_vlan_knows_its_tag_and_its_parent() {
        let link = Link::from_message(&message(vec![
            LinkAttribute::IfName("bond0.100".into()),
            LinkAttribute::Link(3),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Vlan),
                LinkInfo::Data(InfoData::Vlan(vec![InfoVlan::Id(100)])),
            ]),
        ]));
        assert_eq!(link.kind, LinkKind::Vlan { tag: 100, parent: 3 });
        assert!(link.is_running());
    }

    #[test]
    fn a_veth_whose_other_end_is_in_another_namespace_says_so() {
        let kind = vec![LinkInfo::Kind(InfoKind::Veth)];
        let far = message(vec![
            LinkAttribute::Link(2),
            LinkAttribute::LinkNetNsId(0),
            LinkAttribute::LinkInfo(kind.clone()),
        ]);
        let near = message(vec![LinkAttribute::Link(2), LinkAttribute::LinkInfo(kind)]);
        assert_eq!(Link::from_message(&far).kind, LinkKind::Veth(VethPeer::Elsewhere));
        assert_eq!(Link::from_message(&near).kind, LinkKind::Veth(VethPeer::Here(2)));
    }

    #[test]
    fn a_bonds_member_that_stands_by_runs_and_says_so() {
        for (state, standby) in [(BondPortState::Active, false), (BondPortState::Backup, true)] {
            let port = InfoPortData::BondPort(vec![InfoBondPort::BondPortState(state)]);
            let infos = vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::PortData(port)];
            let link = Link::from_message(&message(vec![LinkAttribute::LinkInfo(infos)]));
            assert_eq!((link.is_running(), link.standby), (true, standby));
        }
    }

    #[test]
    fn a_link_without_a_kind_is_a_device() {
        let link = Link::from_message(&message(vec![LinkAttribute::Address(vec![2, 0, 0, 0, 0, 1])]));
        assert_eq!((link.kind, link.mac), (LinkKind::Device, Some([2, 0, 0, 0, 0, 1])));
    }
}
