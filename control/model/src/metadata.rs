//! `metadata` of every resource.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a resource without `metadata.namespace` lives.
pub const DEFAULT_NAMESPACE: &str = "default";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    pub name: String,
    /// Empty for kinds that have none; `default` where a file says nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The store's; changes with every write.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Grows with every change of `spec`; what `observedGeneration` in a condition refers to.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// RFC 3339 in UTC with whole seconds (`2026-01-31T12:00:00Z`), so that text order is the order of time: the
    /// Gateway API's ties go to the older resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
