//! The sending half of IP: finds the way of a packet, resolves the next hop, writes link and IP headers, fragments.
//!
//! Everything of the stack that sends goes through here; TCP by `sink`, which writes straight into the egress, the others
//! by the outbox.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::checksum::Sum;
use crate::hash::Key;
use crate::identification::Identifications;
use crate::link;
use crate::locals::Locals;
use crate::neighbour::{Claim, Due, Evicted, Neighbours, Solicit};
use crate::outbox::Outbox;
use crate::pmtu::PathMtus;
use crate::route::Routes;
use crate::tcp::boundary::{Path, Refused};
use crate::wire::{
    ARP_BYTES, Arp, BROADCAST, IPV4_BYTES, IPV6_BYTES, Mac, NDP_BYTES, NDP_HOPS, NDP_SOLICITATION,
    ether_type, multicast_mac, protocol, set_word, solicited_node,
};
use crate::{Discard, Discards, Instant, InterfaceConfig, InterfaceId, Prefix, Route, ipv4, ipv6, steer};

/// Interfaces, routes, neighbours, path MTUs and the outbox of one core.
#[derive(Debug)]
pub(crate) struct Output {
    pub locals: Locals,
    pub neighbours: Neighbours,
    pub paths: PathMtus,
    pub outbox: Outbox,
    /// Packets that died after they were made or taken.
    pub late: Discards,
    routes: Routes,
    /// Changes whenever a path that was resolved may no longer hold. Zero is never current.
    generation: u32,
    identifications: Identifications,
}

/// Where the next frame of a packet goes.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Next {
    /// Back to whoever sent us something.
    Mac(Mac),
    /// To a neighbour by its slot; the frame waits while it is resolved.
    Neighbour(u32),
}

/// The IP header of a packet of ours.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Envelope {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub hops: u8,
    pub ecn: u8,
    pub dont_fragment: bool,
}

impl Output {
    pub fn new(secret: &[u8; 32], now: Instant) -> Self {
        let key = |purpose| Key::new(secret, purpose);
        Self {
            locals: Locals::new(key(1)),
            neighbours: Neighbours::new(key(2), now),
            paths: PathMtus::new(key(3)),
            outbox: Outbox::default(),
            late: Discards::default(),
            routes: Routes::new(key(4)),
            generation: 1,
            identifications: Identifications::new(key(9), key(10)),
        }
    }

    // ---- configuration ----

    pub fn set_interface(&mut self, interface: InterfaceConfig) {
        self.locals.set(interface);
        self.invalidate_paths();
    }

    pub fn remove_interface(&mut self, interface: InterfaceId) {
        self.locals.remove(interface);
        for frame in self.neighbours.remove_interface(interface) {
            self.lose(frame, Discard::InterfaceGone);
        }
        self.invalidate_paths();
    }

    pub fn set_routes(&mut self, routes: &[Route]) {
        self.routes.set(routes);
        self.invalidate_paths();
    }

    pub fn set_neighbour(&mut self, interface: InterfaceId, address: IpAddr, mac: Option<Mac>, now: Instant) {
        let Some(mac) = mac else { return self.neighbours.forget(interface, address, now) };
        let (ready, evicted) = self.neighbours.tell(interface, address, mac, now);
        self.make_room(evicted);
        self.send_waiting(interface, mac, ready);
    }

    /// A neighbour had to go: what waited for it dies, and paths that lead to its slot are looked up again.
    fn make_room(&mut self, evicted: Option<Evicted>) {
        if let Some(frames) = evicted {
            frames.into_iter().for_each(|frame| self.lose(frame, Discard::NeighbourEvicted));
            self.invalidate_paths();
        }
    }

    fn invalidate_paths(&mut self) {
        self.generation = self.generation.wrapping_add(1).max(1);
    }

    // ---- neighbours ----

    /// Somebody on the link says where `address` is.
    pub fn claim(&mut self, interface: InterfaceId, address: IpAddr, mac: Mac, claim: Claim, now: Instant) {
        let claimed = self.neighbours.claim(interface, address, mac, claim, now);
        self.send_waiting(interface, mac, claimed.ready);
        if let Some(solicit) = claimed.solicit {
            self.solicit(solicit);
        }
        if claimed.denied {
            self.late.count(Discard::NeighbourClaimDenied);
        }
    }

    fn send_waiting(&mut self, interface: InterfaceId, mac: Mac, frames: Vec<Vec<u8>>) {
        for mut frame in frames {
            frame[..6].copy_from_slice(&mac);
            self.queue(interface, frame);
        }
    }

