//! Packets larger than the MTU, handed to a device that the kernel copies for: a packet socket (packet(7)) whose packets
//! begin with a virtio-net header (`PACKET_VNET_HDR`), by which the kernel knows where to cut them, or that the other
//! end of a veth need not have them cut. AF_XDP has no such header.
//!
//! It sends and never receives: its protocol is zero. What it is given is copied before the call returns.

use std::ffi::c_int;
use std::io::IoSlice;
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, bind, sendmsg, socket_with,
};

use crate::socket::{BindError, grow_send_buffer};

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the sum of the pseudo-header.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`, `_TCPV4` and `_TCPV6`.
const UNCUT: u8 = 0;
const CUT_TCP_V4: u8 = 1;
const CUT_TCP_V6: u8 = 4;
/// Offset of the checksum in a TCP header (RFC 9293, section 3.1).
const TCP_CHECKSUM_AT: u16 = 16;

/// A whole's headers and the most pieces of payload that one call takes: the packets of a burst.
const PIECES_MAX: usize = 64;

/// What the kernel must know of a TCP packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    pub ipv6: bool,
    /// Bytes before the TCP header.
    pub transport: u16,
    /// Payload bytes of each segment but the last, where it is to be cut; `None`: it fits the MTU.
    pub segment_bytes: Option<NonZeroU16>,
}

/// One per queue, used by the queue's thread. `Send`.
#[derive(Debug)]
pub struct WholeSocket {
    fd: OwnedFd,
}

impl WholeSocket {
    /// Binds to an interface of the calling thread's network namespace.
    pub fn open(interface: u32) -> Result<Self, BindError> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None).map_err(refused)?;
        expect_header(&fd).map_err(refused)?;
        let interface = c_int::try_from(interface).map_err(|_| BindError::NoSuchInterface { interface })?;
        bind(&fd, &LinkAddress::of(interface)).map_err(refused)?;
        grow_send_buffer(&fd);
        Ok(Self { fd })
    }

    /// Sends `headers` (Ethernet to TCP, the checksum field holding the pseudo-header's sum) and the payload behind.
    /// `Errno::AGAIN` and `NOBUFS`: not now. Anything else: never, as the device is.
    pub fn send<'a>(
        &self,
        whole: Whole,
        headers: &[u8],
        payload: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Errno> {
        let header = virtio_header(whole, headers.len());
        let mut pieces = [IoSlice::new(&[]); 2 + PIECES_MAX];
        pieces[..2].copy_from_slice(&[IoSlice::new(&header), IoSlice::new(headers)]);
        let mut used = 2;
        for piece in payload {
            *pieces.get_mut(used).ok_or(Errno::MSGSIZE)? = IoSlice::new(piece);
            used += 1;
        }
        let pieces = &pieces[..used];
        sendmsg(&self.fd, pieces, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT).map(|_all| ())
    }
}

/// `struct virtio_net_hdr`, in the host's byte order.
fn virtio_header(whole: Whole, headers_len: usize) -> [u8; 10] {
    let kind = match (whole.segment_bytes, whole.ipv6) {
        (None, _) => UNCUT,
        (Some(_), false) => CUT_TCP_V4,
        (Some(_), true) => CUT_TCP_V6,
    };
    let segment_bytes = whole.segment_bytes.map_or(0, NonZeroU16::get);
    let words = [headers_len as u16, segment_bytes, whole.transport, TCP_CHECKSUM_AT];
    let mut header = [NEEDS_CHECKSUM, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (field, word) in header[2..].chunks_exact_mut(2).zip(words) {
        field.copy_from_slice(&word.to_ne_bytes());
    }
    header
}

fn refused(error: Errno) -> BindError {
    match error {
        Errno::PERM | Errno::ACCESS => BindError::NoPrivilege { what: "open a packet socket" },
        error => BindError::Kernel { what: "opening a packet socket", source: error.into() },
    }
}

/// Every packet given to the socket begins with a virtio-net header from now on.
fn expect_header(fd: &OwnedFd) -> Result<(), Errno> {
    let on: c_int = 1;
    let len = size_of::<c_int>() as libc::socklen_t;
    let fd = fd.as_raw_fd();
    // SAFETY: the descriptor is open for the call, and the option's value is the `c_int` that the pointer and the length
    // name; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_VNET_HDR, (&raw const on).cast(), len) };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

/// `struct sockaddr_ll`.
struct LinkAddress(libc::sockaddr_ll);

impl LinkAddress {
    fn of(interface: c_int) -> Self {
        Self(libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: interface,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        })
    }
}

// SAFETY: `f` gets a pointer to a whole `sockaddr_ll` that lives until it returns, and that structure's length.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(&self, f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R) -> R {
        f((&raw const self.0).cast(), size_of::<libc::sockaddr_ll>() as SocketAddrLen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_says_where_tcp_begins_and_how_long_a_segment_is() {
        let whole = Whole { ipv6: true, transport: 54, segment_bytes: NonZeroU16::new(1_428) };
        let header = virtio_header(whole, 86);
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        assert_eq!((header[0], header[1]), (1, 4));
        assert_eq!([word(2), word(4), word(6), word(8)], [86, 1_428, 54, 16]);
        let uncut = virtio_header(Whole { segment_bytes: None, ..whole }, 86);
        assert_eq!((uncut[0], uncut[1], uncut[4..6].to_vec()), (1, 0, vec![0, 0]));
    }
}
