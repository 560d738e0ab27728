//! Was a retransmission needed at all? Two witnesses: the timestamp that the acknowledgement echoes is older than the
//! retransmission (Eifel detection, RFC 3522), or the peer reports as duplicate all that was sent again (RFC 2883, as
//! Linux and RFC 3708 use it). F-RTO, the third, has a file of its own.

use super::sequence::Seq;

/// Separate runs of numbers that a recovery may send again and still be undone by reports. More are no spurious
/// retransmission of one delayed run.
const MAX_RUNS: usize = 8;

/// What one recovery sent again.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Undo {
    /// The retransmission timer began it, not acknowledgements: RFC 3522's SPUR_TO.
    pub timeout: bool,
    /// The window was given back.
    settled: bool,
    /// An acceptable acknowledgement has come since the first retransmission (RFC 3522, section 3.2, step 3).
    acknowledged: bool,
    /// RetransmitTS in milliseconds of our clock (step 2).
    first_again_ms: Option<u32>,
    again: Runs,
}

impl Undo {
    pub(crate) fn new(timeout: bool) -> Self {
        Self { timeout, ..Self::default() }
    }

    /// The window was given back, whatever the witnesses say later.
    pub(crate) fn settle(&mut self) {
        self.settled = true;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// `start..end` goes out again; `oldest`: it is what SND.UNA waits for.
    pub(crate) fn on_sent_again(&mut self, (start, end): (Seq, Seq), oldest: bool, now_ms: u32) {
        if oldest && !self.acknowledged {
            self.first_again_ms.get_or_insert(now_ms);
        }
        self.again.add(start, end);
    }

    /// SND.UNA moved (RFC 3522, section 3.2, steps 3 to 5). True when it was the original that arrived. An
    /// acknowledgement that also reports a duplicate says that both did.
    pub(crate) fn is_of_the_original(&mut self, echo_ms: Option<u32>, reported: bool) -> bool {
        if std::mem::replace(&mut self.acknowledged, true) || self.settled || reported {
            return false;
        }
        let Some((echo, again)) = echo_ms.zip(self.first_again_ms) else { return false };
        (echo.wrapping_sub(again) as i32) < 0
    }

    /// The peer had `left..right` twice. True when that makes all that was sent again needless.
    pub(crate) fn on_reported(&mut self, left: Seq, right: Seq) -> bool {
        let some = !self.again.is_empty();
        self.again.remove(left, right);
        some && self.again.is_empty() && !self.again.unsure && !self.settled
    }
}

/// Runs of numbers that were sent again and not yet reported as duplicate.
#[derive(Copy, Clone, Debug, Default)]
struct Runs {
    len: u8,
    /// Something was sent a third time, or there were too many runs: reports no longer tell.
    unsure: bool,
    runs: [(Seq, Seq); MAX_RUNS],
}

impl Runs {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn add(&mut self, start: Seq, end: Seq) {
        let runs = &mut self.runs[..usize::from(self.len)];
        if runs.iter().any(|(left, right)| start.before(*right) && left.before(end)) {
            // Of two retransmissions one may have been needed.
            self.unsure = true;
        } else if let Some(run) = runs.iter_mut().find(|(_, right)| *right == start) {
            run.1 = end;
        } else {
            self.push(start, end);
        }
    }

    fn push(&mut self, start: Seq, end: Seq) {
        match self.runs.get_mut(usize::from(self.len)) {
            Some(run) => {
                *run = (start, end);
                self.len += 1;
            }
            None => self.unsure = true,
        }
    }

    fn remove(&mut self, left: Seq, right: Seq) {
        let runs = std::mem::take(&mut self.len);
        for (start, end) in self.runs.into_iter().take(usize::from(runs)) {
            for (start, end) in [(start, end.min(left.max(start))), (start.max(right.min(end)), end)] {
                if start.before(end) {
                    self.push(start, end);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn again(runs: &[(u32, u32)]) -> Undo {
        let mut undo = Undo::new(false);
        runs.iter().for_each(|(start, end)| undo.on_sent_again((Seq(*start), Seq(*end)), *start == 0, 70));
        undo
    }

    #[test]
    fn an_echo_older_than_the_retransmission_is_of_the_original() {
        assert!(again(&[(0, 100)]).is_of_the_original(Some(69), false));
        assert!(!again(&[(0, 100)]).is_of_the_original(Some(70), false));
        assert!(!again(&[(0, 100)]).is_of_the_original(None, false), "no timestamps");
        assert!(!again(&[(0, 100)]).is_of_the_original(Some(69), true), "RFC 3522, step 5");
        assert!(
            !again(&[(300, 400)]).is_of_the_original(Some(69), false),
            "it was not what SND.UNA waits for"
        );
    }

    #[test]
    fn only_the_first_acceptable_acknowledgement_is_a_witness() {
        let mut undo = again(&[(0, 100)]);
        assert!(!undo.is_of_the_original(Some(71), false));
        assert!(!undo.is_of_the_original(Some(69), false));
    }

    #[test]
    fn reports_of_all_that_was_sent_again_undo_once() {
        let mut undo = again(&[(0, 100), (100, 200), (500, 600)]);
        assert!(!undo.on_reported(Seq(0), Seq(200)));
        assert!(!undo.on_reported(Seq(700), Seq(800)), "a duplicate that the network made");
        assert!(undo.on_reported(Seq(500), Seq(600)));
        undo.settle();
        assert!(!undo.on_reported(Seq(500), Seq(600)));
    }

    #[test]
    fn what_was_sent_a_third_time_is_not_undone_by_reports() {
        assert!(!again(&[(0, 100), (0, 100)]).on_reported(Seq(0), Seq(100)));
    }

    proptest! {
        /// All is reported when every number was, and never before.
        #[test]
        fn runs_behave_as_a_set_of_numbers(
            base: u32,
            sent in prop::collection::vec((0u32..60, 1u32..8), 1..6),
            reports in prop::collection::vec((0u32..60, 1u32..20), 1..20),
        ) {
            let (base, mut undo, mut model) = (Seq(base), Undo::new(false), BTreeSet::new());
            let mut twice = false;
            for (start, len) in sent {
                undo.on_sent_again((base + start, base + (start + len)), false, 0);
                twice |= !(start..start + len).all(|number| model.insert(number));
            }
            for (left, len) in reports {
                let some = !model.is_empty();
                model.retain(|number| !(left..left + len).contains(number));
                let all = undo.on_reported(base + left, base + (left + len));
                if all {
                    prop_assert!(some && !twice);
                }
                if !undo.again.unsure {
                    prop_assert_eq!(all, some && model.is_empty());
                    prop_assert_eq!(undo.again.is_empty(), model.is_empty());
                }
            }
        }
    }
}
