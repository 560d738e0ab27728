//! The connection to one network namespace's kernel, and the lists that it answers with.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use nix::sched::{CloneFlags, setns};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tokio::runtime;

use crate::{Error, Ethtool, Feature, Link, Neighbour, Route};

/// Netlink sockets of one network namespace. Cheap to clone; the kernel's answers are read by a task of the runtime
/// that it was opened in.
#[derive(Clone, Debug)]
pub struct Netlink {
    pub(crate) route: rtnetlink::Handle,
    /// `None`: the namespace that the process is in.
    namespace: Option<PathBuf>,
}

impl Netlink {
    /// This thread's own network namespace. Must be called inside a tokio runtime with I/O enabled.
    pub fn open() -> Result<Self, Error> {
        Self::open_at(None)
    }

    /// The network namespace behind `path` (`/run/netns/NAME` or `/proc/PID/ns/net`). Needs CAP_SYS_ADMIN.
    pub fn open_in(path: &Path) -> Result<Self, Error> {
        Self::open_at(Some(path.to_owned()))
    }

    fn open_at(namespace: Option<PathBuf>) -> Result<Self, Error> {
        let (connection, route, _) = enter(namespace.as_deref(), rtnetlink::new_connection)?;
        tokio::spawn(connection);
        Ok(Self { route, namespace })
    }

    /// Features and channels of this namespace's devices.
    pub fn ethtool(&self) -> Result<Ethtool, Error> {
        enter(self.namespace.as_deref(), || Ethtool::open().map_err(io::Error::other))
    }

    pub fn features(&self, interface: &str) -> Result<Vec<Feature>, Error> {
        self.ethtool()?.features(interface)
    }

    /// Switches features by name and checks that they took: see [`Ethtool::set_features`].
    pub fn set_features(&self, interface: &str, wanted: &[(&str, bool)]) -> Result<(), Error> {
        self.ethtool()?.set_features(interface, wanted)
    }

    /// Queues of a device that have a receive and a transmit side.
    pub fn queue_pairs(&self, link: &Link) -> Result<u32, Error> {
        let channels = self.ethtool()?.channels(&link.name)?;
        Ok(channels.map_or_else(|| link.receive_queues.min(link.transmit_queues), |c| c.pairs()).max(1))
    }

    /// The kernel's events of some kinds.
    pub(crate) fn subscribe(
        &self,
        groups: &[MulticastGroup],
    ) -> Result<BoxStream<'static, NetlinkPayload<RouteNetlinkMessage>>, Error> {
        let groups = groups.to_vec();
        let (connection, _, events) =
            enter(self.namespace.as_deref(), move || rtnetlink::new_multicast_connection(&groups))?;
        tokio::spawn(connection);
        Ok(events.map(|(message, _)| message.payload).boxed())
    }

    /// Every link of the namespace, by index.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        let messages = collect("list links", self.route.link().get().execute()).await?;
        Ok(messages.iter().map(Link::from_message).collect())
    }

    pub async fn link(&self, name: &str) -> Result<Link, Error> {
        let links = self.links().await?;
        links
            .into_iter()
            .find(|link| link.name == name)
            .ok_or_else(|| Error::NoSuchInterface { name: name.into() })
    }

    /// Unicast routes of the main and default tables, with every next hop (ECMP).
    pub async fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let messages = collect("list routes", self.route.route().get(request).execute()).await?;
            routes.extend(messages.iter().filter_map(Route::from_message));
        }
        Ok(Route::merge(routes))
    }

    /// Neighbours with a usable hardware address.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, Error> {
        let messages = collect("list neighbours", self.route.neighbours().get().execute()).await?;
        Ok(messages.iter().filter_map(Neighbour::from_message).filter(|n| n.mac.is_some()).collect())
    }
}

/// Runs `open` in the namespace: a socket belongs to the namespace of the thread that made it, and ours stays where it is.
fn enter<T: Send + 'static>(
    namespace: Option<&Path>,
    open: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let Some(path) = namespace else {
        return open().map_err(|source| Error::Netlink { what: "open netlink".into(), source });
    };
    let runtime = runtime::Handle::current();
    let owned = path.to_owned();
    let entered = thread::spawn(move || {
        let _runtime = runtime.enter();
        setns(File::open(&owned)?, CloneFlags::CLONE_NEWNET)?;
        open()
    });
    entered
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("the thread that enters the namespace panicked")))
        .map_err(|source| Error::Namespace { path: path.to_owned(), source })
}

async fn collect<M>(
    what: &'static str,
    answers: impl Stream<Item = Result<M, rtnetlink::Error>>,
) -> Result<Vec<M>, Error> {
    let mut answers = std::pin::pin!(answers);
    let mut all = Vec::new();
    while let Some(answer) = answers.next().await {
        all.push(answer.map_err(|error| Error::netlink(what, error))?);
    }
    Ok(all)
}
