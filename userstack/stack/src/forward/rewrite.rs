//! Changes a session's packet where it lies: addresses, ports, hops and checksums.

use std::net::{IpAddr, SocketAddr};

use super::table::Leg;
use crate::checksum::{Sum, update};
use crate::header::Header;
use crate::ipv4;
use crate::udp::Checksum;
use crate::wire::{protocol, set_word, word};

/// Makes the packet in `chunk` that of the other side. Its hops go down by one; the caller has seen that some are left.
/// A checksum leaves finished whatever state it came in; an absent one stays absent.
pub(crate) fn apply(chunk: &mut [u8], header: &Header, checksum: Checksum, datagram_len: usize, leg: &Leg) {
    let network = &mut chunk[header.network..];
    write_addresses(network, leg.source.ip(), leg.destination.ip());
    if header.source.is_ipv4() {
        ipv4::lower_hops(network);
        let sum = update(word(network, 10), leg.header_change);
        set_word(network, 10, sum);
    } else {
        network[7] -= 1;
    }
    let datagram = &mut chunk[header.transport..];
    set_word(datagram, 0, leg.source.port());
    set_word(datagram, 2, leg.destination.port());
    set_word(datagram, 6, new_checksum(checksum, datagram_len, leg));
}

fn new_checksum(checksum: Checksum, datagram_len: usize, leg: &Leg) -> u16 {
    let sum = match checksum {
        Checksum::Absent => return 0,
        Checksum::Correct(sum) => update(sum, leg.datagram_change),
        Checksum::Unfinished(rest) => {
            // The addresses lie outside of `rest`: take their change out again, leaving the ports'.
            let (source, destination) = (leg.source.ip(), leg.destination.ip());
            let mut whole = Sum::pseudo_header(source, destination, protocol::UDP, datagram_len);
            whole.add_sum(rest);
            whole.add_sum(leg.datagram_change);
            whole.subtract_sum(leg.header_change);
            whole.checksum()
        }
    };
    // Zero would say that there is none (RFC 768).
    if sum == 0 { 0xffff } else { sum }
}

fn write_addresses(network: &mut [u8], source: IpAddr, destination: IpAddr) {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            network[12..16].copy_from_slice(&source.octets());
            network[16..20].copy_from_slice(&destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            network[8..24].copy_from_slice(&source.octets());
            network[24..40].copy_from_slice(&destination.octets());
        }
        _ => unreachable!("a session's addresses are of one family: admission of another is refused"),
    }
}

/// Makes the packet that an ICMP error quotes the one that its sender knows: `from` and `to` are its ends. `quoted`
/// begins at the IP header, the UDP header at `transport`; both may be cut short behind the ports.
pub(crate) fn translate_quote(
    quoted: &mut [u8],
    transport: usize,
    from: SocketAddr,
    to: SocketAddr,
    change: Sum,
) {
    write_addresses(quoted, from.ip(), to.ip());
    if from.is_ipv4() {
        ipv4::write_checksum(&mut quoted[..transport]);
    }
    let datagram = &mut quoted[transport..];
    set_word(datagram, 0, from.port());
    set_word(datagram, 2, to.port());
    if word(datagram, 6) != 0 {
        let sum = update(word(datagram, 6), change);
        set_word(datagram, 6, sum);
    }
}
