//! What a seed decides: the path, who talks to whom and how, and what goes wrong meanwhile. Times in milliseconds of the
//! network, unless they are named otherwise.

use std::fmt;

use crate::Random;

/// A seed has at least so many conversations, and bytes in all of them together.
pub const LEAST_CONVERSATIONS: u32 = 20;
pub const LEAST_BYTES: u32 = 1 << 20;
/// Kinds of fault that a seed has at least, and at most.
const LEAST_FAULTS: u64 = 3;
const MOST_FAULTS: u64 = 6;
/// Conversations begin, and timed faults happen, within this time.
const SPAN_MS: u64 = 2_000;

/// Memory of a host that has enough.
const PLENTY_BYTES: usize = 64 << 20;

/// Which host.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Client, Self::Server];

    pub fn other(self) -> Self {
        if self == Self::Client { Self::Server } else { Self::Client }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Control {
    Cubic,
    NewReno,
    Bbr,
}

/// The links on both sides of the router.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub kilobits_per_second: u32,
    pub delay_us: u32,
    pub queue_bytes: u32,
}

/// How a conversation goes. "The caller" connects, "the listener" accepts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Manner {
    /// The caller writes and shuts down; the listener reads to the end, writes, and closes.
    AskThenAnswer,
    /// Both write and read at the same time, and both shut down at their end.
    BothAtOnce,
    /// The listener writes and shuts down first; then the caller writes.
    ListenerFirst,
    /// As [`Manner::AskThenAnswer`], with a long time between the question's end and the answer.
    HalfClosedLong { pause_ms: u32 },
    /// As [`Manner::AskThenAnswer`], with a listener that reads little, and rests.
    SlowReader { pause_ms: u32 },
    /// The caller rests in the middle, so that its window is of long ago.
    Idle { pause_ms: u32 },
    /// The caller resets the connection when it has written.
    CallerAborts,
    /// The listener resets it when it has read.
    ListenerAborts,
    /// The caller lets go while bytes wait for it.
    CallerDrops,
}

impl Manner {
    /// The connection does not end in order.
    pub fn breaks_off(self) -> bool {
        matches!(self, Self::CallerAborts | Self::ListenerAborts | Self::CallerDrops)
    }
}

/// One connection's life.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// Its name, told in the first bytes of the connection. Stays when others are cut off the plan.
    pub number: u32,
    pub caller: Side,
    pub family: Family,
    pub start_ms: u32,
    pub control: Control,
    /// Of the caller; the listener's are the port's.
    pub send_buffer: u32,
    pub receive_buffer: u32,
    pub no_delay: bool,
    pub paced: bool,
    pub asks_for_ecn: bool,
    /// Which of the listener's ports: each has other buffers and a backlog of its own.
    pub port: u16,
    /// Bytes that the caller writes, and that the listener does.
    pub upload: u32,
    pub download: u32,
    /// Bytes a write, at most.
    pub chunk: u32,
    pub manner: Manner,
}

/// What goes wrong. A fault of a link is on all links, but corruption, which is on the client's alone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Loss {
        ppm: u32,
    },
    Bursts {
        begin_ppm: u32,
        end_ppm: u32,
        loss_ppm: u32,
    },
    LoseEvery {
        packets: u32,
    },
    Reorder {
        ppm: u32,
        delay_us: u32,
    },
    Duplicate {
        ppm: u32,
    },
    Corrupt {
        ppm: u32,
    },
    /// The router's way to a host carries less for a while.
    Narrow {
        towards: Side,
        at_ms: u32,
        for_ms: u32,
        mtu: u16,
    },
    /// Nothing gets through a host's link: from the host, or towards it.
    Blackout {
        side: Side,
        outwards: bool,
        at_ms: u32,
        for_ms: u32,
    },
    /// A host's clock is ahead and runs too fast or too slow.
    Drift {
        side: Side,
        ahead_ms: u32,
        ppm: i32,
    },
    /// A host takes no turn for a while.
    Stall {
        side: Side,
        at_ms: u32,
        for_ms: u32,
    },
    /// A host loses all that it knows.
    Restart {
        side: Side,
        at_ms: u32,
    },
    /// A third host lies to both: it calls so often, and is called.
    Liar {
        calls: u32,
        victims: u32,
        lies_ppm: u32,
    },
    /// Somebody on a host's link sends what no protocol has.
    Scribble {
        side: Side,
        at_ms: u32,
    },
    /// A host has little memory for its connections.
    Scarce {
        side: Side,
        kibibytes: u32,
    },
    /// Routers say that they are congested, where they may (RFC 3168).
    Mark {
        ppm: u32,
    },
    /// Queues say when they grow longer than this.
    MarkQueue {
        bytes: u32,
    },
    /// The link to the server carries less for a while, and nobody says so.
    Hole {
        at_ms: u32,
        for_ms: u32,
        mtu: u16,
    },
}

