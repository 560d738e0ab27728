//! What the proxy counts, and how it is handed out: [`Sample`]s in the shape of Prometheus text.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;

/// A counter of one worker. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counter(Rc<Cell<u64>>);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.set(self.0.get().wrapping_add(more));
    }

    pub fn value(&self) -> u64 {
        self.0.get()
    }
}

/// What is counted of one cluster.
#[derive(Debug, Default)]
pub(crate) struct ClusterCounters {
    pub connects: Counter,
    pub connect_failures: Counter,
    /// Requests on a connection that had served before.
    pub reuses: Counter,
    /// Requests sent once more because a reused connection ended under them.
    pub resent: Counter,
}

/// What is counted of one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    pub accepted: Counter,
    /// Reset because of `connections_per_listener`.
    pub refused: Counter,
    /// TCP relay: from the client, and to it.
    pub relayed_up_bytes: Counter,
    pub relayed_down_bytes: Counter,
    /// UDP: sessions admitted, and datagrams that were not.
    pub sessions: Counter,
    pub datagrams_refused: Counter,
}

/// Upper bounds in seconds: OpenTelemetry's for `http.server.request.duration`, and below them what a bypass of the
/// kernel makes visible.
const BOUNDS_SECONDS: [f64; 19] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0,
    2.5, 5.0, 7.5, 10.0,
];

/// The same bounds as text, for the label.
const BOUNDS_TEXT: [&str; 19] = [
    "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.075", "0.1",
    "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10",
];

/// What is counted of one (route, cluster).
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// By the status' first digit; position 0: ended without one.
    by_class: [Cell<u64>; 6],
    buckets: [Cell<u64>; BOUNDS_SECONDS.len() + 1],
    seconds: Cell<f64>,
    pub active: Cell<u32>,
    pub request_bytes: Counter,
    pub response_bytes: Counter,
}

impl Series {
    pub fn record(&self, status: Option<StatusCode>, took: Duration) {
        let class = status.map_or(0, |status| usize::from(status.as_u16() / 100).min(5));
        self.by_class[class].set(self.by_class[class].get() + 1);
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS_SECONDS.partition_point(|&bound| bound < seconds);
        self.buckets[bucket].set(self.buckets[bucket].get() + 1);
        self.seconds.set(self.seconds.get() + seconds);
    }

    pub fn requests(&self) -> u64 {
        self.by_class.iter().map(Cell::get).sum()
    }

    pub fn sample(&self, labels: &[(&'static str, &str)], sink: &mut dyn FnMut(Sample)) {
        const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
        for (class, count) in CLASSES.iter().zip(&self.by_class).filter(|(_, count)| count.get() > 0) {
            let labels = with(labels, "code_class", class);
            sink(Sample::counter(
                "ringway_requests_total",
                "Requests that ended, by status class",
                labels,
                count.get(),
            ));
        }
        let mut below = 0;
        let bounds = BOUNDS_TEXT.iter().copied().chain(std::iter::once("+Inf"));
        for (bound, count) in bounds.zip(&self.buckets) {
            below += count.get();
            sink(Sample::histogram(
                "ringway_request_duration_seconds_bucket",
                with(labels, "le", bound),
                below as f64,
            ));
        }
        sink(Sample::histogram("ringway_request_duration_seconds_sum", owned(labels), self.seconds.get()));
        sink(Sample::histogram("ringway_request_duration_seconds_count", owned(labels), below as f64));
        let help = "Requests that are open";
        sink(Sample::gauge("ringway_requests_active", help, owned(labels), f64::from(self.active.get())));
        let help = "Bytes of request bodies";
        sink(Sample::counter("ringway_request_bytes_total", help, owned(labels), self.request_bytes.value()));
        let help = "Bytes of response bodies";
        sink(Sample::counter(
            "ringway_response_bytes_total",
            help,
            owned(labels),
            self.response_bytes.value(),
        ));
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SampleKind {
    Counter,
    Gauge,
    /// One of a histogram's `_bucket`, `_sum` and `_count`.
    Histogram,
}

/// One line of Prometheus text. Workers' samples with equal name and labels are to be added.
#[derive(Clone, Debug)]
pub struct Sample {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: SampleKind,
    pub labels: Vec<(&'static str, String)>,
    pub value: f64,
}

impl Sample {
    pub(crate) fn counter(
        name: &'static str,
        help: &'static str,
        labels: Vec<(&'static str, String)>,
        value: u64,
    ) -> Self {
        Self { name, help, kind: SampleKind::Counter, labels, value: value as f64 }
    }

    pub(crate) fn gauge(
        name: &'static str,
        help: &'static str,
        labels: Vec<(&'static str, String)>,
        value: f64,
    ) -> Self {
        Self { name, help, kind: SampleKind::Gauge, labels, value }
    }

    fn histogram(name: &'static str, labels: Vec<(&'static str, String)>, value: f64) -> Self {
        let help = "Time from a request's head to its response's end";
        Self { name, help, kind: SampleKind::Histogram, labels, value }
    }
}

pub(crate) fn owned(labels: &[(&'static str, &str)]) -> Vec<(&'static str, String)> {
    labels.iter().map(|&(name, value)| (name, value.to_owned())).collect()
}

fn with(labels: &[(&'static str, &str)], name: &'static str, value: &str) -> Vec<(&'static str, String)> {
    let mut all = owned(labels);
    all.push((name, value.to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_cumulative_and_its_bounds_include_their_value() {
        let series = Series::default();
        series.record(Some(StatusCode::OK), Duration::from_micros(100));
        series.record(Some(StatusCode::NOT_FOUND), Duration::from_millis(3));
        series.record(None, Duration::from_secs(60));
        let mut lines = Vec::new();
        series.sample(&[("route", "r")], &mut |sample| lines.push(sample));
        let bucket = |bound: &str| {
            let line = |sample: &&Sample| {
                sample.name.ends_with("_bucket") && sample.labels.contains(&("le", bound.to_owned()))
            };
            lines.iter().find(line).unwrap().value
        };
        assert_eq!((bucket("0.0001"), bucket("0.0025"), bucket("0.005")), (1.0, 1.0, 2.0));
        assert_eq!((bucket("10"), bucket("+Inf")), (2.0, 3.0));
        let class = |class: &str| {
            lines.iter().any(|sample| {
                sample.labels.contains(&("code_class", class.to_owned())) && sample.value == 1.0
            })
        };
        assert!(class("2xx") && class("4xx") && class("none"));
    }

    #[test]
    fn the_bounds_text_says_the_bounds() {
        for (text, bound) in BOUNDS_TEXT.iter().zip(BOUNDS_SECONDS) {
            assert_eq!(text.parse::<f64>().unwrap(), bound);
        }
    }
}
