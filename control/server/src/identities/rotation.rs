//! A root's replacement, step by step, with every connected node waited for between the steps. It can be broken off after
//! any step: two roots are trusted until the last one, and the next run goes on where this one ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use xds::proto::identity as api;

use super::issuer::{IssueError, Issuer};
use super::records::Issued;
use crate::ca::Rotation;

/// How often nodes are looked at while they are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Nodes with an open stream of trust, and the revision that each has in force.
#[derive(Debug, Default)]
pub struct Followers(Mutex<BTreeMap<String, u64>>);

impl Followers {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    pub fn on_taken(&self, node: &str, revision: u64) {
        self.nodes().insert(node.to_owned(), revision);
    }

    pub fn on_left(&self, node: &str) {
        self.nodes().remove(node);
    }

    fn behind(&self, revision: u64) -> Vec<String> {
        let nodes = self.nodes();
        nodes.iter().filter(|(_, taken)| **taken < revision).map(|(node, _)| node.clone()).collect()
    }
}

/// One rotation, telling of each step.
#[derive(Debug)]
pub struct Rotate {
    pub issuer: Arc<Issuer>,
    pub followers: Arc<Followers>,
    pub wait: Duration,
    pub steps: mpsc::Sender<Result<api::RotationStep, tonic::Status>>,
}

impl Rotate {
    pub async fn run(self) {
        let text = match self.rotate().await {
            Ok(text) => text,
            Err(problem) => format!("stopped: {problem}"),
        };
        self.tell(text, true).await;
    }

    async fn rotate(&self) -> Result<String, IssueError> {
        if self.issuer.authority.next_step() == Rotation::Prepare {
            self.step(Rotation::Prepare).await?;
            self.tell(
                "1 of 3: a new root is made and sent to every node; the old one still signs".to_owned(),
                false,
            )
            .await;
        }
        if self.issuer.authority.next_step() == Rotation::Activate {
            let revision = self.issuer.states().borrow().revision;
            let behind = self.wait_while(|| self.followers.behind(revision)).await;
            if !behind.is_empty() {
                return Ok(self.later(&behind, "have not taken the new root"));
            }
            self.step(Rotation::Activate).await?;
            self.tell("2 of 3: the new root signs; nodes renew; both roots are trusted".to_owned(), false)
                .await;
        }
        if self.issuer.authority.next_step() == Rotation::Retire {
            let old = self.wait_for_renewals().await?;
            if !old.is_empty() {
                return Ok(self.later(&old, "still have certificates of the old root"));
            }
            self.step(Rotation::Retire).await?;
        }
        Ok("3 of 3: the old root is trusted no longer: done".to_owned())
    }

    async fn step(&self, step: Rotation) -> Result<(), IssueError> {
        self.issuer.authority.rotate(step).await?;
        self.issuer.refresh().await
    }

    fn later(&self, who: &[String], what: &str) -> String {
        format!(
            "stopped after {:?}: {} {what}; both roots stay trusted, and the same command goes on from here",
            self.wait,
            who.join(", ")
        )
    }

    /// Nodes and workloads without a certificate of the root that signs now.
    async fn wait_for_renewals(&self) -> Result<Vec<String>, IssueError> {
        let deadline = Instant::now() + self.wait;
        loop {
            let generation = self.issuer.states().borrow().generation;
            let records = self.issuer.records.clone();
            let issued = spawn_blocking(move || records.issued()).await.expect("a store does not panic")?;
            let old = without_new(&issued, generation);
            if old.is_empty() || Instant::now() >= deadline {
                return Ok(old);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn wait_while(&self, who: impl Fn() -> Vec<String>) -> Vec<String> {
        let deadline = Instant::now() + self.wait;
        loop {
            let waited_for = who();
            if waited_for.is_empty() || Instant::now() >= deadline {
                return waited_for;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn tell(&self, text: String, last: bool) {
        // Whoever asked may have left; the rotation goes on.
        drop(self.steps.send(Ok(api::RotationStep { text, last })).await);
    }
}

/// Holders of an older certificate who have no newer one. Operators renew by hand and are named too.
fn without_new(issued: &[(String, Issued)], generation: u64) -> Vec<String> {
    let holder = |issued: &Issued| (issued.id.clone(), issued.node.clone());
    let new: BTreeSet<_> =
        issued.iter().filter(|(_, one)| one.generation >= generation).map(|(_, one)| holder(one)).collect();
    let old = issued.iter().filter(|(_, one)| one.generation < generation && !new.contains(&holder(one)));
    old.map(|(_, one)| one.id.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_certificate_of_the_new_root_is_named_once() {
        let issued = |id: &str, generation| {
            let one = Issued { id: id.to_owned(), node: None, expires_unix: 0, generation };
            (format!("{id}{generation}"), one)
        };
        let all = [issued("a", 1), issued("a", 2), issued("b", 1), issued("b", 1), issued("c", 2)];
        assert_eq!(without_new(&all, 2), ["b"]);
        assert!(without_new(&all, 1).is_empty());
    }

    #[test]
    fn a_node_that_left_is_not_waited_for() {
        let followers = Followers::default();
        followers.on_taken("a", 1);
        followers.on_taken("b", 2);
        assert_eq!(followers.behind(2), ["a"]);
        followers.on_left("a");
        assert!(followers.behind(2).is_empty());
    }
}
