//! Resources to one node's table.
//!
//! ```text
//! Attached --gateways--> listeners of class `gateway`      (north-south)
//!          --services--> listeners of each source class    (east-west)
//!                          `--rules--> routes --draft--> clusters, endpoints
//! ```
//!
//! Total and deterministic: whatever the resources are, there is a table, and the same resources give the same table.

mod clusters;
mod draft;
mod filters;
mod gateways;
mod precedence;
mod rules;
mod services;
mod virtual_hosts;

use draft::Draft;

use crate::attach::Attached;
use crate::instances::Instances;
use crate::table::Table;

pub use clusters::HealthView;
pub use services::{MESH_CLASS, consumer_class};

pub(crate) fn node(
    attached: &Attached<'_>,
    instances: &Instances<'_>,
    node: &str,
    health: &HealthView,
) -> Table {
    let mut draft = Draft::new(attached);
    gateways::add(&mut draft, node);
    services::add_for_node(&mut draft, node);
    draft.finish(instances, health)
}

pub(crate) fn client(
    attached: &Attached<'_>,
    instances: &Instances<'_>,
    namespace: &str,
    health: &HealthView,
) -> Table {
    let mut draft = Draft::new(attached);
    services::add_for_namespace(&mut draft, namespace);
    draft.finish(instances, health)
}

#[cfg(test)]
mod tests;
