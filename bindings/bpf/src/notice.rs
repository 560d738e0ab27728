//! What neighbours announce about addresses that are not ours (gratuitous ARP, unsolicited advertisements).
//!
//! XDP cannot give one frame to the kernel and to us: the kernel gets the frame, we get the fact.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Size of `struct notice` in redirect.c.
pub(crate) const NOTICE_BYTES: usize = 28;

/// Somebody on the link says that `address` is at `mac`. A claim without proof: it may confirm or move a neighbour that
/// is already in use, never make a new one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub address: IpAddr,
    pub mac: [u8; 6],
    /// 802.1Q tag that it came with.
    pub vlan: Option<u16>,
}

impl Notice {
    /// `None`: not a notice of this program's version.
    pub(crate) fn parse(record: &[u8]) -> Option<Self> {
        let record: &[u8; NOTICE_BYTES] = record.try_into().ok()?;
        let (address, rest) = record.split_first_chunk::<16>()?;
        let (mac, rest) = rest.split_first_chunk::<6>()?;
        let (vlan, rest) = rest.split_first_chunk::<2>()?;
        let address = match rest.first()? {
            4 => IpAddr::V4(Ipv4Addr::new(address[0], address[1], address[2], address[3])),
            6 => IpAddr::V6(Ipv6Addr::from(*address)),
            _ => return None,
        };
        let vlan = u16::from_ne_bytes(*vlan);
        Some(Self { address, mac: *mac, vlan: (vlan != 0).then_some(vlan) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_the_program_wrote_it() {
        let mut record = [0u8; NOTICE_BYTES];
        record[..4].copy_from_slice(&[10, 0, 0, 1]);
        record[16..22].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        record[22..24].copy_from_slice(&100u16.to_ne_bytes());
        record[24] = 4;
        let notice =
            Notice { address: "10.0.0.1".parse().unwrap(), mac: [2, 0, 0, 0, 0, 9], vlan: Some(100) };
        assert_eq!(Notice::parse(&record), Some(notice));
    }

    #[test]
    fn a_record_of_another_size_or_family_is_no_notice() {
        assert_eq!(Notice::parse(&[0; NOTICE_BYTES - 1]), None);
        assert_eq!(Notice::parse(&[0; NOTICE_BYTES]), None);
    }
}