    /// Fires neighbours' timers while there is work to spend.
    pub fn handle_timers(&mut self, work: &mut usize, now: Instant) {
        while let Some(due) = self.neighbours.poll_due(now, work) {
            match due {
                Due::Solicit(solicit) => self.solicit(solicit),
                Due::Unresolved(frames) => {
                    for frame in frames {
                        self.lose(frame, Discard::NeighbourUnresolved);
                    }
                }
                Due::Nothing => {}
            }
        }
    }

    /// Sends an ARP request or a neighbour solicitation. Without room it is left to the retry.
    fn solicit(&mut self, solicit: Solicit) {
        let Some(interface) = self.locals.find(solicit.interface) else { return };
        let mut frame = self.outbox.buffer();
        let written = match solicit.address {
            IpAddr::V4(target) => write_arp_request(&mut frame, interface, target, solicit.to),
            IpAddr::V6(target) => write_solicitation(&mut frame, interface, target, solicit.to),
        };
        if written {
            self.queue(solicit.interface, frame);
        } else {
            self.lose(frame, Discard::NoSourceAddress);
        }
    }

    // ---- paths ----

    /// Another one when interfaces, addresses or routes have changed.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    #[inline]
    pub fn is_current(&self, path: &Path) -> bool {
        path.generation == self.generation
    }

    /// Makes `path` the current way between the two ends of a flow, if it is not. `only` confines it to one interface.
    pub fn resolve(
        &mut self,
        (local, remote): (SocketAddr, SocketAddr),
        only: Option<InterfaceId>,
        path: &mut Path,
        now: Instant,
    ) -> Result<(), Refused> {
        if self.is_current(path) {
            return Ok(());
        }
        let hash = steer::flow_hash(local, remote);
        let (interface, next) = self.find_route(remote.ip(), hash, only).ok_or(Refused::NoRoute)?;
        let (slot, evicted) = self.neighbours.slot(interface, next, now);
        self.make_room(evicted);
        *path = Path { interface: Some(interface), neighbour: slot, generation: self.generation };
        Ok(())
    }

    /// Interface and next hop: the longest of the routes and the prefixes of our own addresses.
    pub fn find_route(
        &self,
        to: IpAddr,
        hash: u32,
        only: Option<InterfaceId>,
    ) -> Option<(InterfaceId, IpAddr)> {
        let allowed = |id: &InterfaceId| only.is_none_or(|only| only == *id);
        let on_link = self.locals.on_link(to).filter(|(_, id)| allowed(id)).max_by_key(|(len, _)| *len);
        let routed =
            self.routes.find(to, hash, only).filter(|(_, hop)| self.locals.find(hop.interface).is_some());
        match (on_link, routed) {
            (Some((near, _)), Some((far, hop))) if far >= near => Some((hop.interface, hop.next)),
            (Some((_, interface)), _) => Some((interface, to)),
            (None, Some((_, hop))) => Some((hop.interface, hop.next)),
            (None, None) => None,
        }
    }

    /// IP bytes that a datagram to `remote` may have on `path`.
    pub fn path_mtu(&self, remote: IpAddr, path: &Path, now: Instant) -> Option<u16> {
        let interface = self.locals.find(path.interface?)?;
        Some(self.paths.limit(remote, interface.mtu, now))
    }

    /// The same of a stream's packet.
    pub fn stream_mtu(&self, remote: IpAddr, path: &Path, now: Instant) -> Option<u16> {
        let interface = self.locals.find(path.interface?)?;
        Some(self.paths.stream_limit(remote, interface.mtu, now))
    }

    /// The hardware address behind a neighbour's slot; asks for it where that is due.
    pub fn neighbour_mac(&mut self, slot: u32, now: Instant) -> Option<Mac> {
        let wanted = self.neighbours.want(slot, now);
        if let Some(solicit) = wanted.solicit {
            self.solicit(solicit);
        }
        wanted.mac
    }

    // ---- packets ----

    /// Sends a packet of ours by the outbox, in fragments where it is too long for the path.
    pub fn send(
        &mut self,
        interface: InterfaceId,
        next: Next,
        envelope: Envelope,
        payload: &[&[u8]],
        now: Instant,
    ) -> Result<(), Refused> {
        let mut packet = self.outbox.buffer();
        let payload_len = payload.iter().map(|part| part.len()).sum();
        packet.resize(IPV6_BYTES, 0);
        let identification = self.identifications.next(envelope.destination) as u16;
        let len = write_ip_header(&mut packet, envelope, identification, payload_len);
        packet.truncate(len);
        payload.iter().for_each(|part| packet.extend_from_slice(part));
        let result = self.send_packet(interface, next, &packet, now);
        self.outbox.recycle(packet);
        result
    }

