//! A socket at work: chunks go out on the fill and transmit rings and come back on the receive and completion rings.

#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::xdp_statistics;
use rustix::net::xdp::{XdpDesc, XdpDescOptions};
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::pool::{Chunk, OtherRegion, Owner, Pool};
use crate::region::CHUNK_BYTES;
use crate::socket::{FILL_RING, METADATA_BYTES, Socket};

/// System calls for one burst. The kernel sends 32 packets a call in copy mode (`TX_BATCH_SIZE`), a burst is 64, and
/// what a call leaves is tried again in the next turn.
const KICKS_MAX: u32 = 4;

/// `XDP_TX_METADATA` of a descriptor, and `XDP_TXMD_FLAGS_CHECKSUM` of its metadata.
const HAS_METADATA: XdpDescOptions = XdpDescOptions::from_bits_retain(1 << 1);
const FINISH_CHECKSUM: u64 = 1 << 1;

/// A checksum for the kernel to finish: where what it covers begins in the packet, and the field from there. The field
/// holds the pseudo-header's sum.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    pub start: u16,
    pub offset: u16,
}

/// One queue of one interface, owned by the thread that owns its pool. Dropping it closes the socket: from then on the
/// XDP program passes the queue's traffic to the kernel.
#[derive(Debug)]
pub struct Queue {
    pool: Pool,
    /// `None` only while it is being dropped.
    socket: Option<Socket>,
    id: u32,
    /// Chunks on the fill and receive rings.
    filled: u32,
    /// Chunks on the transmit and completion rings.
    sending: u32,
    /// Entries of the kernel that named no chunk which that ring had.
    strays: u64,
    wakeups: u64,
}

/// One descriptor off the receive ring.
#[derive(Debug)]
pub struct Received {
    pub chunk: Chunk,
    /// Offset of the first packet byte in the chunk.
    pub start: usize,
    pub len: usize,
    /// The packet goes on in the next descriptor (`XDP_PKT_CONTD`).
    pub continued: bool,
}

/// What the kernel counted for a socket since it was made (`XDP_STATISTICS`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub rx_dropped: u64,
    pub rx_ring_full: u64,
    pub rx_fill_ring_empty_descs: u64,
    pub rx_invalid_descs: u64,
    pub tx_invalid_descs: u64,
}

impl Pool {
    /// Takes over a socket that was bound with this pool's region. One that was bound with another is closed.
    pub fn start(&self, socket: Socket) -> Result<Queue, OtherRegion> {
        if !Arc::ptr_eq(socket.region(), self.region()) {
            return Err(OtherRegion);
        }
        Ok(Queue::new(self.clone(), socket, self.enroll()))
    }
}

impl Queue {
    fn new(pool: Pool, socket: Socket, id: u32) -> Self {
        let mut queue = Self { pool, socket: Some(socket), id, filled: 0, sending: 0, strays: 0, wakeups: 0 };
        queue.refill();
        queue
    }

    /// Takes one descriptor off the receive ring. Call [`Queue::finish_receive`] after the last of a burst.
    #[inline]
    pub fn receive(&mut self) -> Option<Received> {
        loop {
            let descriptor = self.socket_mut().receive.pop()?;
            let chunk = self.pool.take_back(descriptor.addr, Owner::fill(self.id));
            let start = descriptor.addr as usize % CHUNK_BYTES;
            let len = descriptor.len as usize;
            match chunk {
                Some(chunk) if start + len <= CHUNK_BYTES => {
                    self.filled -= 1;
                    let continued = descriptor.options.contains(XdpDescOptions::XDP_PKT_CONTD);
                    return Some(Received { chunk, start, len, continued });
                }
                Some(_) => self.filled -= 1,
                None => {}
            }
            self.strays += 1;
        }
    }

    /// Gives the kernel its receive ring back and keeps the fill ring full.
    pub fn finish_receive(&mut self) {
        self.socket_mut().receive.publish();
        self.refill();
    }

    /// Brings the kernel's stock of chunks up to this queue's share, as far as chunks are free.
    pub fn refill(&mut self) {
        let wanted = self.pool.fill_share().min(FILL_RING);
        let before = self.filled;
        while self.filled < wanted {
            let Some(chunk) = self.pool.chunk() else { break };
            if self.socket_mut().fill.room(1) == 0 {
                break;
            }
            let Some(index) = self.pool.give(chunk, Owner::fill(self.id)) else { break };
            let address = u64::from(index) * CHUNK_BYTES as u64;
            let pushed = self.socket_mut().fill.push(address);
            debug_assert!(pushed, "there was room");
            self.filled += 1;
        }
        if self.filled != before {
            self.socket_mut().fill.publish();
        }
        // A driver that ran dry may say so only after the chunks came: then a later visit sees it. Nobody polls the
        // socket itself, which would wake the driver too.
        if self.filled > 0 && self.socket_mut().fill.needs_wakeup() {
            self.wakeups += 1;
            let _ = recv(self.descriptor(), &mut [0u8; 0][..], RecvFlags::DONTWAIT);
        }
    }

    /// Frees the chunks that were sent.
    pub fn reclaim(&mut self) {
        if self.sending == 0 {
            return;
        }
        let before = self.sending;
        while let Some(address) = self.socket_mut().completion.pop() {
            match self.pool.take_back(address, Owner::transmit(self.id)) {
                Some(_) => self.sending -= 1,
                None => self.strays += 1,
            }
        }
        if self.sending != before {
            self.socket_mut().completion.publish();
        }
    }

