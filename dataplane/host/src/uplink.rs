//! What an uplink's name stands for: `eth0` a device, `bond0` its members, `bond0.100` tag 100 on its members. The kernel
//! need not have a VLAN device of that name: it sees none of these frames.
//!
//! XDP sees frames on the lowest device only, and sees a VLAN tag only if the device leaves it in the frame.

use crate::link::{Link, LinkKind, VethPeer};
use crate::{Error, Netlink};

/// Where Ringway attaches for an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The link that was named: its MAC is ours, and the kernel's routes and neighbours name its index, which is 0 where
    /// the kernel has no such link.
    pub logical: Link,
    /// 802.1Q tag of its frames.
    pub tag: Option<u16>,
    /// The devices that get queue pairs: the members of a bond, or the one device. Transmit over those that run.
    pub members: Vec<Link>,
}

/// What became of a member's VLAN offload.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum VlanOffload {
    /// Tags stay in the frame.
    Off,
    /// The member is a veth whose other end is out of reach: its owner must run `ethtool -K DEV tx-vlan-hw-insert off`
    /// there, else tagged frames arrive without their tag.
    FarEndUnknown,
}

/// The card takes the tag off received frames. `ethtool -k` calls it `rx-vlan-offload`.
const RX_VLAN: &str = "rx-vlan-hw-parse";
/// The sender leaves the tag beside the frame. `ethtool -k` calls it `tx-vlan-offload`.
const TX_VLAN: &str = "tx-vlan-hw-insert";

/// Tags that a VLAN may have; 0 is no VLAN and 4,095 is reserved (IEEE 802.1Q, section 9.6).
const TAGS: std::ops::RangeInclusive<u16> = 1..=4094;
/// An index that no link has.
const NO_LINK: u32 = 0;

impl Netlink {
    /// Resolves an uplink's name.
    pub async fn uplink(&self, name: &str) -> Result<Uplink, Error> {
        Uplink::resolve(name, &self.links().await?)
    }

    /// Switches VLAN offload off on every member of an uplink with a tag, and checks that it is off.
    pub async fn switch_off_vlan_offload(
        &self,
        uplink: &Uplink,
    ) -> Result<Vec<(String, VlanOffload)>, Error> {
        let links = self.links().await?;
        let mut results = Vec::new();
        for member in &uplink.members {
            self.switch_off(&member.name, RX_VLAN)?;
            let result = match member.kind {
                LinkKind::Veth(VethPeer::Elsewhere) => VlanOffload::FarEndUnknown,
                LinkKind::Veth(VethPeer::Here(index)) => {
                    if let Some(peer) = links.iter().find(|link| link.index == index) {
                        self.switch_off(&peer.name, TX_VLAN)?;
                    }
                    VlanOffload::Off
                }
                _ => VlanOffload::Off,
            };
            results.push((member.name.clone(), result));
        }
        Ok(results)
    }

    fn switch_off(&self, interface: &str, feature: &'static str) -> Result<(), Error> {
        match self.set_features(interface, &[(feature, false)]) {
            // A device that lacks the feature cannot take tags off.
            Ok(()) | Err(Error::NoSuchFeature { .. }) => Ok(()),
            Err(Error::FeatureStays { interface, .. }) => {
                Err(Error::VlanOffloadStaysOn { interface, feature })
            }
            Err(other) => Err(other),
        }
    }
}

impl Uplink {
    fn resolve(name: &str, links: &[Link]) -> Result<Self, Error> {
        let Some(logical) = find(links, |link| link.name == name) else {
            return Self::without_vlan_device(name, links);
        };
        refuse_members(logical, links)?;
        let (tag, lower) = match logical.kind {
            LinkKind::Vlan { tag, parent } => (Some(tag), below(logical, parent, links)?),
            _ => (None, logical),
        };
        let members = match &lower.kind {
            LinkKind::Bond => members_of(lower, links)?,
            LinkKind::Device | LinkKind::Veth(_) => vec![lower.clone()],
            LinkKind::Vlan { .. } => {
                return Err(Error::StackedVlan { interface: name.to_owned(), parent: lower.name.clone() });
            }
            LinkKind::Loopback => return Err(not_an_uplink(lower, "loopback")),
            LinkKind::Other(kind) => return Err(not_an_uplink(lower, kind)),
        };
        Ok(Self { logical: logical.clone(), tag, members })
    }

    /// `eth0.100` without a link of that name: the tag on what `eth0` stands for.
    fn without_vlan_device(name: &str, links: &[Link]) -> Result<Self, Error> {
        let unknown = || Error::NoSuchInterface { name: name.to_owned() };
        let (lower_name, tag) = name.rsplit_once('.').ok_or_else(unknown)?;
        let tag = tag.parse().ok().filter(|tag| TAGS.contains(tag)).ok_or_else(unknown)?;
        let lower = Self::resolve(lower_name, links)?;
        if lower.tag.is_some() {
            return Err(Error::StackedVlan { interface: name.to_owned(), parent: lower_name.to_owned() });
        }
        let kind = LinkKind::Vlan { tag, parent: lower.logical.index };
        let logical = Link { name: name.to_owned(), index: NO_LINK, kind, ..lower.logical };
        Ok(Self { logical, tag: Some(tag), members: lower.members })
    }

