//! How a simulated host's stack sees packets, and where it writes its own.

use std::num::NonZeroU16;

use nic::{Burst, Packet};
use stack::{Chain, Egress, Full, InterfaceId, Offloads, Pieces};

use crate::LinkEnd;
use crate::end::packet_of;

/// A received packet, as the stack reads and rewrites it.
#[derive(Debug)]
pub(crate) struct PacketChain<'a>(pub(crate) &'a mut Packet);

impl Chain for PacketChain<'_> {
    fn total_len(&self) -> usize {
        self.0.len()
    }

    fn chunks(&self) -> usize {
        self.0.frames()
    }

    fn chunk(&self, index: usize) -> &[u8] {
        self.0.frame(index).map_or(&[], |frame| frame.bytes())
    }

    fn chunk_mut(&mut self, index: usize) -> &mut [u8] {
        self.0.frame_mut(index).map_or(&mut [], |frame| frame.bytes_mut())
    }

    fn grow_front(&mut self, bytes: usize) -> bool {
        self.0.frame_mut(0).is_some_and(|frame| frame.grow_front(bytes))
    }

    fn shrink_front(&mut self, bytes: usize) {
        if let Some(frame) = self.0.frame_mut(0) {
            frame.shrink_front(bytes);
        }
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }
}

/// A burst, to look for segments that follow each other.
#[derive(Debug)]
pub(crate) struct Together<'a>(pub(crate) &'a Burst);

impl Pieces for Together<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    fn piece(&self, index: usize) -> &[u8] {
        let frame =
            self.0.get(index).filter(|packet| packet.frames() == 1).and_then(|packet| packet.frame(0));
        frame.map_or(&[], |frame| frame.bytes())
    }
}

/// The link ends of a host, as the stack writes to them.
#[derive(Debug)]
pub(crate) struct Ends<'a> {
    pub(crate) ends: &'a [(InterfaceId, LinkEnd)],
    /// They cut long packets into segments.
    pub(crate) cut: bool,
}

impl Ends<'_> {
    fn of(&self, interface: InterfaceId) -> Option<&LinkEnd> {
        self.ends.iter().find(|(id, _)| *id == interface).map(|(_, end)| end)
    }
}

impl Egress for Ends<'_> {
    fn room(&self, interface: InterfaceId) -> usize {
        self.of(interface).map_or(0, LinkEnd::room)
    }

    fn emit(&mut self, interface: InterfaceId, header: &[u8], payload: [&[u8]; 2]) -> Result<(), Full> {
        let end = self.of(interface).ok_or(Full)?;
        if end.room() == 0 {
            return Err(Full);
        }
        end.transmit_one(packet_of(&[header, payload[0], payload[1]])).map_err(|_| Full)
    }

    fn emit_long(
        &mut self,
        interface: InterfaceId,
        header: &[u8],
        payload: [&[u8]; 2],
        segment_bytes: NonZeroU16,
    ) -> Result<(), Full> {
        let end = self.of(interface).ok_or(Full)?;
        if end.room() < nic::pieces(payload, segment_bytes) {
            return Err(Full);
        }
        let cut = nic::cut(header, payload, segment_bytes, |own, [first, second]| {
            let sent = end.transmit_one(packet_of(&[own, first, second]));
            debug_assert!(sent.is_ok(), "there is room for all of them");
        });
        debug_assert!(cut, "what the stack writes has plain headers");
        Ok(())
    }

    fn offloads(&self, _: InterfaceId) -> Offloads {
        Offloads { cuts_tcp: self.cut, ..Offloads::default() }
    }
}
