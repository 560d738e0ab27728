//! The way of a received datagram: to its session, or to admission, and then on, to a socket, or nowhere.

use std::hash::BuildHasher;
use std::net::SocketAddr;

use crate::forward::rewrite;
use crate::forward::table::{Direction, NewSession, Session};
use crate::hash::bits;
use crate::header::Header;
use crate::icmp::Problem;
use crate::input::Arrived;
use crate::link;
use crate::output::Next;
use crate::stack::Stack;
use crate::tcp::boundary::Refused;
use crate::udp::{self, Datagram, UdpKey};
use crate::{
    Admission, Chain, Discard, FirstDatagram, Forward, Instant, InterfaceId, Rewrite, Role, Verdict, steer,
};

/// Ports tried for a new session. One in as many as there are workers steers home.
const MAX_PORT_TRIES: u32 = 4096;

/// A datagram and how it got here, for the steps below.
struct Step<'a> {
    arrived: &'a Arrived,
    header: &'a Header,
    datagram: &'a Datagram,
    now: Instant,
}

impl Stack {
    /// A packet of protocol UDP.
    pub(crate) fn on_datagram(
        &mut self,
        arrived: &Arrived,
        header: &Header,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let interface = self.output.locals.find(arrived.interface).ok_or(Discard::InterfaceUnknown)?;
        // FACTS: a super-packet of UDP does not say where its datagrams end.
        if header.packet_len() > usize::from(interface.mtu) && !arrived.reassembled {
            return Err(Discard::UdpMerged);
        }
        let datagram = udp::parse(packet, header, interface.unfinished_receive_checksum)?;
        let step = Step { arrived, header, datagram: &datagram, now };
        if let Some((slot, direction)) = self.sessions.find(datagram.source, datagram.destination) {
            return self.on_known_datagram(&step, packet, (slot, direction), admission);
        }
        self.check_taken(arrived, header)?;
        self.on_first_datagram(&step, packet, admission)
    }

    // ---- no session yet ----

    fn on_first_datagram(
        &mut self,
        step: &Step<'_>,
        packet: &mut dyn Chain,
        admission: &mut dyn Admission,
    ) -> Result<Verdict, Discard> {
        let socket = self.sockets.find(step.datagram.destination, step.arrived.interface);
        if let Some(socket) = socket.filter(|socket| self.sockets.is_ephemeral(*socket)) {
            return self.deliver(socket, packet, step.datagram);
        }
        let first = FirstDatagram {
            interface: step.arrived.interface,
            source: step.datagram.source,
            destination: step.datagram.destination,
            payload: first_bytes(packet, step.datagram),
            current: None,
            load: &self.sessions.counts,
        };
        let decision = admission.admit(&first, step.now);
        self.carry_out(decision, step, packet)
    }

    /// Does with a client's datagram what was decided.
    fn carry_out(
        &mut self,
        decision: Forward,
        step: &Step<'_>,
        packet: &mut dyn Chain,
    ) -> Result<Verdict, Discard> {
        match decision {
            Forward::Rewrite(rewrite) => {
                let slot = self.open_session(rewrite, step, packet)?;
                self.pass_on(step, packet, (slot, Direction::Forth))
            }
            Forward::Deliver | Forward::Drop(Discard::UdpPortUnreachable) => {
                match self.sockets.find(step.datagram.destination, step.arrived.interface) {
                    Some(socket) => self.deliver(socket, packet, step.datagram),
                    None => {
                        self.report(step.arrived, step.header, packet, Problem::PortUnreachable, step.now);
                        Err(Discard::UdpPortUnreachable)
                    }
                }
            }
            Forward::Drop(reason) => Err(reason),
        }
    }

    fn deliver(
        &mut self,
        socket: UdpKey,
        packet: &dyn Chain,
        datagram: &Datagram,
    ) -> Result<Verdict, Discard> {
        self.sockets.deliver(socket, packet, datagram)?;
        Ok(Verdict::Consumed)
    }

