//! The worker's queue pairs, the interfaces that lie on them, and the way out: how a packet finds a queue.

use std::num::NonZeroU16;

use nic::{Frame, Large, Packet, QueuePair};
use stack::{Discard, Discards, Egress, Full, InterfaceConfig, InterfaceId, Offloads};

use crate::flow;
use crate::port::{LinkState, Port};
use crate::ring::{Errand, RingSender};

/// Where an interface's packets leave.
#[derive(Clone, Debug, Default)]
pub struct Exit {
    /// Ports of this worker; several on a bond.
    pub ports: Vec<usize>,
    /// The worker that owns a queue, when this one has none.
    pub owner: Option<usize>,
}

/// A logical interface on this worker.
#[derive(Clone, Debug)]
struct Slot {
    config: InterfaceConfig,
    exit: Exit,
}

/// Everything packets leave through. Lent to the stack as its [`Egress`].
#[derive(Debug, Default)]
pub struct Ports {
    pub list: Vec<Port>,
    /// Ports with something to send, each once.
    sending: Vec<usize>,
    interfaces: Vec<Option<Slot>>,
    /// By worker number; `None` for ourselves.
    rings: Vec<Option<RingSender>>,
    pub discards: Discards,
}

impl Ports {
    pub fn new(rings: Vec<Option<RingSender>>) -> Self {
        Self { rings, ..Self::default() }
    }

    pub fn set_interface(&mut self, config: InterfaceConfig, exit: Exit) {
        self.remove_interface(config.id);
        for &port in &exit.ports {
            self.list[port].lead(config.vlan, Some(config.id));
        }
        let index = usize::from(config.id.0);
        if self.interfaces.len() <= index {
            self.interfaces.resize_with(index + 1, || None);
        }
        self.interfaces[index] = Some(Slot { config, exit });
    }

    pub fn remove_interface(&mut self, id: InterfaceId) {
        let Some(slot) = self.interfaces.get_mut(usize::from(id.0)).and_then(Option::take) else { return };
        for &port in &slot.exit.ports {
            self.list[port].lead(slot.config.vlan, None);
        }
    }

    fn interface(&self, id: InterfaceId) -> Option<&Slot> {
        self.interfaces.get(usize::from(id.0))?.as_ref()
    }

    /// The port of this worker that a flow leaves by: the only one, or one of those that can do best, by hash. A bond
    /// whose members are all down or stand by has not yet chosen another: one that stands by is the better guess.
    fn choose(&self, exit: &Exit, head: &[u8]) -> Option<usize> {
        match exit.ports[..] {
            [] => None,
            [only] => Some(only),
            ref several => {
                let link = |port: usize| self.list[port].link;
                let best =
                    several.iter().map(|&port| link(port)).max().filter(|&best| best > LinkState::Down)?;
                let usable = several.iter().filter(|&&port| link(port) == best);
                let count = usable.clone().count();
                usable.copied().nth(flow::hash(head) as usize % count.max(1))
            }
        }
    }

    /// Hands every ring what waits for it.
    pub fn flush(&mut self) {
        let list = &mut self.list;
        self.sending.retain(|&port| {
            let port = &mut list[port];
            port.flush();
            port.listed = port.is_sending();
            port.listed
        });
    }

    /// A device has not taken all that is for it.
    pub fn is_sending(&self) -> bool {
        self.sending.iter().any(|&port| self.list[port].link > LinkState::Down)
    }

    /// Transmits a packet in the frames that it lies in.
    pub fn forward(&mut self, id: InterfaceId, packet: Packet) {
        let Some(slot) = self.interface(id) else { return self.discards.count(Discard::NoTransmitQueue) };
        let head = packet.frame(0).map_or(&[][..], Frame::bytes);
        if let Some(port) = self.choose(&slot.exit, head) {
            if let Err(_lost) = self.queue(port, packet) {
                self.discards.count(Discard::TransmitFull);
            }
            return;
        }
        let pieces = (0..packet.frames()).filter_map(|index| packet.frame(index)).map(Frame::bytes);
        self.hand_over(id, pieces.collect::<Vec<_>>());
    }

    /// Transmits bytes that lie elsewhere (another worker's ring).
    pub fn forward_bytes(&mut self, id: InterfaceId, bytes: &[u8]) {
        if self.emit(id, bytes, [&[], &[]]).is_err() {
            self.discards.count(Discard::TransmitFull);
        }
    }

