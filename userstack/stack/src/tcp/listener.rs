//! Listeners: who is asked when a SYN arrives, and the connections that wait to be accepted.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::slab::Slab;
use super::{FlowKey, ListenError, ListenSpec, ListenerKey, TcpOptions};
use crate::{Instant, InterfaceId};

/// Listeners a stack holds: a service each, with room.
const MAX_LISTENERS: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Listener {
    pub spec: ListenSpec,
    pub options: TcpOptions,
    /// Established, not accepted yet; oldest first.
    pub waiting: VecDeque<FlowKey>,
    /// In SYN-RECEIVED.
    pub half_open: usize,
    /// When a SYN was last answered by a cookie: without it no acknowledgement is taken for one.
    pub cookie_at: Option<Instant>,
    /// An event is told and not yet taken.
    pub told: bool,
}

impl Listener {
    /// Room for a connection that waits.
    pub(crate) fn may_establish(&self) -> bool {
        self.waiting.len() < self.options.backlog.max(1)
    }

    /// Room for a half-open connection; without it a cookie answers.
    pub(crate) fn may_open(&self) -> bool {
        self.waiting.len() + self.half_open < self.options.backlog.max(1)
    }
}

#[derive(Debug)]
pub(crate) struct Listeners {
    slab: Slab<Listener>,
    by_port: BTreeMap<u16, Vec<u32>>,
    any_port: Vec<u32>,
}

impl Listeners {
    pub(crate) fn new() -> Self {
        Self { slab: Slab::new(), by_port: BTreeMap::new(), any_port: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn insert(
        &mut self,
        spec: ListenSpec,
        options: TcpOptions,
    ) -> Result<ListenerKey, ListenError> {
        if self.slab.len() >= MAX_LISTENERS {
            return Err(ListenError::TooManyListeners);
        }
        if self
            .of_port(spec.port)
            .iter()
            .any(|slot| self.slab.at(*slot).is_some_and(|other| other.spec == spec))
        {
            return Err(ListenError::InUse);
        }
        let listener =
            Listener { spec, options, waiting: VecDeque::new(), half_open: 0, cookie_at: None, told: false };
        let (slot, life) = self.slab.insert(listener);
        match spec.port {
            Some(port) => self.by_port.entry(port).or_default().push(slot),
            None => self.any_port.push(slot),
        }
        Ok(ListenerKey::new(slot, life))
    }

    pub(crate) fn remove(&mut self, key: ListenerKey) -> Option<Listener> {
        self.slab.get(key.slot, key.lives())?;
        let listener = self.slab.remove(key.slot)?;
        match listener.spec.port {
            Some(port) => {
                let slots = self.by_port.get_mut(&port)?;
                slots.retain(|slot| *slot != key.slot);
                if slots.is_empty() {
                    self.by_port.remove(&port);
                }
            }
            None => self.any_port.retain(|slot| *slot != key.slot),
        }
        Some(listener)
    }

    pub(crate) fn get(&self, key: ListenerKey) -> Option<&Listener> {
        self.slab.get(key.slot, key.lives())
    }

    pub(crate) fn get_mut(&mut self, key: ListenerKey) -> Option<&mut Listener> {
        self.slab.get_mut(key.slot, key.lives())
    }

    /// The most exact listener: address before prefix before any; port before any; interface before any.
    pub(crate) fn find(&self, local: SocketAddr, interface: InterfaceId) -> Option<ListenerKey> {
        let candidates = self.of_port(Some(local.port())).iter().chain(&self.any_port);
        let fitting = candidates.filter_map(|&slot| {
            let spec = &self.slab.at(slot)?.spec;
            let fits =
                spec.addresses.contains(local.ip()) && spec.interface.is_none_or(|only| only == interface);
            fits.then_some((spec.addresses.len, spec.port.is_some(), spec.interface.is_some(), slot))
        });
        fitting.max().map(|(.., slot)| ListenerKey::new(slot, self.slab.life(slot)))
    }

    fn of_port(&self, port: Option<u16>) -> &[u32] {
        match port {
            Some(port) => self.by_port.get(&port).map_or(&[], Vec::as_slice),
            None => &self.any_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prefix;

    fn spec(address: &str, len: u8, port: Option<u16>, interface: Option<u16>) -> ListenSpec {
        let addresses = Prefix { address: address.parse().unwrap(), len };
        ListenSpec { addresses, port, interface: interface.map(InterfaceId) }
    }

    #[test]
    fn the_most_exact_listener_is_asked() {
        let mut listeners = Listeners::new();
        let mut add = |spec| listeners.insert(spec, TcpOptions::default()).unwrap();
        let any = add(spec("0.0.0.0", 0, None, None));
        let port = add(spec("0.0.0.0", 0, Some(80), None));
        let prefix = add(spec("10.0.0.0", 8, None, None));
        let exact = add(spec("10.0.0.1", 32, Some(80), None));
        let exact_interface = add(spec("10.0.0.1", 32, Some(80), Some(3)));
        let find =
            |address: &str, interface| listeners.find(address.parse().unwrap(), InterfaceId(interface));
        assert_eq!(find("192.0.2.1:81", 1), Some(any));
        assert_eq!(find("192.0.2.1:80", 1), Some(port));
        assert_eq!(find("10.9.9.9:80", 1), Some(prefix), "the address counts before the port");
        assert_eq!(find("10.0.0.1:80", 1), Some(exact));
        assert_eq!(find("10.0.0.1:80", 3), Some(exact_interface));
        assert_eq!(find("[2001:db8::1]:80", 1), None);
    }

    #[test]
    fn one_spec_has_one_listener_and_is_free_again_after_it() {
        let mut listeners = Listeners::new();
        let spec = spec("10.0.0.1", 32, Some(80), None);
        let key = listeners.insert(spec, TcpOptions::default()).unwrap();
        assert_eq!(listeners.insert(spec, TcpOptions::default()), Err(ListenError::InUse));
        assert!(listeners.remove(key).is_some() && listeners.remove(key).is_none());
        assert!(listeners.insert(spec, TcpOptions::default()).is_ok());
        assert!(listeners.get(key).is_none(), "the old key misses");
    }
}
