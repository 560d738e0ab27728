//! Gateways by themselves: whose they are, which listeners are good, and which nodes serve them at which addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::gateway::{CONTROLLER_NAME, GatewayListener, GatewaySpec, IP_ADDRESS_TYPE};
use crate::kind::{GATEWAY_GROUP, Key, Kind};
use crate::metadata::Metadata;
use crate::reason::{Reason, Refusal};
use crate::resources::Resources;
use crate::service::Transport;

#[derive(Debug)]
pub(crate) struct GatewayView<'a> {
    pub key: Key,
    pub metadata: &'a Metadata,
    /// Whether its class is Ringway's; if not, nothing is done with it.
    pub ours: Result<(), Refusal>,
    pub accepted: Result<(), Refusal>,
    /// As `spec.listeners`.
    pub listeners: Vec<ListenerView<'a>>,
    /// By node: the addresses that it serves this Gateway at. Never an empty list.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Addresses of `spec.addresses` that no Node has.
    pub unusable: Vec<IpAddr>,
}

#[derive(Debug)]
pub(crate) struct ListenerView<'a> {
    pub spec: &'a GatewayListener,
    pub accepted: Result<(), Refusal>,
    pub conflicted: Option<Refusal>,
    /// The kinds of routes that may attach.
    pub kinds: Vec<Kind>,
    /// Whether `allowedRoutes.kinds` names only kinds that the protocol carries.
    pub resolved: Result<(), Refusal>,
}

impl GatewayView<'_> {
    pub(crate) fn serves(&self) -> bool {
        self.ours.is_ok() && self.accepted.is_ok()
    }
}

impl ListenerView<'_> {
    /// Whether it is in the tables.
    pub(crate) fn serves(&self) -> bool {
        self.accepted.is_ok() && self.conflicted.is_none()
    }

    pub(crate) fn transport(&self) -> Transport {
        if self.spec.protocol == "UDP" { Transport::Udp } else { Transport::Tcp }
    }
}

pub(super) fn views(resources: &Resources) -> Vec<GatewayView<'_>> {
    let mut views: Vec<GatewayView<'_>> =
        resources.gateways().map(|(metadata, spec)| view(resources, metadata, spec)).collect();
    take_ports(&mut views);
    for gateway in &mut views {
        if gateway.accepted.is_ok() && !gateway.listeners.iter().any(ListenerView::serves) {
            let message = "none of the listeners can be served; their conditions say why";
            gateway.accepted = Err(Refusal::new(Reason::ListenersNotValid, message));
        }
    }
    views
}

fn view<'a>(resources: &'a Resources, metadata: &'a Metadata, spec: &'a GatewaySpec) -> GatewayView<'a> {
    let mut listeners: Vec<ListenerView<'a>> = spec.listeners.iter().map(listener).collect();
    mark_conflicts(&mut listeners);
    let (nodes, unusable) = bind(resources, spec);
    GatewayView {
        key: Key::new(Kind::Gateway, &metadata.namespace, &metadata.name),
        metadata,
        ours: ours(resources, &spec.gateway_class_name),
        accepted: accepted(resources, spec),
        listeners,
        nodes,
        unusable,
    }
}

fn ours(resources: &Resources, name: &str) -> Result<(), Refusal> {
    let pending = |message: String| Err(Refusal::new(Reason::Pending, message));
    match resources.gateway_class(name) {
        None => pending(format!("GatewayClass {name} does not exist")),
        Some(class) if class.controller_name != CONTROLLER_NAME => pending(format!(
            "GatewayClass {name} belongs to {}, not to {CONTROLLER_NAME}",
            class.controller_name
        )),
        Some(_) => Ok(()),
    }
}

fn accepted(resources: &Resources, spec: &GatewaySpec) -> Result<(), Refusal> {
    let class = resources.gateway_class(&spec.gateway_class_name);
    if class.is_some_and(|class| class.parameters_ref.is_some()) {
        let message =
            format!("GatewayClass {} has parametersRef, which is not supported", spec.gateway_class_name);
        return Err(Refusal::new(Reason::InvalidParameters, message));
    }
    match spec.addresses.iter().find(|address| address.kind != IP_ADDRESS_TYPE) {
        Some(address) => {
            let message = format!(
                "spec.addresses: {} is of type {}, which is not supported; expected IPAddress",
                address.value, address.kind
            );
            Err(Refusal::new(Reason::UnsupportedAddress, message))
        }
        None => Ok(()),
    }
}

