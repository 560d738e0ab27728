//! Each reason, from the smallest configuration that gives it.

use std::collections::BTreeMap;

use crate::answers::{NodeAnswer, Refused};
use crate::compiled::conditions;
use crate::kind::{Key, Kind};
use crate::status::{Condition, ListenerStatus, ParentStatus, Status, Truth};
use crate::testing::resources;

const NODE: &str = "{apiVersion: ringway.mesh/v1alpha1, kind: Node, metadata: {name: n}, spec: {addresses: [192.0.2.1]}}\n---\n";
const CLASS: &str = "{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: r}, spec: {controllerName: ringway.mesh/gateway}}\n---\n";
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{name: h, port: 80}, {name: s, port: 443, appProtocol: https}, {name: u, port: 9, protocol: UDP}]}}\n---\n";
const HTTP: &str = "{name: http, port: 80, protocol: HTTP}";

fn gateway(listeners: &str) -> String {
    format!(
        "{NODE}{CLASS}{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {{gatewayClassName: r, listeners: [{listeners}]}}}}\n---\n"
    )
}

fn route(kind: &str, name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{{spec}}}}}\n---\n"
    )
}

fn statuses(text: &str, answer: NodeAnswer) -> BTreeMap<Key, Status> {
    conditions(&resources(text), &BTreeMap::from([("n".to_owned(), answer)]))
}

fn status_of(text: &str, kind: Kind, namespace: &str, name: &str) -> Status {
    statuses(text, NodeAnswer::Acknowledged).remove(&Key::new(kind, namespace, name)).unwrap()
}

fn said(condition: Option<&Condition>) -> (Truth, &str) {
    let condition = condition.expect("the condition is there");
    (condition.status, condition.reason.as_str())
}

/// The first parent of the HTTPRoute `default/r`.
fn parent(text: &str) -> ParentStatus {
    status_of(text, Kind::HttpRoute, "default", "r").parents.remove(0)
}

fn listener(text: &str, name: &str) -> ListenerStatus {
    let status = status_of(text, Kind::Gateway, "default", "g");
    status.listeners.into_iter().find(|listener| listener.name == name).unwrap()
}

/// What the HTTPRoute of `spec` hears about being Accepted by the Gateway of `listeners`.
fn accepted(listeners: &str, spec: &str) -> (Truth, String) {
    let text = gateway(listeners) + SERVICE + &route("HTTPRoute", "r", "default", spec);
    let parent = parent(&text);
    let (truth, reason) = said(parent.condition("Accepted"));
    (truth, reason.to_owned())
}

fn resolved(spec: &str, more: &str) -> (Truth, String) {
    let text = gateway(HTTP)
        + SERVICE
        + more
        + &route("HTTPRoute", "r", "default", &format!("parentRefs: [{{name: g}}], {spec}"));
    let parent = parent(&text);
    assert_eq!(said(parent.condition("Accepted")), (Truth::True, "Accepted"));
    let (truth, reason) = said(parent.condition("ResolvedRefs"));
    (truth, reason.to_owned())
}

fn refused(words: &[&str]) -> NodeAnswer {
    let words = words.iter().map(|words| (*words).to_owned()).collect();
    NodeAnswer::Refused(Refused { words, rest_acknowledged: true })
}

fn no(reason: &str) -> (Truth, String) {
    (Truth::False, reason.to_owned())
}

#[test]
fn a_route_hears_why_a_gateway_does_not_take_it() {
    let parent = "parentRefs: [{name: g}]";
    assert_eq!(accepted(HTTP, parent), (Truth::True, "Accepted".to_owned()));
    assert_eq!(accepted(HTTP, "parentRefs: [{name: nobody}]"), no("NoMatchingParent"));
    assert_eq!(accepted(HTTP, "parentRefs: [{name: g, sectionName: x}]"), no("NoMatchingParent"));
    assert_eq!(accepted(HTTP, "parentRefs: [{name: g, port: 81}]"), no("NoMatchingParent"));
    assert_eq!(accepted(HTTP, "parentRefs: [{name: g, kind: Mesh}]"), no("NoMatchingParent"));
    assert_eq!(accepted("{name: t, port: 1, protocol: TCP}", parent), no("NotAllowedByListeners"));
    assert_eq!(accepted("{name: t, port: 443, protocol: HTTPS}", parent), no("NotAllowedByListeners"));
    let grpc = "{name: http, port: 80, protocol: HTTP, allowedRoutes: {kinds: [{kind: GRPCRoute}]}}";
    assert_eq!(accepted(grpc, parent), no("NotAllowedByListeners"));
    let host = "{name: http, port: 80, protocol: HTTP, hostname: a.example}";
    assert_eq!(
        accepted(host, "parentRefs: [{name: g}], hostnames: [b.example]"),
        no("NoMatchingListenerHostname")
    );
    for filter in [
        "RequestMirror, requestMirror",
        "CORS, cors",
        "ExtensionRef, extensionRef",
        "ExternalAuth, externalAuth",
    ] {
        let spec = format!("parentRefs: [{{name: g}}], rules: [{{filters: [{{type: {filter}: {{}}}}]}}]");
        assert_eq!(accepted(HTTP, &spec), no("UnsupportedValue"));
    }
}

