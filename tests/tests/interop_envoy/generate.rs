//! Random routes and random requests that fit them, from a seed.
//!
//! The words are few, so that requests meet rules, and chosen for what two proxies could read differently: elements and
//! bytes of paths, escapes, letters' case, fields that stand twice.

use serde_json::{Map, Value, json};

/// SplitMix64: short, repeatable, good enough to draw words.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// `count` different ones.
    fn several<T: Copy>(&mut self, from: &[T], count: usize) -> Vec<T> {
        let mut left = from.to_vec();
        (0..count.min(from.len())).map(|_| left.swap_remove(self.below(left.len()))).collect()
    }
}

/// The services, each of one workload that answers its name.
pub const BACKENDS: [&str; 4] = ["alpha", "beta", "gamma", "delta"];
/// The listeners' ports: redirects name the second.
pub const PORTS: [u16; 2] = [80, 8080];
/// Says which rule answered; set on responses.
pub const RULE: &str = "x-rule";

const ROUTES: usize = 6;
const ROUTE_HOSTS: [&str; 6] =
    ["a.example", "b.example", "*.example", "x.a.example", "*.a.example", "c.test"];
const REQUEST_HOSTS: [&str; 12] = [
    "a.example",
    "b.example",
    "x.a.example",
    "y.a.example",
    "deep.y.a.example",
    "c.test",
    "other.test",
    "example",
    "A.Example",
    "a.example:80",
    "b.example:8080",
    "10.77.0.9",
];
const PREFIXES: [&str; 7] = ["/", "/a", "/a/", "/a/b", "/b", "/v1.0", "/a%20b"];
const EXACT: [&str; 7] = ["/", "/a", "/a/b", "/b/", "/v1.0/x", "/a%20b", "/A"];
const REGULAR: [&str; 6] = ["/a/[0-9]+", "/(a|b)/.*", "/v\\d\\.\\d.*", "/.*c", "/[^/]*", "/a|/b"];
const PATHS: [&str; 24] = [
    "/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/a/bc", "/a/b/c", "/b", "/b/", "/b/c", "/a/12", "/a/12/3",
    "/v1.0", "/v1x0", "/v1.0/x", "/A", "//a", "/a//b", "/a%20b", "/a%20b/c", "/a%2Fb", "/a;p=1", "/c",
];
const QUERIES: [&str; 15] = [
    "",
    "",
    "",
    "?q=1",
    "?q=2&r=x",
    "?r=x&q=1&q=2",
    "?q=a%20b",
    "?q=a+b",
    "?q=%79es",
    "?r=x&q=%31",
    "?Q=1",
    "?q",
    "?",
    "?q=1?r=x",
    "?&&q=1",
];
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
const NEW_PATHS: [&str; 5] = ["/", "/new", "/new/", "/n/m.o", "/n%20m"];
const NEW_HOSTS: [&str; 3] = ["inner.example", "b.example", "new.test"];
const VALUES: [&str; 9] = ["1", "2", "a b", "100%", "%START_TIME%", "\\1", "\"q\"", "v,w", "%%"];
const REQUEST_FIELDS: [&str; 7] = ["x-a", "x-b", "x-c", "X-Tester", "user-agent", "accept", "x-v"];
const RESPONSE_FIELDS: [&str; 4] = ["x-ra", "x-rb", "X-RC", "x-rd"];

/// Routes on both gateways. Names repeat from round to round, so that each round replaces the last.
pub fn routes(random: &mut Random, parents: &Value) -> Vec<Value> {
    (0..ROUTES).map(|number| route(random, &format!("random-{number}"), parents)).collect()
}

fn route(random: &mut Random, name: &str, parents: &Value) -> Value {
    let count = 1 + random.below(4);
    let rules: Vec<Value> = (0..count).map(|number| rule(random, &format!("{name}/{number}"))).collect();
    let mut spec = json!({ "parentRefs": parents, "rules": rules });
    if random.percent(75) {
        let hosts = 1 + random.below(3);
        spec["hostnames"] = json!(random.several(&ROUTE_HOSTS, hosts));
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": name },
        "spec": spec,
    })
}

