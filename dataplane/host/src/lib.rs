//! The host that Ringway runs on: its links, routes and neighbours as the kernel knows them, the interfaces that we
//! make for workloads, device features, and whether the machine is fit to run the data plane.
//!
//! The daemon's management thread and `ringway host` call it, inside a tokio runtime. It speaks netlink and reads
//! `/proc`; it never touches a packet and never runs on a worker. One [`Netlink`] sees one network namespace.
//!
//! ```no_run
//! # async fn example() -> Result<(), host::Error> {
//! let netlink = host::Netlink::open()?;
//! let uplink = netlink.uplink("bond0.100").await?;           // members to attach to, and the VLAN tag
//! let mut watcher = host::Watcher::start(&netlink, ["bond0.100", "wl-web-v1"]).await?;
//! while let Some(change) = watcher.next().await {
//!     match change {
//!         host::Change::Routes(routes) => { /* the whole list of these interfaces, replacing the former */ }
//!         host::Change::Neighbour { interface, address, mac } => { /* None: forget it */ }
//!         host::Change::Link(link) => { /* state, MAC, MTU */ }
//!         host::Change::LinkRemoved { name, index } => { /* its queue pairs are dead */ }
//!     }
//! }
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

mod check;
mod error;
mod ethtool;
mod link;
mod neighbour;
mod netlink;
mod route;
mod uplink;
mod watch;
mod workload;

pub use check::{Check, CheckStatus, check_host, check_interface};
pub use error::Error;
pub use ethtool::{Channels, Ethtool, Feature};
pub use link::{Link, LinkKind, VethPeer};
pub use neighbour::Neighbour;
pub use netlink::Netlink;
pub use route::{NextHop, Route};
pub use uplink::{Uplink, VlanOffload};
pub use watch::{Change, Watcher};
pub use workload::{GATEWAY_V4, GATEWAY_V6, WORKLOAD_MTU, WorkloadInterface};
