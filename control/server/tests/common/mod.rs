//! A control plane in this process, on a port of its own, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::ServicePrefixes;
use server::store::{MemoryStore, Store};
use server::{Options, Security, run};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::Status;
use xds::proto::control as api;
use xds::proto::node::NodeReport;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Mesh {
    pub address: SocketAddr,
    pub operator: xds::operator::Client,
    end: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
}

impl Mesh {
    pub async fn start() -> Mesh {
        Mesh::start_on(Arc::new(MemoryStore::default())).await
    }

    pub async fn start_on(store: Arc<dyn Store>) -> Mesh {
        Mesh::start_at("127.0.0.1:0".parse().unwrap(), store).await
    }

    pub async fn start_at(listen: SocketAddr, store: Arc<dyn Store>) -> Mesh {
        let prefixes = ServicePrefixes {
            v4: Some("10.96.0.0/16".parse().unwrap()),
            v6: Some("fd00:10:96::/112".parse().unwrap()),
        };
        let options =
            Options { listen, unix: None, insecure: false, prefixes, security: Security::Plain, audit: None };
        let (end, ended) = oneshot::channel::<()>();
        let (told, address) = oneshot::channel();
        let server = tokio::spawn(async move {
            let listening =
                |listening: &server::serve::Listening| told.send(listening.address().unwrap()).unwrap();
            run(options, store, listening, async { drop(ended.await) }).await.unwrap();
        });
        let address = address.await.unwrap();
        let operator = xds::operator::connect(&address.to_string()).await.unwrap();
        Mesh { address, operator, end: Some(end), server }
    }

    pub async fn end(mut self) {
        self.end.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.server).await.expect("the server ends").unwrap();
    }

    pub async fn apply(&mut self, yaml: &str) -> Result<Vec<api::ApplyOutcome>, Status> {
        let objects_json = model::read_documents("test", yaml)
            .unwrap()
            .iter()
            .map(|resource| serde_json::to_string(resource).unwrap())
            .collect();
        self.apply_json(objects_json).await
    }

    pub async fn apply_json(&mut self, objects_json: Vec<String>) -> Result<Vec<api::ApplyOutcome>, Status> {
        let request = api::ApplyRequest { objects_json, dry_run: false };
        Ok(self.operator.apply(request).await?.into_inner().outcomes)
    }

    pub async fn get(&self, kind: &str, name: &str) -> Result<serde_json::Value, Status> {
        let key = api::ObjectKey { kind: kind.into(), namespace: "default".into(), name: name.into() };
        let answer = self.operator.clone().get(api::GetRequest { key: Some(key) }).await?.into_inner();
        Ok(serde_json::from_str(&answer.object_json).unwrap())
    }

    pub async fn delete(&mut self, kind: &str, name: &str) -> Result<(), Status> {
        let key = api::ObjectKey { kind: kind.into(), namespace: "default".into(), name: name.into() };
        self.operator.delete(api::DeleteRequest { key: Some(key) }).await?;
        Ok(())
    }

    pub async fn nodes(&mut self) -> Vec<api::NodeStatus> {
        self.operator.status(api::StatusRequest {}).await.unwrap().into_inner().nodes
    }
}

/// A data plane that applies every table that `accept` takes.
pub struct DataPlane {
    pub tables: mpsc::UnboundedReceiver<model::table::Table>,
    pub reports: watch::Sender<NodeReport>,
    /// Dropped with this, which ends the thread.
    _end: oneshot::Sender<()>,
}

impl DataPlane {
    pub fn start(
        address: SocketAddr,
        node: &str,
        accept: impl Fn(&model::table::Table) -> Result<(), String> + Send + 'static,
    ) -> DataPlane {
        let (sender, tables) = mpsc::unbounded_channel();
        let (reports, state) = watch::channel(NodeReport::default());
        let node = node.to_owned();
        let (end, ended) = oneshot::channel::<()>();
        // As in ringwayd: one thread of its own.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let on_table = async |table: model::table::Table| {
                let accepted = accept(&table);
                drop(sender.send(table));
                accepted
            };
            let target = xds::target::Target::plain(&address.to_string()).unwrap();
            runtime.block_on(async {
                tokio::select! {
                    never = xds::node::run(&target, &node, on_table, state) => match never {},
                    _ = ended => {}
                }
            });
        });
        DataPlane { tables, reports, _end: end }
    }

    /// The next table for which `wanted` holds.
    pub async fn table(&mut self, wanted: impl Fn(&model::table::Table) -> bool) -> model::table::Table {
        timeout(PATIENCE, async {
            loop {
                let table = self.tables.recv().await.expect("the data plane runs");
                if wanted(&table) {
                    return table;
                }
            }
        })
        .await
        .expect("the table arrives")
    }
}

/// Asks again until `holds`.
pub async fn eventually<T, F: Future<Output = Option<T>>>(mut holds: impl FnMut() -> F) -> T {
    timeout(PATIENCE, async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("it holds in the end")
}

/// What every configuration here begins with: a class, and the node that serves.
macro_rules! ground {
    () => {
        r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: { name: ringway }
spec: { controllerName: ringway.mesh/gateway }
---
apiVersion: ringway.mesh/v1alpha1
kind: Node
metadata: { name: node-1 }
spec: { addresses: [10.77.0.80] }
---
"#
    };
}
#[allow(unused_imports, reason = "each test file uses its part")]
pub(crate) use ground;

pub const WEB: &str = concat!(
    ground!(),
    r#"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: demo }
spec:
  gatewayClassName: ringway
  addresses: [{ type: IPAddress, value: 10.77.0.80 }]
  listeners: [{ name: http, port: 80, protocol: HTTP }]
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: web-v1, labels: { app: web } }
spec: { node: node-1, interface: wl-web-v1, addresses: [10.88.0.11] }
---
apiVersion: ringway.mesh/v1alpha1
kind: Workload
metadata: { name: web-v2, labels: { app: web } }
spec: { node: node-1, interface: wl-web-v2, addresses: [10.88.0.12] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ name: http, port: 80, targetPort: 8080, appProtocol: http }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: web }
spec:
  parentRefs: [{ name: demo, sectionName: http }]
  rules: [{ backendRefs: [{ name: web, port: 80 }] }]
"#
);
