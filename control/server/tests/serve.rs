//! A whole control plane over loopback: operators' requests in, tables at a data plane out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use common::{DataPlane, Mesh, WEB, eventually};
use model::table::Table;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use xds::envoy::core;
use xds::envoy::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use xds::envoy::discovery::{DiscoveryRequest, DiscoveryResponse};
use xds::operator::read_refusal;
use xds::proto::control::apply_outcome::Action;
use xds::proto::node::HealthResult;
use xds::snapshot::ResourceType;

fn endpoints(table: &Table) -> usize {
    table.endpoints.values().map(Vec::len).sum()
}

#[tokio::test]
async fn what_is_applied_arrives_as_a_table_and_is_programmed() {
    let mut mesh = Mesh::start().await;
    let outcomes = mesh.apply(WEB).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.action() == Action::Created), "{outcomes:?}");

    let mut node = DataPlane::start(mesh.address, "node-1", |_| Ok(()));
    let table = node.table(|table| !table.listeners.is_empty()).await;
    assert_eq!(endpoints(&table), 2, "{table:#?}");
    assert!(!table.classes.is_empty());

    eventually(|| async {
        let gateway = mesh.get("Gateway", "demo").await.unwrap();
        let conditions = gateway["status"]["conditions"].as_array()?;
        conditions.iter().any(|c| c["type"] == "Programmed" && c["status"] == "True").then_some(())
    })
    .await;
    let nodes = mesh.nodes().await;
    assert_eq!(nodes[0].acknowledged_version, table.version);
    assert!(nodes[0].connected);

    mesh.delete("Workload", "web-v2").await.unwrap();
    let smaller = node.table(|table| endpoints(table) == 1).await;
    assert!(smaller.version > table.version);
    mesh.end().await;
}

#[tokio::test]
async fn a_service_keeps_the_addresses_that_it_was_given() {
    let mut mesh = Mesh::start().await;
    mesh.apply(WEB).await.unwrap();
    let first = mesh.get("Service", "web").await.unwrap();
    let given = first["spec"]["clusterIPs"].clone();
    assert_eq!(given.as_array().unwrap().len(), 2, "{first}");
    let outcomes = mesh.apply(WEB).await.unwrap();
    assert!(outcomes.iter().all(|outcome| outcome.action() == Action::Unchanged), "{outcomes:?}");
    let changed = WEB.replace("port: 80, targetPort: 8080", "port: 80, targetPort: 9090");
    mesh.apply(&changed).await.unwrap();
    let second = mesh.get("Service", "web").await.unwrap();
    assert_eq!(second["spec"]["clusterIPs"], given);
    assert_eq!(second["metadata"]["generation"], 2);
    mesh.end().await;
}

#[tokio::test]
async fn a_change_of_an_older_version_conflicts_and_stores_nothing() {
    let mut mesh = Mesh::start().await;
    mesh.apply(WEB).await.unwrap();
    let mut workload = mesh.get("Workload", "web-v1").await.unwrap();
    workload["spec"]["weight"] = 5.into();
    mesh.apply_json(vec![workload.to_string()]).await.unwrap();
    workload["spec"]["weight"] = 7.into();
    let refused = mesh.apply_json(vec![workload.to_string()]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    assert_eq!(read_refusal(&refused).unwrap().errors[0].field, "metadata.resourceVersion");
    assert_eq!(mesh.get("Workload", "web-v1").await.unwrap()["spec"]["weight"], 5);
    mesh.end().await;
}

#[tokio::test]
async fn one_refused_object_refuses_the_whole_request_by_its_field() {
    let mut mesh = Mesh::start().await;
    let good = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}"#.to_owned();
    let bad =
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"ports":[{"port":"x"}]}}"#;
    let refused = mesh.apply_json(vec![good, bad.to_owned()]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let errors = read_refusal(&refused).unwrap().errors;
    assert_eq!(errors[0].object_index, 1);
    assert!(errors[0].field.starts_with("spec.ports[0]"), "{errors:?}");
    assert_eq!(mesh.get("Namespace", "a").await.unwrap_err().code(), Code::NotFound);
    mesh.end().await;
}

#[tokio::test]
async fn an_address_of_another_service_is_refused() {
    let mut mesh = Mesh::start().await;
    let service = |name: &str| {
        format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, \
             spec: {{clusterIPs: [10.96.0.7], ports: [{{port: 80}}]}}}}"
        )
    };
    mesh.apply(&service("a")).await.unwrap();
    let refused = mesh.apply(&service("b")).await.unwrap_err();
    assert!(refused.message().contains("10.96.0.7 belongs to Service default/a"), "{refused}");
    mesh.end().await;
}

