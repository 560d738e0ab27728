//! What the user asks of one connection.

use std::task::Poll;

use super::connection::{Connection, Effects, State};
use super::memory::Pool;
use super::{Splice, TcpError};
use crate::Instant;

impl Connection {
    pub(crate) fn connected(&self) -> Poll<Result<(), TcpError>> {
        match self.state {
            State::SynSent | State::SynReceived { .. } => Poll::Pending,
            State::Closed(Some(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn read_with(
        &mut self,
        limit: usize,
        take: impl FnMut(&[u8]),
        pool: &mut Pool,
        now: Instant,
    ) -> Poll<Result<usize, TcpError>> {
        if !self.receive.ring.is_empty() {
            let taken = self.receive.ring.read_with(limit, take);
            self.on_read(pool, now);
            return Poll::Ready(Ok(taken));
        }
        self.read_end()
    }

    fn on_read(&mut self, pool: &mut Pool, now: Instant) {
        if self.receive.ring.is_empty() && self.receive.assembler.is_empty() {
            self.receive.ring.release(pool);
        }
        self.tune_receive(now);
        self.receive.ask_for_memory(pool);
        self.offer_window();
    }

    /// What a reader hears when there is nothing to read.
    fn read_end(&self) -> Poll<Result<usize, TcpError>> {
        match self.state {
            _ if self.receive.finished() => Poll::Ready(Ok(0)),
            State::Closed(None) => Poll::Ready(Ok(0)),
            State::Closed(Some(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }

    /// Moves what can be read to `to`, as a read and a write of it would. The bytes are copied once, or not at all when
    /// `to` has nothing to send: then the buffer itself changes hands.
    pub(crate) fn splice(
        &mut self,
        to: &mut Self,
        pool: &mut Pool,
        now: Instant,
    ) -> Result<Splice, TcpError> {
        if self.receive.ring.is_empty() {
            return Ok(match self.read_end() {
                Poll::Ready(end) => end.map(|_zero| Splice::Ended)?,
                Poll::Pending => Splice::AwaitsText,
            });
        }
        let wanted = self.receive.ring.len();
        let whole = to.send.ring.capacity() == 0 && self.receive.assembler.is_empty();
        if whole && wanted <= to.send.limit as usize && to.state.is_synchronized() && !to.send.fin_queued {
            self.receive.ring.hand_over(&mut to.send.ring);
            to.on_written();
            self.on_read(pool, now);
            return Ok(Splice::Moved(wanted));
        }
        let written = to.write(&self.receive.ring.slices(0, wanted), pool);
        let Poll::Ready(moved) = written? else { return Ok(Splice::AwaitsRoom) };
        self.receive.ring.consume(moved);
        self.on_read(pool, now);
        Ok(Splice::Moved(moved))
    }

    /// The reader made room. The peer hears of it when it is worth a segment: an eighth of the buffer, two segments
    /// at least. A peer that may still send half of what it may at most is told by the acknowledgement of what it sends
    /// next, and needs no segment for that alone.
    fn offer_window(&mut self) {
        let receive = &self.receive;
        let limit = receive.limit_now();
        let left = receive.advertised.saturating_since(receive.next);
        if left >= (limit / 2).max(2 * u32::from(receive.segment_size)) {
            return;
        }
        let worth = (limit / 8).max(2 * u32::from(receive.segment_size)).min(limit / 2);
        if self.state.receives() && receive.edge().saturating_since(receive.advertised) >= worth {
            self.acknowledge_now();
        }
    }

    pub(crate) fn write(&mut self, from: &[&[u8]], pool: &mut Pool) -> Poll<Result<usize, TcpError>> {
        if let State::Closed(error) = self.state {
            return Poll::Ready(Err(error.unwrap_or(TcpError::Closed)));
        }
        if self.send.fin_queued {
            return Poll::Ready(Err(TcpError::Closed));
        }
        let wanted: usize = from.iter().map(|bytes| bytes.len()).sum();
        let room = (self.send_space() as usize).saturating_sub(self.send.ring.len());
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        if matches!(self.state, State::SynSent | State::SynReceived { .. }) || room == 0 {
            self.user.write_blocked = true;
            return Poll::Pending;
        }
        self.append(from, wanted.min(room), pool)
    }

    fn append(&mut self, from: &[&[u8]], wanted: usize, pool: &mut Pool) -> Poll<Result<usize, TcpError>> {
        let ring = &mut self.send.ring;
        let held = ring.len();
        // All of it; else what its buffer still takes; else what the smallest takes, which is kept for whoever has none.
        let has_room =
            ring.reserve(pool, held + wanted) || ring.capacity() > held || ring.reserve(pool, held + 1);
        let taken = if has_room { wanted.min(ring.capacity() - held) } else { 0 };
        if taken == 0 {
            self.user.write_blocked = true;
            // With bytes out, their acknowledgement makes room; without, only memory that comes back does.
            if held == 0 && !std::mem::replace(&mut self.user.starved, true) {
                self.effects.add(Effects::STARVED);
            }
            return Poll::Pending;
        }
        let mut left = taken;
        for bytes in from {
            let part = &bytes[..bytes.len().min(left)];
            ring.write_at(ring.len(), part);
            ring.extend(part.len());
            left -= part.len();
        }
        self.on_written();
        Poll::Ready(Ok(taken))
    }

    fn on_written(&mut self) {
        if self.receive.unacknowledged() > 0 {
            // The answer carries the acknowledgement: the user talks in turns, so there is no hurry to send them alone.
            self.receive.quick_acks = 0;
        }
        self.effects.add(Effects::TRANSMIT);
    }

    pub(crate) fn flushed(&mut self) -> Poll<Result<(), TcpError>> {
        match self.state {
            State::Closed(Some(error)) => Poll::Ready(Err(error)),
            _ if self.send.ring.is_empty() => Poll::Ready(Ok(())),
            _ => {
                self.user.flush_blocked = true;
                Poll::Pending
            }
        }
    }

    /// RFC 9293, section 3.10.4 (CLOSE): FIN after what is buffered; the state changes now.
    pub(crate) fn shutdown(&mut self, now: Instant) {
        if self.send.fin_queued || matches!(self.state, State::Closed(_)) {
            return;
        }
        self.send.fin_queued = true;
        self.state = match self.state {
            State::Established => State::FinWait1,
            State::CloseWait => State::LastAck,
            other => other,
        };
        self.set_linger(now);
        self.effects.add(Effects::TRANSMIT);
    }

    /// The user lets go.
    pub(crate) fn close(&mut self, pool: &mut Pool, now: Instant) {
        self.user.orphan = true;
        match self.state {
            State::Closed(_) => self.receive.ring.release(pool),
            State::SynSent => self.finish(None, pool),
            State::SynReceived { .. } => self.reset(None, pool),
            // RFC 2525, section 2.17: what nobody will read must not look as if it were.
            _ if !self.receive.ring.is_empty() => self.reset(None, pool),
            _ => {
                self.shutdown(now);
                self.set_linger(now);
            }
        }
    }

    /// RFC 9293, section 3.10.5 (ABORT).
    pub(crate) fn abort(&mut self, pool: &mut Pool) {
        self.user.orphan = true;
        match self.state {
            State::Closed(_) => self.receive.ring.release(pool),
            State::SynSent => self.finish(None, pool),
            _ => self.reset(None, pool),
        }
    }
}
