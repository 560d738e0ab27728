//! The data plane's client, for `ringwayd`'s management thread: tables in, reports out, for ever.

use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use model::table::Table;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;
use tracing::{Level, debug, enabled, info, warn};

use crate::ads::AdsClient;
use crate::convert::USER_AGENT;
use crate::envoy::core;
use crate::envoy::discovery::DeltaDiscoveryRequest;
use crate::envoy::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::proto::node::NodeReport;
use crate::proto::node::node_client::NodeClient;
use crate::target::Target;

/// A node's whole table may come in a few large messages.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Requests that wait for the transport; the client makes at most a few for each response it reads.
const REQUEST_QUEUE: usize = 64;
/// First wait after a failure; doubles up to [`LONGEST_BACKOFF`], each time with jitter of half of it.
const SHORTEST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// A stream that lived this long resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A report is due at each change, and at least this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// Changes within this time go out as one report.
const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// Keeps the node's table up to date and its reports flowing, for ever.
///
/// `on_table` gets every complete table, and answers once the workers serve by it; its error goes to the control plane,
/// which shows it in the status of the resources. It is called on the caller's task and may take its time.
/// `reports` holds the node's last state; the sender changes it whenever something is worth telling.
/// While the control plane is away nothing is called: the node goes on with the last table.
pub async fn run(
    control: &Target,
    node: &str,
    mut on_table: impl AsyncFnMut(Table) -> Result<(), String>,
    reports: watch::Receiver<NodeReport>,
) -> Infallible {
    let mut client = AdsClient::new(identity(node));
    let tables = async {
        let mut backoff = Backoff::new();
        loop {
            let opened = Instant::now();
            let Err(status) = follow_tables(control, &mut client, &mut on_table).await;
            backoff.wait(opened, control, "tables", &status).await;
        }
    };
    let reporting = async {
        let mut backoff = Backoff::new();
        loop {
            let opened = Instant::now();
            let Err(status) = send_reports(control, node, reports.clone()).await;
            backoff.wait(opened, control, "reports", &status).await;
        }
    };
    tokio::select! {
        never = tables => never,
        never = reporting => never,
    }
}

/// The `Node` message of our data plane.
pub fn identity(node: &str) -> core::Node {
    core::Node {
        id: node.to_owned(),
        user_agent_name: USER_AGENT.to_owned(),
        user_agent_version_type: Some(core::node::UserAgentVersionType::UserAgentVersion(
            env!("CARGO_PKG_VERSION").to_owned(),
        )),
        ..Default::default()
    }
}

/// One ADS stream, until it ends.
async fn follow_tables(
    control: &Target,
    client: &mut AdsClient,
    on_table: &mut impl AsyncFnMut(Table) -> Result<(), String>,
) -> Result<Infallible, Status> {
    let channel = connect(control).await?;
    let mut service =
        AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let (sender, receiver) = mpsc::channel(REQUEST_QUEUE);
    client.handle_connected();
    send_requests(client, &sender).await?;
    let mut responses = service.delta_aggregated_resources(ReceiverStream::new(receiver)).await?.into_inner();
    info!("xds: stream open");
    while let Some(response) = responses.message().await? {
        client.handle_response(response);
        if let Some(table) = client.poll_table() {
            let version = table.version;
            let outcome = on_table(table).await;
            match &outcome {
                Ok(()) => debug!(version, "xds: table applied"),
                Err(error) => warn!(version, error, "xds: table refused, the last one stays"),
            }
            client.handle_applied(outcome);
        } else if enabled!(Level::DEBUG)
            && let Some(missing) = client.missing()
        {
            debug!(%missing, "xds: table not complete");
        }
        send_requests(client, &sender).await?;
    }
    Err(closed())
}

async fn send_requests(
    client: &mut AdsClient,
    sender: &mpsc::Sender<DeltaDiscoveryRequest>,
) -> Result<(), Status> {
    while let Some(request) = client.poll_request() {
        sender.send(request).await.map_err(|_| closed())?;
    }
    Ok(())
}

/// One stream of reports, until it ends.
async fn send_reports(
    control: &Target,
    node: &str,
    mut reports: watch::Receiver<NodeReport>,
) -> Result<Infallible, Status> {
    let mut service = NodeClient::new(connect(control).await?);
    let (sender, receiver) = mpsc::channel(1);
    let mut sequence = 1;
    // The service answers once it has read a first report.
    send_report(&sender, node, sequence, &mut reports).await?;
    let mut answers = service.report(ReceiverStream::new(receiver)).await?.into_inner();
    loop {
        answers.message().await?.ok_or_else(closed)?;
        sleep(REPORT_PAUSE).await;
        if let Ok(Err(_)) = timeout(REPORT_INTERVAL, reports.changed()).await {
            // Nobody changes the report any more; the last state is still worth repeating.
            sleep(REPORT_INTERVAL).await;
        }
        sequence += 1;
        send_report(&sender, node, sequence, &mut reports).await?;
    }
}

async fn send_report(
    sender: &mpsc::Sender<NodeReport>,
    node: &str,
    sequence: u64,
    reports: &mut watch::Receiver<NodeReport>,
) -> Result<(), Status> {
    let report = NodeReport { node: node.to_owned(), sequence, ..reports.borrow_and_update().clone() };
    sender.send(report).await.map_err(|_| closed())
}

async fn connect(control: &Target) -> Result<Channel, Status> {
    control.connect().await.map_err(Status::unavailable)
}

fn closed() -> Status {
    Status::unavailable("the control plane closed the stream")
}

/// Waits between attempts: longer each time, never in step with other nodes.
#[derive(Debug)]
struct Backoff {
    next: Duration,
}

impl Backoff {
    fn new() -> Backoff {
        Backoff { next: SHORTEST_BACKOFF }
    }

    async fn wait(&mut self, opened: Instant, control: &Target, what: &str, status: &Status) {
        if opened.elapsed() >= STABLE_AFTER {
            self.next = SHORTEST_BACKOFF;
        }
        let pause = self.next.mul_f64(0.5 + 0.5 * random_fraction());
        self.next = (self.next * 2).min(LONGEST_BACKOFF);
        warn!(
            control = control.address(),
            what,
            error = status.message(),
            ?pause,
            "xds: stream ended, trying again"
        );
        sleep(pause).await;
    }
}

/// In `0.0..1.0`; each `RandomState` is keyed anew, which is random enough to spread nodes.
fn random_fraction() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    bits as f64 / (1_u64 << 53) as f64
}
