//! Tables from small configurations.

use std::time::Duration;

use crate::table::{
    Balance, GATEWAY_CLASS, HttpAction, HttpFilter, HttpRoute, PathMatch, PathRewrite, Protocol, Redirect,
    Table, UpstreamProtocol, ValuePattern, VirtualHost,
};
use crate::testing::resources;
use crate::{HealthView, Resources, compile, compile_client};

/// One node with a Gateway for every protocol, and Services `a` and `b` with one Workload each.
use crate::tcp::{Congestion, Ecn, TcpSettings};

const BASE: &str = "
{apiVersion: ringway.mesh/v1alpha1, kind: Node, metadata: {name: n}, spec: {addresses: [192.0.2.1]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: r}, spec: {controllerName: ringway.mesh/gateway}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g}, spec: {gatewayClassName: r, listeners: [
  {name: http, port: 80, protocol: HTTP}, {name: tcp, port: 9, protocol: TCP}, {name: udp, port: 9, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIPs: [10.96.0.1], selector: {app: a}, ports: [{port: 80, appProtocol: http}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIPs: [10.96.0.2], selector: {app: b}, ports: [
  {name: h, port: 80, targetPort: web}, {name: g, port: 81, appProtocol: grpc}, {name: u, port: 9, protocol: UDP}]}}
---
{apiVersion: ringway.mesh/v1alpha1, kind: Workload, metadata: {name: a1, labels: {app: a}}, spec: {addresses: [10.0.0.1], node: n, interface: va}}
---
{apiVersion: ringway.mesh/v1alpha1, kind: Workload, metadata: {name: b1, labels: {app: b}}, spec: {addresses: [10.0.0.2, 'fd00::2'], node: n,
  ports: [{name: web, port: 8080, healthCheck: {tcp: {}}}], weight: 3}}
---
";

fn table_of(resources: &Resources) -> Table {
    compile(resources, "n", &HealthView::default())
}

fn table(more: &str) -> Table {
    table_of(&resources(&format!("{BASE}{more}")))
}

/// An HTTPRoute of the Gateway, unless `spec` says more.
fn http(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, spec: {{parentRefs: [{{name: g}}], {spec}}}}}\n---\n"
    )
}

fn hosts(table: &Table) -> &[VirtualHost] {
    &table.routes["gateway/default/g/80/tcp"].virtual_hosts
}

fn names(host: &VirtualHost) -> Vec<&str> {
    host.routes.iter().map(|route| route.name.trim_start_matches("default/")).collect()
}

fn only_route(more: &str) -> HttpRoute {
    hosts(&table(&http("r", more)))[0].routes[0].clone()
}

#[test]
fn a_gateways_listeners_are_at_the_nodes_addresses() {
    let table = table("");
    let listener = &table.listeners["gateway/default/g/80/tcp"];
    assert_eq!((listener.class.as_str(), listener.port), (GATEWAY_CLASS, 80));
    assert_eq!(listener.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(hosts(&table).is_empty(), "no route: everything is 404");
    assert!(!table.listeners.contains_key("gateway/default/g/9/tcp"), "no route: nothing to relay to");
}

#[test]
fn matches_are_sorted_across_routes_by_the_gateway_apis_precedence() {
    let matches = "rules: [{matches: [{path: {value: /long/prefix}}, {path: {value: /}}, {method: GET}, \
        {headers: [{name: x, value: y}]}, {headers: [{name: x, value: y}, {name: z, value: y}]}, \
        {queryParams: [{name: x, value: y}]}, {path: {type: RegularExpression, value: '/.*'}}]}]";
    let table = table(
        &(http("one", matches)
            + &http("two", "rules: [{matches: [{path: {type: Exact, value: /}}, {path: {value: /long}}]}]")),
    );
    assert_eq!(
        names(&hosts(&table)[0]),
        ["two/0/0", "one/0/6", "one/0/0", "two/0/1", "one/0/2", "one/0/4", "one/0/3", "one/0/5", "one/0/1"]
    );
}

#[test]
fn equal_matches_go_to_the_older_route_then_by_name_then_to_the_earlier_rule() {
    let route = |name: &str, time: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}, creationTimestamp: '{time}'}}, \
             spec: {{parentRefs: [{{name: g}}], rules: [{{}}, {{}}]}}}}\n---\n"
        )
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let table = table(&(route("a", new) + &route("c", old) + &route("b", old)));
    assert_eq!(names(&hosts(&table)[0]), ["b/0/0", "b/1/0", "c/0/0", "c/1/0", "a/0/0", "a/1/0"]);
}

