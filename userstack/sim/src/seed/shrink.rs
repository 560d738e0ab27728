//! The shortest plan that still fails: delta debugging (Zeller and Hildebrandt, 2002) over faults and conversations, then
//! fewer bytes.

use super::plan::Plan;

/// Plays that one search makes at most: a failure is shown after seconds, not after minutes.
const MOST_PLAYS: usize = 400;

/// The smallest plan found for which `fails` still holds, as it does for `plan`.
pub fn shrink(plan: &Plan, mut fails: impl FnMut(&Plan) -> bool) -> Plan {
    let mut search = Search { best: plan.clone(), plays: 0 };
    loop {
        let before = search.best.clone();
        search.cut(|plan| &mut plan.conversations, &mut fails);
        search.cut(|plan| &mut plan.faults, &mut fails);
        search.shorten(&mut fails);
        if search.best == before || search.plays >= MOST_PLAYS {
            return search.best;
        }
    }
}

struct Search {
    best: Plan,
    plays: usize,
}

impl Search {
    fn offer(&mut self, plan: Plan, fails: &mut impl FnMut(&Plan) -> bool) -> bool {
        if self.plays >= MOST_PLAYS || plan == self.best {
            return false;
        }
        self.plays += 1;
        let taken = fails(&plan);
        if taken {
            self.best = plan;
        }
        taken
    }

    /// Leaves parts of a list out: halves first, single entries last.
    fn cut<T: Clone + PartialEq>(
        &mut self,
        list: impl Fn(&mut Plan) -> &mut Vec<T>,
        fails: &mut impl FnMut(&Plan) -> bool,
    ) {
        let mut size = list(&mut self.best).len().div_ceil(2);
        while size > 0 {
            let mut start = 0;
            while start < list(&mut self.best).len() {
                let mut plan = self.best.clone();
                let entries = list(&mut plan);
                entries.drain(start..(start + size).min(entries.len()));
                if !self.offer(plan, fails) {
                    start += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
    }

    /// Fewer bytes in each conversation.
    fn shorten(&mut self, fails: &mut impl FnMut(&Plan) -> bool) {
        for index in 0..self.best.conversations.len() {
            for part in [0, 8, 2] {
                let mut plan = self.best.clone();
                let conversation = &mut plan.conversations[index];
                let less = |bytes: u32| bytes.checked_div(part).unwrap_or(0);
                (conversation.upload, conversation.download) =
                    (less(conversation.upload), less(conversation.download));
                if self.offer(plan, fails) {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failure_does_not_need_is_cut_off() {
        let plan = Plan::from_seed(5);
        let culprit = plan.conversations[7].number;
        let fault = plan.faults[1];
        let shortest = shrink(&plan, |plan| {
            plan.conversations.iter().any(|one| one.number == culprit) && plan.faults.contains(&fault)
        });
        assert_eq!((shortest.conversations.len(), shortest.faults.len()), (1, 1));
        assert_eq!((shortest.conversations[0].upload, shortest.faults[0]), (0, fault));
    }
}
