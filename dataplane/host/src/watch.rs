//! The kernel's routes, neighbours and links, followed.
//!
//! Subscribed before the first listing, so that nothing falls between. Only differences are told. A route event makes
//! the whole list be read again once the kernel has been quiet for [`ROUTES_SETTLE`]: a routing daemon changes
//! thousands at once, and the stack takes whole lists. Links and neighbours do not wait while it is read.
//!
//! A change is told within 100 ms of the kernel's event. The kernel itself tells a lost carrier at most once a second
//! (net/core/link_watch.c), so a cable that is pulled may take that long.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt, pending};
use futures_util::stream::BoxStream;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::time::{Instant, sleep_until};

use crate::{Error, Link, Neighbour, Netlink, Route};

/// What changed on the interfaces that are watched. Interfaces are named by the kernel's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Every route through one of the interfaces, replacing the former list.
    Routes(Vec<Route>),
    /// `mac: None`: forget it.
    Neighbour { interface: u32, address: IpAddr, mac: Option<[u8; 6]> },
    /// It appeared, or its state, MAC or MTU changed.
    Link(Link),
    /// It is gone; a new one of that name will have another index.
    LinkRemoved { name: String, index: u32 },
}

/// Well inside the 100 ms that a change may take to the workers; long enough to gather a burst.
const ROUTES_SETTLE: Duration = Duration::from_millis(10);
/// A stream of events that never pauses does not keep the list back for longer.
const ROUTES_LATEST: Duration = Duration::from_millis(50);
/// Everything is listed again this often, in case an event was lost without the kernel saying so.
const RESYNC: Duration = Duration::from_secs(30);

type Listing = BoxFuture<'static, Result<Vec<Route>, Error>>;

/// A stream of [`Change`]s.
#[expect(missing_debug_implementations, reason = "holds a boxed stream")]
pub struct Watcher {
    netlink: Netlink,
    events: BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>,
    names: BTreeSet<String>,
    links: BTreeMap<u32, Link>,
    neighbours: BTreeMap<(u32, IpAddr), [u8; 6]>,
    routes: Option<Vec<Route>>,
    ready: VecDeque<Change>,
    /// When the routes are read again, and when at the latest.
    routes_due: Option<(Instant, Instant)>,
    /// The routes, being read.
    listing: Option<Listing>,
    resync_at: Instant,
}

impl Watcher {
    /// Watches interfaces by name, also such as do not exist yet. The first changes describe what there is.
    pub async fn start(
        netlink: &Netlink,
        names: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, Error> {
        let events = netlink.subscribe(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
        ])?;
        let mut watcher = Self {
            netlink: netlink.clone(),
            events,
            names: names.into_iter().map(Into::into).collect(),
            links: BTreeMap::new(),
            neighbours: BTreeMap::new(),
            routes: None,
            ready: VecDeque::new(),
            routes_due: None,
            listing: None,
            resync_at: Instant::now() + RESYNC,
        };
        watcher.resync().await?;
        let routes = netlink.routes().await?;
        watcher.handle_routes(routes);
        Ok(watcher)
    }

