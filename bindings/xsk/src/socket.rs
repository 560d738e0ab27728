//! Making an AF_XDP socket: register or share the memory, size and map the rings, bind to one queue of one interface.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_send_buffer_size, set_socket_send_buffer_size_force, set_xdp_rx_ring_size,
    set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size, set_xdp_umem_reg,
    xdp_mmap_offsets, xdp_options,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpDesc, XdpOptionsFlags, XdpUmemReg,
    XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};

use crate::region::{Bound, CHUNK_BYTES, Region};
use crate::ring::{Consumer, Producer};

/// What the kernel leaves free before a received packet (`XDP_PACKET_HEADROOM`).
pub const HEADROOM_BYTES: usize = 256;

/// Descriptors on the receive ring: 4 MiB of full chunks for each TCP window that a neighbour fills at once.
pub(crate) const RECEIVE_RING: u32 = 4_096;
/// Descriptors on the transmit ring: many bursts of 64, or 2,048 / 17 packets of 64 KiB.
pub(crate) const TRANSMIT_RING: u32 = 2_048;
/// A queue's chunks with the kernel, on the fill and the receive ring together, are at most this many; so the receive ring
/// always has a place for each, and `rx_ring_full` stays zero.
pub(crate) const FILL_RING: u32 = RECEIVE_RING;
/// At least the transmit ring, and what is on its way besides: the kernel sends nothing that it could not complete.
pub(crate) const COMPLETION_RING: u32 = 4_096;

/// Bytes of packets that a socket may have on their way in copy mode (`SO_SNDBUF`). The default of 208 KiB ends after
/// three packets of 64 KiB.
const SEND_BUFFER_BYTES: usize = 8 << 20;

/// `struct xsk_tx_metadata`: flags, then what is asked for or answered (Linux 6.15 has it this long; what is older reads the
/// beginning). It lies right before the packet.
pub(crate) const METADATA_BYTES: usize = 24;
/// `XDP_UMEM_TX_METADATA_LEN` (Linux 6.11): the registration's length of metadata counts. Older kernels refuse the flag.
const METADATA_LENGTH_COUNTS: XdpUmemRegFlags = XdpUmemRegFlags::from_bits_retain(1 << 2);

/// How packets get between device and memory; all sockets of a region have the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum CopyMode {
    /// The device reads and writes the region itself. Needs the driver's help.
    ZeroCopy,
    /// The kernel copies. Works everywhere.
    Copy,
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("no privilege to {what}: run as root or with CAP_NET_RAW and CAP_IPC_LOCK")]
    NoPrivilege { what: &'static str },
    #[error("this kernel has no AF_XDP (CONFIG_XDP_SOCKETS)")]
    NoAfXdp,
    #[error("interface number {interface} is gone or down")]
    NoSuchInterface { interface: u32 },
    #[error(
        "queue {queue} is in use by another AF_XDP socket, of this or another process (another ringwayd or DPDK's \
         net_af_xdp, perhaps): `ss --xdp --processes` lists them where the kernel can"
    )]
    Busy { queue: u32 },
    #[error(
        "the kernel does not bind queue {queue}: the interface has fewer queues (`ethtool -l`), or lacks the mode"
    )]
    NoSuchQueue { queue: u32 },
    #[error("the driver has no zero-copy on queue {queue}: {source}")]
    NoZeroCopy { queue: u32, source: io::Error },
    #[error("{what}: {source}")]
    Kernel { what: &'static str, source: io::Error },
}

/// A bound socket with its rings, not yet used. `Send`: made by the management thread, then given to the worker that
/// claimed the region, which starts it with [`crate::Pool::start`] and keeps it.
#[derive(Debug)]
pub struct Socket {
    pub(crate) fill: Producer<u64>,
    pub(crate) receive: Consumer<XdpDesc>,
    pub(crate) transmit: Producer<XdpDesc>,
    pub(crate) completion: Consumer<u64>,
    fd: Arc<OwnedFd>,
    region: Arc<Region>,
    mode: CopyMode,
    multi_buffer: bool,
    finishes_checksums: bool,
    queue: u32,
}

