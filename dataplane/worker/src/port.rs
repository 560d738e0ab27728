//! One queue pair of this worker: the packets that wait for its transmit ring, and the interfaces whose frames it
//! carries.

use nic::{Burst, Capture, QueueCounters, QueuePair};
use stack::InterfaceId;

use crate::flow;

/// One queue pair of this worker and the packets that wait for its transmit ring.
pub struct Port {
    pub name: String,
    /// The caller's number for the device that the queue pair belongs to.
    pub device: usize,
    pub queue: Capture<Box<dyn QueuePair>>,
    pub outgoing: Burst,
    pub link: LinkState,
    /// It is among those that are flushed at the end of the turn.
    pub(crate) listed: bool,
    /// By the VLAN identifier of a frame, which interface it belongs to; at 0 that of untagged frames.
    interfaces: Vec<Option<InterfaceId>>,
}

/// What a device can do for its interface now.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    /// No carrier, or switched off.
    Down,
    /// Frames could pass, but its bond does not use it (yet): it stands by.
    StandsBy,
    Carries,
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port").field("name", &self.name).field("link", &self.link).finish_non_exhaustive()
    }
}

impl Port {
    pub fn new(name: String, device: usize, queue: Box<dyn QueuePair>) -> Self {
        Self {
            name,
            device,
            queue: Capture::new(queue),
            outgoing: Burst::new(),
            link: LinkState::Carries,
            listed: false,
            interfaces: Vec::new(),
        }
    }

    /// Hands the ring what waits, and asks the device again for what it left; what the ring does not take waits on.
    pub fn flush(&mut self) {
        if self.is_sending() {
            self.queue.transmit(&mut self.outgoing);
        }
    }

    pub fn is_sending(&self) -> bool {
        !self.outgoing.is_empty() || self.queue.is_sending()
    }

    pub fn counters(&mut self) -> QueueCounters {
        self.queue.counters()
    }

    /// Which interface a packet with these first bytes, received here, belongs to.
    pub(crate) fn interface_of(&self, head: &[u8]) -> Option<InterfaceId> {
        self.interfaces.get(place_of(flow::vlan_of(head))).copied().flatten()
    }

    /// Frames with this tag belong to `interface` from here on; `None`: to nobody.
    pub(crate) fn lead(&mut self, vlan: Option<u16>, interface: Option<InterfaceId>) {
        let place = place_of(vlan);
        if self.interfaces.len() <= place {
            self.interfaces.resize(place + 1, None);
        }
        self.interfaces[place] = interface;
    }
}

/// A tag of VLAN 0 (priority only) counts as none, so its place is free for untagged frames.
fn place_of(vlan: Option<u16>) -> usize {
    usize::from(vlan.unwrap_or(0))
}
