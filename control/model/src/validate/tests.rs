//! One line a rule: a spec that breaks it, and what is said.

use crate::testing::errors;

fn check(kind: &str, api_version: &str, cases: &[(&str, &str)]) {
    for (spec, wanted) in cases {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}");
        let errors = errors(&text);
        if wanted.is_empty() {
            assert!(errors.is_empty(), "{spec}: {errors:?}");
        } else {
            assert!(errors.iter().any(|error| error.contains(wanted)), "{spec}: {errors:?}");
        }
    }
}

const GATEWAY: &str = "gateway.networking.k8s.io/v1";
const MESH: &str = "ringway.mesh/v1alpha1";

/// A list of `count` times `entry`, in which `#` becomes the number.
fn many(entry: &str, count: usize) -> String {
    (0..count).map(|number| entry.replace('#', &number.to_string())).collect::<Vec<_>>().join(", ")
}

#[test]
fn names_and_labels_have_kubernetes_formats() {
    for (metadata, wanted) in [
        ("{name: ''}", "metadata.name"),
        ("{name: Web}", "metadata.name: \"Web\""),
        ("{name: 1web}", "beginning with a letter"),
        ("{name: web, namespace: a.b}", "metadata.namespace"),
        ("{name: web, labels: {'a b': c}}", "metadata.labels[a b]"),
        ("{name: web, labels: {a: '-c'}}", "metadata.labels[a]"),
        ("{name: web, creationTimestamp: yesterday}", "such as 2026-01-31T12:00:00Z"),
        (
            "{name: web, annotations: {ringway.mesh/balance: random}}",
            "metadata.annotations[ringway.mesh/balance]: \"random\" is not supported; expected RoundRobin or",
        ),
        (
            "{name: web, annotations: {ringway.mesh/congestion: vegas}}",
            "metadata.annotations[ringway.mesh/congestion]: \"vegas\" is not supported; expected cubic, newreno or bbr",
        ),
        (
            "{name: web, annotations: {ringway.mesh/pacing: 'yes'}}",
            "metadata.annotations[ringway.mesh/pacing]: \"yes\" is not supported; expected on or off",
        ),
        (
            "{name: web, annotations: {ringway.mesh/ecn: ask}}",
            "metadata.annotations[ringway.mesh/ecn]: \"ask\" is not supported; expected off, passive or active",
        ),
    ] {
        let text =
            format!("apiVersion: v1\nkind: Service\nmetadata: {metadata}\nspec: {{ports: [{{port: 80}}]}}");
        let errors = errors(&text);
        assert!(errors.iter().any(|error| error.contains(wanted)), "{metadata}: {errors:?}");
    }
}

#[test]
fn a_gateway_names_a_congestion_control_that_there_is() {
    let gateway = |word: &str| {
        let metadata = format!("{{name: g, annotations: {{ringway.mesh/congestion: {word}}}}}");
        let spec = "{gatewayClassName: c, listeners: [{name: h, port: 80, protocol: HTTP}]}";
        errors(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {metadata}\nspec: {spec}"
        ))
    };
    assert!(gateway("bbr").is_empty());
    assert!(gateway("vegas").iter().any(|error| error.contains("expected cubic, newreno or bbr")));
}

