//! Prometheus text (exposition format 0.0.4) from what workers, stacks, queue pairs and proxies counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

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

/// A family's head.
#[derive(Copy, Clone, Debug)]
pub struct Described<'a> {
    pub name: &'a str,
    pub help: &'a str,
    pub kind: Kind,
}

#[derive(Debug)]
struct Family {
    help: String,
    kind: Kind,
    /// By series: the name with its suffix, and the rendered labels.
    series: BTreeMap<(String, String), f64>,
}

impl Exposition {
    /// Adds one sample. `name` is the family's, or for a histogram the family's with `_bucket`, `_sum` or `_count`.
    pub fn add(&mut self, family: &Described<'_>, name: &str, labels: &[(&str, &str)], value: f64) {
        let found = self.families.entry(family.name.to_owned()).or_insert_with(|| Family {
            help: family.help.to_owned(),
            kind: family.kind,
            series: BTreeMap::new(),
        });
        *found.series.entry((name.to_owned(), render_labels(labels))).or_default() += value;
    }

    pub fn counter(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: u64) {
        self.add(&Described { name, help, kind: Kind::Counter }, name, labels, value as f64);
    }

    /// A counter of seconds.
    pub fn seconds(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: Duration) {
        self.add(&Described { name, help, kind: Kind::Counter }, name, labels, value.as_secs_f64());
    }

    pub fn gauge(&mut self, name: &str, help: &str, labels: &[(&str, &str)], value: f64) {
        self.add(&Described { name, help, kind: Kind::Gauge }, name, labels, value);
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
