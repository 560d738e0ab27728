//! The node's table: compiled by `model` from the resources of `tests/resources/sim.yaml`.

use std::time::Duration;

use model::table::Table;
use model::{HealthView, Resources};

const RESOURCES: &str = include_str!("../../resources/sim.yaml");

/// A SYN is lost on the way there or its answer on the way back one time in ten, and sent again after 1, 2, 4 s: what
/// an operator of such a link would allow.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The table of `node-1`.
pub fn table(version: u64) -> Table {
    let read = model::read_documents("sim.yaml", RESOURCES).expect("the resources are good");
    let resources: Resources = read.into_iter().collect();
    let mut table = model::compile(&resources, "node-1", &HealthView::default());
    table.version = version;
    for cluster in table.clusters.values_mut() {
        cluster.connect_timeout = CONNECT_TIMEOUT;
    }
    table
}

#[test]
fn the_resources_compile_to_a_listener_of_each_kind_with_both_workloads_behind_it() {
    let table = table(1);
    assert_eq!(table.listeners.values().filter(|listener| listener.class == "gateway").count(), 5);
    assert!(table.endpoints.values().all(|endpoints| endpoints.len() >= 2), "{:?}", table.endpoints);
}