#[test]
fn gateways_follow_their_crd() {
    let listeners = |entries: &str| format!("{{gatewayClassName: c, listeners: [{entries}]}}");
    let addresses = |entries: &str| {
        format!(
            "{{gatewayClassName: c, listeners: [{{name: a, port: 1, protocol: TCP}}], addresses: [{entries}]}}"
        )
    };
    let cases = [
        (listeners(""), "at least one listener"),
        (listeners("{name: a, port: 80, protocol: HTTP}"), ""),
        (listeners("{name: a, port: 0, protocol: HTTP}"), "spec.listeners[0].port: expected a port number"),
        (listeners("{name: a, port: 80, protocol: 'x y'}"), "spec.listeners[0].protocol"),
        (listeners("{name: a, port: 80, protocol: HTTP, tls: {}}"), "spec.listeners[0].tls: must not be set"),
        (
            listeners("{name: a, port: 80, protocol: TCP, hostname: a.b}"),
            "hostname: must not be set for protocol TCP",
        ),
        (listeners("{name: a, port: 80, protocol: HTTP, hostname: 1.2.3.4}"), "not an address"),
        (listeners("{name: a, port: 80, protocol: HTTP, hostname: 'a.*.b'}"), "spec.listeners[0].hostname"),
        (
            listeners("{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}"),
            "spec.listeners[1]: an earlier entry has the same name",
        ),
        (
            listeners("{name: a, port: 80, protocol: HTTP}, {name: b, port: 80, protocol: HTTP}"),
            "same port, protocol and hostname",
        ),
        (
            listeners(&many("{name: l#, port: 80, protocol: HTTP, hostname: h#.a}", 65)),
            "at most 64 are allowed",
        ),
        (
            listeners("{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector}}}"),
            "namespaces.selector: is missing",
        ),
        (
            listeners(
                "{name: a, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: \
                 {matchExpressions: [{key: a, operator: In}]}}}}",
            ),
            "In and NotIn need values",
        ),
        (addresses("{value: x}"), "spec.addresses[0].value: \"x\": expected an IPv4 or IPv6 address"),
        (
            addresses("{value: 1.2.3.4}, {value: 1.2.3.4}"),
            "spec.addresses[1]: an earlier entry has the same value",
        ),
        (addresses("{type: Hostname, value: a.example}"), ""),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect();
    check("Gateway", GATEWAY, &cases);
    check("GatewayClass", GATEWAY, &[("{controllerName: x}", "such as ringway.mesh/gateway")]);
}

#[test]
fn routes_name_their_parents_and_hosts_rightly() {
    check(
        "HTTPRoute",
        GATEWAY,
        &[
            ("{}", ""),
            ("{parentRefs: [{name: a}, {name: a}]}", "spec.parentRefs[1]: an earlier entry is the same"),
            ("{parentRefs: [{name: a}, {name: a, sectionName: b}]}", "must all set sectionName"),
            ("{parentRefs: [{name: a, port: 1}, {name: a, sectionName: b}]}", "must all set sectionName"),
            ("{parentRefs: [{name: a, port: 1}, {name: a, port: 2}]}", ""),
            ("{parentRefs: [{name: a, kind: Service}]}", "a Service is of group \"\""),
            ("{hostnames: [A.b]}", "spec.hostnames[0]"),
            ("{hostnames: ['*']}", "spec.hostnames[0]"),
            ("{rules: []}", "at least one rule"),
            ("{rules: [{name: a}, {name: a}]}", "two rules have the same name"),
            (&format!("{{rules: [{}]}}", many("{}", 17)), "spec.rules: has 17 entries; at most 16"),
            (
                &format!(
                    "{{rules: [{0}, {0}, {0}]}}",
                    format_args!("{{matches: [{}]}}", many("{method: GET}", 60))
                ),
                "the rules have 180 matches together",
            ),
            (&format!("{{parentRefs: [{}]}}", many("{name: p#}", 33)), "at most 32"),
            (&format!("{{hostnames: [{}]}}", many("h#.a", 17)), "at most 16"),
        ],
    );
}

#[test]
fn http_matches_follow_their_crd() {
    let cases = [
        ("{path: {value: a}}", "begins with '/'"),
        ("{path: {value: '/a//b'}}", "must not contain \"//\""),
        ("{path: {value: '/a/../b'}}", "must not contain \"/../\""),
        ("{path: {value: '/a/..'}}", "must not end with \"/..\""),
        ("{path: {value: '/a%2fb'}}", "must not contain \"%2f\""),
        ("{path: {value: '/a#b'}}", "without '?' and '#'"),
        ("{path: {value: '/a%zz'}}", "URL characters"),
        ("{path: {value: '/my%20path/123'}}", ""),
        ("{path: {type: RegularExpression, value: '(a'}}", "is not a regular expression"),
        ("{path: {type: RegularExpression, value: '/(a|b)/.*'}}", ""),
        ("{headers: [{name: 'a b', value: c}]}", "headers[0].name"),
        ("{headers: [{name: a, value: ''}]}", "headers[0].value: expected 1 to 4096 bytes"),
        (
            "{headers: [{name: A, value: b}, {name: a, value: c}]}",
            "headers[1]: an earlier entry has the same name",
        ),
        ("{queryParams: [{name: A, value: b}, {name: a, value: c}]}", ""),
        ("{queryParams: [{name: a, type: RegularExpression, value: '['}]}", "queryParams[0].value"),
        ("{method: get}", "matches[0].method: unknown variant `get`"),
    ];
    let specs: Vec<(String, &str)> = cases
        .iter()
        .map(|(entry, wanted)| (format!("{{rules: [{{matches: [{entry}]}}]}}"), *wanted))
        .collect();
    let cases: Vec<(&str, &str)> = specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect();
    check("HTTPRoute", GATEWAY, &cases);
}

#[test]
fn filters_follow_their_crd() {
    let redirect = "{type: RequestRedirect, requestRedirect: {}}";
    let rewrite = "{type: URLRewrite, urlRewrite: {}}";
    let set = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}]}}";
    let prefix = "{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}";
    let edit = |edit: &str| format!("{{type: RequestHeaderModifier, requestHeaderModifier: {edit}}}");
    let cases = [
        (format!("filters: [{set}, {set}]"), "RequestHeaderModifier cannot be repeated"),
        (format!("filters: [{redirect}, {rewrite}]"), "exclude each other"),
        (
            format!("filters: [{redirect}], backendRefs: [{{name: b, port: 1}}]"),
            "must be empty beside a RequestRedirect",
        ),
        (format!("filters: [{prefix}]"), ""),
        (format!("filters: [{prefix}], matches: [{{path: {{type: Exact, value: /}}}}]"), "exactly one match"),
        (format!("filters: [{prefix}], matches: [{{method: GET}}, {{method: PUT}}]"), "exactly one match"),
        ("filters: [{type: URLRewrite}]".to_owned(), "urlRewrite: is missing"),
        (
            "filters: [{type: URLRewrite, urlRewrite: {}, requestRedirect: {}}]".to_owned(),
            "requestRedirect: must not be set with type: URLRewrite",
        ),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]".to_owned(),
            "replaceFullPath: is missing",
        ),
        (
            "filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a, \
             replacePrefixMatch: /b}}}]"
                .to_owned(),
            "replacePrefixMatch: must not be set",
        ),
        (
            "filters: [{type: RequestRedirect, requestRedirect: {statusCode: 300}}]".to_owned(),
            "expected 301, 302, 303, 307 or 308",
        ),
        ("filters: [{type: RequestRedirect, requestRedirect: {hostname: '*.a'}}]".to_owned(), "without '*'"),
        (format!("filters: [{}]", edit("{add: [{name: A, value: b}, {name: a, value: b}]}")), "add[1]"),
        (
            format!("filters: [{}]", edit("{set: [{name: a, value: \"b\\r\\nc\"}]}")),
            "without control characters",
        ),
        (format!("filters: [{}]", edit("{remove: [Transfer-Encoding]}")), "frames the message"),
        (format!("filters: [{}]", edit("{remove: ['a b']}")), "remove[0]"),
        (format!("filters: [{}]", many("{type: RequestMirror, requestMirror: {}}", 17)), "at most 16"),
    ];
    let specs: Vec<(String, &str)> =
        cases.iter().map(|(rule, wanted)| (format!("{{rules: [{{{rule}}}]}}"), *wanted)).collect();
    let cases: Vec<(&str, &str)> = specs.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect();
    check("HTTPRoute", GATEWAY, &cases);
    check(
        "GRPCRoute",
        GATEWAY,
        &[(&format!("{{rules: [{{filters: [{rewrite}]}}]}}"), "URLRewrite is no filter of GRPCRoute")],
    );
}

