//! Where the program runs.

use std::fmt;

/// Where on the receive path the program runs.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum AttachMode {
    /// In the network stack (`XDP_FLAGS_SKB_MODE`): any interface; the cheapest on a veth.
    Generic,
    /// In the driver (`XDP_FLAGS_DRV_MODE`).
    Native,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Generic => "generic",
            Self::Native => "native",
        })
    }
}
