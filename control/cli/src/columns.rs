//! Resources as rows of a table: what an operator looks for first, by kind.

use std::time::SystemTime;

use serde_json::Value;

/// Rows in aligned columns; the first row is the head.
pub fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One table for each run of objects of one kind.
pub fn of_objects(objects: &[Value], with_namespace: bool) -> String {
    let tables = objects.chunk_by(|one, next| one["kind"] == next["kind"]);
    tables.map(|objects| of_kind(objects, with_namespace)).collect::<Vec<_>>().join("\n\n")
}

fn of_kind(objects: &[Value], with_namespace: bool) -> String {
    let kind = objects.first().map(|object| text(&object["kind"])).unwrap_or_default();
    let columns = columns(&kind);
    let namespaced =
        with_namespace && objects.iter().any(|object| object["metadata"].get("namespace").is_some());
    let mut head = vec![kind.to_ascii_uppercase()];
    head.extend(columns.iter().map(|(title, _)| (*title).to_owned()));
    head.push("AGE".to_owned());
    if namespaced {
        head.insert(0, "NAMESPACE".to_owned());
    }
    let mut rows = vec![head];
    for object in objects {
        let mut row = vec![text(&object["metadata"]["name"])];
        row.extend(columns.iter().map(|(_, show)| or_none(show(object))));
        row.push(age(&object["metadata"]["creationTimestamp"]));
        if namespaced {
            row.insert(0, text(&object["metadata"]["namespace"]));
        }
        rows.push(row);
    }
    align(&rows)
}

type Column = (&'static str, fn(&Value) -> String);

fn columns(kind: &str) -> Vec<Column> {
    match kind {
        "Service" => vec![
            ("ADDRESSES", |object| join(&object["spec"]["clusterIPs"])),
            ("PORTS", ports),
            ("SELECTOR", |object| pairs(&object["spec"]["selector"])),
        ],
        "Workload" => vec![
            ("NODE", |object| text(&object["spec"]["node"])),
            ("INTERFACE", |object| text(&object["spec"]["interface"])),
            ("ADDRESSES", |object| join(&object["spec"]["addresses"])),
            ("LABELS", |object| pairs(&object["metadata"]["labels"])),
        ],
        "Node" => vec![
            ("ADDRESSES", |object| join(&object["spec"]["addresses"])),
            ("PROGRAMMED", |object| condition(&object["status"]["conditions"], "Programmed")),
        ],
        "GatewayClass" => vec![
            ("CONTROLLER", |object| text(&object["spec"]["controllerName"])),
            ("ACCEPTED", |object| condition(&object["status"]["conditions"], "Accepted")),
        ],
        "Gateway" => vec![
            ("CLASS", |object| text(&object["spec"]["gatewayClassName"])),
            ("ADDRESSES", |object| each(&object["spec"]["addresses"], |address| text(&address["value"]))),
            ("PROGRAMMED", |object| condition(&object["status"]["conditions"], "Programmed")),
        ],
        "HTTPRoute" | "GRPCRoute" | "TCPRoute" | "UDPRoute" => vec![
            ("HOSTNAMES", |object| join(&object["spec"]["hostnames"])),
            ("PARENTS", |object| each(&object["spec"]["parentRefs"], parent)),
            ("ACCEPTED", |object| every_parent(object, "Accepted")),
            ("RESOLVED", |object| every_parent(object, "ResolvedRefs")),
        ],
        _ => Vec::new(),
    }
}

fn ports(object: &Value) -> String {
    each(&object["spec"]["ports"], |port| {
        format!("{}/{}", text(&port["port"]), text(port.get("protocol").unwrap_or(&Value::from("TCP"))))
    })
}

fn parent(reference: &Value) -> String {
    let kind = reference.get("kind").map_or("Gateway".to_owned(), text);
    format!("{kind}/{}", text(&reference["name"]))
}

/// `True`, or the reason why not.
fn condition(conditions: &Value, kind: &str) -> String {
    let conditions = conditions.as_array().map(Vec::as_slice).unwrap_or_default();
    match conditions.iter().find(|condition| condition["type"] == kind) {
        None => "Unknown".to_owned(),
        Some(condition) if condition["status"] == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", text(&condition["status"]), text(&condition["reason"])),
    }
}

/// Of a route: the first parent's that is not true, if there is one.
fn every_parent(object: &Value, kind: &str) -> String {
    let parents = object["status"]["parents"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = parents.iter().map(|parent| condition(&parent["conditions"], kind));
    all.reduce(|worst, next| if worst == "True" { next } else { worst }).unwrap_or("Unknown".to_owned())
}

fn join(list: &Value) -> String {
    each(list, text)
}

fn each(list: &Value, show: impl Fn(&Value) -> String) -> String {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(show).collect::<Vec<_>>().join(",")
}

fn pairs(object: &Value) -> String {
    let pairs = object.as_object().into_iter().flatten();
    pairs.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(",")
}

/// A value without JSON's quotes; nothing for null.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn or_none(cell: String) -> String {
    if cell.is_empty() { "-".to_owned() } else { cell }
}

fn age(created: &Value) -> String {
    let created = created.as_str().and_then(|text| humantime::parse_rfc3339(text).ok());
    let elapsed = created.and_then(|created| SystemTime::now().duration_since(created).ok());
    elapsed.map_or("-".to_owned(), |elapsed| print_age(elapsed.as_secs()))
}

/// In the largest unit that makes at least two of it, as kubectl does.
pub fn print_age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["A".to_owned(), "B".to_owned()], vec!["long".to_owned(), "x".to_owned()]];
        assert_eq!(align(&rows), "A      B\nlong   x");
    }

    #[test]
    fn a_route_is_accepted_when_every_parent_accepts_it() {
        let parent = |status: &str| {
            let condition =
                serde_json::json!({"type": "Accepted", "status": status, "reason": "NoMatchingParent"});
            serde_json::json!({ "conditions": [condition] })
        };
        let route = |parents: Vec<Value>| serde_json::json!({"status": {"parents": parents}});
        assert_eq!(every_parent(&route(vec![parent("True"), parent("True")]), "Accepted"), "True");
        let one_refuses = route(vec![parent("True"), parent("False")]);
        assert_eq!(every_parent(&one_refuses, "Accepted"), "False (NoMatchingParent)");
    }

    #[test]
    fn ages_are_told_in_the_unit_that_fits() {
        assert_eq!([5, 119, 120, 7_200, 172_800].map(print_age), ["5s", "119s", "2m", "2h", "2d"]);
    }
}
