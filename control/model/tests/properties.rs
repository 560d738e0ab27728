//! Whatever comes in: reading never panics, compiling always ends with a table and conditions, the same each time.

use std::collections::{BTreeMap, BTreeSet};

use model::read::read_each;
use model::table::{HttpAction, Protocol, Table, WeightedCluster};
use model::{HealthView, Resource, Resources, compile, conditions, read_documents};
use proptest::prelude::*;

/// Pieces that YAML and our kinds are made of, in any order.
fn yaml_ish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("apiVersion: v1\n".to_owned()),
        Just("apiVersion: gateway.networking.k8s.io/v1\n".to_owned()),
        Just("kind: Service\n".to_owned()),
        Just("kind: HTTPRoute\n".to_owned()),
        Just("metadata: {name: a}\n".to_owned()),
        Just("spec:\n".to_owned()),
        Just("  rules:\n".to_owned()),
        Just("  - matches: [{path: {value: /}}]\n".to_owned()),
        Just("  ports: [{port: 80}]\n".to_owned()),
        Just("---\n".to_owned()),
        Just("- ".to_owned()),
        Just("&a ".to_owned()),
        Just("*a ".to_owned()),
        Just("!!binary ".to_owned()),
        Just("<<: ".to_owned()),
        Just("? ".to_owned()),
        Just("|\n".to_owned()),
        Just("%YAML 1.2\n".to_owned()),
        "[\\PC\n\t]{0,12}",
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// One of a few names, so that references often, but not always, meet something.
fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "b", "c"])
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![80u16, 81, 9])
}

fn hostname() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a.example", "b.example", "*.example", "*.a.example", "x.a.example", "other"])
}

fn meta(kind: &str, group: &str, name: &str, namespace: &str) -> String {
    let namespace = if matches!(kind, "Node" | "GatewayClass") {
        String::new()
    } else {
        format!(", namespace: {namespace}")
    };
    format!(
        "apiVersion: {group}, kind: {kind}, metadata: {{name: {name}{namespace}, labels: {{app: {name}}}}}"
    )
}

const GATEWAY: &str = "gateway.networking.k8s.io/v1";

fn parent() -> impl Strategy<Value = String> {
    (name(), name(), any::<bool>(), prop::option::of(port())).prop_map(|(name, namespace, gateway, port)| {
        let kind = if gateway { "" } else { "group: '', kind: Service, " };
        let port = port.map(|port| format!(", port: {port}")).unwrap_or_default();
        format!("{{{kind}name: {name}, namespace: {namespace}{port}}}")
    })
}

fn backend() -> impl Strategy<Value = String> {
    (name(), name(), port(), 0u32..3).prop_map(|(name, namespace, port, weight)| {
        format!("{{name: {name}, namespace: {namespace}, port: {port}, weight: {weight}}}")
    })
}

fn http_rule() -> impl Strategy<Value = String> {
    let path = prop::sample::select(vec!["/", "/a", "/a/b/", "/a/b/c"]);
    let kind = prop::sample::select(vec!["Exact", "PathPrefix", "RegularExpression"]);
    let filter = prop::sample::select(vec![
        "",
        "{type: URLRewrite, urlRewrite: {hostname: h.example}}",
        "{type: RequestMirror, requestMirror: {}}",
        "{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [x]}}",
    ]);
    (path, kind, filter, prop::collection::vec(backend(), 0..3)).prop_map(|(path, kind, filter, backends)| {
        let backends = backends.join(", ");
        format!("{{matches: [{{path: {{type: {kind}, value: {path}}}}}], filters: [{filter}], backendRefs: [{backends}]}}")
    })
}

