//! UDP (RFC 768): reads and checks datagrams, and holds the sockets of tasks.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;

use crate::checksum::{Received, Sum, judge};
use crate::hash::{Key, Map, bits};
use crate::header::Header;
use crate::wire::{UDP_BYTES, protocol, word};
use crate::{Chain, Discard, InterfaceId};

/// Names a UDP socket; a stale one misses.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct UdpKey {
    pub(crate) slot: u32,
    pub(crate) life: u32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum UdpError {
    /// The address and port are bound already.
    InUse,
    /// The worker's socket limit is reached.
    TooMany,
    /// The key's socket is gone.
    Closed,
    /// No route to the destination, or no address of ours to send from.
    Unreachable,
    /// Longer than one IP packet carries.
    TooLong,
    /// Every source port towards the destination that steers home is taken.
    PortsExhausted,
}

/// Sockets a worker holds: health checks and tests, not traffic, which is sessions.
const MAX_SOCKETS: usize = 1024;
/// Bytes that wait in one socket, headers included in the reckoning (Linux: net.core.rmem_default).
const MAX_QUEUED_BYTES: usize = 212_992;
/// What a queued datagram costs beside its payload.
const QUEUED_OVERHEAD_BYTES: usize = 96;

/// A received datagram whose header and checksum are good.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Datagram {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub checksum: Checksum,
    /// Where the payload lies.
    pub payload: usize,
    pub end: usize,
}

/// The state that a good checksum is in.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Checksum {
    Correct(u16),
    /// The sender of an IPv4 datagram made none (RFC 768).
    Absent,
    /// To be computed: the sum of header and payload without the field.
    Unfinished(Sum),
}

/// Reads the header, and judges the checksum over all chunks.
pub(crate) fn parse(
    packet: &dyn Chain,
    header: &Header,
    unfinished_allowed: bool,
) -> Result<Datagram, Discard> {
    let chunk = packet.chunk(0);
    let bytes = chunk.get(header.transport..header.end.min(chunk.len())).unwrap_or(&[]);
    if bytes.len() < UDP_BYTES {
        return Err(Discard::UdpTruncated);
    }
    let len = usize::from(word(bytes, 4));
    if len < UDP_BYTES || len > header.transport_len() {
        return Err(Discard::UdpLength);
    }
    let end = header.transport + len;
    Ok(Datagram {
        source: SocketAddr::new(header.source, word(bytes, 0)),
        destination: SocketAddr::new(header.destination, word(bytes, 2)),
        checksum: check(packet, header, end, word(bytes, 6), unfinished_allowed)?,
        payload: header.transport + UDP_BYTES,
        end,
    })
}

fn check(
    packet: &dyn Chain,
    header: &Header,
    end: usize,
    field: u16,
    unfinished_allowed: bool,
) -> Result<Checksum, Discard> {
    if field == 0 {
        // RFC 8200, section 8.1: over IPv6 there must be one.
        return if header.source.is_ipv4() { Ok(Checksum::Absent) } else { Err(Discard::UdpChecksumMissing) };
    }
    let pseudo_header =
        Sum::pseudo_header(header.source, header.destination, protocol::UDP, end - header.transport);
    let mut sum = Sum::default();
    crate::chain::for_each_slice(packet, header.transport, end, |slice| sum.add(slice));
    match judge(pseudo_header, sum, field) {
        Received::Correct => Ok(Checksum::Correct(field)),
        Received::Unfinished if unfinished_allowed => {
            let mut rest = Sum::default();
            rest.add_sum(sum);
            rest.add_word(!field);
            Ok(Checksum::Unfinished(rest))
        }
        Received::Unfinished | Received::Wrong => Err(Discard::UdpChecksum),
    }
}

/// A socket's address; the unspecified address stands for all of its family.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
struct Binding {
    address: u128,
    port: u16,
    interface: Option<InterfaceId>,
}

impl Binding {
    fn new(address: SocketAddr, interface: Option<InterfaceId>) -> Self {
        Self { address: bits(address.ip()), port: address.port(), interface }
    }
}

#[derive(Debug)]
pub(crate) struct Sockets {
    slots: Vec<Slot>,
    free: Vec<u32>,
    index: Map<Binding, u32>,
    readable: VecDeque<UdpKey>,
    /// Sockets that found no room to send.
    blocked: VecDeque<UdpKey>,
}

#[derive(Debug)]
struct Slot {
    life: u32,
    socket: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    local: SocketAddr,
    interface: Option<InterfaceId>,
    /// Its port was chosen here: what arrives is an answer, and no admission is asked.
    ephemeral: bool,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    /// It is on the list of readable sockets.
    announced: bool,
}

#[derive(Debug)]
struct Queued {
    source: SocketAddr,
    destination: SocketAddr,
    payload: Vec<u8>,
}