impl Fault {
    pub const NAMES: [&'static str; 17] = [
        "loss",
        "bursts",
        "lose-every",
        "reorder",
        "duplicate",
        "corrupt",
        "narrow",
        "blackout",
        "drift",
        "stall",
        "restart",
        "liar",
        "scribble",
        "scarce",
        "mark",
        "hole",
        "mark-queue",
    ];

    pub fn name(self) -> &'static str {
        let kind = match self {
            Self::Loss { .. } => 0,
            Self::Bursts { .. } => 1,
            Self::LoseEvery { .. } => 2,
            Self::Reorder { .. } => 3,
            Self::Duplicate { .. } => 4,
            Self::Corrupt { .. } => 5,
            Self::Narrow { .. } => 6,
            Self::Blackout { .. } => 7,
            Self::Drift { .. } => 8,
            Self::Stall { .. } => 9,
            Self::Restart { .. } => 10,
            Self::Liar { .. } => 11,
            Self::Scribble { .. } => 12,
            Self::Scarce { .. } => 13,
            Self::Mark { .. } => 14,
            Self::Hole { .. } => 15,
            Self::MarkQueue { .. } => 16,
        };
        Self::NAMES[kind]
    }

    /// The `kind`th of [`Fault::NAMES`], as chance has it.
    fn draw(kind: usize, random: &mut Draw) -> Self {
        let side = random.side();
        match kind {
            0 => Self::Loss { ppm: random.up_to(50_000) },
            1 => Self::Bursts {
                begin_ppm: random.up_to(10_000),
                end_ppm: random.between(100_000, 400_000),
                loss_ppm: random.between(300_000, 900_000),
            },
            2 => Self::LoseEvery { packets: random.between(10, 200) },
            3 => Self::Reorder { ppm: random.up_to(100_000), delay_us: random.up_to(20_000) },
            4 => Self::Duplicate { ppm: random.up_to(50_000) },
            5 => Self::Corrupt { ppm: random.up_to(20_000) },
            6 => Self::Narrow {
                towards: side,
                at_ms: random.up_to(SPAN_MS),
                for_ms: random.between(500, 5_000),
                mtu: random.between(1_280, 1_480) as u16,
            },
            7 => Self::Blackout {
                side,
                outwards: random.coin(),
                at_ms: random.up_to(SPAN_MS),
                for_ms: random.between(100, 2_500),
            },
            8 => {
                let ppm = random.up_to(100_000) as i32;
                let ppm = if random.coin() { ppm } else { -ppm };
                Self::Drift { side, ahead_ms: random.up_to(1 << 31), ppm }
            }
            9 => Self::Stall { side, at_ms: random.up_to(SPAN_MS), for_ms: random.between(10, 3_000) },
            10 => Self::Restart { side, at_ms: random.up_to(SPAN_MS) },
            11 => Self::Liar {
                calls: random.up_to(20),
                victims: random.between(1, 8),
                lies_ppm: random.between(50_000, 800_000),
            },
            12 => Self::Scribble { side, at_ms: random.up_to(SPAN_MS) },
            13 => Self::Scarce { side, kibibytes: random.magnitude(200, 2) },
            14 => Self::Mark { ppm: random.up_to(200_000) },
            15 => Self::Hole {
                at_ms: random.up_to(SPAN_MS),
                for_ms: random.between(500, 10_000),
                mtu: random.between(1_280, 1_480) as u16,
            },
            _ => Self::MarkQueue { bytes: random.magnitude(1_000, 2) },
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Decides the chances on the links and what the hosts choose.
    pub seed: u64,
    pub path: Path,
    pub conversations: Vec<Conversation>,
    pub faults: Vec<Fault>,
}

impl Plan {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Draw(Random::for_stream(seed, u64::from_be_bytes(*b"the path")));
        let path = Path {
            kilobits_per_second: random.magnitude(10_000, 3),
            delay_us: random.magnitude(50, 3),
            queue_bytes: random.between(20_000, 500_000),
        };
        let faults = faults(&mut Draw(Random::for_stream(seed, u64::from_be_bytes(*b"mischief"))));
        let mut random = Draw(Random::for_stream(seed, u64::from_be_bytes(*b"speeches")));
        let count = LEAST_CONVERSATIONS + random.up_to(15);
        let mut conversations: Vec<Conversation> =
            (0..count).map(|number| short(number, &mut random)).collect();
        if random.up_to(12) == 0 {
            crowd(&mut conversations, &mut random);
        }
        lengthen(&mut conversations, &mut random);
        Self { seed, path, conversations, faults }
    }

    /// Bytes of all conversations.
    pub fn bytes(&self) -> u64 {
        self.conversations.iter().map(|one| u64::from(one.upload) + u64::from(one.download)).sum()
    }

    /// Tasks of each host that talk to a liar.
    pub fn victims(&self) -> u32 {
        let victims = self.faults.iter().map(|fault| match fault {
            Fault::Liar { victims, .. } => *victims,
            _ => 0,
        });
        victims.sum()
    }

    /// Bytes of memory that a host has for its connections.
    pub fn memory_bytes(&self, host: Side) -> usize {
        let scarce = self.faults.iter().find_map(|fault| match fault {
            Fault::Scarce { side, kibibytes } if *side == host => Some(*kibibytes as usize * 1024),
            _ => None,
        });
        scarce.unwrap_or(PLENTY_BYTES)
    }
}

