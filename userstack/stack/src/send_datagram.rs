//! Datagrams that tasks send by their sockets.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use crate::checksum::Sum;
use crate::hash::bits;
use crate::output::{Envelope, Next};
use crate::stack::Stack;
use crate::tcp::boundary::{Path, Refused};
use crate::udp::{UdpError, UdpKey};
use crate::wire::{HOPS, IPV4_BYTES, UDP_BYTES, protocol, set_word};
use crate::{Discard, Instant, InterfaceId, steer};

/// Longest IP packet.
const MAX_PACKET_BYTES: usize = 65_535;

impl Stack {
    pub(crate) fn send_datagram(
        &mut self,
        socket: UdpKey,
        payload: &[u8],
        remote: SocketAddr,
        now: Instant,
    ) -> Poll<Result<(), UdpError>> {
        let (local, path) = match self.prepare(socket, payload.len(), remote, now) {
            Ok(prepared) => prepared,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let Some(interface) = path.interface else { return Poll::Ready(Err(UdpError::Unreachable)) };
        let header = udp_header(local, remote, payload);
        let envelope = Envelope {
            source: local.ip(),
            destination: remote.ip(),
            protocol: protocol::UDP,
            hops: HOPS,
            ecn: 0,
            dont_fragment: false,
        };
        let next = Next::Neighbour(path.neighbour);
        match self.output.send(interface, next, envelope, &[&header, payload], now) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(Refused::Full) => {
                self.sockets.block(socket);
                Poll::Pending
            }
            // UDP promises nothing: the sender goes on, the loss is counted.
            Err(Refused::Resolving) => {
                self.output.late.count(Discard::NeighbourQueueFull);
                Poll::Ready(Ok(()))
            }
            Err(Refused::NoRoute) => Poll::Ready(Err(UdpError::Unreachable)),
        }
    }

    /// Source address, port and path of a datagram.
    fn prepare(
        &mut self,
        socket: UdpKey,
        len: usize,
        remote: SocketAddr,
        now: Instant,
    ) -> Result<(SocketAddr, Path), UdpError> {
        let (bound, only) = self.sockets.local(socket)?;
        if bound.is_ipv4() != remote.is_ipv4() || remote.ip().is_unspecified() || remote.ip().is_multicast() {
            return Err(UdpError::Unreachable);
        }
        let ip_bytes = if remote.is_ipv4() { IPV4_BYTES } else { 0 };
        if ip_bytes + UDP_BYTES + len > MAX_PACKET_BYTES {
            return Err(UdpError::TooLong);
        }
        let mut path = Path::default();
        self.output.resolve((bound, remote), only, &mut path, now).map_err(|_| UdpError::Unreachable)?;
        let address = self.source_address(bound.ip(), path.interface, remote.ip())?;
        let port = match bound.port() {
            0 => self.choose_port(socket, address, remote)?,
            port => port,
        };
        Ok((SocketAddr::new(address, port), path))
    }

    fn source_address(
        &self,
        bound: IpAddr,
        interface: Option<InterfaceId>,
        remote: IpAddr,
    ) -> Result<IpAddr, UdpError> {
        if !bound.is_unspecified() {
            return Ok(bound);
        }
        let interface = interface.and_then(|id| self.output.locals.find(id));
        interface
            .and_then(|interface| self.output.locals.source_for(interface, remote))
            .ok_or(UdpError::Unreachable)
    }

    /// The first port of the configured range, beginning at a place that the secret chooses for the socket (RFC 6056,
    /// section 3.3.2), that is free and whose answers steer to this worker.
    fn choose_port(&mut self, socket: UdpKey, address: IpAddr, remote: SocketAddr) -> Result<u16, UdpError> {
        let (first, last) = self.config.ports;
        let count = u32::from(last - first) + 1;
        let start =
            self.port_key.hash_one((bits(remote.ip()), remote.port(), socket.slot, socket.life)) as u32;
        let (worker, workers) = (self.config.worker, self.config.workers);
        (0..count)
            .map(|step| first + (start.wrapping_add(step) % count) as u16)
            .filter(|port| steer::steers_home(SocketAddr::new(address, *port), remote, worker, workers))
            .find(|port| self.sockets.set_port(socket, *port))
            .ok_or(UdpError::PortsExhausted)
    }
}

fn udp_header(local: SocketAddr, remote: SocketAddr, payload: &[u8]) -> [u8; UDP_BYTES] {
    let len = UDP_BYTES + payload.len();
    let mut header = [0; UDP_BYTES];
    set_word(&mut header, 0, local.port());
    set_word(&mut header, 2, remote.port());
    set_word(&mut header, 4, len as u16);
    let mut sum = Sum::pseudo_header(local.ip(), remote.ip(), protocol::UDP, len);
    sum.add(&header);
    sum.add(payload);
    set_word(&mut header, 6, sum.udp_checksum());
    header
}