fn rule(random: &mut Random, name: &str) -> Value {
    let matches: Vec<Value> = match random.below(10) {
        0 => vec![],
        1..=6 => vec![rule_match(random)],
        _ => (0..2 + random.below(2)).map(|_| rule_match(random)).collect(),
    };
    // Only then may a prefix be replaced.
    let prefix = match matches.as_slice() {
        [] => true,
        [only] => only["path"].is_null() || only["path"]["type"] == "PathPrefix",
        _ => false,
    };
    let mut filters = vec![response_edit(random, name)];
    if random.percent(40) {
        filters.push(request_edit(random));
    }
    let mut rule = json!({});
    match random.below(10) {
        0..=2 => filters.push(redirect(random, prefix)),
        3..=5 => {
            filters.push(json!({ "type": "URLRewrite", "urlRewrite": rewrite(random, prefix) }));
            rule["backendRefs"] = backends(random);
        }
        // Without any backend.
        6 => {}
        _ => rule["backendRefs"] = backends(random),
    }
    if !matches.is_empty() {
        rule["matches"] = json!(matches);
    }
    rule["filters"] = json!(filters);
    rule
}

fn rule_match(random: &mut Random) -> Value {
    let mut entry = Map::new();
    if random.percent(85) {
        let (kind, value) = match random.below(10) {
            0..=4 => ("PathPrefix", random.pick(&PREFIXES)),
            5..=6 => ("Exact", random.pick(&EXACT)),
            _ => ("RegularExpression", random.pick(&REGULAR)),
        };
        entry.insert("path".into(), json!({ "type": kind, "value": value }));
    }
    if random.percent(20) {
        entry.insert("method".into(), json!(random.pick(&METHODS)));
    }
    if random.percent(25) {
        let count = 1 + random.below(2);
        let names = random.several(&["X-Tester", "x-v"], count);
        let headers: Vec<Value> = names.into_iter().map(|name| named(random, name)).collect();
        entry.insert("headers".into(), json!(headers));
    }
    if random.percent(25) {
        let count = 1 + random.below(2);
        let names = random.several(&["q", "r"], count);
        let query: Vec<Value> = names.into_iter().map(|name| named(random, name)).collect();
        entry.insert("queryParams".into(), json!(query));
    }
    Value::Object(entry)
}

fn named(random: &mut Random, name: &str) -> Value {
    if random.percent(30) {
        let value = random.pick(&["[0-9]", "yes|no", ".*", "1.*", "[a-z ]+"]);
        return json!({ "name": name, "type": "RegularExpression", "value": value });
    }
    json!({ "name": name, "value": random.pick(&["1", "yes", "x", "1,2", "a b", "2"]) })
}

fn backends(random: &mut Random) -> Value {
    let count = 1 + random.below(3);
    let names = random.several(&BACKENDS, count);
    let refs = names.into_iter().map(|name| {
        let mut backend = json!({ "name": name, "port": 80, "weight": random.pick(&[0, 1, 1, 2]) });
        if random.percent(15) {
            backend["filters"] = json!([request_edit(random)]);
        } else if random.percent(10) {
            let hostname = random.pick(&NEW_HOSTS);
            backend["filters"] = json!([{ "type": "URLRewrite", "urlRewrite": { "hostname": hostname } }]);
        }
        backend
    });
    refs.collect()
}

fn edit(random: &mut Random, names: &[&str]) -> Map<String, Value> {
    let mut edit = Map::new();
    for kind in ["set", "add"] {
        let count = random.below(3);
        let fields: Vec<Value> = random
            .several(names, count)
            .into_iter()
            .map(|name| json!({ "name": name, "value": random.pick(&VALUES) }))
            .collect();
        edit.insert(kind.into(), json!(fields));
    }
    let count = random.below(3);
    edit.insert("remove".into(), json!(random.several(names, count)));
    edit
}