    /// Sends an IP packet that is whole, in fragments where it is too long for the path.
    pub fn send_packet(
        &mut self,
        interface: InterfaceId,
        next: Next,
        packet: &[u8],
        now: Instant,
    ) -> Result<(), Refused> {
        let config = self.locals.find(interface).ok_or(Refused::NoRoute)?;
        let is_v4 = packet[0] >> 4 == 4;
        let destination = destination_of(packet);
        let mtu = usize::from(self.paths.limit(destination, config.mtu, now));
        if packet.len() <= mtu {
            return self.send_frame(interface, next, is_v4, &[packet], now);
        }
        let header_len = if is_v4 { usize::from(packet[0] & 0xf) * 4 } else { IPV6_BYTES };
        let overhead = if is_v4 { header_len } else { header_len + ipv6::FRAGMENT_HEADER_BYTES };
        let step = mtu.saturating_sub(overhead) & !7;
        let payload = &packet[header_len..];
        if step == 0 || self.outbox.room() < payload.len().div_ceil(step) {
            return Err(Refused::Full);
        }
        let identification = self.identifications.next(destination);
        for (index, part) in payload.chunks(step).enumerate() {
            let (offset, more) = (index * step, (index + 1) * step < payload.len());
            let mut header = [0; 60 + ipv6::FRAGMENT_HEADER_BYTES];
            header[..header_len].copy_from_slice(&packet[..header_len]);
            if is_v4 {
                if index > 0 {
                    ipv4::keep_copied_options(&mut header[..header_len]);
                }
                ipv4::set_fragment(&mut header[..header_len], offset, more, part.len());
            } else {
                set_word(&mut header, 4, (ipv6::FRAGMENT_HEADER_BYTES + part.len()) as u16);
                header[6] = protocol::FRAGMENT;
                ipv6::write_fragment_header(
                    &mut header[header_len..],
                    packet[6],
                    offset,
                    more,
                    identification,
                );
            }
            self.send_frame(interface, next, is_v4, &[&header[..overhead], part], now)?;
        }
        Ok(())
    }

    /// Puts a link header before a packet that fits, and queues it here or with its neighbour.
    fn send_frame(
        &mut self,
        interface: InterfaceId,
        next: Next,
        is_v4: bool,
        parts: &[&[u8]],
        now: Instant,
    ) -> Result<(), Refused> {
        let mac = match next {
            Next::Mac(mac) => Some(mac),
            Next::Neighbour(slot) => self.neighbour_mac(slot, now),
        };
        if mac.is_some() && self.outbox.room() == 0 {
            return Err(Refused::Full);
        }
        let config = self.locals.find(interface).ok_or(Refused::NoRoute)?;
        let mut frame = self.outbox.buffer();
        frame.resize(link::header_len(config), 0);
        let kind = if is_v4 { ether_type::IPV4 } else { ether_type::IPV6 };
        link::write_header(&mut frame, config, mac.unwrap_or_default(), kind);
        parts.iter().for_each(|part| frame.extend_from_slice(part));
        match (mac, next) {
            (None, Next::Neighbour(slot)) => self.neighbours.wait(slot, frame).map_err(|frame| {
                self.outbox.recycle(frame);
                Refused::Resolving
            }),
            _ => {
                self.queue(interface, frame);
                Ok(())
            }
        }
    }

    /// Queues a finished frame; it dies when there is no room.
    pub fn queue(&mut self, interface: InterfaceId, frame: Vec<u8>) {
        if let Err(frame) = self.outbox.push(interface, frame) {
            self.lose(frame, Discard::OutboxFull);
        }
    }

    fn lose(&mut self, frame: Vec<u8>, reason: Discard) {
        self.late.count(reason);
        self.outbox.recycle(frame);
    }
}

fn destination_of(packet: &[u8]) -> IpAddr {
    if packet[0] >> 4 == 4 {
        let octets: [u8; 4] = packet[16..20].try_into().expect("four bytes are an IPv4 address");
        octets.into()
    } else {
        let octets: [u8; 16] = packet[24..40].try_into().expect("sixteen bytes are an IPv6 address");
        octets.into()
    }
}

