//! The node's limits, which its workers share: every 100 ms what some do not use moves to those that are short of it.
//!
//! A limit that somebody is short of is moved in three steps, each a question to every worker: what do you hold; take
//! (nobody gives up what is in use); give what was really taken. So the parts never add up to more than the limit,
//! whatever connects between two steps, and whoever does not answer ends the move before anything is given. What was
//! taken and not given is found by the next move, since it begins with what the workers hold and remembers nothing.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use proxy::Proxy;
use socket::Holding;
use worker::Worker;

use crate::config::NodeLimits;
use crate::node::Node;

/// How often parts move (DESIGN, section 4).
const INTERVAL: Duration = Duration::from_millis(100);
/// Limits moved at one time; the others come 100 ms later.
const LIMITS_PER_MOVE: usize = 64;

/// A limit of the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    DatagramSessions,
    Connections { listener: String },
}

/// Runs until the runtime ends.
pub async fn run(node: Rc<Node>) {
    if node.workers() == 1 {
        return;
    }
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        // A table that appears between two steps would bring listeners whose parts are even again.
        let _no_table = node.pause_tables().await;
        if let Err(error) = move_shares(&node).await {
            tracing::warn!(error, "limits stay as they are shared");
        }
    }
}

async fn move_shares(node: &Node) -> Result<(), String> {
    let short = node.ask_all(|worker, _now| short_of(worker)).await?;
    let short: BTreeSet<Limit> = short.into_iter().flatten().collect();
    for limit in short.into_iter().take(LIMITS_PER_MOVE) {
        move_share(node, &Arc::new(limit)).await?;
    }
    Ok(())
}

async fn move_share(node: &Node, limit: &Arc<Limit>) -> Result<(), String> {
    let asked = Arc::clone(limit);
    let holdings = node.ask_all(move |worker, _now| asked.holding(worker)).await?;
    // A listener that not every worker has is about to go or to come.
    let Some(holdings) = holdings.into_iter().collect::<Option<Vec<_>>>() else { return Ok(()) };
    let total = limit.of(&node.config.limits);
    let targets = deal(total, &holdings);
    let lowered = targets.iter().zip(&holdings).map(|(&target, held)| target.min(held.granted)).collect();
    let taken = grant(node, limit, lowered).await?;
    grant(node, limit, top_up(total, &taken, &targets)).await?;
    Ok(())
}

/// Sets each worker's share, in the order of their numbers; what they became.
async fn grant(node: &Node, limit: &Arc<Limit>, shares: Vec<usize>) -> Result<Vec<usize>, String> {
    let limit = Arc::clone(limit);
    node.ask_all(move |worker, _now| limit.grant(worker, shares[worker.number()])).await
}

/// What each should have: what it uses; and of what nobody uses one half in equal parts, so that none is refused its
/// first, and the rest for those that are short.
fn deal(total: usize, holdings: &[Holding]) -> Vec<usize> {
    let short = holdings.iter().filter(|holding| holding.short).count();
    if short == 0 {
        return holdings.iter().map(|holding| holding.granted).collect();
    }
    let used: usize = holdings.iter().map(|holding| holding.used).sum();
    let free = total.saturating_sub(used);
    let even = free / 2 / holdings.len();
    let rest = free - even * holdings.len();
    let mut shares: Vec<usize> = holdings.iter().map(|holding| holding.used + even).collect();
    // What does not divide goes first to those that refused somebody, and of these to who uses least.
    let mut asking: Vec<usize> = (0..holdings.len()).filter(|&worker| holdings[worker].short).collect();
    asking.sort_by_key(|&worker| (!holdings[worker].refused, holdings[worker].used));
    for (place, worker) in asking.into_iter().enumerate() {
        shares[worker] += rest / short + usize::from(place < rest % short);
    }
    shares
}

/// The shares after what is left of `total` was given out, to each at most up to its target.
fn top_up(total: usize, taken: &[usize], targets: &[usize]) -> Vec<usize> {
    let mut left = total.saturating_sub(taken.iter().sum());
    let give = |(&held, &target): (&usize, &usize)| {
        let more = target.saturating_sub(held).min(left);
        left -= more;
        held + more
    };
    taken.iter().zip(targets).map(give).collect()
}

fn short_of(worker: &mut Worker<Proxy>) -> Vec<Limit> {
    let listeners = worker.application.listeners_short_of_connections();
    let mut short: Vec<Limit> =
        listeners.into_iter().map(|listener| Limit::Connections { listener }).collect();
    if worker.core.stack().session_share().short {
        short.push(Limit::DatagramSessions);
    }
    short
}

impl Limit {
    fn of(&self, limits: &NodeLimits) -> usize {
        match self {
            Self::DatagramSessions => limits.datagram_sessions,
            Self::Connections { .. } => limits.connections_per_listener,
        }
    }

    /// `None`: the worker has no such listener.
    fn holding(&self, worker: &mut Worker<Proxy>) -> Option<Holding> {
        match self {
            Self::DatagramSessions => Some(worker.core.stack().session_share()),
            Self::Connections { listener } => worker.application.connection_share(listener),
        }
    }