fn listener(spec: &GatewayListener) -> ListenerView<'_> {
    let carried: &[Kind] = match spec.protocol.as_str() {
        "HTTP" => &[Kind::HttpRoute, Kind::GrpcRoute],
        "TCP" => &[Kind::TcpRoute],
        "UDP" => &[Kind::UdpRoute],
        _ => &[],
    };
    let accepted = if carried.is_empty() {
        let message = format!("protocol {} is not supported; expected HTTP, TCP or UDP", spec.protocol);
        Err(Refusal::new(Reason::UnsupportedProtocol, message))
    } else {
        Ok(())
    };
    let asked = &spec.allowed_routes.kinds;
    let named =
        |kind: Kind| asked.iter().any(|entry| entry.group == GATEWAY_GROUP && entry.kind == kind.name());
    let kinds = carried.iter().copied().filter(|kind| asked.is_empty() || named(*kind)).collect();
    let foreign = asked
        .iter()
        .find(|entry| !carried.iter().any(|kind| entry.group == GATEWAY_GROUP && entry.kind == kind.name()));
    let resolved = foreign.map_or(Ok(()), |entry| {
        let message = format!(
            "allowedRoutes.kinds: a listener of protocol {} carries no {}",
            spec.protocol, entry.kind
        );
        Err(Refusal::new(Reason::InvalidRouteKinds, message))
    });
    ListenerView { spec, accepted, conflicted: None, kinds, resolved }
}

/// Listeners of one Gateway conflict where one port would have to speak two protocols, or the same name twice
/// (validation refuses the latter, but a table must not depend on it).
fn mark_conflicts(listeners: &mut [ListenerView<'_>]) {
    let mut conflicts = Vec::new();
    for (index, one) in listeners.iter().enumerate() {
        let others = listeners.iter().enumerate().filter(|(other, _)| *other != index);
        let same_port = others
            .map(|(_, other)| other)
            .filter(|other| other.spec.port == one.spec.port && other.transport() == one.transport());
        let conflict = same_port.filter_map(|other| conflict(one.spec, other.spec)).next();
        conflicts.push(conflict);
    }
    for (listener, conflict) in listeners.iter_mut().zip(conflicts) {
        listener.conflicted = conflict;
    }
}

fn conflict(one: &GatewayListener, other: &GatewayListener) -> Option<Refusal> {
    if one.protocol != other.protocol {
        let message = format!("listener {} wants port {} for {}", other.name, other.port, other.protocol);
        return Some(Refusal::new(Reason::ProtocolConflict, message));
    }
    if one.hostname == other.hostname {
        let message = format!("listener {} wants port {} with the same hostname", other.name, other.port);
        return Some(Refusal::new(Reason::HostnameConflict, message));
    }
    None
}

type Binding = (BTreeMap<String, Vec<IpAddr>>, Vec<IpAddr>);

/// A Gateway is where its addresses are; without any it is on every node, at all the node's addresses.
fn bind(resources: &Resources, spec: &GatewaySpec) -> Binding {
    let wanted: Vec<IpAddr> =
        spec.addresses.iter().filter_map(|address| address.value.parse().ok()).collect();
    let mut nodes: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    for (metadata, node) in resources.nodes() {
        let has = |address: &IpAddr| spec.addresses.is_empty() || wanted.contains(address);
        let addresses: Vec<IpAddr> = node.addresses.iter().copied().filter(has).collect();
        if !addresses.is_empty() {
            nodes.insert(metadata.name.clone(), addresses);
        }
    }
    let unusable = wanted
        .into_iter()
        .filter(|address| !nodes.values().any(|addresses| addresses.contains(address)))
        .collect();
    (nodes, unusable)
}

/// Two Gateways cannot share a port of an address; the older has it, ties by namespace and name.
fn take_ports(views: &mut [GatewayView<'_>]) {
    let mut order: Vec<usize> = (0..views.len()).filter(|index| views[*index].serves()).collect();
    order.sort_by_key(|index| (views[*index].metadata.creation_timestamp.clone(), views[*index].key.clone()));
    let mut taken: BTreeMap<(String, IpAddr, u16, Transport), Key> = BTreeMap::new();
    for index in order {
        let gateway = &mut views[index];
        let sockets = |port: u16, transport: Transport| {
            let nodes = gateway.nodes.iter();
            let each =
                nodes.flat_map(|(node, addresses)| addresses.iter().map(move |address| (node, *address)));
            each.map(|(node, address)| (node.clone(), address, port, transport)).collect::<Vec<_>>()
        };
        for listener in gateway.listeners.iter_mut().filter(|listener| listener.serves()) {
            let sockets = sockets(listener.spec.port, listener.transport());
            let other =
                sockets.iter().find_map(|socket| taken.get(socket).filter(|owner| **owner != gateway.key));
            if let Some(owner) = other {
                let message = format!("port {} of the same address is {owner}'s", listener.spec.port);
                listener.accepted = Err(Refusal::new(Reason::PortUnavailable, message));
                continue;
            }
            taken.extend(sockets.into_iter().map(|socket| (socket, gateway.key.clone())));
        }
    }
}
