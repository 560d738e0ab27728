//! Collects what is wrong with a resource, in the order of finding.

use std::collections::BTreeSet;

use crate::field::FieldError;

#[derive(Default)]
pub(super) struct Report {
    pub errors: Vec<FieldError>,
}

impl Report {
    pub fn refuse(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.errors.push(FieldError::new(field, problem));
    }

    pub fn check(&mut self, field: impl Into<String>, result: Result<(), String>) {
        if let Err(problem) = result {
            self.refuse(field, problem);
        }
    }

    pub fn check_when(&mut self, holds: bool, field: impl Into<String>, problem: impl Into<String>) {
        if !holds {
            self.refuse(field, problem);
        }
    }

    pub fn at_most(&mut self, most: usize, count: usize, field: &str) {
        self.check_when(count <= most, field, format!("has {count} entries; at most {most} are allowed"));
    }

    pub fn port(&mut self, port: u16, field: impl Into<String>) {
        self.check_when(port != 0, field, "expected a port number from 1 to 65535");
    }

    /// Refuses each entry whose key an earlier one has.
    pub fn unique<K: Ord>(&mut self, keys: impl IntoIterator<Item = K>, list: &str, what: &str) {
        let mut seen = BTreeSet::new();
        for (index, key) in keys.into_iter().enumerate() {
            self.check_when(
                seen.insert(key),
                format!("{list}[{index}]"),
                format!("an earlier entry has the same {what}"),
            );
        }
    }
}
