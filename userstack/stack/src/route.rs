//! Which way a packet leaves: longest prefix, lowest metric, and a flow's share of equal ways.

use std::net::IpAddr;

use crate::hash::{Key, Map, bits};
use crate::{InterfaceId, Route};

/// The routing table. Looked up once a flow, not once a packet: the result lives in the flow's path.
#[derive(Debug)]
pub(crate) struct Routes {
    v4: Family,
    v6: Family,
}

/// Routes of one address family, by prefix length and then by prefix.
#[derive(Debug)]
struct Family {
    /// Lengths that occur, longest first.
    lengths: Vec<u8>,
    /// Routes of one prefix, lowest metric first.
    prefixes: Map<(u8, u128), Vec<Route>>,
}

/// Where a packet goes next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub interface: InterfaceId,
    /// The neighbour whose hardware address the frame gets.
    pub next: IpAddr,
}

impl Routes {
    pub fn new(key: Key) -> Self {
        let family = || Family { lengths: Vec::new(), prefixes: Map::with_hasher(key) };
        Self { v4: family(), v6: family() }
    }

    pub fn set(&mut self, routes: &[Route]) {
        for family in [&mut self.v4, &mut self.v6] {
            family.lengths.clear();
            family.prefixes.clear();
        }
        for route in routes {
            let family = if route.prefix.address.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
            let len = route.prefix.len.min(max_len(route.prefix.address));
            let same = family.prefixes.entry((len, masked(route.prefix.address, len))).or_default();
            same.push(*route);
            same.sort_by_key(|route| route.metric);
            family.lengths.push(len);
        }
        for family in [&mut self.v4, &mut self.v6] {
            family.lengths.sort_unstable_by(|a, b| b.cmp(a));
            family.lengths.dedup();
        }
    }

    /// The way to `destination` for a flow of this hash, and the length of its prefix. `only` confines it to one
    /// interface.
    pub fn find(&self, destination: IpAddr, hash: u32, only: Option<InterfaceId>) -> Option<(u8, Hop)> {
        let family = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        family.lengths.iter().find_map(|len| {
            let routes = family.prefixes.get(&(*len, masked(destination, *len)))?;
            let usable = || routes.iter().filter(|route| only.is_none_or(|only| only == route.interface));
            let metric = usable().next()?.metric;
            let equal = || usable().take_while(|route| route.metric == metric);
            // Multiply and shift spreads better than a remainder of the low bits, which chose the worker already.
            let share = (u64::from(hash.wrapping_mul(0x9e37_79b1)) * equal().count() as u64) >> 32;
            let route = equal().nth(share as usize)?;
            Some((*len, Hop { interface: route.interface, next: route.via.unwrap_or(destination) }))
        })
    }
}

fn max_len(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, len: u8) -> u128 {
    let host_bits = u32::from(max_len(address) - len);
    bits(address) & u128::MAX.checked_shl(host_bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prefix;

    fn route(prefix: &str, via: &str, interface: u16, metric: u32) -> Route {
        let (address, len) = prefix.split_once('/').unwrap();
        Route {
            prefix: Prefix::new(address.parse().unwrap(), len.parse().unwrap()),
            via: (!via.is_empty()).then(|| via.parse().unwrap()),
            interface: InterfaceId(interface),
            metric,
        }
    }

    fn routes(list: &[Route]) -> Routes {
        let mut routes = Routes::new(Key::new(&[0; 32], 0));
        routes.set(list);
        routes
    }

    fn next(routes: &Routes, destination: &str, hash: u32) -> Option<String> {
        routes.find(destination.parse().unwrap(), hash, None).map(|(_, hop)| hop.next.to_string())
    }

    #[test]
    fn the_longest_prefix_wins() {
        let routes = routes(&[
            route("0.0.0.0/0", "10.0.0.254", 0, 0),
            route("10.1.0.0/16", "10.0.0.253", 0, 9),
            route("10.1.2.3/32", "", 1, 9),
            route("::/0", "fe80::1", 0, 0),
        ]);
        assert_eq!(next(&routes, "192.0.2.1", 0).unwrap(), "10.0.0.254");
        assert_eq!(next(&routes, "10.1.2.4", 0).unwrap(), "10.0.0.253");
        assert_eq!(next(&routes, "10.1.2.3", 0).unwrap(), "10.1.2.3");
        assert_eq!(next(&routes, "2001:db8::1", 0).unwrap(), "fe80::1");
    }

    #[test]
    fn the_lowest_metric_wins_within_a_prefix() {
        let routes = routes(&[route("0.0.0.0/0", "10.0.0.2", 0, 20), route("0.0.0.0/0", "10.0.0.1", 0, 10)]);
        assert!((0..100).all(|hash| next(&routes, "192.0.2.1", hash).unwrap() == "10.0.0.1"));
    }

    #[test]
    fn equal_ways_share_flows() {
        let routes = routes(&[route("0.0.0.0/0", "10.0.0.1", 0, 0), route("0.0.0.0/0", "10.0.1.1", 1, 0)]);
        let first =
            (0..1000u32).filter(|hash| next(&routes, "192.0.2.1", *hash).unwrap() == "10.0.0.1").count();
        assert!((400..600).contains(&first), "{first} of 1000");
    }

    #[test]
    fn no_route_is_none() {
        assert_eq!(next(&routes(&[route("10.0.0.0/8", "", 0, 0)]), "192.0.2.1", 0), None);
        assert_eq!(next(&routes(&[]), "2001:db8::1", 0), None);
    }
}
