//! Resources to one node's table, and to everyone's status.

use std::collections::BTreeMap;

use crate::kind::Key;
use crate::resources::Resources;
use crate::status::Status;
use crate::table::Table;

/// Results of active health checks: endpoint (workload `namespace/name`, port) to healthy. What is not named is
/// healthy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthView {
    pub endpoints: BTreeMap<(String, u16), bool>,
}

/// What a node said to the last table it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAnswer {
    Acknowledged,
    Pending,
    /// NACK, with the node's words.
    Refused(String),
}

/// The table of `node`: its Gateways, and what its workloads may reach. `version` is 0; the publisher sets it.
pub fn compile(_resources: &Resources, _node: &str, _health: &HealthView) -> Table {
    Table::default()
}

/// The status of every resource that has one, without times ([`Status::stamped`] adds them). A node without an
/// answer is pending.
pub fn conditions(_resources: &Resources, _answers: &BTreeMap<String, NodeAnswer>) -> BTreeMap<Key, Status> {
    BTreeMap::new()
}
