//! `ringway describe`: one resource for reading, conditions last.

use std::fmt::Write;

use serde_json::Value;

use crate::columns::{self, text};
use crate::flags::Describe;
use crate::objects;
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

pub async fn run(reach: &Reach, flags: Describe) -> Result<(), Problem> {
    let kind = objects::kind(&flags.kind)?;
    let mut operator = reach.operator().await?;
    let object = objects::find(&mut operator, kind, &flags.namespace, &flags.name).await?;
    let mut out = String::new();
    write_head(&mut out, &object);
    if let Some(spec) = object.get("spec") {
        let spec = print::yaml(spec)?;
        let _ = writeln!(out, "\nSpec:\n{}", indented(&spec));
    }
    write_conditions(&mut out, &object);
    print::out(out.trim_end())
}

fn write_head(out: &mut String, object: &Value) {
    let metadata = &object["metadata"];
    let _ = writeln!(out, "{} {}", text(&object["kind"]), text(&metadata["name"]));
    for (title, field) in [
        ("Namespace", "namespace"),
        ("Generation", "generation"),
        ("Version", "resourceVersion"),
        ("Created", "creationTimestamp"),
    ] {
        if let Some(value) = metadata.get(field) {
            let _ = writeln!(out, "{:<12}{}", format!("{title}:"), text(value));
        }
    }
    if let Some(labels) = metadata.get("labels").and_then(Value::as_object) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
        let _ = writeln!(out, "{:<12}{}", "Labels:", labels.join(", "));
    }
}

fn indented(text: &str) -> String {
    text.trim_end().lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Of the resource, then of each of its listeners, then of each parent.
fn write_conditions(out: &mut String, object: &Value) {
    let status = &object["status"];
    write_table(out, "Conditions", &status["conditions"]);
    for listener in list(&status["listeners"]) {
        let title =
            format!("Listener {} ({} routes)", text(&listener["name"]), text(&listener["attachedRoutes"]));
        write_table(out, &title, &listener["conditions"]);
    }
    for parent in list(&status["parents"]) {
        let reference = &parent["parentRef"];
        let kind = reference.get("kind").map_or("Gateway".to_owned(), text);
        write_table(out, &format!("Parent {kind} {}", text(&reference["name"])), &parent["conditions"]);
    }
}

fn write_table(out: &mut String, title: &str, conditions: &Value) {
    let conditions = list(conditions);
    if conditions.is_empty() {
        return;
    }
    let mut rows = vec![["TYPE", "STATUS", "REASON", "SINCE", "MESSAGE"].map(str::to_owned).to_vec()];
    rows.extend(conditions.iter().map(|condition| {
        ["type", "status", "reason", "lastTransitionTime", "message"].map(|f| text(&condition[f])).to_vec()
    }));
    let _ = writeln!(out, "\n{title}:\n{}", indented(&columns::align(&rows)));
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
