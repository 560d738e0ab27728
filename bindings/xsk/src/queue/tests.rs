//! A queue against a kernel that keeps its rules, and against one that lies: whatever stands on the rings, a chunk has
//! one owner, and the chunks add up.

use proptest::prelude::*;
use rustix::net::xdp::{XdpDesc, XdpDescOptions};

use super::{Queue, Received};
use crate::pool::{Chunk, Pool};
use crate::region::{CHUNK_BYTES, Region};
use crate::ring::{Consumer, Producer, both_ends};
use crate::socket::{COMPLETION_RING, FILL_RING, RECEIVE_RING, Socket, TRANSMIT_RING};

/// Half go to the fill ring.
const CHUNKS: u32 = 128;
/// Where the kernel puts a packet in its chunk.
const HEADROOM: u64 = 256;

#[derive(Clone, Debug)]
enum Step {
    /// The kernel receives so many packets.
    Arrive(usize),
    /// The kernel puts this on the receive ring: an address and a length that it may have made up.
    ArriveFalsely(Lie, u32),
    /// The kernel sends so many packets.
    Complete(usize),
    CompleteFalsely(Lie),
    /// User space takes so many off the receive ring, and keeps them.
    Take(usize),
    Acquire,
    /// Of what it keeps.
    Drop(usize),
    Transmit(usize, usize),
    Reclaim,
}

/// An address that the kernel has no right to name.
#[derive(Clone, Debug)]
enum Lie {
    /// Anywhere, and mostly nowhere.
    Address(u64),
    /// Of any chunk, whoever has it.
    Chunk(u32),
}

impl Lie {
    fn address(&self) -> u64 {
        match self {
            Self::Address(address) => *address,
            Self::Chunk(index) => u64::from(*index) * CHUNK_BYTES as u64 + HEADROOM,
        }
    }
}

fn honest() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..40).prop_map(Step::Arrive),
        2 => (1usize..40).prop_map(Step::Complete),
        3 => (1usize..40).prop_map(Step::Take),
        1 => Just(Step::Acquire),
        2 => (0usize..CHUNKS as usize).prop_map(Step::Drop),
        4 => (0usize..CHUNKS as usize, 0usize..=CHUNK_BYTES).prop_map(|(which, len)| Step::Transmit(which, len)),
        2 => Just(Step::Reclaim),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let lie = || prop_oneof![any::<u64>().prop_map(Lie::Address), (0..CHUNKS + 2).prop_map(Lie::Chunk)];
    prop_oneof![
        4 => honest(),
        1 => (lie(), prop_oneof![0..CHUNK_BYTES as u32, any::<u32>()])
            .prop_map(|(lie, len)| Step::ArriveFalsely(lie, len)),
        1 => lie().prop_map(Step::CompleteFalsely),
    ]
}

/// The other ends of a socket's rings.
struct Kernel {
    fill: Consumer<u64>,
    receive: Producer<XdpDesc>,
    transmit: Consumer<XdpDesc>,
    completion: Producer<u64>,
}

impl Kernel {
    fn arrive(&mut self, addr: u64, len: u32) {
        self.receive.push(XdpDesc { addr, len, options: XdpDescOptions::empty() });
        self.receive.publish();
    }

    fn complete(&mut self, address: u64) {
        self.completion.push(address);
        self.completion.publish();
    }
}

/// A queue at work, its kernel, and the chunks that user space keeps, each with a number that only it has.
struct Stage {
    pool: Pool,
    queue: Queue,
    kernel: Kernel,
    kept: Vec<(Chunk, u64)>,
    last: u64,
}

impl Stage {
    fn new() -> Self {
        let pool = Region::new(CHUNKS).unwrap().claim().unwrap();
        let (fill, kernel_fill) = both_ends(FILL_RING);
        let (kernel_receive, receive) = both_ends(RECEIVE_RING);
        let (transmit, kernel_transmit) = both_ends(TRANSMIT_RING);
        let (kernel_completion, completion) = both_ends(COMPLETION_RING);
        let socket = Socket::of_rings((fill, completion, receive, transmit), pool.region());
        let queue = pool.start(socket).unwrap();
        let kernel = Kernel {
            fill: kernel_fill,
            receive: kernel_receive,
            transmit: kernel_transmit,
            completion: kernel_completion,
        };
        Self { pool, queue, kernel, kept: Vec::new(), last: 0 }
    }