fn request_edit(random: &mut Random) -> Value {
    let edit = edit(random, &REQUEST_FIELDS);
    json!({ "type": "RequestHeaderModifier", "requestHeaderModifier": edit })
}

/// With the rule's name, by which its backends are known.
fn response_edit(random: &mut Random, name: &str) -> Value {
    let mut edit = edit(random, &RESPONSE_FIELDS);
    let set = edit.entry("set").or_insert_with(|| json!([])).as_array_mut();
    set.expect("fields to set are a list").push(json!({ "name": RULE, "value": name }));
    json!({ "type": "ResponseHeaderModifier", "responseHeaderModifier": edit })
}

fn path_change(random: &mut Random, prefix: bool) -> Value {
    let path = random.pick(&NEW_PATHS);
    if prefix && random.percent(70) {
        return json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": path });
    }
    json!({ "type": "ReplaceFullPath", "replaceFullPath": path })
}

fn rewrite(random: &mut Random, prefix: bool) -> Value {
    let mut rewrite = json!({});
    let both = random.below(3);
    if both != 0 {
        rewrite["hostname"] = json!(random.pick(&NEW_HOSTS));
    }
    if both != 1 {
        rewrite["path"] = path_change(random, prefix);
    }
    rewrite
}

fn redirect(random: &mut Random, prefix: bool) -> Value {
    let mut redirect = json!({});
    if random.percent(40) {
        redirect["scheme"] = json!(random.pick(&["http", "https"]));
    }
    if random.percent(40) {
        redirect["hostname"] = json!(random.pick(&NEW_HOSTS));
    }
    if random.percent(40) {
        redirect["path"] = path_change(random, prefix);
    }
    if random.percent(40) {
        redirect["port"] = json!(random.pick(&[80, 443, 8080, 8443]));
    }
    if random.percent(70) {
        redirect["statusCode"] = json!(random.pick(&[301, 302, 303, 307, 308]));
    }
    json!({ "type": "RequestRedirect", "requestRedirect": redirect })
}

/// One request, as it is written on the wire.
#[derive(Clone, Debug)]
pub struct Request {
    pub port: u16,
    pub method: &'static str,
    pub target: String,
    pub fields: Vec<(&'static str, String)>,
    pub body: &'static str,
}

pub fn request(random: &mut Random) -> Request {
    let method = if random.percent(60) { "GET" } else { random.pick(&METHODS) };
    let mut fields = vec![("host", random.pick(&REQUEST_HOSTS).to_owned())];
    let sometimes: [(&str, &[&str]); 12] = [
        ("x-tester", &["yes", "no", "1", ""]),
        ("X-V", &["1", "2", "1,2"]),
        ("x-v", &["2", "x"]),
        ("x-a", &["1", "old"]),
        ("x-a", &["again"]),
        ("user-agent", &["differ/1"]),
        ("accept", &["*/*"]),
        ("cookie", &["a=1; b=2"]),
        ("x-forwarded-for", &["192.0.2.7"]),
        ("x-forwarded-proto", &["https"]),
        ("te", &["trailers", "gzip"]),
        ("x-hop", &["1"]),
    ];
    for (name, values) in sometimes {
        if random.percent(20) {
            fields.push((name, random.pick(values).to_owned()));
        }
    }
    let has = |wanted| fields.iter().any(|(name, _)| *name == wanted);
    let connection = match (has("te"), has("x-hop")) {
        (true, true) => "close, te, x-hop",
        (true, false) => "close, te",
        (false, true) => "close, x-hop",
        (false, false) => "close",
    };
    fields.push(("connection", connection.to_owned()));
    let body = if ["POST", "PUT", "PATCH"].contains(&method) { random.pick(&["", "body"]) } else { "" };
    if !body.is_empty() {
        fields.push(("content-length", "4".to_owned()));
    }
    let target = format!("{}{}", random.pick(&PATHS), random.pick(&QUERIES));
    Request { port: random.pick(&PORTS), method, target, fields, body }
}
