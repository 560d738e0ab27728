//! Programmed: whether the nodes serve by what was sent to them.
//!
//! The Gateway API gives this condition to Gateways and listeners, with the meaning "sent to the data plane, and not
//! refused there" (GEP-1364). Routes have it here too, with the same reasons: their Accepted says only that they are
//! valid, and who may see a route need not see the Gateway. A NACK refuses one response, so it concerns the routes
//! whose names stand in the node's words; where none does, those of the listener, Service or cluster that is named;
//! and where nothing known is named, all.

use std::collections::{BTreeMap, BTreeSet};

use crate::answers::{Answers, NodeAnswer};
use crate::attach::{Attached, Attachment, GatewayView, ParentView, RouteView};
use crate::backend;
use crate::reason::{Reason, Refusal};

/// The nodes' answers, read against the resources.
pub(super) struct Programmed<'a> {
    attached: &'a Attached<'a>,
    answers: &'a Answers,
    /// Of each node that has refused something.
    nacks: BTreeMap<&'a str, Vec<Nack<'a>>>,
    /// Nodes whose workloads may call Services.
    callers: BTreeSet<&'a str>,
}

impl<'a> Programmed<'a> {
    pub(super) fn new(attached: &'a Attached<'a>, answers: &'a Answers) -> Programmed<'a> {
        let nacks = answers.iter().filter_map(|(node, answer)| {
            let NodeAnswer::Refused(refused) = answer else { return None };
            let each = refused.words.iter().map(|words| Nack::new(attached, words));
            Some((node.as_str(), each.collect()))
        });
        let callers = attached.resources.workloads().filter_map(|(_, spec)| spec.node.as_deref());
        Programmed { attached, answers, nacks: nacks.collect(), callers: callers.collect() }
    }

    /// When the node has acknowledged its whole table.
    pub(super) fn node(&self, node: &str) -> Result<(), Refusal> {
        match self.answers.get(node) {
            Some(NodeAnswer::Acknowledged) => Ok(()),
            Some(NodeAnswer::Refused(refused)) => {
                let words = refused.words.join("; ");
                Err(Refusal::new(Reason::Invalid, format!("node {node} refused its table: {words}")))
            }
            Some(NodeAnswer::Pending) | None => Err(pending(node)),
        }
    }

    /// When every node that serves it has acknowledged its table.
    pub(super) fn gateway(&self, gateway: &GatewayView<'_>) -> Result<(), Refusal> {
        placed(gateway)?;
        gateway.nodes.keys().try_for_each(|node| self.node(node))
    }

    /// When no node that serves the route below `parent` has refused it, and all have acknowledged what they were sent.
    pub(super) fn route(&self, route: &RouteView<'_>, parent: &ParentView<'_>) -> Result<(), Refusal> {
        match &parent.outcome {
            Err(_) => Err(Refusal::new(Reason::Invalid, "the route is not Accepted")),
            Ok(Attachment::Gateway { gateway, .. }) => {
                let gateway = &self.attached.gateways[*gateway];
                placed(gateway)?;
                gateway.nodes.keys().try_for_each(|node| self.route_on(node, route, parent))
            }
            Ok(Attachment::Service { .. }) if self.callers.is_empty() => Err(Refusal::new(
                Reason::NoResources,
                "no Workload is on a Node, so nobody calls the Service",
            )),
            Ok(Attachment::Service { .. }) => {
                self.callers.iter().try_for_each(|node| self.route_on(node, route, parent))
            }
        }
    }

    fn route_on(&self, node: &str, route: &RouteView<'_>, parent: &ParentView<'_>) -> Result<(), Refusal> {
        let Some(NodeAnswer::Refused(refused)) = self.answers.get(node) else { return self.node(node) };
        for nack in self.nacks.get(node).into_iter().flatten() {
            let words = nack.words;
            match nack.concern(self.attached, route, parent) {
                Concern::Named => {
                    let message = format!("node {node} refused it and serves by what it had: {words}");
                    return Err(Refusal::new(Reason::Invalid, message));
                }
                Concern::Shares => {
                    let message = format!(
                        "node {node} has not taken a change of the routes that share its place: {words}"
                    );
                    return Err(Refusal::new(Reason::Pending, message));
                }
                Concern::None => {}
            }
        }
        if refused.rest_acknowledged { Ok(()) } else { Err(pending(node)) }
    }
}

fn pending(node: &str) -> Refusal {
    Refusal::new(Reason::Pending, format!("node {node} has not acknowledged its table"))
}

/// Whether there is a node that should serve it.
fn placed(gateway: &GatewayView<'_>) -> Result<(), Refusal> {
    if gateway.accepted.is_err() {
        return Err(Refusal::new(Reason::Invalid, "the Gateway is not Accepted"));
    }
    if let Some(address) = gateway.unusable.first() {
        let message = format!("no Node has the address {address}");
        return Err(Refusal::new(Reason::AddressNotUsable, message));
    }
    if gateway.nodes.is_empty() {
        return Err(Refusal::new(Reason::NoResources, "no Node has an address for Gateways"));
    }
    Ok(())
}

/// What one refusal of one node is about.
struct Nack<'a> {
    words: &'a str,
    names: Names<'a>,
    about: About,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum About {
    /// Routes are named.
    Routes,
    /// A listener, Service or cluster that some route has to do with is named.
    Places,
    Unknown,
}

/// What a refusal is to one route.
enum Concern {
    Named,
    /// Another route is named, and stands in the same resource of the table: that is refused as a whole.
    Shares,
    None,
}

impl<'a> Nack<'a> {
    fn new(attached: &Attached<'_>, words: &'a str) -> Nack<'a> {
        let names = Names::in_words(words);
        let each =
            || attached.routes.iter().flat_map(|route| route.parents.iter().map(move |at| (route, at)));
        let about = if attached.routes.iter().any(|route| names.has_route(route)) {
            About::Routes
        } else if each().any(|(route, at)| names.has_place(attached, route, at)) {
            About::Places
        } else {
            About::Unknown
        };
        Nack { words, names, about }
    }

