//! Routes that want one place: who keeps it.
//!
//! - At a listener an HTTPRoute and a GRPCRoute must not share a host name (GRPCRoute's specification); the older
//!   stays. A TCP or UDP listener has one route, the oldest.
//! - At a Service's port one kind of route counts for one namespace's calls, the most specific (GEP-1426): GRPCRoute,
//!   then HTTPRoute, then TCPRoute. Of TCPRoutes and UDPRoutes the oldest counts.

use std::collections::BTreeMap;

use super::views::{AtListener, Attachment, RouteView};
use crate::hostname;
use crate::kind::{Key, Kind};
use crate::reason::{Reason, Refusal};
use crate::service::Transport;

/// Routes come oldest first, so whoever already has a place is the older.
pub(super) fn settle(routes: &mut [RouteView<'_>]) {
    let winners = service_winners(routes);
    let mut listeners = BTreeMap::new();
    for route in routes {
        let key = route.key.clone();
        for parent in &mut route.parents {
            let Ok(attachment) = &mut parent.outcome else { continue };
            let lost = match attachment {
                Attachment::Gateway { gateway, listeners: wanted } => {
                    keep_listeners(&mut listeners, &key, *gateway, wanted)
                }
                Attachment::Service { namespace, name, ports } => {
                    let place = |port: &(u16, Transport)| place(&key, namespace, name, *port);
                    keep_ports(&winners, &key, ports, place)
                }
            };
            if let Some(message) = lost {
                parent.outcome = Err(Refusal::new(Reason::RouteConflict, message));
            }
        }
    }
}

/// The routes that have a listener so far.
type Holders = BTreeMap<(usize, usize), Vec<(Key, Vec<String>)>>;

/// Takes away the listeners that others have; a message if none is left.
fn keep_listeners(
    holders: &mut Holders,
    key: &Key,
    gateway: usize,
    wanted: &mut Vec<AtListener>,
) -> Option<String> {
    let mut lost = None;
    wanted.retain(|at| {
        let held = holders.entry((gateway, at.listener)).or_default();
        let other = held.iter().find(|(holder, hostnames)| {
            excludes(holder.kind, hostnames, key.kind, &at.hostnames) && holder != key
        });
        if let Some((holder, _)) = other {
            lost = Some(format!("{holder}, which is older, already has this listener for such requests"));
            return false;
        }
        held.push((key.clone(), at.hostnames.clone()));
        true
    });
    if wanted.is_empty() { lost } else { None }
}

fn excludes(holder: Kind, held: &[String], kind: Kind, wanted: &[String]) -> bool {
    if matches!(kind, Kind::TcpRoute | Kind::UdpRoute) {
        return true;
    }
    let meet = |name: &String| wanted.iter().any(|other| hostname::intersection(name, other).is_some());
    holder != kind && held.iter().any(meet)
}

/// A Service's port as the callers of one namespace see it; `None`: those without routes of their own.
type Place = (String, String, (u16, Transport), Option<String>);

fn place(route: &Key, namespace: &str, name: &str, port: (u16, Transport)) -> Place {
    let consumer = (route.namespace != namespace).then(|| route.namespace.clone());
    (namespace.to_owned(), name.to_owned(), port, consumer)
}

/// For each place the most specific kind, and the oldest route of it.
fn service_winners(routes: &[RouteView<'_>]) -> BTreeMap<Place, Key> {
    let mut winners: BTreeMap<Place, Key> = BTreeMap::new();
    for route in routes {
        for parent in &route.parents {
            let Ok(Attachment::Service { namespace, name, ports }) = &parent.outcome else { continue };
            for port in ports {
                let holder = winners
                    .entry(place(&route.key, namespace, name, *port))
                    .or_insert_with(|| route.key.clone());
                if specificity(route.key.kind) > specificity(holder.kind) {
                    *holder = route.key.clone();
                }
            }
        }
    }
    winners
}

fn specificity(kind: Kind) -> u8 {
    match kind {
        Kind::GrpcRoute => 2,
        Kind::HttpRoute => 1,
        _ => 0,
    }
}

fn keep_ports(
    winners: &BTreeMap<Place, Key>,
    key: &Key,
    ports: &mut Vec<(u16, Transport)>,
    place: impl Fn(&(u16, Transport)) -> Place,
) -> Option<String> {
    let mut lost = None;
    ports.retain(|port| {
        let Some(winner) = winners.get(&place(port)) else { return true };
        let shares = winner.kind == key.kind && specificity(key.kind) > 0;
        if shares || winner == key {
            return true;
        }
        lost = Some(format!("{winner} decides about port {}", port.0));
        false
    });
    if ports.is_empty() { lost } else { None }
}
