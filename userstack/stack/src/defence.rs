//! What was warded off without the death of a packet: an attack that shows as no [`Discard`](crate::Discard) of its own
//! has a counter here.

macro_rules! defences {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// What the stack did against a peer that asked for more than its share. Each is one counter and has a test
        /// that names it.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Defence { $($(#[doc = $doc])* $variant,)* }

        impl Defence {
            /// Every defence, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that counters and tests use.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The sentence that operators read.
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)* ""),)* }
            }
        }
    };
}

defences! {
    /// A connection that began with a cookie's acknowledgement: a real peer came through a SYN flood.
    CookieTaken = "tcp_cookie_taken",
    /// A challenge that was not sent: its connection had its share of them in that second (RFC 5961, section 7).
    ChallengeWithheld = "tcp_challenge_withheld",
    /// A SYN with an MSS under the least that is worth a header: the least was taken (CVE-2019-11479).
    MssRaised = "tcp_mss_raised",
    /// New text that waits because its connection has as many segments in flight as it may (CVE-2019-11478).
    PiecesFull = "tcp_pieces_full",
    /// A connection that was reset because memory was short, it held much and its peer let little of it go.
    HolderCut = "tcp_holder_cut",
}

/// One counter a defence.
#[derive(Clone, Debug)]
pub struct Defences([u64; Defence::ALL.len()]);

impl Default for Defences {
    fn default() -> Self {
        Self([0; Defence::ALL.len()])
    }
}

impl Defences {
    pub fn count(&mut self, defence: Defence) {
        self.0[defence as usize] += 1;
    }

    pub fn of(&self, defence: Defence) -> u64 {
        self.0[defence as usize]
    }
}
