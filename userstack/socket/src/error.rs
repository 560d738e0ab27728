//! What the stack's errors are called in `std::io`, which hyper, h2 and rustls speak.

use std::io;

use stack::{ConnectError, TcpError, UdpError};

/// Allocates nothing.
pub(crate) fn of_tcp(error: TcpError) -> io::Error {
    io::Error::from(match error {
        TcpError::Reset => io::ErrorKind::ConnectionReset,
        TcpError::Refused => io::ErrorKind::ConnectionRefused,
        TcpError::TimedOut => io::ErrorKind::TimedOut,
        TcpError::Unreachable => io::ErrorKind::HostUnreachable,
        TcpError::Cut => io::ErrorKind::ConnectionAborted,
        TcpError::Closed => io::ErrorKind::BrokenPipe,
    })
}

pub(crate) fn of_connect(error: ConnectError) -> io::Error {
    match error {
        ConnectError::NoRoute => io::Error::from(io::ErrorKind::NetworkUnreachable),
        ConnectError::NoSourceAddress => {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "no address of ours is of the remote's family")
        }
        ConnectError::PortsExhausted => {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "every source port towards the remote is taken")
        }
        ConnectError::TooManyFlows => {
            io::Error::new(io::ErrorKind::QuotaExceeded, "the worker's connection limit is reached")
        }
    }
}

pub(crate) fn of_udp(error: UdpError) -> io::Error {
    match error {
        UdpError::InUse => io::Error::from(io::ErrorKind::AddrInUse),
        UdpError::TooMany => {
            io::Error::new(io::ErrorKind::QuotaExceeded, "the worker's limit of UDP sockets is reached")
        }
        UdpError::PortsExhausted => {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "every source port towards the remote is taken")
        }
        UdpError::Closed => io::Error::from(io::ErrorKind::NotConnected),
        UdpError::Unreachable => io::Error::from(io::ErrorKind::HostUnreachable),
        UdpError::TooLong => io::Error::new(io::ErrorKind::InvalidInput, "longer than one IP packet carries"),
    }
}
