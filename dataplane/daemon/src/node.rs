//! The node while it runs: its workers, the table in force, and what operators ask about both.
//!
//! Lives on the management thread. It reaches a worker only through that worker's mailbox.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::table::Table;
use nic::{CaptureFilter, CaptureLimits, CaptureReader, CaptureTarget, capture_channel};
use proxy::{HealthReport, Proxy, Snapshot};
use tokio::sync::oneshot;
use worker::{Command, Sender, Worker};

use crate::attach::{Attachment, QueueStatus};
use crate::config::NodeConfig;
use crate::identity::NodeIdentity;
use crate::report::{self, WorkerReport};
use crate::saved::Saver;
use crate::sessions::{self, SessionStatus, Totals};

/// A worker that has not answered for this long is stuck, and status says so.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// One worker, from the management thread's side.
#[derive(Debug)]
pub struct Handle {
    pub cpu: usize,
    pub mailbox: Sender<Command<Proxy>>,
}

/// The last result of each endpoint that is checked, by cluster and address.
type Health = BTreeMap<(String, SocketAddr), HealthReport>;

#[derive(Debug)]
pub struct Node {
    pub config: NodeConfig,
    workers: Vec<Handle>,
    queues: Vec<QueueStatus>,
    attachments: RefCell<Vec<Attachment>>,
    snapshot: RefCell<Option<Arc<Snapshot>>>,
    pub saver: Saver,
    /// None without a control plane, or with a plain one.
    pub identity: Option<NodeIdentity>,
    /// By listener and cluster: what datagram sessions carried that have ended.
    ended_sessions: RefCell<BTreeMap<(String, String), Totals>>,
    health: RefCell<Health>,
    /// Rung when something changed that the control plane should hear of.
    news: tokio::sync::Notify,
    draining: std::cell::Cell<bool>,
    /// Held while a table is put in force, and by whoever wants none to be.
    tables: tokio::sync::Mutex<()>,
}

impl Node {
    pub fn new(
        config: NodeConfig,
        identity: Option<NodeIdentity>,
        workers: Vec<Handle>,
        queues: Vec<QueueStatus>,
        attachments: Vec<Attachment>,
    ) -> Self {
        Self {
            saver: Saver::new(config.state.clone()),
            config,
            identity,
            workers,
            queues,
            attachments: RefCell::new(attachments),
            snapshot: RefCell::new(None),
            ended_sessions: RefCell::default(),
            health: RefCell::default(),
            news: tokio::sync::Notify::new(),
            draining: std::cell::Cell::new(false),
            tables: tokio::sync::Mutex::default(),
        }
    }

    /// Publishes a table: compiled here, swapped in on every worker between two turns; the old ones come back here
    /// and are freed here. Returns when every worker serves it; it is saved soon after.
    pub async fn publish(&self, table: Table) -> Result<(), String> {
        let _alone = self.tables.lock().await;
        let version = table.version;
        let snapshot = Arc::new(Snapshot::compile(table).map_err(|error| error.to_string())?);
        let swap = Arc::clone(&snapshot);
        let old = self
            .ask_all(move |worker, now| {
                let Worker { core, application, .. } = worker;
                let old = core.enter(now, || application.set_table(Arc::clone(&swap)));
                core.stack().set_table_version(version);
                old
            })
            .await?;
        drop(old);
        self.saver.put(Arc::clone(&snapshot));
        tracing::info!(version, "table in force");
        self.forget_health(snapshot.table());
        *self.snapshot.borrow_mut() = Some(snapshot);
        self.news.notify_one();
        Ok(())
    }

    /// No table is put in force while the answer is held.
    pub async fn pause_tables(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.tables.lock().await
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    pub fn ready(&self) -> Result<(), String> {
        if self.draining.get() {
            return Err("draining".into());
        }
        match &*self.snapshot.borrow() {
            Some(_) => Ok(()),
            None => Err("no table yet: the control plane has sent none and none was saved".into()),
        }
    }

    pub fn table_version(&self) -> Option<u64> {
        self.snapshot.borrow().as_ref().map(|snapshot| snapshot.table().version)
    }

    pub fn table(&self) -> Option<Table> {
        self.snapshot.borrow().as_ref().map(|snapshot| snapshot.table().clone())
    }

    pub fn queues(&self) -> &[QueueStatus] {
        &self.queues
    }

    pub fn attachments(&self) -> std::cell::RefMut<'_, Vec<Attachment>> {
        self.attachments.borrow_mut()
    }

    /// The devices by name, in the order of their numbers.
    pub fn devices(&self) -> Vec<String> {
        self.attachments.borrow().iter().map(|attachment| attachment.device.clone()).collect()
    }

    /// Starts a capture on every queue pair of every worker. The packets' blocks name the device's number; at most
    /// `blocks` of them wait to be read.
    pub fn start_captures(
        &self,
        filter: CaptureFilter,
        limits: CaptureLimits,
        blocks: usize,
    ) -> CaptureReader {
        let (writer, reader) = capture_channel(blocks);
        self.tell_all(move |worker, _now| {
            for port in worker.ports_mut() {
                let interface = u32::try_from(port.device).unwrap_or(u32::MAX);
                let writer = Box::new(writer.clone());
                port.queue.start(filter, limits, CaptureTarget { writer, interface, own_file: None });
            }
        });
        reader
    }

