//! Datagram sessions as operators see them: totals by listener and cluster, which never shrink when sessions end, and
//! the sessions of this moment with their RTP streams (RFC 3550).

use std::collections::BTreeMap;
use std::time::Duration;

use proxy::Proxy;
use serde::Serialize;
use worker::{RtpStream, SessionInfo, Worker};

use crate::metrics::Exposition;

/// Sessions that `/sessions` lists of one worker: more than a reader wants, and a turn's small work.
const LISTED: usize = 1000;

/// Listener and cluster.
type Route = (String, String);

/// What sessions carried, by listener and cluster.
pub type ByRoute = BTreeMap<Route, Totals>;

/// Added up over sessions.
#[derive(Copy, Clone, Debug, Default, PartialEq)]
pub struct Totals {
    sessions: u64,
    packets_to_endpoint: u64,
    packets_to_client: u64,
    bytes_to_endpoint: u64,
    bytes_to_client: u64,
    rtp_streams: u64,
    rtp_packets: u64,
    rtp_lost: u64,
    rtp_reordered: u64,
    rtp_duplicates: u64,
    /// The worst stream's.
    rtp_jitter: Duration,
}

/// One session, as `/sessions` has it.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    pub listener: String,
    pub cluster: String,
    pub client: String,
    pub service: String,
    pub endpoint: String,
    pub packets_to_endpoint: u64,
    pub packets_to_client: u64,
    pub rtp: Vec<RtpStatus>,
}

#[derive(Copy, Clone, Debug, Serialize)]
pub struct RtpStatus {
    pub ssrc: u32,
    pub payload_type: u8,
    pub from_client: bool,
    pub received: u64,
    pub lost: u64,
    pub reordered: u64,
    pub duplicates: u64,
    pub jitter_ms: f64,
}

/// The sessions of this moment, added up.
pub fn live(worker: &mut Worker<Proxy>) -> ByRoute {
    let Worker { core, application, .. } = worker;
    let mut live = ByRoute::new();
    for session in core.stack().sessions() {
        live.entry(route(application, session.tag)).or_default().add_session(&session);
    }
    live
}

/// The sessions that ended since this was last called. The stack keeps the last 1,024 of them.
pub fn take_ended(worker: &mut Worker<Proxy>) -> ByRoute {
    let Worker { core, application, .. } = worker;
    let mut stack = core.stack();
    let mut ended = ByRoute::new();
    while let Some(session) = stack.poll_ended_session() {
        ended.entry(route(application, session.tag)).or_default().add_session(&session);
    }
    ended
}

/// The worker's sessions of this moment, the first [`LISTED`] of them.
pub fn list(worker: &mut Worker<Proxy>) -> Vec<SessionStatus> {
    let Worker { core, application, .. } = worker;
    core.stack().sessions().take(LISTED).map(|session| status(application, &session)).collect()
}

/// Adds `more` to `totals`.
pub fn add(totals: &mut ByRoute, more: &ByRoute) {
    for (route, counted) in more {
        totals.entry(route.clone()).or_default().add(counted);
    }
}

/// `totals` counts ended and living sessions; `live` the living alone.
pub fn expose(text: &mut Exposition, totals: &ByRoute, live: &ByRoute) {
    for ((listener, cluster), counted) in totals {
        let labels = [("listener", listener.as_str()), ("cluster", cluster.as_str())];
        for (direction, packets, bytes) in [
            ("to_endpoint", counted.packets_to_endpoint, counted.bytes_to_endpoint),
            ("to_client", counted.packets_to_client, counted.bytes_to_client),
        ] {
            let labels = [labels[0], labels[1], ("direction", direction)];
            text.counter("ringway_datagrams_total", "Datagrams forwarded in sessions.", &labels, packets);
            text.counter("ringway_datagram_bytes_total", "Their UDP payload bytes.", &labels, bytes);
        }
        for (name, help, count) in [
            ("ringway_rtp_packets_total", "RTP packets received.", counted.rtp_packets),
            (
                "ringway_rtp_lost_total",
                "RTP packets that never came, by their sequence numbers.",
                counted.rtp_lost,
            ),
            (
                "ringway_rtp_reordered_total",
                "RTP packets that came after a later one.",
                counted.rtp_reordered,
            ),
            ("ringway_rtp_duplicates_total", "RTP packets that came again.", counted.rtp_duplicates),
        ] {
            text.counter(name, help, &labels, count);
        }
        let now = live.get(&(listener.clone(), cluster.clone())).copied().unwrap_or_default();
        for (name, help, value) in [
            ("ringway_datagram_sessions", "Datagram sessions now.", now.sessions as f64),
            ("ringway_rtp_streams", "RTP streams now.", now.rtp_streams as f64),
            (
                "ringway_rtp_jitter_seconds",
                "Interarrival jitter of the worst RTP stream now.",
                now.rtp_jitter.as_secs_f64(),
            ),
        ] {
            text.gauge(name, help, &labels, value);
        }
    }
}

