//! [`Proxy`]: what a worker holds and calls. Everything else hangs below it.

use std::rc::Rc;
use std::sync::Arc;

use socket::{Holding, InterfaceId, Role};

use crate::engine::{Engine, ProxyConfig};
use crate::observe::{HealthReport, Sample};
use crate::runtime::{Runtime, Sockets};
use crate::table::Snapshot;
use crate::{health, listen, samples};

/// One worker's proxy. A handle: clones are the same proxy. Every method is called inside `Core::enter`'s scope.
pub struct Proxy<R: Runtime = Sockets>(pub(crate) Rc<Engine<R>>);

impl<R: Runtime> Clone for Proxy<R> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<R: Runtime> std::fmt::Debug for Proxy<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("worker", &self.0.config.worker).finish_non_exhaustive()
    }
}

impl Proxy<Sockets> {
    pub fn new(config: ProxyConfig) -> Self {
        Self::on(Sockets, config)
    }
}

impl<R: Runtime> Proxy<R> {
    /// A proxy on a runtime of the caller's choice.
    pub fn on(runtime: R, config: ProxyConfig) -> Self {
        Self(Engine::new(runtime, config))
    }

    /// Names and roles of the node's interfaces, from which a connection's source class follows.
    pub fn set_interfaces(&self, interfaces: Vec<(InterfaceId, String, Role)>) {
        self.0.set_interfaces(interfaces);
    }

    /// Puts a table in force: opens and closes listeners, and gives the former table back, to be freed elsewhere.
    /// Requests under way go on by the route they have; pools, counts and health of endpoints that stay are kept.
    pub fn set_table(&self, snapshot: Arc<Snapshot>) -> Option<Arc<Snapshot>> {
        let engine = &self.0;
        let former = engine.set_table(snapshot);
        if !engine.is_draining() {
            listen::open_and_close(engine);
        }
        health::start_checks(engine);
        former
    }

    /// Accepts no more; connections end after the requests they carry (`Connection: close`, GOAWAY). Relayed streams go
    /// on to their end.
    pub fn drain(&self) {
        self.0.drain();
    }

    /// Connections and relayed streams that are still open.
    pub fn active(&self) -> usize {
        self.0.active()
    }

    /// Listeners that need a larger part of the connections that the node allows.
    pub fn listeners_short_of_connections(&self) -> Vec<String> {
        let listeners = self.0.listeners();
        let short = listeners.values().filter(|listener| listener.share.holding(listener.gate.open()).short);
        short.map(|listener| listener.name.clone()).collect()
    }

    /// How a listener's connections stand to this worker's part. `None`: there is no such listener.
    pub fn connection_share(&self, listener: &str) -> Option<Holding> {
        self.0.listeners().get(listener).map(|listener| listener.share.holding(listener.gate.open()))
    }

    /// Sets that part, but to no less than there are connections: what it has become.
    pub fn grant_connections(&self, listener: &str, granted: usize) -> Option<Holding> {
        self.0.listeners().get(listener).map(|listener| listener.share.grant(granted, listener.gate.open()))
    }

    /// All counters, by name and labels; workers' samples are added up by the caller.
    pub fn samples(&self, sink: &mut dyn FnMut(Sample)) {
        samples::samples(&self.0, sink);
    }

    /// Results of the checks that this worker ran, since the last call.
    pub fn take_health_reports(&self) -> Vec<HealthReport> {
        std::mem::take(&mut *self.0.reports.borrow_mut())
    }

    /// Takes over what another worker's checks found.
    pub fn apply_health(&self, reports: &[HealthReport]) {
        reports.iter().for_each(|report| health::apply(&self.0, report));
    }

    /// What a datagram session's `tag` stands for: listener and cluster.
    pub fn tag_name(&self, tag: u32) -> Option<(String, String)> {
        self.0.tag_name(tag)
    }
}
