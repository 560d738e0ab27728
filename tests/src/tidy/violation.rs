//! One thing that is not as the design draws it.

use std::fmt;

/// Where, what, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub place: String,
    pub what: String,
}

impl Violation {
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}
