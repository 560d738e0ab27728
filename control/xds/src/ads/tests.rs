//! Both ends of a stream against each other, and each against what other people's peers do.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use model::table::*;
use proptest::prelude::*;
use prost::Name;

use super::*;
use crate::convert::{Audience, encode_table};
use crate::envoy::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::envoy::rpc;
use crate::snapshot::{ResourceType, Snapshot};

/// One HTTP listener, routed to `clusters` with one endpoint each.
fn table(version: u64, clusters: &[&str]) -> Table {
    let mut table = Table { version, ..Table::default() };
    for (index, name) in clusters.iter().enumerate() {
        let cluster = Cluster {
            name: (*name).to_owned(),
            protocol: UpstreamProtocol::Http1,
            balance: Balance::RoundRobin,
            connect_timeout: Duration::from_secs(5),
            tcp: Default::default(),
            health_check: None,
        };
        let port = 8_000 + u16::try_from(index).unwrap();
        let endpoint = Endpoint {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            weight: 1,
            healthy: true,
            workload: format!("default/{name}"),
        };
        table.clusters.insert((*name).to_owned(), cluster);
        table.endpoints.insert((*name).to_owned(), vec![endpoint]);
    }
    let backends = clusters.iter().map(|name| WeightedCluster {
        cluster: Some((*name).to_owned()),
        weight: 1,
        filters: Vec::new(),
    });
    let route = HttpRoute {
        name: "r".to_owned(),
        matches: HttpMatch {
            path: PathMatch::Prefix("/".to_owned()),
            method: None,
            headers: Vec::new(),
            query: Vec::new(),
        },
        filters: Vec::new(),
        action: HttpAction::Forward(backends.collect()),
        timeouts: Timeouts::default(),
    };
    let host = VirtualHost { name: "h".to_owned(), domains: vec!["*".to_owned()], routes: vec![route] };
    let routes = RouteTable { name: "web".to_owned(), virtual_hosts: vec![host] };
    table.routes.insert("web".to_owned(), routes);
    let listener = Listener {
        name: "in".to_owned(),
        class: GATEWAY_CLASS.to_owned(),
        addresses: vec![Ipv4Addr::LOCALHOST.into()],
        port: 80,
        protocol: Protocol::Http { routes: "web".to_owned() },
        tcp: Default::default(),
    };
    table.listeners.insert("in".to_owned(), listener);
    table
}

fn snapshot(table: &Table) -> Arc<Snapshot> {
    Arc::new(encode_table(table, Audience::Ringway).unwrap())
}

fn client() -> AdsClient {
    let mut client = AdsClient::new(crate::node::identity("node-1"));
    client.handle_connected();
    client
}

/// What a conversation came to.
#[derive(Debug, Default)]
struct Told {
    tables: Vec<Table>,
    answers: Vec<Acknowledgement>,
    /// `+cluster a`, `-cluster a`, in the order of sending.
    resources: Vec<String>,
}

/// Lets both talk until neither has anything to say; `apply` answers tables.
fn converse(
    server: &mut DeltaStream,
    client: &mut AdsClient,
    mut apply: impl FnMut(&Table) -> Result<(), String>,
) -> Told {
    let mut told = Told::default();
    loop {
        let mut quiet = true;
        while let Some(request) = client.poll_request() {
            told.answers.extend(server.handle_request(request).unwrap());
            quiet = false;
        }
        if let Some(response) = server.poll_response() {
            note(&mut told.resources, &response);
            client.handle_response(response);
            quiet = false;
        }
        if let Some(table) = client.poll_table() {
            client.handle_applied(apply(&table));
            told.tables.push(table);
        }
        if quiet {
            return told;
        }
    }
}

fn note(resources: &mut Vec<String>, response: &DeltaDiscoveryResponse) {
    let kind = ResourceType::from_type_url(&response.type_url).unwrap();
    resources.extend(response.resources.iter().map(|resource| format!("+{kind} {}", resource.name)));
    resources.extend(response.removed_resources.iter().map(|name| format!("-{kind} {name}")));
}

fn accept(_: &Table) -> Result<(), String> {
    Ok(())
}

