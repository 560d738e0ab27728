//! What goes wrong on a link, and how often.

use std::time::Duration;

use crate::Random;

/// Chances in parts per million, drawn for every packet of a direction.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFaults {
    /// The packet disappears.
    pub loss_ppm: u32,
    /// The packet arrives twice; the copy up to `reorder_delay` later.
    pub duplicate_ppm: u32,
    /// The packet arrives up to `reorder_delay` late, so that others overtake it.
    pub reorder_ppm: u32,
    pub reorder_delay: Duration,
    /// One bit of the IP packet flips. Never in ARP or the Ethernet header, which the frame check sequence protects
    /// and no checksum of ours does.
    pub corrupt_ppm: u32,
    /// Loss that comes in bursts.
    pub bursts: Option<Bursts>,
    /// Every so manyth packet disappears, counted by direction; zero: none.
    pub lose_every: u32,
    /// A packet whose ends understand it arrives with the mark "congestion experienced" (RFC 3168, section 5).
    pub mark_ppm: u32,
    /// The same, of each that finds more bytes than so many waiting before it: a queue that says that it grows, by a step as
    /// switches have it (RFC 8257, section 3.1). Zero: it says nothing.
    pub mark_above_bytes: u32,
}

/// The two states of Gilbert's and Elliott's channel: a good one that loses nothing of its own, and a bad one. Chances
/// in parts per million, drawn for every packet (Gilbert: Capacity of a Burst-Noise Channel, 1960; Elliott, 1963).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Bursts {
    pub begin_ppm: u32,
    pub end_ppm: u32,
    /// Within a burst.
    pub loss_ppm: u32,
}

impl LinkFaults {
    pub const NONE: Self = Self {
        loss_ppm: 0,
        duplicate_ppm: 0,
        reorder_ppm: 0,
        reorder_delay: Duration::ZERO,
        corrupt_ppm: 0,
        bursts: None,
        lose_every: 0,
        mark_ppm: 0,
        mark_above_bytes: 0,
    };

    /// 5% loss with reordering and duplication: what the stack must carry 10 MiB through, byte for byte.
    pub const ROUGH: Self = Self {
        loss_ppm: 50_000,
        duplicate_ppm: 10_000,
        reorder_ppm: 20_000,
        reorder_delay: Duration::from_millis(3),
        ..Self::NONE
    };

    /// A plan drawn from `seed`: up to 8% loss, 2% duplicates, 5% reordered by up to 10 ms, 1% corrupted.
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::for_stream(seed, u64::from_be_bytes(*b"faults\0\0"));
        let mut up_to =
            |bound: u64| u32::try_from(random.below(bound)).expect("bounds are parts per million");
        Self {
            loss_ppm: up_to(80_000),
            duplicate_ppm: up_to(20_000),
            reorder_ppm: up_to(50_000),
            reorder_delay: Duration::from_micros(u64::from(up_to(10_000))),
            corrupt_ppm: up_to(10_000),
            ..Self::NONE
        }
    }
}
