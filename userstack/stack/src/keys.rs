//! The numbers behind a key, for callers that keep something of their own beside each flow, listener or socket.

use crate::{FlowKey, ListenerKey, UdpKey};

macro_rules! numbered {
    ($($key:ident $(.$read:ident())?),*) => {$(
        impl $key {
            /// Index of the slot: small and dense, used again after the life ends.
            pub const fn slot(self) -> usize {
                self.slot as usize
            }

            /// Which life of the slot this key names.
            pub const fn life(self) -> u32 {
                self.life$(.$read())?
            }
        }
    )*};
}

numbered!(FlowKey, ListenerKey.get(), UdpKey);
