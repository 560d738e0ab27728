//! What must be equal in two proxies' answers, and which differences are known.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::generate::Request;
use crate::wire::{Answer, Fields};

/// Where two answers differ: what it is about, then Ringway's and Envoy's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub about: &'static str,
    pub ringway: String,
    pub envoy: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n    ringway {}\n    envoy   {}", self.about, self.ringway, self.envoy)
    }
}

/// What a difference is judged by.
#[derive(Copy, Clone, Debug)]
pub struct Case<'a> {
    pub request: &'a Request,
    /// The rule that answered; null where none did.
    pub rule: &'a Value,
}

/// A difference that stays, by the name of its section in `docs/envoy-differences.md`. Those of requests that are read
/// in two ways are in `readings`.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    explains: fn(Case<'_>, &Difference) -> bool,
}

const KNOWN: [Known; 3] = [
    Known { name: "lists-of-values", explains: |_, found| lists_alone_differ(found) },
    Known { name: "host-of-redirects", explains: hosts_alone_differ },
    Known { name: "answers-to-faults", explains: edits_of_a_fault_alone_differ },
];

/// Which known difference this is.
pub fn name_of(case: Case<'_>, difference: &Difference) -> Option<&'static str> {
    KNOWN.iter().find(|known| (known.explains)(case, difference)).map(|known| known.name)
}

const FIELDS_OF_A_FAULT: &str = "response fields of a fault";

/// Several fields of one name, or one field with a list: the same (RFC 9110, section 5.3), also with spaces in it.
fn lists_alone_differ(found: &Difference) -> bool {
    let joined = |text: &str| {
        let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for field in text.split(" | ") {
            let (name, value) = field.split_once(": ").unwrap_or((field, ""));
            lists.entry(name.to_owned()).or_default().push(value.replace(", ", ","));
        }
        lists.into_iter().map(|(name, values)| (name, values.join(","))).collect::<Vec<_>>()
    };
    found.about == "request fields" && joined(&found.ringway) == joined(&found.envoy)
}

/// Envoy redirects to the host as the client wrote it, with its port; Ringway to the port that the Gateway API says.
fn hosts_alone_differ(case: Case<'_>, found: &Difference) -> bool {
    let parts = |location: &str| {
        let (scheme, rest) = location.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let authority = authority.to_ascii_lowercase();
        let (host, port) = authority.split_once(':').unwrap_or((&authority, ""));
        Some([scheme, host, path, port].map(str::to_owned))
    };
    let (Some(ringway), Some(envoy)) = (parts(&found.ringway), parts(&found.envoy)) else { return false };
    let asked = case.request.fields.iter().find(|(name, _)| *name == "host").map_or("", |(_, value)| value);
    let asked_port = asked.split_once(':').map_or("", |(_, port)| port);
    found.about == "location"
        && ringway[..3] == envoy[..3]
        && ringway[3] == right_port(case)
        && (envoy[3] == ringway[3] || envoy[3] == asked_port)
}

/// Gateway API, `HTTPRequestRedirectFilter.port`: as it is written, empty where the scheme says it.
fn right_port(case: Case<'_>) -> String {
    let redirect = &filter(case.rule, "RequestRedirect")["requestRedirect"];
    let scheme = redirect["scheme"].as_str();
    let own = if scheme == Some("https") { 443 } else { 80 };
    let default = if scheme.is_some() { own } else { u64::from(case.request.port) };
    let port = redirect["port"].as_u64().unwrap_or(default);
    if port == own { String::new() } else { port.to_string() }
}

/// Where no backend has a weight, Envoy's answer has what the rule's edit adds to nothing, and Ringway's nothing.
fn edits_of_a_fault_alone_differ(case: Case<'_>, found: &Difference) -> bool {
    let backends = case.rule["backendRefs"].as_array().map_or(&[][..], Vec::as_slice);
    let edit = &filter(case.rule, "ResponseHeaderModifier")["responseHeaderModifier"];
    let lists = ["set", "add"].iter().filter_map(|kind| edit[kind].as_array()).flatten();
    let added: Fields = lists
        .filter_map(|field| Some((field["name"].as_str()?.to_lowercase(), field["value"].as_str()?.into())))
        .collect();
    found.about == FIELDS_OF_A_FAULT
        && !backends.is_empty()
        && backends.iter().all(|backend| backend["weight"] == 0)
        && found.ringway.is_empty()
        && found.envoy == text(&added)
}

fn filter<'a>(rule: &'a Value, kind: &str) -> &'a Value {
    let filters = rule["filters"].as_array().map_or(&[][..], Vec::as_slice);
    filters.iter().find(|filter| filter["type"] == kind).unwrap_or(&Value::Null)
}

/// What Ringway says of its own faults.
const REASON: &str = "x-ringway-reason";

/// Fields that each proxy gives a request or response of its own accord.
const NOISE: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "date",
    "server",
    "transfer-encoding",
    "via",
    "x-request-id",
    REASON,
];

/// Every difference of two answers to the same request that reached the same backend, if any.
pub fn differences(ringway: &Answer, envoy: &Answer) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut check = |about, ringway: String, envoy: String| {
        if ringway != envoy {
            found.push(Difference { about, ringway, envoy });
        }
    };
    check("status", ringway.status.to_string(), envoy.status.to_string());
    let location = |answer: &Answer| answer.field("location").unwrap_or("none").to_owned();
    check("location", location(ringway), location(envoy));
    let fault = ringway.status == envoy.status && ringway.field(REASON).is_some() && envoy.seen.is_none();
    let about = if fault { FIELDS_OF_A_FAULT } else { "response fields" };
    check(about, text(&ringway.fields), text(&envoy.fields));
    let backend = |answer: &Answer| answer.seen.as_ref().map_or("none", |seen| &seen.backend).to_owned();
    check("backend", backend(ringway), backend(envoy));
    if let (Some(ringway), Some(envoy)) = (&ringway.seen, &envoy.seen) {
        check("method", ringway.method.clone(), envoy.method.clone());
        check("target", ringway.target.clone(), envoy.target.clone());
        check("request fields", text(&ringway.fields), text(&envoy.fields));
        check("body", ringway.body.clone(), envoy.body.clone());
    }
    found
}

/// The fields that count, by name. Those of one name keep their order; the order of names means nothing
/// (RFC 9110, section 5.3).
fn text(fields: &Fields) -> String {
    let mut kept: Vec<&(String, String)> = fields
        .iter()
        .filter(|(name, _)| !NOISE.contains(&name.as_str()) && !name.starts_with("x-envoy-"))
        .filter(|(name, _)| name != "location")
        .collect();
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    kept.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join(" | ")
}