#[test]
fn a_table_arrives_whole_and_its_version_is_acknowledged() {
    let (mut server, mut client) = (DeltaStream::default(), client());
    let sent = table(7, &["a", "b"]);
    server.handle_snapshot(snapshot(&sent));
    let told = converse(&mut server, &mut client, accept);
    assert_eq!(told.tables, [sent]);
    let last = told.answers.iter().rfind(|answer| answer.kind == ResourceType::SourceClasses).unwrap();
    assert_eq!(*last, Acknowledgement { kind: ResourceType::SourceClasses, version: 7, outcome: Ok(()) });
}

#[test]
fn new_clusters_are_made_before_routes_use_them_and_old_ones_break_after() {
    let (mut server, mut client) = (DeltaStream::default(), client());
    server.handle_snapshot(snapshot(&table(1, &["a"])));
    converse(&mut server, &mut client, accept);
    server.handle_snapshot(snapshot(&table(2, &["b"])));
    let told = converse(&mut server, &mut client, accept);
    let position = |what: &str| {
        let found = told.resources.iter().position(|resource| resource == what);
        found.unwrap_or_else(|| panic!("{what} is not in {:?}", told.resources))
    };
    assert!(position("+cluster b") < position("+routes web"));
    assert!(position("+routes web") < position("-cluster a"));
    assert!(position("-cluster a") < position("+source classes node"));
    assert_eq!(told.tables, [table(2, &["b"])]);
}

#[test]
fn an_unchanged_resource_is_not_sent_again() {
    let (mut server, mut client) = (DeltaStream::default(), client());
    server.handle_snapshot(snapshot(&table(1, &["a", "b"])));
    converse(&mut server, &mut client, accept);
    let mut changed = table(2, &["a", "b"]);
    changed.endpoints.get_mut("b").unwrap()[0].healthy = false;
    server.handle_snapshot(snapshot(&changed));
    let told = converse(&mut server, &mut client, accept);
    assert_eq!(told.resources, ["+endpoints b", "+source classes node"]);
    assert_eq!(told.tables, [changed]);
}

#[test]
fn a_reconnected_client_is_sent_only_what_differs() {
    let (mut server, mut client) = (DeltaStream::default(), client());
    server.handle_snapshot(snapshot(&table(1, &["a", "b"])));
    converse(&mut server, &mut client, accept);
    let mut next = DeltaStream::default();
    client.handle_connected();
    next.handle_snapshot(snapshot(&table(2, &["a"])));
    let told = converse(&mut next, &mut client, accept);
    assert_eq!(told.tables, [table(2, &["a"])]);
    assert_eq!(told.resources, ["+routes web", "-cluster b", "+source classes node"]);
}

#[test]
fn a_table_that_cannot_be_applied_is_refused_with_its_reason_and_offered_again_on_the_next_stream() {
    let (mut server, mut client) = (DeltaStream::default(), client());
    server.handle_snapshot(snapshot(&table(3, &["a"])));
    let told = converse(&mut server, &mut client, |_| Err("no memory".to_owned()));
    let refused = told.answers.iter().find(|answer| answer.outcome.is_err()).unwrap();
    assert_eq!(refused.kind, ResourceType::SourceClasses);
    assert_eq!(refused.outcome, Err("no memory".to_owned()));

    let mut next = DeltaStream::default();
    client.handle_connected();
    next.handle_snapshot(snapshot(&table(3, &["a"])));
    assert_eq!(converse(&mut next, &mut client, accept).tables, [table(3, &["a"])]);
}

/// Breaks every cluster's body on its way.
fn spoil(mut response: DeltaDiscoveryResponse) -> DeltaDiscoveryResponse {
    if ResourceType::from_type_url(&response.type_url) == Some(ResourceType::Routes) {
        for resource in &mut response.resources {
            resource.resource.as_mut().unwrap().value = vec![0xff];
        }
    }
    response
}