    /// Makes a session: our address and port towards the endpoint, and both directions.
    fn open_session(
        &mut self,
        rewrite: Rewrite,
        step: &Step<'_>,
        packet: &dyn Chain,
    ) -> Result<u32, Discard> {
        let (client, service, endpoint) = (step.datagram.source, step.datagram.destination, rewrite.endpoint);
        if endpoint.is_ipv4() != client.is_ipv4() {
            return Err(Discard::SessionFamily);
        }
        if self.sessions.is_full() {
            return Err(Discard::SessionsFull);
        }
        let hash = steer::flow_hash(client, endpoint);
        let Some((out, _)) = self.output.find_route(endpoint.ip(), hash, None) else {
            self.report(step.arrived, step.header, packet, Problem::NoRoute, step.now);
            return Err(Discard::NoRoute);
        };
        let locals = &self.output.locals;
        let interface = locals.find(out).ok_or(Discard::NoRoute)?;
        if locals.is_ours(interface, endpoint.ip()) {
            return Err(Discard::SessionToOurselves);
        }
        let address = locals.source_for(interface, endpoint.ip()).ok_or(Discard::NoSourceAddress)?;
        let workload = |id: InterfaceId| {
            locals.find(id).is_some_and(|interface| interface.role == Role::Workload).then_some(id)
        };
        let only_from = (workload(step.arrived.interface), workload(out));
        let ours = self.choose_session_port(SocketAddr::new(address, 0), out, (client, service), endpoint)?;
        let interface = step.arrived.interface;
        Ok(self
            .sessions
            .insert(NewSession { client, service, ours, interface, only_from, rewrite }, step.now))
    }

    /// A source port that is free towards the endpoint and whose answers steer to this worker.
    fn choose_session_port(
        &self,
        ours: SocketAddr,
        out: InterfaceId,
        (client, service): (SocketAddr, SocketAddr),
        endpoint: SocketAddr,
    ) -> Result<SocketAddr, Discard> {
        let (first, last) = self.config.ports;
        let count = u32::from(last - first) + 1;
        let start = self.port_key.hash_one((
            bits(client.ip()),
            bits(service.ip()),
            u32::from(client.port()) << 16 | u32::from(service.port()),
        )) as u32;
        let (worker, workers) = (self.config.worker, self.config.workers);
        (0..count.min(MAX_PORT_TRIES))
            .map(|step| SocketAddr::new(ours.ip(), first + (start.wrapping_add(step) % count) as u16))
            .filter(|ours| steer::steers_home(*ours, endpoint, worker, workers))
            .find(|ours| {
                self.sessions.find(endpoint, *ours).is_none() && self.sockets.find(*ours, out).is_none()
            })
            .ok_or(Discard::SessionPortsExhausted)
    }

    // ---- a session's datagrams ----

    fn on_known_datagram(
        &mut self,
        step: &Step<'_>,
        packet: &mut dyn Chain,
        (slot, direction): (u32, Direction),
        admission: &mut dyn Admission,
    ) -> Result<Verdict, Discard> {
        let current = self.sessions.version;
        let session = self.sessions.session_mut(slot);
        if session.leg_mut(direction).only_from.is_some_and(|only| only != step.arrived.interface) {
            return Err(Discard::SessionInterface);
        }
        if step.arrived.link.group {
            return Err(Discard::EthernetGroupUnicast);
        }
        if session.version < current {
            return self.judge_again(step, packet, (slot, direction), admission);
        }
        self.pass_on(step, packet, (slot, direction))
    }

    /// The table changed since the session was judged.
    fn judge_again(
        &mut self,
        step: &Step<'_>,
        packet: &mut dyn Chain,
        (slot, direction): (u32, Direction),
        admission: &mut dyn Admission,
    ) -> Result<Verdict, Discard> {
        let version = self.sessions.version;
        let Session { interface, client, service, endpoint, .. } = *self.sessions.session_mut(slot);
        let first = FirstDatagram {
            interface,
            source: client,
            destination: service,
            payload: if direction == Direction::Forth { first_bytes(packet, step.datagram) } else { &[] },
            current: Some(endpoint),
            load: &self.sessions.counts,
        };
        match admission.admit(&first, step.now) {
            Forward::Rewrite(rewrite) if rewrite.endpoint == endpoint => {
                self.sessions.session_mut(slot).confirm(&rewrite, version);
                self.pass_on(step, packet, (slot, direction))
            }
            decision => {
                self.sessions.remove(slot);
                match (direction, decision) {
                    (Direction::Forth, decision) => self.carry_out(decision, step, packet),
                    (Direction::Back, Forward::Drop(reason)) => Err(reason),
                    // The client's next datagram is judged as a first one.
                    (Direction::Back, Forward::Deliver | Forward::Rewrite(_)) => Err(Discard::SessionMoved),
                }
            }
        }
    }

