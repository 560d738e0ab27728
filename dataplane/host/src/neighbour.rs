//! The kernel's ARP and NDP knowledge.

use std::net::IpAddr;

use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

/// One neighbour of one interface.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// By index.
    pub interface: u32,
    pub address: IpAddr,
    /// `None`: the kernel does not know it, or knows that it does not answer.
    pub mac: Option<[u8; 6]>,
}

impl Neighbour {
    /// `None` for bridge entries and the like, which have no IP address.
    pub(crate) fn from_message(message: &NeighbourMessage) -> Option<Self> {
        let address = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
            _ => None,
        })?;
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        let mac = mac.filter(|_| is_usable(message.header.state));
        Some(Self { interface: message.header.ifindex, address, mac })
    }
}

/// RFC 4861, section 7.3.2: in these states packets are sent to the cached address.
fn is_usable(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(state: NeighbourState) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 2;
        message.header.state = state;
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([10, 0, 0, 1].into())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 9]),
        ];
        message
    }

    #[test]
    fn a_stale_neighbour_is_still_used() {
        let neighbour = Neighbour::from_message(&message(NeighbourState::Stale)).unwrap();
        assert_eq!(neighbour.mac, Some([2, 0, 0, 0, 0, 9]));
    }

    #[test]
    fn a_failed_neighbour_has_no_mac() {
        let neighbour = Neighbour::from_message(&message(NeighbourState::Failed)).unwrap();
        assert_eq!(neighbour.mac, None);
    }
}
