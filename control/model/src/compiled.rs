//! What resources come to: analysed once, then asked for the table of each node and the status of everything.

use std::collections::BTreeMap;

use crate::answers::Answers;
use crate::attach::Attached;
use crate::compile::{self, HealthView};
use crate::instances::Instances;
use crate::kind::Key;
use crate::resources::Resources;
use crate::status::Status;
use crate::table::Table;

#[derive(Debug)]
pub struct Compiled<'a> {
    attached: Attached<'a>,
    instances: Instances<'a>,
}

impl<'a> Compiled<'a> {
    pub fn new(resources: &'a Resources) -> Compiled<'a> {
        Compiled { attached: Attached::new(resources), instances: Instances::new(resources) }
    }

    /// The table of `node`: its Gateways, and what its workloads may call. `version` is 0; the publisher sets it.
    pub fn table(&self, node: &str, health: &HealthView) -> Table {
        compile::node(&self.attached, &self.instances, node, health)
    }

    /// What a client in `namespace` that speaks xDS itself may call: every Service's listeners as that namespace
    /// sees them, without Gateways or sources.
    pub fn client_table(&self, namespace: &str, health: &HealthView) -> Table {
        compile::client(&self.attached, &self.instances, namespace, health)
    }

    /// The status of every resource that has one, without times ([`Status::stamped`] adds them). A node without an
    /// answer is pending.
    pub fn statuses(&self, answers: &Answers) -> BTreeMap<Key, Status> {
        crate::conditions::statuses(&self.attached, &self.instances, answers)
    }
}

/// [`Compiled::table`] of these resources.
pub fn compile(resources: &Resources, node: &str, health: &HealthView) -> Table {
    Compiled::new(resources).table(node, health)
}

/// [`Compiled::client_table`] of these resources.
pub fn compile_client(resources: &Resources, namespace: &str, health: &HealthView) -> Table {
    Compiled::new(resources).client_table(namespace, health)
}

/// [`Compiled::statuses`] of these resources.
pub fn conditions(resources: &Resources, answers: &Answers) -> BTreeMap<Key, Status> {
    Compiled::new(resources).statuses(answers)
}