    /// What the share became.
    fn grant(&self, worker: &mut Worker<Proxy>, share: usize) -> usize {
        match self {
            Self::DatagramSessions => worker.core.stack().grant_sessions(share).granted,
            Self::Connections { listener } => {
                worker.application.grant_connections(listener, share).map_or(0, |holding| holding.granted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use socket::Share;

    use super::*;

    /// A worker as the moves see it.
    struct Each {
        share: Share,
        used: usize,
    }

    impl Each {
        fn crew(total: usize, workers: u16) -> Vec<Self> {
            (0..workers).map(|number| Self { share: Share::even(total, number, workers), used: 0 }).collect()
        }

        fn open(&mut self) -> bool {
            let admitted = self.share.admits(self.used);
            self.used += usize::from(admitted);
            admitted
        }
    }

    fn holdings(crew: &[Each]) -> Vec<Holding> {
        crew.iter().map(|each| each.share.holding(each.used)).collect()
    }

    fn granted(crew: &[Each]) -> usize {
        holdings(crew).iter().map(|holding| holding.granted).sum()
    }

    fn grant_all(crew: &[Each], shares: &[usize]) -> Vec<usize> {
        crew.iter().zip(shares).map(|(each, &share)| each.share.grant(share, each.used).granted).collect()
    }

    /// A whole move; `between` happens before the second and before the third step. It ends early where an answer is
    /// missing.
    fn move_share(total: usize, crew: &mut [Each], answers: [bool; 2], mut between: impl FnMut(&mut [Each])) {
        let held = holdings(crew);
        let targets = deal(total, &held);
        between(crew);
        let lowered: Vec<usize> = targets.iter().zip(&held).map(|(&to, held)| to.min(held.granted)).collect();
        if !answers[0] {
            return;
        }
        let taken = grant_all(crew, &lowered);
        between(crew);
        if answers[1] {
            grant_all(crew, &top_up(total, &taken, &targets));
        }
    }

    #[test]
    fn one_of_two_workers_gets_what_the_other_does_not_use() {
        let mut crew = Each::crew(10, 2);
        let mut open = 0;
        for _move in 0..5 {
            while crew[0].open() {
                open += 1;
            }
            move_share(10, &mut crew, [true; 2], |_| ());
        }
        assert_eq!((open, granted(&crew)), (10, 10), "the whole limit, and no more");
        assert!(!crew[1].open());
        crew[0].used -= 1;
        move_share(10, &mut crew, [true; 2], |_| ());
        assert!(crew[1].open() && !crew[1].open() && !crew[0].open(), "what is given back serves the other");
    }

    #[test]
    fn who_is_not_short_keeps_some_for_its_first() {
        let mut crew = Each::crew(100, 2);
        while crew[0].open() {}
        move_share(100, &mut crew, [true; 2], |_| ());
        let shares: Vec<usize> = holdings(&crew).iter().map(|holding| holding.granted).collect();
        assert_eq!(shares, [88, 12]);
    }

    #[test]
    fn with_fewer_than_there_are_workers_the_one_that_asks_gets_it() {
        let mut crew = Each::crew(1, 4);
        assert!(!crew[3].open());
        move_share(1, &mut crew, [true; 2], |_| ());
        assert!(crew[3].open());
        assert!(!crew[0].open());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Open(usize),
        Close(usize),
        Move { answers: [bool; 2], between: Vec<usize> },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..4usize).prop_map(Step::Open),
            2 => (0..4usize).prop_map(Step::Close),
            2 => (any::<[bool; 2]>(), prop::collection::vec(0..4usize, 0..6))
                .prop_map(|(answers, between)| Step::Move { answers, between }),
        ]
    }

    proptest! {
        #[test]
        fn shares_never_add_up_to_more_than_the_limit(
            total in 0..40usize,
            workers in 1..5u16,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut crew = Each::crew(total, workers);
            let of = |number: usize| number % usize::from(workers);
            for step in steps {
                match step {
                    Step::Open(number) => {
                        crew[of(number)].open();
                    }
                    Step::Close(number) => {
                        let each = &mut crew[of(number)];
                        each.used = each.used.saturating_sub(1);
                    }
                    Step::Move { answers, between } => {
                        move_share(total, &mut crew, answers, |crew| {
                            for &number in &between {
                                crew[of(number)].open();
                            }
                        });
                    }
                }
                prop_assert!(granted(&crew) <= total);
                prop_assert!(crew.iter().all(|each| each.used <= each.share.holding(each.used).granted));
            }
            // Undisturbed moves bring everything that is free to who wants it.
            let in_use = |crew: &[Each]| crew.iter().map(|each| each.used).sum::<usize>();
            for _move in 0..20 {
                while crew[0].open() {}
                move_share(total, &mut crew, [true; 2], |_| ());
            }
            prop_assert_eq!(in_use(&crew), total);
        }
    }
}
