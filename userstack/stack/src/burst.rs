//! A burst's segments of one stream, taken as one: the way of `input`, once for all of them. Every checksum is verified;
//! where anything is not as an established connection expects it, nothing is done, and they go one by one.

use crate::checksum::{Received, Sum, judge};
use crate::header::Header;
use crate::input::{Arrived, parse_ip};
use crate::link::Link;
use crate::run::{Pieces, Run};
use crate::stack::Stack;
use crate::tcp::boundary::Arrival;
use crate::wire::{IPV4_BYTES, protocol, word};
use crate::{Instant, InterfaceId};

/// The checksum's place in a TCP header (RFC 9293, section 3.1).
const TCP_CHECKSUM_AT: usize = 16;

impl Stack {
    /// The packets of `run`, at the front of `pieces`, arrived on `interface`. True: all are consumed. False: nothing was
    /// done that handling them one by one would not do, which is what they need.
    pub fn handle_run(
        &mut self,
        interface: InterfaceId,
        run: &Run,
        pieces: &dyn Pieces,
        now: Instant,
    ) -> bool {
        self.take_run(interface, run, pieces, now).unwrap_or(false)
    }

    fn take_run(
        &mut self,
        interface: InterfaceId,
        run: &Run,
        pieces: &dyn Pieces,
        now: Instant,
    ) -> Option<bool> {
        let first = pieces.piece(0);
        let link = Link::parse(first, self.output.locals.find(interface)?).ok()?;
        let header = parse_ip(&link, first, first.len()).ok()??;
        let (source, destination) = (header.source, header.destination);
        if link.group || !self.output.locals.was_taken(interface, source, destination) {
            self.check_taken(&Arrived { interface, link, reassembled: false, summed: false }, &header)
                .ok()?;
            self.output.locals.remember_taken(interface, source, destination);
        }
        let unfinished = self.may_be_unfinished(interface);
        let arrival = Arrival { interface, local: destination, remote: source, ecn: header.ecn };
        let mut is_intact = || is_intact(run, pieces, &header, unfinished);
        Some(self.tcp.handle_run(arrival, (run, pieces), &mut is_intact, now))
    }
}

/// Whether every packet's sums are right. `header` is the first one's.
fn is_intact(run: &Run, pieces: &dyn Pieces, header: &Header, unfinished_allowed: bool) -> bool {
    let pseudo_header = |len| Sum::pseudo_header(header.source, header.destination, protocol::TCP, len);
    let full_len = header.transport_len();
    let full = pseudo_header(full_len);
    (0..run.packets()).all(|index| {
        let packet = pieces.piece(index);
        let segment = &packet[run.transport_at()..];
        let sum = if segment.len() == full_len { full } else { pseudo_header(segment.len()) };
        let field = word(segment, TCP_CHECKSUM_AT);
        // What a neighbour left unfinished says nothing of the text.
        let text = unfinished_allowed && field == sum.fold()
            || judge(sum, Sum::of(segment), field) == Received::Correct;
        let header = run.ipv4_header().and_then(|ip| packet[ip].first_chunk::<IPV4_BYTES>());
        text && header.is_none_or(|header| Sum::of_header(header).fold() == 0xffff)
    })
}
