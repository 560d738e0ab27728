//! Time passes for a connection: retransmission, probes, delayed acknowledgement, keepalive and lingering.

use std::time::Duration;

use super::TcpError;
use super::connection::{Connection, Effects, LossTimer, NEVER, Probe, State};
use super::memory::Pool;
use crate::Instant;

/// R2 (RFC 9293, section 3.8.3): with backoff about a quarter of an hour. Linux's tcp_retries2.
const MAX_TIMEOUTS: u8 = 15;
/// The same when no user waits any more. Linux's tcp_orphan_retries.
const MAX_ORPHAN_TIMEOUTS: u8 = 8;
/// Linux's tcp_keepalive_intvl and tcp_keepalive_probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
const KEEPALIVE_PROBES: u8 = 9;
/// How long an orphan waits for the peer's FIN. Linux's tcp_fin_timeout.
const LINGER: Duration = Duration::from_secs(60);

impl Connection {
    /// Does what is due. A wheel entry may fire before anything is.
    pub(crate) fn on_deadline(&mut self, pool: &mut Pool, now: Instant) {
        if self.deadlines.delayed_ack_at <= now {
            self.deadlines.delayed_ack_at = NEVER;
            self.acknowledge_now();
        }
        if self.deadlines.pace_at <= now {
            self.deadlines.pace_at = NEVER;
            self.effects.add(Effects::TRANSMIT);
        }
        if self.deadlines.loss_at <= now {
            let timer = self.deadlines.loss;
            self.deadlines.clear_loss();
            match timer {
                LossTimer::None => {}
                LossTimer::Retransmit => self.on_retransmission_timeout(pool, now),
                LossTimer::TailProbe => self.on_probe_timeout(now),
                LossTimer::Reorder => self.on_reorder_timeout(now),
                LossTimer::Persist => self.on_persist_timeout(pool),
            }
        }
        if self.deadlines.user_at <= now {
            self.deadlines.user_at = NEVER;
            self.on_user_deadline(pool, now);
        }
    }

    /// RFC 6298 (5.4) to (5.7).
    fn on_retransmission_timeout(&mut self, pool: &mut Pool, now: Instant) {
        let recovery = &mut self.recovery;
        recovery.timeouts = recovery.timeouts.saturating_add(1);
        if recovery.timeouts > self.most_timeouts() {
            let error = self.timeout_error();
            return self.finish(Some(error), pool);
        }
        let recovery = &mut self.recovery;
        recovery.rtt.back_off();
        if self.state.is_synchronized() {
            self.enter_loss(now);
            self.check_path(now);
        } else {
            self.send.probe = Probe::Handshake;
            self.ecn.on_syn_timeout();
        }
        self.deadlines.set_loss(LossTimer::Retransmit, self.recovery.rtt.timeout_from(now));
        self.effects.add(Effects::TRANSMIT);
    }

    /// RFC 8985, section 7.3. The probe goes out with the next transmission; until then the retransmission timer runs.
    fn on_probe_timeout(&mut self, now: Instant) {
        self.send.probe = Probe::Tail;
        self.deadlines.set_loss(LossTimer::Retransmit, self.recovery.rtt.timeout_from(now));
        self.effects.add(Effects::TRANSMIT);
    }

    fn on_reorder_timeout(&mut self, now: Instant) {
        let wait = self.find_losses(self.send.flight(), 0, now);
        self.arm_loss_timer(wait, now);
        self.effects.add(Effects::TRANSMIT);
    }

    /// RFC 9293, section 3.8.6.1: a live peer may keep its window closed for ever; a silent one may not.
    fn on_persist_timeout(&mut self, pool: &mut Pool) {
        let silent = self.user.timeout_ms == 0 && self.user.unanswered_probes >= MAX_TIMEOUTS;
        let gives_up = silent || (self.user.orphan && self.recovery.rtt.backoff() >= MAX_ORPHAN_TIMEOUTS);
        if gives_up {
            let error = self.timeout_error();
            return self.reset(Some(error), pool);
        }
        if self.send.window_room() > 0 {
            // The override of silly-window avoidance (RFC 9293, section 3.8.6.2.1).
            self.send.small_allowed = true;
        } else {
            self.send.probe = Probe::Alive;
            self.user.unanswered_probes = self.user.unanswered_probes.saturating_add(1);
        }
        self.recovery.rtt.back_off();
        self.effects.add(Effects::TRANSMIT);
    }

