//! What nodes said to the tables that they were sent.

use std::collections::BTreeMap;

/// What a node said to the last table it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeAnswer {
    Acknowledged,
    Pending,
    /// NACK of a part of it. The node serves by what it had of that part.
    Refused(Refused),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The node's own, for each part that it refused.
    pub words: Vec<String>,
    /// It serves by the rest of the table.
    pub rest_acknowledged: bool,
}

/// By node's name. A node without an answer is pending.
pub type Answers = BTreeMap<String, NodeAnswer>;