fn route() -> impl Strategy<Value = String> {
    let http = (
        name(),
        name(),
        prop::collection::vec(parent(), 1..2),
        hostname(),
        prop::collection::vec(http_rule(), 1..3),
    )
        .prop_map(|(name, namespace, parents, hostname, rules)| {
            let (parents, rules) = (parents.join(", "), rules.join(", "));
            format!(
                "{{{}, spec: {{parentRefs: [{parents}], hostnames: ['{hostname}'], rules: [{rules}]}}}}",
                meta("HTTPRoute", GATEWAY, name, namespace)
            )
        });
    let other = (
        prop::sample::select(vec!["GRPCRoute", "TCPRoute", "UDPRoute"]),
        name(),
        name(),
        parent(),
        backend(),
    )
        .prop_map(|(kind, name, namespace, parent, backend)| {
            format!(
                "{{{}, spec: {{parentRefs: [{parent}], rules: [{{backendRefs: [{backend}]}}]}}}}",
                meta(kind, GATEWAY, name, namespace)
            )
        });
    prop_oneof![http, other]
}

fn gateway() -> impl Strategy<Value = String> {
    let protocol = prop::sample::select(vec!["HTTP", "HTTP", "HTTPS", "TCP", "UDP"]);
    let from = prop::sample::select(vec!["Same", "All", "None"]);
    let listener = (port(), protocol, prop::option::of(hostname()), from);
    (name(), name(), prop::collection::vec(listener, 1..4)).prop_map(|(name, namespace, listeners)| {
        let one = |(index, (port, protocol, hostname, from)): (usize, &(u16, &str, Option<&str>, &str))| {
            let hostname = hostname.filter(|_| protocol.starts_with("HTTP"));
            let hostname = hostname.map(|hostname| format!(", hostname: '{hostname}'")).unwrap_or_default();
            format!("{{name: l{index}, port: {port}, protocol: {protocol}{hostname}, allowedRoutes: {{namespaces: {{from: {from}}}}}}}")
        };
        let listeners: Vec<String> = listeners.iter().enumerate().map(one).collect();
        format!("{{{}, spec: {{gatewayClassName: a, listeners: [{}]}}}}", meta("Gateway", GATEWAY, name, namespace), listeners.join(", "))
    })
}

fn service() -> impl Strategy<Value = String> {
    let app =
        prop::sample::select(vec!["", ", appProtocol: http", ", appProtocol: grpc", ", appProtocol: https"]);
    (name(), name(), port(), app, 1u8..9).prop_map(|(name, namespace, port, app, last)| {
        format!(
            "{{{}, spec: {{clusterIPs: [10.96.0.{last}], selector: {{app: {name}}}, ports: [{{name: t, port: {port}{app}}}, {{name: u, port: 9, protocol: UDP}}]}}}}",
            meta("Service", "v1", name, namespace)
        )
    })
}

fn rest() -> impl Strategy<Value = String> {
    let mesh = "ringway.mesh/v1alpha1";
    prop_oneof![
        (name(), 1u8..4).prop_map(move |(name, last)| format!("{{{}, spec: {{addresses: [192.0.2.{last}]}}}}", meta("Node", mesh, name, ""))),
        (name(), name(), name(), 1u8..9).prop_map(move |(name, namespace, node, last)| format!(
            "{{{}, spec: {{addresses: [10.0.0.{last}, 'fd00::{last}'], node: {node}}}}}",
            meta("Workload", mesh, name, namespace)
        )),
        (name(), name(), name()).prop_map(|(name, namespace, from)| format!(
            "{{{}, spec: {{from: [{{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: {from}}}], to: [{{group: '', kind: Service}}]}}}}",
            meta("ReferenceGrant", GATEWAY, name, namespace)
        )),
        Just(format!("{{{}, spec: {{controllerName: ringway.mesh/gateway}}}}", meta("GatewayClass", GATEWAY, "a", ""))),
    ]
}

/// Documents of all kinds; what validation refuses is left out, since a store would not hold it.
fn world() -> impl Strategy<Value = Vec<Resource>> {
    let document = prop_oneof![3 => route(), 1 => gateway(), 2 => service(), 3 => rest()];
    prop::collection::vec(document, 0..24).prop_map(|documents| {
        documents.iter().flat_map(|text| read_documents("world", text).unwrap_or_default()).collect()
    })
}

