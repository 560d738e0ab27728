//! Bytes of the files and queries that `ringwayd` reads. Runner and corpus are those of `tests/fuzz`.

use std::path::Path;

use model::table::Table;
use proxy::Snapshot;
use tests::fuzz::{Outcome, Target};

use crate::capture;
use crate::config::NodeConfig;
use crate::saved;

/// What the files say.
const WORDS: [&str; 30] = [
    "node: ",
    "workers: ",
    "[0]",
    "poll: busy\n",
    "spin_us: ",
    "admin: ",
    "state: ",
    "control: ",
    "resources: ",
    "service_prefixes: ",
    "gateway_addresses: ",
    "outbound: deny\n",
    "drain_seconds: ",
    "interfaces: ",
    "- name: ",
    "role: uplink",
    "role: workload",
    "addresses: ",
    "workloads: ",
    "xdp_mode: ",
    "\"format\":1",
    "\"table\":",
    "null",
    "[]",
    "{}",
    "10.77.0.80/24",
    "fe80::1",
    "18446744073709551616",
    "-1",
    "\"\"",
];

#[test]
fn no_saved_table_breaks_a_start() {
    let table = model::compile(&demo(), "node-1", &model::HealthView::default());
    let seeds = vec![saved::encode(&table).unwrap(), saved::encode(&Table::default()).unwrap()];
    let target = Target { name: "saved", words: &WORDS, seeds, mutations: 3_000 };
    target.run(|input| {
        let read = saved::decode(input, Path::new("table.json"));
        let served = read.map(|table| Snapshot::compile(table).map(drop).map_err(|error| error.to_string()));
        Outcome::of(&shape(&format!("{:?}", served.map_err(|error| error.to_string()))))
    });
}

#[test]
fn no_configuration_breaks_a_start() {
    let seeds = vec![include_bytes!("../../../examples/demo-node.yaml").to_vec()];
    let target = Target { name: "config", words: &WORDS, seeds, mutations: 2_000 };
    target.run(|input| {
        let read = NodeConfig::parse(&String::from_utf8_lossy(input), Path::new("node.yaml"));
        Outcome::of(&shape(&format!("{:?}", read.map(drop).map_err(|error| error.to_string()))))
    });
}

#[test]
fn no_query_breaks_a_capture() {
    let seeds = vec![b"packets=5&seconds=3&address=fd77%3A%3A80&port=80".to_vec()];
    let target = Target { name: "capture", words: &["packets=", "%3A", "&", "="], seeds, mutations: 2_000 };
    target.run(|input| {
        let read = capture::Request::parse(&String::from_utf8_lossy(input));
        Outcome::of(&shape(&format!("{read:?}")))
    });
}

fn demo() -> model::Resources {
    let files = [
        include_str!("../../../examples/demo/gateway.yaml"),
        include_str!("../../../examples/demo/node.yaml"),
        include_str!("../../../examples/demo/routes.yaml"),
        include_str!("../../../examples/demo/services.yaml"),
        include_str!("../../../examples/demo/workloads.yaml"),
    ];
    files.iter().flat_map(|text| model::read_documents("demo", text).unwrap()).collect()
}

/// A message without what only repeats the input.
fn shape(message: &str) -> String {
    message.chars().filter(char::is_ascii_alphabetic).take(80).collect()
}
