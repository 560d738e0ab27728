//! What is known of the nodes: who is connected, what they were sent, what they said to it, what they report.
//!
//! All of it is in memory: after a restart the nodes connect and say it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use model::{HealthView, NodeAnswer};
use xds::ads::Acknowledgement;
use xds::convert::Audience;
use xds::proto::control::{NodeStatus, Rejection};
use xds::proto::node::NodeReport;
use xds::snapshot::ResourceType;

/// Nodes that are kept in mind, connected or not.
pub const MAX_NODES: usize = 4_096;
/// Results of a node's health checks count this long after its last report: three missed reports.
const HEALTH_LASTS: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Fleet {
    nodes: Mutex<BTreeMap<String, Node>>,
}

#[derive(Debug, Default)]
struct Node {
    client: String,
    streams: usize,
    published: u64,
    acknowledged: u64,
    rejections: BTreeMap<ResourceType, (u64, String)>,
    report: Option<(Instant, NodeReport)>,
}

#[derive(Debug, thiserror::Error)]
#[error("{MAX_NODES} nodes are known already")]
pub struct FleetFull;

impl Fleet {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().expect("no holder of this lock panics")
    }

    pub fn on_connected(&self, name: &str, client: &str) -> Result<(), FleetFull> {
        let mut nodes = self.nodes();
        if !nodes.contains_key(name) && nodes.len() >= MAX_NODES {
            return Err(FleetFull);
        }
        let node = nodes.entry(name.to_owned()).or_default();
        node.streams += 1;
        client.clone_into(&mut node.client);
        Ok(())
    }

    pub fn on_disconnected(&self, name: &str) {
        if let Some(node) = self.nodes().get_mut(name) {
            node.streams = node.streams.saturating_sub(1);
        }
    }

    pub fn on_published(&self, name: &str, version: u64) {
        self.nodes().entry(name.to_owned()).or_default().published = version;
    }

    /// Our data plane acknowledges the closing resource once it serves by the table; Envoy acknowledges types.
    pub fn on_answer(&self, name: &str, audience: Audience, answer: &Acknowledgement) {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(name) else { return };
        match &answer.outcome {
            Err(detail) => drop(node.rejections.insert(answer.kind, (answer.version, detail.clone()))),
            Ok(()) => {
                node.rejections.remove(&answer.kind);
                if audience != Audience::Ringway || answer.kind == ResourceType::SourceClasses {
                    node.acknowledged = node.acknowledged.max(answer.version);
                }
            }
        }
    }

    /// Whether the report says something new of anybody's health.
    pub fn on_report(&self, report: NodeReport) -> Result<bool, FleetFull> {
        let mut nodes = self.nodes();
        if !nodes.contains_key(&report.node) && nodes.len() >= MAX_NODES {
            return Err(FleetFull);
        }
        let node = nodes.entry(report.node.clone()).or_default();
        let changed = node.report.as_ref().is_none_or(|(_, last)| last.health != report.health);
        node.report = Some((Instant::now(), report));
        Ok(changed)
    }

    /// Forgets nodes that are gone and of which no resource speaks.
    pub fn retain(&self, configured: &BTreeSet<String>) {
        self.nodes().retain(|name, node| {
            let reported = node.report.as_ref().is_some_and(|(at, _)| at.elapsed() < HEALTH_LASTS);
            node.streams > 0 || reported || configured.contains(name)
        });
    }

    pub fn answers(&self) -> BTreeMap<String, NodeAnswer> {
        self.nodes().iter().map(|(name, node)| (name.clone(), node.answer())).collect()
    }

    /// An endpoint is unhealthy when every node that checks it says so.
    pub fn health(&self) -> HealthView {
        let mut view = HealthView::default();
        for node in self.nodes().values() {
            let Some((at, report)) = &node.report else { continue };
            if at.elapsed() >= HEALTH_LASTS {
                continue;
            }
            for result in &report.health {
                let Ok(address) = result.endpoint.parse::<SocketAddr>() else { continue };
                let healthy = view.endpoints.entry((result.cluster.clone(), address)).or_insert(false);
                *healthy |= result.healthy;
            }
        }
        view
    }

    pub fn status(&self) -> Vec<NodeStatus> {
        self.nodes().iter().map(|(name, node)| node.status(name)).collect()
    }
}

impl Node {
    fn answer(&self) -> NodeAnswer {
        if !self.rejections.is_empty() {
            let words = self.rejections.values().map(|(_, detail)| detail.as_str());
            return NodeAnswer::Refused(words.collect::<Vec<_>>().join("; "));
        }
        let current = self.published > 0 && self.acknowledged >= self.published;
        if current { NodeAnswer::Acknowledged } else { NodeAnswer::Pending }
    }

    fn status(&self, name: &str) -> NodeStatus {
        let rejections = self.rejections.iter().map(|(kind, (version, detail))| Rejection {
            type_url: kind.type_url(),
            version: *version,
            detail: detail.clone(),
        });
        let report = self.report.as_ref();
        NodeStatus {
            name: name.to_owned(),
            connected: self.streams > 0,
            client: self.client.clone(),
            published_version: self.published,
            acknowledged_version: self.acknowledged,
            rejections: rejections.collect(),
            report_json: report
                .and_then(|(_, report)| serde_json::to_string(report).ok())
                .unwrap_or_default(),
            report_age_ms: report
                .map_or(0, |(at, _)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
