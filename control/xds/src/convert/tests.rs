//! A table that is encoded and read again is the same table; what cannot be said or read is refused by name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use model::table::*;
use model::tcp::{Congestion, Ecn, TcpSettings};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::{Assembly, Audience, encode_table};
use crate::snapshot::{Resource, ResourceType, Snapshot};

fn assemble(snapshot: &Snapshot) -> Table {
    let mut assembly = Assembly::default();
    for kind in ResourceType::ALL {
        for resource in snapshot.of(kind) {
            assembly.put(Assembly::decode(kind, &resource.name, &resource.body).unwrap());
        }
    }
    assembly.table().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_table_comes_back_as_it_was(table in table()) {
        let snapshot = encode_table(&table, Audience::Ringway).unwrap();
        prop_assert_eq!(assemble(&snapshot), table);
    }

    #[test]
    fn equal_tables_are_equal_bytes(table in table()) {
        let once = encode_table(&table, Audience::Ringway).unwrap();
        prop_assert_eq!(encode_table(&table, Audience::Ringway).unwrap(), once);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        for kind in ResourceType::ALL {
            let any = crate::envoy::protobuf::Any { type_url: kind.type_url(), value: bytes.clone() };
            drop(Assembly::decode(kind, "x", &any));
        }
    }

    #[test]
    fn a_resource_with_bytes_changed_is_read_or_refused(
        table in table(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let snapshot = encode_table(&table, Audience::Ringway).unwrap();
        for kind in ResourceType::ALL {
            for resource in snapshot.of(kind) {
                let mut any = resource.body.clone();
                for (index, byte) in &changes {
                    if !any.value.is_empty() {
                        let at = index.index(any.value.len());
                        any.value[at] = *byte;
                    }
                }
                drop(Assembly::decode(kind, &resource.name, &any));
            }
        }
    }
}

/// Tables that hold together: every name that is used is there.
fn table() -> impl Strategy<Value = Table> {
    let clusters = btree_map("c[0-9]{1,2}", cluster(), 1..4);
    clusters.prop_flat_map(|mut clusters| {
        clusters.iter_mut().for_each(|(name, cluster)| cluster.name.clone_from(name));
        let names: Vec<String> = clusters.keys().cloned().collect();
        let routes = btree_map("r[0-9]", virtual_hosts(names.clone()), 1..3);
        let listeners = btree_map("l[0-9]{1,2}", listener(names.clone()), 1..4);
        let endpoints = vec(vec(endpoint(), 0..3), names.len());
        (any::<u64>(), Just(clusters), routes, listeners, endpoints, vec(class(), 0..3)).prop_map(
            |(version, clusters, hosts, mut listeners, endpoints, classes)| {
                let routes = hosts
                    .into_iter()
                    .map(|(name, virtual_hosts)| (name.clone(), RouteTable { name, virtual_hosts }));
                let mut routes: std::collections::BTreeMap<_, _> = routes.collect();
                let tables: Vec<String> = routes.keys().cloned().collect();
                let mut used = std::collections::BTreeSet::new();
                for (index, (name, listener)) in listeners.iter_mut().enumerate() {
                    listener.name.clone_from(name);
                    if let Protocol::Http { routes } = &mut listener.protocol {
                        routes.clone_from(&tables[index % tables.len()]);
                        used.insert(routes.clone());
                    }
                }
                routes.retain(|name, _| used.contains(name));
                let endpoints = clusters.keys().cloned().zip(endpoints);
                let endpoints = endpoints.filter(|(_, endpoints)| !endpoints.is_empty()).collect();
                Table { version, listeners, routes, clusters, endpoints, classes }
            },
        )
    })
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 %\\\\/._-]{1,12}"
}

