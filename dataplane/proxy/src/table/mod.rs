//! The table as the proxy uses it: names resolved, expressions compiled, listeners and domains indexed.
//!
//! Made on the management thread by [`Snapshot::compile`], shared by all workers, never changed.

mod filter;
mod route;
mod snapshot;

pub(crate) use filter::{Filters, Hostname, Origin};
pub use route::RouteError;
pub(crate) use route::{Action, Backend, Route};
pub(crate) use snapshot::{Bind, Domains, Transport};
pub use snapshot::{Snapshot, SnapshotError};
