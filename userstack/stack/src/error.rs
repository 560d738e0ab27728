//! ICMP errors in both directions: those that we send about packets, and those that we get, which go to TCP or are
//! translated to the sender of a session's packet.

use crate::forward::rewrite;
use crate::forward::table::{Direction, Leg};
use crate::header::Header;
use crate::icmp::{self, Problem, Quote, Report};
use crate::input::Arrived;
use crate::locals;
use crate::output::{Envelope, Next};
use crate::pmtu::Witness;
use crate::stack::Stack;
use crate::tcp::boundary::{IcmpError, Refused};
use crate::wire::{HOPS, ICMP_BYTES, protocol, set_word};
use crate::{Chain, Discard, Instant, Verdict, checksum::Sum};

impl Stack {
    /// Tells the sender of `packet` what is wrong, where that is allowed and within the rate.
    pub(crate) fn report(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &dyn Chain,
        problem: Problem,
        now: Instant,
    ) {
        if !icmp::may_report(packet, header, &arrived.link) || !self.error_limit.take(now) {
            return;
        }
        let Some(interface) = self.output.locals.find(arrived.interface) else { return };
        let own = || self.output.locals.source_for(interface, header.source);
        let to_us = problem == Problem::PortUnreachable || locals::has(interface, header.destination);
        let source = if to_us { header.destination } else { own().unwrap_or(header.destination) };
        let mut message = self.output.outbox.buffer();
        icmp::write_error(&mut message, problem, header, packet, source);
        let envelope = envelope(source, header.source);
        let next = Next::Mac(arrived.link.source);
        if self.output.send(arrived.interface, next, envelope, &[&message], now).is_err() {
            self.output.late.count(Discard::OutboxFull);
        }
        self.output.outbox.recycle(message);
    }

    /// An error about a packet that we sent. The quoted packet is only a name: it must name something that exists.
    pub(crate) fn on_icmp_error(
        &mut self,
        quote: &Quote,
        header: &Header,
        chunk: &[u8],
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let error = match quote.report {
            Report::Refused => IcmpError::Refused,
            Report::Unreachable => IcmpError::Unreachable,
            Report::TooBig { mtu } => {
                let mtu = icmp::believable_mtu(mtu, quote.packet_len).ok_or(Discard::IcmpQuote)?;
                IcmpError::TooBig { mtu }
            }
        };
        let witness = match quote.protocol {
            protocol::TCP => {
                self.tcp.handle_icmp_error(quote.source, quote.destination, quote.sequence, error, now)?;
                Witness::Sequence
            }
            protocol::UDP => {
                self.on_datagram_error(quote, header, chunk, now)?;
                Witness::Ports
            }
            _ => return Err(Discard::IcmpUnknownFlow),
        };
        if let IcmpError::TooBig { mtu } = error {
            self.output.paths.learn(quote.destination.ip(), mtu, witness, now);
        }
        Ok(Verdict::Consumed)
    }

    fn on_datagram_error(
        &mut self,
        quote: &Quote,
        header: &Header,
        chunk: &[u8],
        now: Instant,
    ) -> Result<(), Discard> {
        // What answers the quoted packet would come the other way.
        let Some((slot, answers)) = self.sessions.find(quote.destination, quote.source) else {
            let ours = self.output.locals.iter().find(|interface| locals::has(interface, quote.source.ip()));
            let socket = ours.and_then(|interface| self.sockets.find(quote.source, interface.id));
            return socket.map(|_| ()).ok_or(Discard::IcmpUnknownFlow);
        };
        if !self.error_limit.take(now) {
            return Err(Discard::IcmpErrorLimited);
        }
        let session = self.sessions.session_mut(slot);
        // Who sent it, to whom, as the sender knows it.
        let (sender, receiver) = match answers {
            Direction::Back => (session.client, session.service),
            Direction::Forth => (session.endpoint, session.ours),
        };
        let mut message = chunk[header.transport..header.end.min(chunk.len())].to_vec();
        let change = Leg::new((quote.source, quote.destination), (sender, receiver)).datagram_change;
        let transport = quote.transport - quote.network;
        rewrite::translate_quote(&mut message[ICMP_BYTES..], transport, sender, receiver, change);
        // The receiver's own words come from the address that the sender knows it by; a router's are the router's.
        let source = if header.source == quote.destination.ip() { receiver.ip() } else { header.source };
        write_checksum(&mut message, source, sender.ip());

        let leg = session.leg_mut(answers);
        let routed = self.output.resolve((leg.source, leg.destination), None, &mut leg.path, now);
        let path = leg.path;
        let (Ok(()), Some(out)) = (routed, path.interface) else { return Err(Discard::NoRoute) };
        let next = Next::Neighbour(path.neighbour);
        match self.output.send(out, next, envelope(source, sender.ip()), &[&message], now) {
            Ok(()) => Ok(()),
            Err(Refused::Full) => Err(Discard::OutboxFull),
            Err(Refused::Resolving) => Err(Discard::NeighbourQueueFull),
            Err(Refused::NoRoute) => Err(Discard::NoRoute),
        }
    }
}

fn envelope(source: std::net::IpAddr, destination: std::net::IpAddr) -> Envelope {
    let protocol = if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    Envelope { source, destination, protocol, hops: HOPS, ecn: 0, dont_fragment: false }
}

fn write_checksum(message: &mut [u8], source: std::net::IpAddr, destination: std::net::IpAddr) {
    set_word(message, 2, 0);
    let mut sum = if source.is_ipv4() {
        Sum::default()
    } else {
        Sum::pseudo_header(source, destination, protocol::ICMPV6, message.len())
    };
    sum.add(message);
    set_word(message, 2, sum.checksum());
}