fn span() -> impl Strategy<Value = Duration> {
    (1_u64..100_000_000).prop_map(Duration::from_millis)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn class() -> impl Strategy<Value = SourceClass> {
    ("[a-z]{1,8}", vec("[a-z0-9-]{1,15}", 0..3), vec(ip(), 0..3))
        .prop_map(|(class, interfaces, addresses)| SourceClass { class, interfaces, addresses })
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let protocol = prop_oneof![
        Just(UpstreamProtocol::Http1),
        Just(UpstreamProtocol::Http2),
        Just(UpstreamProtocol::Tcp),
        Just(UpstreamProtocol::Udp),
    ];
    let balance = prop_oneof![Just(Balance::RoundRobin), Just(Balance::LeastRequest)];
    (protocol, balance, span(), of(health_check()), tcp()).prop_map(
        |(protocol, balance, connect_timeout, health_check, tcp)| Cluster {
            name: String::new(),
            protocol,
            balance,
            connect_timeout,
            tcp,
            health_check,
        },
    )
}

fn tcp() -> impl Strategy<Value = TcpSettings> {
    let congestion = prop::sample::select(&Congestion::ALL[..]);
    let ecn = prop::sample::select(&Ecn::ALL[..]);
    (congestion, any::<bool>(), ecn).prop_map(|(congestion, pacing, ecn)| TcpSettings {
        congestion,
        pacing,
        ecn,
    })
}

fn health_check() -> impl Strategy<Value = HealthCheck> {
    let probe = prop_oneof![
        (text(), of(text())).prop_map(|(path, host)| Probe::Http { path, host }),
        "[a-z.]{0,10}".prop_map(|service| Probe::Grpc { service }),
        Just(Probe::Tcp),
        text().prop_map(|payload| Probe::UdpEcho { payload }),
    ];
    (probe, span(), span(), 1_u32..9, 1_u32..9).prop_map(
        |(probe, interval, timeout, healthy_threshold, unhealthy_threshold)| HealthCheck {
            probe,
            interval,
            timeout,
            healthy_threshold,
            unhealthy_threshold,
        },
    )
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (ip(), any::<u16>(), 1_u32..9, any::<bool>(), "[a-z]{1,4}/[a-z]{1,4}").prop_map(
        |(ip, port, weight, healthy, workload)| Endpoint {
            address: SocketAddr::new(ip, port),
            weight,
            healthy,
            workload,
        },
    )
}

fn listener(clusters: Vec<String>) -> impl Strategy<Value = Listener> {
    let weighted = vec(stream_backend(clusters), 0..4).boxed();
    let protocol = prop_oneof![
        Just(Protocol::Http { routes: String::new() }),
        weighted.clone().prop_map(|backends| Protocol::Tcp { backends }),
        (weighted, span()).prop_map(|(backends, idle)| Protocol::Udp { backends, idle }),
    ];
    ("[a-z]{1,8}", vec(ip(), 1..3), any::<u16>(), protocol, tcp()).prop_map(
        |(class, addresses, port, protocol, tcp)| Listener {
            name: String::new(),
            class,
            addresses,
            port,
            protocol,
            tcp,
        },
    )
}

fn stream_backend(clusters: Vec<String>) -> impl Strategy<Value = WeightedCluster> {
    (of(prop::sample::select(clusters)), 1_u32..1_000).prop_map(|(cluster, weight)| WeightedCluster {
        cluster,
        weight,
        filters: Vec::new(),
    })
}

fn virtual_hosts(clusters: Vec<String>) -> impl Strategy<Value = Vec<VirtualHost>> {
    let host = (text(), vec("[a-z*.]{1,12}", 1..3), vec(route(clusters), 0..4))
        .prop_map(|(name, domains, routes)| VirtualHost { name, domains, routes });
    vec(host, 0..3)
}

fn route(clusters: Vec<String>) -> impl Strategy<Value = HttpRoute> {
    (text(), matches()).prop_flat_map(move |(name, matches)| {
        let prefixed = matches!(matches.path, PathMatch::Prefix(_));
        let forward = (filters(prefixed), vec(backend(clusters.clone()), 0..4), timeouts())
            .prop_map(|(filters, backends, timeouts)| (filters, HttpAction::Forward(backends), timeouts));
        let respond = (of(edit()), 200_u16..600, "[a-z]{0,9}").prop_map(|(edit, status, body)| {
            let filters = edit.map(HttpFilter::ResponseHeaders).into_iter().collect();
            (filters, HttpAction::Respond { status, body }, Timeouts::default())
        });
        let redirect = redirect(prefixed).prop_map(|redirect| {
            (vec![HttpFilter::Redirect(redirect)], HttpAction::Forward(Vec::new()), Timeouts::default())
        });
        let served = prop_oneof![4 => forward.boxed(), 1 => respond.boxed(), 1 => redirect.boxed()];
        (Just(name), Just(matches), served).prop_map(|(name, matches, (filters, action, timeouts))| {
            HttpRoute { name, matches, filters, action, timeouts }
        })
    })
}

fn matches() -> impl Strategy<Value = HttpMatch> {
    let path = prop_oneof![
        "/[a-z/]{0,8}".prop_map(PathMatch::Exact),
        path_prefix().prop_map(PathMatch::Prefix),
        "/[a-z.*+]{0,8}".prop_map(PathMatch::Regex),
    ];
    let value = || {
        let pattern = prop_oneof![text().prop_map(ValuePattern::Exact), text().prop_map(ValuePattern::Regex)];
        ("[a-z-]{1,8}", pattern).prop_map(|(name, value)| ValueMatch { name, value })
    };
    (path, of("[A-Z]{3,6}"), vec(value(), 0..3), vec(value(), 0..3))
        .prop_map(|(path, method, headers, query)| HttpMatch { path, method, headers, query })
}

/// Without a slash at the end, but for the root.
fn path_prefix() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "(/[a-z.+]{1,4}){1,3}"]
}

