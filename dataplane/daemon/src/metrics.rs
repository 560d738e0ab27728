//! Prometheus text (exposition format 0.0.4) from what workers, stacks, queue pairs and proxies counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How Prometheus reads a family.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Families in the order of their names; series of one name and label set from several workers are added up.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: Kind,
    /// By series: the name with its suffix, and the rendered labels.
    series: BTreeMap<(String, String), f64>,
}

impl Exposition {
    /// Adds one sample. `series` is the family's name, or for a histogram the name with `_bucket`, `_sum` or `_count`.
    pub fn add(
        &mut self,
        family: &str,
        help: &str,
        kind: Kind,
        series: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let family = self.families.entry(family.to_owned()).or_insert_with(|| Family {
            help: help.to_owned(),
            kind,
            series: BTreeMap::new(),
        });
        *family.series.entry((series.to_owned(), render_labels(labels))).or_default() += value;
    }

    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.add(name, help, Kind::Counter, name, labels, value as f64);
    }

    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(name, help, Kind::Gauge, name, labels, value);
    }

    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.families {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "# HELP {name} {}", family.help.replace('\\', "\\\\").replace('\n', "\\n"));
            let _ = writeln!(text, "# TYPE {name} {kind}");
            for ((series, labels), value) in &family.series {
                let _ = writeln!(text, "{series}{labels} {value}");
            }
        }
        text
    }
}

fn render_labels(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_series_of_two_workers_add_up_under_one_header() {
        let mut exposition = Exposition::default();
        exposition.counter("b_total", "B.", &[("reason", "x")], 2);
        exposition.counter("b_total", "B.", &[("reason", "x")], 3);
        exposition.counter("b_total", "B.", &[("reason", "a\"b\\")], 1);
        exposition.gauge("a", "A.", &[], 0.5);
        assert_eq!(
            exposition.render(),
            "# HELP a A.\n# TYPE a gauge\na 0.5\n# HELP b_total B.\n# TYPE b_total counter\n\
             b_total{reason=\"a\\\"b\\\\\"} 1\nb_total{reason=\"x\"} 5\n"
        );
    }
}