#[test]
fn a_route_of_which_only_some_rules_are_carried_out_is_accepted_and_says_which_are_not() {
    let spec = "parentRefs: [{name: g}], rules: [{backendRefs: [{name: a, port: 80}]}, {filters: [{type: CORS, cors: {}}]}]";
    let text = gateway(HTTP) + SERVICE + &route("HTTPRoute", "r", "default", spec);
    let parent = parent(&text);
    assert_eq!(said(parent.condition("Accepted")), (Truth::True, "Accepted"));
    assert_eq!(said(parent.condition("PartiallyInvalid")), (Truth::True, "UnsupportedValue"));
    let message = &parent.condition("PartiallyInvalid").unwrap().message;
    assert!(
        message.starts_with("Dropped Rule: spec.rules[1].filters[0]: a filter of type CORS"),
        "{message}"
    );
}

#[test]
fn a_listener_lets_in_the_namespaces_that_it_names() {
    let attached = |from: &str, labels: &str| {
        let listener =
            format!("{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: {from}}}}}");
        let namespace =
            format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {labels}}}}}\n---\n");
        let text = gateway(&listener)
            + &namespace
            + &route("HTTPRoute", "r", "shop", "parentRefs: [{name: g, namespace: default}]");
        let status = status_of(&text, Kind::HttpRoute, "shop", "r");
        status.parents[0].condition("Accepted").unwrap().status == Truth::True
    };
    assert!(attached("{from: All}", "{}"));
    assert!(!attached("{from: Same}", "{}"));
    assert!(!attached("{from: None}", "{}"));
    let selector = "{from: Selector, selector: {matchLabels: {team: web}}}";
    assert!(attached(selector, "{team: web}") && !attached(selector, "{team: db}"));
    assert!(attached("{from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: shop}}}", "{}"));
    assert!(!attached(
        "{from: Selector, selector: {matchExpressions: [{key: team, operator: Exists}]}}",
        "{}"
    ));
}

#[test]
fn a_routes_references_are_resolved_or_the_reason_is_said() {
    let backend = |backend: &str| resolved(&format!("rules: [{{backendRefs: [{backend}]}}]"), "");
    assert_eq!(backend("{name: a, port: 80}"), (Truth::True, "ResolvedRefs".to_owned()));
    assert_eq!(backend("{name: b, port: 80}"), no("BackendNotFound"));
    assert_eq!(backend("{name: a, port: 82}"), no("BackendNotFound"));
    assert_eq!(backend("{name: a, port: 443}"), no("UnsupportedProtocol"));
    assert_eq!(backend("{name: a, port: 9}"), no("UnsupportedProtocol"));
    assert_eq!(backend("{name: a, kind: ServiceImport, group: multicluster.x-k8s.io}"), no("InvalidKind"));
}

#[test]
fn a_reference_into_another_namespace_needs_that_namespaces_grant() {
    let grant = |from: &str, to: &str| {
        format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {{name: g, namespace: shop}}, spec: {{from: [{from}], to: [{to}]}}}}\n---\n"
        )
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {ports: [{port: 80}]}}\n---\n";
    let refers = |grant: &str| {
        resolved(
            "rules: [{backendRefs: [{name: s, namespace: shop, port: 80}]}]",
            &format!("{service}{grant}"),
        )
    };
    let from = "{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}";
    let all = "{group: '', kind: Service}";
    assert_eq!(refers(""), no("RefNotPermitted"));
    assert_eq!(refers(&grant(from, all)).0, Truth::True);
    assert_eq!(refers(&grant(from, "{group: '', kind: Service, name: s}")).0, Truth::True);
    assert_eq!(refers(&grant(from, "{group: '', kind: Service, name: t}")), no("RefNotPermitted"));
    assert_eq!(refers(&grant(from, "{group: '', kind: Secret}")), no("RefNotPermitted"));
    assert_eq!(refers(&grant(&from.replace("HTTP", "GRPC"), all)), no("RefNotPermitted"));
    assert_eq!(refers(&grant(&from.replace("default", "other"), all)), no("RefNotPermitted"));
}