fn filters(prefixed: bool) -> impl Strategy<Value = Vec<HttpFilter>> {
    let rewrite = (of("[a-z.]{1,9}"), of(path_rewrite(prefixed)))
        .prop_filter("rewrites nothing", |(hostname, path)| hostname.is_some() || path.is_some())
        .prop_map(|(hostname, path)| HttpFilter::Rewrite { hostname, path });
    (of(edit()), of(edit()), of(rewrite)).prop_map(|(request, response, rewrite)| {
        let request = request.map(HttpFilter::RequestHeaders);
        let response = response.map(HttpFilter::ResponseHeaders);
        request.into_iter().chain(response).chain(rewrite).collect()
    })
}

fn path_rewrite(prefixed: bool) -> BoxedStrategy<PathRewrite> {
    let full = "/[a-z\\\\]{0,8}".prop_map(PathRewrite::Full);
    if prefixed {
        prop_oneof![full, path_prefix().prop_map(PathRewrite::Prefix)].boxed()
    } else {
        full.boxed()
    }
}

fn edit() -> impl Strategy<Value = HeaderEdit> {
    let headers = || vec(("[a-z-]{1,8}", text()), 0..3);
    (headers(), headers(), vec("[a-z-]{1,8}", 0..3))
        .prop_map(|(set, add, remove)| HeaderEdit { set, add, remove })
        .prop_filter("edits nothing", |edit| *edit != HeaderEdit::default())
}

fn redirect(prefixed: bool) -> impl Strategy<Value = Redirect> {
    let status = prop::sample::select(vec![301_u16, 302, 303, 307, 308]);
    (of("https?"), of("[a-z.]{1,9}"), of(path_rewrite(prefixed)), of(1_u16..), status)
        .prop_map(|(scheme, hostname, path, port, status)| Redirect { scheme, hostname, path, port, status })
}

fn backend(clusters: Vec<String>) -> impl Strategy<Value = WeightedCluster> {
    let filters = (of(edit()), of(edit()), of("[a-z.]{1,9}")).prop_map(|(request, response, hostname)| {
        let request = request.map(HttpFilter::RequestHeaders);
        let response = response.map(HttpFilter::ResponseHeaders);
        let rewrite = hostname.map(|name| HttpFilter::Rewrite { hostname: Some(name), path: None });
        request.into_iter().chain(response).chain(rewrite).collect()
    });
    (of(prop::sample::select(clusters)), 0_u32..1_000, filters)
        .prop_map(|(cluster, weight, filters)| WeightedCluster { cluster, weight, filters })
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    (of(span()), of(span())).prop_map(|(request, backend_request)| Timeouts { request, backend_request })
}