#[test]
fn routes_of_wider_hosts_follow_those_of_narrower_ones() {
    let routes = http("any", "rules: [{matches: [{path: {type: Exact, value: /exact}}]}]")
        + &http("wide", "hostnames: ['*.example.com']")
        + &http(
            "narrow",
            "hostnames: [a.example.com, '*.example.com'], rules: [{matches: [{path: {value: /a}}]}]",
        );
    let table = table(&routes);
    let domains: Vec<&str> = hosts(&table).iter().map(|host| host.domains[0].as_str()).collect();
    assert_eq!(domains, ["a.example.com", "*.example.com", "*"]);
    assert_eq!(names(&hosts(&table)[0]), ["narrow/0/0", "wide/0/0", "any/0/0"]);
    assert_eq!(names(&hosts(&table)[1]), ["narrow/0/0", "wide/0/0", "any/0/0"]);
    assert_eq!(names(&hosts(&table)[2]), ["any/0/0"]);
}

#[test]
fn a_narrower_listener_keeps_its_requests_from_the_routes_of_a_wider_one() {
    let gateway = BASE.replace(
        "{name: http, port: 80, protocol: HTTP}",
        "{name: any, port: 80, protocol: HTTP}, {name: wild, port: 80, protocol: HTTP, hostname: '*.example.com'}, \
         {name: one, port: 80, protocol: HTTP, hostname: a.example.com}",
    );
    let at = |name: &str, section: &str, more: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}}}, \
             spec: {{parentRefs: [{{name: g, sectionName: {section}}}], {more}}}}}\n---\n"
        )
    };
    let routes = at("to-any", "any", "hostnames: [a.example.com, b.example.com, c.example.org]")
        + &at("to-wild", "wild", "")
        + &at("to-any-too", "any", "");
    let table = table_of(&resources(&format!("{gateway}{routes}")));
    let seen: Vec<(&str, Vec<&str>)> =
        hosts(&table).iter().map(|host| (host.domains[0].as_str(), names(host))).collect();
    assert_eq!(
        seen,
        [
            ("a.example.com", vec![]),
            ("c.example.org", vec!["to-any/0/0", "to-any-too/0/0"]),
            ("*.example.com", vec!["to-wild/0/0"]),
            ("*", vec!["to-any-too/0/0"]),
        ]
    );
}

#[test]
fn weights_and_invalid_backends_keep_their_shares() {
    let route = only_route(
        "rules: [{backendRefs: [{name: a, port: 80, weight: 9}, {name: nobody, port: 80}, {name: b, port: 80, weight: 0}]}]",
    );
    let HttpAction::Forward(backends) = &route.action else { panic!("{route:?}") };
    let seen: Vec<_> = backends.iter().map(|backend| (backend.cluster.as_deref(), backend.weight)).collect();
    assert_eq!(seen, [(Some("default/a/80/http1"), 9), (None, 1), (Some("default/b/80/http1"), 0)]);
}