#[test]
fn a_route_of_a_service_needs_no_grant() {
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, spec: {ports: [{port: 80}]}}\n---\n";
    let spec = "parentRefs: [{group: '', kind: Service, name: a}], rules: [{backendRefs: [{name: s, namespace: shop, port: 80}]}]";
    let parent = parent(&(SERVICE.to_owned() + service + &route("HTTPRoute", "r", "default", spec)));
    assert_eq!(said(parent.condition("ResolvedRefs")), (Truth::True, "ResolvedRefs"));
}

#[test]
fn what_is_not_there_and_what_is_not_allowed_look_alike_without_a_grant() {
    let spec = "rules: [{backendRefs: [{name: nobody, namespace: shop, port: 80}]}]";
    assert_eq!(resolved(spec, ""), no("RefNotPermitted"));
}

#[test]
fn listeners_that_cannot_be_served_say_why_and_the_others_serve() {
    let text = gateway(
        "{name: http, port: 80, protocol: HTTP}, {name: tls, port: 443, protocol: HTTPS, tls: {mode: Terminate}}, \
         {name: odd, port: 1, protocol: example.com/odd}, {name: one, port: 2, protocol: HTTP}, {name: two, port: 2, protocol: TCP}, \
         {name: kinds, port: 3, protocol: TCP, allowedRoutes: {kinds: [{kind: HTTPRoute}, {kind: TCPRoute}]}}",
    );
    let listener = |name: &str| listener(&text, name);
    assert_eq!(said(listener("http").condition("Accepted")), (Truth::True, "Accepted"));
    assert_eq!(said(listener("http").condition("Conflicted")), (Truth::False, "NoConflicts"));
    assert_eq!(said(listener("http").condition("Programmed")), (Truth::True, "Programmed"));
    for name in ["tls", "odd"] {
        assert_eq!(said(listener(name).condition("Accepted")), (Truth::False, "UnsupportedProtocol"));
        assert_eq!(said(listener(name).condition("Programmed")), (Truth::False, "Invalid"));
        assert!(listener(name).supported_kinds.is_empty());
    }
    assert_eq!(said(listener("one").condition("Conflicted")), (Truth::True, "ProtocolConflict"));
    assert_eq!(said(listener("two").condition("Conflicted")), (Truth::True, "ProtocolConflict"));
    assert_eq!(said(listener("kinds").condition("ResolvedRefs")), (Truth::False, "InvalidRouteKinds"));
    assert_eq!(listener("kinds").supported_kinds.len(), 1);
    let status = status_of(&text, Kind::Gateway, "default", "g");
    assert_eq!(said(status.condition("Accepted")), (Truth::True, "ListenersNotValid"));
}

#[test]
fn a_gateway_with_no_good_listener_is_not_accepted() {
    let status = status_of(&gateway("{name: t, port: 443, protocol: TLS}"), Kind::Gateway, "default", "g");
    assert_eq!(said(status.condition("Accepted")), (Truth::False, "ListenersNotValid"));
    assert_eq!(said(status.condition("Programmed")), (Truth::False, "Invalid"));
}

#[test]
fn a_gateway_is_programmed_when_its_nodes_have_acknowledged() {
    let programmed = |answer| {
        let status =
            statuses(&gateway(HTTP), answer).remove(&Key::new(Kind::Gateway, "default", "g")).unwrap();
        let condition = status.condition("Programmed").unwrap().clone();
        (condition.status, condition.reason, condition.message)
    };
    assert_eq!(programmed(NodeAnswer::Acknowledged).0, Truth::True);
    assert_eq!(programmed(NodeAnswer::Pending).1, "Pending");
    let refused = programmed(refused(&["no such route"]));
    assert_eq!((refused.0, refused.1.as_str()), (Truth::False, "Invalid"));
    assert!(refused.2.contains("node n refused its table: no such route"));
}

