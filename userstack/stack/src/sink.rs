//! IP as TCP sees it during one `poll_transmit`: segments go straight into the egress. What the segments of one connection
//! have in common, the headers of link and IP and their sums, is written once a visit; each segment fills in the rest.

use std::net::{IpAddr, SocketAddr};

use crate::checksum::Sum;
use crate::link;
use crate::output::Output;
use crate::tcp::boundary::{Outgoing, Path, Refused, SegmentSink};
use crate::wire::{HOPS, IPV4_BYTES, IPV6_BYTES, LINK_AND_IP_BYTES, Mac, ether_type, protocol, set_word};
use crate::{Egress, Instant, InterfaceId};

/// Longest TCP header (RFC 9293, section 3.1: a data offset of 15 words).
const MAX_TCP_HEADER_BYTES: usize = 60;
/// All headers of a segment.
const HEADER_BYTES: usize = LINK_AND_IP_BYTES + MAX_TCP_HEADER_BYTES;
/// The header with the timestamps option, which nearly every segment has (RFC 7323, appendix A).
const USUAL_TCP_HEADER_BYTES: usize = 32;
/// Text of a segment that is finished without asking: so little costs less to sum than to ask for.
const ALWAYS_FINISHED_BYTES: usize = 512;
/// The checksum's place in it (RFC 9293, section 3.1).
const TCP_CHECKSUM_AT: usize = 16;

/// IPv4's header without length, checksum and addresses: a packet that no router cuts (path MTU discovery; an
/// identification of zero is fine for what is never fragmented, RFC 6864).
const V4: [u8; IPV4_BYTES] =
    [0x45, 0, 0, 0, 0, 0, 0x40, 0, HOPS, protocol::TCP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// IPv6's without length and addresses.
const V6: [u8; 8] = [0x60, 0, 0, 0, 0, 0, protocol::TCP, HOPS];

pub(crate) struct Sink<'a> {
    output: &'a mut Output,
    egress: &'a mut dyn Egress,
    now: Instant,
    /// Segments that went into the egress.
    sent: usize,
    /// Where segments go now.
    lane: Result<Lane, Refused>,
    /// Link, IP and TCP headers of the segment at hand; those of the lane stay from one to the next.
    headers: [u8; HEADER_BYTES],
}

/// The way of one connection's segments.
#[derive(Copy, Clone, Debug)]
struct Lane {
    interface: InterfaceId,
    neighbour: u32,
    mac: NextHop,
    is_v4: bool,
    /// Where IP's header begins, and where it ends.
    network: usize,
    transport: usize,
    /// The sum of IPv4's header without length and ECN.
    ip: u16,
    /// Of the pseudo-header without length.
    pseudo_header: Sum,
}

/// The neighbour is asked for when there is something to send to it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum NextHop {
    Unasked,
    Known,
    Unknown,
}

impl<'a> Sink<'a> {
    pub fn new(output: &'a mut Output, egress: &'a mut dyn Egress, now: Instant) -> Self {
        let headers = [0; HEADER_BYTES];
        Self { output, egress, now, sent: 0, lane: Err(Refused::NoRoute), headers }
    }

    pub fn sent(&self) -> usize {
        self.sent
    }

    /// An address that left us is another host's now: nothing is sent from it, until it comes back (RFC 1122, section
    /// 3.3.4.2). Looked at when interfaces or routes have changed.
    fn check_source(&self, local: IpAddr) -> Result<(), Refused> {
        if self.output.locals.is_source(local) { Ok(()) } else { Err(Refused::NoRoute) }
    }

    /// Writes what all segments of the lane have in common.
    fn lay(&mut self, local: IpAddr, remote: IpAddr, path: &Path) -> Result<Lane, Refused> {
        let id = path.interface.ok_or(Refused::NoRoute)?;
        let interface = self.output.locals.find(id).ok_or(Refused::NoRoute)?;
        let is_v4 = local.is_ipv4();
        let kind = if is_v4 { ether_type::IPV4 } else { ether_type::IPV6 };
        let network = link::write_header(&mut self.headers, interface, Mac::default(), kind);
        let mut addresses = Sum::default();
        addresses.add_address(local);
        addresses.add_address(remote);
        let (mut ip, mut pseudo_header) = (addresses, addresses);
        pseudo_header.add_length(protocol::TCP, 0);
        let header = &mut self.headers[network..];
        let ip_bytes = match (local, remote) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = header.first_chunk_mut::<IPV4_BYTES>().ok_or(Refused::NoRoute)?;
                *header = V4;
                ip.add_sum(Sum::of_header(&V4));
                header[12..16].copy_from_slice(&source.octets());
                header[16..20].copy_from_slice(&destination.octets());
                IPV4_BYTES
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = header.first_chunk_mut::<IPV6_BYTES>().ok_or(Refused::NoRoute)?;
                header[..8].copy_from_slice(&V6);
                header[8..24].copy_from_slice(&source.octets());
                header[24..].copy_from_slice(&destination.octets());
                IPV6_BYTES
            }
            _ => return Err(Refused::NoRoute),
        };
        let (neighbour, mac) = (path.neighbour, NextHop::Unasked);
        let transport = network + ip_bytes;
        let ip = ip.fold();
        Ok(Lane { interface: id, neighbour, mac, is_v4, network, transport, ip, pseudo_header })
    }

    #[inline(never)]
    fn ask_for_neighbour(&mut self) -> Result<(), Refused> {
        let lane = self.lane.as_mut().map_err(|refused| *refused)?;
        lane.mac = NextHop::Unknown;
        if let Some(mac) = self.output.neighbour_mac(lane.neighbour, self.now) {
            lane.mac = NextHop::Known;
            self.headers[..6].copy_from_slice(&mac);
        }
        Ok(())
    }

    /// The next hop's hardware address is not known yet.
    #[inline(never)]
    fn wait(&mut self, neighbour: u32, end: usize, payload: [&[u8]; 2]) -> Result<(), Refused> {
        let mut frame = self.output.outbox.buffer();
        frame.extend_from_slice(&self.headers[..end]);
        payload.iter().for_each(|part| frame.extend_from_slice(part));
        self.output.neighbours.wait(neighbour, frame).map_err(|frame| {
            self.output.outbox.recycle(frame);
            Refused::Resolving
        })
    }
}