#[test]
fn a_rule_without_backends_answers_500_and_a_redirect_its_status() {
    assert!(matches!(only_route("rules: [{}]").action, HttpAction::Respond { status: 500, .. }));
    let redirect = |more: &str| {
        let route = only_route(&format!(
            "rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {{{more}}}}}]}}]"
        ));
        let HttpFilter::Redirect(redirect) = route.filters[0].clone() else { panic!("{route:?}") };
        assert_eq!(route.action, HttpAction::Respond { status: redirect.status, body: String::new() });
        redirect
    };
    let plain = Redirect { port: Some(80), status: 302, ..Redirect::default() };
    assert_eq!(redirect(""), plain);
    assert_eq!(redirect("scheme: https").port, Some(443));
    assert_eq!(redirect("scheme: https, port: 8443, statusCode: 308").port, Some(8443));
    let path = redirect("path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}").path;
    assert_eq!(path, Some(PathRewrite::Prefix("/x".to_owned())));
}

#[test]
fn a_rule_with_an_unsupported_filter_answers_an_error_and_lets_nothing_past_it() {
    let table = table(&http(
        "r",
        "rules: [{matches: [{path: {value: /a}}], filters: [{type: ExternalAuth, externalAuth: {}}], backendRefs: [{name: a, port: 80}]}, \
         {backendRefs: [{name: a, port: 80}]}]",
    ));
    let routes = &hosts(&table)[0].routes;
    assert_eq!(routes[0].matches.path, PathMatch::Prefix("/a".to_owned()));
    let HttpAction::Respond { status, body } = &routes[0].action else { panic!("{routes:?}") };
    assert_eq!(*status, 500);
    assert!(
        body.contains("HTTPRoute default/r: spec.rules[0].filters[0]: a filter of type ExternalAuth"),
        "{body}"
    );
    assert!(matches!(routes[1].action, HttpAction::Forward(_)));
}

#[test]
fn a_backend_that_no_route_leads_to_is_not_in_the_table() {
    let backends = "backendRefs: [{name: b, port: 80}]";
    let has = |rule: String| {
        let table = table(&http("r", &format!("rules: [{rule}]")));
        let name = "default/b/80/http1";
        assert_eq!(table.clusters.contains_key(name), table.endpoints.contains_key(name));
        table.clusters.contains_key(name)
    };
    assert!(has(format!("{{{backends}}}")));
    assert!(!has(format!("{{filters: [{{type: ExternalAuth, externalAuth: {{}}}}], {backends}}}")));
}

#[test]
fn filters_and_timeouts_come_over_with_header_names_in_lower_case() {
    let route = only_route(
        "rules: [{timeouts: {request: 10s, backendRequest: 0s}, filters: [{type: RequestHeaderModifier, requestHeaderModifier: \
         {set: [{name: X-A, value: B}], remove: [X-C]}}, {type: URLRewrite, urlRewrite: {hostname: h.example, \
         path: {type: ReplaceFullPath, replaceFullPath: /f}}}], backendRefs: [{name: a, port: 80, filters: \
         [{type: ResponseHeaderModifier, responseHeaderModifier: {add: [{name: X-D, value: E}]}}]}]}]",
    );
    let HttpFilter::RequestHeaders(edit) = &route.filters[0] else { panic!("{route:?}") };
    assert_eq!((edit.set[0].0.as_str(), edit.remove[0].as_str()), ("x-a", "x-c"));
    let rewrite = HttpFilter::Rewrite {
        hostname: Some("h.example".to_owned()),
        path: Some(PathRewrite::Full("/f".to_owned())),
    };
    assert_eq!(route.filters[1], rewrite);
    assert_eq!(
        (route.timeouts.request, route.timeouts.backend_request),
        (Some(Duration::from_secs(10)), None)
    );
    let HttpAction::Forward(backends) = &route.action else { panic!("{route:?}") };
    assert!(matches!(&backends[0].filters[0], HttpFilter::ResponseHeaders(edit) if edit.add[0].0 == "x-d"));
}

#[test]
fn a_prefix_matches_the_same_with_and_without_its_final_slash() {
    let path = |value: &str| {
        only_route(&format!("rules: [{{matches: [{{path: {{value: {value}}}}}]}}]")).matches.path
    };
    assert_eq!(path("/a/"), PathMatch::Prefix("/a".to_owned()));
    assert_eq!(path("/"), PathMatch::Prefix("/".to_owned()));
}