impl Totals {
    fn add_session(&mut self, session: &SessionInfo) {
        let streams = || session.rtp.iter().flatten();
        let sum = |of: fn(&RtpStream) -> u64| streams().map(of).sum();
        self.add(&Self {
            sessions: 1,
            packets_to_endpoint: session.to_endpoint.packets,
            packets_to_client: session.to_client.packets,
            bytes_to_endpoint: session.to_endpoint.bytes,
            bytes_to_client: session.to_client.bytes,
            rtp_streams: streams().count() as u64,
            rtp_packets: sum(|stream| stream.received),
            rtp_lost: sum(RtpStream::lost),
            rtp_reordered: sum(|stream| stream.reordered),
            rtp_duplicates: sum(|stream| stream.duplicates),
            rtp_jitter: streams().map(|stream| stream.jitter).max().unwrap_or_default(),
        });
    }

    fn add(&mut self, more: &Self) {
        self.sessions += more.sessions;
        self.packets_to_endpoint += more.packets_to_endpoint;
        self.packets_to_client += more.packets_to_client;
        self.bytes_to_endpoint += more.bytes_to_endpoint;
        self.bytes_to_client += more.bytes_to_client;
        self.rtp_streams += more.rtp_streams;
        self.rtp_packets += more.rtp_packets;
        self.rtp_lost += more.rtp_lost;
        self.rtp_reordered += more.rtp_reordered;
        self.rtp_duplicates += more.rtp_duplicates;
        self.rtp_jitter = self.rtp_jitter.max(more.rtp_jitter);
    }
}

fn route(proxy: &Proxy, tag: u32) -> Route {
    proxy.tag_name(tag).unwrap_or_default()
}

fn status(proxy: &Proxy, session: &SessionInfo) -> SessionStatus {
    let (listener, cluster) = route(proxy, session.tag);
    let rtp = session.rtp.iter().flatten().map(|stream| RtpStatus {
        ssrc: stream.ssrc,
        payload_type: stream.payload_type,
        from_client: stream.from_client,
        received: stream.received,
        lost: stream.lost(),
        reordered: stream.reordered,
        duplicates: stream.duplicates,
        jitter_ms: stream.jitter.as_secs_f64() * 1000.0,
    });
    SessionStatus {
        listener,
        cluster,
        client: session.client.to_string(),
        service: session.service.to_string(),
        endpoint: session.endpoint.to_string(),
        packets_to_endpoint: session.to_endpoint.packets,
        packets_to_client: session.to_client.packets,
        rtp: rtp.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_what_ended_sessions_carried_and_gauges_do_not() {
        let route: Route = ("gateway/rtp".into(), "media".into());
        let jitter = |ms| Duration::from_millis(ms);
        let ended =
            Totals { sessions: 1, rtp_packets: 100, rtp_lost: 2, rtp_jitter: jitter(9), ..Totals::default() };
        let living = Totals {
            sessions: 1,
            rtp_streams: 1,
            rtp_packets: 50,
            rtp_jitter: jitter(3),
            ..Totals::default()
        };
        let live = BTreeMap::from([(route.clone(), living)]);
        let mut totals = BTreeMap::from([(route, ended)]);
        add(&mut totals, &live);
        let mut text = Exposition::default();
        expose(&mut text, &totals, &live);
        let text = text.render();
        let labels = "{listener=\"gateway/rtp\",cluster=\"media\"}";
        for line in [
            "ringway_rtp_packets_total",
            "ringway_rtp_lost_total",
            "ringway_rtp_jitter_seconds",
            "ringway_datagram_sessions",
        ]
        .into_iter()
        .zip(["150", "2", "0.003", "1"])
        .map(|(name, value)| format!("{name}{labels} {value}\n"))
        {
            assert!(text.contains(&line), "{line} in {text}");
        }
    }
}