    /// Whether the transmit ring takes a packet of `chunks` chunks now.
    pub fn has_room(&mut self, chunks: usize) -> bool {
        let Ok(chunks) = u32::try_from(chunks) else { return false };
        self.socket_mut().transmit.room(chunks) >= chunks
    }

    /// Puts one descriptor on the transmit ring: `len` bytes from `start` of `chunk`. Ask [`Queue::has_room`] for the
    /// whole packet first: half a packet must not stand there. False, and the chunk is free, when it is of another pool
    /// or the bytes are not in it.
    #[inline]
    pub fn transmit(&mut self, chunk: Chunk, start: usize, len: usize, continued: bool) -> bool {
        let options = if continued { XdpDescOptions::XDP_PKT_CONTD } else { XdpDescOptions::empty() };
        self.put(chunk, start, len, options)
    }

    /// The same for a packet's first descriptor, its checksum being the kernel's to finish. False, too, when there is no
    /// room for metadata before the packet. For sockets with [`Socket::finishes_checksums`].
    pub fn transmit_unfinished(
        &mut self,
        mut chunk: Chunk,
        start: usize,
        len: usize,
        continued: bool,
        checksum: Unfinished,
    ) -> bool {
        debug_assert!(self.socket().finishes_checksums(), "the registration has room for metadata");
        let metadata = start.checked_sub(METADATA_BYTES).and_then(|at| chunk.bytes_mut().get_mut(at..start));
        let Some(metadata) = metadata else { return false };
        metadata.fill(0);
        metadata[..8].copy_from_slice(&FINISH_CHECKSUM.to_ne_bytes());
        metadata[8..10].copy_from_slice(&checksum.start.to_ne_bytes());
        metadata[10..12].copy_from_slice(&checksum.offset.to_ne_bytes());
        let options = if continued { XdpDescOptions::XDP_PKT_CONTD } else { XdpDescOptions::empty() };
        self.put(chunk, start, len, options | HAS_METADATA)
    }

    #[inline]
    fn put(&mut self, chunk: Chunk, start: usize, len: usize, options: XdpDescOptions) -> bool {
        if start + len > CHUNK_BYTES || !self.has_room(1) {
            return false;
        }
        let Some(index) = self.pool.give(chunk, Owner::transmit(self.id)) else { return false };
        let addr = u64::from(index) * CHUNK_BYTES as u64 + start as u64;
        let pushed = self.socket_mut().transmit.push(XdpDesc { addr, len: len as u32, options });
        debug_assert!(pushed, "there was room");
        self.sending += 1;
        true
    }

    /// Shows the kernel what was put on the transmit ring and, where it wants that, wakes it.
    pub fn finish_transmit(&mut self) {
        self.socket_mut().transmit.publish();
        self.kick();
    }

    /// Wakes the kernel while it takes packets; what it leaves (the device's queue or the send buffer is full) waits for
    /// the next call.
    pub fn kick(&mut self) {
        let mut waiting = self.socket_mut().transmit.waiting();
        for _ in 0..KICKS_MAX {
            if waiting == 0 || !self.socket_mut().transmit.needs_wakeup() {
                return;
            }
            self.wakeups += 1;
            let sent = send(self.descriptor(), &[], SendFlags::DONTWAIT);
            let left = self.socket_mut().transmit.waiting();
            if matches!(sent, Err(error) if error != Errno::AGAIN) || left == waiting {
                return;
            }
            waiting = left;
        }
    }

    /// Whether chunks wait on the transmit ring: the kernel did not take all of them, and wants to be asked again.
    pub fn is_sending(&self) -> bool {
        self.socket().transmit.is_waiting()
    }

    /// Readable when packets wait on the receive ring.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket().descriptor()
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The socket's facts: mode, queue, chains.
    pub fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("a queue has its socket until it is dropped")
    }

    pub fn statistics(&self) -> Statistics {
        // It fails only for descriptors that are no AF_XDP sockets.
        xdp_statistics(self.descriptor()).map_or_else(
            |_| Statistics::default(),
            |statistics| Statistics {
                rx_dropped: statistics.rx_dropped,
                rx_ring_full: statistics.rx_ring_full.unwrap_or(0),
                rx_fill_ring_empty_descs: statistics.rx_fill_ring_empty_descs.unwrap_or(0),
                rx_invalid_descs: statistics.rx_invalid_descs,
                tx_invalid_descs: statistics.tx_invalid_descs,
            },
        )
    }

    /// Entries of the kernel that named no chunk which that ring had.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// System calls made to wake the kernel.
    pub fn wakeups(&self) -> u64 {
        self.wakeups
    }

    #[inline]
    fn socket_mut(&mut self) -> &mut Socket {
        self.socket.as_mut().expect("a queue has its socket until it is dropped")
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.kick();
        self.reclaim();
        let region = std::sync::Arc::clone(self.pool.region());
        // Whoever binds a sharing socket holds ours open under this lock. After it, closing is closing, and the kernel
        // writes to none of the queue's chunks.
        let bound = region.bound();
        self.socket = None;
        drop(bound);
        self.pool.close(self.id);
    }
}