    /// The next change; `None` when the runtime is shutting down. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(change);
            }
            let due = self.routes_due.filter(|_| self.listing.is_none());
            let wake_at = due.map_or(self.resync_at, |(due, _)| due.min(self.resync_at));
            tokio::select! {
                event = self.events.next() => self.handle_event(event?),
                routes = listed(&mut self.listing) => self.handle_listing(routes),
                () = sleep_until(wake_at) => self.handle_timer().await,
            }
        }
    }

    fn handle_event(&mut self, event: NetlinkPayload<RouteNetlinkMessage>) {
        match event {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message)) => {
                self.handle_link(Link::from_message(&message));
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message)) => {
                self.handle_link_removed(message.header.index);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => {
                if let Some(neighbour) = Neighbour::from_message(&message) {
                    self.handle_neighbour(neighbour);
                }
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message)) => {
                if let Some(neighbour) = Neighbour::from_message(&message) {
                    self.handle_neighbour(Neighbour { mac: None, ..neighbour });
                }
            }
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_),
            ) => self.routes_changed(),
            // Events were lost: the socket's buffer was full.
            NetlinkPayload::Overrun(_) => self.resync_at = Instant::now(),
            _ => {}
        }
    }

    async fn handle_timer(&mut self) {
        let now = Instant::now();
        if now >= self.resync_at && self.resync().await.is_err() {
            self.resync_at = now + ROUTES_LATEST;
            return;
        }
        if self.listing.is_none() {
            // A change from here on may be missing in the list, and sets the time for another.
            self.routes_due = None;
            let netlink = self.netlink.clone();
            self.listing = Some(async move { netlink.routes().await }.boxed());
        }
    }

    fn handle_listing(&mut self, routes: Result<Vec<Route>, Error>) {
        self.listing = None;
        match routes {
            Ok(routes) => self.handle_routes(routes),
            Err(_) => self.resync_at = Instant::now() + ROUTES_LATEST,
        }
    }

    async fn resync(&mut self) -> Result<(), Error> {
        let links = self.netlink.links().await?;
        let here: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        let gone: Vec<u32> = self.links.keys().copied().filter(|index| !here.contains(index)).collect();
        gone.into_iter().for_each(|index| self.handle_link_removed(index));
        links.into_iter().for_each(|link| self.handle_link(link));

        let neighbours = self.netlink.neighbours().await?;
        let known: BTreeSet<(u32, IpAddr)> = neighbours.iter().map(|n| (n.interface, n.address)).collect();
        let forgotten: Vec<(u32, IpAddr)> =
            self.neighbours.keys().copied().filter(|key| !known.contains(key)).collect();
        for (interface, address) in forgotten {
            self.handle_neighbour(Neighbour { interface, address, mac: None });
        }
        neighbours.into_iter().for_each(|neighbour| self.handle_neighbour(neighbour));

        self.routes_changed();
        self.resync_at = Instant::now() + RESYNC;
        Ok(())
    }

    fn handle_routes(&mut self, routes: Vec<Route>) {
        let watched = |index: u32| self.links.contains_key(&index);
        let routes: Vec<Route> = routes.into_iter().filter_map(|route| route.through(watched)).collect();
        if self.routes.as_ref() != Some(&routes) {
            self.routes = Some(routes.clone());
            self.ready.push_back(Change::Routes(routes));
        }
    }

    fn handle_link(&mut self, link: Link) {
        if !self.names.contains(&link.name) {
            // Renamed: for whoever watches the old name it is gone.
            self.handle_link_removed(link.index);
            return;
        }
        let former = self.links.insert(link.index, link.clone());
        if former.as_ref() == Some(&link) {
            return;
        }
        // What the kernel tells of a new link's neighbours came before we knew its index.
        if former.is_none() {
            self.resync_at = Instant::now();
        }
        self.ready.push_back(Change::Link(link));
        // The kernel withdraws IPv4 routes of a link that goes down without an event of each (rtnetlink(7)).
        self.routes_changed();
    }

    fn handle_link_removed(&mut self, index: u32) {
        if let Some(link) = self.links.remove(&index) {
            self.neighbours.retain(|(interface, _), _| *interface != index);
            self.ready.push_back(Change::LinkRemoved { name: link.name, index });
            self.routes_changed();
        }
    }

    fn handle_neighbour(&mut self, neighbour: Neighbour) {
        let Neighbour { interface, address, mac } = neighbour;
        if !self.links.contains_key(&interface) || address.is_multicast() {
            return;
        }
        let former = match mac {
            Some(mac) => self.neighbours.insert((interface, address), mac),
            None => self.neighbours.remove(&(interface, address)),
        };
        if former != mac {
            self.ready.push_back(Change::Neighbour { interface, address, mac });
        }
    }

    fn routes_changed(&mut self) {
        let now = Instant::now();
        let latest = self.routes_due.map_or(now + ROUTES_LATEST, |(_, latest)| latest);
        self.routes_due = Some(((now + ROUTES_SETTLE).min(latest), latest));
    }
}

/// What a listing brought; for ever when there is none.
async fn listed(listing: &mut Option<Listing>) -> Result<Vec<Route>, Error> {
    match listing {
        Some(listing) => listing.await,
        None => pending().await,
    }
}
