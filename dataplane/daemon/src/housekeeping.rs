//! What the management thread does on its own every second: health results from the worker that checks to the others
//! and to the control plane, and the counters of sessions that ended, before the stack forgets them.

use std::rc::Rc;
use std::time::Duration;

use proxy::HealthReport;

use crate::node::Node;

const INTERVAL: Duration = Duration::from_millis(500);

/// Runs until the runtime ends.
pub async fn run(node: Rc<Node>) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        node.settle_sessions().await;
        let found =
            node.ask_all(|worker, _now| worker.application.take_health_reports()).await.unwrap_or_default();
        let found: Vec<HealthReport> = found.into_iter().flatten().collect();
        if found.is_empty() {
            continue;
        }
        for report in &found {
            tracing::info!(cluster = report.cluster, endpoint = %report.endpoint, healthy = report.healthy, reason = report.reason, "health");
        }
        let shared = found.clone();
        node.tell_all(move |worker, _now| {
            // Whoever checks knows already.
            if worker.number() != 0 {
                worker.application.apply_health(&shared);
            }
        });
        node.remember_health(found);
    }
}
