//! ICMP errors of a script, by the names of their types and codes (RFC 792, RFC 4443), as the stack reads them.

use std::net::SocketAddr;

use super::Outcome;
use super::lines::Family;
use super::notation::{Endpoint, number};
use super::runner::{LISTENING_PORT, Runner};
use crate::Discard;
use crate::icmp::{self, Report};
use crate::tcp::boundary::IcmpError;

impl Runner {
    /// `icmp KIND [mtu N] seq N [len N] [port N] [host N] [at N]`: about our segment that begins at `seq`, in a packet
    /// of `len` bytes.
    pub fn icmp(&mut self, kind: &str, rest: &[&str]) -> Outcome {
        let (mut mtu, mut sequence, mut at) = (0u16, None, None);
        let (mut len, mut endpoint) = (usize::from(self.host.wire.mtu), Endpoint::default());
        for pair in rest.chunks(2) {
            match pair {
                ["mtu", value] => mtu = number(value)?,
                ["seq", value] => sequence = Some(number::<u32>(value)?),
                ["len", value] => len = number(value)?,
                ["port", value] => endpoint.port = number(value)?,
                ["host", value] => endpoint.host = number(value)?,
                ["at", value] => at = Some(number(value)?),
                _ => return Err("icmp KIND [mtu N] seq N [len N] [port N] [host N] [at N]".into()),
            }
        }
        let message = message(self.family, kind, mtu)?;
        let peer = self.peers.get(&endpoint).cloned().unwrap_or_default();
        let port = at.or(peer.local_port).unwrap_or(LISTENING_PORT);
        let sequence = peer.initial.unwrap_or_default() + sequence.ok_or("`seq` is missing")?;
        let local = SocketAddr::new(self.host.address, port);
        let remote = SocketAddr::new(self.peer_address(endpoint.host), endpoint.port);
        let taken = read(&message, self.family, len)
            .and_then(|error| self.host.tcp.handle_icmp_error(local, remote, sequence.0, error, self.now));
        if let Err(reason) = taken {
            self.host.discards.push(reason);
        }
        Ok(())
    }
}

/// What the stack makes of the error before it asks TCP.
fn read(message: &[u8], family: Family, packet_len: usize) -> Result<IcmpError, Discard> {
    Ok(match icmp::read_report(message, family == Family::V4) {
        Report::Refused => IcmpError::Refused,
        Report::Unreachable => IcmpError::Unreachable,
        Report::TooBig { mtu } => {
            let mtu = icmp::believable_mtu(mtu, packet_len).ok_or(Discard::IcmpQuote)?;
            IcmpError::TooBig { mtu }
        }
    })
}

/// Type, code, checksum, and the four bytes that an MTU lies in.
fn message(family: Family, kind: &str, mtu: u16) -> Result<[u8; 8], String> {
    let (kind, code) = match (family, kind) {
        (Family::V4, "net_unreachable") => (3, 0),
        (Family::V4, "host_unreachable" | "unreachable") => (3, 1),
        (Family::V4, "protocol_unreachable") => (3, 2),
        (Family::V4, "port_unreachable" | "refused") => (3, 3),
        (Family::V4, "too_big") => (3, 4),
        (Family::V4, "source_route_failed") => (3, 5),
        (Family::V4, "prohibited") => (3, 13),
        (Family::V4, "time_exceeded") => (11, 0),
        (Family::V4, "parameter_problem") => (12, 0),
        (Family::V6, "net_unreachable" | "unreachable") => (1, 0),
        (Family::V6, "prohibited") => (1, 1),
        (Family::V6, "host_unreachable") => (1, 3),
        (Family::V6, "port_unreachable" | "refused") => (1, 4),
        (Family::V6, "too_big") => (2, 0),
        (Family::V6, "time_exceeded") => (3, 0),
        (Family::V6, "protocol_unreachable") => (4, 1),
        (Family::V6, "parameter_problem") => (4, 0),
        _ => return Err("no such ICMP error in this family".into()),
    };
    let [high, low] = mtu.to_be_bytes();
    Ok([kind, code, 0, 0, 0, 0, high, low])
}
