//! How the stack hands new packets to its caller.

use std::num::NonZeroU16;

use crate::InterfaceId;

/// Where packets that the stack makes are written. The worker's implementation copies them into frames of the
/// interface's pool; the simulator's into its links.
pub trait Egress {
    /// How many more packets `interface` takes now.
    fn room(&self, interface: InterfaceId) -> usize;

    /// Writes one packet: `header` (Ethernet onwards), then the payload slices, oldest byte first.
    fn emit(&mut self, interface: InterfaceId, header: &[u8], payload: [&[u8]; 2]) -> Result<(), Full>;

    /// Writes one TCP packet, longer than the interface's MTU, that is cut into segments of `segment_bytes` of text, the last
    /// with what is left. All of it, or nothing. Called where [`Offloads::cuts_tcp`] promises that it is taken; `header` is
    /// the whole's, with the pseudo-header's sum alone as its checksum.
    fn emit_long(
        &mut self,
        interface: InterfaceId,
        header: &[u8],
        payload: [&[u8]; 2],
        segment_bytes: NonZeroU16,
    ) -> Result<(), Full> {
        let _ = (interface, header, payload, segment_bytes);
        Err(Full)
    }

    /// What the interface does for us; fixed for its life.
    fn offloads(&self, interface: InterfaceId) -> Offloads;
}

/// The interface takes no more packets this turn. The stack keeps what it has and offers it again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Full;

/// What a queue pair promises. All off is always correct.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The neighbour may leave a received L4 checksum unfinished (veth with `tx` offload on): a field equal to the
    /// folded pseudo-header sum is then accepted. Off: such a field is a wrong checksum.
    pub unfinished_receive_checksum: bool,
    /// TCP packets with more text than this (bytes) are taken with the pseudo-header's sum alone in their checksum
    /// field. `None`: the stack finishes all that it sends.
    pub finishes_tcp_above: Option<usize>,
    /// TCP text of several segments is taken in one packet and cut ([`Egress::emit_long`]).
    pub cuts_tcp: bool,
}
