//! The queue pair over a TAP device: every packet through the kernel by a system call of its own. For machines without
//! AF_XDP and for tests against a kernel without a second namespace.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read, writev};
use xsk::{TapError, open_tap};

use crate::packet::{Burst, FRAME_BYTES, Frame, Packet};
use crate::{Offloads, QueueCounters, QueuePair};

/// Longest frame: an IP packet of 65,535 bytes, Ethernet header and one tag.
const FRAME_MAX: usize = 65_535 + 18;

/// The file end of a TAP device; its other end is an interface of the kernel's. `Send`.
#[derive(Debug)]
pub struct TapQueuePair {
    file: OwnedFd,
    received: Box<[u8]>,
    counters: QueueCounters,
}

impl TapQueuePair {
    /// Makes the device `name` in the calling thread's network namespace, or takes it over. Somebody has to set it up.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let file = open_tap(name)?;
        Ok(Self { file, received: vec![0; FRAME_MAX].into_boxed_slice(), counters: QueueCounters::default() })
    }
}

impl QueuePair for TapQueuePair {
    fn receive(&mut self, burst: &mut Burst) -> usize {
        let before = burst.len();
        while !burst.is_full() {
            // EAGAIN: nothing waits. Anything else ends as quietly: the device is down or gone.
            let Ok(len) = read(&self.file, &mut self.received[..]) else { break };
            let mut frame = Frame::heap(len);
            frame.append(&self.received[..len]);
            self.counters.received_packets += 1;
            self.counters.received_bytes += len as u64;
            burst.push(Packet::new(frame)).expect("the burst was not full");
        }
        burst.len() - before
    }

    fn transmit(&mut self, burst: &mut Burst) {
        while let Some(packet) = burst.pop() {
            let parts: Vec<_> = packet.iter().map(|frame| IoSlice::new(frame.bytes())).collect();
            match writev(&self.file, &parts) {
                Ok(bytes) => {
                    self.counters.transmitted_packets += 1;
                    self.counters.transmitted_bytes += bytes as u64;
                }
                Err(Errno::AGAIN | Errno::NOBUFS) => {
                    drop(parts);
                    return burst.push_front(packet);
                }
                // EIO: the device is down. EINVAL: shorter than an Ethernet header.
                Err(_) => self.counters.nic_tx_invalid += 1,
            }
        }
    }

    fn frame(&mut self) -> Option<Frame> {
        Some(Frame::heap(FRAME_BYTES))
    }

    fn offloads(&self) -> Offloads {
        Offloads { max_packet_bytes: FRAME_MAX, ..Offloads::default() }
    }

    fn counters(&mut self) -> QueueCounters {
        self.counters
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }
}