#[test]
fn backends_and_timeouts_follow_their_crd() {
    check(
        "HTTPRoute",
        GATEWAY,
        &[
            ("{rules: [{backendRefs: [{name: b}]}]}", "backendRefs[0].port: is missing; a Service needs one"),
            ("{rules: [{backendRefs: [{name: b, kind: Bucket, group: x.y}]}]}", ""),
            (
                "{rules: [{backendRefs: [{name: b, port: 1, weight: 1000001}]}]}",
                "weight: expected 0 to 1000000",
            ),
            ("{rules: [{backendRefs: [{name: b, port: 1, weight: -1}]}]}", "backendRefs[0].weight"),
            (&format!("{{rules: [{{backendRefs: [{}]}}]}}", many("{name: b#, port: 1}", 17)), "at most 16"),
            (
                "{rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}",
                "2s must not be longer than the request's 1s",
            ),
            ("{rules: [{timeouts: {request: 0s, backendRequest: 2s}}]}", ""),
            (
                "{rules: [{timeouts: {request: 1 s}}]}",
                "timeouts.request: \"1 s\": expected a duration such as 10s",
            ),
        ],
    );
}

#[test]
fn grpc_methods_follow_their_crd() {
    check(
        "GRPCRoute",
        GATEWAY,
        &[
            ("{rules: [{matches: [{method: {service: com.example.User, method: Login}}]}]}", ""),
            ("{rules: [{matches: [{method: {}}]}]}", "set service, method or both"),
            ("{rules: [{matches: [{method: {service: a/b}}]}]}", "a service such as com.example.User"),
            ("{rules: [{matches: [{method: {method: a.b}}]}]}", "a method such as Login"),
            (
                "{rules: [{matches: [{method: {type: RegularExpression, method: '('}}]}]}",
                "is not a regular expression",
            ),
        ],
    );
}