impl Socket {
    /// Binds to `queue` of an interface. Several queues and several interfaces may share a region; the first socket
    /// decides its mode for all of them.
    pub fn bind(region: &Arc<Region>, interface: u32, queue: u32, mode: CopyMode) -> Result<Self, BindError> {
        let fd = Arc::new(new_socket()?);
        // Held until the socket is bound: what we share with must not close in between.
        let mut bound = region.bound();
        let shared = bound.living();
        if shared.is_none() {
            bound.finishes_checksums = register(&fd, region, mode)?;
        }
        let rings = map_rings(fd.as_fd())?;
        let address = SocketAddrXdp::new(SocketAddrXdpFlags::empty(), interface, queue);
        match &shared {
            Some(with) => bind_shared(&fd, address, with.as_fd()),
            None => bind_first(&fd, address, mode, &mut bound),
        }
        .map_err(|error| bind_error(error, interface, queue, mode))?;
        bound.add(&fd);
        let (multi_buffer, finishes_checksums) = (bound.multi_buffer, bound.finishes_checksums);
        drop(bound);
        grow_send_buffer(&fd);

        let granted = xdp_options(&fd).map_err(kernel("reading the socket's mode"))?;
        let mode = match granted.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY) {
            true => CopyMode::ZeroCopy,
            false => CopyMode::Copy,
        };
        let (fill, completion, receive, transmit) = rings;
        let region = Arc::clone(region);
        Ok(Self {
            fill,
            receive,
            transmit,
            completion,
            fd,
            region,
            mode,
            multi_buffer,
            finishes_checksums,
            queue,
        })
    }

    /// For the XDP program's map.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The mode that the kernel gave.
    pub fn mode(&self) -> CopyMode {
        self.mode
    }

    /// Whether packets may be chains of chunks (`XDP_USE_SG`, Linux 6.6).
    pub fn multi_buffer(&self) -> bool {
        self.multi_buffer
    }

    /// Whether a packet may leave with a checksum for the kernel to finish ([`crate::Unfinished`]): where it copies (from
    /// Linux 6.11), it does so itself or leaves it to the device. A driver with zero-copy need not have that: it is not
    /// asked for there.
    pub fn finishes_checksums(&self) -> bool {
        self.finishes_checksums
    }

    pub fn queue(&self) -> u32 {
        self.queue
    }

    pub fn region(&self) -> &Arc<Region> {
        &self.region
    }
}

fn new_socket() -> Result<OwnedFd, BindError> {
    socket_with(AddressFamily::XDP, SocketType::RAW, SocketFlags::CLOEXEC, None).map_err(
        |error| match error {
            Errno::PERM | Errno::ACCESS => BindError::NoPrivilege { what: "open an AF_XDP socket" },
            Errno::AFNOSUPPORT => BindError::NoAfXdp,
            error => kernel("opening an AF_XDP socket")(error),
        },
    )
}

/// Registers the memory; true when packets may ask for checksums.
fn register(fd: &OwnedFd, region: &Region, mode: CopyMode) -> Result<bool, BindError> {
    let registration = XdpUmemReg {
        addr: region.mapping().base().as_ptr() as u64,
        len: region.mapping().len() as u64,
        chunk_size: CHUNK_BYTES as u32,
        headroom: 0,
        flags: XdpUmemRegFlags::empty(),
        tx_metadata_len: 0,
    };
    let with_metadata =
        XdpUmemReg { flags: METADATA_LENGTH_COUNTS, tx_metadata_len: METADATA_BYTES as u32, ..registration };
    if mode == CopyMode::Copy && set_xdp_umem_reg(fd, with_metadata).is_ok() {
        return Ok(true);
    }
    set_xdp_umem_reg(fd, registration).map(|()| false).map_err(|error| match error {
        // The pages are pinned, which counts against RLIMIT_MEMLOCK without CAP_IPC_LOCK.
        Errno::PERM | Errno::NOBUFS => {
            BindError::NoPrivilege { what: "pin the packet memory (RLIMIT_MEMLOCK)" }
        }
        error => kernel("registering the packet memory")(error),
    })
}

pub(crate) type Rings = (Producer<u64>, Consumer<u64>, Consumer<XdpDesc>, Producer<XdpDesc>);

