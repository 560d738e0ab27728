//! Every limit of the proxy, by name, with where its default comes from.

use std::time::Duration;

/// Bytes that one direction of a relay holds at most: four times the largest TLS record, and what Linux reads at once
/// into a splice pipe.
pub(crate) const RELAY_BUFFER_BYTES: usize = 64 << 10;

/// Relay buffers that a worker keeps for the next connection: 4 MiB.
pub(crate) const SPARE_RELAY_BUFFERS: usize = 64;

/// Series of counters by route and cluster. What comes later is counted together, under the route `other`.
pub(crate) const SERIES: usize = 4096;

/// Fields that one message may have; more answers 431. Envoy: `max_headers_count` 100.
pub(crate) const MAX_FIELDS: usize = 100;

/// Length of the line before a chunk, its extensions included, which nobody uses.
pub(crate) const CHUNK_LINE_BYTES: usize = 4096;

/// Length of the fields after the last chunk: as a usual head's.
pub(crate) const TRAILER_BYTES: usize = 16 << 10;

/// Upper bounds and times of one worker's proxy, but where it says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line and fields together; more answers 431. Envoy: `max_request_headers_kb` 60.
    pub header_bytes: usize,
    /// Streams of one HTTP/2 connection, from clients and to backends. Envoy's and nginx's order: 100 to 128.
    pub concurrent_streams: u32,
    /// Connections open on one listener of all workers together; a further one is reset and counted. Each worker
    /// begins with its even part.
    pub connections_per_listener: usize,
    /// Time from the last answer (or the start) to the next complete request head; then the connection closes.
    /// nginx: `keepalive_timeout` 75 s.
    pub client_idle: Duration,
    /// Time without a byte inside a body: 408 from the client, 504 or a cut response from the backend. nginx:
    /// `client_body_timeout` and `proxy_read_timeout` 60 s.
    pub body_idle: Duration,
    /// Time in which the rest of a request that is answered already is read and thrown away, so that its client reads
    /// the answer; then the connection is reset. nginx: `lingering_time` 30 s.
    pub linger: Duration,
    /// The same without a byte from the client. nginx: `lingering_timeout` 5 s.
    pub linger_idle: Duration,
    /// Bytes thrown away in that time at most: half a minute of a connection of 300 Mb/s. nginx has no such bound.
    pub linger_bytes: u64,
    /// Time that an unused connection to a backend is kept. nginx closes at 75 s, Node.js at 5 s; Envoy keeps 1 h.
    pub upstream_idle: Duration,
    /// Unused HTTP/1.1 connections kept for one endpoint.
    pub idle_per_endpoint: usize,
    /// HTTP/2 connections to one endpoint; requests beyond their streams answer 503.
    pub http2_connections_per_endpoint: usize,
    /// Bytes of one HTTP/2 stream that wait to be sent; at least 8,192.
    pub buffer_bytes: usize,
    /// Time that a relayed TCP connection may carry nothing; `None`: for ever.
    pub relay_idle: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 60 << 10,
            concurrent_streams: 100,
            connections_per_listener: 1 << 17,
            client_idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(60),
            linger: Duration::from_secs(30),
            linger_idle: Duration::from_secs(5),
            linger_bytes: 1 << 30,
            upstream_idle: Duration::from_secs(60),
            idle_per_endpoint: 512,
            http2_connections_per_endpoint: 64,
            buffer_bytes: 128 << 10,
            relay_idle: None,
        }
    }
}
