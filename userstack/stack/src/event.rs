//! What the stack tells its caller.

use crate::tcp::{FlowKey, ListenerKey};
use crate::udp::UdpKey;
use crate::{Discard, InterfaceId};

/// What became of a received packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Used up here: delivered, answered or learned from. The caller drops the frames.
    Consumed,
    /// Rewritten in place: the caller transmits it on that interface.
    Forward(InterfaceId),
    /// Died, and counted under that reason. The caller drops the frames.
    Discarded(Discard),
}

/// Something a task may be waiting for. Level-triggered by the next call, told once a change.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A connect ended, well or badly: write or read says which.
    Connected(FlowKey),
    /// Bytes, end of stream or an error can be read.
    Readable(FlowKey),
    /// Room in the send buffer, or an error.
    Writable(FlowKey),
    /// A connection waits to be accepted.
    Acceptable(ListenerKey),
    DatagramReadable(UdpKey),
    DatagramWritable(UdpKey),
}