fn map_rings(fd: BorrowedFd<'_>) -> Result<Rings, BindError> {
    set_xdp_umem_fill_ring_size(fd, FILL_RING).map_err(kernel("sizing the fill ring"))?;
    set_xdp_umem_completion_ring_size(fd, COMPLETION_RING).map_err(kernel("sizing the completion ring"))?;
    set_xdp_rx_ring_size(fd, RECEIVE_RING).map_err(kernel("sizing the receive ring"))?;
    set_xdp_tx_ring_size(fd, TRANSMIT_RING).map_err(kernel("sizing the transmit ring"))?;
    let offsets = xdp_mmap_offsets(fd).map_err(kernel("asking for the rings' layout"))?;
    let mapped = kernel("mapping the rings");
    Ok((
        Producer::map(fd, XDP_UMEM_PGOFF_FILL_RING, &offsets.fr, FILL_RING).map_err(&mapped)?,
        Consumer::map(fd, XDP_UMEM_PGOFF_COMPLETION_RING, &offsets.cr, COMPLETION_RING).map_err(&mapped)?,
        Consumer::map(fd, XDP_PGOFF_RX_RING, &offsets.rx, RECEIVE_RING).map_err(&mapped)?,
        Producer::map(fd, XDP_PGOFF_TX_RING, &offsets.tx, TRANSMIT_RING).map_err(&mapped)?,
    ))
}

/// The first socket of a registration brings the flags for all: with chains where the kernel knows them.
fn bind_first(
    fd: &OwnedFd,
    mut address: SocketAddrXdp,
    mode: CopyMode,
    bound: &mut Bound,
) -> Result<(), Errno> {
    let mode = match mode {
        CopyMode::ZeroCopy => SocketAddrXdpFlags::XDP_ZEROCOPY,
        CopyMode::Copy => SocketAddrXdpFlags::XDP_COPY,
    };
    let flags = mode | SocketAddrXdpFlags::XDP_USE_NEED_WAKEUP;
    address.set_flags(flags | SocketAddrXdpFlags::XDP_USE_SG);
    let chains = bind(fd, &address);
    bound.multi_buffer = chains.is_ok();
    match chains {
        // EINVAL: a kernel before 6.6 does not know the flag. EOPNOTSUPP: a driver's zero-copy has no chains.
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            address.set_flags(flags);
            bind(fd, &address)
        }
        other => other,
    }
}

/// A sharing socket inherits all flags; any other flag beside is EINVAL.
fn bind_shared(fd: &OwnedFd, mut address: SocketAddrXdp, with: BorrowedFd<'_>) -> Result<(), Errno> {
    address.set_flags(SocketAddrXdpFlags::XDP_SHARED_UMEM);
    bind(fd, &SocketAddrXdpWithSharedUmem { addr: address, shared_umem_fd: with })
}

/// More than the default where the privilege or the system's limit allows it; less only costs speed.
pub(crate) fn grow_send_buffer(fd: &OwnedFd) {
    if set_socket_send_buffer_size_force(fd, SEND_BUFFER_BYTES).is_err() {
        let _ = set_socket_send_buffer_size(fd, SEND_BUFFER_BYTES);
    }
}

fn bind_error(error: Errno, interface: u32, queue: u32, mode: CopyMode) -> BindError {
    match error {
        Errno::BUSY => BindError::Busy { queue },
        Errno::NODEV | Errno::NETDOWN => BindError::NoSuchInterface { interface },
        Errno::PERM | Errno::ACCESS => BindError::NoPrivilege { what: "bind an AF_XDP socket" },
        Errno::OPNOTSUPP if mode == CopyMode::ZeroCopy => {
            BindError::NoZeroCopy { queue, source: error.into() }
        }
        Errno::INVAL => BindError::NoSuchQueue { queue },
        error => kernel("binding an AF_XDP socket")(error),
    }
}

fn kernel(what: &'static str) -> impl Fn(Errno) -> BindError {
    move |source| BindError::Kernel { what, source: source.into() }
}

#[cfg(test)]
impl Socket {
    /// A socket whose kernel the test plays at the rings' other ends.
    pub(crate) fn of_rings(rings: Rings, region: &Arc<Region>) -> Self {
        let (fill, completion, receive, transmit) = rings;
        let nothing = std::fs::File::open("/dev/null").expect("every system has it");
        let fd = Arc::new(nothing.into());
        let (mode, multi_buffer, queue) = (CopyMode::Copy, true, 0);
        Self {
            fill,
            receive,
            transmit,
            completion,
            fd,
            region: Arc::clone(region),
            mode,
            multi_buffer,
            finishes_checksums: false,
            queue,
        }
    }
}
