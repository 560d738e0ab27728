//! What can go wrong with the host, in words that say who, what and what next.

use std::io;
use std::path::PathBuf;

/// One closed list for the crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no interface {name} in this network namespace: `ip link` lists those that exist")]
    NoSuchInterface { name: String },

    #[error("{what}: netlink answered: {source}")]
    Netlink { what: String, source: io::Error },

    #[error("network namespace {path}: {source}")]
    Namespace { path: PathBuf, source: io::Error },

    #[error(
        "{interface} is a member of {controller}: name {controller} as the uplink, and Ringway attaches to its members"
    )]
    IsMember { interface: String, controller: String },

    #[error("bond {interface} has no members: add them with `ip link set DEV master {interface}`")]
    NoMembers { interface: String },

    #[error("{interface} is a VLAN on {parent}, itself a VLAN: stacked tags (802.1ad) are not supported")]
    StackedVlan { interface: String, parent: String },

    #[error(
        "{interface} is a {kind}: an uplink is a card, a veth, a bond of such, or a VLAN on one of these"
    )]
    NotAnUplink { interface: String, kind: String },

    #[error(
        "{interface}: {feature} stays on (the driver fixes it), so VLAN tags would be taken off before XDP sees the frame: \
         use the interface without VLANs, or another card"
    )]
    VlanOffloadStaysOn { interface: String, feature: &'static str },

    #[error("{interface}: the device has no feature {feature}: `ethtool -k {interface}` lists its features")]
    NoSuchFeature { interface: String, feature: String },

    #[error(
        "{interface}: {feature} could not be switched {wanted}: the driver fixes it or another feature needs it"
    )]
    FeatureStays { interface: String, feature: String, wanted: &'static str },

    #[error("{name} exists already: remove it with `ip link del {name}` or choose another name")]
    InterfaceExists { name: String },

    #[error("{name} is {length} bytes, an interface's name has 1 to 15")]
    InterfaceName { name: String, length: usize },
}

impl Error {
    pub(crate) fn netlink(what: impl Into<String>, source: rtnetlink::Error) -> Self {
        let source = match source {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        Self::Netlink { what: what.into(), source }
    }
}
