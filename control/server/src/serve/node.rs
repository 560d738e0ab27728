//! Nodes' reports.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use xds::proto::node::{NodeReport, ReportTaken, node_server};

use super::Shared;
use crate::access::Caller;

/// Queues, interfaces, health results of one node: above what a host has, and small in memory for every node there is.
const MAX_PARTS: usize = 8_192;

#[derive(Clone, Debug)]
pub struct Node(pub Shared);

#[tonic::async_trait]
impl node_server::Node for Node {
    type ReportStream = ReceiverStream<Result<ReportTaken, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<NodeReport>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let (sender, receiver) = mpsc::channel(1);
        let shared = self.0.clone();
        let caller = shared.access.caller(&request)?;
        let mut reports = request.into_inner();
        tokio::spawn(async move {
            let taken = tokio::select! {
                taken = take_all(&shared, &caller, &mut reports, &sender) => taken,
                status = shared.until_end(&caller) => Err(status),
            };
            if let Err(status) = taken {
                // The node may be gone already.
                drop(sender.send(Err(status)).await);
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

async fn take_all(
    shared: &Shared,
    caller: &Caller,
    reports: &mut Streaming<NodeReport>,
    sender: &mpsc::Sender<Result<ReportTaken, Status>>,
) -> Result<(), Status> {
    while let Some(report) = reports.message().await? {
        let parts = report.queues.len() + report.interfaces.len() + report.health.len();
        if report.node.is_empty() || parts > MAX_PARTS {
            return Err(Status::invalid_argument(format!(
                "a report names its node and has at most {MAX_PARTS} parts"
            )));
        }
        shared.access.reports(caller, &report.node)?;
        let sequence = report.sequence;
        let changed =
            shared.fleet.on_report(report).map_err(|error| Status::resource_exhausted(error.to_string()))?;
        if changed {
            shared.publisher.on_fleet_change();
        }
        if sender.send(Ok(ReportTaken { sequence })).await.is_err() {
            break;
        }
    }
    Ok(())
}
