//! ADS streams: tonic around the state machines of `xds::ads`.

use std::time::Duration;

use model::metadata::DEFAULT_NAMESPACE;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use xds::ads::{DeltaStream, ServerStream, StateOfTheWorldStream};
use xds::convert::Audience;
use xds::envoy::discovery::aggregated_discovery_service_server::AggregatedDiscoveryService;
use xds::envoy::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use xds::envoy::{core, protobuf};

use super::Shared;
use crate::access::Caller;
use crate::publish::{View, ViewKey};

/// Responses that wait for the transport; the machines keep one of each type in flight.
const RESPONSE_QUEUE: usize = 8;
/// A client that takes nothing for so long is gone.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// What a stream is answered.
type Answers<S> = ReceiverStream<Result<<S as ServerStream>::Response, Status>>;

#[derive(Clone, Debug)]
pub struct Ads(pub Shared);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        start::<StateOfTheWorldStream>(self.0.clone(), request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        start::<DeltaStream>(self.0.clone(), request)
    }
}

fn start<S: ServerStream<Request: Send, Response: Send> + Send + 'static>(
    shared: Shared,
    request: Request<Streaming<S::Request>>,
) -> Result<Response<Answers<S>>, Status> {
    let caller = shared.access.caller(&request)?;
    let requests = request.into_inner();
    let (sender, receiver) = mpsc::channel(RESPONSE_QUEUE);
    tokio::spawn(async move {
        let served = tokio::select! {
            served = serve::<S>(&shared, &caller, requests, &sender) => served,
            status = shared.until_end(&caller) => Err(status),
        };
        if let Err(status) = served {
            // The client may be gone already.
            drop(timeout(SEND_TIMEOUT, sender.send(Err(status))).await);
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// One stream: its first request says who it is.
async fn serve<S: ServerStream>(
    shared: &Shared,
    caller: &Caller,
    mut requests: Streaming<S::Request>,
    sender: &mpsc::Sender<Result<S::Response, Status>>,
) -> Result<(), Status> {
    let Some(first) = requests.message().await? else { return Ok(()) };
    let node = S::node(&first).ok_or_else(|| Status::invalid_argument("the first request names no node"))?;
    let client = Client::new(shared, caller, node)?;
    let view = shared
        .publisher
        .view(client.view_key())
        .map_err(|error| Status::resource_exhausted(error.to_string()))?;
    let mut machine = S::default();
    client.handle(&mut machine, first)?;
    client.converse(machine, view, requests, sender).await
}

/// The client at the other end; counted as connected while this lives.
struct Client<'a> {
    shared: &'a Shared,
    name: String,
    audience: Audience,
    namespace: String,
}

impl<'a> Client<'a> {
    fn new(shared: &'a Shared, caller: &Caller, node: &core::Node) -> Result<Client<'a>, Status> {
        let audience = Audience::of(&node.user_agent_name);
        if node.id.is_empty() {
            return Err(Status::invalid_argument("the node has no id"));
        }
        shared.access.tables(caller, audience, &node.id, &namespace_of(node))?;
        if audience != Audience::Grpc {
            shared
                .fleet
                .on_connected(&node.id, &node.user_agent_name)
                .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        }
        info!(node = node.id, client = node.user_agent_name, "stream open");
        Ok(Client { shared, name: node.id.clone(), audience, namespace: namespace_of(node) })
    }

    fn view_key(&self) -> ViewKey {
        let client = if self.audience == Audience::Grpc { &self.namespace } else { &self.name };
        ViewKey { client: client.clone(), audience: self.audience }
    }

    async fn converse<S: ServerStream>(
        &self,
        mut machine: S,
        mut view: View,
        mut requests: Streaming<S::Request>,
        sender: &mpsc::Sender<Result<S::Response, Status>>,
    ) -> Result<(), Status> {
        let compiled = view.borrow_and_update().clone();
        if let Some(snapshot) = compiled {
            machine.handle_snapshot(snapshot);
        }
        loop {
            while let Some(response) = machine.poll_response() {
                match timeout(SEND_TIMEOUT, sender.send(Ok(response))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Ok(()),
                    Err(_) => return Err(Status::deadline_exceeded("the client takes no responses")),
                }
            }
            tokio::select! {
                request = requests.message() => match request? {
                    Some(request) => self.handle(&mut machine, request)?,
                    None => return Ok(()),
                },
                changed = view.changed() => {
                    changed.map_err(|_| Status::unavailable("nothing is published any more"))?;
                    if let Some(snapshot) = view.borrow_and_update().clone() {
                        machine.handle_snapshot(snapshot);
                    }
                }
            }
        }
    }

    fn handle<S: ServerStream>(&self, machine: &mut S, request: S::Request) -> Result<(), Status> {
        let answer =
            machine.handle_request(request).map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let Some(answer) = answer else { return Ok(()) };
        if let Err(detail) = &answer.outcome {
            warn!(node = self.name, kind = %answer.kind, version = answer.version, detail, "refused");
        }
        if self.audience != Audience::Grpc && self.shared.fleet.on_answer(&self.name, self.audience, &answer)
        {
            self.shared.publisher.on_fleet_change();
        }
        Ok(())
    }
}

/// Where a gRPC client says that it lives.
fn namespace_of(node: &core::Node) -> String {
    let field = node.metadata.as_ref().and_then(|metadata| metadata.fields.get("namespace"));
    match field.and_then(|field| field.kind.as_ref()) {
        Some(protobuf::value::Kind::StringValue(namespace)) => namespace.clone(),
        _ => DEFAULT_NAMESPACE.to_owned(),
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        info!(node = self.name, "stream closed");
        if self.audience != Audience::Grpc {
            self.shared.fleet.on_disconnected(&self.name);
            self.shared.publisher.on_fleet_change();
        }
    }
}