#[test]
fn grpc_matches_become_paths_of_grpc_requests_to_http2_backends() {
    let grpc = "{apiVersion: gateway.networking.k8s.io/v1, kind: GRPCRoute, metadata: {name: r}, spec: {parentRefs: [{name: g}], rules: [
      {matches: [{method: {service: a.B}}, {method: {service: a.B, method: C}}, {method: {method: C}},
        {method: {type: RegularExpression, service: 'x|y', method: 'z.*'}}, {headers: [{name: k, value: v}]}],
       backendRefs: [{name: b, port: 80}]}, {}]}}";
    let table = table(grpc);
    let routes = &hosts(&table)[0].routes;
    let paths: Vec<&PathMatch> = routes.iter().map(|route| &route.matches.path).collect();
    assert_eq!(
        paths,
        [
            &PathMatch::Exact("/a.B/C".to_owned()),
            &PathMatch::Prefix("/a.B".to_owned()),
            &PathMatch::Regex("/[^/]+/(?:C)".to_owned()),
            &PathMatch::Regex("/(?:x|y)/(?:z.*)".to_owned()),
            &PathMatch::Prefix("/".to_owned()),
            &PathMatch::Prefix("/".to_owned()),
        ]
    );
    let content_type = routes[0].matches.headers.iter().find(|header| header.name == "content-type").unwrap();
    let ValuePattern::Regex(pattern) = &content_type.value else { panic!("{content_type:?}") };
    let pattern = crate::pattern::whole(pattern).unwrap();
    assert!(
        ["application/grpc", "application/grpc+proto", "application/grpc;x=y"]
            .iter()
            .all(|text| pattern.is_match(text))
    );
    assert!(!pattern.is_match("application/grpc-web"));
    assert_eq!(table.clusters["default/b/80/http2"].protocol, UpstreamProtocol::Http2);
}

#[test]
fn tcp_and_udp_routes_relay_to_their_backends() {
    let l4 = |kind: &str, section: &str, backend: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: {section}}}, spec: {{parentRefs: \
             [{{name: g, sectionName: {section}}}], rules: [{{backendRefs: [{backend}]}}]}}}}\n---\n"
        )
    };
    let table = table(
        &(l4("TCPRoute", "tcp", "{name: b, port: 80, weight: 2}, {name: no, port: 1}")
            + &l4("UDPRoute", "udp", "{name: b, port: 9}")),
    );
    let Protocol::Tcp { backends } = &table.listeners["gateway/default/g/9/tcp"].protocol else { panic!() };
    assert_eq!((backends[0].cluster.as_deref(), backends[0].weight), (Some("default/b/80/tcp"), 2));
    assert_eq!(backends[1].cluster, None);
    let Protocol::Udp { backends, idle } = &table.listeners["gateway/default/g/9/udp"].protocol else {
        panic!()
    };
    assert_eq!((backends[0].cluster.as_deref(), *idle), (Some("default/b/9/udp"), Duration::from_secs(60)));
}

#[test]
fn endpoints_are_the_selected_workloads_with_weight_health_and_named_ports() {
    let resources = resources(BASE);
    let address: std::net::SocketAddr = "10.0.0.2:8080".parse().unwrap();
    let health = HealthView { endpoints: [(("default/b/80/tcp".to_owned(), address), false)].into() };
    let table = compile(&resources, "n", &health);
    let endpoints = &table.endpoints["default/b/80/tcp"];
    assert_eq!(endpoints.len(), 1, "a stream needs one address of a workload");
    assert_eq!((endpoints[0].address, endpoints[0].weight, endpoints[0].healthy), (address, 3, false));
    assert_eq!(endpoints[0].workload, "default/b1");
    assert_eq!(table.endpoints["default/b/9/udp"].len(), 2, "a datagram needs one of its own version");
    assert!(table.clusters["default/b/80/tcp"].health_check.is_some());
    assert!(table.clusters["default/a/80/http1"].health_check.is_none());
}

