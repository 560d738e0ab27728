//! YAML and JSON as users write it, or not. What validation admits must be compiled, published to every kind of client,
//! read back by our data plane as it was, and served: one resource must never stop the publication of all.

use std::collections::BTreeSet;

use model::read::read_each;
use model::table::Table;
use model::{Compiled, HealthView, Resources, ServicePrefixes, assign};
use proxy::Snapshot;
use tests::fuzz::{Outcome, Target};
use xds::convert::{Assembly, Audience, encode_table};
use xds::snapshot::ResourceType;

use crate::shape;

const NODE: &str = "node-1";
const NAMESPACE: &str = "default";

/// What resources say.
const WORDS: [&str; 60] = [
    "---\n",
    "apiVersion: ",
    "kind: ",
    "metadata: ",
    "name: ",
    "namespace: ",
    "spec: ",
    "labels: ",
    "hostnames: ",
    "parentRefs: ",
    "rules: ",
    "matches: ",
    "filters: ",
    "backendRefs: ",
    "weight: ",
    "port: ",
    "path: ",
    "type: ",
    "value: ",
    "Exact",
    "PathPrefix",
    "RegularExpression",
    "headers: ",
    "queryParams: ",
    "method: ",
    "GET",
    "timeouts: ",
    "request: ",
    "10s",
    "0s",
    "1h30m",
    "RequestRedirect",
    "URLRewrite",
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "ReplacePrefixMatch",
    "ReplaceFullPath",
    "statusCode: ",
    "selector: ",
    "clusterIPs: ",
    "listeners: ",
    "protocol: ",
    "HTTP",
    "TCP",
    "UDP",
    "*.example",
    "*",
    "10.96.0.1",
    "fd96::1",
    "null",
    "[]",
    "{}",
    "true",
    "\"",
    "'",
    "&a ",
    "*a",
    "- ",
    "4294967295",
    "-1",
];

#[test]
fn what_is_admitted_can_be_published_and_served() {
    let target = Target { name: "resources", words: &WORDS, seeds: examples(), mutations: 1_500 };
    target.run(|input| {
        let mut seen = BTreeSet::new();
        run(&String::from_utf8_lossy(input), &mut seen);
        Outcome::of_all(seen)
    });
}

/// The examples that users start from.
fn examples() -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = ["examples/demo", "tests/resources"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(tests::repository().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let all: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let together = all.join(&b"\n---\n"[..]);
    all.into_iter().chain([together]).collect()
}

fn run(text: &str, seen: &mut BTreeSet<String>) {
    let mut resources = Resources::default();
    for read in read_each("fuzz", text) {
        match read {
            Ok(resource) => {
                seen.insert(format!("admitted {:?}", resource.key().kind));
                resources.insert(resource);
            }
            Err(errors) => seen.extend(errors.iter().map(|error| shape(&error.error.to_string()))),
        }
    }
    let prefixes = ServicePrefixes { v4: "10.96.0.0/16".parse().ok(), v6: "fd96::/112".parse().ok() };
    if let Err(error) = assign(&mut resources, &prefixes) {
        seen.insert(shape(&error.to_string()));
    }
    let compiled = Compiled::new(&resources);
    for status in compiled.statuses(&model::Answers::default()).values() {
        seen.insert(shape(&format!("{status:?}")));
    }
    let health = HealthView::default();
    let nodes =
        [NODE.to_owned()].into_iter().chain(resources.nodes().map(|(metadata, _)| metadata.name.clone()));
    for node in nodes {
        publish(&compiled.table(&node, &health), &[Audience::Ringway, Audience::Envoy], seen);
    }
    publish(&compiled.client_table(NAMESPACE, &health), &[Audience::Grpc], seen);
}

fn publish(table: &Table, audiences: &[Audience], seen: &mut BTreeSet<String>) {
    for part in [
        ("listeners", table.listeners.len()),
        (
            "routes",
            table
                .routes
                .values()
                .flat_map(|routes| &routes.virtual_hosts)
                .map(|host| host.routes.len())
                .sum(),
        ),
        ("clusters", table.clusters.len()),
        ("classes", table.classes.len()),
    ] {
        seen.insert(format!("{} {}", part.0, part.1.min(4)));
    }
    Snapshot::compile(table.clone()).expect("a compiled table can be served");
    for audience in audiences {
        let snapshot = encode_table(table, *audience).expect("a compiled table can be published");
        if *audience != Audience::Ringway {
            continue;
        }
        let mut assembly = Assembly::default();
        for kind in ResourceType::ALL {
            for resource in snapshot.of(kind) {
                let decoded = Assembly::decode(kind, &resource.name, &resource.body);
                assembly.put(decoded.expect("what is published can be read"));
            }
        }
        let arrived = assembly.table().expect("what is published is whole");
        Snapshot::compile(arrived).expect("a table that arrived can be served");
    }
}