#[test]
fn a_gateways_addresses_must_be_a_nodes_and_ips() {
    let with = |addresses: &str| {
        let text = gateway(HTTP).replace("listeners:", &format!("addresses: [{addresses}], listeners:"));
        let status = status_of(&text, Kind::Gateway, "default", "g");
        let said = |kind| status.condition(kind).unwrap().reason.clone();
        (said("Accepted"), said("Programmed"), status.addresses.len())
    };
    assert_eq!(with("{value: 192.0.2.1}"), ("Accepted".to_owned(), "Programmed".to_owned(), 1));
    assert_eq!(with("{value: 192.0.2.1}, {value: 192.0.2.9}").1, "AddressNotUsable");
    assert_eq!(
        with("{type: Hostname, value: a.example}"),
        ("UnsupportedAddress".to_owned(), "Invalid".to_owned(), 0)
    );
    let nowhere = gateway(HTTP).replace(NODE, "");
    let status = status_of(&nowhere, Kind::Gateway, "default", "g");
    assert_eq!(said(status.condition("Programmed")), (Truth::False, "NoResources"));
}

#[test]
fn a_port_of_an_address_belongs_to_the_older_gateway() {
    let second = "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: h}, spec: {gatewayClassName: r, listeners: [{name: x, port: 80, protocol: HTTP}, {name: y, port: 81, protocol: HTTP}]}}";
    let status = status_of(&(gateway(HTTP) + second), Kind::Gateway, "default", "h");
    assert_eq!(said(status.listeners[0].condition("Accepted")), (Truth::False, "PortUnavailable"));
    assert_eq!(said(status.listeners[1].condition("Accepted")), (Truth::True, "Accepted"));
}

#[test]
fn classes_of_others_wait_for_them_and_parameters_are_refused() {
    let class = |spec: &str| {
        let text = format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: r}}, spec: {spec}}}\n---\n"
        );
        let condition = status_of(&text, Kind::GatewayClass, "", "r").conditions.remove(0);
        let gateway = status_of(&gateway(HTTP).replace(CLASS, &text), Kind::Gateway, "default", "g");
        (condition.status, condition.reason, gateway.condition("Accepted").unwrap().reason.clone())
    };
    let words = |reasons: (&str, &str)| (reasons.0.to_owned(), reasons.1.to_owned());
    let (truth, one, other) = class("{controllerName: acme.io/x}");
    assert_eq!((truth, (one, other)), (Truth::Unknown, words(("Pending", "Pending"))));
    let (truth, one, other) = class("{controllerName: ringway.mesh/gateway, parametersRef: {}}");
    assert_eq!((truth, (one, other)), (Truth::False, words(("InvalidParameters", "InvalidParameters"))));
    let status = status_of(&gateway(HTTP).replace(CLASS, ""), Kind::Gateway, "default", "g");
    assert!(status.condition("Accepted").unwrap().message.contains("GatewayClass r does not exist"));
}

#[test]
fn attached_routes_counts_accepted_routes_once() {
    let text = gateway(HTTP)
        + &route("HTTPRoute", "r", "default", "parentRefs: [{name: g}, {name: g, namespace: default}]")
        + &route(
            "HTTPRoute",
            "s",
            "default",
            "parentRefs: [{name: g}], rules: [{backendRefs: [{name: no, port: 1}]}]",
        )
        + &route(
            "HTTPRoute",
            "t",
            "default",
            "parentRefs: [{name: g}], rules: [{filters: [{type: CORS, cors: {}}]}]",
        );
    assert_eq!(listener(&text, "http").attached_routes, 2);
}

#[test]
fn an_http_and_a_grpc_route_cannot_share_a_host_and_the_older_stays() {
    let grpc = route("GRPCRoute", "q", "default", "parentRefs: [{name: g}], hostnames: ['*.example']");
    let http = |hostname: &str| {
        let spec = format!("parentRefs: [{{name: g}}], hostnames: [{hostname}]");
        let text = gateway(HTTP) + &grpc + &route("HTTPRoute", "r", "default", &spec);
        parent(&text).condition("Accepted").unwrap().reason.clone()
    };
    assert_eq!(http("a.example"), "Conflicted");
    assert_eq!(http("a.example.org"), "Accepted");
}

