//! Segments of a burst that follow each other, and that their connection expects, come in as one.

use super::boundary::Arrival;
use super::connection::{Connection, Effects};
use super::engine::Tcp;
use super::header::Header;
use super::ordinary::Ordinary;
use crate::Instant;
use crate::run::{Pieces, Run};

impl Tcp {
    /// The segments of `run` arrived. `is_intact` verifies them, and is asked when all the rest is as expected. False:
    /// nothing was done, and they are to come one by one.
    ///
    /// The connection sees one segment that acknowledges, and echoes, what the first does: the others acknowledge the
    /// same, and a timestamp of theirs would be the one to echo only if an acknowledgement of ours had left in between,
    /// which none does within a burst (RFC 7323, section 4.3).
    pub(crate) fn handle_run(
        &mut self,
        arrival: Arrival,
        (run, pieces): (&Run, &dyn Pieces),
        is_intact: &mut dyn FnMut() -> bool,
        now: Instant,
    ) -> bool {
        let Ok((header, _)) = Header::parse(&pieces.piece(0)[run.transport_at()..]) else { return false };
        let Some(first) = Ordinary::with_header(&header, &[]) else { return false };
        let (local, remote) =
            ((arrival.local, header.destination_port), (arrival.remote, header.source_port));
        let Some(flow) = self.look_up(local, remote) else { return false };
        let Some(connection) = self.connections.get_mut(flow.slot, flow.life) else { return false };
        if !connection.expects(&first, run.text_bytes(), &mut self.pool) || !is_intact() {
            return false;
        }
        connection.take_ordinary_header(&first, &mut self.pool, now);
        connection.take_run_text(run, pieces, now);
        let effects = self.books.settle(connection, flow);
        debug_assert!(!effects.has(Effects::RARE), "ordinary segments have ordinary effects");
        true
    }
}

impl Connection {
    fn take_run_text(&mut self, run: &Run, pieces: &dyn Pieces, now: Instant) {
        let ring = &mut self.receive.ring;
        let mut at = ring.len();
        for index in 0..run.packets() {
            let text = &pieces.piece(index)[run.text_at()..];
            ring.write_at(at, text);
            at += text.len();
        }
        let (len, longest) = (run.text_bytes() as u32, run.segment_bytes() as u32);
        ring.extend(run.text_bytes());
        self.receive.next += len;
        // A push says nothing of what is more than one segment.
        self.on_text_in_order((len, longest), false, false, now);
    }
}
