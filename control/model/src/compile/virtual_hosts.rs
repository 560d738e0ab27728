//! Routes with their host names to virtual hosts, each complete by itself: the proxy takes the most exact host and
//! looks nowhere else.
//!
//! Two rules of the Gateway API make a host more than the routes that name it:
//! - Routes of a wider name follow those of the narrower: a request is not found (404) only if no attached route of
//!   its listener matches (HTTPRoute.spec.hostnames and HTTPRouteRule).
//! - A request belongs to the listener of the most exact name alone, so that a host of a narrower listener has none of
//!   a wider listener's routes (listener isolation).

use std::collections::{BTreeMap, BTreeSet};

use super::precedence::Rank;
use crate::hostname::{self, ANY, Precedence};
use crate::table::{HttpRoute, VirtualHost};

/// One listener of a port, with its routes below each host name that they share with it.
#[derive(Debug, Default)]
pub(super) struct HostGroup {
    /// The listener's; [`ANY`] if it has none.
    pub hostname: String,
    pub routes: BTreeMap<String, Vec<(Rank, HttpRoute)>>,
}

impl HostGroup {
    pub(super) fn new(hostname: Option<&str>) -> HostGroup {
        HostGroup { hostname: hostname.unwrap_or(ANY).to_owned(), routes: BTreeMap::new() }
    }

    pub(super) fn add(&mut self, hostnames: &[String], routes: &[(Rank, HttpRoute)]) {
        for hostname in hostnames {
            self.routes.entry(hostname.clone()).or_default().extend_from_slice(routes);
        }
    }
}

/// The virtual hosts of one port, the most exact first.
pub(super) fn build(groups: &[HostGroup]) -> Vec<VirtualHost> {
    let mut hosts: BTreeMap<(Precedence, String), Vec<HttpRoute>> = BTreeMap::new();
    for group in groups {
        let mut names: BTreeSet<&str> = group.routes.keys().map(String::as_str).collect();
        if groups.len() > 1 {
            // Even without routes it keeps its requests from a wider listener.
            names.insert(&group.hostname);
        }
        for name in names {
            let narrower = groups.iter().any(|other| {
                other.hostname != group.hostname
                    && hostname::covers(&group.hostname, &other.hostname)
                    && hostname::covers(&other.hostname, name)
            });
            if !narrower {
                let key = (hostname::precedence(name), name.to_owned());
                hosts.insert(key, routes_of(group, name));
            }
        }
    }
    let host =
        |((_, name), routes): ((_, String), _)| VirtualHost { domains: vec![name.clone()], name, routes };
    hosts.into_iter().map(host).collect()
}

/// Every route of the listener that a request to `name` can match, in order.
fn routes_of(group: &HostGroup, name: &str) -> Vec<HttpRoute> {
    let covering = group.routes.iter().filter(|(other, _)| hostname::covers(other, name));
    let mut ranked: Vec<(Precedence, &Rank, &HttpRoute)> = covering
        .flat_map(|(other, routes)| {
            let width = hostname::precedence(other);
            routes.iter().map(move |(rank, route)| (width, rank, route))
        })
        .collect();
    ranked.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
    // A route that has both a wide and a narrow name comes once, at its narrower name's place.
    let mut seen = BTreeSet::new();
    ranked.retain(|(_, rank, _)| seen.insert((*rank).clone()));
    ranked.into_iter().map(|(_, _, route)| route.clone()).collect()
}
