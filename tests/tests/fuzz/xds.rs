//! Messages of ADS: to our client, and to our server in both its dialects. The first byte says which; records follow,
//! a message each.

use std::collections::BTreeSet;
use std::sync::Arc;

use model::table::Table;
use model::{HealthView, Resources, ServicePrefixes, assign, compile, read_documents};
use prost::Message;
use tests::fuzz::{Outcome, Target};
use xds::ads::{AdsClient, DeltaStream, ServerStream, StateOfTheWorldStream};
use xds::convert::{Audience, encode_table};
use xds::envoy::discovery::{DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use xds::snapshot::{ResourceType, Snapshot};

use crate::records::{join, records};
use crate::shape;

const NODE: &str = "node-1";
/// Which end the messages go to.
const CLIENT: u8 = 0;
const DELTA: u8 = 1;
const STATE_OF_THE_WORLD: u8 = 2;
/// Messages that one answers to another.
const MAX_ANSWERS: usize = 100;

const WORDS: [&str; 12] = [
    "type.googleapis.com/",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.route.v3.RouteConfiguration",
    "*",
    "ringway.mesh",
    "default/",
    "[0-9]+",
    "10.88.0.11",
    "1",
    "\u{0}",
];

#[test]
fn no_message_breaks_either_end() {
    let table = demo();
    let target = Target { name: "xds", words: &WORDS, seeds: conversation(&table), mutations: 3_000 };
    target.run(|input| {
        let mut seen = BTreeSet::new();
        if let [end, rest @ ..] = input {
            match end % 3 {
                CLIENT => hear_as_client(rest, &mut seen),
                DELTA => {
                    let snapshot = encode(&table, Audience::Ringway);
                    hear_as_server::<DeltaStream>(rest, snapshot, &mut seen, sent_delta);
                }
                _ => {
                    let snapshot = encode(&table, Audience::Grpc);
                    hear_as_server::<StateOfTheWorldStream>(rest, snapshot, &mut seen, sent_whole);
                }
            }
        }
        Outcome::of_all(seen)
    });
}

fn hear_as_client(input: &[u8], seen: &mut BTreeSet<String>) {
    let mut client = AdsClient::new(xds::node::identity(NODE));
    client.handle_connected();
    for record in records(input) {
        let Ok(response) = DeltaDiscoveryResponse::decode(record) else {
            seen.insert("no message".to_owned());
            continue;
        };
        client.handle_response(response);
        if let Some(table) = client.poll_table() {
            let saved = serde_json::to_vec(&table).expect("a table can be saved");
            assert_eq!(serde_json::from_slice::<Table>(&saved).expect("it can be loaded"), table);
            let outcome = proxy::Snapshot::compile(table).map(drop).map_err(|error| error.to_string());
            seen.insert(shape(&format!("table {outcome:?}")));
            client.handle_applied(outcome);
        }
        while let Some(request) = client.poll_request() {
            let refused = request.error_detail.map(|detail| shape(&detail.message));
            seen.insert(format!("{} {refused:?}", shape(&request.type_url)));
        }
    }
}

/// `sent` says of a response what tells it from others.
fn hear_as_server<S: ServerStream>(
    input: &[u8],
    snapshot: Snapshot,
    seen: &mut BTreeSet<String>,
    sent: impl Fn(S::Response) -> String,
) where
    S::Request: Message + Default,
{
    let mut server = S::default();
    server.handle_snapshot(Arc::new(snapshot));
    for record in records(input) {
        let Ok(request) = S::Request::decode(record) else { continue };
        seen.insert(match server.handle_request(request) {
            Ok(answer) => format!("{:?}", answer.map(|answer| (answer.kind, answer.outcome.is_ok()))),
            Err(error) => shape(&error.to_string()),
        });
        let responses = std::iter::from_fn(|| server.poll_response());
        seen.extend(responses.take(MAX_ANSWERS).map(&sent));
        assert!(server.poll_response().is_none(), "a server answers without end");
    }
}

fn sent_delta(response: DeltaDiscoveryResponse) -> String {
    let counts = (response.resources.len().min(8), response.removed_resources.len().min(8));
    format!("{} {counts:?}", shape(&response.type_url))
}

fn sent_whole(response: DiscoveryResponse) -> String {
    format!("{} {}", shape(&response.type_url), response.resources.len().min(8))
}

fn encode(table: &Table, audience: Audience) -> Snapshot {
    encode_table(table, audience).expect("the example is valid")
}

/// The demo's table for its node.
fn demo() -> Table {
    let folder = tests::repository().join("examples/demo");
    let mut resources = Resources::default();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for resource in read_documents("demo", &text).unwrap() {
            resources.insert(resource);
        }
    }
    let prefixes = ServicePrefixes { v4: "10.96.0.0/16".parse().ok(), v6: "fd96::/112".parse().ok() };
    assign(&mut resources, &prefixes).unwrap();
    Table { version: 1, ..compile(&resources, NODE, &HealthView::default()) }
}

/// What client and server really say to each other over the demo's table: an input for each end.
fn conversation(table: &Table) -> Vec<Vec<u8>> {
    let mut client = AdsClient::new(xds::node::identity(NODE));
    let mut server = DeltaStream::default();
    server.handle_snapshot(Arc::new(encode(table, Audience::Ringway)));
    client.handle_connected();
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    for _ in 0..MAX_ANSWERS {
        while let Some(request) = client.poll_request() {
            requests.push(request.encode_to_vec());
            server.handle_request(request).unwrap();
        }
        let Some(response) = server.poll_response() else { break };
        responses.push(response.encode_to_vec());
        client.handle_response(response);
        if client.poll_table().is_some() {
            client.handle_applied(Ok(()));
        }
    }
    assert!(responses.len() >= ResourceType::ALL.len(), "every type was sent");
    let whole =
        ResourceType::ALL.map(|kind| DiscoveryRequest { type_url: kind.type_url(), ..Default::default() });
    let whole: Vec<Vec<u8>> = whole.iter().map(Message::encode_to_vec).collect();
    [(CLIENT, responses), (DELTA, requests), (STATE_OF_THE_WORLD, whole)]
        .map(|(end, messages)| [vec![end], join(messages.iter().map(Vec::as_slice))].concat())
        .into()
}
