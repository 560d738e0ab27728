//! Which routes belong to which Gateway listeners and Services, and why others do not: one view of all resources,
//! made once, from which both tables and conditions are read.

mod conflicts;
mod gateways;
mod parents;
mod views;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::allocate;
use crate::kind::Key;
use crate::resources::Resources;
use crate::service::{ServiceSpec, Transport};

pub(crate) use gateways::{GatewayView, ListenerView};
pub(crate) use views::{Attachment, ParentView, RouteSpec, RouteView};

/// Every Gateway and route with its outcome.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    pub resources: &'a Resources,
    /// In the order of their keys.
    pub gateways: Vec<GatewayView<'a>>,
    /// Oldest first, then by namespace and name: the Gateway API's order wherever routes compete.
    pub routes: Vec<RouteView<'a>>,
    /// Who serves each Service address.
    pub service_addresses: BTreeMap<IpAddr, Key>,
    /// By Gateway and listener.
    listeners: BTreeMap<(usize, usize), Vec<AtListener>>,
    ports: BTreeMap<PortView, Vec<Place>>,
}

/// A Service's port as the sources of one namespace see it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortView {
    pub namespace: String,
    pub service: String,
    pub port: u16,
    pub transport: Transport,
    /// Whose routes: the Service's own namespace (producer) or another (consumer).
    pub routes_of: String,
}

/// A route, and the parentRef by which it is here.
#[derive(Copy, Clone, Debug)]
struct Place {
    route: usize,
    parent: usize,
}

#[derive(Debug)]
struct AtListener {
    place: Place,
    hostnames: Vec<String>,
}

impl<'a> Attached<'a> {
    pub(crate) fn new(resources: &'a Resources) -> Attached<'a> {
        let gateways = gateways::views(resources);
        let mut routes: Vec<RouteView<'a>> = resources.iter().filter_map(RouteView::new).collect();
        routes.sort_by(|one, other| one.age().cmp(&other.age()));
        for route in &mut routes {
            route.parents = parents::attach(resources, &gateways, route);
        }
        conflicts::settle(&mut routes);
        let (listeners, ports) = (BTreeMap::new(), BTreeMap::new());
        let service_addresses = allocate::holders(resources);
        let mut attached = Attached { resources, gateways, routes, service_addresses, listeners, ports };
        attached.index();
        attached
    }

    /// Several parentRefs may lead to one place; the first counts.
    fn index(&mut self) {
        for (route, view) in self.routes.iter().enumerate() {
            for (parent, outcome) in view.parents.iter().enumerate() {
                let place = Place { route, parent };
                match &outcome.outcome {
                    Ok(Attachment::Gateway { gateway, listeners }) => {
                        for at in listeners {
                            let here = self.listeners.entry((*gateway, at.listener)).or_default();
                            if here.last().is_none_or(|last| last.place.route != route) {
                                here.push(AtListener { place, hostnames: at.hostnames.clone() });
                            }
                        }
                    }
                    Ok(Attachment::Service { namespace, name, ports }) => {
                        for (port, transport) in ports {
                            let port = PortView {
                                namespace: namespace.clone(),
                                service: name.clone(),
                                port: *port,
                                transport: *transport,
                                routes_of: view.key.namespace.clone(),
                            };
                            let here = self.ports.entry(port).or_default();
                            if here.last().is_none_or(|last| last.route != route) {
                                here.push(place);
                            }
                        }
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// The addresses of a Service that are its own: an older one may have them.
    pub(crate) fn addresses_of(&self, service: &Key, spec: &ServiceSpec) -> Vec<IpAddr> {
        let own = |address: &IpAddr| self.service_addresses.get(address) == Some(service);
        spec.addresses().into_iter().filter(own).collect()
    }

    /// The routes at one listener, oldest first, with the host names that they share with it.
    pub(crate) fn at_listener(&self, gateway: usize, listener: usize) -> Vec<(Here<'_>, &[String])> {
        let found = self.listeners.get(&(gateway, listener)).map_or(&[][..], Vec::as_slice);
        found.iter().map(|at| (self.here(at.place), at.hostnames.as_slice())).collect()
    }

    /// The specification counts each route once at each listener, and only Accepted ones.
    pub(crate) fn attached_routes(&self, gateway: usize, listener: usize) -> usize {
        self.listeners.get(&(gateway, listener)).map_or(0, Vec::len)
    }

    pub(crate) fn at_port(&self, port: &PortView) -> Vec<Here<'_>> {
        let found = self.ports.get(port).map_or(&[][..], Vec::as_slice);
        found.iter().map(|place| self.here(*place)).collect()
    }

    /// The namespaces that have routes for other namespaces' Services.
    pub(crate) fn consumers(&self) -> BTreeSet<&str> {
        let foreign = self.ports.keys().filter(|port| port.routes_of != port.namespace);
        foreign.map(|port| port.routes_of.as_str()).collect()
    }

    fn here(&self, place: Place) -> Here<'_> {
        let route = &self.routes[place.route];
        Here { route, parent: &route.parents[place.parent] }
    }
}

/// A route at one of its places, and the parentRef by which it is there.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Here<'a> {
    pub route: &'a RouteView<'a>,
    pub parent: &'a ParentView<'a>,
}