/// Texts that YAML would take for something else if they were not quoted.
fn tricky_text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "yes",
        "null",
        "~",
        "1.10",
        "0x1f",
        "010",
        "- a",
        "a: b",
        "#",
        "'",
        "\"",
        "*",
        "&a",
        "@",
        "1e3",
        ".inf",
        "2026-01-01",
        "<<",
    ]);
    prop_oneof![known.prop_map(str::to_owned), "[ -~\t]{1,20}", "[ -~é€]{1,12}"]
}

fn clusters_named(table: &Table) -> BTreeSet<&str> {
    let of = |backends: &'_ [WeightedCluster]| -> Vec<String> {
        backends.iter().filter_map(|backend| backend.cluster.clone()).collect()
    };
    let mut names = BTreeSet::new();
    for listener in table.listeners.values() {
        if let Protocol::Tcp { backends } | Protocol::Udp { backends, .. } = &listener.protocol {
            names.extend(of(backends));
        }
    }
    for route in table.routes.values().flat_map(|routes| &routes.virtual_hosts).flat_map(|host| &host.routes)
    {
        if let HttpAction::Forward(backends) = &route.action {
            names.extend(of(backends));
        }
    }
    table.clusters.keys().map(String::as_str).filter(|name| names.contains(*name)).collect()
}

/// Half as many cases as elsewhere, by default and at night: one compiles six tables.
fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig { cases: usual.cases / 2, failure_persistence: None, ..usual }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn reading_never_panics_on_any_text(text in yaml_ish()) {
        for resource in read_each("any", &text).into_iter().flatten() {
            let json = serde_json::to_string(&resource).unwrap();
            prop_assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
        }
    }

    #[test]
    fn values_survive_yaml_whatever_they_look_like(value in tricky_text()) {
        let text = format!(
            "{{{}, spec: {{rules: [{{matches: [{{headers: [{{name: x, value: {}}}]}}]}}]}}}}",
            meta("HTTPRoute", GATEWAY, "a", "a"),
            serde_json::to_string(&value).unwrap()
        );
        let resources = read_documents("json", &text).unwrap();
        let yaml = resources[0].to_yaml().unwrap();
        prop_assert_eq!(read_documents("yaml", &yaml).unwrap(), resources);
    }

    #[test]
    fn compiling_is_total_and_deterministic_and_names_only_what_the_table_has(world in world(), seed in any::<u64>()) {
        let resources: Resources = world.iter().cloned().collect();
        for resource in &world {
            let yaml = resource.to_yaml().unwrap();
            prop_assert_eq!(&read_documents("yaml", &yaml).unwrap()[0], resource);
        }
        let mut other = world;
        // Resources come from a store in any order; of two with one key only one is there.
        other.retain(|resource| resources.find(&resource.key()) == Some(resource));
        let turn = seed as usize % other.len().max(1);
        other.rotate_left(turn);
        let other: Resources = other.into_iter().collect();
        for node in ["a", "b", "nobody"] {
            let table = compile(&resources, node, &HealthView::default());
            prop_assert_eq!(&table, &compile(&other, node, &HealthView::default()));
            prop_assert_eq!(clusters_named(&table).len(), table.clusters.len());
            for listener in table.listeners.values() {
                if let Protocol::Http { routes } = &listener.protocol {
                    prop_assert!(table.routes.contains_key(routes));
                }
            }
            for routes in table.routes.values() {
                let domains: BTreeSet<_> = routes.virtual_hosts.iter().flat_map(|host| &host.domains).collect();
                prop_assert_eq!(domains.len(), routes.virtual_hosts.len());
            }
        }
        let statuses = conditions(&resources, &BTreeMap::new());
        prop_assert_eq!(&statuses, &conditions(&other, &BTreeMap::new()));
        for resource in resources.iter().filter(|resource| resource.kind().is_route()) {
            let status = &statuses[&resource.key()];
            prop_assert!(status.parents.iter().all(|parent| parent.conditions.len() >= 2));
        }
    }
}
