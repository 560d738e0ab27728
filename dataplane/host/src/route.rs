//! The kernel's unicast routes, with every next hop.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
    RouteVia,
};

/// One destination. Several next hops share its flows (ECMP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub prefix: IpAddr,
    pub prefix_len: u8,
    /// Lower wins among equal prefixes.
    pub metric: u32,
    pub next_hops: Vec<NextHop>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// By index.
    pub interface: u32,
    /// `None`: the destination is on the link. May be of the other family than the route (RFC 5549).
    pub via: Option<IpAddr>,
    /// Share of the flows, at least 1.
    pub weight: u16,
}

/// `RT_TABLE_DEFAULT` of rtnetlink(7): consulted after the main table.
const TABLE_DEFAULT: u32 = 253;

impl Route {
    /// `None` for what is not a usable unicast route of the main or default table.
    pub(crate) fn from_message(message: &RouteMessage) -> Option<Self> {
        let table = find(message, |a| match a {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let table = table.unwrap_or_else(|| u32::from(message.header.table));
        if message.header.kind != RouteType::Unicast
            || (table != u32::from(RouteHeader::RT_TABLE_MAIN) && table != TABLE_DEFAULT)
        {
            return None;
        }
        let unspecified = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let route = Self {
            prefix: find(message, |a| match a {
                RouteAttribute::Destination(address) => ip(address),
                _ => None,
            })
            .unwrap_or(unspecified),
            prefix_len: message.header.destination_prefix_length,
            metric: find(message, |a| match a {
                RouteAttribute::Priority(metric) => Some(*metric),
                _ => None,
            })
            .unwrap_or_default(),
            next_hops: next_hops(message),
        };
        (!route.next_hops.is_empty()).then_some(route)
    }

    /// The kernel lists an IPv6 route with several next hops once a hop in some versions: one route a destination.
    pub(crate) fn merge(routes: Vec<Self>) -> Vec<Self> {
        let mut merged: BTreeMap<(IpAddr, u8, u32), Vec<NextHop>> = BTreeMap::new();
        for route in routes {
            let hops = merged.entry((route.prefix, route.prefix_len, route.metric)).or_default();
            // Two IPv4 routes of one metric differ by TOS only, and the first is the one without.
            if hops.is_empty() || route.prefix.is_ipv6() {
                hops.extend(route.next_hops);
            }
        }
        merged
            .into_iter()
            .map(|((prefix, prefix_len, metric), mut next_hops)| {
                next_hops.sort_unstable();
                next_hops.dedup();
                Self { prefix, prefix_len, metric, next_hops }
            })
            .collect()
    }

    /// This route with only the next hops through `interfaces`; `None` when none is left.
    pub(crate) fn through(mut self, interfaces: impl Fn(u32) -> bool) -> Option<Self> {
        self.next_hops.retain(|hop| interfaces(hop.interface));
        (!self.next_hops.is_empty()).then_some(self)
    }
}

fn next_hops(message: &RouteMessage) -> Vec<NextHop> {
    let several = find(message, |a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops.iter().filter_map(multipath_hop).collect()),
        _ => None,
    });
    several.unwrap_or_else(|| single_hop(&message.attributes).into_iter().collect())
}

fn single_hop(attributes: &[RouteAttribute]) -> Option<NextHop> {
    let interface = attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })?;
    Some(NextHop { interface, via: gateway(attributes), weight: 1 })
}

fn multipath_hop(hop: &RouteNextHop) -> Option<NextHop> {
    if hop.flags.intersects(RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown) {
        return None;
    }
    // rtnetlink(7): `rtnh_hops` is the weight minus one.
    let weight = u16::from(hop.hops) + 1;
    Some(NextHop { interface: hop.interface_index, via: gateway(&hop.attributes), weight })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

fn find<T>(message: &RouteMessage, pick: impl Fn(&RouteAttribute) -> Option<T>) -> Option<T> {
    message.attributes.iter().find_map(pick)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(interface: u32, via: &str) -> NextHop {
        NextHop { interface, via: Some(via.parse().unwrap()), weight: 1 }
    }

    fn route(prefix: &str, prefix_len: u8, next_hops: Vec<NextHop>) -> Route {
        Route { prefix: prefix.parse().unwrap(), prefix_len, metric: 0, next_hops }
    }

    fn unicast(attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet;
        message.header.kind = RouteType::Unicast;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.attributes = attributes;
        message
    }

    #[test]
    fn a_multipath_route_keeps_the_hops_that_are_alive() {
        let mut alive = RouteNextHop::default();
        alive.interface_index = 4;
        alive.hops = 1;
        alive.attributes = vec![RouteAttribute::Gateway(RouteAddress::Inet(Ipv4Addr::new(10, 0, 0, 1)))];
        let mut dead = alive.clone();
        dead.interface_index = 5;
        dead.flags = RouteNextHopFlags::Dead;
        let route =
            Route::from_message(&unicast(vec![RouteAttribute::MultiPath(vec![alive, dead])])).unwrap();
        let via = Some(IpAddr::from([10, 0, 0, 1]));
        assert_eq!(route.next_hops, vec![NextHop { interface: 4, via, weight: 2 }]);
        assert_eq!((route.prefix, route.prefix_len), (Ipv4Addr::UNSPECIFIED.into(), 0));
    }

    #[test]
    fn routes_of_other_tables_are_not_ours_to_follow() {
        let message = unicast(vec![RouteAttribute::Oif(2), RouteAttribute::Table(1000)]);
        assert_eq!(Route::from_message(&message), None);
    }

    #[test]
    fn ipv6_hops_listed_one_by_one_become_one_route() {
        let listed = vec![
            route("fd00::", 64, vec![hop(2, "fe80::2")]),
            route("fd00::", 64, vec![hop(3, "fe80::3")]),
            route("fd01::", 64, vec![hop(2, "fe80::2")]),
        ];
        let merged = Route::merge(listed);
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[0].next_hops, vec![hop(2, "fe80::2"), hop(3, "fe80::3")]);
    }

    #[test]
    fn a_route_through_other_interfaces_only_is_left_out() {
        let both = route("0.0.0.0", 0, vec![hop(2, "10.0.0.1"), hop(3, "10.1.0.1")]);
        assert_eq!(both.clone().through(|index| index == 3).unwrap().next_hops, vec![hop(3, "10.1.0.1")]);
        assert_eq!(both.through(|index| index == 9), None);
    }
}
