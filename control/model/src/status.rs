//! `status` of resources: conditions as the Gateway API has them.

use serde::{Deserialize, Serialize};

/// One struct for all kinds; a kind uses the fields that the Gateway API gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// GatewayClass, Gateway, Service, Workload.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Gateway: the addresses that it is served at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<StatusAddress>,
    /// Gateway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
    /// Routes: one for each of `spec.parentRefs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<ParentStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: Truth,
    /// CamelCase, for programs.
    pub reason: String,
    /// For people.
    #[serde(default)]
    pub message: String,
    #[serde(default)]
    pub observed_generation: u64,
    /// RFC 3339; the time of the last change of `status`. [`Status::stamped`] fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<String>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl From<bool> for Truth {
    fn from(value: bool) -> Truth {
        if value { Truth::True } else { Truth::False }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusAddress {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    pub name: String,
    pub supported_kinds: Vec<SupportedKind>,
    pub attached_routes: u32,
    pub conditions: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportedKind {
    pub group: String,
    pub kind: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentStatus {
    pub parent_ref: crate::route::ParentRef,
    pub controller_name: String,
    pub conditions: Vec<Condition>,
}

impl Status {
    pub fn is_empty(&self) -> bool {
        *self == Status::default()
    }

    /// This status with `lastTransitionTime` filled in: `previous`' where a condition has not changed its truth,
    /// `now` (RFC 3339) where it has.
    pub fn stamped(mut self, previous: &Status, now: &str) -> Status {
        stamp(&mut self.conditions, &previous.conditions, now);
        for listener in &mut self.listeners {
            let before = previous.listeners.iter().find(|before| before.name == listener.name);
            stamp(&mut listener.conditions, before.map_or(&[], |before| &before.conditions), now);
        }
        for parent in &mut self.parents {
            let before = previous.parents.iter().find(|before| before.parent_ref == parent.parent_ref);
            stamp(&mut parent.conditions, before.map_or(&[], |before| &before.conditions), now);
        }
        self
    }

    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }
}

impl ListenerStatus {
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }
}

impl ParentStatus {
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        find(&self.conditions, kind)
    }
}

fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.kind == kind)
}

fn stamp(conditions: &mut [Condition], previous: &[Condition], now: &str) {
    for condition in conditions {
        let before = find(previous, &condition.kind).filter(|before| before.status == condition.status);
        let time = before.and_then(|before| before.last_transition_time.clone());
        condition.last_transition_time = Some(time.unwrap_or_else(|| now.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(status: Truth) -> Status {
        let condition = Condition {
            kind: "Accepted".into(),
            status,
            reason: "Accepted".into(),
            message: String::new(),
            observed_generation: 1,
            last_transition_time: None,
        };
        Status { conditions: vec![condition], ..Status::default() }
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_truth_changes() {
        let first = accepted(Truth::True).stamped(&Status::default(), "2026-01-01T00:00:00Z");
        let same = accepted(Truth::True).stamped(&first, "2026-01-02T00:00:00Z");
        assert_eq!(same, first);
        let changed = accepted(Truth::False).stamped(&same, "2026-01-03T00:00:00Z");
        assert_eq!(changed.conditions[0].last_transition_time.as_deref(), Some("2026-01-03T00:00:00Z"));
    }
}