    fn keep(&mut self, mut chunk: Chunk) {
        self.last += 1;
        stamp(&mut chunk, self.last);
        self.kept.push((chunk, self.last));
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Arrive(packets) => {
                for _ in 0..*packets {
                    let Some(address) = self.kernel.fill.pop() else { break };
                    self.kernel.fill.publish();
                    self.kernel.arrive(address + HEADROOM, 60);
                }
            }
            Step::ArriveFalsely(lie, len) => self.kernel.arrive(lie.address(), *len),
            Step::Complete(packets) => {
                for _ in 0..*packets {
                    let Some(descriptor) = self.kernel.transmit.pop() else { break };
                    self.kernel.transmit.publish();
                    self.kernel.complete(descriptor.addr);
                }
            }
            Step::CompleteFalsely(lie) => self.kernel.complete(lie.address()),
            Step::Take(packets) => {
                for _ in 0..*packets {
                    let Some(Received { chunk, start, len, .. }) = self.queue.receive() else { break };
                    assert!(start + len <= CHUNK_BYTES, "the bytes lie in the chunk");
                    self.keep(chunk);
                }
                self.queue.finish_receive();
            }
            Step::Acquire => {
                if let Some(chunk) = self.pool.chunk() {
                    self.keep(chunk);
                }
            }
            Step::Drop(which) if !self.kept.is_empty() => {
                self.kept.swap_remove(which % self.kept.len());
            }
            Step::Transmit(which, len) if !self.kept.is_empty() => {
                let (chunk, _) = self.kept.swap_remove(which % self.kept.len());
                self.queue.transmit(chunk, CHUNK_BYTES - len, *len, false);
                self.queue.finish_transmit();
            }
            Step::Drop(_) | Step::Transmit(..) => {}
            Step::Reclaim => self.queue.reclaim(),
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for (chunk, number) in &self.kept {
            prop_assert_eq!(read_stamp(chunk), *number, "two owners of one chunk");
        }
        let on_rings = (self.queue.filled + self.queue.sending) as usize;
        prop_assert_eq!(self.pool.free_chunks() + self.kept.len() + on_rings, CHUNKS as usize);
        Ok(())
    }

    /// Closes the queue: its chunks are free, but for those that the kernel has not sent.
    fn close(self) -> Result<(), TestCaseError> {
        let Self { pool, queue, kept, .. } = self;
        let kept_chunks = kept.len();
        drop(queue);
        prop_assert_eq!(pool.free_chunks() + kept_chunks + pool.stranded_chunks() as usize, CHUNKS as usize);
        drop(kept);
        prop_assert_eq!(pool.free_chunks() + pool.stranded_chunks() as usize, CHUNKS as usize);
        Ok(())
    }
}

fn stamp(chunk: &mut Chunk, number: u64) {
    chunk.bytes_mut()[..8].copy_from_slice(&number.to_ne_bytes());
}

fn read_stamp(chunk: &Chunk) -> u64 {
    u64::from_ne_bytes(chunk.bytes()[..8].try_into().unwrap())
}

/// An interpreter is a thousand times slower: it walks a few short rows of steps.
const MOST_STEPS: usize = if cfg!(miri) { 16 } else { 60 };

fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: if cfg!(miri) { 2 } else { config.cases }, failure_persistence: None, ..config }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn with_an_honest_kernel_chunks_go_round_and_none_is_a_stray(steps in prop::collection::vec(honest(), 1..MOST_STEPS)) {
        let mut stage = Stage::new();
        for step in &steps {
            stage.take(step);
            stage.check()?;
        }
        prop_assert_eq!(stage.queue.strays(), 0);
        stage.close()?;
    }

    #[test]
    fn a_kernel_that_lies_makes_no_two_owners_of_a_chunk(steps in prop::collection::vec(any_step(), 1..MOST_STEPS)) {
        let mut stage = Stage::new();
        for step in &steps {
            stage.take(step);
            stage.check()?;
        }
        stage.close()?;
    }
}

#[test]
fn an_entry_that_names_no_chunk_of_its_ring_is_a_stray() {
    let mut stage = Stage::new();
    stage.take(&Step::Acquire);
    let held = stage.kept[0].0.bytes().as_ptr() as u64 - stage.pool.region().mapping().base().as_ptr() as u64;
    stage.kernel.arrive(held, 60);
    stage.kernel.arrive(u64::MAX, 60);
    stage.kernel.complete(held);
    stage.take(&Step::Take(3));
    stage.take(&Step::Reclaim);
    assert_eq!((stage.kept.len(), stage.queue.strays()), (1, 2), "nothing is sent: completions wait unread");
    stage.check().unwrap();
}