#[test]
fn a_service_without_routes_leads_to_itself_by_what_its_port_speaks() {
    let table = table("");
    let protocol = |name: &str| &table.listeners[name].protocol;
    assert!(
        matches!(protocol("mesh/default/b/80/tcp"), Protocol::Tcp { .. }),
        "no appProtocol: a plain stream"
    );
    assert!(matches!(protocol("mesh/default/b/9/udp"), Protocol::Udp { .. }));
    assert!(matches!(protocol("mesh/default/a/80/tcp"), Protocol::Http { .. }));
    assert!(matches!(protocol("mesh/default/b/81/tcp"), Protocol::Http { .. }));
    assert_eq!(table.clusters["default/b/81/http2"].protocol, UpstreamProtocol::Http2);
}

/// A route to Service `a` of namespace default, from `namespace`.
fn mesh_route(namespace: &str, kind: &str, rule: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: r, namespace: {namespace}}}, spec: {{parentRefs: \
         [{{group: '', kind: Service, name: a, namespace: default}}], rules: [{rule}]}}}}\n---\n"
    )
}

const SHOP: &str = "{apiVersion: ringway.mesh/v1alpha1, kind: Workload, metadata: {name: s, namespace: shop}, spec: {addresses: [10.0.0.9], node: n, interface: vs}}\n---\n";

#[test]
fn a_producers_route_is_for_all_sources_and_they_share_a_class() {
    let table = table(&(mesh_route("default", "HTTPRoute", "{backendRefs: [{name: b, port: 80}]}") + SHOP));
    assert_eq!(table.classes.len(), 1);
    assert_eq!(table.classes[0].interfaces, ["va", "vs"]);
    let host = &table.routes["mesh/default/a/80/tcp"].virtual_hosts[0];
    assert_eq!(host.routes[0].name, "default/r/0/0");
    let HttpAction::Forward(backends) = &host.routes[0].action else { panic!() };
    assert_eq!(
        backends[0].cluster.as_deref(),
        Some("default/b/80/http1"),
        "the route says that the port speaks HTTP"
    );
}

#[test]
fn a_consumers_route_is_for_its_own_namespace_alone_and_replaces_the_producers() {
    let routes = mesh_route("default", "HTTPRoute", "{}")
        + &mesh_route("shop", "HTTPRoute", "{backendRefs: [{name: a, namespace: default, port: 80}]}");
    let table = table(&(routes + SHOP));
    let classes: Vec<(&str, usize)> =
        table.classes.iter().map(|class| (class.class.as_str(), class.interfaces.len())).collect();
    assert_eq!(classes, [("mesh", 1), ("mesh@shop", 1)]);
    let own = &table.routes["mesh@shop/default/a/80/tcp"].virtual_hosts[0].routes;
    assert_eq!((own.len(), own[0].name.as_str()), (1, "shop/r/0/0"));
    let HttpAction::Forward(backends) = &own[0].action else { panic!() };
    assert_eq!(
        backends[0].cluster.as_deref(),
        Some("default/a/80/http1"),
        "a route of a Service needs no grant"
    );
    assert_eq!(table.routes["mesh/default/a/80/tcp"].virtual_hosts[0].routes[0].name, "default/r/0/0");
    let shared = &table.listeners["mesh@shop/default/b/81/tcp"].protocol;
    assert_eq!(
        *shared,
        Protocol::Http { routes: "mesh/default/b/81/tcp".to_owned() },
        "equal views share a route table"
    );
}

#[test]
fn the_most_specific_kind_of_route_decides_about_a_services_port() {
    let routes = mesh_route("default", "TCPRoute", "{backendRefs: [{name: b, port: 80}]}")
        + &mesh_route("default", "HTTPRoute", "{}");
    let table = table(&routes);
    assert!(matches!(table.listeners["mesh/default/a/80/tcp"].protocol, Protocol::Http { .. }));
    assert_eq!(table.routes["mesh/default/a/80/tcp"].virtual_hosts[0].routes[0].name, "default/r/0/0");
}