/// Writes an IP header and says how long it is. Both addresses are of one family.
fn write_ip_header(into: &mut [u8], envelope: Envelope, identification: u16, payload_len: usize) -> usize {
    let Envelope { protocol, hops, ecn, dont_fragment, .. } = envelope;
    match (envelope.source, envelope.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let fields = ipv4::Fields {
                source,
                destination,
                protocol,
                hops,
                ecn,
                identification,
                dont_fragment,
                payload_len,
            };
            ipv4::write(into, fields);
            IPV4_BYTES
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6::write(into, ipv6::Fields { source, destination, protocol, hops, ecn, payload_len });
            IPV6_BYTES
        }
        _ => {
            unreachable!("a flow's two addresses are of one family: it was made from one packet or one route")
        }
    }
}

/// The address of ours that asks: of the target's prefix, else any of its family on the interface.
fn asking_address(interface: &InterfaceConfig, target: IpAddr) -> Option<IpAddr> {
    let own = || interface.addresses.iter().filter(|(own, _)| own.is_ipv4() == target.is_ipv4());
    let near = own().find(|(own, len)| Prefix::new(*own, *len).contains(target));
    near.or_else(|| own().next()).map(|(own, _)| *own)
}

/// RFC 826. With no address of ours on the link, the sender is unspecified, as in a probe (RFC 5227, section 1.1).
fn write_arp_request(
    frame: &mut Vec<u8>,
    interface: &InterfaceConfig,
    target: Ipv4Addr,
    to: Option<Mac>,
) -> bool {
    let sender = match asking_address(interface, IpAddr::V4(target)) {
        Some(IpAddr::V4(sender)) => sender,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let start = link::header_len(interface);
    frame.resize(start + ARP_BYTES, 0);
    link::write_header(frame, interface, to.unwrap_or(BROADCAST), ether_type::ARP);
    let target_mac = to.unwrap_or_default();
    Arp { request: true, sender_mac: interface.mac, sender, target_mac, target }.write(&mut frame[start..]);
    true
}

/// RFC 4861, section 4.3. False: there is no address of ours to ask from.
fn write_solicitation(
    frame: &mut Vec<u8>,
    interface: &InterfaceConfig,
    target: Ipv6Addr,
    to: Option<Mac>,
) -> bool {
    let Some(IpAddr::V6(source)) = asking_address(interface, IpAddr::V6(target)) else { return false };
    let destination = if to.is_some() { target } else { solicited_node(target) };
    let mac = to.unwrap_or(multicast_mac(destination));
    let message = ndp_message(NDP_SOLICITATION, 0, target, interface.mac);
    write_ndp(frame, interface, mac, (source, destination), message);
    true
}

/// Link-layer address options (RFC 4861, section 4.6.1).
const OPTION_SOURCE_LINK: u8 = 1;
const OPTION_TARGET_LINK: u8 = 2;

/// A solicitation or advertisement with our link-layer address, its checksum still zero.
pub(crate) fn ndp_message(kind: u8, flags: u8, target: Ipv6Addr, mac: Mac) -> [u8; NDP_BYTES] {
    let mut message = [0; NDP_BYTES];
    message[0] = kind;
    message[4] = flags;
    message[8..24].copy_from_slice(&target.octets());
    message[24] = if kind == NDP_SOLICITATION { OPTION_SOURCE_LINK } else { OPTION_TARGET_LINK };
    message[25] = 1;
    message[26..32].copy_from_slice(&mac);
    message
}

/// Writes a whole frame with a neighbour discovery message.
pub(crate) fn write_ndp(
    frame: &mut Vec<u8>,
    interface: &InterfaceConfig,
    mac: Mac,
    ends: (Ipv6Addr, Ipv6Addr),
    mut message: [u8; NDP_BYTES],
) {
    let (source, destination) = ends;
    let mut sum = Sum::pseudo_header(source.into(), destination.into(), protocol::ICMPV6, NDP_BYTES);
    sum.add(&message);
    set_word(&mut message, 2, sum.checksum());
    let start = link::header_len(interface);
    frame.resize(start + IPV6_BYTES, 0);
    link::write_header(frame, interface, mac, ether_type::IPV6);
    let (protocol, hops) = (protocol::ICMPV6, NDP_HOPS);
    let fields = ipv6::Fields { source, destination, protocol, hops, ecn: 0, payload_len: NDP_BYTES };
    ipv6::write(&mut frame[start..], fields);
    frame.extend_from_slice(&message);
}
