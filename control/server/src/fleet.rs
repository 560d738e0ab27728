//! What is known of the nodes: who is connected, what they were sent, what they said to it, what they report.
//!
//! All of it is in memory: after a restart the nodes connect and say it again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use model::{HealthView, NodeAnswer, Refused};
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
    acknowledged_tables: u64,
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

    /// Our data plane acknowledges the closing resource once it serves by the table; Envoy acknowledges types. Returns
    /// whether the node stands otherwise to its table now.
    pub fn on_answer(&self, name: &str, audience: Audience, answer: &Acknowledgement) -> bool {
        let mut nodes = self.nodes();
        let Some(node) = nodes.get_mut(name) else { return false };
        let before = node.answer();
        match &answer.outcome {
            Err(detail) => drop(node.rejections.insert(answer.kind, (answer.version, detail.clone()))),
            Ok(()) => {
                node.rejections.remove(&answer.kind);
                let closes = audience != Audience::Ringway || answer.kind == ResourceType::SourceClasses;
                if closes && answer.version > node.acknowledged {
                    node.acknowledged = answer.version;
                    node.acknowledged_tables += 1;
                }
            }
        }
        node.answer() != before
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
        let current = self.published > 0 && self.acknowledged >= self.published;
        if !self.rejections.is_empty() {
            let words = self.rejections.values().map(|(_, detail)| detail.clone()).collect();
            return NodeAnswer::Refused(Refused { words, rest_acknowledged: current });
        }
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
            acknowledged_tables: self.acknowledged_tables,
            rejections: rejections.collect(),
            report_json: report
                .and_then(|(_, report)| serde_json::to_string(report).ok())
                .unwrap_or_default(),
            report_age_ms: report
                .map_or(0, |(at, _)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use xds::proto::node::HealthResult;

    use super::*;

    fn report(node: &str, healthy: bool) -> NodeReport {
        let result = HealthResult {
            cluster: "web".to_owned(),
            endpoint: "10.0.0.1:80".to_owned(),
            healthy,
            reason: String::new(),
        };
        NodeReport { node: node.to_owned(), health: vec![result], ..NodeReport::default() }
    }

    fn answer(kind: ResourceType, version: u64, outcome: Result<(), &str>) -> Acknowledgement {
        Acknowledgement { kind, version, outcome: outcome.map_err(str::to_owned) }
    }

    #[test]
    fn an_endpoint_is_unhealthy_when_all_who_check_it_say_so() {
        let fleet = Fleet::default();
        let endpoint = ("web".to_owned(), "10.0.0.1:80".parse().unwrap());
        assert!(fleet.on_report(report("a", false)).unwrap());
        assert_eq!(fleet.health().endpoints.get(&endpoint), Some(&false));
        fleet.on_report(report("b", true)).unwrap();
        assert_eq!(fleet.health().endpoints.get(&endpoint), Some(&true));
        assert!(!fleet.on_report(report("b", true)).unwrap(), "the same again is no news");
        fleet.on_report(report("b", false)).unwrap();
        assert_eq!(fleet.health().endpoints.get(&endpoint), Some(&false));
    }

    #[test]
    fn a_data_plane_has_acknowledged_when_it_serves_by_the_table() {
        let fleet = Fleet::default();
        fleet.on_connected("a", "ringwayd").unwrap();
        fleet.on_published("a", 5);
        fleet.on_answer("a", Audience::Ringway, &answer(ResourceType::Routes, 5, Ok(())));
        assert_eq!(fleet.answers()["a"], NodeAnswer::Pending);
        fleet.on_answer("a", Audience::Ringway, &answer(ResourceType::SourceClasses, 5, Ok(())));
        assert_eq!(fleet.answers()["a"], NodeAnswer::Acknowledged);
        fleet.on_published("a", 6);
        assert_eq!(fleet.answers()["a"], NodeAnswer::Pending);
    }

    #[test]
    fn an_answer_is_news_only_if_the_node_stands_otherwise_to_its_table() {
        let fleet = Fleet::default();
        fleet.on_connected("a", "ringwayd").unwrap();
        fleet.on_published("a", 5);
        let of = |kind, version| fleet.on_answer("a", Audience::Ringway, &answer(kind, version, Ok(())));
        assert!(!of(ResourceType::Routes, 5), "the table is not in force yet");
        assert!(of(ResourceType::SourceClasses, 5));
        assert!(!of(ResourceType::SourceClasses, 5), "the same again");
        assert_eq!(fleet.status()[0].acknowledged_tables, 1);
    }

    #[test]
    fn a_refusal_stands_until_its_type_is_acknowledged() {
        let fleet = Fleet::default();
        fleet.on_connected("a", "ringwayd").unwrap();
        fleet.on_published("a", 5);
        fleet.on_answer("a", Audience::Ringway, &answer(ResourceType::Routes, 5, Err("bad regex")));
        fleet.on_answer("a", Audience::Ringway, &answer(ResourceType::SourceClasses, 5, Ok(())));
        assert_eq!(
            fleet.answers()["a"],
            NodeAnswer::Refused(Refused { words: vec!["bad regex".to_owned()], rest_acknowledged: true })
        );
        fleet.on_answer("a", Audience::Ringway, &answer(ResourceType::Routes, 6, Ok(())));
        assert_eq!(fleet.answers()["a"], NodeAnswer::Acknowledged);
    }

    #[test]
    fn nodes_beyond_the_bound_are_refused_and_forgotten_ones_make_room() {
        let fleet = Fleet::default();
        for index in 0..MAX_NODES {
            fleet.on_connected(&index.to_string(), "ringwayd").unwrap();
        }
        assert!(fleet.on_connected("one more", "ringwayd").is_err());
        assert!(fleet.on_connected("0", "ringwayd").is_ok(), "a known one may connect again");
        fleet.on_disconnected("7");
        fleet.retain(&BTreeSet::new());
        assert!(fleet.on_connected("one more", "ringwayd").is_ok());
    }
}