impl SegmentSink for Sink<'_> {
    fn open(&mut self, local: SocketAddr, remote: SocketAddr, path: &mut Path) -> Result<u16, Refused> {
        self.lane = Err(Refused::NoRoute);
        if !self.output.is_current(path) {
            self.check_source(local.ip())?;
            self.output.resolve((local, remote), None, path, self.now)?;
        }
        let mtu = self.output.stream_mtu(remote.ip(), path, self.now).ok_or(Refused::NoRoute)?;
        self.lane = self.lay(local.ip(), remote.ip(), path);
        Ok(mtu)
    }

    /// A packet that waits for its neighbour lies in a frame, where nobody cuts it.
    fn cuts(&mut self) -> bool {
        if !self.lane.is_ok_and(|lane| self.egress.offloads(lane.interface).cuts_tcp) {
            return false;
        }
        if matches!(self.lane, Ok(Lane { mac: NextHop::Unasked, .. })) && self.ask_for_neighbour().is_err() {
            return false;
        }
        matches!(self.lane, Ok(Lane { mac: NextHop::Known, .. }))
    }

    #[inline]
    fn send(&mut self, segment: &Outgoing<'_>) -> Result<(), Refused> {
        if matches!(self.lane, Ok(Lane { mac: NextHop::Unasked, .. })) {
            self.ask_for_neighbour()?;
        }
        let lane = self.lane.as_ref().map_err(|refused| *refused)?;
        let [first, second] = segment.payload;
        let text_bytes = first.len() + second.len();
        let tcp_bytes = segment.header.len() + text_bytes;
        let end = lane.transport + segment.header.len();
        lane.write_ip(&mut self.headers, tcp_bytes, segment.ecn);
        let tcp = self.headers.get_mut(lane.transport..end).ok_or(Refused::NoRoute)?;
        let mut sum = lane.pseudo_header;
        sum.add_length(0, tcp_bytes);
        if segment.segment_bytes.is_some()
            || text_bytes > ALWAYS_FINISHED_BYTES
                && self
                    .egress
                    .offloads(lane.interface)
                    .finishes_tcp_above
                    .is_some_and(|above| text_bytes > above)
        {
            tcp.copy_from_slice(segment.header);
            set_word(tcp, TCP_CHECKSUM_AT, sum.fold());
        } else {
            sum.add_sum(copy_and_sum(tcp, segment.header));
            if second.is_empty() {
                sum.add_sum(Sum::of(first));
            } else {
                sum.add(first);
                sum.add(second);
            }
            set_word(tcp, TCP_CHECKSUM_AT, sum.checksum());
        }
        if lane.mac == NextHop::Unknown {
            let neighbour = lane.neighbour;
            return self.wait(neighbour, end, segment.payload);
        }
        let headers = &self.headers[..end];
        match segment.segment_bytes {
            None => self.egress.emit(lane.interface, headers, segment.payload)?,
            Some(bytes) => self.egress.emit_long(lane.interface, headers, segment.payload, bytes)?,
        }
        self.sent += 1;
        Ok(())
    }
}

impl Lane {
    /// IP's length, ECN bits and checksum.
    #[inline(always)]
    fn write_ip(&self, headers: &mut [u8; HEADER_BYTES], tcp_bytes: usize, ecn: u8) {
        let Some(ip) = headers.get_mut(self.network..) else { return };
        if self.is_v4 {
            let Some(ip) = ip.first_chunk_mut::<IPV4_BYTES>() else { return };
            let length = (IPV4_BYTES + tcp_bytes) as u16;
            ip[1] = ecn;
            set_word(ip, 2, length);
            let sum = u32::from(self.ip) + u32::from(length) + u32::from(ecn);
            let sum = (sum >> 16) + (sum & 0xffff);
            set_word(ip, 10, !((sum >> 16) + sum) as u16);
        } else if let Some(ip) = ip.first_chunk_mut::<IPV6_BYTES>() {
            ip[1] = ecn << 4;
            set_word(ip, 4, tcp_bytes as u16);
        }
    }
}

/// Writes a TCP header to its place. Its checksum field is zero.
#[inline(always)]
fn copy_and_sum(to: &mut [u8], header: &[u8]) -> Sum {
    debug_assert_eq!(header[TCP_CHECKSUM_AT..TCP_CHECKSUM_AT + 2], [0; 2], "IP fills in the checksum");
    let usual = <&mut [u8; USUAL_TCP_HEADER_BYTES]>::try_from(&mut *to);
    if let (Ok(to), Ok(header)) = (usual, <&[u8; USUAL_TCP_HEADER_BYTES]>::try_from(header)) {
        *to = *header;
        return Sum::of_header(header);
    }
    to.copy_from_slice(header);
    Sum::of(header)
}
