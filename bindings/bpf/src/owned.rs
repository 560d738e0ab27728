//! What the program redirects: owned prefixes and the VLANs they are looked for on, in the shape of its maps.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::MapUpdateError;
use crate::limits::OWNED_MAX;

/// What is taken of a prefix's traffic (`CLAIM_*` in redirect.c).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The addresses are ours: everything to them, and ARP and NDP for them.
    All,
    /// TCP and UDP to them are intercepted on workload interfaces; everything else is the kernel's.
    Transport,
}

impl Claim {
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::All => 1,
            Self::Transport => 2,
        }
    }
}

/// One entry of the program's maps; the longest match decides.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct OwnedPrefix {
    pub address: IpAddr,
    pub len: u8,
    pub claim: Claim,
}

impl OwnedPrefix {
    /// A single address that is ours.
    pub fn address(address: IpAddr) -> Self {
        Self { address, len: if address.is_ipv4() { 32 } else { 128 }, claim: Claim::All }
    }
}

/// The wanted content of both maps: prefix length and masked address to claim bits.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnedTables {
    pub v4: BTreeMap<(u8, [u8; 4]), u32>,
    pub v6: BTreeMap<(u8, [u8; 16]), u32>,
}

impl OwnedTables {
    pub fn new(prefixes: &[OwnedPrefix]) -> Result<Self, MapUpdateError> {
        let mut tables = Self::default();
        for &OwnedPrefix { address, len, claim } in prefixes {
            let max = if address.is_ipv4() { 32 } else { 128 };
            if len > max {
                return Err(MapUpdateError::PrefixLength { address, len, max });
            }
            match address {
                IpAddr::V4(address) => {
                    *tables.v4.entry((len, masked_v4(address, len))).or_default() |= claim.bits()
                }
                IpAddr::V6(address) => {
                    *tables.v6.entry((len, masked_v6(address, len))).or_default() |= claim.bits()
                }
            }
        }
        let count = tables.v4.len().max(tables.v6.len());
        if count > OWNED_MAX { Err(MapUpdateError::TooManyPrefixes { count }) } else { Ok(tables) }
    }
}

fn masked_v4(address: Ipv4Addr, len: u8) -> [u8; 4] {
    let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
    (u32::from(address) & mask).to_be_bytes()
}

fn masked_v6(address: Ipv6Addr, len: u8) -> [u8; 16] {
    let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
    (u128::from(address) & mask).to_be_bytes()
}

/// The VLANs whose frames are looked at (802.1Q); others pass untouched.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet([u8; 512]);

impl VlanSet {
    pub const fn none() -> Self {
        Self([0; 512])
    }

    /// Frames without a tag, or with the priority tag 0.
    pub fn untagged() -> Self {
        Self::none().with(0)
    }

    /// Adds a tag; 0 is untagged. Tags have 12 bits, what is above is cut off.
    #[must_use]
    pub fn with(mut self, id: u16) -> Self {
        let id = usize::from(id & 0x0fff);
        self.0[id / 8] |= 1 << (id % 8);
        self
    }

    pub fn contains(&self, id: u16) -> bool {
        let id = usize::from(id & 0x0fff);
        self.0[id / 8] & (1 << (id % 8)) != 0
    }

    pub(crate) fn bits(&self) -> &[u8; 512] {
        &self.0
    }
}

impl std::fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries((0..4096u16).filter(|&id| self.contains(id))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(text: &str, len: u8, claim: Claim) -> OwnedPrefix {
        OwnedPrefix { address: text.parse().unwrap(), len, claim }
    }

    #[test]
    fn host_bits_are_masked_and_claims_of_one_prefix_are_joined() {
        let tables = OwnedTables::new(&[
            owned("10.1.2.3", 16, Claim::Transport),
            owned("10.1.9.9", 16, Claim::All),
            owned("fd00::1", 0, Claim::All),
        ])
        .unwrap();
        assert_eq!(tables.v4.into_iter().collect::<Vec<_>>(), [((16, [10, 1, 0, 0]), 3)]);
        assert_eq!(tables.v6.into_iter().collect::<Vec<_>>(), [((0, [0; 16]), 1)]);
    }

    #[test]
    fn a_length_beyond_the_address_is_refused() {
        let error = OwnedTables::new(&[owned("10.0.0.1", 33, Claim::All)]).unwrap_err();
        assert!(matches!(error, MapUpdateError::PrefixLength { max: 32, .. }), "{error}");
    }

    #[test]
    fn a_vlan_set_holds_what_was_added() {
        let set = VlanSet::untagged().with(100).with(4095);
        assert!(set.contains(0) && set.contains(100) && set.contains(4095));
        assert!(!set.contains(1));
        assert_eq!(format!("{set:?}"), "{0, 100, 4095}");
    }
}