    pub async fn metrics(&self) -> String {
        let reports = self.reports().await;
        let ended = self.ended_sessions.borrow();
        let mut exposition =
            report::exposition(&reports, &ended, &self.attachments.borrow(), self.table_version());
        if let Some(identity) = &self.identity {
            identity.expose(&mut exposition);
        }
        exposition.render()
    }

    /// Every reason by name, those that never happened too.
    pub async fn discards(&self) -> BTreeMap<&'static str, report::DiscardStatus> {
        report::discards(&self.reports().await)
    }

    /// Every defence by name, those that were never needed too.
    pub async fn defences(&self) -> BTreeMap<&'static str, report::DiscardStatus> {
        report::defences(&self.reports().await)
    }

    /// Datagram sessions of this moment, of every worker the first thousand.
    pub async fn sessions(&self) -> Vec<SessionStatus> {
        let lists = self.ask_all(|worker, _now| sessions::list(worker)).await.unwrap_or_default();
        lists.into_iter().flatten().collect()
    }

    async fn reports(&self) -> Vec<WorkerReport> {
        self.settle_sessions().await;
        self.ask_all(|worker, _now| WorkerReport::of(worker)).await.unwrap_or_default()
    }

    /// Takes in the counters of sessions that ended, before the stack forgets them.
    pub async fn settle_sessions(&self) {
        let ended = self.ask_all(|worker, _now| sessions::take_ended(worker)).await.unwrap_or_default();
        let mut all = self.ended_sessions.borrow_mut();
        ended.iter().for_each(|ended| sessions::add(&mut all, ended));
    }

    pub fn remember_health(&self, found: Vec<HealthReport>) {
        let mut health = self.health.borrow_mut();
        health.extend(found.into_iter().map(|report| ((report.cluster.clone(), report.endpoint), report)));
        self.news.notify_one();
    }

    /// Endpoints that are gone, or no longer checked, have no health.
    fn forget_health(&self, table: &Table) {
        self.health.borrow_mut().retain(|(cluster, endpoint), _| {
            table.clusters.get(cluster).is_some_and(|cluster| cluster.health_check.is_some())
                && table
                    .endpoints
                    .get(cluster)
                    .is_some_and(|all| all.iter().any(|one| one.address == *endpoint))
        });
    }

    pub fn health(&self) -> Vec<HealthReport> {
        self.health.borrow().values().cloned().collect()
    }

    /// Waits for something that the control plane should hear of.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// Stops accepting and lets what is open end, until the deadline.
    pub async fn drain(&self, within: Duration) {
        self.draining.set(true);
        let deadline = tokio::time::Instant::now() + within;
        self.tell_all(|worker, now| {
            let Worker { core, application, .. } = worker;
            core.enter(now, || application.drain());
        });
        loop {
            let open = self.ask_all(|worker, _now| worker.application.active()).await.unwrap_or_default();
            let open: usize = open.into_iter().sum();
            if open == 0 {
                tracing::info!("drained");
                return;
            }
            if tokio::time::Instant::now() >= deadline {
                tracing::warn!(open, "the drain deadline has come: what is open is cut");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends every worker the same command.
    pub fn tell_all(&self, act: impl Fn(&mut Worker<Proxy>, socket::Instant) + Clone + Send + 'static) {
        for worker in &self.workers {
            if worker.mailbox.send(Command::new(act.clone())).is_err() {
                tracing::error!(
                    cpu = worker.cpu,
                    "the worker's mailbox is full: it is stuck, and a command is lost"
                );
            }
        }
    }

    /// Asks every worker and waits for all answers.
    pub async fn ask_all<R: Send + 'static>(
        &self,
        question: impl Fn(&mut Worker<Proxy>, socket::Instant) -> R + Clone + Send + 'static,
    ) -> Result<Vec<R>, String> {
        let mut waiting = Vec::new();
        for worker in &self.workers {
            let (answer, answered) = oneshot::channel();
            let question = question.clone();
            let command = Command::new(move |worker, now| {
                // The one who asked may have given up.
                let _ = answer.send(question(worker, now));
            });
            let stuck = || format!("worker on CPU {}: its mailbox is full: it is stuck", worker.cpu);
            worker.mailbox.send(command).map_err(|_| stuck())?;
            waiting.push((worker.cpu, answered));
        }
        let mut answers = Vec::new();
        for (cpu, answered) in waiting {
            let silent = || format!("worker on CPU {cpu}: no answer within {ANSWER_WITHIN:?}");
            let answer = tokio::time::timeout(ANSWER_WITHIN, answered).await.map_err(|_| silent())?;
            answers.push(answer.map_err(|_| silent())?);
        }
        Ok(answers)
    }
}