#[test]
fn a_client_that_speaks_xds_sees_what_its_namespace_sees() {
    let routes = mesh_route("shop", "HTTPRoute", "{}");
    let resources = resources(&format!("{BASE}{routes}"));
    let shop = compile_client(&resources, "shop", &HealthView::default());
    assert!(shop.listeners.contains_key("mesh@shop/default/a/80/tcp") && shop.classes.is_empty());
    let other = compile_client(&resources, "other", &HealthView::default());
    assert!(other.listeners.contains_key("mesh/default/a/80/tcp"));
    assert!(!other.listeners.keys().any(|name| name.starts_with("gateway/")));
}

#[test]
fn a_gateway_without_addresses_is_on_every_node_and_one_with_them_where_they_are() {
    let second = "{apiVersion: ringway.mesh/v1alpha1, kind: Node, metadata: {name: m}, spec: {addresses: [192.0.2.2]}}\n---\n";
    let resources = resources(&format!("{BASE}{second}"));
    let table = compile(&resources, "m", &HealthView::default());
    assert!(table.listeners.contains_key("gateway/default/g/80/tcp"));
    assert!(table.classes.is_empty(), "no workload of it: nothing of the mesh");
    let placed =
        BASE.replace("{gatewayClassName: r,", "{gatewayClassName: r, addresses: [{value: 192.0.2.1}],");
    let resources = crate::testing::resources(&format!("{placed}{second}"));
    assert!(compile(&resources, "m", &HealthView::default()).listeners.is_empty());
}

#[test]
fn a_service_and_a_gateway_say_how_tcp_behaves() {
    let said =
        "annotations: {ringway.mesh/congestion: bbr, ringway.mesh/pacing: 'on', ringway.mesh/ecn: active}";
    let expected = TcpSettings { congestion: Congestion::Bbr, pacing: true, ecn: Ecn::Active };
    let table = table(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: c, {said}}}, spec: {{clusterIPs: [10.96.0.9], selector: {{app: a}}, \
         ports: [{{name: h, port: 80, appProtocol: http}}]}}}}"
    ));
    assert_eq!(table.clusters["default/c/80/http1"].tcp, expected);
    let listeners: Vec<_> =
        table.listeners.values().map(|listener| (&*listener.name, listener.tcp)).collect();
    for (name, tcp) in listeners {
        let of_the_service = name.contains("/default/c/");
        assert_eq!(tcp == expected, of_the_service, "{name}: {tcp:?}");
    }
    let marked = BASE
        .replace("kind: Gateway, metadata: {name: g", &format!("kind: Gateway, metadata: {{{said}, name: g"));
    assert_ne!(marked, BASE);
    let table = compile(&crate::testing::resources(&marked), "n", &HealthView::default());
    let gateway =
        table.listeners.values().find(|listener| listener.class == GATEWAY_CLASS).expect("a gateway");
    assert_eq!(gateway.tcp, expected);
}

#[test]
fn a_service_says_how_its_endpoints_are_balanced() {
    let balance = |annotations: &str| {
        let service = format!("{{name: c, annotations: {{{annotations}}}}}");
        let more = format!(
            "{{apiVersion: v1, kind: Service, metadata: {service}, spec: {{clusterIPs: [10.96.0.9], selector: {{app: a}}, ports: [\
             {{name: h, port: 80, appProtocol: http}}, {{name: u, port: 9, protocol: UDP}}]}}}}"
        );
        let table = table(&more);
        (table.clusters["default/c/80/http1"].balance, table.clusters["default/c/9/udp"].balance)
    };
    assert_eq!(balance(""), (Balance::LeastRequest, Balance::RoundRobin));
    assert_eq!(balance("ringway.mesh/balance: RoundRobin"), (Balance::RoundRobin, Balance::RoundRobin));
    assert_eq!(balance("ringway.mesh/balance: LeastRequest"), (Balance::LeastRequest, Balance::LeastRequest));
}
