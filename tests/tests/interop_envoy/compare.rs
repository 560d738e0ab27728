//! What must be equal in two proxies' answers, and which differences are known.

use std::collections::BTreeMap;
use std::fmt;

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

/// A difference that stays, by the name of its section in `docs/envoy-differences.md`.
#[derive(Debug)]
pub struct Known {
    pub name: &'static str,
    pub explains: fn(&Request, &Difference) -> bool,
}

pub const KNOWN: [Known; 5] = [
    Known { name: "lists-of-values", explains: |_, found| lists_alone_differ(found) },
    Known { name: "host-of-redirects", explains: hosts_alone_differ },
    Known { name: "escapes-in-queries", explains: |request, _| has_escape_in_query(request) },
    Known { name: "repeated-fields", explains: |request, _| repeats_a_matched_field(request) },
    Known { name: "answers-to-faults", explains: |_, found| found.about == FIELDS_OF_A_FAULT },
];

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

/// Envoy redirects to the host as the client wrote it, with its port.
fn hosts_alone_differ(request: &Request, found: &Difference) -> bool {
    let parts = |location: &str| {
        let (scheme, rest) = location.split_once("://")?;
        let (authority, path) = rest.split_once('/')?;
        let authority = authority.to_ascii_lowercase();
        let (host, port) = authority.split_once(':').unwrap_or((&authority, ""));
        Some([scheme, host, path, port].map(str::to_owned))
    };
    let (Some(ringway), Some(envoy)) = (parts(&found.ringway), parts(&found.envoy)) else { return false };
    let asked = request.fields.iter().find(|(name, _)| *name == "host").map_or("", |(_, value)| value);
    let asked_port = asked.split_once(':').map_or("", |(_, port)| port);
    found.about == "location"
        && ringway[..3] == envoy[..3]
        && (ringway[3] == envoy[3] || envoy[3] == asked_port)
}

fn has_escape_in_query(request: &Request) -> bool {
    request.target.split_once('?').is_some_and(|(_, query)| query.contains('%'))
}

/// The one field by which rules match and which a request may have twice.
fn repeats_a_matched_field(request: &Request) -> bool {
    request.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("x-v")).count() > 1
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
