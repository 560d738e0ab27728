//! One receive and one transmit queue of a device, whatever brings the packets: AF_XDP, memory, tap, and decorators
//! that are queue pairs themselves (faults, capture).
//!
//! Called by the worker's turn and by the simulator. Never parses a packet (but for a capture's filter), never reads a
//! clock.
//!
//! What stays where: [`open()`], [`UmemSet`], the XDP program and a capture's reader belong to the management thread;
//! [`BoundQueue`] is `Send` and brings a queue to its worker, whose [`Pools`] make an [`XskQueuePair`] of it. Pairs,
//! packets and frames never leave that thread.
#![forbid(unsafe_code)]

mod af_xdp;
mod assembly;
mod capture;
mod capture_filter;
mod cut;
mod fault;
mod memory;
mod merge;
mod open;
mod packet;
pub mod pcapng;
mod tap;

/// What the one who attaches needs of the XDP program.
pub use bpf::{
    Claim, MapUpdateError, Notice, OwnedPrefix, Redirect, RedirectConfig, Role as RedirectRole,
    Verdict as RedirectVerdict, VlanSet,
};

pub use af_xdp::{BoundQueue, Pools, StartError, UmemSet, XskQueuePair};
pub use capture::{
    Capture, CaptureEnd, CaptureLimits, CaptureReader, CaptureStatus, CaptureTarget, CaptureWriter,
    capture_channel,
};
pub use capture_filter::CaptureFilter;
pub use cut::{cut, pieces};
pub use fault::{Fault, FaultCounters, FaultPlan, Faults};
pub use memory::{MemoryLink, MemoryQueuePair};
pub use open::{
    ModeGot, OpenError, OpenRequest, Opened, QueueAssignment, QueueReport, Report, XdpMode, open,
};
pub use packet::{BURST_PACKETS, Burst, FRAME_BYTES, Frame, HEADROOM_BYTES, MAX_FRAMES, Packet};

pub use tap::TapQueuePair;
pub use xsk::{CopyMode, TapError};

use std::num::NonZeroU16;
use std::os::fd::BorrowedFd;

/// One receive and one transmit queue of one device, owned by one core.
pub trait QueuePair {
    /// Moves received packets into `burst` until either runs out. Zero is an ordinary answer.
    fn receive(&mut self, burst: &mut Burst) -> usize;

    /// Hands `burst` over, oldest first, and wakes the device once where it wants that. What the ring cannot take
    /// stays behind, in order.
    fn transmit(&mut self, burst: &mut Burst);

    /// Sends `headers` (Ethernet to TCP) with a text of more than [`Offloads::finishes_tcp_above`] from where it lies,
    /// after all of `before`; or, where [`Offloads::cuts_tcp`], with a text of several segments of `segment_bytes`. The
    /// checksum field holds the pseudo-header's sum alone.
    fn transmit_large(
        &mut self,
        before: &mut Burst,
        headers: &[u8],
        text: [&[u8]; 2],
        segment_bytes: Option<NonZeroU16>,
    ) -> Large {
        let _ = (before, headers, text, segment_bytes);
        Large::Refused
    }

    /// A fresh frame of the memory that this pair transmits from without a copy. `None`: all are in use.
    fn frame(&mut self) -> Option<Frame>;

    /// What the hardware promises to do for us; fixed for the pair's life.
    fn offloads(&self) -> Offloads;

    /// What the device and the rings counted.
    fn counters(&mut self) -> QueueCounters;

    /// The device has not taken all that its ring holds, and wants [`QueuePair::transmit`] once more, if only with an
    /// empty burst.
    fn is_sending(&self) -> bool {
        false
    }

    /// Readable when packets wait; what an idle worker sleeps on. `None`: the pair must be polled.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What became of a packet that was offered to [`QueuePair::transmit_large`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Large {
    /// It is sent, or dead and counted.
    Taken,
    /// The device takes no more now.
    Full,
    /// It must go in frames, each of a segment ([`cut`]).
    Refused,
}

/// All off is always correct.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// The neighbour may leave a received L4 checksum unfinished (veth with `tx` offload on).
    pub unfinished_receive_checksum: bool,
    /// TCP packets with more text than this (bytes) may have the pseudo-header's sum alone in their checksum field: the
    /// device, or who receives from it, does the rest. `None`: all must be finished.
    pub finishes_tcp_above: Option<usize>,
    /// A TCP packet with the text of several segments is taken whole and leaves as these: [`QueuePair::transmit_large`].
    pub cuts_tcp: bool,
    /// Longest packet of several frames that may be transmitted (bytes); one frame when the pair has no multi-buffer.
    pub max_packet_bytes: usize,
}

/// Counted since the pair was made. Each loss has a discard's name.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    pub received_packets: u64,
    pub received_bytes: u64,
    pub transmitted_packets: u64,
    pub transmitted_bytes: u64,
    /// Those of the transmitted that left in one piece with others of their TCP stream, or without frames.
    pub merged_packets: u64,
    /// AF_XDP `rx_dropped`: no chunk could hold the packet or memory was short.
    pub nic_rx_dropped: u64,
    /// AF_XDP `rx_ring_full`.
    pub nic_rx_ring_full: u64,
    /// AF_XDP `rx_fill_ring_empty_descs`.
    pub nic_fill_ring_empty: u64,
    /// A chain longer than [`MAX_FRAMES`], or one that the kernel never ended.
    pub nic_chain_broken: u64,
    /// Transmits that needed a copy because the packet lay in other memory.
    pub copied_packets: u64,
    /// Packets that died because no memory was free to copy them into: no frame, or none of the kernel's.
    pub nic_tx_no_frame: u64,
    /// AF_XDP `tx_invalid_descs`, and packets that the device cannot send.
    pub nic_tx_invalid: u64,
    /// System calls made to wake the device.
    pub wakeups: u64,
}

impl<Q: QueuePair + ?Sized> QueuePair for Box<Q> {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        (**self).receive(burst)
    }

    fn transmit(&mut self, burst: &mut Burst) {
        (**self).transmit(burst);
    }

    fn transmit_large(
        &mut self,
        before: &mut Burst,
        headers: &[u8],
        text: [&[u8]; 2],
        segment_bytes: Option<NonZeroU16>,
    ) -> Large {
        (**self).transmit_large(before, headers, text, segment_bytes)
    }

    fn frame(&mut self) -> Option<Frame> {
        (**self).frame()
    }

    fn offloads(&self) -> Offloads {
        (**self).offloads()
    }

    fn counters(&mut self) -> QueueCounters {
        (**self).counters()
    }

    fn is_sending(&self) -> bool {
        (**self).is_sending()
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        (**self).descriptor()
    }
}