#[tokio::test]
async fn a_table_that_a_node_refuses_shows_in_status_and_clears_when_mended() {
    let mut mesh = Mesh::start().await;
    mesh.apply(WEB).await.unwrap();
    let mut node = DataPlane::start(mesh.address, "node-1", |table| match endpoints(table) {
        1 => Err("clusters: one endpoint is too few".to_owned()),
        _ => Ok(()),
    });
    node.table(|table| endpoints(table) == 2).await;
    mesh.delete("Workload", "web-v2").await.unwrap();
    node.table(|table| endpoints(table) == 1).await;
    let operator = mesh.operator.clone();
    let rejections = || {
        let mut operator = operator.clone();
        async move {
            let status = operator.status(xds::proto::control::StatusRequest {}).await.unwrap();
            status.into_inner().nodes[0].rejections.clone()
        }
    };
    let shown = eventually(|| async { Some(rejections().await).filter(|shown| !shown.is_empty()) }).await;
    assert!(shown[0].detail.contains("too few"), "{shown:?}");
    // The conditions of all resources follow in the publisher's next pass.
    eventually(|| async {
        mesh.get("Gateway", "demo").await.unwrap().to_string().contains("too few").then_some(())
    })
    .await;
    let programmed = |route: &serde_json::Value| {
        let conditions = route["status"]["parents"][0]["conditions"].as_array().unwrap().clone();
        conditions.into_iter().find(|condition| condition["type"] == "Programmed").unwrap()
    };
    let route = programmed(&mesh.get("HTTPRoute", "web").await.unwrap());
    assert_eq!((&route["status"], &route["reason"]), (&"False".into(), &"Invalid".into()), "{route}");
    assert!(route["message"].as_str().unwrap().contains("too few"), "{route}");
    mesh.apply(WEB).await.unwrap();
    eventually(|| async { rejections().await.is_empty().then_some(()) }).await;
    mesh.end().await;
}

#[tokio::test]
async fn an_endpoint_that_its_node_finds_unhealthy_is_marked_and_comes_back() {
    let mut mesh = Mesh::start().await;
    mesh.apply(WEB).await.unwrap();
    let mut node = DataPlane::start(mesh.address, "node-1", |_| Ok(()));
    let table = node.table(|table| endpoints(table) == 2).await;
    let (cluster, endpoints) = table.endpoints.iter().next().unwrap();
    let found = |healthy| HealthResult {
        cluster: cluster.clone(),
        endpoint: endpoints[0].address.to_string(),
        healthy,
        reason: "connect refused".to_owned(),
    };
    node.reports.send_modify(|report| report.health = vec![found(false)]);
    let sick =
        |table: &Table| table.endpoints.values().flatten().filter(|endpoint| !endpoint.healthy).count();
    let marked = node.table(|table| sick(table) == 1).await;
    assert!(!marked.endpoints[cluster][0].healthy);
    node.reports.send_modify(|report| report.health = vec![found(true)]);
    node.table(|table| sick(table) == 0).await;
    assert!(mesh.nodes().await[0].report_json.contains("connect refused"));
    mesh.end().await;
}

#[tokio::test]
async fn a_data_plane_outlives_its_control_plane_and_hears_from_the_next() {
    let store = std::sync::Arc::new(server::store::MemoryStore::default());
    let mut mesh = Mesh::start_on(store.clone()).await;
    mesh.apply(WEB).await.unwrap();
    let mut node = DataPlane::start(mesh.address, "node-1", |_| Ok(()));
    let before = node.table(|table| endpoints(table) == 2).await;
    let address = mesh.address;
    mesh.end().await;

    let next = Mesh::start_at(address, store).await;
    let after = node.table(|_| true).await;
    assert!(after.version > before.version, "{} > {}", after.version, before.version);
    assert_eq!(Table { version: before.version, ..after }, before);
    next.end().await;
}

#[tokio::test]
async fn an_address_beyond_loopback_needs_to_be_meant() {
    let options = server::Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        unix: None,
        insecure: false,
        prefixes: model::ServicePrefixes::default(),
        security: server::Security::Plain,
        audit: None,
    };
    let store = std::sync::Arc::new(server::store::MemoryStore::default());
    let refused = server::run(options, store, |_| (), std::future::pending()).await.unwrap_err();
    assert!(refused.to_string().contains("--insecure"), "{refused}");
}

/// A state-of-the-world client that calls itself as gRPC does.
struct GrpcClient {
    requests: tokio::sync::mpsc::Sender<DiscoveryRequest>,
    responses: tonic::Streaming<DiscoveryResponse>,
}

impl GrpcClient {
    async fn connect(address: std::net::SocketAddr) -> GrpcClient {
        let channel = xds::endpoint::parse(&address.to_string()).unwrap().connect().await.unwrap();
        let (requests, receiver) = tokio::sync::mpsc::channel(8);
        let node = core::Node {
            id: "client-1".to_owned(),
            user_agent_name: "gRPC C-core linux".to_owned(),
            ..Default::default()
        };
        // The first request opens the stream; of a type that nobody serves, it asks for nothing.
        requests.send(DiscoveryRequest { node: Some(node), ..Default::default() }).await.unwrap();
        let mut service = AggregatedDiscoveryServiceClient::new(channel);
        let responses = service.stream_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
        GrpcClient { requests, responses: responses.into_inner() }
    }

    async fn ask(&mut self, kind: ResourceType, name: &str) -> DiscoveryResponse {
        let request = DiscoveryRequest {
            type_url: kind.type_url(),
            resource_names: vec![name.to_owned()],
            ..Default::default()
        };
        self.requests.send(request).await.unwrap();
        tokio::time::timeout(common::PATIENCE, self.responses.message()).await.unwrap().unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_service_is_found_under_the_names_of_grpc_targets() {
    let mut mesh = Mesh::start().await;
    mesh.apply(WEB).await.unwrap();
    for target in ["web", "web:80", "web.default", "web.default:80", "web.default.svc:80"] {
        let mut client = GrpcClient::connect(mesh.address).await;
        let answer = client.ask(ResourceType::Listener, target).await;
        assert_eq!(answer.resources.len(), 1, "{target}");
    }
    for target in ["web:81", "web.other", "other"] {
        let mut client = GrpcClient::connect(mesh.address).await;
        let answer = client.ask(ResourceType::Listener, target).await;
        assert!(answer.resources.is_empty(), "{target}");
    }
    assert!(mesh.nodes().await.is_empty(), "gRPC clients are no nodes");
    mesh.end().await;
}