    fn concern(&self, attached: &Attached<'_>, route: &RouteView<'_>, parent: &ParentView<'_>) -> Concern {
        let place = || self.names.has_place(attached, route, parent);
        match self.about {
            About::Unknown => Concern::Named,
            About::Routes if self.names.has_route(route) => Concern::Named,
            About::Routes if place() => Concern::Shares,
            About::Places if place() => Concern::Named,
            About::Routes | About::Places => Concern::None,
        }
    }
}

/// Names of a table that stand in a text, as `compile` makes them.
struct Names<'a> {
    /// `namespace/name/rule/match`, without the last two.
    routes: BTreeSet<(&'a str, &'a str)>,
    /// `gateway/namespace/name/port/transport`.
    gateways: BTreeSet<(&'a str, &'a str, u16)>,
    /// `class/namespace/name/port/transport`, of whatever class.
    services: BTreeSet<(&'a str, &'a str, u16)>,
    /// `namespace/service/port/protocol`.
    clusters: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn in_words(words: &'a str) -> Names<'a> {
        let mut names = Names {
            routes: BTreeSet::new(),
            gateways: BTreeSet::new(),
            services: BTreeSet::new(),
            clusters: BTreeSet::new(),
        };
        let part_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/' | '@');
        for word in words.split(|c| !part_of_name(c)) {
            let word = word.trim_end_matches('.');
            let parts: Vec<&str> = word.split('/').collect();
            match parts[..] {
                [namespace, name, _, last] if last.parse::<u32>().is_ok() => {
                    names.routes.insert((namespace, name));
                }
                [_, _, _, _] => {
                    names.clusters.insert(word);
                }
                [owner, namespace, name, port, _] => {
                    let Ok(port) = port.parse() else { continue };
                    let places = if owner == "gateway" { &mut names.gateways } else { &mut names.services };
                    places.insert((namespace, name, port));
                }
                _ => {}
            }
        }
        names
    }

    fn has_route(&self, route: &RouteView<'_>) -> bool {
        self.routes.contains(&(route.key.namespace.as_str(), route.key.name.as_str()))
    }

    /// Whether the place that the route has below `parent`, or one of its backends, is named.
    fn has_place(&self, attached: &Attached<'_>, route: &RouteView<'_>, parent: &ParentView<'_>) -> bool {
        let place = match &parent.outcome {
            Err(_) => return false,
            Ok(Attachment::Gateway { gateway, listeners }) => {
                let gateway = &attached.gateways[*gateway];
                let (namespace, name) = (gateway.key.namespace.as_str(), gateway.key.name.as_str());
                let port = |listener: usize| gateway.listeners[listener].spec.port;
                listeners.iter().any(|at| self.gateways.contains(&(namespace, name, port(at.listener))))
            }
            Ok(Attachment::Service { namespace, name, ports }) => {
                ports.iter().any(|(port, _)| self.services.contains(&(namespace, name, *port)))
            }
        };
        place || (!self.clusters.is_empty() && self.has_backend(attached, route, parent))
    }

    fn has_backend(&self, attached: &Attached<'_>, route: &RouteView<'_>, parent: &ParentView<'_>) -> bool {
        let referrer = route.referrer(parent.parent);
        route.spec.backends().into_iter().any(|(_, backend)| {
            backend::resolve(attached.resources, referrer, backend)
                .is_ok_and(|cluster| self.clusters.contains(cluster.name().as_str()))
        })
    }
}
