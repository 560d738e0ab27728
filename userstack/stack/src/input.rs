//! The way of a received packet: link, IP, then the protocol. Each step is one method, in the order in which a packet
//! meets them; what dies on the way is counted in one place, [`Stack::handle_packet`].

use crate::header::Header;
use crate::icmp::{self, Kind, Problem};
use crate::link::{self, Link};
use crate::locals::is_group;
use crate::ordinary::Prediction;
use crate::output::Next;
use crate::reassembly::Added;
use crate::stack::{Stack, Steered};
use crate::tcp::boundary::Arrival;
use crate::wire::{ether_type, protocol, word};
use crate::{
    Admission, Chain, Contiguous, Discard, Instant, InterfaceConfig, InterfaceId, Verdict, arp, checksum,
    ipv4, ipv6, ndp, steer,
};

/// Bytes of a TCP header without options (RFC 9293, section 3.1), and where its checksum lies.
const TCP_BYTES: usize = 20;
const TCP_CHECKSUM_AT: usize = 16;

/// Reassembled packets that wait to be fetched for another worker, each turn.
const MAX_STEERED: usize = 64;

/// How a packet got here.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Arrived {
    pub interface: InterfaceId,
    pub link: Link,
    /// Put together from fragments: it lies in memory of the stack's, not of the caller's.
    pub reassembled: bool,
    /// Its TCP checksum was found right.
    pub summed: bool,
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
        let prediction = self.take_ordinary(interface, packet, now);
        if prediction == Prediction::Taken {
            return Verdict::Consumed;
        }
        self.on_frame(interface, packet, prediction, admission, now).unwrap_or_else(|reason| {
            self.discards.count(reason);
            Verdict::Discarded(reason)
        })
    }

    /// A packet that another worker put together from fragments and that steers here ([`Steered`]).
    pub fn handle_steered(
        &mut self,
        interface: InterfaceId,
        packet: &[u8],
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Verdict {
        let mut packet = Contiguous::new(packet);
        self.on_steered(interface, &mut packet, admission, now).unwrap_or_else(|reason| {
            self.discards.count(reason);
            Verdict::Discarded(reason)
        })
    }

    fn on_steered(
        &mut self,
        interface: InterfaceId,
        packet: &mut Contiguous,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let config = self.output.locals.find(interface).ok_or(Discard::InterfaceUnknown)?;
        let link = Link::parse(packet.bytes(), config)?;
        let header =
            parse_ip(&link, packet.bytes(), packet.total_len())?.ok_or(Discard::EthernetUnknownType)?;
        let arrived = Arrived { interface, link, reassembled: true, summed: false };
        self.on_whole(&arrived, &header, packet, admission, now)
    }

    #[inline(never)]
    fn on_frame(
        &mut self,
        interface: InterfaceId,
        packet: &mut dyn Chain,
        prediction: Prediction,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let config = self.output.locals.find(interface).ok_or(Discard::InterfaceUnknown)?;
        let (head, total_len) = (packet.chunk(0), packet.total_len());
        let link = Link::parse(head, config)?;
        let Some(header) = parse_ip(&link, head, total_len)? else {
            let config = self.interface(interface)?;
            return arp::handle(&mut self.output, &config, &link, packet, now);
        };
        if header.end < total_len {
            packet.truncate(header.end);
        }
        let summed = prediction == Prediction::Correct;
        let arrived = Arrived { interface, link, reassembled: false, summed };
        if header.fragment.is_some() {
            return self.on_fragment(&arrived, &header, packet, admission, now);
        }
        self.on_packet(&arrived, &header, packet, admission, now)
    }

    /// A part of a packet: it waits for the others, or completes them.
    fn on_fragment(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        self.check_taken(arrived, header)?;
        let Some(fragment) = header.fragment else { return Ok(Verdict::Consumed) };
        let added = self.reassembly.add(header, &fragment, packet, now);
        self.output.late.count_many(Discard::ReassemblyEvicted, self.reassembly.take_evicted());
        let mut whole = match added {
            Added::Kept => return Ok(Verdict::Consumed),
            Added::Refused(reason, kept) => {
                self.output.late.count_many(reason, kept);
                return Err(reason);
            }
            Added::Whole(whole) => whole,
        };
        let header =
            parse_ip(&arrived.link, whole.bytes(), whole.total_len())?.ok_or(Discard::EthernetUnknownType)?;
        if header.fragment.is_some() {
            return Err(Discard::FragmentNested);
        }
        let worker = steer::whole_packet(&whole, &header, self.config.workers);
        if let Some(worker) = worker.filter(|worker| *worker != self.config.worker) {
            return self.hand_over(worker, arrived.interface, &whole);
        }
        let arrived = Arrived { reassembled: true, ..*arrived };
        self.on_whole(&arrived, &header, &mut whole, admission, now)
    }

    /// A reassembled packet. What would leave in place leaves by the outbox, in fragments again where it must.
    fn on_whole(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        whole: &mut Contiguous,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let verdict = self.on_packet(arrived, header, whole, admission, now)?;
        if let Verdict::Forward(interface) = verdict {
            let config = self.output.locals.find(interface).ok_or(Discard::InterfaceGone)?;
            let packet = &whole.bytes()[link::header_len(config)..];
            let sent = self.output.send_packet(interface, Next::Mac(arrived.link.source), packet, now);
            sent.map_err(|_| Discard::OutboxFull)?;
        }
        Ok(Verdict::Consumed)
    }

    fn hand_over(
        &mut self,
        worker: u16,
        interface: InterfaceId,
        whole: &Contiguous,
    ) -> Result<Verdict, Discard> {
        if self.steered.len() == MAX_STEERED {
            return Err(Discard::ReassemblyFull);
        }
        self.steered.push_back(Steered { worker, interface, packet: whole.bytes().to_vec() });
        Ok(Verdict::Consumed)
    }

    /// A whole packet with a good IP header.
    fn on_packet(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        match header.protocol {
            protocol::UDP => self.on_datagram(arrived, header, packet, admission, now),
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
    pub(crate) fn check_taken(&self, arrived: &Arrived, header: &Header) -> Result<(), Discard> {
        let interface = self.output.locals.find(arrived.interface).ok_or(Discard::InterfaceUnknown)?;
        if is_group(interface, header.destination) {
            return Err(Discard::IpGroup);
        }
        if header.source.is_unspecified() || is_group(interface, header.source) {
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

    /// Whether the neighbours on an interface may leave checksums to a device.
    pub(crate) fn may_be_unfinished(&self, id: InterfaceId) -> bool {
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
        let (source, destination) = (header.source, header.destination);
        // Segment after segment comes from the same peer: the addresses are looked up once.
        if arrived.link.group || !self.output.locals.was_taken(arrived.interface, source, destination) {
            self.check_taken(arrived, header)?;
            self.output.locals.remember_taken(arrived.interface, source, destination);
        }
        if !arrived.summed {
            check_tcp(packet, header, self.may_be_unfinished(arrived.interface))?;
        }
        let (interface, ecn) = (arrived.interface, header.ecn);
        let arrival = Arrival { interface, local: destination, remote: source, ecn };
        self.tcp.handle_segment(arrival, packet, header.transport, now)?;
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
            return self.on_icmp_error(&quote, header, packet.chunk(0), now);
        }
        if !self.output.locals.is_ours(&interface, header.destination) {
            return Err(Discard::IpNotOurs);
        }
        if !self.echo_limit.take(now) {
            return Err(Discard::IcmpEchoLimited);
        }
        icmp::answer_echo(packet, header, &arrived.link, &interface)
    }
}

/// The IP header behind the link header, in the first chunk of a packet of `total_len`; `None`: it is ARP.
pub(crate) fn parse_ip(link: &Link, head: &[u8], total_len: usize) -> Result<Option<Header>, Discard> {
    match link.ether_type {
        ether_type::IPV4 => ipv4::parse(head, link.len, total_len).map(Some),
        ether_type::IPV6 => ipv6::parse(head, link.len, total_len).map(Some),
        ether_type::ARP => Ok(None),
        _ => Err(Discard::EthernetUnknownType),
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
    // What a neighbour left unfinished says nothing of the text, which need not be read to know that.
    if unfinished_allowed && field == pseudo_header.fold() {
        return Ok(());
    }
    let mut sum = checksum::Sum::of(segment);
    if segment.len() < len {
        let rest = header.transport + segment.len();
        crate::chain::for_each_slice(packet, rest, header.end, |slice| sum.add(slice));
    }
    match checksum::judge(pseudo_header, sum, field) {
        checksum::Received::Correct => Ok(()),
        checksum::Received::Unfinished | checksum::Received::Wrong => Err(Discard::TcpChecksum),
    }
}