#[test]
fn a_tcp_listener_and_a_services_port_have_the_oldest_route() {
    let rules = "rules: [{backendRefs: [{name: a, port: 80}]}]";
    for parent in ["{name: g}", "{group: '', kind: Service, name: a, port: 80}"] {
        let spec = format!("parentRefs: [{parent}], {rules}");
        let text = gateway("{name: t, port: 1, protocol: TCP}")
            + SERVICE
            + &route("TCPRoute", "x", "default", &spec)
            + &route("TCPRoute", "y", "default", &spec);
        let reason = |name: &str| {
            let status = status_of(&text, Kind::TcpRoute, "default", name);
            status.parents[0].condition("Accepted").unwrap().reason.clone()
        };
        assert_eq!((reason("x").as_str(), reason("y").as_str()), ("Accepted", "Conflicted"));
    }
}

#[test]
fn a_service_takes_the_routes_that_fit_its_ports() {
    let service =
        |more: &str| accepted(HTTP, &format!("parentRefs: [{{group: '', kind: Service, name: a{more}}}]"));
    assert_eq!(service("").0, Truth::True);
    assert_eq!(service(", port: 80, sectionName: h").0, Truth::True);
    assert_eq!(service(", port: 80, sectionName: u"), no("NoMatchingParent"));
    assert_eq!(service(", port: 9"), no("NotAllowedByListeners"));
    assert_eq!(service(", port: 443"), no("NotAllowedByListeners"));
    assert_eq!(service(", namespace: shop"), no("NoMatchingParent"));
}

#[test]
fn workloads_and_nodes_say_what_is_missing() {
    let workload = |name: &str, check: &str| {
        format!(
            "{{apiVersion: ringway.mesh/v1alpha1, kind: Workload, metadata: {{name: {name}, labels: {{app: w}}}}, spec: {{addresses: [10.0.0.1], node: m, ports: [{{port: 80, healthCheck: {check}}}]}}}}\n---\n"
        )
    };
    let service = "{apiVersion: v1, kind: Service, metadata: {name: w}, spec: {selector: {app: w}, ports: [{port: 80}]}}\n---\n";
    let text = NODE.to_owned() + service + &workload("one", "{tcp: {}}") + &workload("two", "{http: {}}");
    let status = |name: &str| status_of(&text, Kind::Workload, "default", name);
    assert_eq!(said(status("one").condition("Accepted")), (Truth::False, "NodeNotFound"));
    assert!(status("one").condition("HealthChecked").is_none());
    assert_eq!(said(status("two").condition("HealthChecked")), (Truth::False, "HealthCheckDiffers"));
    assert_eq!(
        said(status_of(NODE, Kind::Node, "", "n").condition("Programmed")),
        (Truth::True, "Programmed")
    );
}

#[test]
fn a_service_hears_that_it_has_no_address_or_an_older_ones() {
    let service = |name: &str, more: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{ports: [{{port: 1}}]{more}}}}}\n---\n"
        )
    };
    let text = service("a", ", clusterIPs: [10.96.0.1]")
        + &service("b", ", clusterIPs: [10.96.0.1]")
        + &service("c", "");
    let reason = |name: &str| status_of(&text, Kind::Service, "default", name).conditions.remove(0).reason;
    assert_eq!(
        (reason("a").as_str(), reason("b").as_str(), reason("c").as_str()),
        ("Accepted", "AddressNotUsable", "Pending")
    );
    let table = crate::compile_client(&resources(&text), "default", &crate::HealthView::default());
    assert_eq!(table.listeners.keys().collect::<Vec<_>>(), ["mesh/default/a/1/tcp"]);
}

/// What each of `kind name` hears about being Programmed on a node that answers so, by its first parent.
fn routes_programmed(answer: NodeAnswer, routes: &[(Kind, &str)]) -> Vec<(Truth, String)> {
    let spec = |parent: &str, port: u16| {
        format!("parentRefs: [{parent}], rules: [{{backendRefs: [{{name: a, port: {port}}}]}}]")
    };
    let gateway = |listener: &str| format!("{{name: g, sectionName: {listener}}}");
    let text = self::gateway(
        "{name: http, port: 80, protocol: HTTP}, {name: alt, port: 81, protocol: HTTP}, {name: grpc, port: 82, protocol: HTTP}, {name: udp, port: 9, protocol: UDP}, {name: tcp, port: 7, protocol: TCP}",
    ) + SERVICE
        + "{apiVersion: ringway.mesh/v1alpha1, kind: Workload, metadata: {name: w}, spec: {addresses: [10.0.0.1], node: n}}\n---\n"
        + &route("HTTPRoute", "r", "default", &spec(&gateway("http"), 80))
        + &route("HTTPRoute", "r-2", "default", &spec(&gateway("http"), 80))
        + &route("HTTPRoute", "alt", "default", &spec(&gateway("alt"), 443))
        + &route("GRPCRoute", "grpc", "default", &spec(&gateway("grpc"), 80))
        + &route("TCPRoute", "tcp", "default", &spec(&gateway("tcp"), 80))
        + &route("UDPRoute", "udp", "default", &spec(&gateway("udp"), 9))
        + &route("HTTPRoute", "mesh", "default", &spec("{name: a, kind: Service, group: '', port: 80}", 80));
    let all = statuses(&text, answer);
    let each = routes.iter().map(|(kind, name)| {
        let status = &all[&Key::new(*kind, "default", name)];
        assert_eq!(said(status.parents[0].condition("Accepted")), (Truth::True, "Accepted"), "{name}");
        let condition = status.parents[0].condition("Programmed").unwrap();
        (condition.status, condition.reason.clone())
    });
    each.collect()
}