    /// IP bytes that fit one packet of this uplink.
    pub fn mtu(&self) -> u32 {
        self.logical.mtu
    }
}

fn find(links: &[Link], wanted: impl Fn(&Link) -> bool) -> Option<&Link> {
    links.iter().find(|link| wanted(link))
}

fn refuse_members(link: &Link, links: &[Link]) -> Result<(), Error> {
    let controller = link.controller.and_then(|index| find(links, |l| l.index == index));
    match controller {
        Some(bond) if bond.kind == LinkKind::Bond => {
            Err(Error::IsMember { interface: link.name.clone(), controller: bond.name.clone() })
        }
        _ => Ok(()),
    }
}

fn below<'a>(vlan: &Link, parent: u32, links: &'a [Link]) -> Result<&'a Link, Error> {
    find(links, |link| link.index == parent)
        .ok_or_else(|| Error::NoSuchInterface { name: format!("the device below {}", vlan.name) })
}

fn members_of(bond: &Link, links: &[Link]) -> Result<Vec<Link>, Error> {
    let members: Vec<Link> =
        links.iter().filter(|link| link.controller == Some(bond.index)).cloned().collect();
    if members.is_empty() { Err(Error::NoMembers { interface: bond.name.clone() }) } else { Ok(members) }
}

fn not_an_uplink(link: &Link, kind: &str) -> Error {
    Error::NotAnUplink { interface: link.name.clone(), kind: kind.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32, kind: LinkKind, controller: Option<u32>) -> Link {
        Link {
            name: name.into(),
            index,
            mac: Some([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            kind,
            up: true,
            carrier: true,
            controller,
            standby: false,
            receive_queues: 1,
            transmit_queues: 1,
            xdp_program: None,
        }
    }

    fn host() -> Vec<Link> {
        vec![
            link("eth0", 2, LinkKind::Device, Some(4)),
            link("eth1", 3, LinkKind::Device, Some(4)),
            link("bond0", 4, LinkKind::Bond, None),
            link("bond0.100", 5, LinkKind::Vlan { tag: 100, parent: 4 }, None),
            link("bond0.100.7", 6, LinkKind::Vlan { tag: 7, parent: 5 }, None),
            link("bond1", 7, LinkKind::Bond, None),
            link("br0", 8, LinkKind::Other("bridge".into()), None),
            link("eth2", 9, LinkKind::Device, Some(8)),
        ]
    }

    fn names(uplink: &Uplink) -> Vec<&str> {
        uplink.members.iter().map(|link| link.name.as_str()).collect()
    }

    #[test]
    fn a_bond_means_its_members() {
        let uplink = Uplink::resolve("bond0", &host()).unwrap();
        assert_eq!((names(&uplink), uplink.tag), (vec!["eth0", "eth1"], None));
    }

    #[test]
    fn a_vlan_on_a_bond_means_its_tag_on_the_members() {
        let uplink = Uplink::resolve("bond0.100", &host()).unwrap();
        assert_eq!((names(&uplink), uplink.tag), (vec!["eth0", "eth1"], Some(100)));
        assert_eq!(uplink.logical.index, 5);
    }

    #[test]
    fn a_tag_needs_no_vlan_device_of_the_kernels() {
        let uplink = Uplink::resolve("eth2.7", &host()).unwrap();
        assert_eq!((names(&uplink), uplink.tag, uplink.mtu()), (vec!["eth2"], Some(7), 1500));
        assert_eq!((uplink.logical.index, uplink.logical.name.as_str()), (0, "eth2.7"));
        assert_eq!(names(&Uplink::resolve("bond0.200", &host()).unwrap()), ["eth0", "eth1"]);
        for name in ["eth2.0", "eth2.4095", "eth2.x", "eth2.", "eth9.7"] {
            assert!(matches!(Uplink::resolve(name, &host()), Err(Error::NoSuchInterface { .. })), "{name}");
        }
        for name in ["bond0.100.8", "eth2.7.8"] {
            assert!(matches!(Uplink::resolve(name, &host()), Err(Error::StackedVlan { .. })), "{name}");
        }
        assert!(matches!(Uplink::resolve("eth0.7", &host()), Err(Error::IsMember { .. })));
    }

    #[test]
    fn a_bonds_member_is_refused_with_the_bonds_name() {
        let error = Uplink::resolve("eth0", &host()).unwrap_err();
        assert!(matches!(error, Error::IsMember { controller, .. } if controller == "bond0"));
    }

    #[test]
    fn a_bridge_port_is_an_uplink_and_a_bridge_is_not() {
        assert_eq!(names(&Uplink::resolve("eth2", &host()).unwrap()), ["eth2"]);
        assert!(matches!(Uplink::resolve("br0", &host()), Err(Error::NotAnUplink { .. })));
    }

    #[test]
    fn stacked_tags_empty_bonds_and_unknown_names_are_refused_by_name() {
        assert!(matches!(Uplink::resolve("bond0.100.7", &host()), Err(Error::StackedVlan { .. })));
        assert!(matches!(Uplink::resolve("bond1", &host()), Err(Error::NoMembers { .. })));
        assert!(matches!(Uplink::resolve("eth9", &host()), Err(Error::NoSuchInterface { .. })));
    }
}