fn plain_route(filters: Vec<HttpFilter>) -> HttpRoute {
    HttpRoute {
        name: "default/web/0/0".to_owned(),
        matches: HttpMatch {
            path: PathMatch::Prefix("/a".to_owned()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        },
        filters,
        action: HttpAction::Forward(Vec::new()),
        timeouts: Timeouts::default(),
    }
}

fn one_route(route: HttpRoute) -> Table {
    let host = VirtualHost { name: "all".to_owned(), domains: vec!["*".to_owned()], routes: vec![route] };
    let routes = RouteTable { name: "web".to_owned(), virtual_hosts: vec![host] };
    Table { routes: [("web".to_owned(), routes)].into(), ..Table::default() }
}

#[test]
fn a_word_of_tcp_that_is_not_known_is_refused_by_its_field() {
    let said = |congestion: &str, ecn: &str| {
        super::tcp::decode(Some(crate::proto::mesh::TcpSettings {
            congestion: congestion.to_owned(),
            pacing: true,
            ecn: ecn.to_owned(),
        }))
    };
    assert!(said("bbr", "active").is_ok());
    assert!(format!("{:?}", said("vegas", "active")).contains("metadata.tcp.congestion"));
    assert!(format!("{:?}", said("bbr", "ask")).contains("metadata.tcp.ecn"));
}

#[test]
fn what_cannot_be_said_is_refused_by_route_and_field() {
    let edit = HttpFilter::RequestHeaders(HeaderEdit::default());
    let table = one_route(plain_route(vec![edit.clone(), edit]));
    let refused = encode_table(&table, Audience::Ringway).unwrap_err().to_string();
    assert!(
        refused.contains("routes \"web\": virtual_hosts[0].routes[0] (default/web/0/0).filters"),
        "{refused}"
    );
}

#[test]
fn envoy_is_sent_only_listeners_of_the_gateway_class() {
    let listener = |name: &str, class: &str| Listener {
        name: name.to_owned(),
        class: class.to_owned(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        port: 80,
        protocol: Protocol::Tcp { backends: Vec::new() },
        tcp: TcpSettings::default(),
    };
    let listeners = [listener("in", GATEWAY_CLASS), listener("mesh", "mesh")];
    let table = Table {
        listeners: listeners.into_iter().map(|listener| (listener.name.clone(), listener)).collect(),
        ..Table::default()
    };
    let names = |audience| {
        let snapshot = encode_table(&table, audience).unwrap();
        snapshot.of(ResourceType::Listener).map(|listener| listener.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(Audience::Ringway), ["in", "mesh"]);
    assert_eq!(names(Audience::Envoy), ["in"]);
    assert!(names(Audience::Grpc).is_empty());
}

#[test]
fn grpc_is_sent_prefixes_that_it_knows() {
    let snapshot = encode_table(&one_route(plain_route(Vec::new())), Audience::Grpc).unwrap();
    let resource: &Resource = snapshot.find(ResourceType::Routes, "web").unwrap();
    let routes = <crate::envoy::route::RouteConfiguration as prost::Message>::decode(&*resource.body.value);
    let matched = routes.unwrap().virtual_hosts[0].routes[0].r#match.clone().unwrap();
    let wanted = crate::envoy::route::route_match::PathSpecifier::Prefix("/a/".to_owned());
    assert_eq!(matched.path_specifier, Some(wanted));
}

#[test]
fn a_resource_under_another_name_is_refused() {
    let snapshot = encode_table(&one_route(plain_route(Vec::new())), Audience::Ringway).unwrap();
    let resource = snapshot.find(ResourceType::Routes, "web").unwrap();
    let refused = Assembly::decode(ResourceType::Routes, "other", &resource.body).unwrap_err().to_string();
    assert_eq!(refused, "routes \"other\": name: is \"web\", but it was sent as \"other\"");
}

#[test]
fn a_wrong_field_is_named_with_its_path() {
    use crate::envoy::endpoint::{ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints};
    let assignment = ClusterLoadAssignment {
        cluster_name: "web".to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint::default()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let any = super::wire::pack(&assignment);
    let refused = Assembly::decode(ResourceType::Endpoints, "web", &any).unwrap_err().to_string();
    assert_eq!(refused, "endpoints \"web\": endpoints[0].lb_endpoints[0].endpoint: required, but absent");
}

#[test]
fn a_table_waits_for_every_name_in_it() {
    let mut table = one_route(plain_route(Vec::new()));
    let routes = table.routes.get_mut("web").unwrap();
    routes.virtual_hosts[0].routes[0].action = HttpAction::Forward(vec![WeightedCluster {
        cluster: Some("c".to_owned()),
        weight: 1,
        filters: Vec::new(),
    }]);
    let listener = Listener {
        name: "l".to_owned(),
        class: GATEWAY_CLASS.to_owned(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        port: 80,
        protocol: Protocol::Http { routes: "web".to_owned() },
        tcp: TcpSettings::default(),
    };
    table.listeners.insert("l".to_owned(), listener);
    let snapshot = encode_table(&table, Audience::Ringway).unwrap();
    let mut assembly = Assembly::default();
    for (kind, waits_for) in [
        (ResourceType::Listener, "source classes \"node\" has not arrived"),
        (ResourceType::SourceClasses, "routes \"web\" has not arrived"),
        (ResourceType::Routes, "cluster \"c\" has not arrived"),
    ] {
        let resource = snapshot.of(kind).next().unwrap();
        assembly.put(Assembly::decode(kind, &resource.name, &resource.body).unwrap());
        assert_eq!(assembly.table().unwrap_err().to_string(), waits_for);
    }
}