#[test]
fn a_response_that_cannot_be_read_is_refused_alone_and_the_last_good_one_stays() {
    let (mut server, mut client) = (DeltaStream::default(), client());
    server.handle_snapshot(snapshot(&table(1, &["a"])));
    converse(&mut server, &mut client, accept);
    server.handle_snapshot(snapshot(&table(2, &["b"])));
    let mut refusals = Vec::new();
    let mut gone = Vec::new();
    loop {
        while let Some(request) = client.poll_request() {
            refusals.extend(server.handle_request(request).unwrap().filter(|answer| answer.outcome.is_err()));
        }
        let Some(response) = server.poll_response() else { break };
        gone.extend(response.removed_resources.clone());
        client.handle_response(spoil(response));
        if client.poll_table().is_some() {
            client.handle_applied(Ok(()));
        }
    }
    let [refusal] = refusals.as_slice() else { panic!("one refusal, not {refusals:?}") };
    assert_eq!(refusal.kind, ResourceType::Routes);
    assert!(refusal.outcome.as_ref().unwrap_err().contains("routes \"web\": resource: cannot be decoded"));
    assert!(gone.is_empty(), "the old routes still use {gone:?}");

    server.handle_snapshot(snapshot(&table(3, &["b"])));
    let mended = table(4, &["b", "c"]);
    server.handle_snapshot(snapshot(&mended));
    assert_eq!(converse(&mut server, &mut client, accept).tables, [mended]);
}