    /// Gives the bytes to the worker that owns a queue of the interface.
    fn hand_over<'a>(&mut self, id: InterfaceId, pieces: impl IntoIterator<Item = &'a [u8]>) {
        match self.interface(id).and_then(|slot| slot.exit.owner) {
            None => self.discards.count(Discard::NoTransmitQueue),
            Some(owner) => {
                self.send_to(owner, Errand::Transmit(id), pieces);
            }
        }
    }

    /// Sends a packet's bytes to another worker. False, and counted, when the ring is full.
    pub fn send_to<'a>(
        &mut self,
        worker: usize,
        errand: Errand,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> bool {
        let sent =
            self.rings.get(worker).and_then(Option::as_ref).is_some_and(|ring| ring.send(errand, pieces));
        if !sent {
            self.discards.count(Discard::RingFull);
        }
        sent
    }

    fn queue(&mut self, number: usize, packet: Packet) -> Result<(), Packet> {
        let port = &mut self.list[number];
        if !std::mem::replace(&mut port.listed, true) {
            self.sending.push(number);
        }
        if port.outgoing.is_full() {
            port.flush();
        }
        port.outgoing.push(packet)
    }

    /// Sends a large TCP packet from where it lies, if the queue pair does that.
    fn send_large(&mut self, port: usize, header: &[u8], payload: [&[u8]; 2]) -> Option<Result<(), Full>> {
        let Port { queue, outgoing, .. } = &mut self.list[port];
        let above = queue.offloads().finishes_tcp_above?;
        if payload[0].len() + payload[1].len() <= above {
            return None;
        }
        match queue.transmit_large(outgoing, header, payload, None) {
            Large::Taken => Some(Ok(())),
            Large::Full => Some(Err(Full)),
            Large::Refused => None,
        }
    }

    /// Sends the segments of a long packet one by one, finished. The burst before the ring has room for all of them.
    fn cut(&mut self, port: usize, header: &[u8], payload: [&[u8]; 2], segment_bytes: NonZeroU16) {
        let mut lost = 0;
        let cut = nic::cut(header, payload, segment_bytes, |own, [first, second]| {
            let packet = self.build(port, [own, first, second]);
            let queued = packet.is_some_and(|packet| self.queue(port, packet).is_ok());
            lost += usize::from(!queued);
        });
        debug_assert!(cut, "what the stack writes has plain headers");
        self.discards.count_many(Discard::TransmitFull, lost);
    }

    /// Copies the pieces into frames of the port's own memory. `None`: no frame is free.
    fn build(&mut self, port: usize, pieces: [&[u8]; 3]) -> Option<Packet> {
        let queue = &mut self.list[port].queue;
        let mut packet = Packet::new(queue.frame()?);
        for mut piece in pieces {
            loop {
                let taken = packet.last_mut().append(piece);
                piece = &piece[taken..];
                if piece.is_empty() {
                    break;
                }
                packet.push(queue.frame()?).ok()?;
            }
        }
        Some(packet)
    }
}

impl Egress for Ports {
    fn room(&self, interface: InterfaceId) -> usize {
        let Some(slot) = self.interface(interface) else { return 0 };
        let own = slot.exit.ports.iter().map(|&port| self.list[port].outgoing.room()).sum();
        let other =
            slot.exit.owner.and_then(|owner| self.rings.get(owner)?.as_ref()).map_or(0, RingSender::room);
        if slot.exit.ports.is_empty() { other } else { own }
    }

    fn emit(&mut self, interface: InterfaceId, header: &[u8], payload: [&[u8]; 2]) -> Result<(), Full> {
        // An interface that went away takes everything: the packet dies here and is counted.
        let Some(slot) = self.interface(interface) else {
            self.discards.count(Discard::NoTransmitQueue);
            return Ok(());
        };
        let Some(port) = self.choose(&slot.exit, header) else {
            self.hand_over(interface, [header, payload[0], payload[1]]);
            return Ok(());
        };
        if self.list[port].outgoing.is_full() {
            self.list[port].flush();
            if self.list[port].outgoing.is_full() {
                return Err(Full);
            }
        }
        if let Some(taken) = self.send_large(port, header, payload) {
            return taken;
        }
        let packet = self.build(port, [header, payload[0], payload[1]]).ok_or(Full)?;
        self.queue(port, packet).map_err(|_packet| Full)
    }

    fn emit_long(
        &mut self,
        interface: InterfaceId,
        header: &[u8],
        payload: [&[u8]; 2],
        segment_bytes: NonZeroU16,
    ) -> Result<(), Full> {
        let port = self.interface(interface).and_then(|slot| self.choose(&slot.exit, header));
        let Some(port) = port else {
            self.discards.count(Discard::NoTransmitQueue);
            return Ok(());
        };
        let segments = nic::pieces(payload, segment_bytes);
        let Port { queue, outgoing, .. } = &mut self.list[port];
        match queue.transmit_large(outgoing, header, payload, Some(segment_bytes)) {
            Large::Taken => return Ok(()),
            Large::Full => return Err(Full),
            Large::Refused => {}
        }
        if outgoing.room() < segments {
            self.list[port].flush();
        }
        if self.list[port].outgoing.room() < segments {
            return Err(Full);
        }
        self.cut(port, header, payload, segment_bytes);
        Ok(())
    }

    fn offloads(&self, interface: InterfaceId) -> Offloads {
        let Some(ports) = self.interface(interface).map(|slot| &slot.exit.ports[..]) else {
            return Offloads::default();
        };
        ports.first().map_or_else(Offloads::default, |&port| {
            let promised = self.list[port].queue.offloads();
            Offloads {
                unfinished_receive_checksum: promised.unfinished_receive_checksum,
                // Of several ports each flow leaves by another.
                finishes_tcp_above: promised.finishes_tcp_above.filter(|_| ports.len() == 1),
                cuts_tcp: promised.cuts_tcp && ports.len() == 1,
            }
        })
    }
}