    fn on_user_deadline(&mut self, pool: &mut Pool, now: Instant) {
        match self.state {
            State::SynSent | State::SynReceived { .. } => {
                let error = self.timeout_error();
                self.finish(Some(error), pool);
            }
            State::Closed(_) => {}
            State::FinWait2 if self.user.orphan => self.finish(None, pool),
            _ if self.user_timeout_at(now) <= now => {
                let error = self.timeout_error();
                self.reset(Some(error), pool);
            }
            _ => {
                self.check_alive(pool, now);
                self.deadlines.user_at = self.deadlines.user_at.min(self.user_timeout_at(now));
            }
        }
    }

    /// Something waits for an acknowledgement, or for the window to open, and did not before.
    pub(crate) fn await_progress(&mut self, now: Instant) {
        if self.user.timeout_ms > 0 && self.state.is_synchronized() {
            self.send.progress_at_ms = now.as_millis() as u32;
            self.deadlines.user_at = self.deadlines.user_at.min(now + self.user_timeout());
        }
    }

    /// When what waits has waited for too long (RFC 9293, section 3.9.1, user timeout; RFC 5482, section 3).
    fn user_timeout_at(&self, now: Instant) -> Instant {
        let waits = self.send.flight() > 0 || self.send.unsent() > 0;
        if self.user.timeout_ms == 0 || !waits {
            return NEVER;
        }
        let waited_ms = (now.as_millis() as u32).wrapping_sub(self.send.progress_at_ms);
        now + Duration::from_millis(u64::from(self.user.timeout_ms.saturating_sub(waited_ms)))
    }

    fn user_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.user.timeout_ms))
    }

    /// RFC 9293, section 3.8.4.
    fn check_alive(&mut self, pool: &mut Pool, now: Instant) {
        let idle = Duration::from_secs(u64::from(self.user.keepalive_seconds));
        let due = self.user.last_heard_at + idle;
        if idle.is_zero() {
            return;
        }
        if due > now {
            self.deadlines.user_at = due;
            return;
        }
        // What is in flight, or held back by the peer's window, has its own timer to notice a dead peer.
        if self.send.flight() > 0 || self.send.unsent() > 0 {
            self.deadlines.user_at = now + KEEPALIVE_INTERVAL;
            return;
        }
        if self.is_deaf(now) {
            let error = self.timeout_error();
            return self.reset(Some(error), pool);
        }
        self.user.unanswered_probes = self.user.unanswered_probes.saturating_add(1);
        self.send.probe = Probe::Alive;
        self.deadlines.user_at = now + KEEPALIVE_INTERVAL;
        self.effects.add(Effects::TRANSMIT);
    }

    /// Nine probes without an answer, or with a user timeout as many as fit it (RFC 5482, section 4.2).
    fn is_deaf(&self, now: Instant) -> bool {
        match self.user.timeout_ms {
            0 => self.user.unanswered_probes >= KEEPALIVE_PROBES,
            _ => self.user.unanswered_probes > 0 && now.since(self.user.last_heard_at) >= self.user_timeout(),
        }
    }

    pub(crate) fn set_keepalive(&mut self, now: Instant) {
        self.deadlines.user_at = match self.user.keepalive_seconds {
            0 => NEVER,
            seconds => now + Duration::from_secs(u64::from(seconds)),
        };
    }

    /// An orphan in FIN-WAIT-2 does not wait for ever; one with a user does (half-close as long as wanted).
    pub(crate) fn set_linger(&mut self, now: Instant) {
        if self.user.orphan && self.state == State::FinWait2 {
            self.deadlines.user_at = now + LINGER;
        }
    }

    /// A user timeout says itself how long, also if that is longer (RFC 5482, section 1).
    fn most_timeouts(&self) -> u8 {
        match self.user.timeout_ms {
            _ if self.user.orphan => MAX_ORPHAN_TIMEOUTS,
            0 => MAX_TIMEOUTS,
            _ => u8::MAX,
        }
    }

    fn timeout_error(&self) -> TcpError {
        if self.user.soft_error { TcpError::Unreachable } else { TcpError::TimedOut }
    }
}