#[test]
fn tcp_and_udp_routes_have_exactly_one_rule_without_filters() {
    for kind in ["TCPRoute", "UDPRoute"] {
        check(
            kind,
            GATEWAY,
            &[
                ("{rules: [{backendRefs: [{name: b, port: 1}]}]}", ""),
                ("{rules: []}", "has 0 entries; exactly one"),
                (
                    "{rules: [{backendRefs: [{name: b, port: 1}]}, {backendRefs: [{name: b, port: 1}]}]}",
                    "exactly one",
                ),
                ("{rules: [{}]}", "backendRefs: at least one is needed"),
                (
                    "{rules: [{backendRefs: [{name: b, port: 1, filters: [{type: CORS, cors: {}}]}]}]}",
                    "TCPRoute and UDPRoute have no filters",
                ),
            ],
        );
    }
}

#[test]
fn reference_grants_follow_their_crd() {
    check(
        "ReferenceGrant",
        GATEWAY,
        &[
            ("{from: [], to: []}", "spec.from: at least one entry"),
            (
                "{from: [{group: '', kind: 'a b', namespace: c}], to: [{group: '', kind: Service}]}",
                "spec.from[0].kind",
            ),
        ],
    );
}

#[test]
fn services_are_cluster_ips_with_named_ports() {
    check(
        "Service",
        "v1",
        &[
            ("{ports: [{port: 80}]}", ""),
            ("{ports: []}", "at least one port"),
            (
                "{type: LoadBalancer, ports: [{port: 80}]}",
                "\"LoadBalancer\" is not supported; expected ClusterIP",
            ),
            (
                "{type: ExternalName, externalName: a.b, ports: [{port: 80}]}",
                "spec.externalName: is not supported yet",
            ),
            ("{clusterIP: None, ports: [{port: 80}]}", "headless"),
            (
                "{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2], ports: [{port: 80}]}",
                "expected 10.0.0.2, the first",
            ),
            ("{clusterIPs: [10.0.0.1, 10.0.0.2], ports: [{port: 80}]}", "at most one IPv4 and one IPv6"),
            ("{clusterIPs: [127.0.0.1], ports: [{port: 80}]}", "unicast address"),
            (
                "{clusterIPs: [10.0.0.1], ipFamilies: [IPv6], ports: [{port: 80}]}",
                "spec.ipFamilies does not name",
            ),
            ("{ports: [{port: 80}, {port: 81}]}", "spec.ports[0].name: is missing"),
            ("{ports: [{name: a, port: 80}, {name: b, port: 80}]}", "same port and protocol"),
            ("{ports: [{name: a, port: 80}, {name: b, port: 80, protocol: UDP}]}", ""),
            ("{ports: [{port: 80, protocol: SCTP}]}", "unknown variant `SCTP`"),
            ("{ports: [{port: 80, targetPort: Web}]}", "spec.ports[0].targetPort"),
            ("{ports: [{port: 80, protocol: UDP, appProtocol: http}]}", "http is not carried by UDP"),
        ],
    );
}

#[test]
fn workloads_and_nodes_have_reachable_addresses_and_one_probe_a_port() {
    let port = |check: &str| format!("{{addresses: [10.0.0.1], ports: [{{port: 1, healthCheck: {check}}}]}}");
    let cases = [
        ("{addresses: [10.0.0.1, 'fd00::1']}".to_owned(), ""),
        ("{addresses: []}".to_owned(), "at least one address"),
        ("{addresses: [0.0.0.0]}".to_owned(), "unicast address"),
        ("{addresses: [10.0.0.1], weight: 0}".to_owned(), "spec.weight: expected 1 to 1000000"),
        ("{addresses: [10.0.0.1], interface: veth0}".to_owned(), "spec.interface is an interface of a node"),
        ("{addresses: [10.0.0.1], node: n, interface: a/b}".to_owned(), "1 to 15 bytes"),
        ("{addresses: [10.0.0.1], ports: [{port: 1}, {port: 1}]}".to_owned(), "same port and protocol"),
        (port("{}"), "set exactly one of http, grpc, tcp and udpEcho"),
        (port("{tcp: {}, http: {}}"), "set exactly one"),
        (port("{udpEcho: {payload: x}}"), "udpEcho is for UDP ports"),
        (port("{tcp: {}, interval: 1s, timeout: 2s}"), "must not be longer than the interval"),
        (port("{tcp: {}, interval: 10ms}"), "at least 100ms"),
        (port("{tcp: {}, healthyThreshold: 0}"), "healthyThreshold: expected 1 to 100"),
        (port("{http: {path: x}}"), "http.path"),
        (port("{grpc: {service: a.B}}"), ""),
    ];
    let cases: Vec<(&str, &str)> = cases.iter().map(|(spec, wanted)| (spec.as_str(), *wanted)).collect();
    check("Workload", MESH, &cases);
    check(
        "Node",
        MESH,
        &[
            ("{}", ""),
            ("{addresses: [224.0.0.1]}", "unicast"),
            ("{addresses: [10.0.0.1, 10.0.0.1]}", "same address"),
        ],
    );
}