#[test]
fn a_large_publication_goes_out_in_parts() {
    let names: Vec<String> =
        (0..20_000).map(|index| format!("cluster-with-a-long-name-{index:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut server, mut subscriber) = (DeltaStream::default(), 0);
    server.handle_snapshot(snapshot(&table(1, &names)));
    let url = crate::envoy::cluster::Cluster::type_url();
    let mut request = DeltaDiscoveryRequest { type_url: url.clone(), ..Default::default() };
    let mut parts = 0;
    loop {
        server.handle_request(request).unwrap();
        let Some(response) = server.poll_response() else { break };
        assert!(prost::Message::encoded_len(&response) < 2 * RESPONSE_BYTES);
        assert!(server.poll_response().is_none(), "one response of a type is in flight at most");
        subscriber += response.resources.len();
        parts += 1;
        request = DeltaDiscoveryRequest {
            type_url: url.clone(),
            response_nonce: response.nonce,
            ..Default::default()
        };
    }
    assert_eq!(subscriber, names.len());
    assert!(parts > 1);
}

/// Envoy's way: it answers clusters only when it has the endpoints of all that it was sent.
#[test]
fn endpoints_go_out_while_clusters_wait_for_their_answer_and_routes_do_not() {
    let mut server = DeltaStream::default();
    let ask = |server: &mut DeltaStream, kind: ResourceType, names: &[&str], nonce: &str| {
        let request = DeltaDiscoveryRequest {
            type_url: kind.type_url(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        };
        server.handle_request(request).unwrap();
    };
    server.handle_snapshot(snapshot(&table(1, &["a"])));
    ask(&mut server, ResourceType::Cluster, &["*"], "");
    let clusters = server.poll_response().unwrap();
    server.handle_snapshot(snapshot(&table(2, &["a", "b"])));
    ask(&mut server, ResourceType::Endpoints, &["a"], "");
    ask(&mut server, ResourceType::Routes, &["web"], "");
    assert_eq!(server.poll_response().unwrap().type_url, ResourceType::Endpoints.type_url());
    assert!(server.poll_response().is_none(), "routes use cluster b, which has not been sent");
    ask(&mut server, ResourceType::Cluster, &[], &clusters.nonce);
    assert_eq!(server.poll_response().unwrap().type_url, ResourceType::Cluster.type_url());
    assert_eq!(server.poll_response().unwrap().type_url, ResourceType::Routes.type_url());
}

#[test]
fn a_name_that_does_not_exist_is_answered_as_removed_and_sent_when_it_does() {
    let mut server = DeltaStream::default();
    server.handle_snapshot(snapshot(&table(1, &["a"])));
    let request = DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.type_url(),
        resource_names_subscribe: vec!["b".to_owned()],
        ..Default::default()
    };
    server.handle_request(request).unwrap();
    let absent = server.poll_response().unwrap();
    assert_eq!(absent.removed_resources, ["b"]);
    assert!(server.poll_response().is_none());
    let ack = DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.type_url(),
        response_nonce: absent.nonce,
        ..Default::default()
    };
    server.handle_request(ack).unwrap();
    server.handle_snapshot(snapshot(&table(2, &["a", "b"])));
    assert_eq!(server.poll_response().unwrap().resources[0].name, "b");
}

#[test]
fn a_stale_nonce_answers_nothing() {
    let mut server = DeltaStream::default();
    server.handle_snapshot(snapshot(&table(1, &["a"])));
    let url = ResourceType::Cluster.type_url();
    server.handle_request(DeltaDiscoveryRequest { type_url: url.clone(), ..Default::default() }).unwrap();
    server.poll_response().unwrap();
    let stale =
        DeltaDiscoveryRequest { type_url: url, response_nonce: "99".to_owned(), ..Default::default() };
    assert_eq!(server.handle_request(stale).unwrap(), None);
}

#[test]
fn more_names_than_the_bound_end_the_stream() {
    let mut server = DeltaStream::default();
    let request = |names: Vec<String>| DeltaDiscoveryRequest {
        type_url: ResourceType::Endpoints.type_url(),
        resource_names_subscribe: names,
        ..Default::default()
    };
    let many = (0..=MAX_NAMES).map(|index| index.to_string()).collect();
    let refused = server.handle_request(request(many)).unwrap_err();
    assert_eq!(refused, StreamError::TooManyNames(ResourceType::Endpoints));
    let long = server.handle_request(request(vec!["x".repeat(MAX_NAME_BYTES + 1)])).unwrap_err();
    assert_eq!(long, StreamError::NameTooLong(MAX_NAME_BYTES + 1));
}

#[test]
fn a_type_that_is_not_served_is_ignored() {
    let mut server = DeltaStream::default();
    server.handle_snapshot(snapshot(&table(1, &["a"])));
    let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
    let request = DeltaDiscoveryRequest { type_url: secret.to_owned(), ..Default::default() };
    assert_eq!(server.handle_request(request).unwrap(), None);
    assert!(server.poll_response().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is published, and whenever the stream breaks, the client ends with the last table.
    #[test]
    fn the_last_publication_wins(
        publications in proptest::collection::vec((proptest::sample::subsequence(vec!["a", "b", "c", "d"], 1..4), any::<bool>(), 0_usize..6), 1..8),
    ) {
        let (mut server, mut client) = (DeltaStream::default(), client());
        let mut last = None;
        for (index, (clusters, reconnects, steps)) in publications.into_iter().enumerate() {
            let published = table(index as u64 + 1, &clusters);
            if reconnects {
                server = DeltaStream::default();
                client.handle_connected();
            }
            server.handle_snapshot(snapshot(&published));
            // Only some of the conversation happens before the next publication.
            for _ in 0..steps {
                if let Some(request) = client.poll_request() {
                    server.handle_request(request).unwrap();
                }
                if let Some(response) = server.poll_response() {
                    client.handle_response(response);
                }
                if let Some(table) = client.poll_table() {
                    client.handle_applied(Ok(()));
                    last = Some(table);
                }
            }
            let told = converse(&mut server, &mut client, accept);
            last = told.tables.into_iter().next_back().or(last);
            prop_assert_eq!(last.as_ref(), Some(&published));
        }
    }

    #[test]
    fn any_request_is_answered_without_panic(
        requests in proptest::collection::vec((0_usize..6, proptest::collection::vec("[a-d*]", 0..4), proptest::collection::vec("[a-d*]", 0..4), "[0-4]?", any::<bool>()), 0..20),
    ) {
        let mut delta = DeltaStream::default();
        let mut whole = StateOfTheWorldStream::default();
        delta.handle_snapshot(snapshot(&table(1, &["a", "b"])));
        whole.handle_snapshot(snapshot(&table(1, &["a", "b"])));
        for (kind, names, dropped, nonce, refuses) in requests {
            let type_url = ResourceType::ALL.get(kind).map_or("x".to_owned(), |kind| kind.type_url());
            let error_detail = refuses.then(rpc::Status::default);
            delta.handle_request(DeltaDiscoveryRequest {
                type_url: type_url.clone(),
                resource_names_subscribe: names.clone(),
                resource_names_unsubscribe: dropped,
                response_nonce: nonce.clone(),
                error_detail: error_detail.clone(),
                ..Default::default()
            }).unwrap();
            delta.poll_response();
            whole.handle_request(DiscoveryRequest {
                type_url,
                resource_names: names,
                response_nonce: nonce,
                error_detail,
                ..Default::default()
            }).unwrap();
            whole.poll_response();
        }
    }
}

/// A state-of-the-world client that acknowledges all and asks for fixed names.
struct WholeClient {
    server: StateOfTheWorldStream,
}

impl WholeClient {
    fn ask(&mut self, kind: ResourceType, names: &[&str], nonce: &str) {
        let request = DiscoveryRequest {
            type_url: kind.type_url(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: nonce.to_owned(),
            ..Default::default()
        };
        self.server.handle_request(request).unwrap();
    }

    fn next(&mut self) -> Option<(ResourceType, usize, DiscoveryResponse)> {
        let response = self.server.poll_response()?;
        let kind = ResourceType::from_type_url(&response.type_url).unwrap();
        Some((kind, response.resources.len(), response))
    }
}

#[test]
fn a_whole_state_has_what_was_asked_for_and_comes_again_when_it_changes() {
    let mut client = WholeClient { server: StateOfTheWorldStream::default() };
    client.server.handle_snapshot(snapshot(&table(1, &["a", "b"])));
    client.ask(ResourceType::Cluster, &["a"], "");
    let (kind, count, response) = client.next().unwrap();
    assert_eq!((kind, count), (ResourceType::Cluster, 1));
    client.ask(ResourceType::Cluster, &["a"], &response.nonce);
    assert!(client.next().is_none());
    let mut changed = table(2, &["a", "b"]);
    changed.clusters.get_mut("a").unwrap().connect_timeout = Duration::from_secs(1);
    client.server.handle_snapshot(snapshot(&changed));
    assert_eq!(client.next().unwrap().1, 1);
}

#[test]
fn a_listener_that_does_not_exist_is_answered_by_an_empty_state() {
    let mut client = WholeClient { server: StateOfTheWorldStream::default() };
    client.server.handle_snapshot(snapshot(&table(1, &["a"])));
    client.ask(ResourceType::Listener, &["nobody"], "");
    let (kind, count, _) = client.next().unwrap();
    assert_eq!((kind, count), (ResourceType::Listener, 0));
}

#[test]
fn a_cluster_that_is_gone_stays_until_the_new_routes_are_acknowledged() {
    let mut client = WholeClient { server: StateOfTheWorldStream::default() };
    client.server.handle_snapshot(snapshot(&table(1, &["a"])));
    client.ask(ResourceType::Cluster, &[], "");
    let (_, _, clusters) = client.next().unwrap();
    client.ask(ResourceType::Cluster, &[], &clusters.nonce);
    client.ask(ResourceType::Routes, &["web"], "");
    let (_, _, routes) = client.next().unwrap();
    client.ask(ResourceType::Routes, &["web"], &routes.nonce);

    client.server.handle_snapshot(snapshot(&table(2, &["b"])));
    let (kind, count, clusters) = client.next().unwrap();
    assert_eq!((kind, count), (ResourceType::Cluster, 2), "a and b");
    let (kind, _, routes) = client.next().unwrap();
    assert_eq!(kind, ResourceType::Routes);
    client.ask(ResourceType::Cluster, &[], &clusters.nonce);
    assert!(client.next().is_none(), "the routes are not acknowledged");
    client.ask(ResourceType::Routes, &["web"], &routes.nonce);
    let (kind, count, _) = client.next().unwrap();
    assert_eq!((kind, count), (ResourceType::Cluster, 1), "b");
}

#[test]
fn a_resource_on_demand_is_not_in_the_wildcard() {
    let mut content = encode_table(&table(1, &["a"]), Audience::Grpc).unwrap();
    content.insert(ResourceType::Listener, crate::convert::encode_api_listener("web.default:80", "web"));
    let content = Arc::new(content);
    let mut all = WholeClient { server: StateOfTheWorldStream::default() };
    all.server.handle_snapshot(content.clone());
    all.ask(ResourceType::Listener, &[], "");
    assert_eq!(all.next().unwrap().1, 0);
    let mut one = WholeClient { server: StateOfTheWorldStream::default() };
    one.server.handle_snapshot(content);
    one.ask(ResourceType::Listener, &["web.default:80"], "");
    assert_eq!(one.next().unwrap().1, 1);
}
