//! Segments of a burst that follow each other, and that their connection expects, come in as one.

use std::net::SocketAddr;

use super::boundary::Arrival;
use super::engine::Tcp;
use super::flows::Target;
use super::header::Header;
use super::segment::{Segment, Text};
use super::tuple::Tuple;
use crate::Instant;
use crate::run::{Pieces, Run};

impl Tcp {
    /// The segments of `run` arrived. `is_intact` verifies them, and is asked when all the rest is as expected. False: they
    /// are to come one by one.
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
        let segment = Segment { header, text: Text::of_run(run, pieces), ce: false };
        let tuple = Tuple::new(
            SocketAddr::new(arrival.local, header.destination_port),
            SocketAddr::new(arrival.remote, header.source_port),
        );
        let Some(Target::Connection(slot)) = self.find(&tuple) else { return false };
        let Some(connection) = self.connections.at_mut(slot) else { return false };
        if !connection.is_expected(&segment) || !is_intact() {
            return false;
        }
        let taken = connection.on_expected(&segment, &mut self.pool, now).is_ok();
        self.settle(slot, now);
        taken
    }
}