impl Sockets {
    pub fn new(key: Key) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: Map::with_hasher(key),
            readable: VecDeque::new(),
            blocked: VecDeque::new(),
        }
    }

    /// Binds a socket. With port 0, it has no port until [`Sockets::set_port`].
    pub fn bind(&mut self, local: SocketAddr, interface: Option<InterfaceId>) -> Result<UdpKey, UdpError> {
        if local.port() != 0 && self.index.contains_key(&Binding::new(local, interface)) {
            return Err(UdpError::InUse);
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() == MAX_SOCKETS => return Err(UdpError::TooMany),
            None => {
                self.slots.push(Slot { life: 0, socket: None });
                (self.slots.len() - 1) as u32
            }
        };
        let entry = &mut self.slots[slot as usize];
        entry.socket = Some(Socket {
            local,
            interface,
            ephemeral: local.port() == 0,
            queue: VecDeque::new(),
            queued_bytes: 0,
            announced: false,
        });
        if local.port() != 0 {
            self.index.insert(Binding::new(local, interface), slot);
        }
        Ok(UdpKey { slot, life: entry.life })
    }

    pub fn close(&mut self, key: UdpKey) {
        let Ok(socket) = self.socket_mut(key) else { return };
        let binding = Binding::new(socket.local, socket.interface);
        if socket.local.port() != 0 {
            self.index.remove(&binding);
        }
        let entry = &mut self.slots[key.slot as usize];
        entry.socket = None;
        entry.life = entry.life.wrapping_add(1);
        self.free.push(key.slot);
    }

    /// Where a socket is bound, and to which interface it is confined.
    pub fn local(&self, key: UdpKey) -> Result<(SocketAddr, Option<InterfaceId>), UdpError> {
        let entry = self.slots.get(key.slot as usize).filter(|entry| entry.life == key.life);
        let socket = entry.and_then(|entry| entry.socket.as_ref()).ok_or(UdpError::Closed)?;
        Ok((socket.local, socket.interface))
    }

    /// Gives a socket that was bound to port 0 its port. False when the port is taken.
    pub fn set_port(&mut self, key: UdpKey, port: u16) -> bool {
        let Ok(socket) = self.socket_mut(key) else { return false };
        let local = SocketAddr::new(socket.local.ip(), port);
        let binding = Binding::new(local, socket.interface);
        if self.index.contains_key(&binding) {
            return false;
        }
        if let Ok(socket) = self.socket_mut(key) {
            socket.local = local;
        }
        self.index.insert(binding, key.slot);
        true
    }

    /// The socket that a datagram to `destination` belongs to: address before any, interface before any.
    pub fn find(&self, destination: SocketAddr, interface: InterfaceId) -> Option<UdpKey> {
        let any = SocketAddr::new(unspecified(destination.ip()), destination.port());
        let slot = [destination, any]
            .iter()
            .flat_map(|address| [Some(interface), None].map(|interface| Binding::new(*address, interface)))
            .find_map(|binding| self.index.get(&binding))?;
        Some(UdpKey { slot: *slot, life: self.slots[*slot as usize].life })
    }

    /// Whether the socket's port was chosen here.
    pub fn is_ephemeral(&self, key: UdpKey) -> bool {
        let entry = self.slots.get(key.slot as usize).filter(|entry| entry.life == key.life);
        entry.and_then(|entry| entry.socket.as_ref()).is_some_and(|socket| socket.ephemeral)
    }

    /// Queues a datagram for the task.
    pub fn deliver(&mut self, key: UdpKey, packet: &dyn Chain, datagram: &Datagram) -> Result<(), Discard> {
        let socket = self.socket_mut(key).map_err(|_| Discard::UdpPortUnreachable)?;
        let len = datagram.end - datagram.payload;
        if socket.queued_bytes + len + QUEUED_OVERHEAD_BYTES > MAX_QUEUED_BYTES {
            return Err(Discard::UdpQueueFull);
        }
        let mut payload = Vec::with_capacity(len);
        crate::chain::for_each_slice(packet, datagram.payload, datagram.end, |slice| {
            payload.extend_from_slice(slice)
        });
        let announce = socket.queue.is_empty() && !socket.announced;
        socket.announced |= announce;
        socket.queued_bytes += len + QUEUED_OVERHEAD_BYTES;
        socket.queue.push_back(Queued {
            source: datagram.source,
            destination: datagram.destination,
            payload,
        });
        if announce {
            self.readable.push_back(key);
        }
        Ok(())
    }

    /// Takes the oldest datagram; what does not fit `into` is cut off.
    pub fn receive(
        &mut self,
        key: UdpKey,
        into: &mut [u8],
    ) -> Poll<Result<(usize, SocketAddr, SocketAddr), UdpError>> {
        let socket = match self.socket_mut(key) {
            Ok(socket) => socket,
            Err(error) => return Poll::Ready(Err(error)),
        };
        let Some(queued) = socket.queue.pop_front() else { return Poll::Pending };
        socket.queued_bytes -= queued.payload.len() + QUEUED_OVERHEAD_BYTES;
        let len = queued.payload.len().min(into.len());
        into[..len].copy_from_slice(&queued.payload[..len]);
        Poll::Ready(Ok((len, queued.source, queued.destination)))
    }

    /// The next socket that has become readable.
    pub fn poll_readable(&mut self) -> Option<UdpKey> {
        loop {
            let key = self.readable.pop_front()?;
            if let Ok(socket) = self.socket_mut(key) {
                socket.announced = false;
                return Some(key);
            }
        }
    }

    /// The socket found no room to send and is to be told when there is some.
    pub fn block(&mut self, key: UdpKey) {
        if !self.blocked.contains(&key) && self.blocked.len() < MAX_SOCKETS {
            self.blocked.push_back(key);
        }
    }

    /// The next socket that waits for room; called when there is some.
    pub fn poll_writable(&mut self) -> Option<UdpKey> {
        self.blocked.pop_front()
    }

    fn socket_mut(&mut self, key: UdpKey) -> Result<&mut Socket, UdpError> {
        let entry = self.slots.get_mut(key.slot as usize).filter(|entry| entry.life == key.life);
        entry.and_then(|entry| entry.socket.as_mut()).ok_or(UdpError::Closed)
    }
}

fn unspecified(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
