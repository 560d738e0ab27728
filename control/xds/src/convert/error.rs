//! Why a table cannot be said, or a resource not be read: which resource, which field, what is wrong with it.

use std::fmt;

use crate::snapshot::ResourceType;

/// Names resource and field; what a NACK carries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?}: {path}: {problem}")]
pub struct ConvertError {
    pub kind: ResourceType,
    pub name: String,
    /// `virtual_hosts[0].routes[2].match`.
    pub path: String,
    pub problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    Missing,
    /// A type or choice that we do not serve; the text names it.
    Unsupported(String),
    /// A value outside of what the field may hold; the text says what may.
    OutOfRange(String),
    /// Bytes that are not the message they claim to be.
    Undecodable(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Missing => write!(f, "required, but absent"),
            Problem::Unsupported(what) => write!(f, "{what} is not supported"),
            Problem::OutOfRange(what) => write!(f, "{what}"),
            Problem::Undecodable(why) => write!(f, "cannot be decoded: {why}"),
        }
    }
}

/// A problem on its way out of nested messages; each level puts its own name in front.
#[derive(Debug)]
pub(super) struct FieldError {
    path: String,
    problem: Problem,
}

impl FieldError {
    pub(super) fn missing(path: &str) -> Self {
        FieldError { path: path.to_owned(), problem: Problem::Missing }
    }

    pub(super) fn unsupported(path: &str, what: impl Into<String>) -> Self {
        FieldError { path: path.to_owned(), problem: Problem::Unsupported(what.into()) }
    }

    pub(super) fn out_of_range(path: &str, what: impl Into<String>) -> Self {
        FieldError { path: path.to_owned(), problem: Problem::OutOfRange(what.into()) }
    }

    pub(super) fn undecodable(path: &str, why: impl fmt::Display) -> Self {
        FieldError { path: path.to_owned(), problem: Problem::Undecodable(why.to_string()) }
    }

    pub(super) fn within(mut self, outer: &str) -> Self {
        self.path = format!("{outer}.{}", self.path);
        self
    }

    pub(super) fn of(self, kind: ResourceType, name: &str) -> ConvertError {
        ConvertError { kind, name: name.to_owned(), path: self.path, problem: self.problem }
    }
}
