//! Startup: twice the rate each round, until the pipe is full (section 5.3.1). Drain follows, until the queue that this
//! built is gone.

use super::signals::LEVEL;
use super::{Bbr, State};
use crate::tcp::congestion::algorithm::{Acked, Window};
use crate::tcp::congestion::rate::RateSample;

impl Bbr {
    pub(super) fn check_startup_done(&mut self, window: &Window, sample: &RateSample) {
        if self.state != State::Startup {
            return;
        }
        if !self.full.reached && self.rounds.loss_start && self.was_round_too_lossy(window, sample) {
            self.full.reached = true;
            self.bounds.long_term = self.fill(window, LEVEL).max(self.bandwidth.latest_delivered);
        }
        if self.full.reached {
            self.state = State::Drain;
            self.rounds.restart(sample);
        }
    }

    pub(super) fn check_drain_done(&mut self, window: &Window, acked: &Acked) {
        if self.state == State::Drain && u64::from(acked.pipe) <= self.target(window, LEVEL) {
            self.begin_down(acked.now);
        }
    }
}