fn faults(random: &mut Draw) -> Vec<Fault> {
    let mut kinds: Vec<usize> = (0..Fault::NAMES.len()).collect();
    let count = LEAST_FAULTS + random.0.below(MOST_FAULTS - LEAST_FAULTS + 1);
    let chosen = (0..count).map(|_| kinds.remove(random.0.below(kinds.len() as u64) as usize));
    let chosen: Vec<usize> = chosen.collect();
    chosen.into_iter().map(|kind| Fault::draw(kind, random)).collect()
}

/// One of many: a request and its answer, or less.
fn short(number: u32, random: &mut Draw) -> Conversation {
    Conversation {
        number,
        caller: if random.up_to(4) == 0 { Side::Server } else { Side::Client },
        family: if random.coin() { Family::V4 } else { Family::V6 },
        start_ms: if random.coin() { 0 } else { random.up_to(SPAN_MS) },
        control: [Control::Cubic, Control::NewReno, Control::Bbr][random.up_to(3) as usize],
        send_buffer: random.magnitude(4_096, 2),
        receive_buffer: random.magnitude(4_096, 2),
        no_delay: random.coin(),
        paced: random.coin(),
        asks_for_ecn: random.coin(),
        port: random.up_to(PORTS) as u16,
        upload: random.magnitude(1, 4) - 1,
        download: random.magnitude(1, 4) - 1,
        chunk: random.magnitude(64, 3),
        manner: manner(random),
    }
}

/// Ports that each host listens on.
pub const PORTS: u64 = 4;

fn manner(random: &mut Draw) -> Manner {
    match random.up_to(12) {
        0..4 => Manner::AskThenAnswer,
        4 | 5 => Manner::BothAtOnce,
        6 => Manner::ListenerFirst,
        7 => Manner::HalfClosedLong { pause_ms: random.magnitude(100, 5) },
        8 => Manner::SlowReader { pause_ms: random.up_to(1_000) },
        9 => Manner::Idle { pause_ms: random.up_to(20_000) },
        10 if random.coin() => Manner::CallerAborts,
        10 => Manner::ListenerAborts,
        _ => Manner::CallerDrops,
    }
}

