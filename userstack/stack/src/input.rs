//! The way of a received packet: link, IP, then the protocol. Each step is one method, in the order in which a packet
//! meets them; what dies on the way is counted in one place, [`Stack::handle_packet`].

use crate::header::Header;
use crate::icmp::{self, Kind, Problem, Quote, Report};
use crate::link::Link;
use crate::locals::{self, is_group};
use crate::output::{Envelope, Next};
use crate::stack::Stack;
use crate::tcp::boundary::{Arrival, IcmpError};
use crate::udp::{self, Datagram};
use crate::wire::{HOPS, ether_type, protocol, word};
use crate::{
    Admission, Chain, Discard, FirstDatagram, Forward, Instant, InterfaceConfig, InterfaceId, Verdict, arp,
    checksum, ipv4, ipv6, ndp,
};

/// Bytes of a TCP header without options (RFC 9293, section 3.1), and where its checksum lies.
const TCP_BYTES: usize = 20;
const TCP_CHECKSUM_AT: usize = 16;

/// How a packet got here.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Arrived {
    pub interface: InterfaceId,
    pub link: Link,
}

impl Stack {
    /// A packet arrived on `interface` (its VLAN tag, if any, still on).
    pub fn handle_packet(
        &mut self,
        interface: InterfaceId,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Verdict {
        self.on_frame(interface, packet, admission, now).unwrap_or_else(|reason| {
            self.discards.count(reason);
            Verdict::Discarded(reason)
        })
    }

    fn on_frame(
        &mut self,
        interface: InterfaceId,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let config = self.output.locals.find(interface).ok_or(Discard::InterfaceUnknown)?;
        let link = Link::parse(packet.chunk(0), config)?;
        let (chunk, total_len) = (packet.chunk(0), packet.total_len());
        let header = match link.ether_type {
            ether_type::IPV4 => ipv4::parse(chunk, link.len, total_len)?,
            ether_type::IPV6 => ipv6::parse(chunk, link.len, total_len)?,
            ether_type::ARP => {
                let config = self.interface(interface)?;
                return arp::handle(&mut self.output, &config, &link, packet, now);
            }
            _ => return Err(Discard::EthernetUnknownType),
        };
        packet.truncate(header.end);
        self.on_packet(&Arrived { interface, link }, &header, packet, admission, now)
    }

    /// A packet with a good IP header.
    fn on_packet(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        match header.protocol {
            protocol::UDP => self.on_udp(arrived, header, packet, admission, now),
            protocol::TCP => self.on_tcp(arrived, header, packet, now),
            protocol::ICMP if header.source.is_ipv4() => self.on_icmp(arrived, header, packet, now),
            protocol::ICMPV6 if header.source.is_ipv6() => self.on_icmp(arrived, header, packet, now),
            _ => {
                self.check_taken(arrived, header)?;
                self.report(arrived, header, packet, Problem::ProtocolUnreachable, now);
                Err(Discard::IpUnknownProtocol)
            }
        }
    }

    /// Whether TCP and UDP of this packet are for us: ours or intercepted, from somebody else, and sent to us alone.
    fn check_taken(&self, arrived: &Arrived, header: &Header) -> Result<(), Discard> {
        let interface = self.output.locals.find(arrived.interface).ok_or(Discard::InterfaceUnknown)?;
        if is_group(interface, header.destination) {
            return Err(Discard::IpGroup);
        }
        if header.source.is_unspecified() {
            return Err(Discard::IpMartianSource);
        }
        if !self.output.locals.is_taken(interface, header.destination) {
            return Err(Discard::IpNotOurs);
        }
        if self.output.locals.is_ours(interface, header.source) {
            return Err(Discard::IpSourceOurs);
        }
        if arrived.link.group {
            return Err(Discard::EthernetGroupUnicast);
        }
        Ok(())
    }

    fn interface(&self, id: InterfaceId) -> Result<std::sync::Arc<InterfaceConfig>, Discard> {
        self.output.locals.share(id).ok_or(Discard::InterfaceUnknown)
    }

    fn may_be_unfinished(&self, id: InterfaceId) -> bool {
        self.output.locals.find(id).is_some_and(|interface| interface.unfinished_receive_checksum)
    }

    // ---- TCP ----

    fn on_tcp(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        self.check_taken(arrived, header)?;
        check_tcp(packet, header, self.may_be_unfinished(arrived.interface))?;
        let arrival = Arrival {
            interface: arrived.interface,
            local: header.destination,
            remote: header.source,
            ecn: header.ecn,
        };
        if !crate::stack::TCP_IS_THERE {
            return Err(Discard::IpUnknownProtocol);
        }
        self.tcp.handle_segment(arrival, packet, header.transport, now)?;
        Ok(Verdict::Consumed)
    }

    // ---- UDP ----

    fn on_udp(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let datagram = udp::parse(packet, header, self.may_be_unfinished(arrived.interface))?;
        self.check_taken(arrived, header)?;
        let socket = self.sockets.find(datagram.destination, arrived.interface);
        if let Some(socket) = socket.filter(|socket| self.sockets.is_ephemeral(*socket)) {
            return self.deliver(socket, packet, &datagram);
        }
        let chunk = packet.chunk(0);
        let first = FirstDatagram {
            interface: arrived.interface,
            source: datagram.source,
            destination: datagram.destination,
            payload: &chunk[datagram.payload..datagram.end.min(chunk.len())],
            current: None,
        };
        match (admission.admit(&first, now), socket) {
            (Forward::Deliver | Forward::Drop(Discard::UdpPortUnreachable), Some(socket)) => {
                self.deliver(socket, packet, &datagram)
            }
            (Forward::Deliver | Forward::Drop(Discard::UdpPortUnreachable), None) => {
                self.report(arrived, header, packet, Problem::PortUnreachable, now);
                Err(Discard::UdpPortUnreachable)
            }
            (Forward::Drop(reason), _) => Err(reason),
            (Forward::Rewrite(_), _) => Err(Discard::UdpPortUnreachable),
        }
    }

    fn deliver(
        &mut self,
        socket: udp::UdpKey,
        packet: &dyn Chain,
        datagram: &Datagram,
    ) -> Result<Verdict, Discard> {
        self.sockets.deliver(socket, packet, datagram)?;
        Ok(Verdict::Consumed)
    }

    // ---- ICMP ----

    fn on_icmp(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let kind = icmp::check(packet, header)?;
        let interface = self.interface(arrived.interface)?;
        if kind == Kind::Neighbour {
            return ndp::handle(&mut self.output, &interface, (&arrived.link, header), packet, now);
        }
        self.check_taken(arrived, header)?;
        if kind == Kind::Error {
            let quote = icmp::read_quote(packet.chunk(0), header)?;
            return self.on_icmp_error(&quote, now);
        }
        if !self.output.locals.is_ours(&interface, header.destination) {
            return Err(Discard::IpNotOurs);
        }
        if !self.echo_limit.take(now) {
            return Err(Discard::IcmpEchoLimited);
        }
        icmp::answer_echo(packet, header, &arrived.link, &interface)
    }

    /// An error about a packet of ours.
    fn on_icmp_error(&mut self, quote: &Quote, now: Instant) -> Result<Verdict, Discard> {
        let error = match quote.report {
            Report::Refused => IcmpError::Refused,
            Report::Unreachable => IcmpError::Unreachable,
            Report::TooBig { mtu } => {
                let mtu = icmp::believable_mtu(mtu, quote.packet_len).ok_or(Discard::IcmpQuote)?;
                IcmpError::TooBig { mtu }
            }
        };
        match quote.protocol {
            protocol::TCP if crate::stack::TCP_IS_THERE => {
                self.tcp.handle_icmp_error(quote.source, quote.destination, quote.sequence, error, now)?;
                if let IcmpError::TooBig { mtu } = error {
                    self.output.paths.learn(quote.destination.ip(), mtu, now);
                }
                Ok(Verdict::Consumed)
            }
            _ => Err(Discard::IcmpUnknownFlow),
        }
    }

    /// Tells the sender of `packet` what is wrong, where that is allowed and within the rate.
    fn report(
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
        let envelope = Envelope {
            source,
            destination: header.source,
            protocol: if source.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 },
            hops: HOPS,
            ecn: 0,
            dont_fragment: false,
        };
        let next = Next::Mac(arrived.link.source);
        if self.output.send(arrived.interface, next, envelope, &[&message], now).is_err() {
            self.output.late.count(Discard::OutboxFull);
        }
        self.output.outbox.recycle(message);
    }
}

/// The TCP header must lie in the first chunk, and the checksum be right over all chunks.
fn check_tcp(packet: &dyn Chain, header: &Header, unfinished_allowed: bool) -> Result<(), Discard> {
    let chunk = packet.chunk(0);
    let segment = chunk.get(header.transport..header.end.min(chunk.len())).unwrap_or(&[]);
    if segment.len() < TCP_BYTES {
        return Err(Discard::TcpTruncated);
    }
    let field = word(segment, TCP_CHECKSUM_AT);
    let len = header.transport_len();
    let pseudo_header = checksum::Sum::pseudo_header(header.source, header.destination, protocol::TCP, len);
    let mut sum = checksum::Sum::default();
    crate::chain::for_each_slice(packet, header.transport, header.end, |slice| sum.add(slice));
    match checksum::judge(pseudo_header, sum, field) {
        checksum::Received::Correct => Ok(()),
        checksum::Received::Unfinished if unfinished_allowed => Ok(()),
        checksum::Received::Unfinished | checksum::Received::Wrong => Err(Discard::TcpChecksum),
    }
}
