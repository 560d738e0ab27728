//! Which worker a flow belongs to: Toeplitz over addresses and ports, then a table, as a card's RSS does it.
//!
//! The key is 0x6d5a repeated, which makes the hash symmetric: both directions of a flow steer alike. Because the key
//! has a period of 16 bits, the hash of an input is the hash of the exclusive-or of its 16-bit words; no 40-byte key
//! is walked. The worker steers packets by it, the stack chooses source ports by it.

use std::net::{IpAddr, SocketAddr};

use crate::Chain;
use crate::header::Header;
use crate::wire::{Arp, IPV6_BYTES, NDP_ADVERTISEMENT, ether_type, protocol, word};

/// Sixteen bits of the symmetric RSS key, repeated over its 40 bytes (Woo and Park, "Scalable TCP Session Monitoring
/// with Symmetric Receive-side Scaling", 2012). A card is to be given this key.
pub const KEY_WORD: u16 = 0x6d5a;

/// Entries of the indirection table (what ixgbe, i40e and mlx5 have at least).
pub const TABLE_ENTRIES: u32 = 128;

/// The Toeplitz hash of a TCP or UDP flow; the same for both directions.
pub fn flow_hash(source: SocketAddr, destination: SocketAddr) -> u32 {
    toeplitz(fold_address(source.ip()) ^ fold_address(destination.ip()) ^ source.port() ^ destination.port())
}

/// The Toeplitz hash of an address pair: fragments, and packets without ports.
pub fn address_hash(source: IpAddr, destination: IpAddr) -> u32 {
    toeplitz(fold_address(source) ^ fold_address(destination))
}

/// The worker that the indirection table names for a hash.
pub fn worker_of(hash: u32, workers: u16) -> u16 {
    ((hash % TABLE_ENTRIES) % u32::from(workers.max(1))) as u16
}

/// Whether packets between `local` and `remote` reach this worker.
pub fn steers_home(local: SocketAddr, remote: SocketAddr, worker: u16, workers: u16) -> bool {
    workers <= 1 || worker_of(flow_hash(local, remote), workers) == worker
}

/// Whether a frame tells of a neighbour and so concerns every worker: an ARP reply, a gratuitous ARP, a neighbour
/// advertisement. Cards give such a frame to one queue, whichever worker asked; each worker that is shown a copy learns
/// by its own rules what it asked for.
pub fn concerns_every_worker(frame: &[u8]) -> bool {
    let at = if frame.get(12..14) == Some(&ether_type::VLAN.to_be_bytes()) { 18 } else { 14 };
    let (Some(kind), Some(body)) = (frame.get(at - 2..at), frame.get(at..)) else { return false };
    match u16::from_be_bytes([kind[0], kind[1]]) {
        ether_type::ARP => Arp::parse(body).is_some_and(|arp| !arp.request || arp.sender == arp.target),
        // An advertisement has no extension header before it (RFC 6980 forbids the fragment header).
        ether_type::IPV6 => {
            body.get(6) == Some(&protocol::ICMPV6) && body.get(IPV6_BYTES) == Some(&NDP_ADVERTISEMENT)
        }
        _ => false,
    }
}

/// The worker of a reassembled packet; `None`: whoever has it, keeps it.
pub(crate) fn whole_packet(packet: &dyn Chain, header: &Header, workers: u16) -> Option<u16> {
    if workers <= 1 || !matches!(header.protocol, protocol::TCP | protocol::UDP) {
        return None;
    }
    let ports = packet.chunk(0).get(header.transport..header.transport + 4)?;
    let source = SocketAddr::new(header.source, word(ports, 0));
    let destination = SocketAddr::new(header.destination, word(ports, 2));
    Some(worker_of(flow_hash(source, destination), workers))
}

fn fold_address(address: IpAddr) -> u16 {
    fn fold(octets: &[u8]) -> u16 {
        let (words, _) = octets.as_chunks::<2>();
        words.iter().fold(0, |folded, word| folded ^ u16::from_be_bytes(*word))
    }
    match address {
        IpAddr::V4(address) => fold(&address.octets()),
        IpAddr::V6(address) => fold(&address.octets()),
    }
}

