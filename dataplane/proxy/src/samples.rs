//! All counters of one worker's proxy as [`Sample`]s.

use crate::engine::Engine;
use crate::fault::{Fault, Side};
use crate::observe::{Counter, Sample, owned};
use crate::runtime::Runtime;

pub(crate) fn samples<R: Runtime>(engine: &Engine<R>, sink: &mut dyn FnMut(Sample)) {
    for ((route, cluster), series) in engine.series().iter() {
        if series.requests() > 0 || series.active.get() > 0 {
            series.sample(&[("route", route), ("cluster", cluster)], sink);
        }
    }
    for (route, series) in [("other", &engine.other), ("none", &engine.unrouted)] {
        if series.requests() > 0 {
            series.sample(&[("route", route), ("cluster", "")], sink);
        }
    }
    for &fault in Fault::ALL {
        let side = match fault.side() {
            Side::Downstream => "downstream",
            Side::Upstream => "upstream",
            Side::Ringway => "ringway",
        };
        let labels = owned(&[("reason", fault.name()), ("side", side)]);
        let help = "Requests answered or cut by the proxy, by reason";
        sink(Sample::counter("ringway_proxy_faults_total", help, labels, engine.faulted(fault)));
    }
    listener_samples(engine, sink);
    cluster_samples(engine, sink);
}

fn listener_samples<R: Runtime>(engine: &Engine<R>, sink: &mut dyn FnMut(Sample)) {
    for listener in engine.listeners().values() {
        let counters = &listener.counters;
        let labels = || owned(&[("listener", &listener.name)]);
        let counted: [(&'static str, &'static str, &Counter); 6] = [
            ("ringway_connections_accepted_total", "Connections accepted", &counters.accepted),
            ("ringway_connections_refused_total", "Connections over the listener's limit", &counters.refused),
            ("ringway_relayed_to_backend_bytes_total", "TCP bytes to backends", &counters.relayed_up_bytes),
            ("ringway_relayed_to_client_bytes_total", "TCP bytes to clients", &counters.relayed_down_bytes),
            ("ringway_datagram_sessions_total", "Datagram sessions admitted", &counters.sessions),
            ("ringway_datagrams_refused_total", "Datagrams not admitted", &counters.datagrams_refused),
        ];
        for (name, help, counter) in counted {
            sink(Sample::counter(name, help, labels(), counter.value()));
        }
        let open = listener.gate.open() as f64;
        sink(Sample::gauge("ringway_connections_open", "Connections open", labels(), open));
        let share = listener.share.holding(listener.gate.open()).granted as f64;
        sink(Sample::gauge("ringway_connections_share", "Connections allowed", labels(), share));
    }
    let bare: [(&'static str, &'static str, &Counter); 3] = [
        (
            "ringway_connections_unclaimed_total",
            "Connections that no listener of their class serves",
            &engine.unclaimed,
        ),
        (
            "ringway_datagrams_unclaimed_total",
            "Datagrams that no listener of their class serves",
            &engine.datagrams_unclaimed,
        ),
        ("ringway_listen_failures_total", "Addresses that could not be listened on", &engine.listen_failures),
    ];
    for (name, help, counter) in bare {
        sink(Sample::counter(name, help, Vec::new(), counter.value()));
    }
}

fn cluster_samples<R: Runtime>(engine: &Engine<R>, sink: &mut dyn FnMut(Sample)) {
    for cluster in engine.clusters().values() {
        let labels = || owned(&[("cluster", &cluster.name)]);
        let counters = &cluster.counters;
        let counted: [(&'static str, &'static str, &Counter); 4] = [
            ("ringway_upstream_connects_total", "Connections opened to backends", &counters.connects),
            (
                "ringway_upstream_connect_failures_total",
                "Connections that failed",
                &counters.connect_failures,
            ),
            (
                "ringway_upstream_reuses_total",
                "Requests on a connection that had served before",
                &counters.reuses,
            ),
            (
                "ringway_upstream_resent_total",
                "Requests sent once more on a fresh connection",
                &counters.resent,
            ),
        ];
        for (name, help, counter) in counted {
            sink(Sample::counter(name, help, labels(), counter.value()));
        }
        let endpoints = cluster.endpoints();
        let ready = endpoints.iter().filter(|endpoint| endpoint.is_ready()).count();
        sink(Sample::gauge("ringway_endpoints", "Endpoints listed", labels(), endpoints.len() as f64));
        sink(Sample::gauge("ringway_endpoints_ready", "Endpoints ready", labels(), ready as f64));
        let pooled: usize = endpoints.iter().map(|endpoint| endpoint.pooled()).sum();
        sink(Sample::gauge(
            "ringway_upstream_pooled",
            "Unused connections to backends",
            labels(),
            pooled as f64,
        ));
    }
}