const ROUTES: [(Kind, &str); 7] = [
    (Kind::HttpRoute, "r"),
    (Kind::HttpRoute, "r-2"),
    (Kind::HttpRoute, "alt"),
    (Kind::GrpcRoute, "grpc"),
    (Kind::TcpRoute, "tcp"),
    (Kind::UdpRoute, "udp"),
    (Kind::HttpRoute, "mesh"),
];

#[test]
fn a_route_is_programmed_when_its_nodes_have_acknowledged() {
    let yes = (Truth::True, "Programmed".to_owned());
    assert_eq!(routes_programmed(NodeAnswer::Acknowledged, &ROUTES), vec![yes; 7]);
    assert_eq!(routes_programmed(NodeAnswer::Pending, &ROUTES), vec![no("Pending"); 7]);
}

#[test]
fn a_nack_shows_on_the_routes_that_it_concerns() {
    let yes = || (Truth::True, "Programmed".to_owned());
    let said = |words: &[&str]| routes_programmed(refused(words), &ROUTES);
    let route =
        "routes \"gateway/default/g/80/tcp\": virtual_hosts[0].routes[1] (default/r/0/0).match: too long";
    assert_eq!(
        said(&[route]),
        [no("Invalid"), no("Pending"), yes(), yes(), yes(), yes(), yes()],
        "r-2 stands in the same refused resource"
    );
    let listener = "listener \"gateway/default/g/9/udp\": protocol: is not supported";
    assert_eq!(said(&[listener]), [yes(), yes(), yes(), yes(), yes(), no("Invalid"), yes()]);
    let service = "routes \"mesh/default/a/80/tcp\": cannot be decoded";
    assert_eq!(said(&[service]), [yes(), yes(), yes(), yes(), yes(), yes(), no("Invalid")]);
    let cluster = "cluster default/a/80/tcp: endpoint 10.0.0.1:80 has weight 0; at least 1 is needed";
    assert_eq!(said(&[cluster]), [yes(), yes(), yes(), yes(), no("Invalid"), yes(), yes()]);
    assert_eq!(
        said(&[listener, "route default/alt/0/0: \"x y\" is not a method"]),
        [yes(), yes(), no("Invalid"), yes(), yes(), no("Invalid"), yes()],
        "each refused part concerns its own"
    );
    assert_eq!(said(&["out of memory"]), vec![no("Invalid"); 7], "whom it concerns is not said");
}

#[test]
fn routes_that_a_nack_does_not_concern_wait_for_the_rest_of_the_table() {
    let words = vec!["route default/r/0/0: bad".to_owned()];
    let answer = NodeAnswer::Refused(Refused { words, rest_acknowledged: false });
    assert_eq!(routes_programmed(answer, &ROUTES[..3]), [no("Invalid"), no("Pending"), no("Pending")]);
}

#[test]
fn a_route_that_is_not_accepted_is_not_programmed() {
    let text = gateway(HTTP) + &route("HTTPRoute", "r", "default", "parentRefs: [{name: nobody}]");
    assert_eq!(said(parent(&text).condition("Programmed")), (Truth::False, "Invalid"));
    let mesh = route("HTTPRoute", "r", "default", "parentRefs: [{name: a, kind: Service, group: ''}]");
    let text = SERVICE.to_owned() + &mesh;
    assert_eq!(said(parent(&text).condition("Programmed")), (Truth::False, "NoResources"));
}