    /// Rewrites a datagram in place and sends it on; one that is too long or whose next hop is not known is copied.
    fn pass_on(
        &mut self,
        step: &Step<'_>,
        packet: &mut dyn Chain,
        (slot, direction): (u32, Direction),
    ) -> Result<Verdict, Discard> {
        let Step { arrived, header, datagram, now } = *step;
        // RFC 1812, section 5.3.1.
        if header.hops <= 1 {
            self.report(arrived, header, packet, Problem::TimeExceeded, now);
            return Err(Discard::IpHopsExceeded);
        }
        let session = self.sessions.session_mut(slot);
        let leg = session.leg_mut(direction);
        let (ends, remote) = ((leg.source, leg.destination), leg.destination.ip());
        let routed = self.output.resolve(ends, None, &mut leg.path, now).is_ok();
        let path = leg.path;
        let mtu = self.output.path_mtu(remote, &path, now).filter(|_| routed);
        let (Some(out), Some(mtu)) = (path.interface, mtu) else {
            self.report(arrived, header, packet, Problem::NoRoute, now);
            return Err(Discard::NoRoute);
        };
        let fits = header.packet_len() <= usize::from(mtu);
        // What came in fragments may leave in fragments: its sender did not ask for the contrary.
        if !fits && header.dont_fragment && !arrived.reassembled {
            self.report(arrived, header, packet, Problem::TooBig { mtu }, now);
            return Err(Discard::IpTooBig);
        }
        let mac = self.output.neighbour_mac(path.neighbour, now);
        let session = self.sessions.session_mut(slot);
        session.count(direction, first_bytes(packet, datagram), datagram.end - datagram.payload, now);
        let datagram_len = datagram.end - header.transport;
        let leg = session.leg_mut(direction);
        rewrite::apply(packet.chunk_mut(0), header, datagram.checksum, datagram_len, leg);
        if let Some(mac) = mac.filter(|_| fits && !arrived.reassembled) {
            let interface = self.output.locals.find(out).ok_or(Discard::InterfaceGone)?;
            if !link::replace_header(packet, &arrived.link, interface, mac) {
                return Err(Discard::NoHeadroom);
            }
            return Ok(Verdict::Forward(out));
        }
        self.send_copy(out, path.neighbour, packet, header, now)
    }

    fn send_copy(
        &mut self,
        out: InterfaceId,
        neighbour: u32,
        packet: &dyn Chain,
        header: &Header,
        now: Instant,
    ) -> Result<Verdict, Discard> {
        let mut copy = self.output.outbox.buffer();
        crate::chain::for_each_slice(packet, header.network, header.end, |slice| {
            copy.extend_from_slice(slice)
        });
        let sent = self.output.send_packet(out, Next::Neighbour(neighbour), &copy, now);
        self.output.outbox.recycle(copy);
        match sent {
            Ok(()) => Ok(Verdict::Consumed),
            Err(Refused::Full) => Err(Discard::OutboxFull),
            Err(Refused::Resolving) => Err(Discard::NeighbourQueueFull),
            Err(Refused::NoRoute) => Err(Discard::NoRoute),
        }
    }
}

/// The payload's bytes that lie in the first chunk.
fn first_bytes<'a>(packet: &'a dyn Chain, datagram: &Datagram) -> &'a [u8] {
    let chunk = packet.chunk(0);
    &chunk[datagram.payload.min(chunk.len())..datagram.end.min(chunk.len())]
}
