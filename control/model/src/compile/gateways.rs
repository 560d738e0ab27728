//! North-south: the listeners of the Gateways that a node serves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::draft::Draft;
use super::rules;
use super::virtual_hosts::{self, HostGroup};
use crate::attach::GatewayView;
use crate::defaults::UDP_SESSION_IDLE;
use crate::service::Transport;
use crate::table::{GATEWAY_CLASS, Listener, Protocol, RouteTable};
use crate::tcp::TcpSettings;

pub(super) fn add(draft: &mut Draft<'_>, node: &str) {
    let attached = draft.attached;
    for (index, gateway) in attached.gateways.iter().enumerate().filter(|(_, gateway)| gateway.serves()) {
        let Some(addresses) = gateway.nodes.get(node) else { continue };
        // Listeners of one port are one listener of the table.
        let mut ports: BTreeMap<(u16, Transport), Vec<usize>> = BTreeMap::new();
        for (number, listener) in
            gateway.listeners.iter().enumerate().filter(|(_, listener)| listener.serves())
        {
            ports.entry((listener.spec.port, listener.transport())).or_default().push(number);
        }
        for (port, listeners) in ports {
            let place = Place { gateway, index, addresses, port, listeners: &listeners };
            place.add(draft);
        }
    }
}

/// One port of one Gateway.
struct Place<'a> {
    gateway: &'a GatewayView<'a>,
    index: usize,
    addresses: &'a [IpAddr],
    port: (u16, Transport),
    /// Which of the Gateway's listeners have it.
    listeners: &'a [usize],
}

impl Place<'_> {
    fn add(&self, draft: &mut Draft<'_>) {
        let (port, transport) = self.port;
        let name = format!("gateway/{}/{port}/{}", self.gateway.key.path(), transport.lower());
        let first = &self.gateway.listeners[self.listeners[0]];
        let protocol = if first.spec.protocol == "HTTP" {
            Some(self.http(draft, &name))
        } else {
            self.l4(draft, transport)
        };
        // A TCP or UDP listener that no route has come to has nothing to do with what arrives.
        let Some(protocol) = protocol else { return };
        let listener = Listener {
            name: name.clone(),
            class: GATEWAY_CLASS.to_owned(),
            addresses: self.addresses.to_vec(),
            port,
            protocol,
            tcp: TcpSettings::of(&self.gateway.metadata.annotations),
        };
        draft.table.listeners.insert(name, listener);
    }

    fn http(&self, draft: &mut Draft<'_>, name: &str) -> Protocol {
        let mut groups = Vec::new();
        for number in self.listeners {
            let mut group = HostGroup::new(self.gateway.listeners[*number].spec.hostname.as_deref());
            for (here, hostnames) in draft.attached.at_listener(self.index, *number) {
                let routes = rules::routes(draft, here, self.port.0);
                group.add(hostnames, &routes);
            }
            groups.push(group);
        }
        let routes = RouteTable { name: name.to_owned(), virtual_hosts: virtual_hosts::build(&groups) };
        draft.table.routes.insert(name.to_owned(), routes);
        Protocol::Http { routes: name.to_owned() }
    }

    fn l4(&self, draft: &mut Draft<'_>, transport: Transport) -> Option<Protocol> {
        let number = *self.listeners.first()?;
        let (here, _) = draft.attached.at_listener(self.index, number).into_iter().next()?;
        let backends = draft.l4_backends(here)?;
        Some(match transport {
            Transport::Tcp => Protocol::Tcp { backends },
            Transport::Udp => Protocol::Udp { backends, idle: UDP_SESSION_IDLE },
        })
    }
}
