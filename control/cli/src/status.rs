//! `ringway status`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xds::proto::control::{NodeStatus, StatusRequest, StatusResponse};

use crate::columns::{align, print_age, text};
use crate::flags::{Output, Status};
use crate::objects::pretty_json;
use crate::print;
use crate::problem::Problem;
use crate::reach::Reach;

pub async fn run(reach: &Reach, flags: Status) -> Result<(), Problem> {
    let mut operator = reach.operator().await?;
    let status = operator.status(StatusRequest {}).await?.into_inner();
    print::out(&match flags.output {
        Output::Table => for_people(&status),
        Output::Yaml => print::yaml(&for_programs(&status))?,
        Output::Json => pretty_json(for_programs(&status)),
    })
}

fn for_people(status: &StatusResponse) -> String {
    let mut parts = vec![format!(
        "control plane {}: {} objects, revision {}, listening on {}",
        status.build,
        status.objects,
        status.revision,
        status.listening.join(", ")
    )];
    if status.insecure {
        parts
            .push("INSECURE: listens beyond loopback, and whoever reaches it may change the mesh".to_owned());
    }
    if !status.refusals.is_empty() {
        let refusals: BTreeMap<_, _> = status.refusals.iter().collect();
        let named = refusals.iter().map(|(reason, count)| format!("{reason} {count}"));
        parts.push(format!("refused: {}", named.collect::<Vec<_>>().join(", ")));
    }
    if !status.publish_error.is_empty() {
        parts.push(format!("NOT PUBLISHED: {}", status.publish_error));
    }
    if status.nodes.is_empty() {
        parts.push("no node has connected".to_owned());
        return parts.join("\n");
    }
    parts.push(format!("\n{}", nodes(&status.nodes)));
    let queues = queues(&status.nodes);
    if queues.len() > 1 {
        parts.push(format!("\n{}", align(&queues)));
    }
    for node in &status.nodes {
        for rejection in &node.rejections {
            let kind = rejection.type_url.rsplit('.').next().unwrap_or_default();
            parts.push(format!(
                "\n{} refused {kind} of table {}: {}",
                node.name, rejection.version, rejection.detail
            ));
        }
    }
    parts.join("\n")
}

fn nodes(nodes: &[NodeStatus]) -> String {
    let head = ["NODE", "CLIENT", "CONNECTED", "TABLE", "SERVES", "REPORTED", "BUILD"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in nodes {
        let report = report(node);
        let reported = match &report {
            Value::Null => "-".to_owned(),
            _ => format!("{} ago", print_age(node.report_age_ms / 1_000)),
        };
        let serves = if report.is_null() {
            node.acknowledged_version.to_string()
        } else {
            text(&report["table_version"])
        };
        rows.push(vec![
            node.name.clone(),
            node.client.clone(),
            if node.connected { "yes" } else { "no" }.to_owned(),
            table(node),
            serves,
            reported,
            text(&report["build"]["version"]),
        ]);
    }
    align(&rows)
}

/// The published version, and how the node stands to it.
fn table(node: &NodeStatus) -> String {
    let published = node.published_version;
    match node.acknowledged_version {
        _ if !node.rejections.is_empty() => format!("{published} (refused)"),
        acknowledged if acknowledged >= published => format!("{published} (acknowledged)"),
        acknowledged => format!("{published} (acknowledged: {acknowledged})"),
    }
}

fn queues(nodes: &[NodeStatus]) -> Vec<Vec<String>> {
    let head = [
        "NODE",
        "INTERFACE",
        "QUEUE",
        "WORKER",
        "MODE",
        "RECEIVED",
        "TRANSMITTED",
        "DISCARDED",
        "WHY NOT BETTER",
    ];
    let fields = ["interface", "queue", "worker", "mode", "received", "transmitted", "discarded", "reason"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for node in nodes {
        let report = report(node);
        for queue in report["queues"].as_array().into_iter().flatten() {
            let cells = fields.iter().map(|field| text(&queue[*field]));
            rows.push(std::iter::once(node.name.clone()).chain(cells).collect());
        }
    }
    rows
}

fn report(node: &NodeStatus) -> Value {
    serde_json::from_str(&node.report_json).unwrap_or_default()
}

fn for_programs(status: &StatusResponse) -> Value {
    let nodes = status.nodes.iter().map(|node| {
        let rejections = node.rejections.iter().map(|rejection| {
            json!({ "type": rejection.type_url, "version": rejection.version, "detail": rejection.detail })
        });
        json!({
            "name": node.name,
            "client": node.client,
            "connected": node.connected,
            "publishedVersion": node.published_version,
            "acknowledgedVersion": node.acknowledged_version,
            "acknowledgedTables": node.acknowledged_tables,
            "rejections": rejections.collect::<Vec<_>>(),
            "report": report(node),
            "reportAgeMs": node.report_age_ms,
        })
    });
    json!({
        "build": status.build,
        "revision": status.revision,
        "objects": status.objects,
        "insecure": status.insecure,
        "listening": status.listening,
        "publishError": status.publish_error,
        "refusals": status.refusals,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}