/// All call from one host, by one family, at the same moment.
fn crowd(conversations: &mut [Conversation], random: &mut Draw) {
    let (caller, family) = (random.side(), if random.coin() { Family::V4 } else { Family::V6 });
    for conversation in conversations {
        (conversation.caller, conversation.family, conversation.start_ms) = (caller, family, 0);
    }
}

/// Some carry what the others leave of the seed's bytes, in one direction or in both.
fn lengthen(conversations: &mut [Conversation], random: &mut Draw) {
    let longs = 1 + random.up_to(3);
    let each = LEAST_BYTES / longs + 1;
    for long in conversations.iter_mut().take(longs as usize) {
        long.send_buffer = random.magnitude(16_384, 2);
        long.receive_buffer = random.magnitude(16_384, 2);
        long.chunk = random.magnitude(1_000, 2);
        let pause_ms = random.up_to(200);
        let (upload, download, manner) = match random.up_to(6) {
            0 | 1 => (each, 0, Manner::AskThenAnswer),
            2 => (0, each, Manner::AskThenAnswer),
            3 => (each / 2 + 1, each / 2 + 1, Manner::BothAtOnce),
            4 => (each, 0, Manner::SlowReader { pause_ms }),
            _ => (0, each, Manner::ListenerFirst),
        };
        (long.upload, long.download, long.manner) = (upload, download, manner);
    }
}

/// Chance, as plans want it.
struct Draw(Random);

impl Draw {
    fn up_to(&mut self, bound: u64) -> u32 {
        self.0.below(bound) as u32
    }

    fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.up_to(u64::from(high - low))
    }

    /// From `least` to `decades` powers of ten above it, each decade as often as another.
    fn magnitude(&mut self, least: u32, decades: u32) -> u32 {
        let decade = least * 10u32.pow(self.up_to(u64::from(decades)));
        self.between(decade, 10 * decade)
    }

    fn coin(&mut self) -> bool {
        self.0.below(2) == 0
    }

    fn side(&mut self) -> Side {
        if self.coin() { Side::Client } else { Side::Server }
    }
}

/// The Rust that makes it again.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "Plan {{\n    seed: {},\n    path: {:?},\n    conversations: vec![",
            self.seed, self.path
        )?;
        for one in &self.conversations {
            let Conversation { caller, family, control, manner, .. } = one;
            let text = format!("{one:?}")
                .replace(&format!("caller: {caller:?}"), &format!("caller: Side::{caller:?}"))
                .replace(&format!("family: {family:?}"), &format!("family: Family::{family:?}"))
                .replace(&format!("control: {control:?}"), &format!("control: Control::{control:?}"))
                .replace(&format!("manner: {manner:?}"), &format!("manner: Manner::{manner:?}"));
            writeln!(f, "        {text},")?;
        }
        writeln!(f, "    ],\n    faults: vec![")?;
        for fault in &self.faults {
            let text = format!("Fault::{fault:?}")
                .replace("Client", "Side::Client")
                .replace("Server", "Side::Server");
            writeln!(f, "        {text},")?;
        }
        write!(f, "    ],\n}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_has_its_conversations_bytes_and_kinds_of_fault() {
        for seed in 0..500 {
            let plan = Plan::from_seed(seed);
            assert!(plan.conversations.len() >= LEAST_CONVERSATIONS as usize);
            assert!(plan.bytes() >= u64::from(LEAST_BYTES), "seed {seed}: {}", plan.bytes());
            let mut kinds: Vec<&str> = plan.faults.iter().map(|fault| fault.name()).collect();
            kinds.sort_unstable();
            kinds.dedup();
            assert!(kinds.len() >= LEAST_FAULTS as usize, "seed {seed}: {kinds:?}");
        }
    }

    #[test]
    fn a_plan_prints_as_the_rust_that_makes_it() {
        let text = Plan::from_seed(3).to_string();
        assert!(text.starts_with("Plan {\n    seed: 3,\n    path: Path {"));
        assert!(
            text.contains("caller: Side::") && text.contains("manner: Manner::") && text.contains("Fault::")
        );
    }
}