/// The hash of one 16-bit word under the repeated key: for each set bit, the 32 key bits that begin there.
fn toeplitz(word: u16) -> u32 {
    let key = u32::from(KEY_WORD) << 16 | u32::from(KEY_WORD);
    (0..u16::BITS).filter(|bit| word & (0x8000 >> bit) != 0).fold(0, |hash, bit| hash ^ key.rotate_left(bit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition of Microsoft's "RSS hashing functions": slide the key, exclusive-or where the input has a one.
    fn by_definition(input: &[u8], key: &[u8; 40]) -> u32 {
        let mut hash = 0;
        let mut window = u64::from_be_bytes(key[..8].try_into().unwrap());
        for (index, byte) in input.iter().enumerate() {
            for bit in 0..8 {
                if byte & (0x80 >> bit) != 0 {
                    hash ^= (window >> 32) as u32;
                }
                window <<= 1;
            }
            window |= u64::from(key.get(index + 8).copied().unwrap_or(0));
        }
        hash
    }

    fn symmetric_key() -> [u8; 40] {
        std::array::from_fn(|index| KEY_WORD.to_be_bytes()[index % 2])
    }

    #[test]
    fn the_definition_passes_microsofts_own_vector() {
        let key = [
            0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
            0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
            0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
        ];
        // 66.9.149.187:2794 to 161.142.100.80:1766.
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(by_definition(&input, &key), 0x51cc_c178);
    }

    #[test]
    fn news_of_neighbours_concerns_every_worker_and_questions_do_not() {
        let arp = |request, sender: [u8; 4]| {
            let mut frame = vec![0; 14 + crate::wire::ARP_BYTES];
            frame[12..14].copy_from_slice(&[8, 6]);
            let target = [10, 0, 0, 1].into();
            Arp { request, sender_mac: [2; 6], sender: sender.into(), target_mac: [0; 6], target }
                .write(&mut frame[14..]);
            frame
        };
        assert!(concerns_every_worker(&arp(false, [10, 0, 0, 2])));
        assert!(concerns_every_worker(&arp(true, [10, 0, 0, 1])), "gratuitous");
        assert!(!concerns_every_worker(&arp(true, [10, 0, 0, 2])));
        let mut advertisement = vec![0; 14 + 40 + 32];
        advertisement[12..14].copy_from_slice(&[0x86, 0xdd]);
        (advertisement[20], advertisement[54]) = (58, 136);
        assert!(concerns_every_worker(&advertisement));
        advertisement[54] = 135;
        assert!(!concerns_every_worker(&advertisement));
        assert!(!concerns_every_worker(&[0; 13]));
    }

    #[test]
    fn one_worker_is_always_home() {
        let (a, b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        assert!(steers_home(a, b, 0, 1));
    }

    #[test]
    fn ports_spread_flows_over_all_workers() {
        let remote = "10.0.0.2:80".parse().unwrap();
        for worker in 0..3 {
            let home = (32_768..33_768u16)
                .filter(|port| steers_home(SocketAddr::new([10, 0, 0, 1].into(), *port), remote, worker, 3))
                .count();
            assert!(home > 200, "worker {worker} gets {home} of 1000 ports");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_equals_the_definition(a in any::<[u8; 4]>(), b in any::<[u8; 4]>(), p: u16, q: u16) {
            let input = [&a[..], &b[..], &p.to_be_bytes(), &q.to_be_bytes()].concat();
            let (a, b) = (SocketAddr::new(a.into(), p), SocketAddr::new(b.into(), q));
            prop_assert_eq!(flow_hash(a, b), by_definition(&input, &symmetric_key()));
            prop_assert_eq!(flow_hash(a, b), flow_hash(b, a));
        }

        #[test]
        fn the_short_way_equals_the_definition_for_ipv6(a in any::<[u8; 16]>(), b in any::<[u8; 16]>(), p: u16, q: u16) {
            let input = [&a[..], &b[..], &p.to_be_bytes(), &q.to_be_bytes()].concat();
            let (a, b) = (SocketAddr::new(a.into(), p), SocketAddr::new(b.into(), q));
            prop_assert_eq!(flow_hash(a, b), by_definition(&input, &symmetric_key()));
        }
    }
}
