//! Opening a TAP device (Documentation/networking/tuntap.rst). Not AF_XDP, but the same need: one system call without a
//! safe face.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};

/// `IFF_TAP`: Ethernet frames; `IFF_NO_PI`: nothing before them.
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;

/// `TUNSETIFF`, `_IOW('T', 202, int)`: it says `int` and takes a `struct ifreq`, of which it writes back the name.
const TUNSETIFF: rustix::ioctl::Opcode = opcode::write::<i32>(b'T', 202);

/// `IFNAMSIZ` without the final zero.
const NAME_MAX: usize = 15;

/// Why no TAP device was opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    #[error("{0:?} is no interface name: 1 to {NAME_MAX} bytes are")]
    Name(String),
    #[error("no privilege to make the TAP device {0}: run as root or with CAP_NET_ADMIN")]
    NoPrivilege(String),
    #[error("the TAP device {0} is in use by another process")]
    Busy(String),
    #[error("opening the TAP device {name}: {source}")]
    Kernel { name: String, source: io::Error },
}

/// `struct ifreq` as `TUNSETIFF` reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; NAME_MAX + 1],
    flags: i16,
    rest: [u8; 22],
}

/// Makes the TAP device `name`, or takes it over if nobody has it open. It goes when the descriptor is closed, unless it
/// was made persistent before. Reads and writes are frames and do not wait.
pub fn open_tap(name: &str) -> Result<OwnedFd, TapError> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(TapError::Name(name.to_string()));
    }
    let failed = |error| match error {
        Errno::PERM | Errno::ACCESS => TapError::NoPrivilege(name.to_string()),
        Errno::BUSY => TapError::Busy(name.to_string()),
        error => TapError::Kernel { name: name.to_string(), source: error.into() },
    };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = open("/dev/net/tun", flags, Mode::empty()).map_err(failed)?;
    let mut request = InterfaceRequest { name: [0; NAME_MAX + 1], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq` (40 bytes on every 64-bit Linux, which the assertion below
    // holds), and that is what it is given, alive and exclusively borrowed for the call.
    let request = unsafe { Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request) };
    // SAFETY: `request` matches the opcode, as said above, and `file` is the TUN control device.
    unsafe { ioctl(&file, request) }.map_err(failed)?;
    Ok(file)
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_interface_can_have_is_refused() {
        assert!(matches!(open_tap(""), Err(TapError::Name(_))));
        assert!(matches!(open_tap("sixteen-letters!"), Err(TapError::Name(_))));
    }
}
