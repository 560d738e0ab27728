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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Contiguous;
    use crate::wire::{IPV4_BYTES, IPV6_BYTES, UDP_BYTES};
    use crate::{Chain, ipv6, udp};
    use proptest::prelude::*;

    /// An IP packet with a datagram, its checksum as `state` says.
    fn packet(source: SocketAddr, destination: SocketAddr, payload: &[u8], state: u8) -> Contiguous {
        let len = UDP_BYTES + payload.len();
        let mut bytes = vec![0; IPV6_BYTES];
        let protocol = protocol::UDP;
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                bytes.truncate(IPV4_BYTES);
                let (identification, dont_fragment) = (7, false);
                ipv4::write(
                    &mut bytes,
                    ipv4::Fields {
                        source,
                        destination,
                        protocol,
                        hops: 9,
                        ecn: 1,
                        identification,
                        dont_fragment,
                        payload_len: len,
                    },
                );
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let fields =
                    ipv6::Fields { source, destination, protocol, hops: 9, ecn: 1, payload_len: len };
                ipv6::write(&mut bytes, fields);
            }
            _ => panic!("two families"),
        }
        let pseudo = Sum::pseudo_header(source.ip(), destination.ip(), protocol, len);
        let mut datagram = vec![0; UDP_BYTES];
        set_word(&mut datagram, 0, source.port());
        set_word(&mut datagram, 2, destination.port());
        set_word(&mut datagram, 4, len as u16);
        datagram.extend_from_slice(payload);
        let mut whole = pseudo;
        whole.add(&datagram);
        let field = match state {
            0 if source.is_ipv4() => 0,
            1 => pseudo.fold(),
            _ => whole.udp_checksum(),
        };
        set_word(&mut datagram, 6, field);
        Contiguous::joined(&[&bytes, &datagram])
    }

    fn parse(packet: &Contiguous) -> (Header, udp::Datagram) {
        let v4 = packet.bytes()[0] >> 4 == 4;
        let parse = if v4 { ipv4::parse } else { ipv6::parse };
        let header = parse(packet.bytes(), 0, packet.total_len()).unwrap();
        (header, udp::parse(packet, &header, true).unwrap())
    }

    fn v4() -> impl Strategy<Value = SocketAddr> {
        (1u8..127, any::<[u8; 3]>(), any::<u16>())
            .prop_map(|(first, [a, b, c], port)| SocketAddr::new([first, a, b, c].into(), port))
    }

    fn v6() -> impl Strategy<Value = SocketAddr> {
        (any::<[u16; 7]>(), any::<u16>()).prop_map(|([a, b, c, d, e, f, g], port)| {
            SocketAddr::new([0x2001, a, b, c, d, e, f, g].into(), port)
        })
    }

    fn ends() -> impl Strategy<Value = [SocketAddr; 4]> {
        prop_oneof![proptest::array::uniform4(v4()), proptest::array::uniform4(v6())]
            .prop_filter("distinct ends", |[a, b, c, d]| a.ip() != b.ip() && c.ip() != d.ip())
    }

    proptest! {
        /// Whatever the ends and the payload: what leaves reads back with right checksums, a hop less, new ends.
        #[test]
        fn a_rewritten_datagram_is_a_good_one(
            [source, destination, new_source, new_destination] in ends(),
            payload in proptest::collection::vec(any::<u8>(), 0..64),
            state in 0u8..3,
        ) {
            let mut packet = packet(source, destination, &payload, state);
            let (header, datagram) = parse(&packet);
            let leg = Leg::new((source, destination), (new_source, new_destination));
            apply(packet.bytes_mut(), &header, datagram.checksum, UDP_BYTES + payload.len(), &leg);
            let (header, datagram) = parse(&packet);
            prop_assert_eq!((datagram.source, datagram.destination), (new_source, new_destination));
            prop_assert_eq!((header.hops, header.ecn), (8, 1));
            let absent = matches!(datagram.checksum, Checksum::Absent);
            prop_assert_eq!(absent, state == 0 && source.is_ipv4());
            prop_assert!(absent || matches!(datagram.checksum, Checksum::Correct(_)));
            prop_assert_eq!(&packet.bytes()[datagram.payload..datagram.end], &payload[..]);
        }
    }
}
